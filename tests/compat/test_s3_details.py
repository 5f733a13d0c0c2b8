"""Details of answers in which S3 is particular, as other projects' tests against AWS found them."""

import datetime
import json
import socket

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


def test_an_entity_tag_among_attributes_has_no_quotation_marks(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"body")["ETag"]
    attributes = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ETag", "ObjectSize"])
    assert (attributes["ETag"], attributes["ObjectSize"]) == (etag.strip('"'), 4)


def test_a_head_counts_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Tagging="a=1&b=2")
    assert s3.head_object(Bucket=bucket, Key="key")["TagCount"] == s3.get_object(Bucket=bucket, Key="key")["TagCount"] == 2


def test_encodings_are_kept_as_they_were_written(s3, bucket):
    for given, kept in (("deflate, gzip", "deflate, gzip"), ("gzip, aws-chunked", "gzip"), ("aws-chunked, gzip", "gzip"), ("aws-chunked", None)):
        s3.put_object(Bucket=bucket, Key="key", ContentEncoding=given)
        assert s3.head_object(Bucket=bucket, Key="key").get("ContentEncoding") == kept


def test_an_empty_delimiter_is_none(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a/b")
    for list_objects in (s3.list_objects, s3.list_objects_v2, s3.list_object_versions):
        answer = list_objects(Bucket=bucket, Delimiter="")
        assert "Delimiter" not in answer and "CommonPrefixes" not in answer


def test_a_list_without_grants_is_refused(s3, bucket):
    owner = s3.get_bucket_acl(Bucket=bucket)["Owner"]
    error = refused(s3.put_bucket_acl, Bucket=bucket, AccessControlPolicy={"Owner": owner, "Grants": []})
    assert error["Code"] == "NotImplemented"


def test_governance_becomes_compliance_by_its_bypass_only(s3):
    bucket, until = unique("details"), datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    s3.put_object(Bucket=bucket, Key="key", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    change = {"Bucket": bucket, "Key": "key", "Retention": {"Mode": "COMPLIANCE", "RetainUntilDate": until}}
    assert refused(s3.put_object_retention, **change)["Code"] == "AccessDenied"
    s3.put_object_retention(**change, BypassGovernanceRetention=True)
    assert s3.get_object_retention(Bucket=bucket, Key="key")["Retention"]["Mode"] == "COMPLIANCE"


@pytest.mark.local
def test_policies_about_lists_and_conditions(node, s3, bucket):
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]})
    iam, name = node.client("iam"), unique("user")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}))
    objects = f"arn:aws:s3:::{bucket}/*"
    deny = lambda action, condition: {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": objects, "Condition": condition}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [
        deny("s3:PutObjectAcl", {"StringEquals": {"s3:x-amz-acl": "authenticated-read"}}),
        deny("s3:PutObject", {"StringLike": {"s3:x-amz-grant-read": "*uri*"}}),
        deny("s3:PutObject", {"Null": {"s3:if-none-match": "true"}}),
    ]}))
    user = node.client("s3", AccessKeyId=key["AccessKeyId"], SecretAccessKey=key["SecretAccessKey"])
    where = {"Bucket": bucket, "Key": "key"}
    assert refused(user.put_object, **where)["Code"] == "AccessDenied"
    user.put_object(**where, IfNoneMatch="*")
    group = "uri=http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
    assert refused(user.put_object, Bucket=bucket, Key="other", IfNoneMatch="*", GrantRead=group)["Code"] == "AccessDenied"
    error = refused(user.put_object_acl, **where, ACL="authenticated-read")
    assert "explicit deny" in error["Message"]
    user.put_object_acl(**where, ACL="private")


def test_a_copy_keeps_to_the_conditions_of_its_target(s3, bucket):
    source = {"Bucket": bucket, "Key": "source"}
    s3.put_object(**source, Body=b"new")
    etag = s3.put_object(Bucket=bucket, Key="target", Body=b"old")["ETag"]
    copy = lambda key, **more: {"Bucket": bucket, "Key": key, "CopySource": source, **more}
    for more in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
        assert refused(s3.copy_object, **copy("target", **more))["Code"] == "PreconditionFailed"
    assert refused(s3.copy_object, **copy("absent", IfMatch=etag))["Code"] == "NoSuchKey"
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == b"old"
    s3.copy_object(**copy("absent", IfNoneMatch="*"))
    s3.copy_object(**copy("target", IfMatch=etag.strip('"')))
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == b"new"


