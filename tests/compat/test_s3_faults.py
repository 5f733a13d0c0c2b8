"""Disks that fail while objects are written, read and removed: errors that say so, never a half object, nothing left.

The faults are real to the node: a library between it and the kernel makes its writes and syncs fail (faults.c)."""

import contextlib
import errno
import os
import pathlib
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import Node, eventually, running

pytestmark = pytest.mark.local

HERE = pathlib.Path(__file__).parent
LARGE = 300_000
PART = 5 << 20


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    built = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, HERE / "faults.c", "-ldl"], check=True)
    return built


class Disk:
    """A node on a disk that can fail."""

    def __init__(self, library, path, *options, env=None):
        self.control = path / "faults"
        self.control.write_text("")
        self.data = path / "data"
        env = {"LD_PRELOAD": str(library), "FAULTS": str(self.control), **(env or {})}
        self.node = Node(self.data, *options, env=env).start()
        self.s3 = self.node.client("s3")
        self.s3.create_bucket(Bucket="bucket")

    @contextlib.contextmanager
    def failing(self, *faults):
        self.control.write_text("".join(f"{call} {part} {outcome}\n" for call, part, outcome in faults))
        try:
            yield
        finally:
            self.control.write_text("")

    def restart(self, crash=False):
        if crash:
            self.node.kill()
        else:
            self.node.stop()
        self.node.start()
        self.s3 = self.node.client("s3")

    def put(self, key, size):
        body = os.urandom(size)
        self.s3.put_object(Bucket="bucket", Key=key, Body=body)
        return body

    def get(self, key):
        return self.s3.get_object(Bucket="bucket", Key=key)["Body"].read()

    def files(self):
        """Blobs, and what is on its way to be one."""
        files = [path for path in (self.data / "blobs").rglob("*") if path.is_file() and path.name != "lock"]
        return len(files)

    def refused(self, call, *args, **kwargs):
        with pytest.raises(ClientError) as error:
            call(*args, **kwargs)
        answer = error.value.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]

    def is_empty_without_objects(self):
        """What the collector leaves once nothing refers to anything."""
        for page in self.s3.get_paginator("list_multipart_uploads").paginate(Bucket="bucket"):
            for upload in page.get("Uploads", []):
                self.s3.abort_multipart_upload(Bucket="bucket", Key=upload["Key"], UploadId=upload["UploadId"])
        for entry in self.s3.list_objects_v2(Bucket="bucket").get("Contents", []):
            self.s3.delete_object(Bucket="bucket", Key=entry["Key"])
        eventually(lambda: self.files() == 0, timeout=90, interval=0.2)


@pytest.fixture
def disk(library, tmp_path):
    disk = Disk(library, tmp_path)
    yield disk
    disk.control.write_text("")
    if disk.node.process.poll() is None:
        disk.node.stop()


FULL, BROKEN = errno.ENOSPC, errno.EIO


def test_short_writes_are_completed(disk):
    with disk.failing(("write", "/blobs/", "short"), ("write", "/store/", "short")):
        bodies = {f"{size}": disk.put(f"{size}", size) for size in [0, 10, 60_000, LARGE, 3_000_001]}
        for key, body in bodies.items():
            assert disk.get(key) == body
    disk.restart(crash=True)
    for key, body in bodies.items():
        assert disk.get(key) == body
    disk.is_empty_without_objects()


@pytest.mark.parametrize(
    "fault, answer",
    [
        (("write", "/blobs/", FULL), ("ServiceUnavailable", 503)),
        (("write", "/blobs/", errno.EDQUOT), ("ServiceUnavailable", 503)),
        (("write", "/blobs/", BROKEN), ("InternalError", 500)),
        (("sync", "/blobs/tmp/", BROKEN), ("InternalError", 500)),
        (("sync", "/blobs/tmp/", FULL), ("ServiceUnavailable", 503)),
        # Of the directory, once the blob has its name.
        (("sync", "/blobs/!/blobs/tmp/", BROKEN), ("InternalError", 500)),
    ],
)
def test_what_the_disk_refuses_is_not_half_there(disk, fault, answer):
    old, other = disk.put("old", LARGE), disk.put("other", LARGE)
    upload = {"Bucket": "bucket", "Key": "parts"}
    upload["UploadId"] = disk.s3.create_multipart_upload(**upload)["UploadId"]
    with disk.failing(fault):
        for key in ["old", "new"]:
            assert disk.refused(disk.s3.put_object, Bucket="bucket", Key=key, Body=os.urandom(LARGE)) == answer
        assert disk.refused(disk.s3.upload_part, PartNumber=1, Body=os.urandom(PART), **upload) == answer
        assert disk.refused(disk.s3.copy_object, Bucket="bucket", Key="new", CopySource="bucket/other") == answer
        # What fits into the store goes on, and so do reads.
        small = disk.put("small", 100)
        assert disk.get("old") == old and disk.get("small") == small
    assert [o["Key"] for o in disk.s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["old", "other", "small"]
    assert "Parts" not in disk.s3.list_parts(**upload)
    # Nothing is broken for good.
    new = disk.put("new", LARGE)
    part = disk.s3.upload_part(PartNumber=1, Body=new, **upload)
    disk.s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}, **upload)
    assert disk.get("new") == new and disk.get("parts") == new and disk.get("old") == old and disk.get("other") == other
    eventually(lambda: disk.files() == 4, timeout=90, interval=0.2)
    disk.restart(crash=True)
    assert disk.get("new") == new and disk.get("old") == old
    disk.is_empty_without_objects()


