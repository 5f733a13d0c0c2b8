"""The main job: a photo goes in, a function runs, a thumbnail and a record come out."""

import concurrent.futures
import io
import json
import shutil

import pytest
from PIL import Image
from conftest import ACCOUNT, PYTHON_RUNTIME, ROOT, eventually, running

pytestmark = pytest.mark.local
STACK = "photo-album"


def jpeg(width, height, colour, camera=None, seed=0):
    image = Image.effect_noise((width, height), 20 + seed % 40).convert("RGB")
    image = Image.blend(image, Image.new("RGB", (width, height), colour), 0.8)
    exif = Image.Exif()
    if camera:
        exif[271], exif[272] = camera
        exif.get_ifd(0x8769)[36867] = "2024:05:06 07:08:09"
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88, exif=exif)
    return out.getvalue()


class Album:
    def __init__(self, node, outputs):
        self.node = node
        self.outputs = outputs
        self.s3 = node.client("s3")
        self.dynamodb = node.client("dynamodb")
        self.function = outputs["ThumbnailFunction"].rsplit(":", 1)[1]

    def upload(self, key, body):
        return self.s3.put_object(Bucket=self.outputs["UploadBucket"], Key=key, Body=body)["ETag"].strip('"')

    def record(self, key):
        return self.dynamodb.get_item(
            TableName=self.outputs["PhotoTable"], Key={"key": {"S": key}}, ConsistentRead=True
        ).get("Item")

    def thumbnail(self, key):
        body = self.s3.get_object(Bucket=self.outputs["ThumbnailBucket"], Key=key)["Body"].read()
        return Image.open(io.BytesIO(body))

    def failures(self):
        listing = self.s3.list_objects_v2(Bucket=self.outputs["FailureBucket"])
        return [
            json.loads(self.s3.get_object(Bucket=self.outputs["FailureBucket"], Key=o["Key"])["Body"].read())
            for o in listing.get("Contents", [])
        ]

    def usage(self):
        rows = json.loads(self.node.hawker("status", "--json").stdout)["functions"]
        return next(row for row in rows if row["function"] == self.function)


@pytest.fixture(scope="module")
def album(tmp_path_factory, shared_cache):
    source = tmp_path_factory.mktemp("app") / "photo-album"
    shutil.copytree(ROOT / "examples/photo-album", source, ignore=shutil.ignore_patterns(".hawker"))
    template = source / "template.yaml"
    template.write_text(template.read_text().replace("python3.12", PYTHON_RUNTIME))
    data = tmp_path_factory.mktemp("node") / "data"
    with running(data, "--cache", shared_cache) as node:
        done = node.hawker("deploy", source, "--stack-name", STACK, "--yes", "--json")
        yield Album(node, json.loads(done.stdout)["outputs"])


def test_names_are_those_of_the_template(album):
    assert album.outputs["UploadBucket"] == f"photo-album-uploads-{ACCOUNT}"


@pytest.mark.parametrize("size", [(64, 48), (800, 600), (3000, 2000), (600, 1800)])
def test_photo_becomes_thumbnail_and_record(album, size):
    key = f"sizes/{size[0]} x {size[1]} ü.jpg"
    body = jpeg(*size, (200, 30, 40), camera=("Kodak", "Brownie"))
    etag = album.upload(key, body)
    item = eventually(lambda: album.record(key))
    assert item["etag"] == {"S": etag}
    assert item["size_bytes"] == {"N": str(len(body))}
    assert item["format"] == {"S": "JPEG"}
    assert (item["width"]["N"], item["height"]["N"]) == tuple(map(str, size))
    assert item["taken_at"] == {"S": "2024:05:06 07:08:09"}
    assert item["camera"] == {"S": "Kodak Brownie"}
    red, green, blue = bytes.fromhex(item["dominant_colour"]["S"][1:])
    assert red > 120 and green < 110 and blue < 110
    thumbnail = album.thumbnail(key)
    assert thumbnail.format == "JPEG" and max(thumbnail.size) == min(320, max(size))


def test_photo_of_the_example(album):
    body = (ROOT / "examples/photo-album/photos/harbour.jpg").read_bytes()
    album.upload("harbour.jpg", body)
    item = eventually(lambda: album.record("harbour.jpg"))
    assert item["camera"] == {"S": "Hawker Harbour One"}


def test_broken_file_is_logged_and_dead_lettered_alone(album):
    album.upload("broken.jpg", b"this is not a photo")
    good = album.upload("after-broken.jpg", jpeg(100, 100, (0, 0, 200)))
    assert eventually(lambda: album.record("after-broken.jpg"))["etag"] == {"S": good}
    failure = eventually(lambda: album.failures() or None)[0]
    assert failure["requestPayload"]["Records"][0]["s3"]["object"]["key"] == "broken.jpg"
    assert failure["responsePayload"]["errorType"] == "UnidentifiedImageError"
    assert failure["requestContext"]["condition"] == "RetriesExhausted"
    logs = album.node.client("logs")
    text = eventually(
        lambda: [
            e["message"]
            for e in logs.filter_log_events(
                logGroupName=f"/aws/lambda/{album.function}", filterPattern="UnidentifiedImageError"
            )["events"]
        ]
    )
    assert "cannot identify image file" in text[0]
    assert album.record("broken.jpg") is None


def test_two_hundred_at_once(album):
    before = album.usage()["invocations"]
    photos = {f"many/{i:03}.jpg": jpeg(200 + i, 150, (i, 255 - i, 90), seed=i) for i in range(200)}
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        etags = dict(zip(photos, pool.map(album.upload, photos, photos.values())))

    def records():
        pages = album.dynamodb.get_paginator("scan").paginate(
            TableName=album.outputs["PhotoTable"],
            FilterExpression="begins_with(#k, :p)",
            ExpressionAttributeNames={"#k": "key"},
            ExpressionAttributeValues={":p": {"S": "many/"}},
        )
        found = {item["key"]["S"]: item["etag"]["S"] for page in pages for item in page["Items"]}
        return found if len(found) == 200 else None

    assert eventually(records, timeout=300, interval=0.5) == etags
    listing = album.s3.list_objects_v2(Bucket=album.outputs["ThumbnailBucket"], Prefix="many/")
    assert {o["Key"] for o in listing["Contents"]} == set(photos)
    # Each upload was billed once. Usage is written a moment after the function has answered.
    eventually(lambda: album.usage()["invocations"] - before == 200)
