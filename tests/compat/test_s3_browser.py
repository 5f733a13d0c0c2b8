"""What browsers do with buckets: forms that upload, and web sites."""

import hashlib
import json
import os

import pytest
import requests
from botocore.exceptions import ClientError
from conftest import unique

pytestmark = pytest.mark.local


# Forms are signed as the client is told to, or as it does by itself (in us-east-1: the old way).
@pytest.fixture(params=[{"signature_version": "s3v4"}, {}], ids=["v4", "default"])
def s3(request, node):
    return node.client("s3", config=request.param)


@pytest.fixture
def bucket(s3):
    name = unique("browser")
    s3.create_bucket(Bucket=name)
    return name


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", [0, 10, 70_000, (1 << 20) + 1, (3 << 20) + 7])
def test_a_form_uploads(s3, bucket, size):
    body = os.urandom(size)
    post = s3.generate_presigned_post(bucket, "user/${filename}")
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("name.bin", body)})
    assert answer.status_code == 204, answer.text
    got = s3.get_object(Bucket=bucket, Key="user/name.bin")
    assert got["Body"].read() == body
    assert answer.headers["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'


def test_fields_are_what_headers_are(s3, bucket):
    fields = {
        "Content-Type": "image/x-test", "x-amz-meta-camera": "Kodak", "success_action_status": "201",
        "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        "x-amz-server-side-encryption": "AES256",
    }
    conditions = [{name: value} for name, value in fields.items() if name != "x-amz-meta-camera"]
    conditions.append(["starts-with", "$x-amz-meta-camera", "Ko"])
    post = s3.generate_presigned_post(bucket, "k", Fields=fields, Conditions=conditions)
    answer = requests.post(post["url"], data=post["fields"], files={"file": b"x"})
    assert answer.status_code == 201 and "<Key>k</Key>" in answer.text and f"<Bucket>{bucket}</Bucket>" in answer.text
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ContentType"] == "image/x-test" and head["Metadata"] == {"camera": "Kodak"}
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    fields = {"success_action_redirect": "http://localhost/done?x=1"}
    post = s3.generate_presigned_post(bucket, "a b", Fields=fields, Conditions=[fields])
    answer = requests.post(post["url"], data=post["fields"], files={"file": b"x"}, allow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"http://localhost/done?x=1&bucket={bucket}&key=a+b&etag=%22")


def test_forms_keep_to_their_policy(s3, bucket):
    conditions = [["content-length-range", 2, 5]]
    post = s3.generate_presigned_post(bucket, "k", Conditions=conditions)

    def send(file=b"123", **fields):
        answer = requests.post(post["url"], data={**post["fields"], **fields}, files={"file": file})
        found = answer.text.partition("<Code>")[2].partition("</Code>")[0]
        return answer.status_code, found

    assert send() == (204, "")
    assert send(b"1") == (400, "EntityTooSmall")
    assert send(b"123456") == (400, "EntityTooLarge")
    assert send(b"1" * (2 << 20)) == (400, "EntityTooLarge")
    assert send(key="other") == (403, "AccessDenied")
    assert send(acl="public-read") == (403, "AccessDenied")
    name = "x-amz-signature" if "x-amz-signature" in post["fields"] else "signature"
    assert send(**{name: "0" * len(post["fields"][name])}) == (403, "SignatureDoesNotMatch")
    # To another bucket, whatever a field says.
    other = unique("other")
    s3.create_bucket(Bucket=other)
    answer = requests.post(post["url"].replace(bucket, other), data={**post["fields"], "bucket": bucket}, files={"file": b"123"})
    assert answer.status_code == 403 and "$bucket" in answer.text
    expired = s3.generate_presigned_post(bucket, "k", ExpiresIn=-10)
    answer = requests.post(expired["url"], data=expired["fields"], files={"file": b"x"})
    assert answer.status_code == 403 and "Policy expired" in answer.text
    # Without a policy it is nobody's, and nobody may.
    assert requests.post(post["url"], data={"key": "k"}, files={"file": b"x"}).status_code == 403
    assert requests.post(post["url"], data={"key": "k"}).status_code in (400, 412)
    objects = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [o["Key"] for o in objects] == ["k"] and objects[0]["Size"] == 3


def test_the_signer_of_a_form_needs_the_right(node, s3, bucket):
    iam = node.client("iam")
    name = unique("poster")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    poster = node.client("s3", **key)
    post = poster.generate_presigned_post(bucket, "k")
    assert requests.post(post["url"], data=post["fields"], files={"file": b"x"}).status_code == 403
    statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/k"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    assert requests.post(post["url"], data=post["fields"], files={"file": b"x"}).status_code == 204


@pytest.fixture
def site(node, s3, bucket):
    """Asks for a path of the bucket's web site."""
    s3.delete_public_access_block(Bucket=bucket)
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"],
                 "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    def get(path, method="GET", **headers):
        host = f"{bucket}.s3-website.us-east-1.localhost:{node.port}"
        url = f"{node.endpoint}{path}"
        return requests.request(method, url, headers={"Host": host, **headers}, allow_redirects=False)

    return get


def page(s3, bucket, key, body, **arguments):
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/html", **arguments)


def test_a_web_site(s3, bucket, site):
    answer = site("/")
    assert answer.status_code == 404 and "NoSuchWebsiteConfiguration" in answer.text
    configuration = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=configuration)
    got = s3.get_bucket_website(Bucket=bucket)
    assert (got["IndexDocument"], got["ErrorDocument"]) == ({"Suffix": "index.html"}, {"Key": "error.html"})
    page(s3, bucket, "index.html", b"home")
    page(s3, bucket, "docs/index.html", b"docs")
    page(s3, bucket, "big.html", b"0123456789" * 30_000)
    answer = site("/")
    assert (answer.status_code, answer.content) == (200, b"home")
    assert answer.headers["Content-Type"] == "text/html"
    assert site("/docs/").content == b"docs"
    answer = site("/docs")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs/")
    assert site("/big.html", Range="bytes=5-14").content == b"5678901234"
    assert site("/", **{"If-None-Match": s3.head_object(Bucket=bucket, Key="index.html")["ETag"]}).status_code == 304
    answer = site("/", "HEAD")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "4")
    answer = site("/absent")
    assert answer.status_code == 404 and "<h1>404 Not Found</h1>" in answer.text and "NoSuchKey" in answer.text
    page(s3, bucket, "error.html", b"sorry")
    answer = site("/absent")
    assert (answer.status_code, answer.content) == (404, b"sorry")
    assert site("/", "PUT").status_code == 405
    page(s3, bucket, "moved", b"", WebsiteRedirectLocation="/docs/")
    answer = site("/moved")
    assert (answer.status_code, answer.headers["Location"]) == (301, "/docs/")
    assert s3.head_object(Bucket=bucket, Key="moved")["WebsiteRedirectLocation"] == "/docs/"
    s3.delete_bucket_policy(Bucket=bucket)
    answer = site("/")
    assert answer.status_code == 403 and "AccessDenied" in answer.text
    s3.delete_bucket_website(Bucket=bucket)
    with pytest.raises(ClientError) as e:
        s3.get_bucket_website(Bucket=bucket)
    assert code(e) == ("NoSuchWebsiteConfiguration", 404)


