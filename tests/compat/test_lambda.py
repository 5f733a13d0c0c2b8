"""Functions, with boto3, in Python, Node and as a plain binary."""

import base64
import concurrent.futures
import json
import re
import shutil
import socket
import subprocess

import pytest
from botocore.exceptions import ClientError
from conftest import PYTHON_RUNTIME, REGION, eventually, running, unique
from functions import function, package, role

ECHO = "def handler(event, context):\n    return event\n"


def code(excinfo):
    return excinfo.value.response["Error"]["Code"]


def test_life(node):
    client = node.client("lambda")
    with role(node) as arn:
        name = unique("life")
        made = client.create_function(
            FunctionName=name, Runtime=PYTHON_RUNTIME, Role=arn, Handler="app.handler",
            Code={"ZipFile": package({"app.py": ECHO})}, Description="echo", Timeout=5, MemorySize=256,
            Environment={"Variables": {"ONE": "1"}}, Tags={"team": "x"},
        )
        assert made["FunctionArn"].endswith(f":function:{name}") and made["Version"] == "$LATEST"
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        with pytest.raises(ClientError) as e:
            client.create_function(FunctionName=name, Runtime=PYTHON_RUNTIME, Role=arn, Handler="a.b",
                                   Code={"ZipFile": package({"app.py": ECHO})})
        assert code(e) == "ResourceConflictException"
        got = client.get_function(FunctionName=name)
        assert got["Configuration"]["CodeSha256"] == made["CodeSha256"] and got["Tags"] == {"team": "x"}
        assert name in [f["FunctionName"] for p in client.get_paginator("list_functions").paginate() for f in p["Functions"]]
        assert json.loads(client.invoke(FunctionName=name, Payload=b'{"x": 1}')["Payload"].read()) == {"x": 1}

        client.update_function_code(FunctionName=name, ZipFile=package({"app.py": "def handler(e, c):\n    return 'new'\n"}))
        client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        assert json.loads(client.invoke(FunctionName=name)["Payload"].read()) == "new"
        changed = client.update_function_configuration(FunctionName=name, Timeout=9, Environment={"Variables": {"TWO": "2"}})
        assert changed["Timeout"] == 9 and changed["Environment"] == {"Variables": {"TWO": "2"}} and changed["MemorySize"] == 256
        client.delete_function(FunctionName=name)
        with pytest.raises(ClientError) as e:
            client.invoke(FunctionName=name)
        assert code(e) == "ResourceNotFoundException"


def test_code_from_a_bucket(node):
    s3, client = node.client("s3"), node.client("lambda")
    bucket = unique("code")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="f.zip", Body=package({"app.py": ECHO}))
    with role(node) as arn:
        name = unique("fn")
        client.create_function(FunctionName=name, Runtime=PYTHON_RUNTIME, Role=arn, Handler="app.handler",
                               Code={"S3Bucket": bucket, "S3Key": "f.zip"})
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        assert client.invoke(FunctionName=name, Payload=b"[1]")["Payload"].read() == b"[1]"
        client.delete_function(FunctionName=name)
    s3.delete_object(Bucket=bucket, Key="f.zip")
    s3.delete_bucket(Bucket=bucket)


