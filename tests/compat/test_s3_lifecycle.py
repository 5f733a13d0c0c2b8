"""What goes by rules, and what is locked; events; a template with all of it."""

import datetime
import json

import pytest
from botocore.exceptions import ClientError
from conftest import eventually, unique

pytestmark = pytest.mark.local

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def bucket(s3):
    name = unique("rules")
    s3.create_bucket(Bucket=name)
    return name


def code(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["ResponseMetadata"]["HTTPStatusCode"]


def keys(s3, bucket):
    return [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_lifecycle_rules(s3, bucket):
    with pytest.raises(ClientError) as e:
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert code(e) == ("NoSuchLifecycleConfiguration", 404)
    for key in ["old/a", "old/b", "new/c"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    rules = [
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Date": PAST}},
        {
            "ID": "more", "Status": "Enabled",
            "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "a", "Value": "b"}], "ObjectSizeGreaterThan": 5}},
            "Expiration": {"Days": 10},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
        },
        {
            "ID": "uploads", "Status": "Disabled", "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    eventually(lambda: keys(s3, bucket) == ["new/c"])
    transition = [{"Days": 1, "StorageClass": "GLACIER"}]
    with pytest.raises(ClientError) as e:
        rule = {"ID": "t", "Status": "Enabled", "Filter": {"Prefix": ""}, "Transitions": transition}
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert code(e) == ("NotImplemented", 501) and "transition" in str(e.value)
    s3.delete_bucket_lifecycle(Bucket=bucket)


def test_rules_put_markers_where_versions_are_kept(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Date": PAST}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    eventually(lambda: keys(s3, bucket) == [])
    listed = s3.list_object_versions(Bucket=bucket)
    assert [v["VersionId"] for v in listed["Versions"]] == [version]
    assert [m["IsLatest"] for m in listed["DeleteMarkers"]] == [True]


def test_object_lock(node, s3):
    bucket = unique("locked")
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    configuration = {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
    }
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ObjectLockMode"] == "GOVERNANCE" and head["ObjectLockRetainUntilDate"] > head["LastModified"]
    with pytest.raises(ClientError) as e:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert code(e) == ("AccessDenied", 403)
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
    # Who may bypass is a right of its own.
    iam = node.client("iam")
    name = unique("user")
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": ["s3:DeleteObject*", "s3:PutObjectRetention"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    user = node.client("s3", **iam.create_access_key(UserName=name)["AccessKey"])
    with pytest.raises(ClientError) as e:
        user.delete_object(Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)
    assert code(e) == ("AccessDenied", 403) and "s3:BypassGovernanceRetention" in str(e.value)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    s3.put_object_retention(Bucket=bucket, Key="k", Retention=retention)
    shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": until - datetime.timedelta(days=1)}
    with pytest.raises(ClientError) as e:
        s3.put_object_retention(Bucket=bucket, Key="k", Retention=shorter)
    assert code(e) == ("AccessDenied", 403)
    s3.put_object_retention(Bucket=bucket, Key="k", Retention=shorter, BypassGovernanceRetention=True)
    assert s3.get_object_retention(Bucket=bucket, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
    s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(Bucket=bucket, Key="k")["LegalHold"]["Status"] == "ON"
    with pytest.raises(ClientError):
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)
    s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket=bucket)


TEMPLATE = """
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      VersioningConfiguration: {Status: Enabled}
      BucketEncryption:
        ServerSideEncryptionConfiguration:
          - ServerSideEncryptionByDefault: {SSEAlgorithm: AES256}
      PublicAccessBlockConfiguration: {BlockPublicAcls: true, BlockPublicPolicy: false}
      OwnershipControls: {Rules: [{ObjectOwnership: BucketOwnerPreferred}]}
      CorsConfiguration:
        CorsRules: [{AllowedMethods: [GET], AllowedOrigins: ["*"], MaxAge: 5}]
      LoggingConfiguration: {DestinationBucketName: !Ref Logs, LogFilePrefix: access/}
      WebsiteConfiguration: {IndexDocument: index.html, ErrorDocument: error.html}
      LifecycleConfiguration:
        Rules:
          - {Id: a, Status: Enabled, Prefix: logs/, ExpirationInDays: 3}
          - {Id: b, Status: Enabled, NoncurrentVersionExpiration: {NoncurrentDays: 2, NewerNoncurrentVersions: 1}}
  Logs:
    Type: AWS::S3::Bucket
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: "*", Action: "s3:GetObject", Resource: !Sub "${Bucket.Arn}/*"}
Outputs:
  Name: {Value: !Ref Bucket}
  Site: {Value: !GetAtt Bucket.WebsiteURL}
"""
LESS = """
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      CorsConfiguration:
        CorsRules: [{AllowedMethods: [GET, PUT], AllowedOrigins: ["*"]}]
Outputs:
  Name: {Value: !Ref Bucket}
"""


def test_a_template_configures_a_bucket(node, s3):
    cloudformation = node.client("cloudformation")
    stack = unique("bucket")
    cloudformation.create_stack(StackName=stack, TemplateBody=TEMPLATE)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    outputs = {o["OutputKey"]: o["OutputValue"] for o in outputs}
    bucket = outputs["Name"]
    assert outputs["Site"].startswith(f"http://{bucket}.s3-website-")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert controls == [{"ObjectOwnership": "BucketOwnerPreferred"}]
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["MaxAgeSeconds"] == 5
    assert s3.get_bucket_logging(Bucket=bucket)["LoggingEnabled"]["TargetPrefix"] == "access/"
    assert s3.get_bucket_website(Bucket=bucket)["ErrorDocument"] == {"Key": "error.html"}
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["ID"] for rule in rules] == ["a", "b"] and rules[0]["Expiration"] == {"Days": 3}
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    cloudformation.update_stack(StackName=stack, TemplateBody=LESS)
    cloudformation.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["AllowedMethods"] == ["GET", "PUT"]
    for absent in [s3.get_bucket_website, s3.get_bucket_lifecycle_configuration, s3.get_bucket_policy]:
        with pytest.raises(ClientError) as e:
            absent(Bucket=bucket)
        assert code(e)[1] == 404
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    assert bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_a_bucket_with_objects_is_not_deleted_with_its_stack(node, s3):
    cloudformation = node.client("cloudformation")
    stack = unique("full")
    cloudformation.create_stack(StackName=stack, TemplateBody=LESS)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    bucket = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"][0]["OutputValue"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    cloudformation.delete_stack(StackName=stack)

    def status():
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]

    eventually(lambda: status() == "DELETE_FAILED")
    s3.delete_object(Bucket=bucket, Key="k")
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def test_answers_say_when_an_object_expires(s3, bucket):
    rule = {"ID": "soon", "Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    put = s3.put_object(Bucket=bucket, Key="a/k", Body=b"x")
    assert put["Expiration"].startswith('expiry-date="') and put["Expiration"].endswith('rule-id="soon"')
    assert s3.head_object(Bucket=bucket, Key="a/k")["Expiration"] == put["Expiration"]
    assert s3.get_object(Bucket=bucket, Key="a/k")["Expiration"] == put["Expiration"]
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")
