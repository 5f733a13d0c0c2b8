"""Memory is flat: whatever is put, read, copied or uploaded in parts, and however many clients are slow.

The objects have half a gigabyte here; `HAWKER_LARGE_BYTES=5368709120 pytest tests/compat -k memory` is the same with 5 GiB."""

import concurrent.futures
import hashlib
import http.client
import os
import pathlib
import resource
import socket
import urllib.parse

import pytest
from conftest import eventually, peak_mib, unique

pytestmark = pytest.mark.local

LARGE = int(os.environ.get("HAWKER_LARGE_BYTES", 512 << 20))
MOST_MIB = 200
BLOCK = os.urandom(1 << 20)
CLIENTS = 1000


def unsent_mib(node):
    """What waits in the kernel to be sent by the node."""
    rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(f":{node.port:04X}")) / 2**20


def signed(node, method, bucket, key):
    return node.client("s3").generate_presigned_url(method, Params={"Bucket": bucket, "Key": key}, ExpiresIn=3600)


def body():
    return (BLOCK for _ in range(LARGE >> 20))


def digest_of(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def read(node, bucket, key):
    stream = node.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    return digest_of(iter(lambda: stream.read(1 << 20), b""))


def test_of_large_objects_a_few_buffers(fresh):
    s3, bucket = fresh.client("s3"), unique("large")
    s3.create_bucket(Bucket=bucket)
    expected = digest_of(body())

    url = urllib.parse.urlsplit(signed(fresh, "put_object", bucket, "put"))
    connection = http.client.HTTPConnection(url.netloc, timeout=600)
    connection.request("PUT", f"{url.path}?{url.query}", body=body(), headers={"Content-Length": str(LARGE)})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert read(fresh, bucket, "put") == expected

    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "put"})
    assert read(fresh, bucket, "copy") == expected

    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    size = max(16 << 20, LARGE // 256 >> 20 << 20)

    def part(number):
        count = min(size, LARGE - (number - 1) * size) >> 20
        return {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=BLOCK * count)["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(part, range(1, -(-LARGE // size) + 1)))
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert read(fresh, bucket, "parts") == expected
    assert peak_mib(fresh) < MOST_MIB


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("method", ["get_object", "put_object"])
def test_of_slow_clients_their_sockets(fresh, many_files, method):
    s3, bucket = fresh.client("s3"), unique("slow")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="large", Body=BLOCK * 64)
    address = ("127.0.0.1", fresh.port)
    slow = []
    try:
        for number in range(CLIENTS):
            key = "large" if method == "get_object" else f"slow-{number}"
            url = urllib.parse.urlsplit(signed(fresh, method, bucket, key))
            client = socket.socket()
            slow.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address)
            head = f"{url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            if method == "get_object":
                client.sendall(f"GET {head}\r\n".encode())
            else:
                client.sendall(f"PUT {head}Content-Length: {64 << 20}\r\n\r\n".encode() + BLOCK[:200_000])
        if method == "get_object":
            assert {client.recv(12) for client in slow} == {b"HTTP/1.1 200"}
        else:
            writing = fresh.data / "blobs/tmp"
            eventually(lambda: len(list(writing.iterdir())) == CLIENTS)
        assert unsent_mib(fresh) < CLIENTS / 2
        # Others are served as if nobody else were there.
        for number in range(20):
            s3.put_object(Bucket=bucket, Key=f"other-{number}", Body=BLOCK * 8)
            assert s3.get_object(Bucket=bucket, Key=f"other-{number}")["Body"].read() == BLOCK * 8
        assert peak_mib(fresh) < MOST_MIB
    finally:
        for client in slow:
            client.close()
