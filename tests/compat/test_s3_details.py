"""Details of answers in which S3 is particular, as other projects' tests against AWS found them."""

import datetime
import json
import socket
import time

import pytest
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, unique


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


def sent(node, method, path, data=b"", **headers):
    """A request as no SDK sends it, but signed."""
    request = AWSRequest(method, f"{node.endpoint}/{path}", data=data, headers=headers)
    S3SigV4Auth(Credentials(node.access_key_id, node.secret_access_key), "s3", REGION).add_auth(request)
    return requests.request(method, request.url, data=data, headers=dict(request.headers))


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


@pytest.mark.local
def test_documents_hold_what_the_operation_knows(s3, bucket, node):
    name = unique("details")
    error = refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration={"Tags": [{"Key": "a", "Value": "b"}]})
    assert error["Code"] == "NotImplemented" and "Tags" in error["Message"]
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]}}
    error = refused(s3.put_bucket_encryption, Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert error["Code"] == "NotImplemented" and "BlockedEncryptionTypes" in error["Message"]
    body = "<VersioningConfiguration><Status>Enabled</Status><Nothing/></VersioningConfiguration>"
    answer = sent(node, "PUT", f"{bucket}?versioning", body)
    assert answer.status_code == 400 and "<Code>MalformedXML</Code>" in answer.text
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_lifecycle_filters_and_redirects_say_something(s3, bucket):
    days = {"ID": "a", "Status": "Enabled", "Expiration": {"Days": 1}}
    put = lambda filter: {"Bucket": bucket, "LifecycleConfiguration": {"Rules": [{**days, "Filter": filter}]}}
    assert refused(s3.put_bucket_lifecycle_configuration, **put({"And": {"Prefix": "a"}}))["Code"] == "MalformedXML"
    crossed = {"And": {"ObjectSizeGreaterThan": 10, "ObjectSizeLessThan": 10}}
    assert refused(s3.put_bucket_lifecycle_configuration, **put(crossed))["Code"] == "InvalidRequest"
    s3.put_bucket_lifecycle_configuration(**put({"And": {"Prefix": "a", "ObjectSizeLessThan": 10}}))
    site = {"IndexDocument": {"Suffix": "index.html"}, "RoutingRules": [{"Condition": {"KeyPrefixEquals": "a"}, "Redirect": {}}]}
    assert refused(s3.put_bucket_website, Bucket=bucket, WebsiteConfiguration=site)["Code"] == "MalformedXML"


@pytest.mark.local
@pytest.mark.parametrize("method, path, body", [
    ("POST", "?delete", "<Delete><Object><Key>key</Key></Object></Delete>"),
    ("PUT", "?cors", "<CORSConfiguration/>"),
    ("PUT", "/key?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>"),
])
def test_documents_come_with_a_digest(node, s3, bucket, method, path, body):
    s3.put_object(Bucket=bucket, Key="key")
    answer = sent(node, method, bucket + path, body)
    assert answer.status_code == 400 and "Content-MD5 OR x-amz-checksum-*" in answer.text, answer.text
    s3.head_object(Bucket=bucket, Key="key")


@pytest.mark.local
def test_locks_come_with_a_digest(node, s3):
    bucket = unique("details")
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", ObjectLockLegalHoldStatus="ON")
    answer = sent(node, "PUT", f"{bucket}/key", "x", **{"x-amz-object-lock-legal-hold": "ON"})
    assert answer.status_code == 400 and "Object Lock parameters" in answer.text, answer.text


def test_composite_checksums_want_those_of_all_parts(s3, bucket):
    where = {"Bucket": bucket, "Key": "key"}
    upload = s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    listed = {"PartNumber": 1, "ETag": part["ETag"]}
    error = refused(s3.complete_multipart_upload, **where, UploadId=upload, MultipartUpload={"Parts": [listed]})
    assert error["Code"] == "InvalidRequest" and "It was missing for part 1" in error["Message"]
    listed["ChecksumSHA256"] = part["ChecksumSHA256"]
    done = s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": [listed]})
    assert done["ChecksumSHA256"].endswith("-1")


@pytest.mark.local
def test_an_expiry_is_any_text(node, s3, bucket):
    assert sent(node, "PUT", f"{bucket}/key", "x", Expires="next week").status_code == 200
    assert s3.head_object(Bucket=bucket, Key="key")["ExpiresString"] == "next week"


@pytest.mark.local
def test_keys_with_control_characters_are_listed(node, s3, bucket):
    keys = ["a\rb", "c\x01d", "e\tf"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key)
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == keys
    text = sent(node, "GET", f"{bucket}?list-type=2").text
    assert "<Key>a&#xd;b</Key>" in text and "<Key>c&#x1;d</Key>" in text


def test_sources_of_copies_have_a_key(s3, bucket):
    error = refused(s3.copy_object, Bucket=bucket, Key="key", CopySource=f"{bucket}/")
    assert (error["Code"], error["ArgumentName"]) == ("InvalidArgument", "x-amz-copy-source")


@pytest.mark.local
def test_a_token_of_nobody(node, bucket):
    s3 = node.client("s3", AccessKeyId="ASIAIOSFODNN7EXAMPLE", SecretAccessKey="s" * 40, SessionToken="bogus")
    assert refused(s3.list_objects_v2, Bucket=bucket)["Code"] == "InvalidToken"


@pytest.mark.parametrize("what", ["tagging", "retention", "legal-hold"])
def test_what_is_wrong_with_a_document_is_told_to_those_with_the_right(node, s3, bucket, what):
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    md5 = "CY9rzUYh03PK3k6DJie09g=="  # of `test`
    answer = sent(node, "PUT", f"{bucket}/key?{what}", b"test", **{"Content-MD5": md5})
    assert (answer.status_code, "<Code>MalformedXML</Code>" in answer.text) == (400, True), answer.text
    answer = requests.put(f"{node.endpoint}/{bucket}/key?{what}", data=b"test", headers={"Content-MD5": md5})
    assert (answer.status_code, "<Code>AccessDenied</Code>" in answer.text) == (403, True), answer.text


@pytest.fixture
def limited(node, s3, bucket):
    """A user who may do everything but what the bucket denies; and how the bucket is to deny."""
    iam, name = node.client("iam"), unique("user")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}))

    def deny(action, condition):
        statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{bucket}/*", "Condition": condition}
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    config = {"signature_version": "s3v4"}
    return node.client("s3", AccessKeyId=key["AccessKeyId"], SecretAccessKey=key["SecretAccessKey"], config=config), deny


@pytest.mark.local
def test_policies_may_ask_how_a_request_is_signed(limited, s3, bucket):
    user, deny = limited
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    signed = user.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    by_header = lambda: refused(user.get_object, Bucket=bucket, Key="key")["Code"]
    deny("s3:GetObject", {"StringNotEquals": {"s3:authType": "REST-QUERY-STRING"}})
    assert by_header() == "AccessDenied" and requests.get(signed).status_code == 200
    deny("s3:GetObject", {"StringEquals": {"s3:authType": "REST-QUERY-STRING"}})
    assert user.get_object(Bucket=bucket, Key="key") and requests.get(signed).status_code == 403
    deny("s3:GetObject", {"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}})
    assert by_header() == "AccessDenied"
    deny("s3:GetObject", {"NumericGreaterThan": {"s3:signatureAge": "600000"}})
    assert requests.get(signed).status_code == 200
    time.sleep(1.1)
    deny("s3:GetObject", {"NumericGreaterThan": {"s3:signatureAge": "1000"}})
    assert requests.get(signed).status_code == 403
    deny("s3:PutObject", {"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}})
    unsigned = user.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    user.put_object(Bucket=bucket, Key="key", Body=b"y")
    assert requests.put(unsigned, data=b"z", headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}).status_code == 403


@pytest.mark.local
def test_objects_may_be_created_but_not_replaced(limited, bucket):
    user, deny = limited
    deny("s3:PutObject", {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}})
    where = {"Bucket": bucket, "Key": "key"}
    assert refused(user.put_object, **where)["Code"] == "AccessDenied"
    upload = user.create_multipart_upload(**where, ChecksumType="FULL_OBJECT", ChecksumAlgorithm="CRC32")["UploadId"]
    part = user.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]}
    assert refused(user.complete_multipart_upload, **where, UploadId=upload, MultipartUpload=parts)["Code"] == "AccessDenied"
    user.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")


@pytest.mark.local
def test_policies_may_ask_what_a_body_says(node, limited, s3, bucket):
    user, deny = limited
    deny(["s3:PutObject", "s3:PutObjectTagging"], {"StringEquals": {"s3:RequestObjectTag/level": "secret"}})
    where, tags = {"Bucket": bucket, "Key": "key"}, lambda value: {"TagSet": [{"Key": "level", "Value": value}]}
    user.put_object(**where, Tagging="level=public")
    assert refused(user.put_object, **where, Tagging="level=secret")["Code"] == "AccessDenied"
    assert refused(user.put_object_tagging, **where, Tagging=tags("secret"))["Code"] == "AccessDenied"
    user.put_object_tagging(**where, Tagging=tags("internal"))
    locked = unique("details")
    s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    statement = {
        "Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject", "s3:PutObjectRetention"], "Resource": f"arn:aws:s3:::{locked}/*",
        "Condition": {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "10"}},
    }
    s3.put_bucket_policy(Bucket=locked, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    after = lambda days: datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    lock = lambda days: {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": after(days)}
    assert refused(user.put_object, Bucket=locked, Key="key", **lock(11))["Code"] == "AccessDenied"
    user.put_object(Bucket=locked, Key="key", **lock(1))
    keep = lambda days: {"Bucket": locked, "Key": "key", "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": after(days)}}
    assert refused(user.put_object_retention, **keep(11))["Code"] == "AccessDenied"
    user.put_object_retention(**keep(9))


@pytest.mark.parametrize("change, message", [
    ({"Action": "s3:GetObject", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/nobody"}}, "Invalid principal in policy"),
    ({"Action": "s3:GetObjects"}, "Policy has invalid action"),
    ({"Action": "ec2:GetObject"}, "Policy has invalid action"),
    ({"Action": "s3:ListBucket"}, "Action does not apply to any resource(s) in statement"),
    ({"Action": ["s3:Get*", "s3:DeleteBucket"]}, "Action does not apply to any resource(s) in statement"),
])
def test_actions_of_policies_exist_and_apply(s3, bucket, change, message):
    statement = {"Effect": "Deny", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*", **change}
    error = refused(s3.put_bucket_policy, Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert (error["Code"], error["Message"]) == ("MalformedPolicy", message)
    statement["Resource"] = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    if "apply" in message:
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


@pytest.mark.local
def test_forms_and_presigned_urls_are_asked_what_headers_are(node, limited, s3, bucket):
    user, deny = limited

    def form(tag):
        fields = {"tagging": f"<Tagging><TagSet><Tag><Key>level</Key><Value>{tag}</Value></Tag></TagSet></Tagging>"}
        post = user.generate_presigned_post(bucket, "key", Fields=fields, Conditions=[fields])
        return requests.post(post["url"], data=post["fields"], files={"file": b"x"}).status_code

    deny("s3:PutObject", {"StringEquals": {"s3:RequestObjectTag/level": "secret"}})
    assert (form("secret"), form("public")) == (403, 204)
    deny("s3:PutObjectTagging", {"Null": {"s3:RequestObjectTag/level": "false"}})
    assert form("public") == 403
    deny("s3:PutObject", {"StringNotEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}})
    assert form("public") == 204
    deny("s3:PutObject", {"StringEquals": {"s3:authType": "POST"}})
    assert form("public") == 403
    # What a URL says of its body counts as far as it is looked at.
    deny("s3:PutObject", {"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}})
    request = AWSRequest("PUT", f"{node.endpoint}/{bucket}/key?x-amz-content-sha256=" + "0" * 64)
    key = user._request_signer._credentials
    S3SigV4QueryAuth(key, "s3", REGION, expires=60).add_auth(request)
    assert requests.put(request.url, data=b"evil").status_code == 403


def test_a_policy_comes_back_as_it_was(s3, bucket):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}]}, indent=1).replace("\n", "\r\n")
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
