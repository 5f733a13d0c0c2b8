"""Versions of objects, with boto3 and the AWS CLI."""

import os

import pytest
from botocore.exceptions import ClientError
from conftest import unique


@pytest.fixture
def s3(node):
    return node.client("s3")


def empty(s3, name):
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        if found:
            objects = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in found]
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": objects})
            assert not answer.get("Errors")


@pytest.fixture
def bucket(s3):
    name = unique("versions")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


def listed(s3, bucket, **arguments):
    """(key, version, latest, marker), by key and then newest first."""
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **arguments):
        for name in ["Versions", "DeleteMarkers"]:
            found += [(v["Key"], v["VersionId"], v["IsLatest"], name == "DeleteMarkers") for v in page.get(name, [])]
    return found


def test_a_bucket_begins_without(s3):
    name = unique("unversioned")
    s3.create_bucket(Bucket=name)
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    assert "VersionId" not in s3.put_object(Bucket=name, Key="k", Body=b"null")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    one = s3.put_object(Bucket=name, Key="k", Body=b"one")["VersionId"]
    assert s3.get_object(Bucket=name, Key="k", VersionId="null")["Body"].read() == b"null"
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=name, Key="k", Body=b"null again")
    assert sorted(v[1] for v in listed(s3, name)) == sorted([one, "null"])
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"null again"
    with pytest.raises(ClientError) as e:
        s3.delete_bucket(Bucket=name)
    assert code(e) == ("BucketNotEmpty", 409)
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


def test_versions_and_markers(s3, bucket):
    versions = [s3.put_object(Bucket=bucket, Key="k", Body=str(n).encode())["VersionId"] for n in range(3)]
    for n, version in enumerate(versions):
        got = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert got["Body"].read() == str(n).encode() and got["VersionId"] == version
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == versions[-1]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k")
    assert code(e) == ("NoSuchKey", 404)
    assert e.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert code(e) == ("MethodNotAllowed", 405)
    assert listed(s3, bucket) == [
        *(("k", version, False, False) for version in reversed(versions)),
        ("k", marker["VersionId"], True, True),
    ]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert gone["DeleteMarker"] and gone["VersionId"] == marker["VersionId"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=versions[2])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", VersionId=versions[2])
    assert code(e) == ("NoSuchVersion", 404)


def test_pages_of_versions(s3, bucket):
    expected = []
    for key in ["a/1", "a/2", "b", "c"]:
        of_key = [s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"] for _ in range(4)]
        expected += [(key, version) for version in reversed(of_key)]
    for size in [1, 3, 1000]:
        got = listed(s3, bucket, PaginationConfig={"PageSize": size})
        assert [v[:2] for v in got] == expected
        assert [v[0] for v in got if v[2]] == ["a/1", "a/2", "b", "c"]
    page = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["a/"]
    assert {v["Key"] for v in page["Versions"]} == {"b", "c"}


def test_copies_tags_and_attributes_of_versions(s3, bucket):
    one = s3.put_object(Bucket=bucket, Key="k", Body=b"one", Tagging="n=1")["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"two!")
    source = {"Bucket": bucket, "Key": "k", "VersionId": one}
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == one and copied["VersionId"] != one
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"
    s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=one, Tagging={"TagSet": [{"Key": "n", "Value": "2"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=one)["TagSet"] == [{"Key": "n", "Value": "2"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "n", "Value": "1"}]
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=one, ObjectAttributes=["ObjectSize"])
    assert attributes["ObjectSize"] == 3 and attributes["VersionId"] == one


def test_multipart_uploads_make_versions(s3, bucket):
    versions = []
    for n in range(2):
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        whole = {"Bucket": bucket, "Key": "k", "UploadId": upload}
        part = s3.upload_part(PartNumber=1, Body=bytes([n]) * 100_000, **whole)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        done = s3.complete_multipart_upload(MultipartUpload=parts, **whole)
        assert done["VersionId"] == s3.complete_multipart_upload(MultipartUpload=parts, **whole)["VersionId"]
        versions.append(done["VersionId"])
    for n, version in enumerate(versions):
        body = s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read()
        assert body == bytes([n]) * 100_000


def test_conditions_are_on_the_current_version(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfMatch=etag)
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"three", IfMatch=etag)
    assert code(e) == ("PreconditionFailed", 412)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfNoneMatch="*")


@pytest.mark.local
def test_the_cli_removes_and_restores(node, s3, bucket, tmp_path):
    for n in range(3):
        (tmp_path / "f").write_bytes(os.urandom(1000 + n))
        node.aws("s3", "cp", tmp_path / "f", f"s3://{bucket}/f")
    node.aws("s3", "rm", f"s3://{bucket}/f")
    node.aws("s3", "ls", f"s3://{bucket}/f", check=False)
    (marker,) = [v for v in listed(s3, bucket) if v[3]]
    node.aws("s3api", "delete-object", "--bucket", bucket, "--key", "f", "--version-id", marker[1])
    node.aws("s3", "cp", f"s3://{bucket}/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "f").read_bytes()


@pytest.mark.local
def test_rights_to_versions_are_their_own(node, s3, bucket):
    import json

    iam = node.client("iam")
    name = unique("reader")
    iam.create_user(UserName=name)
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}],
    }
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    reader = node.client("s3", **iam.create_access_key(UserName=name)["AccessKey"])
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    assert reader.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    with pytest.raises(ClientError) as e:
        reader.get_object(Bucket=bucket, Key="k", VersionId=version)
    assert code(e) == ("AccessDenied", 403) and "s3:GetObjectVersion" in str(e.value)
