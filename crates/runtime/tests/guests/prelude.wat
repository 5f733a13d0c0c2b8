  ;; What the tests' components share: WASI by the canonical ABI, and what they do with it. Bytes 0 to 1023 of the
  ;; memory take results, data begins at 1024, and the heap at 65536.
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[method]fields.clone" (func $clone (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]fields.entries" (func $entries (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.headers" (func $headers (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.consume" (func $consume (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-body.stream" (func $body-stream (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-response.set-status-code" (func $set-status (param i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $response-body (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]response-outparam.set" (func $set-answer (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $body-write (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[resource-drop]outgoing-body" (func $drop-body (param i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme" (func $set-scheme (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority" (func $set-authority (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query" (func $set-path (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe" (func $subscribe (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.get" (func $get (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-response.consume" (func $consume-response (param i32 i32)))
  (import "wasi:http/outgoing-handler@0.2.0" "handle" (func $send (param i32 i32 i32 i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $read-some (param i32 i64 i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write-some (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop-output (param i32)))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))

  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))

  ;; Never frees.
  (func $realloc (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))))
      unreachable)
    (local.get $at))

  ;; The payload of the `result` at 0, which must be ok.
  (func $ok (result i32)
    (if (i32.load8_u (i32.const 0)) (then unreachable))
    (i32.load (i32.const 4)))

  ;; Begins an answer; the stream of its body, whose handle goes to 1016.
  (func $begin (param $out i32) (param $status i32) (param $fields i32) (result i32)
    (local $response i32)
    (local.set $response (call $response (local.get $fields)))
    (drop (call $set-status (local.get $response) (local.get $status)))
    (call $response-body (local.get $response) (i32.const 0))
    (i32.store (i32.const 1016) (call $ok))
    (call $set-answer (local.get $out) (i32.const 0) (local.get $response)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $body-write (i32.load (i32.const 1016)) (i32.const 0))
    (call $ok))

  (func $write (param $stream i32) (param $at i32) (param $size i32)
    (local $now i32)
    (loop $more
      (local.set $now (select (local.get $size) (i32.const 4096) (i32.lt_u (local.get $size) (i32.const 4096))))
      (call $write-some (local.get $stream) (local.get $at) (local.get $now) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then (return)))
      (local.set $at (i32.add (local.get $at) (local.get $now)))
      (local.set $size (i32.sub (local.get $size) (local.get $now)))
      (br_if $more (local.get $size))))

  ;; Writes a list of pairs of strings, one a line.
  (data (i32.const 1000) "=\n")
  (func $write-pairs (param $stream i32) (param $at i32) (param $count i32)
    (loop $more
      (call $write (local.get $stream) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
      (call $write (local.get $stream) (i32.const 1000) (i32.const 1))
      (call $write (local.get $stream) (i32.load offset=8 (local.get $at)) (i32.load offset=12 (local.get $at)))
      (call $write (local.get $stream) (i32.const 1001) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $more (local.get $count))))

  (func $end (param $stream i32)
    (call $drop-output (local.get $stream))
    (call $finish (i32.load (i32.const 1016)) (i32.const 0) (i32.const 0) (i32.const 0)))

  (func $answer (param $out i32) (param $status i32) (param $at i32) (param $size i32)
    (local $stream i32)
    (local.set $stream (call $begin (local.get $out) (local.get $status) (call $fields)))
    (call $write (local.get $stream) (local.get $at) (local.get $size))
    (call $end (local.get $stream)))

  (func $print (param $stream i32) (param $at i32) (param $size i32)
    (call $write (local.get $stream) (local.get $at) (local.get $size))
    (call $drop-output (local.get $stream)))

  ;; The stream of the body that is the payload at 0.
  (func $input (result i32)
    (call $body-stream (call $ok) (i32.const 0))
    (call $ok))

  ;; Reads a stream to its end; where that is on the heap. Its size goes to 1012.
  (func $read-all (param $stream i32) (result i32)
    (local $begin i32)
    (local.set $begin (global.get $heap))
    (loop $more
      (call $read-some (local.get $stream) (i64.const 65536) (i32.const 0))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 0)))))
    (i32.store (i32.const 1012) (i32.sub (global.get $heap) (local.get $begin)))
    (local.get $begin))