def test_a_web_site_sends_elsewhere(s3, bucket, site):
    rules = [
        {"Condition": {"KeyPrefixEquals": "docs/"}, "Redirect": {"ReplaceKeyPrefixWith": "documents/"}},
        {
            "Condition": {"HttpErrorCodeReturnedEquals": "404"},
            "Redirect": {"HostName": "example.org", "Protocol": "https", "HttpRedirectCode": "302", "ReplaceKeyWith": "x"},
        },
    ]
    configuration = {"IndexDocument": {"Suffix": "index.html"}, "RoutingRules": rules}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=configuration)
    assert s3.get_bucket_website(Bucket=bucket)["RoutingRules"] == rules
    answer = site("/docs/a")
    assert answer.status_code == 301 and answer.headers["Location"].endswith("/documents/a")
    answer = site("/absent")
    assert (answer.status_code, answer.headers["Location"]) == (302, "https://example.org/x")
    everything = {"RedirectAllRequestsTo": {"HostName": "example.org", "Protocol": "https"}}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=everything)
    answer = site("/a/b")
    assert (answer.status_code, answer.headers["Location"]) == (301, "https://example.org/a/b")
    for bad in [
        {"IndexDocument": {"Suffix": "a/b"}},
        {"ErrorDocument": {"Key": "e"}},
        {"IndexDocument": {"Suffix": "i"}, "RoutingRules": [{"Redirect": {"HttpRedirectCode": "200"}}]},
    ]:
        with pytest.raises(ClientError) as e:
            s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=bad)
        assert code(e)[1] == 400
