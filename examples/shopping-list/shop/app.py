"""Serves the page, changes the lists, and signs the URLs by which the page watches them: the page has no credentials."""

import base64
import json
import os
import pathlib
import time
import urllib.parse

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

HERE = pathlib.Path(__file__).parent
PAGE = {"/": "index.html", "/page.js": "page.js", "/watch.js": "watch.js"}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

session = boto3.Session()
table = session.resource("dynamodb").Table(os.environ["TABLE"])


def answer(status, body="", content_type="application/json"):
    headers = {"content-type": content_type, "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": body if isinstance(body, str) else json.dumps(body)}


def handler(event, _context):
    """Takes an event of a function URL."""
    method, path = event["requestContext"]["http"]["method"], event["rawPath"]
    if method == "GET" and path in PAGE:
        file = HERE / PAGE[path]
        return answer(200, file.read_text(), TYPES[file.suffix])
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    if method == "GET" and len(parts) == 2 and parts[0] == "watch":
        token = (event.get("queryStringParameters") or {}).get("token")
        return answer(200, watch_url(public_endpoint(event), parts[1], token), "text/plain")
    if len(parts) < 3 or parts[0] != "lists" or parts[2] != "items":
        return answer(404, {"message": "not found"})
    try:
        return change(method, parts[1], parts[3:], body_of(event))
    except (KeyError, TypeError, ValueError) as error:
        return answer(400, {"message": f"bad request: {error!r}"})


def change(method, name, rest, body):
    if method == "POST" and not rest:
        # Ordered by time; two in the same nanosecond are one too few.
        item = {"list": name, "item": f"{time.time_ns():020}", "name": str(body["name"])[:100], "done": False}
        table.put_item(Item=item, ConditionExpression="attribute_not_exists(#i)", ExpressionAttributeNames={"#i": "item"})
        return answer(201, {"item": item["item"]})
    [item] = rest
    key = {"list": name, "item": item}
    if method == "PUT":
        table.update_item(
            Key=key,
            UpdateExpression="SET done = :d",
            ConditionExpression="attribute_exists(#i)",
            ExpressionAttributeNames={"#i": "item"},
            ExpressionAttributeValues={":d": bool(body["done"])},
        )
    elif method == "DELETE":
        table.delete_item(Key=key)
    else:
        return answer(405, {"message": "not allowed"})
    return answer(204)


def body_of(event):
    body = event.get("body") or "{}"
    return json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)


def public_endpoint(event):
    """Where a browser finds the node: in the function's host name, after the parts that name the function."""
    host = event.get("headers", {}).get("host", "")
    _, url, rest = host.partition(".lambda-url.")
    return f"http://{rest.partition('.')[2]}" if url else os.environ["AWS_ENDPOINT_URL"]


def watch_url(endpoint, name, token):
    """A URL that lets its holder watch one list, signed with the function's own credentials."""
    parameters = {"partition": json.dumps({"list": {"S": name}})}
    if token:
        parameters["token"] = token
    url = f"{endpoint}/_hawker/tables/{table.name}/watch?{urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)}"
    request = AWSRequest("GET", url)
    SigV4QueryAuth(session.get_credentials(), "hawker", session.region_name, expires=60).add_auth(request)
    return request.url
