"""Large objects in a bucket elsewhere (`--blobs`): of SeaweedFS, and of another node."""

import hashlib
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading

import boto3
import botocore.config
import functions
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import BINARY, Node, eventually, free_ports, peak_mib, running

pytestmark = pytest.mark.local

WEED = os.environ.get("HAWKER_TEST_WEED", pathlib.Path(sys.executable).parent / "weed")
KEYS = {"AWS_ACCESS_KEY_ID": "AKIABLOBSBLOBSBLOBS0", "AWS_SECRET_ACCESS_KEY": "blobs/secret"}
PART = 5 << 20


class Elsewhere:
    """A server of S3, and a bucket of it."""

    def __init__(self, endpoint, access_key_id, secret_access_key):
        self.endpoint = endpoint
        self.env = {
            "AWS_ACCESS_KEY_ID": access_key_id, "AWS_SECRET_ACCESS_KEY": secret_access_key, "AWS_EC2_METADATA_DISABLED": "true"
        }
        self.s3 = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id=access_key_id, aws_secret_access_key=secret_access_key,
            config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
        )

    def place(self, prefix):
        return f"s3://blobs/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    def names(self, prefix):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="blobs", Prefix=f"{prefix}/")
        return sorted(o["Key"].removeprefix(f"{prefix}/") for page in pages for o in page.get("Contents", []))

    def parts(self, upload):
        return self.s3.list_parts(Bucket="blobs", Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts", [])

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket="blobs").get("Uploads", [])


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory):
    assert pathlib.Path(WEED).exists(), f"there is no {WEED}: install tests/compat/requirements.txt"
    data = tmp_path_factory.mktemp("weed")
    names = ["s3", "master", "volume", "filer"]
    found = free_ports(2 * len(names))
    ports, others = dict(zip(names, found)), dict(zip(names, found[len(names):]))
    options = [f"-{name}.port={ports[name]}" for name in names] + [f"-{name}.port.grpc={others[name]}" for name in names]
    with open(data / "log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", WEED, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
             # Its catalogues would listen on ports that are the same for all.
             "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=32", "-master.volumeSizeLimitMB=256",
             f"-dir={data}", *options],
            env={**os.environ, **KEYS}, stdout=log, stderr=log, cwd=data,
        )
    try:
        server = Elsewhere(f"http://127.0.0.1:{ports['s3']}", *KEYS.values())

        def made():
            assert process.poll() is None, (data / "log").read_text()[-5000:]
            try:
                return server.s3.create_bucket(Bucket="blobs")
            except (ClientError, BotoCoreError):
                return None

        eventually(made, timeout=120, interval=0.2)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def another_node(tmp_path_factory):
    with running(tmp_path_factory.mktemp("another") / "data") as node:
        server = Elsewhere(node.endpoint, node.access_key_id, node.secret_access_key)
        server.s3.create_bucket(Bucket="blobs")
        yield server


@pytest.fixture(params=["seaweedfs", "another_node"])
def elsewhere(request):
    return request.getfixturevalue(request.param)


def on(elsewhere, data, prefix):
    return Node(data, "--blobs", elsewhere.place(prefix), env=elsewhere.env)


def test_objects_live_in_a_bucket_elsewhere(elsewhere, tmp_path):
    node = on(elsewhere, tmp_path / "data", "objects").start()
    s3 = node.client("s3")
    s3.create_bucket(Bucket="bucket")
    bodies = {f"{size}": os.urandom(size) for size in [10, 100_000, 1 << 20, 9 << 20, 30 << 20]}
    for key, body in bodies.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)
    names = elsewhere.names("objects")
    # The smallest is in the store; a large one leaves no trace of how it came.
    assert [name for name in names if not re.fullmatch("blobs/[0-9a-f]{32}", name)] == ["hawker-blobs"] and len(names) == 5
    assert elsewhere.uploads() == []
    for restarted in (False, True):
        if restarted:
            assert node.stop() == 0
            node.start()
            s3 = node.client("s3")
        for key, body in bodies.items():
            assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
        body = bodies[str(30 << 20)]
        for start, end in [(0, 0), (65_535, 65_536), (8_000_000, 9_000_000), (len(body) - 1, len(body) - 1)]:
            got = s3.get_object(Bucket="bucket", Key=str(len(body)), Range=f"bytes={start}-{end}")
            assert got["Body"].read() == body[start : end + 1]
    # What is stored is sealed.
    stored = elsewhere.s3.get_object(Bucket="blobs", Key=f"objects/{names[0]}")["Body"].read()
    assert not any(body[1000:1032] in stored for body in bodies.values() if len(body) > 2000)
    s3.copy_object(Bucket="bucket", Key="copy", CopySource=f"bucket/{9 << 20}")
    for key in [*bodies, "copy"]:
        s3.delete_object(Bucket="bucket", Key=key)
    eventually(lambda: elsewhere.names("objects") == ["hawker-blobs"])
    assert node.stop() == 0
    assert list((tmp_path / "data/spool").iterdir()) == [] and not (tmp_path / "data/blobs").exists()


