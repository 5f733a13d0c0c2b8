"""Traces that come in W3C's words go on in them, and in X-Ray's."""

import json
import urllib.request

import pytest
from conftest import eventually
from functions import function

pytestmark = pytest.mark.local
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROOT = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736"
CODE = """
import os
def handler(event, context):
    headers = (event or {}).get("headers", {})
    return {"env": os.environ["_X_AMZN_TRACE_ID"], **{k: headers.get(k) for k in ("traceparent", "x-amzn-trace-id", "tracestate")}}
"""


def test_a_trace_of_w3c_reaches_the_function(node):
    given = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
    with function(node, CODE) as fn:
        # By Invoke, unsigned: botocore adds the header after it has signed.
        fn.client.meta.events.register("before-send.lambda.Invoke", lambda request, **_: request.headers.update(given))
        assert fn.result()["env"].startswith(ROOT)

        url = fn.client.create_function_url_config(FunctionName=fn.name, AuthType="NONE")["FunctionUrl"]
        fn.client.add_permission(
            FunctionName=fn.name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*",
            FunctionUrlAuthType="NONE",
        )
        request = urllib.request.Request(node.endpoint, headers={"Host": url.split("/")[2], **given})
        with urllib.request.urlopen(request, timeout=30) as answer:
            seen = json.loads(answer.read())
    assert seen["env"].startswith(ROOT) and seen["x-amzn-trace-id"].startswith(ROOT)
    version, trace, parent, flags = seen["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    # Below this node's own span.
    assert parent != "00f067aa0ba902b7" and f"Parent={parent}" in seen["x-amzn-trace-id"]
    assert seen["tracestate"] == "vendor=1"


CALLS = """
import boto3, os
def handler(event, context):
    boto3.client("sts").get_caller_identity()
    return os.environ["_X_AMZN_TRACE_ID"]
"""


def test_functions_are_told_what_was_decided(node):
    with function(node, CALLS) as fn:
        given = {}
        fn.client.meta.events.register("before-send.lambda.Invoke", lambda request, **_: request.headers.update(given))
        told = fn.result()
        assert ";Sampled=0;Kept=1" in told
        # The node's own trace goes through the function to what it called.
        root = dict(part.split("=") for part in told.split(";"))["Root"]

        def names():
            return node.hawker("trace", root, check=False).stdout

        eventually(lambda: "GetCallerIdentity" in names())
        for flag in "01":
            given["X-Amzn-Trace-Id"] = f"{ROOT};Sampled={flag}"
            told = fn.result()
            assert told.startswith(ROOT) and f";Sampled={flag}" in told and "Kept" not in told
        fn.client.update_function_configuration(FunctionName=fn.name, TracingConfig={"Mode": "Active"})
        fn.client.get_waiter("function_updated_v2").wait(FunctionName=fn.name)
        given["X-Amzn-Trace-Id"] = f"{ROOT};Sampled=0"
        assert ";Sampled=0" in fn.result()
        given.clear()
        told = fn.result()
        assert ";Sampled=1" in told and "Kept" not in told
