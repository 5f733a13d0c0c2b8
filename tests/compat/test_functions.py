"""Versions, aliases, layers, URLs, what is kept ready, and what runs once, with boto3."""

import base64
import concurrent.futures
import http.client
import io
import json
import platform
import subprocess
import tarfile
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, PYTHON_RUNTIME, REGION, eventually, unique
from functions import function, package, role

pytestmark = pytest.mark.local

VERSION = "import os\ndef handler(event, context):\n    return [context.function_version, os.environ['AWS_LAMBDA_FUNCTION_VERSION']]\n"
ECHO = "def handler(event, context):\n    return event\n"


def code(excinfo):
    return excinfo.value.response["Error"]["Code"]


def invoke(client, name, payload=None, **options):
    answer = client.invoke(FunctionName=name, Payload=json.dumps(payload), **options)
    return json.loads(answer["Payload"].read()), answer


def test_versions_and_aliases(node):
    client = node.client("lambda")
    with function(node, {"app.py": VERSION}) as f:
        one = client.publish_version(FunctionName=f.name, Description="one")
        assert one["Version"] == "1" and one["FunctionArn"].endswith(":1") and one["Description"] == "one"
        assert client.publish_version(FunctionName=f.name)["Version"] == "1"
        client.update_function_configuration(FunctionName=f.name, Environment={"Variables": {"XX": "2"}})
        two = client.update_function_code(FunctionName=f.name, ZipFile=package({"app.py": VERSION + "# 2\n"}), Publish=True)
        assert two["Version"] == "2"
        with pytest.raises(ClientError) as e:
            client.publish_version(FunctionName=f.name, CodeSha256=one["CodeSha256"])
        assert code(e) == "InvalidParameterValueException"
        versions = [v["Version"] for v in client.list_versions_by_function(FunctionName=f.name)["Versions"]]
        assert versions == ["$LATEST", "1", "2"]
        assert invoke(client, f.name, Qualifier="1")[0] == ["1", "1"]
        assert invoke(client, f"{f.name}:2")[0] == ["2", "2"]
        assert invoke(client, f.name)[0] == ["$LATEST", "$LATEST"]

        alias = client.create_alias(FunctionName=f.name, Name="live", FunctionVersion="1")
        assert alias["AliasArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{f.name}:live"
        told, answer = invoke(client, alias["AliasArn"])
        assert told == ["1", "1"] and answer["ExecutedVersion"] == "1"
        client.update_alias(FunctionName=f.name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
        assert {invoke(client, f.name, Qualifier="live")[1]["ExecutedVersion"] for _ in range(60)} == {"1", "2"}
        client.update_alias(FunctionName=f.name, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {}})
        assert invoke(client, f.name, Qualifier="live")[1]["ExecutedVersion"] == "2"
        assert client.get_function(FunctionName=f.name, Qualifier="live")["Configuration"]["Version"] == "2"
        with pytest.raises(ClientError) as e:
            client.delete_function(FunctionName=f.name, Qualifier="2")
        assert code(e) == "ResourceConflictException"
        client.add_permission(FunctionName=f.name, Qualifier="live", StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
        assert json.loads(client.get_policy(FunctionName=f.name, Qualifier="live")["Policy"])["Statement"][0]["Resource"].endswith(":live")
        client.delete_alias(FunctionName=f.name, Name="live")
        client.delete_function(FunctionName=f.name, Qualifier="2")
        assert [v["Version"] for v in client.list_versions_by_function(FunctionName=f.name)["Versions"]] == ["$LATEST", "1"]


def test_a_deployment_moves_an_alias_without_a_failed_request(node):
    client = node.client("lambda")
    with function(node, {"app.py": VERSION}) as f:
        client.publish_version(FunctionName=f.name)
        client.create_alias(FunctionName=f.name, Name="live", FunctionVersion="1")
        stop = False

        def ask():
            own, seen = node.client("lambda"), []
            while not stop:
                seen.append(invoke(own, f.name, Qualifier="live")[0][0])
            return seen

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask) for _ in range(4)]
            for number in range(2, 6):
                client.update_function_code(FunctionName=f.name, ZipFile=package({"app.py": VERSION + f"# {number}\n"}), Publish=True)
                client.update_alias(FunctionName=f.name, Name="live", FunctionVersion=str(number))
            stop = True
            for one in asked:
                seen = [int(version) for version in one.result()]
                assert seen == sorted(seen), "nobody sees an older version after a newer one"
        assert invoke(client, f.name, Qualifier="live")[0][0] == "5"