def test_context_environment_and_log_tail(node):
    source = """
import os
def handler(event, context):
    print("hello from", context.function_name)
    return {
        "name": context.function_name, "version": context.function_version, "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb, "id": context.aws_request_id, "group": context.log_group_name,
        "stream": context.log_stream_name, "left": context.get_remaining_time_in_millis(),
        "client": context.client_context and context.client_context.custom,
        "env": {k: os.environ.get(k) for k in ("MINE", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                "AWS_LAMBDA_FUNCTION_VERSION", "_HANDLER", "LAMBDA_TASK_ROOT", "TZ", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")},
        "trace": os.environ.get("_X_AMZN_TRACE_ID"), "cwd": os.getcwd(),
    }
"""
    with function(node, source, Timeout=20, MemorySize=192, Environment={"Variables": {"MINE": "yes"}}) as f:
        context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
        answer, got = f.invoke({}, LogType="Tail", ClientContext=context)
        assert got["name"] == f.name and got["version"] == "$LATEST" and got["arn"].endswith(f":function:{f.name}")
        assert got["memory"] in (192, "192") and 15_000 < got["left"] <= 20_000
        assert got["id"] == answer["ResponseMetadata"]["RequestId"]
        assert got["group"] == f.group and "[$LATEST]" in got["stream"]
        assert got["client"] == {"a": "b"}
        env = got["env"]
        assert env["MINE"] == "yes" and env["AWS_REGION"] == REGION and env["AWS_LAMBDA_FUNCTION_NAME"] == f.name
        assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "192" and env["_HANDLER"] == "app.handler"
        assert env["LAMBDA_TASK_ROOT"] == "/var/task" == got["cwd"] and env["TZ"] == ":UTC"
        assert env["AWS_ACCESS_KEY_ID"].startswith("ASIA") and env["AWS_SESSION_TOKEN"]
        assert got["trace"].startswith("Root=1-")
        assert answer["ExecutedVersion"] == "$LATEST"
        tail = base64.b64decode(answer["LogResult"]).decode()
        assert f"START RequestId: {got['id']} Version: $LATEST" in tail
        assert f"hello from {f.name}" in tail and f"END RequestId: {got['id']}" in tail
        assert re.search(
            rf"REPORT RequestId: {got['id']}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 192 MB\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms",
            tail,
        )
        second = base64.b64decode(f.invoke({}, LogType="Tail")[0]["LogResult"]).decode()
        assert "Init Duration" not in second


def test_an_init_that_ends_without_a_word(node):
    with function(node, "import os\nprint('going', flush=True)\nos._exit(7)\n") as f:
        answer = f.client.invoke(FunctionName=f.name, LogType="Tail")
        assert answer["FunctionError"] == "Unhandled"
        request = answer["ResponseMetadata"]["RequestId"]
        told = f"RequestId: {request} Error: Runtime exited with error: exit status 7"
        assert json.load(answer["Payload"]) == {"errorType": "Runtime.ExitError", "errorMessage": told}
        tail = base64.b64decode(answer["LogResult"]).decode()
        status = "Status: error\tError Type: Runtime.ExitError"
        wanted = rf"""INIT_START [^\n]*
going
INIT_REPORT Init Duration: [0-9.]+ ms\tPhase: init\t{status}
START RequestId: {request} Version: \$LATEST
{told}
Runtime.ExitError
END RequestId: {request}
REPORT RequestId: {request}\t[^\n]*{status}
"""
        assert re.fullmatch(wanted, tail), tail



def test_function_errors(node):
    source = """
class Broken(Exception):
    pass
def handler(event, context):
    if event == "raise":
        raise Broken("no luck")
    if event == "exit":
        import os
        os._exit(3)
    if event == "unserialisable":
        return object()
    return "fine"
"""
    with function(node, source) as f:
        answer, error = f.invoke("raise")
        assert answer["StatusCode"] == 200 and answer["FunctionError"] == "Unhandled"
        assert error["errorMessage"] == "no luck" and error["errorType"] == "Broken"
        assert 'in handler\n    raise Broken("no luck")' in "".join(error["stackTrace"])
        answer, error = f.invoke("exit")
        assert answer["FunctionError"] == "Unhandled" and error["errorType"] == "Runtime.ExitError"
        assert "exit status 3" in error["errorMessage"]
        answer, error = f.invoke("unserialisable")
        assert error["errorType"] == "Runtime.MarshalError"
        assert f.result("fine") == "fine"


@pytest.mark.parametrize(
    "files,handler,error",
    [
        ({"app.py": "import missing_module\n"}, "app.handler", "Runtime.ImportModuleError"),
        ({"app.py": "def other(): pass\n"}, "app.handler", "Runtime.HandlerNotFound"),
        ({"app.py": "def handler(:\n"}, "app.handler", "Runtime.UserCodeSyntaxError"),
        ({"app.py": "raise ValueError('at import')\n"}, "app.handler", "ValueError"),
    ],
)
def test_init_errors(node, files, handler, error):
    with function(node, files, handler=handler) as f:
        answer, got = f.invoke({})
        assert answer["FunctionError"] == "Unhandled" and got["errorType"] == error, got


def test_timeout_even_in_a_tight_loop(node):
    source = "def handler(event, context):\n    while event == 'loop':\n        pass\n    return 'ok'\n"
    with function(node, source, Timeout=1) as f:
        answer, error = f.invoke("loop")
        assert answer["FunctionError"] == "Unhandled" and "Task timed out after 1.00 seconds" in error["errorMessage"]
        assert f.result("no") == "ok"
        assert any("Task timed out after 1.00 seconds" in m for m in f.log("Task timed out"))


