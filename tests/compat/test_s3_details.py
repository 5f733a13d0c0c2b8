"""Details of answers in which S3 is particular, as other projects' tests against AWS found them."""

import pytest
from botocore.exceptions import ClientError
from conftest import unique


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("details")
    s3.create_bucket(Bucket=name)
    return name


def refused(call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]


def test_entity_tags_without_one_quotation_mark(s3, bucket):
    where = {"Bucket": bucket, "Key": "key"}
    etag = s3.put_object(**where, Body=b"1")["ETag"]
    for body, text in (("2", etag.strip('"')), ("3", None), ("4", None)):
        text = text or (etag[1:] if body == "3" else etag[:-1])
        etag = s3.put_object(**where, Body=body, IfMatch=text)["ETag"]
    assert s3.get_object(**where, IfMatch=etag[1:])["Body"].read() == b"4"
    assert refused(s3.put_object, **where, Body=b"5", IfMatch='"0')["Code"] == "PreconditionFailed"
    assert refused(s3.put_object, **where, Body=b"5", IfMatch="not an etag")["Code"] == "PreconditionFailed"
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where, CopySourceIfNoneMatch="unknown etag")


def test_tags_of_the_system(s3, bucket):
    error = refused(s3.put_object, Bucket=bucket, Key="key", Tagging="aws:a=b")
    assert (error["Code"], error["Message"]) == ("InvalidTag", "Your TagKey cannot be prefixed with aws:")
    error = refused(s3.put_bucket_tagging, Bucket=bucket, Tagging={"TagSet": [{"Key": "aws:a", "Value": "b"}]})
    assert (error["Code"], error["Message"]) == ("InvalidTag", "System tags cannot be added/updated by requester")
    answer = s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_what_a_bucket_s_head_is(s3, bucket):
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/xml"


def test_tags_of_a_delete_marker(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="key")
    marker = {"Bucket": bucket, "Key": "key", "VersionId": s3.delete_object(Bucket=bucket, Key="key")["VersionId"]}
    error = refused(s3.put_object_tagging, **marker, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert (error["Code"], error["Method"], error["ResourceType"]) == ("MethodNotAllowed", "PUT", "DeleteMarker")
    assert refused(s3.delete_object_tagging, **marker)["Method"] == "DELETE"


def test_locks_without_a_body(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    error = refused(s3.put_object_lock_configuration, Bucket=bucket)
    assert (error["Code"], error["Message"]) == ("MissingRequestBodyError", "Request Body is empty")
    assert refused(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration={})["Code"] == "MalformedXML"


def test_copies_onto_themselves(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"body")["ETag"]
    onto_itself = {"Bucket": bucket, "Key": "key", "CopySource": {"Bucket": bucket, "Key": "key"}}
    assert refused(s3.copy_object, **onto_itself)["Code"] == "InvalidRequest"
    error = refused(s3.copy_object, **onto_itself, CopySourceIfNoneMatch=etag)
    assert (error["Code"], error["Condition"]) == ("PreconditionFailed", "x-amz-copy-source-If-None-Match")
    s3.copy_object(**onto_itself, StorageClass="STANDARD")
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"body"


def test_a_composite_checksum_is_shown_in_two_ways(s3, bucket):
    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=b"part", ChecksumAlgorithm="SHA256")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    whole = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ChecksumSHA256"]
    assert whole.endswith("-1")
    shown = s3.get_object_attributes(Bucket=bucket, Key="parts", ObjectAttributes=["Checksum"])["Checksum"]
    assert shown["ChecksumSHA256"] == whole.removesuffix("-1")
    assert s3.head_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")["ChecksumSHA256"] == whole
