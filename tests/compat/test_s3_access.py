"""Who may use a bucket: its policy, its access control lists, what blocks the public, and other origins."""

import json

import pytest
import requests
from botocore.exceptions import ClientError
from conftest import eventually, running, unique

pytestmark = pytest.mark.local


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("access")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"hello")
    return name


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


def policy(bucket, *statements):
    full = []
    for statement in statements:
        full.append({"Effect": "Allow", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*", **statement})
    return json.dumps({"Version": "2012-10-17", "Statement": full})


def open_to_public(s3, bucket):
    s3.delete_public_access_block(Bucket=bucket)


def user(node, *statements):
    iam = node.client("iam")
    name = unique("user")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    if statements:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    return arn, node.client("s3", **iam.create_access_key(UserName=name)["AccessKey"])


def test_nothing_is_public_at_first(node, s3, bucket):
    url = f"{node.endpoint}/{bucket}/k"
    assert requests.get(url).status_code == 403
    assert requests.put(url, data=b"x").status_code == 403
    assert requests.get(f"{node.endpoint}/{unique('absent')}/k").status_code == 404
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True} and len(block) == 4
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    with pytest.raises(ClientError) as e:
        s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, {"Action": "s3:GetObject"}))
    assert code(e) == ("AccessDenied", 403) and "BlockPublicPolicy" in str(e.value)
    with pytest.raises(ClientError) as e:
        s3.get_bucket_policy(Bucket=bucket)
    assert code(e) == ("NoSuchBucketPolicy", 404)


def test_a_public_policy(node, s3, bucket):
    open_to_public(s3, bucket)
    document = policy(bucket, {"Action": "s3:GetObject"})
    s3.put_bucket_policy(Bucket=bucket, Policy=document)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == document
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    got = requests.get(f"{node.endpoint}/{bucket}/k")
    assert (got.status_code, got.content) == (200, b"hello")
    assert requests.get(f"{node.endpoint}/{bucket}").status_code == 403
    assert requests.put(f"{node.endpoint}/{bucket}/k", data=b"x").status_code == 403
    # The block comes back, and counts at once.
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert requests.get(f"{node.endpoint}/{bucket}/k").status_code == 403
    s3.delete_public_access_block(Bucket=bucket)
    assert requests.get(f"{node.endpoint}/{bucket}/k").status_code == 200
    s3.delete_bucket_policy(Bucket=bucket)
    assert requests.get(f"{node.endpoint}/{bucket}/k").status_code == 403


def test_anonymous_uploads(node, s3, bucket):
    open_to_public(s3, bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, {"Action": ["s3:PutObject", "s3:DeleteObject"]}))
    assert requests.put(f"{node.endpoint}/{bucket}/new", data=b"from nobody").status_code == 200
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"from nobody"
    assert requests.delete(f"{node.endpoint}/{bucket}/new").status_code == 204


@pytest.mark.parametrize(
    ("condition", "headers", "status"),
    [
        ({"StringLike": {"aws:Referer": "https://a.example/*"}}, {"Referer": "https://a.example/x"}, 200),
        ({"StringLike": {"aws:Referer": "https://a.example/*"}}, {"Referer": "https://b.example/x"}, 403),
        ({"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}}, {}, 200),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {}, 403),
        ({"StringEquals": {"s3:ExistingObjectTag/open": "yes"}}, {}, 200),
        ({"StringEquals": {"s3:ExistingObjectTag/open": "no"}}, {}, 403),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, 200),
    ],
)
def test_conditions(node, s3, bucket, condition, headers, status):
    open_to_public(s3, bucket)
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "open", "Value": "yes"}]})
    document = policy(bucket, {"Action": "s3:GetObject", "Condition": condition})
    s3.put_bucket_policy(Bucket=bucket, Policy=document)
    assert requests.get(f"{node.endpoint}/{bucket}/k", headers=headers).status_code == status
    fixed = "IpAddress" in condition
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] == (not fixed)


def test_policies_are_checked(s3, bucket):
    for document, what in [
        ("{", "Json"),
        (policy("another", {"Action": "s3:GetObject", "Principal": {"AWS": "000000000000"}}), "resource"),
        (policy(bucket, {"Action": "sqs:SendMessage", "Principal": {"AWS": "000000000000"}}), "action"),
        (
            policy(
                bucket,
                {
                    "Action": "s3:*", "Principal": {"AWS": "000000000000"},
                    "Condition": {"StringEquals": {"s3:Phase": "full"}},
                },
            ),
            "condition key",
        ),
    ]:
        with pytest.raises(ClientError) as e:
            s3.put_bucket_policy(Bucket=bucket, Policy=document)
        assert code(e) == ("MalformedPolicy", 400) and what in str(e.value)