def test_memory_limit(node):
    source = "def handler(event, context):\n    x = bytearray(event << 20)\n    x[::4096] = b'x' * len(x[::4096])\n    return len(x) >> 20\n"
    with function(node, source, MemorySize=128, Timeout=20) as f:
        assert f.result(20) == 20
        answer, error = f.invoke(600)
        assert answer["FunctionError"] == "Unhandled", error
        assert f.result(10) == 10


def test_warm_state_and_tmp(node):
    source = """
import os
count = 0
def handler(event, context):
    global count
    count += 1
    first = not os.path.exists("/tmp/seen")
    open("/tmp/seen", "w").write("x")
    return [count, first]
"""
    with function(node, source) as f:
        assert f.result() == [1, True]
        assert f.result() == [2, False]
        f.client.update_function_configuration(FunctionName=f.name, Description="new")
        f.client.get_waiter("function_updated_v2").wait(FunctionName=f.name, WaiterConfig={"Delay": 1})
        assert f.result() == [1, True]


def test_many_at_once(node):
    source = "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return event\n"
    with function(node, source) as f:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            assert list(pool.map(f.result, range(120))) == list(range(120))


def test_reserved_concurrency(node):
    source = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 'done'\n"
    with function(node, source, Timeout=30) as f:
        f.client.put_function_concurrency(FunctionName=f.name, ReservedConcurrentExecutions=0)
        with pytest.raises(ClientError) as e:
            f.invoke(0)
        assert code(e) == "TooManyRequestsException" and e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert e.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        f.client.delete_function_concurrency(FunctionName=f.name)
        assert f.result(0) == "done"


def test_invocation_types(node):
    with function(node, "def handler(e, c):\n    print('got', e)\n    return e\n") as f:
        assert f.client.invoke(FunctionName=f.name, InvocationType="DryRun")["StatusCode"] == 204
        assert f.client.invoke(FunctionName=f.name, InvocationType="Event", Payload=b'"async"')["StatusCode"] == 202
        assert any("got async" in m for m in f.log("got async"))
        with pytest.raises(ClientError) as e:
            f.client.invoke(FunctionName=f.name, Payload=b"{not json")
        assert code(e) == "InvalidRequestContentException"
        with pytest.raises(ClientError) as e:
            f.client.invoke(FunctionName=f.name, Payload=json.dumps("x" * (7 << 20)).encode())
        assert code(e) == "RequestTooLargeException"
        with pytest.raises(ClientError) as e:
            f.client.invoke(FunctionName="absent")
        assert code(e) == "ResourceNotFoundException"


def test_large_payloads(node):
    with function(node, ECHO, Timeout=20) as f:
        big = "y" * (5 << 20)
        assert f.result(big) == big
    with function(node, "def handler(e, c):\n    return 'z' * (7 << 20)\n", Timeout=20) as f:
        answer, error = f.invoke()
        assert answer["FunctionError"] and error["errorType"] == "Function.ResponseSizeTooLarge"


def test_async_retries_then_destination(node):
    with function(node, "def handler(e, c):\n    print('record', e['responsePayload']['errorMessage'])\n") as sink:
        statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}
        with function(node, "def handler(e, c):\n    raise Exception('always ' + e)\n", statement) as f:
            sink_arn = sink.client.get_function_configuration(FunctionName=sink.name)["FunctionArn"]
            f.client.put_function_event_invoke_config(
                FunctionName=f.name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": sink_arn}}
            )
            f.invoke("fails", InvocationType="Event")
            assert any("record always fails" in m for m in sink.log("record always fails"))


@pytest.mark.local
def test_retries_back_off_and_keep_their_request_id(tmp_path, shared_cache):
    settings = tmp_path / "hawker.yaml"
    settings.write_text("events:\n  retry_base_ms: 50\n")
    with running(tmp_path / "data", "--cache", shared_cache, "--config", settings) as node:
        source = "def handler(e, c):\n    print('try of', c.aws_request_id)\n    raise Exception('no')\n"
        with function(node, source) as f:
            answer, _ = f.invoke("x", InvocationType="Event")
            request_id = answer["ResponseMetadata"]["RequestId"]

            def tries():
                return sum(f"try of {request_id}" in m for m in f.log("try of")) == 3

            eventually(tries)


