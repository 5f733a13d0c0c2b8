"""Uploads in parts, to their limits, with boto3."""

import base64
import concurrent.futures
import hashlib
import os
import zlib

import pytest
from botocore.exceptions import ClientError
from conftest import unique

PART = 5 << 20


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("parts")
    s3.create_bucket(Bucket=name)
    yield name
    for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        if keys := [{"Key": o["Key"]} for o in page.get("Contents", [])]:
            s3.delete_objects(Bucket=name, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=name)


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


def begin(s3, bucket, key="k", **arguments):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **arguments)["UploadId"]
    return {"Bucket": bucket, "Key": key, "UploadId": upload}


def test_parts_come_in_any_order_and_again(s3, bucket):
    upload = begin(s3, bucket)
    bodies = {n: os.urandom(PART + n) for n in (3, 7, 10_000)}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for n in (10_000, 3, 7):
            pool.submit(s3.upload_part, PartNumber=n, Body=b"overwritten" * 10, **upload).result()
        tags = dict(pool.map(
            lambda n: (n, s3.upload_part(PartNumber=n, Body=bodies[n], **upload)["ETag"]), (10_000, 3, 7)
        ))
    parts = [{"PartNumber": n, "ETag": tags[n]} for n in sorted(tags)]
    with pytest.raises(ClientError) as e:
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts[::-1]}, **upload)
    assert code(e) == ("InvalidPartOrder", 400)
    with pytest.raises(ClientError) as e:
        wrong = [{**parts[0], "ETag": '"0"'}, *parts[1:]]
        s3.complete_multipart_upload(MultipartUpload={"Parts": wrong}, **upload)
    assert code(e) == ("InvalidPart", 400)
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    digests = b"".join(hashlib.md5(bodies[n]).digest() for n in sorted(bodies))
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    whole = b"".join(bodies[n] for n in sorted(bodies))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == whole
    for n, body in bodies.items():
        part = s3.get_object(Bucket=bucket, Key="k", PartNumber=n)
        assert part["Body"].read() == body and part["PartsCount"] == 3
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=3)["ContentLength"] == PART + 3
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert code(e)[1] == 416
    for number in (0, 10_001):
        with pytest.raises(ClientError) as e:
            s3.upload_part(PartNumber=number, Body=b"", **begin(s3, bucket, "other"))
        assert code(e) == ("InvalidArgument", 400)


def test_pages_of_many_parts(s3, bucket):
    upload = begin(s3, bucket)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: s3.upload_part(PartNumber=n * 9, Body=b"x" * n, **upload), range(1, 1102)))
    numbers, sizes = [], []
    for page in s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 500}):
        numbers += [part["PartNumber"] for part in page["Parts"]]
        sizes += [part["Size"] for part in page["Parts"]]
    assert numbers == [n * 9 for n in range(1, 1102)] and sizes == list(range(1, 1102))
    first = s3.list_parts(**upload, MaxParts=1)
    assert first["IsTruncated"] and first["NextPartNumberMarker"] == 9
    parts = [{"PartNumber": n, "ETag": p["ETag"]} for n, p in zip(numbers, s3.list_parts(**upload)["Parts"])]
    with pytest.raises(ClientError) as e:
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts[:2]}, **upload)
    assert code(e) == ("EntityTooSmall", 400)
    s3.abort_multipart_upload(**upload)
    with pytest.raises(ClientError) as e:
        s3.list_parts(**upload)
    assert code(e) == ("NoSuchUpload", 404)


@pytest.mark.parametrize(("algorithm", "kind"), [("SHA256", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")])
def test_checksums_of_the_whole(s3, bucket, algorithm, kind):
    def of(body):
        digest = hashlib.sha256(body).digest() if algorithm == "SHA256" else zlib.crc32(body).to_bytes(4, "big")
        return digest

    upload = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    bodies = [os.urandom(PART), os.urandom(100)]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(PartNumber=number, Body=body, ChecksumAlgorithm=algorithm, **upload)
        assert part[f"Checksum{algorithm}"] == base64.b64encode(of(body)).decode()
        parts.append({"PartNumber": number, "ETag": part["ETag"], f"Checksum{algorithm}": part[f"Checksum{algorithm}"]})
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, ChecksumType=kind, **upload)
    if kind == "COMPOSITE":
        expected = base64.b64encode(of(b"".join(of(body) for body in bodies))).decode() + "-2"
    else:
        expected = base64.b64encode(of(b"".join(bodies))).decode()
    assert done[f"Checksum{algorithm}"] == expected and done["ChecksumType"] == kind
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
    )
    assert attributes["ObjectSize"] == PART + 100 and attributes["ObjectParts"]["TotalPartsCount"] == 2
    assert attributes["Checksum"][f"Checksum{algorithm}"] == expected.removesuffix("-2")
    if kind == "COMPOSITE":
        assert [part["Size"] for part in attributes["ObjectParts"]["Parts"]] == [PART, 100]


def test_parts_are_copied(s3, bucket):
    body = os.urandom(2 * PART + 5)
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    upload = begin(s3, bucket)
    source = {"Bucket": bucket, "Key": "source"}
    first = s3.upload_part_copy(PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{PART - 1}", **upload)
    second = s3.upload_part_copy(PartNumber=2, CopySource=source, CopySourceRange=f"bytes={PART}-{2 * PART + 4}", **upload)
    tags = [answer["CopyPartResult"]["ETag"] for answer in (first, second)]
    assert tags[0] == f'"{hashlib.md5(body[:PART]).hexdigest()}"'
    for bad in ("bytes=0-99999999", "bytes=-5", "0-5"):
        with pytest.raises(ClientError) as e:
            s3.upload_part_copy(PartNumber=3, CopySource=source, CopySourceRange=bad, **upload)
        assert code(e) == ("InvalidArgument", 400)
    with pytest.raises(ClientError) as e:
        s3.upload_part_copy(PartNumber=3, CopySource=source, CopySourceIfMatch='"0"', **upload)
    assert code(e) == ("PreconditionFailed", 412)
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_uploads_are_listed(s3, bucket):
    for key in ["a/1", "a/2", "b", "b"]:
        begin(s3, bucket, key)
    listed = []
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}):
        listed += [upload["Key"] for upload in page.get("Uploads", [])]
    assert listed == ["a/1", "a/2", "b", "b"]
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["a/"]
    assert [upload["Key"] for upload in page["Uploads"]] == ["b", "b"]