@pytest.mark.parametrize("call, code", [("sync", BROKEN), ("write", BROKEN), ("write", FULL)])
def test_a_store_that_fails_acknowledges_nothing(disk, call, code):
    kept = {key: disk.put(key, size) for key, size in [("small", 100), ("large", LARGE)]}
    upload = {"Bucket": "bucket", "Key": "parts"}
    upload["UploadId"] = disk.s3.create_multipart_upload(**upload)["UploadId"]
    part = os.urandom(PART)
    tag = disk.s3.upload_part(PartNumber=1, Body=part, **upload)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    with disk.failing((call, "/store/", code)):
        # What was refused first may have got as far as the page cache: its outcome is not known.
        refused = os.urandom(100)
        for body in (refused, os.urandom(LARGE)):
            name, status = disk.refused(disk.s3.put_object, Bucket="bucket", Key="small", Body=body)
            assert (name, status) in [("InternalError", 500), ("ServiceUnavailable", 503)]
        assert disk.refused(disk.s3.complete_multipart_upload, MultipartUpload=parts, **upload)[1] in (500, 503)
        assert disk.refused(disk.s3.delete_object, Bucket="bucket", Key="large")[1] in (500, 503)
        for key, body in kept.items():
            assert disk.get(key) == body
    disk.restart(crash=True)
    assert disk.get("small") in (kept["small"], refused) and disk.get("large") == kept["large"]
    assert disk.refused(disk.s3.get_object, Bucket="bucket", Key="parts") == ("NoSuchKey", 404)
    disk.s3.complete_multipart_upload(MultipartUpload=parts, **upload)
    assert disk.get("parts") == part
    disk.is_empty_without_objects()


def blob(disk):
    (path,) = [path for path in (disk.data / "blobs").rglob("*") if path.is_file() and path.name != "lock"]
    return path


def fails(disk, key):
    """Reading it ends in an error, before the answer begins or in the middle of it."""
    try:
        answer = disk.s3.get_object(Bucket="bucket", Key=key)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InternalError"
        return True
    except BotoCoreError:
        # What was begun of the answer was not sent yet.
        return True
    with pytest.raises(BotoCoreError):
        answer["Body"].read()
    return True


@pytest.mark.parametrize("damage", ["flipped first", "flipped last", "cut", "gone", "unreadable"])
def test_what_can_not_be_read_is_not_served(disk, damage):
    body = disk.put("k", LARGE)
    path = blob(disk)
    whole = path.read_bytes()
    match damage:
        case "flipped first":
            path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        case "flipped last":
            at = LARGE - 1
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        case "cut":
            path.write_bytes(whole[:-1])
        case "gone":
            path.unlink()
        case "unreadable":
            # Even for the superuser.
            path.unlink()
            path.mkdir()
    assert fails(disk, "k")
    if damage.startswith("flipped"):
        # The rest of it is still there to be had.
        start, end = (0, 1000) if damage == "flipped last" else (LARGE - 1000, LARGE)
        got = disk.s3.get_object(Bucket="bucket", Key="k", Range=f"bytes={start}-{end - 1}")["Body"].read()
        assert got == body[start:end]
    # A copy would spread it.
    assert disk.refused(disk.s3.copy_object, Bucket="bucket", Key="copy", CopySource="bucket/k")[1] == 500
    assert [o["Key"] for o in disk.s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["k"]
    if path.is_dir():
        path.rmdir()
    if damage != "gone" and damage != "unreadable":
        path.write_bytes(whole)
        assert disk.get("k") == body
    disk.is_empty_without_objects()


def test_a_full_disk_under_uploads_to_a_bucket(library, tmp_path):
    """Where objects are in a bucket elsewhere, what clients send waits on the disk."""
    with running(tmp_path / "elsewhere") as elsewhere:
        far = elsewhere.client("s3")
        far.create_bucket(Bucket="blobs")
        place = f"s3://blobs/p?endpoint={elsewhere.endpoint}&region=us-east-1"
        keys = {"AWS_ACCESS_KEY_ID": elsewhere.access_key_id, "AWS_SECRET_ACCESS_KEY": elsewhere.secret_access_key}
        disk = Disk(library, tmp_path, "--blobs", place, env=keys)
        try:
            with disk.failing(("write", "/spool/", "short")):
                body = disk.put("k", 20 << 20)
            for fault in [("write", "/spool/", FULL), ("write", "/spool/", BROKEN)]:
                with disk.failing(fault):
                    answer = ("ServiceUnavailable", 503) if fault[2] == FULL else ("InternalError", 500)
                    assert disk.refused(disk.s3.put_object, Bucket="bucket", Key="k", Body=os.urandom(LARGE)) == answer
                    assert disk.get("k") == body
            disk.s3.delete_object(Bucket="bucket", Key="k")

            def names():
                return [o["Key"] for o in far.list_objects_v2(Bucket="blobs").get("Contents", [])]

            eventually(lambda: names() == ["p/hawker-blobs"], timeout=90, interval=0.2)
            assert "Uploads" not in far.list_multipart_uploads(Bucket="blobs")
        finally:
            disk.control.write_text("")
            disk.node.stop()