def test_layers_in_the_api(node):
    client = node.client("lambda")
    name = unique("layer")
    content = {"ZipFile": package({"python/shared.py": "VALUE = 1\n"})}
    one = client.publish_layer_version(LayerName=name, Content=content, CompatibleRuntimes=[PYTHON_RUNTIME], Description="d", LicenseInfo="MIT")
    assert one["Version"] == 1 and one["LayerVersionArn"].endswith(f":layer:{name}:1") and one["LicenseInfo"] == "MIT"
    assert client.get_layer_version_by_arn(Arn=one["LayerVersionArn"])["Content"]["CodeSha256"] == one["Content"]["CodeSha256"]
    assert name in [layer["LayerName"] for layer in client.list_layers()["Layers"]]
    client.add_layer_version_permission(LayerName=name, VersionNumber=1, StatementId="s", Action="lambda:GetLayerVersion", Principal="*")
    assert json.loads(client.get_layer_version_policy(LayerName=name, VersionNumber=1)["Policy"])["Statement"][0]["Principal"] == "*"
    client.remove_layer_version_permission(LayerName=name, VersionNumber=1, StatementId="s")
    with pytest.raises(ClientError) as e:
        client.get_layer_version_policy(LayerName=name, VersionNumber=1)
    assert code(e) == "ResourceNotFoundException"
    with function(node, {"app.py": ECHO}, Layers=[one["LayerVersionArn"]]) as f:
        assert client.get_function_configuration(FunctionName=f.name)["Layers"][0]["Arn"] == one["LayerVersionArn"]
        client.delete_layer_version(LayerName=name, VersionNumber=1)
        assert client.list_layer_versions(LayerName=name)["LayerVersions"] == []
        client.update_function_configuration(FunctionName=f.name, Layers=[])


class Account:
    """Another account of the node."""

    def __init__(self, node):
        made = json.loads(node.hawker("account", "create", "--json").stdout)
        self.node, self.id = node, made["accountId"]
        self.key = {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}

    def client(self, service, **credentials):
        return self.node.client(service, **(credentials or self.key))


