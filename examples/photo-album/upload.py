#!/usr/bin/env python3
"""Uploads a photo and shows what became of it: the record, and the thumbnail in a file beside this one.

    python3 upload.py [PHOTO] [--stack photo-album]

Finds the node and its keys as every AWS SDK does (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

import argparse
import json
import pathlib
import sys
import time

import boto3

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description="Upload a photo to the album.")
    parser.add_argument("photo", nargs="?", type=pathlib.Path, default=HERE / "photos/harbour.jpg")
    parser.add_argument("--stack", default="photo-album")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for the record")
    args = parser.parse_args()

    stack = boto3.client("cloudformation").describe_stacks(StackName=args.stack)["Stacks"][0]
    outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
    s3, table = boto3.client("s3"), boto3.resource("dynamodb").Table(outputs["PhotoTable"])

    key = args.photo.name
    body = args.photo.read_bytes()
    started = time.monotonic()
    etag = s3.put_object(Bucket=outputs["UploadBucket"], Key=key, Body=body)["ETag"].strip('"')
    print(f"uploaded  {key} ({len(body):,} bytes) to {outputs['UploadBucket']}")

    while True:
        item = table.get_item(Key={"key": key}).get("Item")
        if item and item["etag"] == etag:
            break
        if time.monotonic() - started > args.timeout:
            sys.exit(f"no record after {args.timeout:.0f} s: see `hawker logs`")
        time.sleep(0.02)
    print(f"record    {time.monotonic() - started:.2f} s later:")
    print(json.dumps(item, indent=2, default=int))

    thumbnail = HERE / f"{args.photo.stem}.thumbnail.jpg"
    thumbnail.write_bytes(s3.get_object(Bucket=outputs["ThumbnailBucket"], Key=key)["Body"].read())
    print(f"thumbnail {thumbnail}")


if __name__ == "__main__":
    main()
