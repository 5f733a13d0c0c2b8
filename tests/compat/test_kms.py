"""KMS with boto3, and S3's objects under its keys."""

import hashlib
import io
import json
import os
import re
import urllib.request

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, running, unique

SSE = {"ServerSideEncryption": "aws:kms"}


@pytest.fixture
def kms(node):
    return node.client("kms")


@pytest.fixture
def s3(node):
    return node.client("s3")


@pytest.fixture
def key(kms):
    key = kms.create_key(Description="for a test")["KeyMetadata"]
    yield key
    if kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] != "PendingDeletion":
        kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)


@pytest.fixture
def bucket(s3):
    name = unique("kms")
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        if keys := [{"Key": o["Key"]} for o in page.get("Contents", [])]:
            s3.delete_objects(Bucket=name, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=name)


def refusal(call, *args, **kwargs):
    with pytest.raises(ClientError) as error:
        call(*args, **kwargs)
    return error.value.response["Error"]["Code"]


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(principal, actions, **more):
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Resource": "*", **more}


def user(node, name, *statements):
    """Keys of a user who may do what the statements say, and its ARN."""
    iam = node.client("iam")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    if statements:
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(*statements))
    return iam.create_access_key(UserName=name)["AccessKey"], arn


def test_keys(kms):
    key = kms.create_key(Description="one", Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", key["KeyId"])
    assert key["Arn"].endswith(f":key/{key['KeyId']}") and key["Enabled"] and key["KeyState"] == "Enabled"
    assert key["KeySpec"] == "SYMMETRIC_DEFAULT" and key["KeyManager"] == "CUSTOMER" and not key["MultiRegion"]
    for name in (key["KeyId"], key["Arn"]):
        assert kms.describe_key(KeyId=name)["KeyMetadata"] == key
    listed = [k for page in kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}) for k in page["Keys"]]
    assert {"KeyId": key["KeyId"], "KeyArn": key["Arn"]} in listed
    kms.update_key_description(KeyId=key["KeyId"], Description="two")
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["Description"] == "two"

    kms.tag_resource(KeyId=key["KeyId"], Tags=[{"TagKey": "c", "TagValue": "d"}])
    kms.untag_resource(KeyId=key["KeyId"], TagKeys=["a"])
    assert kms.list_resource_tags(KeyId=key["KeyId"])["Tags"] == [{"TagKey": "c", "TagValue": "d"}]

    kms.disable_key(KeyId=key["KeyId"])
    assert refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x") == "DisabledException"
    kms.enable_key(KeyId=key["KeyId"])
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    gone = kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    assert gone["KeyState"] == "PendingDeletion" and gone["PendingWindowInDays"] == 7
    assert refusal(kms.decrypt, CiphertextBlob=sealed) == "KMSInvalidStateException"
    assert refusal(kms.enable_key, KeyId=key["KeyId"]) == "KMSInvalidStateException"
    kms.cancel_key_deletion(KeyId=key["KeyId"])
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"x"
    kms.schedule_key_deletion(KeyId=key["KeyId"])


def test_what_there_is_not_is_said(kms, key):
    assert refusal(kms.describe_key, KeyId="00000000-0000-4000-8000-000000000000") == "NotFoundException"
    assert refusal(kms.describe_key, KeyId="alias/none") == "NotFoundException"
    assert refusal(kms.describe_key, KeyId="nonsense") == "NotFoundException"
    assert refusal(kms.decrypt, CiphertextBlob=b"nonsense" * 20) == "InvalidCiphertextException"
    assert refusal(kms.schedule_key_deletion, KeyId=key["KeyId"], PendingWindowInDays=3) == "ValidationException"
    assert refusal(kms.create_key, Policy="{}") == "MalformedPolicyDocumentException"


@pytest.mark.local
def test_other_kinds_of_keys_are_refused(kms):
    for arguments in [{"KeySpec": "RSA_2048"}, {"KeyUsage": "SIGN_VERIFY"}, {"MultiRegion": True}, {"Origin": "EXTERNAL"}]:
        assert refusal(kms.create_key, **arguments) == "UnsupportedOperationException"


