"""DynamoDB below its operations: compressed bodies, bodies that are too large, pages of other origins."""

import gzip
import http.client
import json
import time
import zlib

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import REGION, unique

pytestmark = pytest.mark.local


def send(node, operation, body, method="POST", **headers):
    """The answer to a signed request of that body, its headers and what it says."""
    request = AWSRequest(method, node.endpoint + "/", data=body, headers={
        "X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"})
    SigV4Auth(Credentials(node.access_key_id, node.secret_access_key), "dynamodb", REGION).add_auth(request)
    connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, "/", body=body, headers={**dict(request.headers), **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def table(node):
    name = unique("plain")
    node.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "p", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}])
    return name


def put(table, key, padding=0):
    return (json.dumps({"TableName": table, "Item": {"p": {"S": key}}})[:-1] + " " * padding + "}").encode()


@pytest.mark.parametrize("encoding, compress", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed(node, table, encoding, compress):
    header = {"Content-Encoding": encoding}
    assert send(node, "PutItem", compress(put(table, encoding, 100_000)), **header)[0] == 200
    assert node.client("dynamodb").get_item(TableName=table, Key={"p": {"S": encoding}})["Item"]
    for body, status in [
        (put(table, "plain"), 500), (compress(put(table, "cut"))[:-1], 500), (b"", 500),
        (compress(put(table, "bomb", 200 << 20)), 413),
    ]:
        began = time.monotonic()
        answer = send(node, "PutItem", body, **header)
        assert answer[0] == status, answer
        assert time.monotonic() - began < 30
    assert send(node, "PutItem", put(table, "other"), **{"Content-Encoding": "br"})[0] == 500
    for key in ("plain", "cut", "bomb", "other"):
        assert "Item" not in node.client("dynamodb").get_item(TableName=table, Key={"p": {"S": key}})


@pytest.mark.parametrize("mebibytes", [17, 50])
def test_bodies_that_are_too_large_are_answered(node, table, mebibytes):
    assert send(node, "PutItem", put(table, "large", (16 << 20) - 1000))[0] == 200
    status, _, said = send(node, "PutItem", put(table, "larger", mebibytes << 20))
    assert status == 413 and b"larger than the limit" in said


def test_what_is_no_json_is_told_of_without_words(node):
    for body in (b"", b"{broken"):
        status, _, said = send(node, "PutItem", body)
        assert (status, json.loads(said)) == (400, {"__type": "com.amazon.coral.service#SerializationException"})


def test_pages_of_any_origin_may_call(node, table):
    body = json.dumps({"TableName": table}).encode()
    assert "Access-Control-Allow-Origin" not in send(node, "DescribeTable", body)[1]
    status, headers, _ = send(node, "DescribeTable", body, Origin="http://page.example")
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "x-amzn-RequestId" in headers["Access-Control-Expose-Headers"]
    connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"))
    connection.request("OPTIONS", "/", headers={
        "Origin": "http://page.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-amz-target"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.read() == b""
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-amz-target"
    connection.close()
