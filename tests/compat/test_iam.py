"""Who may do what: IAM and STS with boto3, rights on every operation, signatures."""

import datetime
import json

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import ACCOUNT, unique
from functions import TRUST


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def code(excinfo):
    return excinfo.value.response["Error"]["Code"]


@pytest.fixture
def user(node):
    iam = node.client("iam")
    name = unique("user")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield name, {k: key[k] for k in ("AccessKeyId", "SecretAccessKey")}
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


@pytest.fixture
def bucket(node):
    s3 = node.client("s3")
    name = unique("iam")
    s3.create_bucket(Bucket=name)
    yield name
    for o in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=o["Key"])
    s3.delete_bucket(Bucket=name)


def test_caller_identity(node, user):
    sts = node.client("sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    name, key = user
    assert node.client("sts", **key).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}"


def test_nothing_is_allowed_by_default(node, user, bucket):
    _, key = user
    for service, call in [
        ("s3", lambda c: c.list_buckets()),
        ("s3", lambda c: c.put_object(Bucket=bucket, Key="k", Body=b"")),
        ("dynamodb", lambda c: c.list_tables()),
        ("lambda", lambda c: c.list_functions()),
        ("iam", lambda c: c.list_roles()),
        ("logs", lambda c: c.describe_log_groups()),
        ("cloudformation", lambda c: c.list_stacks()),
    ]:
        with pytest.raises(ClientError) as e:
            call(node.client(service, **key))
        assert code(e) in ("AccessDenied", "AccessDeniedException"), service
        assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def test_allow_deny_and_wildcards(node, user, bucket):
    name, key = user
    iam, s3 = node.client("iam"), node.client("s3", **key)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(
        {"Effect": "Allow", "Action": ["s3:Get*", "s3:PutObject"], "Resource": f"arn:aws:s3:::{bucket}/*"},
        {"Effect": "Deny", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/secret/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}", "Condition": {"StringLike": {"s3:prefix": ["pub/*"]}}},
    ))
    s3.put_object(Bucket=bucket, Key="pub/a", Body=b"1")
    assert s3.get_object(Bucket=bucket, Key="pub/a")["Body"].read() == b"1"
    for call in (
        lambda: s3.put_object(Bucket=bucket, Key="secret/a", Body=b"1"),
        lambda: s3.delete_object(Bucket=bucket, Key="pub/a"),
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="secret/"),
        lambda: s3.copy_object(Bucket=bucket, Key="pub/b", CopySource=f"{bucket}/secret/a"),
    ):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == "AccessDenied"
    assert s3.list_objects_v2(Bucket=bucket, Prefix="pub/")["KeyCount"] == 1
    iam.delete_user_policy(UserName=name, PolicyName="p")
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="pub/a")
    assert code(e) == "AccessDenied"


def test_assume_role(node, user):
    name, key = user
    iam = node.client("iam")
    role = unique("role")
    trust = document({"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/{name}"}, "Action": "sts:AssumeRole"})
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document({"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}))
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn}))
    session = node.client("sts", **key).assume_role(RoleArn=arn, RoleSessionName="one")["Credentials"]
    assert session["AccessKeyId"].startswith("ASIA")
    temporary = {k: session[k] for k in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
    assert node.client("sts", **temporary).get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/one"
    node.client("dynamodb", **temporary).list_tables()
    with pytest.raises(ClientError) as e:
        node.client("iam", **temporary).list_users()
    assert code(e) == "AccessDenied"
    with pytest.raises(ClientError) as e:
        node.client("dynamodb", **{**temporary, "SessionToken": temporary["SessionToken"][:-8] + "AAAAAAAA"}).list_tables()
    assert code(e) in ("UnrecognizedClientException", "InvalidClientTokenId")
    narrowed = node.client("sts", **key).assume_role(
        RoleArn=arn, RoleSessionName="one", Policy=document({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    )["Credentials"]
    with pytest.raises(ClientError) as e:
        node.client("dynamodb", **{k: narrowed[k] for k in ("AccessKeyId", "SecretAccessKey", "SessionToken")}).list_tables()
    assert code(e) == "AccessDeniedException"
    iam.delete_role_policy(RoleName=role, PolicyName="p")
    iam.delete_role(RoleName=role)


def test_roles_and_policies(node):
    iam = node.client("iam")
    name, policy = unique("role"), unique("policy")
    made = iam.create_role(RoleName=name, Path="/app/", AssumeRolePolicyDocument=TRUST, Description="d", Tags=[{"Key": "a", "Value": "b"}])["Role"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/app/{name}" and made["RoleId"].startswith("AROA")
    assert made["AssumeRolePolicyDocument"] == json.loads(TRUST)
    with pytest.raises(ClientError) as e:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    assert code(e) == "EntityAlreadyExists"
    rights = document({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
    arn = iam.create_policy(PolicyName=policy, PolicyDocument=rights)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    assert [p["PolicyName"] for p in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]] == [policy]
    for call in (lambda: iam.delete_role(RoleName=name), lambda: iam.delete_policy(PolicyArn=arn)):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == "DeleteConflict"
    version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=rights, SetAsDefault=True)["PolicyVersion"]["VersionId"]
    assert version == "v2" and iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"] == json.loads(rights)
    iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=rights)
    assert iam.get_role_policy(RoleName=name, PolicyName="inline")["PolicyDocument"] == json.loads(rights)
    iam.delete_role_policy(RoleName=name, PolicyName="inline")
    iam.detach_role_policy(RoleName=name, PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy(PolicyArn=arn)
    iam.delete_role(RoleName=name)
    with pytest.raises(ClientError) as e:
        iam.get_role(RoleName=name)
    assert code(e) == "NoSuchEntity"


def test_bad_documents_are_refused(node, user):
    name, _ = user
    iam = node.client("iam")
    for bad in ["", "{", "{}", document({"Effect": "Maybe", "Action": "*", "Resource": "*"}),
                document({"Effect": "Allow", "Action": "s3:*"}),
                document({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"NoSuchOperator": {"a": "b"}}})]:
        with pytest.raises((ClientError, Exception)) as e:
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=bad)
        if isinstance(e.value, ClientError):
            assert code(e) in ("MalformedPolicyDocument", "ValidationError"), bad
    assert iam.list_user_policies(UserName=name)["PolicyNames"] == []


def test_inactive_key(node, user):
    name, key = user
    iam = node.client("iam")
    iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    with pytest.raises(ClientError) as e:
        node.client("sts", **key).get_caller_identity()
    assert code(e) == "InvalidClientTokenId"


@pytest.mark.local
def test_wrong_signatures(node):
    wrong = {"AccessKeyId": node.access_key_id, "SecretAccessKey": "wrong"}
    unknown = {"AccessKeyId": "AKIAUNKNOWNUNKNOWN00", "SecretAccessKey": "wrong"}
    for service, call, bad_signature, bad_key in [
        ("s3", lambda c: c.list_buckets(), "SignatureDoesNotMatch", "InvalidAccessKeyId"),
        ("dynamodb", lambda c: c.list_tables(), "InvalidSignatureException", "UnrecognizedClientException"),
        ("lambda", lambda c: c.list_functions(), "InvalidSignatureException", "UnrecognizedClientException"),
        ("iam", lambda c: c.list_users(), "SignatureDoesNotMatch", "InvalidClientTokenId"),
    ]:
        for credentials, expected in ((wrong, bad_signature), (unknown, bad_key)):
            with pytest.raises(ClientError) as e:
                call(node.client(service, **credentials))
            assert code(e) == expected, service


@pytest.mark.local
def test_clock_skew_and_tampered_body(node):
    def send(body, signed_body, age=0):
        request = AWSRequest("POST", node.endpoint + "/", data=signed_body,
                             headers={"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"})
        auth = SigV4Auth(Credentials(node.access_key_id, node.secret_access_key), "dynamodb", "us-east-1")
        import botocore.auth
        real = botocore.auth.get_current_datetime if hasattr(botocore.auth, "get_current_datetime") else None
        if real:
            botocore.auth.get_current_datetime = lambda *a, **k: real(*a, **k) - datetime.timedelta(seconds=age)
        try:
            auth.add_auth(request)
        finally:
            if real:
                botocore.auth.get_current_datetime = real
        return requests.post(node.endpoint + "/", data=body, headers=dict(request.headers), timeout=30)

    assert send("{}", "{}").status_code == 200
    tampered = send('{"Limit": 1}', "{}")
    assert tampered.status_code == 400 and "InvalidSignatureException" in tampered.text or tampered.status_code == 403
    old = send("{}", "{}", age=3600)
    assert old.status_code in (400, 403) and "Signature expired" in old.text
    unsigned = requests.post(node.endpoint + "/", data="{}", headers={"X-Amz-Target": "DynamoDB_20120810.ListTables"}, timeout=30)
    assert unsigned.status_code in (400, 403) and "MissingAuthenticationToken" in unsigned.text


@pytest.mark.local
def test_accounts_are_apart(node):
    made = json.loads(node.hawker("account", "create", "--json").stdout)
    other = {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}
    assert node.client("sts", **other).get_caller_identity()["Account"] == made["accountId"] != ACCOUNT
    ours, theirs = node.client("dynamodb"), node.client("dynamodb", **other)
    name = unique("table")
    for client in (ours, theirs):
        client.create_table(TableName=name, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    ours.put_item(TableName=name, Item={"id": {"S": "ours"}})
    assert theirs.scan(TableName=name)["Items"] == []
    theirs.delete_table(TableName=name)
    assert ours.scan(TableName=name)["Items"] == [{"id": {"S": "ours"}}]
    ours.delete_table(TableName=name)
    bucket = unique("apart")
    node.client("s3").create_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as e:
        node.client("s3", **other).put_object(Bucket=bucket, Key="k", Body=b"")
    assert code(e) == "AccessDenied"
    with pytest.raises(ClientError) as e:
        node.client("s3", **other).create_bucket(Bucket=bucket)
    assert code(e) == "BucketAlreadyExists"
    node.client("s3").delete_bucket(Bucket=bucket)


@pytest.mark.local
def test_accounts_by_the_command_line(node):
    made = dict(line.split("=") for line in node.hawker("account", "create").stdout.replace("account ", "account=").replace("export ", "").splitlines() if "=" in line)
    keys = {"AccessKeyId": made["AWS_ACCESS_KEY_ID"], "SecretAccessKey": made["AWS_SECRET_ACCESS_KEY"]}
    assert node.client("sts", **keys).get_caller_identity()["Account"] == made["account"]
    assert made["account"] in node.hawker("account", "list").stdout
    assert json.loads(node.hawker("account", "create", "--json").stdout)["accountId"].isdigit()