def test_encryption(kms, key):
    context = {"b": "2", "a": "1"}
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret", EncryptionContext=context)
    assert sealed["KeyId"] == key["Arn"] and b"secret" not in sealed["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"secret", key["Arn"])
    for other in ({}, {"a": "1"}, {**context, "c": "3"}):
        assert refusal(kms.decrypt, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=other) == "InvalidCiphertextException"
    flipped = bytearray(sealed["CiphertextBlob"])
    flipped[-1] ^= 1
    assert refusal(kms.decrypt, CiphertextBlob=bytes(flipped), EncryptionContext=context) == "InvalidCiphertextException"
    assert refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x" * 4097) == "ValidationException"
    assert refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", DryRun=True) == "DryRunOperationException"

    another = kms.create_key()["KeyMetadata"]
    assert refusal(kms.decrypt, KeyId=another["KeyId"], CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context) == "IncorrectKeyException"
    moved = kms.re_encrypt(CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext=context, DestinationKeyId=another["Arn"])
    assert (moved["SourceKeyId"], moved["KeyId"]) == (key["Arn"], another["Arn"])
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"] == b"secret"
    kms.schedule_key_deletion(KeyId=another["KeyId"], PendingWindowInDays=7)


def test_data_keys(kms, key):
    for arguments, length in [({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 100}, 100)]:
        made = kms.generate_data_key(KeyId=key["KeyId"], EncryptionContext={"for": "this"}, **arguments)
        assert len(made["Plaintext"]) == length
        assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"for": "this"})["Plaintext"] == made["Plaintext"]
        made = kms.generate_data_key_without_plaintext(KeyId=key["KeyId"], **arguments)
        assert "Plaintext" not in made and len(kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"]) == length
    assert refusal(kms.generate_data_key, KeyId=key["KeyId"]) == "ValidationException"
    first, second = (kms.generate_random(NumberOfBytes=64)["Plaintext"] for _ in range(2))
    assert len(first) == 64 and first != second


def test_aliases(kms, key):
    name = f"alias/{unique('test')}"
    kms.create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    assert refusal(kms.create_alias, AliasName=name, TargetKeyId=key["KeyId"]) == "AlreadyExistsException"
    assert kms.describe_key(KeyId=name)["KeyMetadata"]["KeyId"] == key["KeyId"]
    (listed,) = kms.list_aliases(KeyId=key["KeyId"])["Aliases"]
    assert (listed["AliasName"], listed["TargetKeyId"]) == (name, key["KeyId"])
    sealed = kms.encrypt(KeyId=name, Plaintext=b"x")
    assert sealed["KeyId"] == key["Arn"]
    another = kms.create_key()["KeyMetadata"]
    kms.update_alias(AliasName=name, TargetKeyId=another["KeyId"])
    assert kms.describe_key(KeyId=listed["AliasArn"])["KeyMetadata"]["KeyId"] == another["KeyId"]
    assert kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"] == b"x"
    kms.delete_alias(AliasName=name)
    assert refusal(kms.describe_key, KeyId=name) == "NotFoundException"
    assert refusal(kms.delete_alias, AliasName=name) == "NotFoundException"
    assert refusal(kms.create_alias, AliasName="alias/aws/mine", TargetKeyId=key["KeyId"]) == "NotAuthorizedException"
    kms.schedule_key_deletion(KeyId=another["KeyId"], PendingWindowInDays=7)


def test_rotation(kms, key):
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is False
    kms.enable_key_rotation(KeyId=key["KeyId"], RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=key["KeyId"])
    assert status["KeyRotationEnabled"] and status["RotationPeriodInDays"] == 90
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"old"
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"new")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"new"
    kms.disable_key_rotation(KeyId=key["KeyId"])
    assert not kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]


@pytest.mark.local
def test_rights_come_from_the_keys_policy(node, kms):
    root = f"arn:aws:iam::{ACCOUNT}:root"
    anything = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    trusted, trusted_arn = user(node, unique("trusted"))
    mighty, _ = user(node, unique("mighty"), anything)
    nobody, _ = user(node, unique("nobody"))
    usual = kms.create_key()["KeyMetadata"]["KeyId"]
    assert json.loads(kms.get_key_policy(KeyId=usual)["Policy"])["Statement"][0]["Principal"]["AWS"] == root
    assert kms.list_key_policies(KeyId=usual)["PolicyNames"] == ["default"]
    # The account decides: IAM policies count.
    node.client("kms", **mighty).encrypt(KeyId=usual, Plaintext=b"x")
    assert refusal(node.client("kms", **nobody).encrypt, KeyId=usual, Plaintext=b"x") == "AccessDeniedException"
    # The key's policy decides alone: they do not.
    strict = policy(allow(root, "kms:PutKeyPolicy"), allow(trusted_arn, ["kms:Encrypt", "kms:Decrypt"]))
    kms.put_key_policy(KeyId=usual, Policy=strict)
    assert refusal(node.client("kms", **mighty).encrypt, KeyId=usual, Plaintext=b"x") == "AccessDeniedException"
    sealed = node.client("kms", **trusted).encrypt(KeyId=usual, Plaintext=b"x")["CiphertextBlob"]
    assert node.client("kms", **trusted).decrypt(CiphertextBlob=sealed)["Plaintext"] == b"x"
    # By what is encrypted.
    bound = {"Condition": {"StringEquals": {"kms:EncryptionContext:team": "red"}}}
    kms.put_key_policy(KeyId=usual, Policy=policy(allow(root, "kms:*"), allow(trusted_arn, "kms:Encrypt", **bound)))
    node.client("kms", **trusted).encrypt(KeyId=usual, Plaintext=b"x", EncryptionContext={"team": "red"})
    for context in ({}, {"team": "blue"}):
        assert refusal(node.client("kms", **trusted).encrypt, KeyId=usual, Plaintext=b"x", EncryptionContext=context) == "AccessDeniedException"
    # Nobody locks themselves out by mistake.
    theirs = node.client("kms", **mighty)
    assert refusal(theirs.put_key_policy, KeyId=usual, Policy=policy(allow(trusted_arn, "kms:*"))) == "MalformedPolicyDocumentException"
    kms.schedule_key_deletion(KeyId=usual, PendingWindowInDays=7)