def test_policies_and_users(node, s3, bucket):
    arn, without = user(node)
    with pytest.raises(ClientError) as e:
        without.get_object(Bucket=bucket, Key="k")
    assert code(e) == ("AccessDenied", 403)
    # The bucket's policy alone gives a user of its account the right.
    allow = {"Action": "s3:GetObject", "Principal": {"AWS": arn}}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, allow))
    assert without.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"
    # And takes it, whatever the user's own policies say.
    mighty_arn, mighty = user(node, {"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    assert mighty.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"
    deny = {"Effect": "Deny", "Action": "s3:GetObject", "Principal": {"AWS": mighty_arn}}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, deny))
    with pytest.raises(ClientError) as e:
        mighty.get_object(Bucket=bucket, Key="k")
    assert code(e) == ("AccessDenied", 403) and "explicit deny" in str(e.value)
    # The root of the account is bound as everybody is, but it can lift what binds it.
    everybody = {"Effect": "Deny", "Action": "s3:*", "Principal": "*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, everybody))
    for call in (lambda: s3.get_object(Bucket=bucket, Key="k"), lambda: s3.list_objects_v2(Bucket=bucket)):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == ("AccessDenied", 403) and "explicit deny" in str(e.value)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    assert mighty.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def second_account(node):
    made = json.loads(node.hawker("account", "create", "--json").stdout)
    keys = {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}
    return made["accountId"], node.client("s3", **keys)


def test_another_account(node, s3, bucket):
    account, client = second_account(node)
    for call in [
        lambda: client.get_object(Bucket=bucket, Key="k"),
        lambda: client.put_object(Bucket=bucket, Key="x", Body=b""),
        lambda: client.list_objects_v2(Bucket=bucket),
        lambda: client.delete_bucket(Bucket=bucket),
        lambda: client.put_bucket_policy(Bucket=bucket, Policy="{}"),
    ]:
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == ("AccessDenied", 403)
    allow = {"Action": ["s3:GetObject", "s3:PutObject"], "Principal": {"AWS": account}}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, allow))
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"
    client.put_object(Bucket=bucket, Key="x", Body=b"theirs")
    assert s3.get_object(Bucket=bucket, Key="x")["Body"].read() == b"theirs"
    with pytest.raises(ClientError) as e:
        client.delete_object(Bucket=bucket, Key="x")
    assert code(e) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as e:
        client.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner=account)
    assert code(e) == ("AccessDenied", 403)


def test_access_control_lists(node, s3, bucket):
    # Off at first.
    for call in [
        lambda: s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read"),
        lambda: s3.put_bucket_acl(Bucket=bucket, ACL="public-read"),
        lambda: s3.put_object(Bucket=bucket, Key="k2", Body=b"", ACL="public-read"),
    ]:
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == ("AccessControlListNotSupported", 400)
    s3.put_object(Bucket=bucket, Key="k2", Body=b"", ACL="bucket-owner-full-control")
    controls = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls)
    with pytest.raises(ClientError) as e:
        s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    assert code(e) == ("AccessDenied", 403)
    open_to_public(s3, bucket)
    url = f"{node.endpoint}/{bucket}/k"
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    assert requests.get(url).content == b"hello"
    grants = s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]
    assert [g["Permission"] for g in grants] == ["FULL_CONTROL", "READ"]
    assert grants[1]["Grantee"]["URI"].endswith("AllUsers")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"IgnorePublicAcls": True})
    assert requests.get(url).status_code == 403
    open_to_public(s3, bucket)
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    assert requests.get(url).status_code == 403
    s3.put_object(Bucket=bucket, Key="k3", Body=b"3", GrantRead="uri=http://acs.amazonaws.com/groups/global/AllUsers")
    assert requests.get(f"{node.endpoint}/{bucket}/k3").content == b"3"
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert requests.get(f"{node.endpoint}/{bucket}").status_code == 200
    # As it was shown it can be put.
    shown = s3.get_bucket_acl(Bucket=bucket)
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Grants": shown["Grants"], "Owner": shown["Owner"]})
    with pytest.raises(ClientError) as e:
        enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=enforced)
    assert code(e) == ("InvalidBucketAclWithObjectOwnership", 400)


