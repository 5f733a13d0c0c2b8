// A component in C without a library or generated code: the canonical ABI of the few functions of wasi:http that it
// takes to answer. The world itself is embedded afterwards.
#include <stdint.h>

#define FROM(module, name) __attribute__((import_module(module), import_name(name)))
#define TYPES "wasi:http/types@0.2.12"
#define STREAMS "wasi:io/streams@0.2.12"

FROM(TYPES, "[constructor]fields") int32_t new_fields(void);
FROM(TYPES, "[constructor]outgoing-response") int32_t new_response(int32_t fields);
FROM(TYPES, "[method]outgoing-response.body") void response_body(int32_t response, void *result);
// `result<outgoing-response, error-code>`: a tag, then what is widest of both.
FROM(TYPES, "[static]response-outparam.set")
void set(int32_t out, int32_t is_error, int32_t response, int32_t, int64_t, int32_t, int32_t, int32_t, int32_t);
FROM(TYPES, "[method]outgoing-body.write") void body_write(int32_t body, void *result);
FROM(TYPES, "[static]outgoing-body.finish") void body_finish(int32_t body, int32_t has, int32_t trailers, void *result);
FROM(TYPES, "[resource-drop]incoming-request") void drop_request(int32_t request);
FROM(STREAMS, "[method]output-stream.blocking-write-and-flush")
void write_and_flush(int32_t stream, const char *bytes, int32_t count, void *result);
FROM(STREAMS, "[resource-drop]output-stream") void drop_stream(int32_t stream);

// What the host puts into the component's memory: nothing of size here.
__attribute__((export_name("cabi_realloc")))
void *reallocate(void *old, uint32_t old_size, uint32_t align, uint32_t size) {
  static _Alignas(16) char room[1024];
  static uint32_t used;
  used = (used + align - 1) & ~(align - 1);
  if (used + size > sizeof room) __builtin_trap();
  used += size;
  return room + used - size;
}

static const char ANSWER[] = "{\"made\":\"by clang\"}";

__attribute__((export_name("wasi:http/incoming-handler@0.2.12#handle")))
void handle(int32_t request, int32_t out) {
  // A result with one resource: the tag, and the handle four bytes on. Errors are wider than that.
  static int32_t result[16];
  drop_request(request);
  int32_t response = new_response(new_fields());
  response_body(response, result);
  int32_t body = result[1];
  set(out, 0, response, 0, 0, 0, 0, 0, 0);
  body_write(body, result);
  int32_t stream = result[1];
  write_and_flush(stream, ANSWER, sizeof ANSWER - 1, result);
  drop_stream(stream);
  body_finish(body, 0, 0, result);
}
