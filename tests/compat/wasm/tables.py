"""Does what the event says with wasi:keyvalue, wasi:blobstore and wasi:config: a list of steps, and what each came
to."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import atomics, batch, blobstore
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_keyvalue_store as store
from wit_world.imports.wasi_blobstore_types import IncomingValue, ObjectId, OutgoingValue
from wit_world.imports.wasi_http_types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam



def read(request):
    with request.consume() as body, body.stream() as stream:
        pieces = []
        while True:
            try:
                pieces.append(stream.blocking_read(65536))
            except Err:
                return b"".join(pieces)


def object_step(name, container, *arguments):
    match name:
        case "make":
            return drop(blobstore.create_container(container))
        case "there":
            return blobstore.container_exists(container)
        case "remove":
            return blobstore.delete_container(container)
        case "copy":
            return blobstore.copy_object(ObjectId(container, arguments[0]), ObjectId(*arguments[1:]))
        case "move":
            return blobstore.move_object(ObjectId(container, arguments[0]), ObjectId(*arguments[1:]))
    with blobstore.get_container(container) as held:
        match name:
            case "read":
                return IncomingValue.incoming_value_consume_sync(held.get_data(*arguments)).decode()
            case "write":
                key, text = arguments
                value = OutgoingValue.new_outgoing_value()
                held.write_data(key, value)
                with value.outgoing_value_write_body() as stream:
                    for at in range(0, len(text), 4096):
                        stream.blocking_write_and_flush(text[at : at + 4096].encode())
                return OutgoingValue.finish(value)
            case "has":
                return held.has_object(*arguments)
            case "info":
                info = held.object_info(*arguments)
                return [info.size, info.created_at]
            case "objects":
                names, listing = [], held.list_objects()
                while True:
                    some, is_end = listing.read_stream_object_names(2)
                    names += some
                    if is_end:
                        return names


def drop(_):
    return None


def text(value):
    return None if value is None else value.decode()


def step(table, name, *arguments):
    match name:
        case "config":
            return config.get(*arguments)
        case "get":
            return text(table.get(*arguments))
        case "set":
            return table.set(arguments[0], arguments[1].encode())
        case "delete":
            return table.delete(*arguments)
        case "exists":
            return table.exists(*arguments)
        case "keys":
            keys, cursor = [], None
            while True:
                page = table.list_keys(cursor)
                keys += page.keys
                cursor = page.cursor
                if cursor is None:
                    return sorted(keys)
        case "increment":
            return atomics.increment(table, *arguments)
        case "get-many":
            return [pair and [pair[0], pair[1].decode()] for pair in batch.get_many(table, list(arguments))]
        case "set-many":
            return batch.set_many(table, [(key, value.encode()) for key, value in arguments])
        case "delete-many":
            return batch.delete_many(table, list(arguments))
        case _:
            return object_step(name, *arguments)


def answer(table, steps):
    results = []
    for name, *arguments in steps:
        try:
            results.append(step(table, name, *arguments))
        except Err as error:
            results.append(error.value if isinstance(error.value, str) else type(error.value).__name__)
    return results


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        event = json.loads(read(request))
        results = answer(store.open(event["table"]), event["steps"])
        response = OutgoingResponse(Fields())
        out = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        body = json.dumps(results).encode()
        with out.write() as stream:
            for at in range(0, len(body), 4096):
                stream.blocking_write_and_flush(body[at : at + 4096])
        OutgoingBody.finish(out, None)
