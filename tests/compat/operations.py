"""Every operation of AWS's service models as a signed request with the least that its model asks for, whether the
clients' checks would let it out or not."""

import dataclasses
import datetime
import http.client
import re

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.loaders
import botocore.model
import botocore.serialize

from conftest import REGION


def model(service):
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


def least(shape, path=()):
    """The smallest value that the model takes for `shape`."""
    if shape.name in path:
        return None
    path = (*path, shape.name)
    kind = shape.type_name
    if kind == "structure":
        return {name: least(shape.members[name], path) for name in shape.required_members}
    if kind == "list":
        return [least(shape.member, path)]
    if kind == "map":
        return {}
    if kind == "string":
        return shape.enum[0] if shape.enum else "x" * max(shape.metadata.get("min", 3), 3)
    if kind == "boolean":
        return False
    if kind == "timestamp":
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    if kind == "blob":
        return b""
    return shape.metadata.get("min", 1)


@dataclasses.dataclass
class Answer:
    request: str
    status: int
    code: str
    body: str


def code_of(answer, body):
    """The error code, wherever the protocol has it."""
    in_body = re.search(r"<Code>(.*?)</Code>|\"__type\":\"(?:[^\"]*#)?(.*?)\"", body)
    in_header = answer.headers.get("x-amzn-errortype", "").partition(":")[0]
    return in_header or (in_body and (in_body[1] or in_body[2])) or ""


def call(node, service_model, name, signed_for=None):
    """Sends the operation's least request and gives back what came."""
    operation = service_model.operation_model(name)
    parameters = least(operation.input_shape) if operation.input_shape else {}
    serializer = botocore.serialize.create_serializer(service_model.metadata["protocol"], include_validation=False)
    request = serializer.serialize_to_request(parameters, operation)
    # Some models put a parameter into the host name, which is the node's here.
    request.pop("host_prefix", None)
    # The body goes out at once: nobody waits for a `100 Continue`.
    request["headers"].pop("Expect", None)
    botocore.awsrequest.prepare_request_dict(request, endpoint_url=node.endpoint)
    request = botocore.awsrequest.create_request_object(request)
    signer = botocore.auth.S3SigV4Auth if service_model.signing_name == "s3" else botocore.auth.SigV4Auth
    credentials = botocore.credentials.Credentials(node.access_key_id, node.secret_access_key)
    signer(credentials, signed_for or service_model.signing_name, REGION).add_auth(request)
    request = request.prepare()
    target = request.url.removeprefix(node.endpoint)
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    try:
        headers = {k: v if isinstance(v, str) else v.decode() for k, v in request.headers.items()}
        connection.request(request.method, target, body=request.body, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        return Answer(f"{request.method} {target}", answer.status, code_of(answer, body), body)
    finally:
        connection.close()