def test_rights_are_those_of_the_role(node):
    s3 = node.client("s3")
    bucket = unique("rights")
    s3.create_bucket(Bucket=bucket)
    source = f"""
import boto3, botocore
s3 = boto3.client("s3")
def attempt(call):
    try:
        call()
        return "ok"
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"]
def handler(event, context):
    return [
        attempt(lambda: s3.put_object(Bucket="{bucket}", Key="in/x", Body=b"1")),
        attempt(lambda: s3.put_object(Bucket="{bucket}", Key="out/x", Body=b"1")),
        attempt(lambda: s3.get_object(Bucket="{bucket}", Key="in/x")),
        attempt(lambda: boto3.client("iam").list_users()),
        boto3.client("sts").get_caller_identity()["Arn"].split(":")[-1].split("/")[0],
    ]
"""
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/in/*"}
    with function(node, source, allow, Timeout=60) as f:
        assert f.result() == ["ok", "AccessDenied", "AccessDenied", "AccessDenied", "assumed-role"]
    s3.delete_object(Bucket=bucket, Key="in/x")
    s3.delete_bucket(Bucket=bucket)


NODE_RUNTIME = None
if shutil.which("node"):
    NODE_RUNTIME = f"nodejs{subprocess.check_output(['node', '--version'], text=True)[1:].split('.')[0]}.x"


@pytest.mark.skipif(NODE_RUNTIME is None, reason="no node on this machine")
@pytest.mark.parametrize(
    "files,handler",
    [
        ({"index.js": "exports.handler = async (event, context) => ({ got: event, id: context.awsRequestId });"}, "index.handler"),
        ({"index.js": "exports.handler = (event, context, done) => setTimeout(() => done(null, { got: event, id: context.awsRequestId }), 1);"}, "index.handler"),
        ({"index.mjs": "export const handler = async (event, context) => ({ got: event, id: context.awsRequestId });"}, "index.handler"),
        ({"lib/a.js": "export const run = async (event, context) => ({ got: event, id: context.awsRequestId });", "package.json": '{"type": "module"}'}, "lib/a.run"),
    ],
    ids=["commonjs", "callback", "esm", "package-type"],
)
def test_node(node, files, handler):
    with function(node, files, runtime=NODE_RUNTIME, handler=handler, Timeout=10) as f:
        answer, got = f.invoke({"a": [1, "ü"]})
        assert got == {"got": {"a": [1, "ü"]}, "id": answer["ResponseMetadata"]["RequestId"]}


@pytest.mark.skipif(NODE_RUNTIME is None, reason="no node on this machine")
def test_node_errors_and_logs(node):
    source = "exports.handler = async (event) => { console.log('seen', event); class Odd extends Error { constructor(m) { super(m); this.name = 'Odd'; } } throw new Odd('no luck'); };"
    with function(node, {"index.js": source}, runtime=NODE_RUNTIME, handler="index.handler", Timeout=10) as f:
        answer, error = f.invoke(7)
        assert answer["FunctionError"] == "Unhandled"
        assert error["errorType"] == "Odd" and error["errorMessage"] == "no luck" and error["trace"][0] == "Odd: no luck"
        assert any(re.search(r"\tINFO\tseen 7", m) for m in f.log("seen 7"))


BOOTSTRAP = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A runtime in a page of C: takes an event, answers with its length. */
static int dial(void) {
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    char host[64];
    int port;
    sscanf(api, "%63[^:]:%d", host, &port);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) exit(9);
    return fd;
}
static size_t ask(const char *request, char *answer, size_t room) {
    int fd = dial();
    write(fd, request, strlen(request));
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, answer + n, room - 1 - n)) > 0) n += got;
    answer[n] = 0;
    close(fd);
    return n;
}
int main(void) {
    static char answer[1 << 16], request[4096], id[64];
    for (;;) {
        ask("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer, sizeof answer);
        char *header = strcasestr(answer, "lambda-runtime-aws-request-id:");
        if (!header) return 8;
        sscanf(header + 30, " %63[^\r]", id);
        char *body = strstr(answer, "\r\n\r\n") + 4;
        char out[32];
        int n = snprintf(out, sizeof out, "%zu", strlen(body));
        snprintf(request, sizeof request, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", id, n, out);
        ask(request, answer, sizeof answer);
    }
}
"""


def test_provided(node, tmp_path):
    source, binary = tmp_path / "b.c", tmp_path / "bootstrap"
    source.write_text("#define _GNU_SOURCE\n" + BOOTSTRAP)
    subprocess.run(["gcc", "-O1", "-w", "-static", "-o", binary, source], check=True)
    with function(node, {"bootstrap": (binary.read_bytes(), 0o755)}, runtime="provided.al2023", handler="any") as f:
        assert f.result("abcdef") == 8
        assert f.result([1, 2]) == len(json.dumps([1, 2]))


def test_provided_needs_a_bootstrap(node):
    with function(node, {"readme": "no"}, runtime="provided.al2023", handler="any") as f:
        answer, error = f.invoke({})
        assert answer["FunctionError"] and error["errorType"] == "Runtime.InvalidEntrypoint"


@pytest.mark.local
def test_walls(node):
    source = """
import os, socket
def attempt(call):
    try:
        return repr(call())
    except Exception as e:
        return type(e).__name__
def handler(event, context):
    return {
        "shadow": attempt(lambda: open("/etc/shadow").read()),
        "data": attempt(lambda: os.listdir(event["data"])),
        "home": attempt(lambda: os.listdir("/root")[0]),
        "write": attempt(lambda: open("/var/task/x", "w")),
        "write_usr": attempt(lambda: open("/usr/x", "w")),
        "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
        "host_port": attempt(lambda: socket.create_connection(("127.0.0.1", event["port"]), 1)),
        "outside": attempt(lambda: socket.create_connection(("198.51.100.1", 80), 1)),
        "unshare": attempt(lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else (_ for _ in ()).throw(OSError())),
        "uid_capable": attempt(lambda: os.chroot("/tmp")),
    }
"""
    with function(node, source, Timeout=20) as f:
        with socket.create_server(("127.0.0.1", 0)) as elsewhere:
            got = f.result({"data": str(node.data), "port": elsewhere.getsockname()[1]})
        for name in ("shadow", "data", "home", "write", "write_usr", "host_port", "outside", "unshare", "uid_capable"):
            assert got[name] in ("FileNotFoundError", "PermissionError", "OSError", "IndexError", "ConnectionRefusedError", "TimeoutError"), (name, got)
        assert len(got["processes"]) <= 3


@pytest.mark.local
def test_bad_input(node):
    client = node.client("lambda")
    with role(node) as arn:
        base = dict(FunctionName=unique("bad"), Runtime=PYTHON_RUNTIME, Role=arn, Handler="app.handler", Code={"ZipFile": package({"app.py": ECHO})})
        for change, expected in [
            ({"Code": {"ZipFile": b"this is no zip"}}, "InvalidParameterValueException"),
            ({"Role": "arn:aws:iam::000000000000:role/absent"}, "InvalidParameterValueException"),
            ({"Runtime": "python2.7"}, "InvalidParameterValueException"),
            ({"Timeout": 901}, "ValidationException"),
            ({"MemorySize": 10_241}, "ValidationException"),
            ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException"),
            ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, "InvalidParameterValueException"),
        ]:
            with pytest.raises(ClientError) as e:
                client.create_function(**{**base, **change})
            assert code(e) == expected, change


def test_a_runtime_that_ends_takes_no_request_with_it(node):
    """An instance has the next event when it asks for it: one that ends before leaves it to another."""
    version = subprocess.check_output(["node", "--version"], text=True)[1:].split(".")[0]
    code = """exports.handler = (event) => {
        if (!event.fails) return Promise.resolve('ok');
        Promise.reject(new Error('nobody catches this'));
        return new Promise(() => {});
    };"""
    with function(node, {"index.js": code}, runtime=f"nodejs{version}.x", handler="index.handler") as fn:
        for _ in range(5):
            assert fn.invoke({"fails": True})[1]["errorType"] == "Runtime.UnhandledPromiseRejection"
            assert fn.result({"fails": False}) == "ok"


def test_a_request_waits_for_an_init_that_is_begun_again(node):
    code = "import time\ntime.sleep(11)\ndef handler(event, context):\n    return 'late'\n"
    with function(node, {"app.py": code}, Timeout=20) as fn:
        assert fn.result() == "late"