def test_damage_is_not_served(elsewhere, tmp_path):
    with running(tmp_path / "data", "--blobs", elsewhere.place("damage"), env=elsewhere.env) as node:
        s3 = node.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=os.urandom(200_000))
        (name,) = [name for name in elsewhere.names("damage") if name.startswith("blobs/")]
        where = {"Bucket": "blobs", "Key": f"damage/{name}"}
        stored = bytearray(elsewhere.s3.get_object(**where)["Body"].read())
        stored[100] ^= 1
        elsewhere.s3.put_object(Body=bytes(stored), **where)
        with pytest.raises((ClientError, BotoCoreError, ConnectionError)):
            s3.get_object(Bucket="bucket", Key="k")["Body"].read()
        elsewhere.s3.delete_object(**where)
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket="bucket", Key="k")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert "damaged" in node.log_text()


def test_code_lives_there_too(another_node, tmp_path, shared_cache):
    with running(tmp_path / "data", "--blobs", another_node.place("code"), "--cache", shared_cache, env=another_node.env) as node:
        with functions.function(node, "def handler(event, context):\n    return event\n") as function:
            assert function.result({"a": 1}) == {"a": 1}
            assert any(name.startswith("blobs/") for name in another_node.names("code"))


def start(*options, env=None):
    """What a node says that does not start."""
    done = subprocess.run(
        [BINARY, "serve", "--listen", "127.0.0.1:0", *map(str, options)],
        env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=120,
    )
    assert done.returncode != 0
    return done.stderr + done.stdout


