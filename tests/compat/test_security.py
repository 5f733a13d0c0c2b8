"""What must not be possible: reaching what one has no right to, and taking the node down by a request."""

import json
import socket

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import ACCOUNT, PYTHON_RUNTIME, REGION, eventually, unique
from functions import package, role

pytestmark = pytest.mark.local


def signed(node, method, path, service, body=b"", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, node.endpoint + path, data=body, headers=headers)
    SigV4Auth(Credentials(node.access_key_id, node.secret_access_key), service, REGION).add_auth(request)
    return dict(request.headers)


def allow(action, resource="*", **rest):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **rest}


@pytest.fixture(scope="module")
def stranger(node):
    """The root of a second account."""
    headers = signed(node, "POST", "/_hawker/accounts", "hawker", b"{}", content_type="application/json")
    answer = requests.post(f"{node.endpoint}/_hawker/accounts", b"{}", headers=headers, timeout=30)
    assert answer.status_code == 201
    made = answer.json()
    return {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}


@pytest.fixture
def user(node):
    """Makes users of the first account, with the given statements."""
    iam = node.client("iam")
    made = []

    def make(*statements):
        name = unique("user")
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        made.append((name, key["AccessKeyId"]))
        return {k: key[k] for k in ("AccessKeyId", "SecretAccessKey")}

    yield make
    for name, key in made:
        iam.delete_access_key(UserName=name, AccessKeyId=key)
        iam.delete_user_policy(UserName=name, PolicyName="rights")
        iam.delete_user(UserName=name)


@pytest.fixture(scope="module")
def bucket(node):
    s3 = node.client("s3")
    name = unique("secrets")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="secret/x", Body=b"SECRET")
    s3.put_object(Bucket=name, Key="public/x", Body=b"public")
    return name


def refused(call, *codes):
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]["Code"]
    assert error in codes, error


def test_other_accounts_reach_nothing(node, stranger, bucket):
    s3 = node.client("s3", **stranger)
    own = unique("own")
    s3.create_bucket(Bucket=own)
    key = {"Bucket": bucket, "Key": "secret/x"}
    refused(lambda: s3.get_object(**key), "AccessDenied")
    refused(lambda: s3.put_object(**key, Body=b""), "AccessDenied")
    refused(lambda: s3.delete_object(**key), "AccessDenied")
    refused(lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "secret/x"}]}), "AccessDenied")
    refused(lambda: s3.list_objects_v2(Bucket=bucket), "AccessDenied")
    refused(lambda: s3.delete_bucket(Bucket=bucket), "AccessDenied")
    refused(lambda: s3.create_multipart_upload(**key), "AccessDenied")
    refused(lambda: s3.copy_object(Bucket=own, Key="x", CopySource=f"{bucket}/secret/x"), "AccessDenied")
    refused(lambda: s3.create_bucket(Bucket=bucket), "BucketAlreadyExists")
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [own]
    dynamodb = node.client("dynamodb", **stranger)
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/any"
    refused(lambda: dynamodb.scan(TableName=table), "AccessDeniedException", "ResourceNotFoundException")
    assert dynamodb.list_tables()["TableNames"] == []
    assert node.client("logs", **stranger).describe_log_groups()["logGroups"] == []
    assert node.client("s3").get_object(**key)["Body"].read() == b"SECRET"


def test_events_do_not_cross_accounts(node, stranger):
    """S3 is no deputy by which one account runs another's function, whatever the function allows S3."""
    with role(node) as arn:
        client = node.client("lambda")
        name = unique("victim")
        function = client.create_function(
            FunctionName=name, Runtime=PYTHON_RUNTIME, Handler="index.handler", Role=arn,
            Code={"ZipFile": package({"index.py": "def handler(event, context): return 1"})},
        )["FunctionArn"]
        client.add_permission(
            FunctionName=name, StatementId="all", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
        )
        s3 = node.client("s3", **stranger)
        bucket = unique("lure")
        s3.create_bucket(Bucket=bucket)
        wanted = {"LambdaFunctionArn": function, "Events": ["s3:ObjectCreated:*"]}
        lure = {"Bucket": bucket, "NotificationConfiguration": {"LambdaFunctionConfigurations": [wanted]}}
        with pytest.raises(ClientError) as error:
            s3.put_bucket_notification_configuration(**lure)
        assert error.value.response["Error"]["ArgumentName1"] == function
        s3.put_bucket_notification_configuration(**lure, SkipDestinationValidation=True)
        s3.put_object(Bucket=bucket, Key="x", Body=b"")
        eventually(lambda: "an event was dropped" in node.log_text())
        path = f"/_hawker/invocations?function={name}"
        answer = requests.get(node.endpoint + path, headers=signed(node, "GET", path, "hawker"), timeout=30)
        assert answer.json() == {"invocations": []}
        client.delete_function(FunctionName=name)