def test_layers_of_other_accounts(node):
    owner, other, third = node.client("lambda"), Account(node), Account(node)
    name = unique("shared")
    content = {"ZipFile": package({"python/shared.py": "VALUE = 'theirs'\n"})}
    layer = owner.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
    uses = {"app.py": "import shared\ndef handler(event, context):\n    return shared.VALUE\n"}

    def denied(account, arn=layer):
        root = f"arn:aws:iam::{account.id}:root"
        wanted = (
            "AccessDeniedException",
            f"User: {root} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} "
            "because no resource-based policy allows the lambda:GetLayerVersion action",
        )
        client = account.client("lambda")
        for ask in [
            lambda: client.get_layer_version_by_arn(Arn=arn),
            lambda: client.get_layer_version(LayerName=arn.rpartition(":")[0], VersionNumber=1),
            lambda: client.create_function(
                FunctionName="denied", Runtime=PYTHON_RUNTIME, Role=f"{root[:-4]}role/x", Handler="a.b", Layers=[arn],
                Code={"ZipFile": package(uses)},
            ),
        ]:
            with pytest.raises(ClientError) as e:
                ask()
            assert (code(e), e.value.response["Error"]["Message"]) == wanted

    denied(other)
    # What is not there looks as what may not be seen.
    denied(other, layer.replace(name, f"{name}-x"))
    allow = dict(LayerName=name, VersionNumber=1, StatementId="other", Action="lambda:GetLayerVersion", Principal=other.id)
    for wrong in [{"Principal": "12345"}, {"Principal": f"arn:aws:iam::{other.id}:user/x"}, {"StatementId": "a b"}, {"Action": "lambda:*"}]:
        with pytest.raises(ClientError) as e:
            owner.add_layer_version_permission(**{**allow, **wrong})
        assert code(e) == "ValidationException", wrong
    with pytest.raises(ClientError) as e:
        owner.add_layer_version_permission(**{**allow, "Principal": "*"}, OrganizationId="o-1234567890")
    assert code(e) == "InvalidParameterValueException" and "OrganizationId" in str(e.value)
    added = owner.add_layer_version_permission(**allow)
    assert json.loads(added["Statement"])["Principal"] == {"AWS": f"arn:aws:iam::{other.id}:root"}
    policy = owner.get_layer_version_policy(LayerName=name, VersionNumber=1)
    assert json.loads(policy["Policy"])["Statement"][0]["Resource"] == layer

    client = other.client("lambda")
    got = client.get_layer_version_by_arn(Arn=layer)
    assert got["LayerVersionArn"] == layer
    denied(third)
    # A right to read is none to change, and none to the names of other versions.
    for ask in [
        lambda: client.delete_layer_version(LayerName=layer.rpartition(":")[0], VersionNumber=1),
        lambda: client.get_layer_version_policy(LayerName=layer.rpartition(":")[0], VersionNumber=1),
        lambda: client.remove_layer_version_permission(LayerName=layer.rpartition(":")[0], VersionNumber=1, StatementId="other"),
    ]:
        with pytest.raises(ClientError) as e:
            ask()
        assert code(e) == "AccessDeniedException"

    with function(other, uses, Layers=[layer]) as f:
        assert client.get_function_configuration(FunctionName=f.name)["Layers"][0]["Arn"] == layer
        assert f.result() == "theirs"
        # Their users need the right too.
        iam = other.client("iam")
        user = unique("user")
        iam.create_user(UserName=user)
        statement = {"Effect": "Allow", "Action": ["lambda:UpdateFunctionConfiguration", "iam:PassRole"], "Resource": "*"}
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        limited = other.client("lambda", AccessKeyId=key["AccessKeyId"], SecretAccessKey=key["SecretAccessKey"])
        with pytest.raises(ClientError) as e:
            limited.update_function_configuration(FunctionName=f.name, Layers=[layer])
        assert code(e) == "AccessDeniedException" and "identity-based policy" in str(e.value)
        client.publish_version(FunctionName=f.name)
        # What is taken back, or gone, stays with who uses it.
        owner.remove_layer_version_permission(LayerName=name, VersionNumber=1, StatementId="other")
        denied(other)
        owner.delete_layer_version(LayerName=name, VersionNumber=1)
        client.update_function_configuration(FunctionName=f.name, MemorySize=256)
        assert f.result() == "theirs"
        assert invoke(client, f.name, Qualifier="1")[0] == "theirs"
        client.update_function_configuration(FunctionName=f.name, Layers=[])
        assert invoke(client, f.name, Qualifier="1")[0] == "theirs"

    public = owner.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
    owner.add_layer_version_permission(LayerName=name, VersionNumber=2, StatementId="all", Action="lambda:GetLayerVersion", Principal="*")
    for account in (other, third):
        with function(account, uses, Layers=[public]) as f:
            assert f.result() == "theirs"


