"""Makes a thumbnail of each photo that is uploaded, and writes down what the photo is.

Ordinary Lambda code: it runs on AWS and on Hawker unchanged.
"""

import io
import logging
import os
from urllib.parse import unquote_plus

import boto3
from PIL import ExifTags, Image, ImageOps

logger = logging.getLogger()
logger.setLevel(logging.INFO)

s3 = boto3.client("s3")
photos = boto3.resource("dynamodb").Table(os.environ["TABLE"])

THUMBNAIL_BUCKET = os.environ["THUMBNAIL_BUCKET"]
THUMBNAIL_SIZE = int(os.environ["THUMBNAIL_SIZE"])


def handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        # Keys arrive URL-encoded in S3's events.
        key = unquote_plus(record["s3"]["object"]["key"])
        make_thumbnail(bucket, key)


def make_thumbnail(bucket, key):
    source = s3.get_object(Bucket=bucket, Key=key)
    body = source["Body"].read()
    with Image.open(io.BytesIO(body)) as photo:
        item = {
            "key": key,
            "bucket": bucket,
            "etag": source["ETag"].strip('"'),
            "size_bytes": len(body),
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            **camera(photo),
        }
        # Turned upright first: a thumbnail carries no EXIF to say which way is up.
        thumbnail = ImageOps.exif_transpose(photo).convert("RGB")
    thumbnail.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    item["dominant_colour"] = dominant_colour(thumbnail)

    out = io.BytesIO()
    thumbnail.save(out, "JPEG", quality=85)
    s3.put_object(
        Bucket=THUMBNAIL_BUCKET, Key=key, Body=out.getvalue(), ContentType="image/jpeg"
    )
    # The key and the ETag say which upload this is: running twice writes the same record.
    photos.put_item(Item=item)
    logger.info("thumbnail of %s: %dx%d", key, *thumbnail.size)


def camera(photo):
    """When and with what the photo was taken, as far as it says."""
    exif = photo.getexif()
    found = {
        "taken_at": exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        or exif.get(ExifTags.Base.DateTime),
        "camera": " ".join(
            str(exif[tag]).strip()
            for tag in (ExifTags.Base.Make, ExifTags.Base.Model)
            if exif.get(tag)
        ),
    }
    return {name: str(value) for name, value in found.items() if value}


def dominant_colour(image):
    """The commonest of eight colours that together look like the image, as #rrggbb."""
    palette_image = image.resize((64, 64)).quantize(8)
    _, index = max(palette_image.getcolors())
    red, green, blue = palette_image.getpalette()[index * 3 : index * 3 + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"