def test_a_role_is_passed_only_by_right(node, user):
    code = package({"index.py": "def handler(event, context): return 1"})
    with role(node) as arn:
        for rights in (
            [allow("lambda:*")],
            [allow("lambda:*"), allow("iam:PassRole", f"{arn}x")],
            [
                allow("lambda:*"),
                allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
            ],
        ):
            client = node.client("lambda", **user(*rights))
            create = {"Runtime": PYTHON_RUNTIME, "Handler": "index.handler", "Code": {"ZipFile": code}}
            refused(lambda: client.create_function(FunctionName="x", Role=arn, **create), "AccessDeniedException")
        # Nor by way of a template.
        name = unique("stack")
        resource = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
                "ManagedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"],
            },
        }
        client = node.client("cloudformation", **user(allow("cloudformation:*")))
        client.create_stack(
            StackName=name, TemplateBody=json.dumps({"Resources": {"R": resource}}), Capabilities=["CAPABILITY_IAM"]
        )
        status = lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        assert eventually(lambda: not status().endswith("IN_PROGRESS") and status()) == "ROLLBACK_COMPLETE"


def test_narrow_rights_stay_narrow(node, user, bucket):
    arn = f"arn:aws:s3:::{bucket}"
    s3 = node.client("s3", **user(
        allow("s3:ListBucket", arn, Condition={"StringLike": {"s3:prefix": ["public/*"]}}),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{arn}/public/*"),
    ))
    assert s3.list_objects_v2(Bucket=bucket, Prefix="public/")["KeyCount"] == 1
    refused(lambda: s3.list_objects_v2(Bucket=bucket), "AccessDenied")
    refused(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="secret/"), "AccessDenied")
    for source in (f"{bucket}/secret/x", f"/{bucket}/secret%2Fx"):
        refused(lambda: s3.copy_object(Bucket=bucket, Key="public/y", CopySource=source), "AccessDenied")
    keys = [{"Key": "public/nothing"}, {"Key": "secret/x"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("secret/x", "AccessDenied")]
    assert node.client("s3").get_object(Bucket=bucket, Key="secret/x")["Body"].read() == b"SECRET"


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_nothing_is_added_to_a_presigned_url(node, bucket, version):
    s3 = node.client("s3", config={"signature_version": version})
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "public/up"})
    source = f"/{bucket}/secret/x"
    for added in ("X-Amz-Copy-Source", "x-Amz-copy-source", "x-amz-copy-source", "retention", "tagging"):
        answer = requests.put(f"{url}&{added}={source}", data=b"", timeout=30)
        assert answer.status_code in (400, 403), (added, answer.text)
    answer = requests.put(url, data=b"", headers={"x-amz-copy-source": source}, timeout=30)
    assert answer.status_code == 403
    assert requests.get(url, timeout=30).status_code == 403
    assert requests.put(url, data=b"mine", timeout=30).status_code == 200
    assert node.client("s3").get_object(Bucket=bucket, Key="public/up")["Body"].read() == b"mine"


def test_a_template_can_not_take_the_node(node):
    client = node.client("cloudformation")
    value = "x" * 100
    for _ in range(25):
        value = {"Fn::Sub": ["${a}${a}", {"a": value}]}
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": value}}
    bomb = json.dumps({"Resources": {"B": bucket}})
    refused(lambda: client.create_stack(StackName=unique("bomb"), TemplateBody=bomb), "ValidationError")
    aliases = f"a: &a {'x' * 30_000}\nb: [{', '.join(['*a'] * 5_000)}]\nResources: {{}}\n"
    refused(lambda: client.validate_template(TemplateBody=aliases), "ValidationError")
    node.client("s3").list_buckets()


def test_slow_senders_hold_nothing(node):
    path, peers = "/2015-03-31/functions", []
    headers = signed(node, "POST", path, "lambda", b"", content_type="application/json")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name != "Content-Length")
    for _ in range(8):
        peer = socket.create_connection(("127.0.0.1", node.port))
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\n{lines}Content-Length: 60000000\r\n\r\n{{"
        peer.sendall(head.encode())
        peers.append(peer)
    # Large enough to be counted.
    table = {"TableName": "does-not-exist", "Item": {"p": {"S": "x" * 100_000}}}
    refused(lambda: node.client("dynamodb").put_item(**table), "ResourceNotFoundException")
    for peer in peers:
        # Nothing was answered: the node did not have to let them go first.
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)
        peer.close()