def request(node, url, method="GET", path="/", body=None, headers=None, by_path=False):
    """A request to a function's URL, by its host name or by the node's own path."""
    host = urllib.parse.urlsplit(url).netloc
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    if by_path:
        path, host = f"/_hawker/url/{host.split('.')[0]}{path}", f"127.0.0.1:{node.port}"
    connection.request(method, path, body=body, headers={"Host": host, **(headers or {})})
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.fixture
def url(node):
    made = []

    def make(f, auth="NONE", **options):
        client = node.client("lambda")
        config = client.create_function_url_config(FunctionName=f.name, AuthType=auth, **options)
        if auth == "NONE":
            client.add_permission(FunctionName=f.name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE")
        made.append(f.name)
        return config["FunctionUrl"]

    yield make


def test_a_url_is_an_http_endpoint(node, url):
    answers = (
        "def handler(event, context):\n"
        "    if event['rawPath'] == '/teapot':\n"
        "        return {'statusCode': 418, 'headers': {'X-Kind': 'pot'}, 'cookies': ['a=1', 'b=2'], 'body': 'short'}\n"
        "    if event['rawPath'] == '/bytes':\n"
        "        return {'statusCode': 200, 'headers': {'content-type': 'image/png'}, 'body': event['body'], 'isBase64Encoded': True}\n"
        "    if event['rawPath'] == '/broken':\n"
        "        raise ValueError('no')\n"
        "    return event\n"
    )
    with function(node, {"app.py": answers}) as f:
        where = url(f)
        assert ".lambda-url." in where
        for by_path in (False, True):
            answer, body = request(node, where, "POST", "/a%20b/c?x=1&x=2&y=", "hällo".encode(), {"Content-Type": "text/plain; charset=utf-8", "Cookie": "k=v; l=w", "Authorization": "Bearer t"}, by_path)
            event = json.loads(body)
            assert answer.status == 200 and answer.headers["content-type"] == "application/json"
            assert event["version"] == "2.0" and event["rawPath"] == "/a b/c" and event["rawQueryString"] == "x=1&x=2&y="
            assert event["queryStringParameters"] == {"x": "1,2", "y": ""} and event["cookies"] == ["k=v", "l=w"]
            assert event["body"] == "hällo" and event["isBase64Encoded"] is False
            assert event["headers"]["authorization"] == "Bearer t"
            context = event["requestContext"]
            assert context["http"]["method"] == "POST" and context["http"]["sourceIp"] == "127.0.0.1" and context["accountId"] == "anonymous"
        answer, body = request(node, where, path="/teapot")
        assert (answer.status, body) == (418, b"short") and answer.headers["x-kind"] == "pot"
        assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
        picture = bytes(range(256))
        answer, body = request(node, where, "POST", "/bytes", picture, {"Content-Type": "application/octet-stream"})
        assert body == picture and answer.headers["content-type"] == "image/png"
        answer, body = request(node, where, path="/broken")
        assert answer.status == 502 and body == b"Internal Server Error"
        answer, _ = request(node, where, "POST", "/", b"x" * (6 * 1024 * 1024 + 1))
        assert answer.status == 413


def test_a_url_lets_in_whom_its_policy_names(node, url):
    client = node.client("lambda")
    with function(node, {"app.py": ECHO}) as f:
        open_url = client.create_function_url_config(FunctionName=f.name, AuthType="NONE")["FunctionUrl"]
        answer, body = request(node, open_url)
        assert answer.status == 403 and json.loads(body)["Message"] == "Forbidden"
        client.update_function_url_config(FunctionName=f.name, AuthType="AWS_IAM")
        assert request(node, open_url)[0].status == 403

        def signed(key, secret):
            host = urllib.parse.urlsplit(open_url).netloc
            ask = botocore.awsrequest.AWSRequest("GET", open_url, headers={"Host": host})
            botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret), "lambda", REGION).add_auth(ask)
            return request(node, open_url, headers=dict(ask.headers))

        answer, body = signed(node.access_key_id, node.secret_access_key)
        assert answer.status == 200
        assert json.loads(body)["requestContext"]["authorizer"]["iam"]["accountId"] == ACCOUNT
        assert signed(node.access_key_id, "wrong")[0].status == 403
        iam, user = node.client("iam"), unique("caller")
        arn = iam.create_user(UserName=user)["User"]["Arn"]
        key = iam.create_access_key(UserName=user)["AccessKey"]
        assert signed(key["AccessKeyId"], key["SecretAccessKey"])[0].status == 403
        client.add_permission(FunctionName=f.name, StatementId="u", Action="lambda:InvokeFunctionUrl", Principal=arn, FunctionUrlAuthType="AWS_IAM")
        assert signed(key["AccessKeyId"], key["SecretAccessKey"])[0].status == 200
        client.delete_function_url_config(FunctionName=f.name)
        with pytest.raises(ClientError) as e:
            client.get_function_url_config(FunctionName=f.name)
        assert code(e) == "ResourceNotFoundException"
        assert signed(node.access_key_id, node.secret_access_key)[0].status == 403


