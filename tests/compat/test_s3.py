"""Objects, with boto3 and the AWS CLI."""

import base64
import concurrent.futures
import datetime
import hashlib
import io
import os
import zlib

import pytest
import requests
from botocore.exceptions import ClientError
from conftest import ACCOUNT, unique


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("objects")
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


def test_buckets(s3, bucket):
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    with pytest.raises(ClientError) as e:
        s3.head_bucket(Bucket=unique("absent"))
    assert code(e)[1] == 404
    for bad in ["UPPER-case", "a_b_c", "192.168.0.1", "xn--abc"]:
        with pytest.raises(ClientError) as e:
            s3.create_bucket(Bucket=bad)
        assert code(e) == ("InvalidBucketName", 400)
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError) as e:
        s3.delete_bucket(Bucket=bucket)
    assert code(e) == ("BucketNotEmpty", 409)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 3])
def test_object_round_trip(s3, bucket, size):
    body = os.urandom(size)
    put = s3.put_object(
        Bucket=bucket, Key="dir/a b+c&ü.bin", Body=body, ContentType="image/x-test", CacheControl="no-cache",
        Metadata={"camera": "Kodak", "n": "1"},
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="dir/a b+c&ü.bin", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size
    assert got["ContentType"] == "image/x-test" and got["CacheControl"] == "no-cache"
    assert got["Metadata"] == {"camera": "Kodak", "n": "1"}
    crc32 = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert got.get("ChecksumCRC32") == crc32
    head = s3.head_object(Bucket=bucket, Key="dir/a b+c&ü.bin")
    assert head["ETag"] == put["ETag"] and head["ContentLength"] == size


@pytest.mark.parametrize("size", [100, 200_000])
def test_ranges(s3, bucket, size):
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for header, expected in [
        ("bytes=0-0", body[:1]),
        ("bytes=10-19", body[10:20]),
        ("bytes=-7", body[-7:]),
        (f"bytes=50-{size * 2}", body[50:]),
        ("bytes=70-", body[70:]),
    ]:
        got = s3.get_object(Bucket=bucket, Key="k", Range=header)
        assert got["Body"].read() == expected and got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"].endswith(f"/{size}")
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size}-")
    assert code(e) == ("InvalidRange", 416)


def test_conditions(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"one"
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"x"')
    assert code(e) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert code(e)[1] == 304
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfModifiedSince=later - datetime.timedelta(minutes=59, seconds=30))
    assert code(e)[1] == 304
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfNoneMatch="*")
    assert code(e) == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfMatch=etag)
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"three", IfMatch=etag)
    assert code(e) == ("PreconditionFailed", 412)


def test_one_of_many_creates(s3, bucket):
    def create(i):
        try:
            s3.put_object(Bucket=bucket, Key="lock", Body=str(i), IfNoneMatch="*")
            return i
        except ClientError as e:
            assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        winners = [i for i in pool.map(create, range(32)) if i is not None]
    assert len(winners) == 1
    assert s3.get_object(Bucket=bucket, Key="lock")["Body"].read() == str(winners[0]).encode()


def test_absent(s3, bucket):
    for call in (s3.get_object, s3.head_object):
        with pytest.raises(ClientError) as e:
            call(Bucket=bucket, Key="absent")
        assert code(e)[1] == 404 and code(e)[0] in ("NoSuchKey", "404")
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=unique("absent"), Key="k")
    assert code(e) == ("NoSuchBucket", 404)
    assert s3.delete_object(Bucket=bucket, Key="absent")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_listing(s3, bucket):
    keys = sorted([f"photos/{y}/{i}.jpg" for y in (2023, 2024) for i in range(7)] + ["a", "z", "photos.txt", "ü"],
                  key=lambda k: k.encode())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: s3.put_object(Bucket=bucket, Key=k, Body=k.encode()), keys))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
    assert [o["Key"] for p in pages for o in p["Contents"]] == keys
    pages = s3.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 4})
    assert [o["Key"] for p in pages for o in p["Contents"]] == keys
    top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in top["CommonPrefixes"]] == ["photos/"]
    assert [o["Key"] for o in top["Contents"]] == ["a", "photos.txt", "z", "ü"]
    assert top["KeyCount"] == 5
    years = s3.list_objects_v2(Bucket=bucket, Prefix="photos/", Delimiter="/", MaxKeys=1)
    assert years["IsTruncated"] and years["CommonPrefixes"] == [{"Prefix": "photos/2023/"}]
    years = s3.list_objects_v2(Bucket=bucket, Prefix="photos/", Delimiter="/",
                               ContinuationToken=years["NextContinuationToken"])
    assert not years["IsTruncated"] and years["CommonPrefixes"] == [{"Prefix": "photos/2024/"}]
    after = s3.list_objects_v2(Bucket=bucket, StartAfter="photos/2024/5.jpg")
    assert [o["Key"] for o in after["Contents"]] == ["photos/2024/6.jpg", "z", "ü"]


def test_multi_delete(s3, bucket):
    for key in "abc":
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in ("a", "b", "absent")]})
    assert sorted(d["Key"] for d in done["Deleted"]) == ["a", "absent", "b"]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]


@pytest.mark.parametrize("size", [10, 300_000])
def test_copy(s3, bucket, size):
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="from ü", Body=body, Metadata={"a": "1"}, ContentType="text/x")
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from ü"})
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    s3.delete_object(Bucket=bucket, Key="from ü")
    got = s3.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == body and got["Metadata"] == {"a": "1"} and got["ContentType"] == "text/x"
    s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/to", MetadataDirective="REPLACE", Metadata={"b": "2"})
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"b": "2"}
    with pytest.raises(ClientError) as e:
        s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/to")
    assert code(e) == ("InvalidRequest", 400)