def test_a_node_does_not_start_without_its_blobs(another_node, tmp_path):
    data, env = tmp_path / "data", another_node.env
    with running(data, "--blobs", another_node.place("home"), env=env):
        pass
    assert "s3://blobs/home" in start("--data", data)
    assert "does not hold the blobs" in start("--data", data, "--blobs", another_node.place("empty"), env=env)
    assert another_node.names("empty") == []
    with running(tmp_path / "other", "--blobs", another_node.place("other"), env=env):
        pass
    assert "of another data directory" in start("--data", data, "--blobs", another_node.place("other"), env=env)
    with running(tmp_path / "files"):
        pass
    assert "files in it already" in start("--data", tmp_path / "files", "--blobs", another_node.place("home"), env=env)
    # What is not a place, is not there, or is not open to us.
    assert "there is no setting `x`" in start("--data", tmp_path / "new", "--blobs", "s3://b?x=1")
    assert "missing" in start("--data", tmp_path / "new", "--blobs", another_node.place("home").replace("//blobs", "//missing"), env=env)
    assert "AWS_ACCESS_KEY_ID" in start("--data", tmp_path / "new", "--blobs", another_node.place("x"), env={**env, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with running(data, "--blobs", another_node.place("home"), env=env):
        pass


def test_a_bucket_that_goes_away_is_trouble_that_passes(tmp_path):
    with running(tmp_path / "far") as far:
        server = Elsewhere(far.endpoint, far.access_key_id, far.secret_access_key)
        server.s3.create_bucket(Bucket="blobs")
        with running(tmp_path / "data", "--blobs", server.place("p"), env=server.env) as node:
            s3 = node.client("s3")
            s3.create_bucket(Bucket="bucket")
            body = os.urandom(300_000)
            s3.put_object(Bucket="bucket", Key="k", Body=body)
            assert far.stop() == 0
            for call in (lambda: s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 300_000), lambda: s3.get_object(Bucket="bucket", Key="k")):
                with pytest.raises(ClientError) as error:
                    call()
                assert error.value.response["Error"]["Code"] == "ServiceUnavailable"
            # What needs no blobs goes on.
            s3.put_object(Bucket="bucket", Key="small", Body=b"x")
            far.start()
            assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == body
            s3.put_object(Bucket="bucket", Key="k", Body=body[:200_000])
            assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == body[:200_000]
            eventually(lambda: len([n for n in server.names("p") if n.startswith("blobs/")]) == 1, timeout=90)


class Writer(threading.Thread):
    """Puts, completes and deletes, and remembers what each key may hold."""

    def __init__(self, node, number):
        super().__init__(daemon=True)
        self.s3, self.number, self.states, self.done = node.client("s3"), number, {}, 0
        self.random = random.Random(os.urandom(8))

    def run(self):
        try:
            while True:
                self.step()
                self.done += 1
        except (ClientError, BotoCoreError, OSError):
            pass  # The node is gone.

    def step(self):
        key = f"{self.number}/{self.random.randrange(4)}"
        before, where = self.states.get(key, {None}), {"Bucket": "bucket", "Key": key}
        kind = self.random.choice(["put", "parts", "large", "delete"])
        if kind == "delete":
            self.states[key] = before | {None}
            self.s3.delete_object(**where)
            self.states[key] = {None}
            return
        body = os.urandom({"put": 200_000, "parts": PART + 1000, "large": 18 << 20}[kind])
        after = hashlib.sha256(body).hexdigest()
        self.states[key] = before | {after}
        if kind == "parts":
            upload = {**where, "UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
            parts = []
            for number, part in enumerate([body[:PART], body[PART:]], 1):
                tag = self.s3.upload_part(PartNumber=number, Body=part, **upload)["ETag"]
                parts.append({"PartNumber": number, "ETag": tag})
            self.s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
        else:
            self.s3.put_object(Body=body, **where)
        self.states[key] = {after}


def test_crashes_lose_nothing_and_leave_nothing(elsewhere, tmp_path):
    node = on(elsewhere, tmp_path / "data", "crash").start()
    try:
        node.client("s3").create_bucket(Bucket="bucket")
        known = {}
        for _ in range(3):
            writers = [Writer(node, number) for number in range(3)]
            for writer in writers:
                writer.states = {k: v for k, v in known.items() if k.startswith(f"{writer.number}/")}
                writer.start()
            eventually(lambda: sum(writer.done for writer in writers) >= 15, timeout=120)
            node.kill()
            for writer in writers:
                writer.join(60)
                known.update(writer.states)
            node.start()
            s3 = node.client("s3")
            for key, may_be in known.items():
                try:
                    found = hashlib.sha256(s3.get_object(Bucket="bucket", Key=key)["Body"].read()).hexdigest()
                except ClientError as error:
                    assert error.response["Error"]["Code"] == "NoSuchKey", error
                    found = None
                assert found in may_be, key
                known[key] = {found}
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket="bucket"):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(Bucket="bucket", Key=upload["Key"], UploadId=upload["UploadId"])
        for key in known:
            s3.delete_object(Bucket="bucket", Key=key)
        eventually(lambda: elsewhere.names("crash") == ["hawker-blobs"], timeout=120, interval=0.5)
        # Between the beginning of an upload and the note of its id a crash leaves an upload, but never a part.
        left = [upload for upload in elsewhere.uploads() if upload["Key"].startswith("crash/")]
        assert [elsewhere.parts(upload) for upload in left] == [[]] * len(left)
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()


def test_slow_clients_cost_no_memory(another_node, tmp_path):
    """Hundreds of uploads of which none goes on, while others are carried out."""
    with running(tmp_path / "data", "--blobs", another_node.place("slow"), env=another_node.env) as node:
        s3 = node.client("s3")
        s3.create_bucket(Bucket="bucket")
        before = peak_mib(node)
        piece, sockets = os.urandom(1 << 20), []
        for number in range(100):
            url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": f"slow/{number}"})
            path = url.removeprefix(node.endpoint)
            sockets.append(client := socket.create_connection(("127.0.0.1", node.port)))
            client.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\nContent-Length: {100 << 20}\r\n\r\n".encode())
            for _ in range(8):
                client.sendall(piece)
        body = os.urandom(1 << 20) * 64
        s3.put_object(Bucket="bucket", Key="k", Body=body)
        assert hashlib.sha256(s3.get_object(Bucket="bucket", Key="k")["Body"].read()).digest() == hashlib.sha256(body).digest()
        # Of 800 MiB that came; the allocator keeps some of what it has handed out on each thread.
        assert peak_mib(node) - before < 400
        for client in sockets:
            client.close()
        eventually(lambda: not [n for n in another_node.names("slow") if n.startswith("uploads/")])