@pytest.mark.local
def test_keys_outlive_a_node_and_need_its_key_file(tmp_path):
    data = tmp_path / "data"
    with running(data) as node:
        kms = node.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        sealed = kms.encrypt(KeyId=key, Plaintext=b"kept")["CiphertextBlob"]
    with running(data) as node:
        assert node.client("kms").decrypt(CiphertextBlob=sealed)["Plaintext"] == b"kept"


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_objects_under_keys(s3, kms, bucket, key, size):
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, SSEKMSKeyId=key["KeyId"], **SSE)
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", key["Arn"])
    assert put["ETag"] != f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body and got["SSEKMSKeyId"] == key["Arn"]
    assert s3.head_object(Bucket=bucket, Key="k")["SSEKMSKeyId"] == key["Arn"]
    if size > 100:
        assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=70000-70099")["Body"].read() == body[70_000:70_100]
    # A copy is under the key that it asks for, or the bucket's.
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    assert s3.head_object(Bucket=bucket, Key="copy")["ServerSideEncryption"] == "AES256"
    s3.copy_object(Bucket=bucket, Key="back", CopySource=f"{bucket}/copy", SSEKMSKeyId=key["Arn"], **SSE)
    assert s3.get_object(Bucket=bucket, Key="back")["Body"].read() == body

    kms.disable_key(KeyId=key["KeyId"])
    assert refusal(s3.get_object, Bucket=bucket, Key="k") == "KMS.DisabledException"
    assert refusal(s3.put_object, Bucket=bucket, Key="k", Body=b"", SSEKMSKeyId=key["KeyId"], **SSE) == "KMS.DisabledException"
    s3.head_object(Bucket=bucket, Key="k")
    kms.enable_key(KeyId=key["KeyId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_parts_under_a_key(s3, bucket, key):
    bodies = [os.urandom(5 << 20), os.urandom(1000)]
    upload = {"Bucket": bucket, "Key": "k"}
    begun = s3.create_multipart_upload(**upload, SSEKMSKeyId=key["KeyId"], BucketKeyEnabled=True, **SSE)
    assert (begun["SSEKMSKeyId"], begun["BucketKeyEnabled"]) == (key["Arn"], True)
    upload["UploadId"] = begun["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(PartNumber=number, Body=body, **upload)
        assert part["SSEKMSKeyId"] == key["Arn"]
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert done["SSEKMSKeyId"] == key["Arn"]
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(bodies) and got["BucketKeyEnabled"]
    s3.upload_fileobj(io.BytesIO(b"".join(bodies) * 3), bucket, "large", ExtraArgs={"SSEKMSKeyId": key["KeyId"], **SSE})
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == b"".join(bodies) * 3


def test_the_accounts_own_key(s3, kms, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x", **SSE)
    managed = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    assert put["SSEKMSKeyId"] == managed["Arn"] and managed["KeyManager"] == "AWS"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.local
def test_a_services_key_is_for_it_alone(node, s3, kms, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **SSE)
    managed = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]["KeyId"]
    assert refusal(kms.disable_key, KeyId=managed) == "NotAuthorizedException"
    # By S3 everybody in the account may use it who may read the object; nobody may by themselves.
    reader, _ = user(node, unique("reader"), {"Effect": "Allow", "Action": ["s3:GetObject", "kms:*"], "Resource": "*"})
    assert node.client("s3", **reader).get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert refusal(node.client("kms", **reader).encrypt, KeyId=managed, Plaintext=b"x") == "AccessDeniedException"


def test_a_buckets_default(s3, bucket, key):
    def configure(**default):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", **default}, "BucketKeyEnabled": True}
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]

    configure(KMSMasterKeyID=key["Arn"])
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert (put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == (key["Arn"], True)
    assert s3.put_object(Bucket=bucket, Key="plain", Body=b"x", ServerSideEncryption="AES256")["ServerSideEncryption"] == "AES256"
    configure()
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x")["SSEKMSKeyId"] != key["Arn"]
    s3.delete_bucket_encryption(Bucket=bucket)
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ServerSideEncryption"] == "AES256"


@pytest.mark.local
def test_objects_need_the_right_to_their_key(node, s3, bucket, key):
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    use = {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": key["Arn"]}
    without, _ = user(node, unique("without"), everything)
    reader, _ = user(node, unique("reader"), everything, use)
    put = {"Bucket": bucket, "Key": "k", "Body": b"x", "SSEKMSKeyId": key["KeyId"], **SSE}
    s3.put_object(**put)
    assert refusal(node.client("s3", **without).get_object, Bucket=bucket, Key="k") == "AccessDenied"
    assert node.client("s3", **reader).get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert refusal(node.client("s3", **reader).put_object, **put) == "AccessDenied"
    assert refusal(node.client("s3", **without).copy_object, Bucket=bucket, Key="c", CopySource=f"{bucket}/k") == "AccessDenied"


def test_what_does_not_go_together(node, s3, bucket, key):
    put = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    assert refusal(s3.put_object, **put, SSEKMSKeyId="00000000-0000-4000-8000-000000000000", **SSE) == "KMS.NotFoundException"
    assert refusal(s3.put_object, **put, SSEKMSKeyId=key["KeyId"], ServerSideEncryption="AES256") == "InvalidArgument"
    s3.put_object(**put, SSEKMSKeyId=key["KeyId"], **SSE)
    signer = node.client("s3", config={"signature_version": "s3v4"})
    url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"x"


@pytest.mark.local
def test_more_keys_than_a_page(node, kms):
    assert REGION in kms.create_key()["KeyMetadata"]["Arn"]
    before = {k["KeyId"] for page in kms.get_paginator("list_keys").paginate() for k in page["Keys"]}
    made = {kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(12)}
    pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 5}))
    found = [k["KeyId"] for page in pages for k in page["Keys"]]
    assert len(found) == len(set(found)) and set(found) == before | made


TEMPLATE = """
Resources:
  Key:
    Type: AWS::KMS::Key
    Properties:
      Description: of a stack
      EnableKeyRotation: true
      PendingWindowInDays: 7
      Tags: [{Key: team, Value: red}]
  Name:
    Type: AWS::KMS::Alias
    Properties: {AliasName: %(alias)s, TargetKeyId: !Ref Key}
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: %(bucket)s
      BucketEncryption:
        ServerSideEncryptionConfiguration:
          - ServerSideEncryptionByDefault: {SSEAlgorithm: aws:kms, KMSMasterKeyID: !GetAtt Key.Arn}
            BucketKeyEnabled: true
Outputs:
  Arn: {Value: !GetAtt Key.Arn}
  Id: {Value: !Ref Key}
"""


def test_keys_of_a_stack(node, kms, s3):
    stacks, name = node.client("cloudformation"), unique("keys")
    names = {"alias": f"alias/{name}", "bucket": name}

    def deploy(template, verb):
        getattr(stacks, f"{verb}_stack")(StackName=name, TemplateBody=template)
        stacks.get_waiter(f"stack_{verb}_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
        (stack,) = stacks.describe_stacks(StackName=name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    out = deploy(TEMPLATE % names, "create")
    key = kms.describe_key(KeyId=names["alias"])["KeyMetadata"]
    assert (key["KeyId"], key["Arn"], key["Description"]) == (out["Id"], out["Arn"], "of a stack")
    assert kms.get_key_rotation_status(KeyId=out["Id"])["KeyRotationEnabled"]
    assert kms.list_resource_tags(KeyId=out["Id"])["Tags"] == [{"TagKey": "team", "TagValue": "red"}]
    put = s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert (put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == (out["Arn"], True)

    changed = (TEMPLATE % names).replace("of a stack", "changed").replace("Rotation: true", "Rotation: false").replace("Key: team", "Key: crew")
    assert deploy(changed, "update") == out
    assert kms.describe_key(KeyId=out["Id"])["KeyMetadata"]["Description"] == "changed"
    assert not kms.get_key_rotation_status(KeyId=out["Id"])["KeyRotationEnabled"]
    assert [tag["TagKey"] for tag in kms.list_resource_tags(KeyId=out["Id"])["Tags"]] == ["crew"]

    s3.delete_object(Bucket=name, Key="k")
    stacks.delete_stack(StackName=name)
    stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    assert kms.describe_key(KeyId=out["Id"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert refusal(kms.describe_key, KeyId=names["alias"]) == "NotFoundException"