def test_browsers_are_answered_as_the_url_says(node, url):
    with function(node, {"app.py": ECHO}) as f:
        where = url(f, Cors={"AllowOrigins": ["https://app.example"], "AllowMethods": ["GET"], "AllowHeaders": ["x-own"], "MaxAge": 60})
        ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-own"}
        answer, _ = request(node, where, "OPTIONS", headers=ask)
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["access-control-allow-methods"] == "GET" and answer.headers["access-control-max-age"] == "60"
        answer, _ = request(node, where, headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        answer, _ = request(node, where, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        config = node.client("lambda").get_function_url_config(FunctionName=f.name)
        assert config["Cors"]["AllowOrigins"] == ["https://app.example"] and config["InvokeMode"] == "BUFFERED"


def test_answers_come_as_a_stream_of_events(node):
    client = node.client("lambda")
    with function(node, {"app.py": "def handler(event, context):\n    if event == 'fail':\n        raise ValueError('no')\n    return 'x' * event\n"}) as f:
        answer = client.invoke_with_response_stream(FunctionName=f.name, Payload=b"3000000", LogType="Tail")
        assert answer["ExecutedVersion"] == "$LATEST"
        events = list(answer["EventStream"])
        body = b"".join(e["PayloadChunk"]["Payload"] for e in events if "PayloadChunk" in e)
        assert body == b'"' + b"x" * 3_000_000 + b'"'
        assert b"REPORT RequestId" in base64.b64decode(events[-1]["InvokeComplete"]["LogResult"])
        events = list(client.invoke_with_response_stream(FunctionName=f.name, Payload=b'"fail"')["EventStream"])
        assert events[-1]["InvokeComplete"]["ErrorCode"] == "Unhandled" and "ValueError" in events[-1]["InvokeComplete"]["ErrorDetails"]


def test_what_is_kept_ready(node):
    client = node.client("lambda")
    with function(node, {"app.py": "import os\ndef handler(e, c):\n    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"}) as f:
        client.publish_version(FunctionName=f.name)
        client.put_provisioned_concurrency_config(FunctionName=f.name, Qualifier="1", ProvisionedConcurrentExecutions=2)
        ready = lambda: client.get_provisioned_concurrency_config(FunctionName=f.name, Qualifier="1")["Status"] == "READY"
        eventually(ready)
        assert invoke(client, f.name, Qualifier="1")[0] == "provisioned-concurrency"
        assert invoke(client, f.name)[0] == "on-demand"
        assert len(client.list_provisioned_concurrency_configs(FunctionName=f.name)["ProvisionedConcurrencyConfigs"]) == 1
        client.delete_provisioned_concurrency_config(FunctionName=f.name, Qualifier="1")
        with pytest.raises(ClientError) as e:
            client.get_provisioned_concurrency_config(FunctionName=f.name, Qualifier="1")
        assert code(e) == "ProvisionedConcurrencyConfigNotFoundException"


def test_what_runs_once(node, url):
    counts = "N = 0\ndef handler(event, context):\n    global N\n    N += 1\n    return {'statusCode': 200, 'body': f'{N}'}\n"
    variables = {"HAWKER_IDEMPOTENCY_KEY": "header"}
    with function(node, {"app.py": counts}, Environment={"Variables": variables}) as f:
        where = url(f)
        key = {"Idempotency-Key": unique("key")}
        first = request(node, where, "POST", "/", b"pay", key)[1]
        assert first == b"1" and all(request(node, where, "POST", "/", b"pay", key)[1] == b"1" for _ in range(3)), "the same event would differ in its times: only the body is compared"
        assert request(node, where, "POST", "/", b"pay", {"Idempotency-Key": unique("key")})[1] == b"2"
        assert request(node, where, "POST", "/", b"pay")[1] == b"3"
        eventually(lambda: any(f"Idempotency Key: {key['Idempotency-Key']}" in line for line in f.lines()))
        eventually(lambda: any(line.startswith("REPEATED RequestId") for line in f.lines()))
    client = node.client("lambda")
    with role(node) as arn, pytest.raises(ClientError) as e:
        client.create_function(FunctionName=unique("bad"), Runtime=PYTHON_RUNTIME, Role=arn, Handler="app.handler", Code={"ZipFile": package({"app.py": ECHO})},
                               Environment={"Variables": {"HAWKER_IDEMPOTENCY_KEY": "order.id"}})
    assert code(e) == "InvalidParameterValueException"


def test_json_logs(node):
    text = "def handler(event, context):\n    print('plain')\n    return 1\n"
    with function(node, {"app.py": text}, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "INFO"}) as f:
        f.invoke()
        report = lambda: [json.loads(line) for line in f.lines() if '"platform.report"' in line]
        eventually(report)
        record = report()[0]["record"]
        assert record["status"] == "success" and record["metrics"]["billedDurationMs"] >= 1
        kinds = [json.loads(line)["type"] for line in f.lines() if '"platform.' in line]
        assert kinds[:2] == ["platform.initStart", "platform.start"]
        config = node.client("lambda").get_function_configuration(FunctionName=f.name)["LoggingConfig"]
        assert config["LogFormat"] == "JSON" and config["ApplicationLogLevel"] == "INFO"


def test_a_function_that_causes_itself_is_stopped(node):
    text = "import boto3\nclient = boto3.client('lambda')\ndef handler(event, context):\n    client.invoke(FunctionName=context.function_name, InvocationType='Event', Payload=b'{}')\n    print('again')\n"
    with function(node, {"app.py": text}, {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}, Timeout=30) as f:
        client = node.client("lambda")
        client.put_function_event_invoke_config(FunctionName=f.name, MaximumRetryAttempts=0)
        f.invoke(InvocationType="Event")
        eventually(lambda: any("EVENT_DROPPED" in line for line in f.lines()), timeout=60)
        # The last run's own lines may come after that of the event that it caused.
        eventually(lambda: sum(line == "again" for line in f.lines()) == 16)
        assert client.get_function_recursion_config(FunctionName=f.name)["RecursiveLoop"] == "Terminate"
        assert client.put_function_recursion_config(FunctionName=f.name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"


BOOTSTRAP_C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char buffer[65536];
/* One exchange on a connection of its own; the answer's text is in `buffer`. */
static void ask(const char *text) {
    char host[64]; strncpy(host, getenv("AWS_LAMBDA_RUNTIME_API"), 63);
    char *colon = strchr(host, ':'); *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    inet_pton(AF_INET, host, &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (void *)&to, sizeof to)) exit(1);
    write(s, text, strlen(text));
    size_t n = 0; ssize_t got;
    while ((got = read(s, buffer + n, sizeof buffer - 1 - n)) > 0) n += got;
    buffer[n] = 0; close(s);
}
int main(int argc, char **argv) {
    for (;;) {
        char text[1024], answer[256], id[64] = "";
        ask("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        char *at = strcasestr(buffer, "lambda-runtime-aws-request-id: ");
        if (!at) return 1;
        sscanf(at + 31, "%63[^\r]", id);
        int n = snprintf(answer, sizeof answer, "\"%s in %s\"", argc > 1 ? argv[1] : "nothing", getenv("FLAVOUR"));
        snprintf(text, sizeof text, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", id, n, answer);
        ask(text);
    }
}
"""


def tar(files):
    """An archive of files by name: a layer of an image, say."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def docker_archive(files, config):
    """What `docker save` writes, of one layer."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    described = {"architecture": machine, "os": "linux", "config": config}
    manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
    return tar({"layer.tar": tar(files), "config.json": json.dumps(described).encode(), "manifest.json": json.dumps(manifest).encode()})


def test_a_container_image_runs_without_docker(node, tmp_path):
    (tmp_path / "bootstrap.c").write_text("#define _GNU_SOURCE\n" + BOOTSTRAP_C)
    subprocess.run(["gcc", "-static", "-O1", "-w", "-o", tmp_path / "bootstrap", tmp_path / "bootstrap.c"], check=True)
    image = docker_archive({"app/bootstrap": (tmp_path / "bootstrap").read_bytes()}, {"Entrypoint": ["/app/bootstrap"], "Cmd": ["first"], "Env": ["FLAVOUR=tin"]})
    s3, client = node.client("s3"), node.client("lambda")
    bucket, name = unique("images"), unique("image")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="app.tar", Body=image)
    with role(node) as arn:
        made = client.create_function(FunctionName=name, PackageType="Image", Role=arn, Code={"ImageUri": f"s3://{bucket}/app.tar"}, Timeout=20)
        assert made["PackageType"] == "Image" and "Runtime" not in made
        assert invoke(client, name)[0] == "first in tin"
        client.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["second"]}, Environment={"Variables": {"FLAVOUR": "glass"}})
        assert invoke(client, name)[0] == "second in glass"
        assert client.get_function(FunctionName=name)["Code"]["ImageUri"] == f"s3://{bucket}/app.tar"
        with pytest.raises(ClientError) as e:
            client.update_function_code(FunctionName=name, ImageUri="registry.example/app:1")
        assert code(e) == "InvalidParameterValueException" and "--registry registry.example" in str(e.value)
        client.delete_function(FunctionName=name)
