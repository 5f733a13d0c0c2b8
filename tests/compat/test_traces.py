"""Traces that come in W3C's words go on in them, and in X-Ray's."""

import json
import urllib.request

import pytest
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