def test_other_origins(node, s3, bucket):
    url = f"{node.endpoint}/{bucket}/k"
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    answer = requests.options(url, headers=ask)
    assert answer.status_code == 403 and "CORS is not enabled" in answer.text
    with pytest.raises(ClientError) as e:
        s3.get_bucket_cors(Bucket=bucket)
    assert code(e) == ("NoSuchCORSConfiguration", 404)
    rule = {
        "AllowedOrigins": ["https://*.example"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 300,
    }
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [rule]
    answer = requests.options(url, headers={**ask, "Access-Control-Request-Headers": "x-amz-date"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "GET, PUT"
    assert answer.headers["access-control-allow-headers"] == "x-amz-date"
    assert answer.headers["access-control-max-age"] == "300"
    assert requests.options(url, headers={**ask, "Origin": "https://else.where"}).status_code == 403
    assert requests.options(url).status_code == 400
    # About a URL that is signed, and then with it.
    signed = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    assert requests.options(signed, headers=ask).status_code == 200
    answer = requests.put(signed, data=b"from a page", headers={"Origin": "https://app.example"})
    assert answer.status_code == 200 and answer.headers["access-control-expose-headers"] == "ETag"
    # Refusals say it too, or the page could not read them.
    answer = requests.get(url, headers={"Origin": "https://app.example"})
    assert answer.status_code == 403 and answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in requests.get(url, headers={"Origin": "https://no.where"}).headers
    s3.delete_bucket_cors(Bucket=bucket)
    assert requests.options(url, headers=ask).status_code == 403


def test_access_logs(tmp_path):
    configuration = tmp_path / "hawker.yaml"
    configuration.write_text("s3:\n  access_log_pause_ms: 200\n")
    with running(tmp_path / "data", "--config", configuration) as node:
        s3 = node.client("s3")
        for name in ["source", "logs"]:
            s3.create_bucket(Bucket=f"{name}-of-access")
        enabled = {"TargetBucket": "logs-of-access", "TargetPrefix": "access/", "TargetObjectKeyFormat": {"SimplePrefix": {}}}
        with pytest.raises(ClientError) as e:
            absent = {"LoggingEnabled": {**enabled, "TargetBucket": "absent-of-access"}}
            s3.put_bucket_logging(Bucket="source-of-access", BucketLoggingStatus=absent)
        assert code(e) == ("InvalidTargetBucketForLogging", 400)
        delivery = {"Action": "s3:PutObject", "Principal": {"Service": "logging.s3.amazonaws.com"}}
        s3.put_bucket_policy(Bucket="logs-of-access", Policy=policy("logs-of-access", delivery))
        s3.put_bucket_logging(Bucket="source-of-access", BucketLoggingStatus={"LoggingEnabled": enabled})
        assert s3.get_bucket_logging(Bucket="source-of-access")["LoggingEnabled"] == enabled
        s3.put_object(Bucket="source-of-access", Key="a b", Body=b"hello")
        s3.get_object(Bucket="source-of-access", Key="a b")["Body"].read()
        with pytest.raises(ClientError):
            s3.get_object(Bucket="source-of-access", Key="absent")
        s3.copy_object(Bucket="source-of-access", Key="copy", CopySource="source-of-access/a b")
        forged = {"Key": "x", "VersionId": "null\nFORGED - - -"}
        s3.delete_objects(Bucket="source-of-access", Delete={"Objects": [{"Key": "copy"}, {"Key": "c"}, forged]})

        def lines():
            found = []
            for o in s3.list_objects_v2(Bucket="logs-of-access").get("Contents", []):
                assert o["Key"].startswith("access/")
                found += s3.get_object(Bucket="logs-of-access", Key=o["Key"])["Body"].read().decode().splitlines()
            return found if any("MULTI_OBJECT_DELETE" in line for line in found) else None

        found = eventually(lines)
        put = next(line for line in found if "REST.PUT.OBJECT" in line)
        assert " source-of-access [" in put and " a+b " in put and " 200 - " in put
        assert ' "PUT /source-of-access/a%20b HTTP/1.1" 200 - - 5 ' in put and " SigV4 - AuthHeader " in put
        assert any("REST.GET.OBJECT" in line and " 404 NoSuchKey " in line for line in found)
        assert any("REST.GET.OBJECT" in line and " 200 - 5 5 " in line for line in found)
        assert any("REST.COPY.OBJECT copy " in line for line in found)
        assert any("REST.COPY.OBJECT_GET a+b " in line for line in found)
        assert not any(line.startswith("FORGED") for line in found)
        assert sum("BATCH.DELETE.OBJECT" in line and " 204 " in line for line in found) == 2
        s3.put_bucket_logging(Bucket="source-of-access", BucketLoggingStatus={})
        assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket="source-of-access")
