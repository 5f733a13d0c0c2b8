"""Encryption at rest, with boto3 and the AWS CLI."""

import base64
import hashlib
import os
import stat

import pytest
from botocore.exceptions import ClientError
from conftest import running, unique


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("sealed")
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        if keys := [{"Key": o["Key"]} for o in page.get("Contents", [])]:
            s3.delete_objects(Bucket=name, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=name)


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", [0, 10, 65_536, 1 << 20])
def test_every_object_is_encrypted(s3, bucket, size):
    body = os.urandom(size)
    for arguments in [{}, {"ServerSideEncryption": "AES256"}]:
        put = s3.put_object(Bucket=bucket, Key="k", Body=body, **arguments)
        assert put["ServerSideEncryption"] == "AES256"
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket=bucket, Key="k")
        assert got["ServerSideEncryption"] == "AES256" and got["Body"].read() == body
        assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


def test_default_encryption(s3, bucket):
    def rule():
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        return rule["ApplyServerSideEncryptionByDefault"], rule["BucketKeyEnabled"]

    assert rule() == ({"SSEAlgorithm": "AES256"}, False)
    configuration = {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}]
    }
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=configuration)
    assert rule() == ({"SSEAlgorithm": "AES256"}, True)
    s3.delete_bucket_encryption(Bucket=bucket)
    assert rule() == ({"SSEAlgorithm": "AES256"}, False)


@pytest.mark.local
def test_double_encryption_is_refused(s3, bucket):
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="aws:kms:dsse")
    assert code(e) == ("NotImplemented", 501) and "aws:kms:dsse" in str(e.value)
    configuration = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}}]}
    with pytest.raises(ClientError) as e:
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=configuration)
    assert code(e) == ("NotImplemented", 501)


@pytest.mark.local  # AWS takes these keys over TLS only.
@pytest.mark.parametrize("size", [5, 200_000, (6 << 20) + 1])
def test_customer_keys(s3, bucket, size):
    body, key = os.urandom(size), os.urandom(32)
    with_key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **with_key)
    assert put["SSECustomerAlgorithm"] == "AES256"
    assert put["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(key).digest()).decode()
    assert "ServerSideEncryption" not in put
    got = s3.get_object(Bucket=bucket, Key="k", **with_key)
    assert got["Body"].read() == body and got["SSECustomerAlgorithm"] == "AES256"
    part = s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-3", **with_key)
    assert part["Body"].read() == body[2:4]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k")
    assert code(e) == ("InvalidRequest", 400)
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", SSECustomerAlgorithm="AES256", SSECustomerKey=os.urandom(32))
    assert code(e) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as e:
        s3.head_object(Bucket=bucket, Key="k")
    assert code(e)[1] == 400
    other = os.urandom(32)
    s3.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"},
        CopySourceSSECustomerAlgorithm="AES256", CopySourceSSECustomerKey=key,
        SSECustomerAlgorithm="AES256", SSECustomerKey=other,
    )
    got = s3.get_object(Bucket=bucket, Key="copy", SSECustomerAlgorithm="AES256", SSECustomerKey=other)
    assert got["Body"].read() == body


@pytest.mark.local
def test_customer_keys_in_parts(s3, bucket):
    with_key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k", **with_key)
    assert begun["SSECustomerAlgorithm"] == "AES256"
    whole = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    bodies = [os.urandom(5 << 20), os.urandom(77)]
    with pytest.raises(ClientError) as e:
        s3.upload_part(PartNumber=1, Body=bodies[0], **whole)
    assert code(e) == ("InvalidRequest", 400)
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(PartNumber=number, Body=body, **whole, **with_key)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **whole)
    assert s3.get_object(Bucket=bucket, Key="k", **with_key)["Body"].read() == b"".join(bodies)
    assert s3.get_object(Bucket=bucket, Key="k", PartNumber=2, **with_key)["Body"].read() == bodies[1]


@pytest.mark.local
def test_the_cli_asks_for_encryption(node, s3, bucket, tmp_path):
    body = os.urandom(9 << 20)
    (tmp_path / "a").write_bytes(body)
    node.aws("s3", "cp", tmp_path / "a", f"s3://{bucket}/a", "--sse", "AES256")
    node.aws("s3", "cp", f"s3://{bucket}/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == body
    (tmp_path / "key").write_bytes(os.urandom(32))
    customer = ["--sse-c", "AES256", "--sse-c-key", f"fileb://{tmp_path / 'key'}"]
    node.aws("s3", "cp", tmp_path / "a", f"s3://{bucket}/c", *customer)
    assert node.aws("s3", "cp", f"s3://{bucket}/c", tmp_path / "c", check=False).returncode != 0
    node.aws("s3", "cp", f"s3://{bucket}/c", tmp_path / "c", *customer)
    assert (tmp_path / "c").read_bytes() == body


@pytest.mark.local
def test_what_is_on_disk_is_not_what_was_sent(tmp_path):
    data = tmp_path / "data"
    needle = b"it must not be found on the disk of this node"
    with running(data) as node:
        s3 = node.client("s3")
        s3.create_bucket(Bucket="sealed")
        s3.put_object(Bucket="sealed", Key="small", Body=needle)
        s3.put_object(Bucket="sealed", Key="large", Body=needle * 10_000)
    key = data / "keys/objects.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for path in data.rglob("*"):
        assert not path.is_file() or needle not in path.read_bytes(), path
    # The key is not made anew where there is something that it has to open.
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(RuntimeError, match="put that file back"):
        with running(data):
            pass
    key.write_bytes(kept)
    key.chmod(0o644)
    with pytest.raises(RuntimeError, match="chmod 600"):
        with running(data):
            pass
    key.chmod(0o600)
    with running(data) as node:
        assert node.client("s3").get_object(Bucket="sealed", Key="small")["Body"].read() == needle
        got = node.client("s3").get_object(Bucket="sealed", Key="large", Range="bytes=-45")
        assert got["Body"].read() == needle