def test_multipart(s3, bucket):
    parts = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(1000)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ContentType="video/x", Metadata={"m": "1"})["UploadId"]
    done = []
    for number in (3, 1, 2):
        etag = s3.upload_part(
            Bucket=bucket, Key="big", UploadId=upload, PartNumber=number, Body=parts[number - 1]
        )["ETag"]
        done.append({"PartNumber": number, "ETag": etag})
    listed = s3.list_parts(Bucket=bucket, Key="big", UploadId=upload)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in listed] == [(i + 1, len(p)) for i, p in enumerate(parts)]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="big")
    assert code(e) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as e:
        s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": done})
    assert code(e) == ("InvalidPartOrder", 400)
    done.sort(key=lambda p: p["PartNumber"])
    completed = s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": done})
    digest = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
    assert completed["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="big")
    assert got["Body"].read() == b"".join(parts) and got["ContentType"] == "video/x" and got["Metadata"] == {"m": "1"}
    middle = s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={(5 << 20) - 5}-{(5 << 20) + 4}")
    assert middle["Body"].read() == parts[0][-5:] + parts[1][:5]
    with pytest.raises(ClientError) as e:
        s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=b"x")
    assert code(e) == ("NoSuchUpload", 404)


def test_multipart_small_parts_refused_and_abort(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=b"tiny")["ETag"]}
        for n in (1, 2)
    ]
    with pytest.raises(ClientError) as e:
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert code(e) == ("EntityTooSmall", 400)
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_managed_transfer(s3, bucket):
    body = os.urandom(20 << 20)
    s3.upload_fileobj(io.BytesIO(body), bucket, "managed")
    out = io.BytesIO()
    s3.download_fileobj(bucket, "managed", out)
    assert out.getvalue() == body


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(s3, bucket, algorithm):
    if algorithm in ("CRC32C", "CRC64NVME"):
        pytest.importorskip("awscrt", reason="botocore computes these with awscrt")
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello" and got[f"Checksum{algorithm}"]


def test_wrong_digests_are_refused(s3, bucket):
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ContentMD5=base64.b64encode(hashlib.md5(b"other").digest()).decode())
    assert code(e) == ("BadDigest", 400)
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumSHA256=base64.b64encode(hashlib.sha256(b"other").digest()).decode())
    assert code(e) == ("BadDigest", 400)
    with pytest.raises(ClientError) as e:
        s3.head_object(Bucket=bucket, Key="k")
    assert code(e)[1] == 404


def test_presigned(s3, bucket):
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b.txt"}, ExpiresIn=60)
    assert requests.put(url, data=b"by url", timeout=30).status_code == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b.txt"}, ExpiresIn=60)
    assert requests.get(url, timeout=30).content == b"by url"
    forged = url.replace("a%20b.txt", "other.txt")
    answer = requests.get(forged, timeout=30)
    assert answer.status_code == 403 and "<Code>SignatureDoesNotMatch</Code>" in answer.text


def test_anonymous_is_denied(node, s3, bucket):
    endpoint = s3.meta.endpoint_url
    answer = requests.get(f"{endpoint}/{bucket}/k", timeout=30)
    assert answer.status_code == 403 and "<Code>AccessDenied</Code>" in answer.text


def test_unsupported_is_refused_by_name(s3, bucket):
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
    assert code(e)[1] in (400, 501)
    with pytest.raises(ClientError) as e:
        s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Enabled"})
    assert code(e) == ("NotImplemented", 501)


def test_notification_configuration(s3, bucket):
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:none"
    configuration = {
        "LambdaFunctionConfigurations": [
            {
                "Id": "photos",
                "LambdaFunctionArn": arn,
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".jpg"}]}},
            }
        ]
    }
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration, SkipDestinationValidation=True
    )
    got = s3.get_bucket_notification_configuration(Bucket=bucket)["LambdaFunctionConfigurations"]
    assert got[0]["Id"] == "photos" and got[0]["LambdaFunctionArn"] == arn
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "LambdaFunctionConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


@pytest.mark.local
def test_cli(node, bucket, tmp_path):
    source = tmp_path / "tree"
    for i in range(20):
        path = source / f"d{i % 3}" / f"{i}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(i * 1000))
        # Older than its object by more than the second that S3 tells times in: so it is not sent again.
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (source / "big.bin").write_bytes(os.urandom(12 << 20))
    os.utime(source / "big.bin", (1_700_000_000, 1_700_000_000))
    node.aws("s3", "sync", source, f"s3://{bucket}/tree", "--only-show-errors")
    listing = node.aws("s3", "ls", "--recursive", f"s3://{bucket}/tree").stdout.splitlines()
    assert len(listing) == 21
    back = tmp_path / "back"
    node.aws("s3", "sync", f"s3://{bucket}/tree", back, "--only-show-errors")
    for path in source.rglob("*.bin"):
        assert (back / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert node.aws("s3", "sync", source, f"s3://{bucket}/tree").stdout == ""
    node.aws("s3", "rm", "--recursive", f"s3://{bucket}/tree", "--only-show-errors")
    assert node.aws("s3", "ls", f"s3://{bucket}/", check=False).stdout == ""
