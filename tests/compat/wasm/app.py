import json
from wit_world import exports
from wit_world.imports.types import (
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
)
from componentize_py_types import Ok, Err
from wit_world.imports.streams import StreamError_Closed


def read(request):
    body = request.consume()
    with body.stream() as stream:
        pieces = []
        while True:
            try:
                pieces.append(stream.blocking_read(65536))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(pieces)
                raise


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        headers = {name: bytes(value).decode() for name, value in request.headers().entries()}
        body = read(request)
        print("handling", request.path_with_query())
        if "ce-type" in headers:
            answer = json.dumps({"type": headers["ce-type"], "event": json.loads(body)}).encode()
        else:
            answer = b"hello from python: " + body
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        out = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with out.write() as stream:
            stream.blocking_write_and_flush(answer)
        OutgoingBody.finish(out, None)