def test_old_versions_are_deleted_on_condition(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="key", Body=b"1")
    s3.put_object(Bucket=bucket, Key="key", Body=b"2")
    named = {"Key": "key", "VersionId": old["VersionId"]}
    assert refused(s3.delete_object, Bucket=bucket, **named, IfMatch='"0"')["Code"] == "PreconditionFailed"
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{**named, "ETag": '"0"'}]})
    assert [error["Code"] for error in answer["Errors"]] == ["PreconditionFailed"]
    assert s3.get_object(Bucket=bucket, **named)["Body"].read() == b"1"
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key", "ETag": "*"}, {**named, "ETag": old["ETag"]}]})
    assert len(answer["Deleted"]) == 2 and "Errors" not in answer
    marker = next(d["DeleteMarkerVersionId"] for d in answer["Deleted"] if "DeleteMarkerVersionId" in d)
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "key", "VersionId": marker}}
    assert refused(s3.copy_object, **copy)["Code"] == "InvalidRequest"


@pytest.mark.parametrize("name", ["sthree-abc", "amzn-s3-demo-abc", "abc-s3alias", "abc--ol-s3", "abc.mrap", "abc--table-s3"])
def test_names_that_are_kept_are_refused(s3, name):
    assert refused(s3.create_bucket, Bucket=name)["Code"] == "InvalidBucketName"


def test_tags_are_of_some_characters_only(s3, bucket):
    put = lambda key, value: {"Bucket": bucket, "Key": "key", "Tagging": {"TagSet": [{"Key": key, "Value": value}]}}
    s3.put_object(Bucket=bucket, Key="key")
    for tag in (("k?", "v"), ("k", "v;")):
        assert refused(s3.put_object_tagging, **put(*tag))["Code"] == "InvalidTag"
    s3.put_object_tagging(**put("Größe +-=._:/@", "1 m"))


def test_an_upload_has_a_length(node, s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"kept")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    host, path = url.removeprefix("http://").split("/", 1)
    with socket.create_connection(host.rsplit(":", 1)) as connection:
        connection.sendall(f"PUT /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 411 ") and b"MissingContentLength" in answer
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"kept"


@pytest.mark.local
def test_rights_are_looked_at_key_by_key(node, s3, bucket):
    iam, name = node.client("iam"), unique("user")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    arn = f"arn:aws:s3:::{bucket}"
    statements = [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:DeleteObject"], "Resource": f"{arn}/*"},
        {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": f"{arn}/kept/*"},
        {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": f"{arn}/certain/*", "Condition": {"Null": {"s3:if-match": "true"}}},
    ]
    iam.put_user_policy(UserName=name, PolicyName="some", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    user = node.client("s3", AccessKeyId=key["AccessKeyId"], SecretAccessKey=key["SecretAccessKey"])
    etags = {key: s3.put_object(Bucket=bucket, Key=key)["ETag"] for key in ("a", "kept/b", "certain/c", "certain/d", "certain/e")}
    objects = [{"Key": "a"}, {"Key": "kept/b"}, {"Key": "certain/c"}, {"Key": "certain/d", "ETag": etags["certain/d"]}]
    answer = user.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert sorted(deleted["Key"] for deleted in answer["Deleted"]) == ["a", "certain/d"]
    assert {(error["Key"], error["Code"]) for error in answer["Errors"]} == {("kept/b", "AccessDenied"), ("certain/c", "AccessDenied")}
    user.delete_object(Bucket=bucket, Key="certain/e", IfMatch=etags["certain/e"])
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["certain/c", "kept/b"]
    # Whether a key is there is for those to know who may list.
    assert refused(user.get_object, Bucket=bucket, Key="nothing")["Code"] == "AccessDenied"
    assert refused(user.head_object, Bucket=bucket, Key="nothing")["Code"] == "403"
    assert refused(s3.get_object, Bucket=bucket, Key="nothing")["Code"] == "NoSuchKey"


def test_a_bucket_is_tagged_after_it_is_made(s3):
    name = unique("details")
    error = refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration={"Tags": [{"Key": "a", "Value": "b"}]})
    assert error["Code"] == "NotImplemented" and "PutBucketTagging" in error["Message"]
