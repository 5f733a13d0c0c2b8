"""kill -9 in the middle of uploads in parts, overwrites and deletes: what was acknowledged is there and whole, what was
not is not, and nothing is left on the disk that nothing refers to."""

import hashlib
import os
import random
import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import Node, eventually

pytestmark = pytest.mark.local

PART = 5 << 20


def digest(body):
    return hashlib.sha256(body).hexdigest()


def blobs(data):
    return [path for path in (data / "blobs").rglob("*") if path.is_file() and path.parent.name != "tmp" and path.name != "lock"]


class Writer(threading.Thread):
    """Changes keys of its own, one after the other, and remembers what was acknowledged of each: the digests that its
    content may have (one, or two while a change is under way), `None` for an object that is gone."""

    def __init__(self, node, bucket, number):
        super().__init__(daemon=True)
        self.s3 = node.client("s3")
        self.bucket, self.number = bucket, number
        self.random = random.Random(number * 1000 + int.from_bytes(os.urandom(2), "big"))
        self.states = {}
        self.acknowledged = 0

    def run(self):
        try:
            while True:
                self.step()
        except (ClientError, BotoCoreError, OSError):
            pass  # The node is gone.

    def step(self):
        key = f"{self.number}/{self.random.randrange(6)}"
        before = self.states.get(key, {None})
        kind = self.random.choice(["small", "large", "parts", "delete", "abandon"])
        where = {"Bucket": self.bucket, "Key": key}
        if kind == "delete":
            self.states[key] = before | {None}
            self.s3.delete_object(**where)
            self.states[key] = {None}
        elif kind in ("small", "large"):
            body = os.urandom(1000 if kind == "small" else 300_000)
            self.states[key] = before | {digest(body)}
            self.s3.put_object(Body=body, **where)
            self.states[key] = {digest(body)}
        else:
            upload = {**where, "UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
            bodies = [os.urandom(PART), os.urandom(1000)]
            tags = [self.s3.upload_part(PartNumber=n, Body=b, **upload)["ETag"] for n, b in enumerate(bodies, 1)]
            if kind == "parts":
                whole = digest(b"".join(bodies))
                self.states[key] = before | {whole}
                parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
                self.s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
                self.states[key] = {whole}
        self.acknowledged += 1


def content(s3, bucket, key):
    try:
        return digest(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchKey", error
        return None


@pytest.mark.parametrize("versioned", [False, True])
def test_crashes_lose_nothing_and_leave_nothing(tmp_path, versioned):
    node = Node(tmp_path / "data").start()
    try:
        s3 = node.client("s3")
        s3.create_bucket(Bucket="crash")
        if versioned:
            s3.put_bucket_versioning(Bucket="crash", VersioningConfiguration={"Status": "Enabled"})
        known = {}
        for _ in range(3):
            writers = [Writer(node, "crash", number) for number in range(4)]
            for writer in writers:
                writer.states = {k: v for k, v in known.items() if k.startswith(f"{writer.number}/")}
                writer.start()
            eventually(lambda: sum(writer.acknowledged for writer in writers) >= 40, timeout=120)
            node.kill()
            for writer in writers:
                writer.join(60)
                known.update(writer.states)
            node.start()
            s3 = node.client("s3")
            for key, may_be in known.items():
                found = content(s3, "crash", key)
                assert found in may_be, key
                known[key] = {found}
        # Without objects and uploads, there is nothing on the disk.
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket="crash"):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(Bucket="crash", Key=upload["Key"], UploadId=upload["UploadId"])
        for page in s3.get_paginator("list_object_versions").paginate(Bucket="crash"):
            for version in page.get("Versions", []) + page.get("DeleteMarkers", []):
                s3.delete_object(Bucket="crash", Key=version["Key"], VersionId=version["VersionId"])
        s3.delete_bucket(Bucket="crash")
        eventually(lambda: not blobs(tmp_path / "data"), timeout=90, interval=0.5)
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()
