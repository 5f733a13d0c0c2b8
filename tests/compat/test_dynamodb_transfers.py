"""Tables to buckets and back: exports and imports."""

import gzip
import json

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, eventually, running, unique

pytestmark = pytest.mark.local
KEYS = {
    "AttributeDefinitions": [
        {"AttributeName": "p", "AttributeType": "S"}, {"AttributeName": "s", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def filled(node, count, size=100):
    """A table that can be recovered, with items."""
    client, name = node.client("dynamodb"), unique("source")
    client.create_table(TableName=name, **KEYS)
    client.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    items = [
        {"p": {"S": f"p{n % 7}"}, "s": {"N": str(n)}, "text": {"S": "ä" * size}, "set": {"SS": ["a", "b"]},
         "map": {"M": {"l": {"L": [{"NULL": True}, {"BOOL": False}, {"B": b"\x00\xff"}]}}}}
        for n in range(count)
    ]
    for at in range(0, count, 25):
        client.batch_write_item(RequestItems={name: [{"PutRequest": {"Item": item}} for item in items[at:at + 25]]})
    return name, items


def bucket(node):
    name = unique("exports")
    node.client("s3").create_bucket(Bucket=name)
    return name


def arn(name):
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"


def exported(client, export_arn):
    def look():
        export = client.describe_export(ExportArn=export_arn)["ExportDescription"]
        return export if export["ExportStatus"] != "IN_PROGRESS" else None

    return eventually(look, timeout=120)


def imported(client, import_arn):
    def look():
        done = client.describe_import(ImportArn=import_arn)["ImportTableDescription"]
        return done if done["ImportStatus"] != "IN_PROGRESS" else None

    return eventually(look, timeout=120)


def scanned(client, table):
    pages = client.get_paginator("scan").paginate(TableName=table)
    items = [item for page in pages for item in page["Items"]]
    return sorted(items, key=lambda item: int(item["s"]["N"]))


def test_a_table_goes_to_a_bucket_and_comes_back(node):
    client, s3 = node.client("dynamodb"), node.client("s3")
    table, items = filled(node, 1000)
    to = bucket(node)
    export = client.export_table_to_point_in_time(TableArn=arn(table), S3Bucket=to, S3Prefix="my exports")
    done = exported(client, export["ExportDescription"]["ExportArn"])
    assert (done["ExportStatus"], done["ItemCount"]) == ("COMPLETED", 1000)
    folder = done["ExportManifest"].rpartition("/")[0]
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=to)["Contents"]]
    names = {key.removeprefix(f"{folder}/") for key in keys if "/data/" not in key}
    assert names == {"_started", "manifest-files.json", "manifest-files.md5", "manifest-summary.json", "manifest-summary.md5"}
    summary = json.loads(s3.get_object(Bucket=to, Key=done["ExportManifest"])["Body"].read())
    assert summary["itemCount"] == 1000 and summary["tableArn"] == arn(table)
    [data] = [key for key in keys if "/data/" in key]
    lines = gzip.decompress(s3.get_object(Bucket=to, Key=data)["Body"].read()).splitlines()
    assert len(lines) == 1000

    copy = unique("copy")
    started = client.import_table(
        S3BucketSource={"S3Bucket": to, "S3KeyPrefix": f"{folder}/data/"}, InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP", TableCreationParameters={"TableName": copy, **KEYS},
    )["ImportTableDescription"]
    done = imported(client, started["ImportArn"])
    assert (done["ImportStatus"], done["ImportedItemCount"], done["ErrorCount"]) == ("COMPLETED", 1000, 0), done
    assert client.describe_table(TableName=copy)["Table"]["TableStatus"] == "ACTIVE"
    assert scanned(client, copy) == scanned(client, table) == items
    assert [s["ImportArn"] for s in client.list_imports(TableArn=arn(copy))["ImportSummaryList"]] == [started["ImportArn"]]


def test_an_export_can_be_encrypted_by_kms(node):
    client, s3, to = node.client("dynamodb"), node.client("s3"), bucket(node)
    table, _ = filled(node, 10)
    key = node.client("kms").create_key()["KeyMetadata"]["Arn"]
    export = client.export_table_to_point_in_time(
        TableArn=arn(table), S3Bucket=to, S3SseAlgorithm="KMS", S3SseKmsKeyId=key)
    done = exported(client, export["ExportDescription"]["ExportArn"])
    assert (done["ExportStatus"], done["S3SseAlgorithm"], done["S3SseKmsKeyId"]) == ("COMPLETED", "KMS", key)
    for listed in s3.list_objects_v2(Bucket=to)["Contents"]:
        assert s3.head_object(Bucket=to, Key=listed["Key"])["SSEKMSKeyId"] == key


def test_csv_of_any_kind(node):
    client, s3 = node.client("dynamodb"), node.client("s3")
    to, copy = bucket(node), unique("copy")
    s3.put_object(Bucket=to, Key="a/1.csv", Body='p|s|note\nx|1|"a|b"\nx|2|""\n'.encode())
    s3.put_object(Bucket=to, Key="a/2.csv", Body="p|s|note\r\ny|3|ü\r\n".encode())
    started = client.import_table(
        S3BucketSource={"S3Bucket": to, "S3KeyPrefix": "a/"}, InputFormat="CSV",
        InputFormatOptions={"Csv": {"Delimiter": "|"}}, TableCreationParameters={"TableName": copy, **KEYS},
    )["ImportTableDescription"]
    done = imported(client, started["ImportArn"])
    assert (done["ImportStatus"], done["ImportedItemCount"]) == ("COMPLETED", 3), done
    assert [item["note"]["S"] for item in scanned(client, copy)] == ["a|b", "", "ü"]


def test_an_import_with_records_that_are_no_items_has_failed(node):
    client, s3 = node.client("dynamodb"), node.client("s3")
    to, copy = bucket(node), unique("copy")
    s3.put_object(Bucket=to, Key="good", Body=json.dumps({"Item": {"p": {"S": "x"}, "s": {"N": "1"}}}))
    s3.put_object(Bucket=to, Key="not so good", Body=json.dumps({"p": {"S": "x"}, "s": {"N": "2"}}))
    started = client.import_table(
        S3BucketSource={"S3Bucket": to}, InputFormat="DYNAMODB_JSON",
        TableCreationParameters={"TableName": copy, **KEYS})["ImportTableDescription"]
    done = imported(client, started["ImportArn"])
    assert (done["ImportStatus"], done["FailureCode"]) == ("FAILED", "ItemValidationError"), done
    assert [done[f"{count}Count"] for count in ("ProcessedItem", "ImportedItem", "Error")] == [2, 1, 1]
    assert client.describe_table(TableName=copy)["Table"]["TableStatus"] == "ACTIVE"
    assert scanned(client, copy) == [{"p": {"S": "x"}, "s": {"N": "1"}}]


def test_the_caller_needs_the_right_to_the_bucket(node):
    iam = node.client("iam")
    table, _ = filled(node, 1)
    to, name = bucket(node), unique("exporter")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    allow = {"Effect": "Allow", "Action": ["dynamodb:*"], "Resource": "*"}

    def may(*statements):
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)

    may(allow)
    client = node.client("dynamodb", **key)
    with pytest.raises(ClientError) as e:
        client.export_table_to_point_in_time(TableArn=arn(table), S3Bucket=to)
    assert e.value.response["Error"]["Code"] == "AccessDeniedException"
    with pytest.raises(ClientError) as e:
        client.import_table(S3BucketSource={"S3Bucket": to}, InputFormat="CSV",
                            TableCreationParameters={"TableName": unique("t"), **KEYS})
    assert e.value.response["Error"]["Code"] == "AccessDeniedException"
    may(allow, {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{to}/*"})
    export = client.export_table_to_point_in_time(TableArn=arn(table), S3Bucket=to)
    assert exported(client, export["ExportDescription"]["ExportArn"])["ExportStatus"] == "COMPLETED"
    with pytest.raises(ClientError) as e:
        client.export_table_to_point_in_time(TableArn=arn(table), S3Bucket="no-such-bucket-anywhere")
    assert e.value.response["Error"]["Code"] in ("ValidationException", "AccessDeniedException")


def test_both_go_on_after_a_crash(tmp_path, shared_cache):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        client = node.client("dynamodb")
        table, items = filled(node, 3000, size=2000)
        to, copy = bucket(node), unique("copy")
        export = client.export_table_to_point_in_time(TableArn=arn(table), S3Bucket=to)["ExportDescription"]
        node.kill()
        node.start()
        done = exported(client, export["ExportArn"])
        assert (done["ExportStatus"], done["ItemCount"]) == ("COMPLETED", 3000)
        folder = done["ExportManifest"].rpartition("/")[0]
        started = client.import_table(
            S3BucketSource={"S3Bucket": to, "S3KeyPrefix": f"{folder}/data/"}, InputFormat="DYNAMODB_JSON",
            InputCompressionType="GZIP", TableCreationParameters={"TableName": copy, **KEYS},
        )["ImportTableDescription"]

        def under_way():
            state = client.describe_import(ImportArn=started["ImportArn"])["ImportTableDescription"]
            return state["ImportedItemCount"] > 100 or state["ImportStatus"] != "IN_PROGRESS"

        eventually(under_way)
        node.kill()
        node.start()
        done = imported(client, started["ImportArn"])
        counts = (done["ImportStatus"], done["ProcessedItemCount"], done["ImportedItemCount"], done["ErrorCount"])
        assert counts == ("COMPLETED", 3000, 3000, 0)
        assert scanned(client, copy) == items


def deploy(node, name, resources, **more):
    """A stack of those resources."""
    client = node.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources, **more}))

    def look():
        stack = client.describe_stacks(StackName=name)["Stacks"][0]
        return stack if not stack["StackStatus"].endswith("IN_PROGRESS") else None

    return eventually(look)


def test_templates_make_tables_of_what_a_bucket_holds(node):
    client, to, name = node.client("dynamodb"), bucket(node), unique("from-bucket")
    node.client("s3").put_object(Bucket=to, Key="in/1.csv", Body=b"p,s\na,1\nb,2\n")
    source = {"InputFormat": "CSV", "S3BucketSource": {"S3Bucket": to, "S3KeyPrefix": "in/"}}
    table = {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": name, **KEYS, "ImportSourceSpecification": source,
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": 7},
            "Tags": [{"Key": "k", "Value": "v"}],
        },
    }
    assert deploy(node, unique("stack"), {"Table": table})["StackStatus"] == "CREATE_COMPLETE"
    assert [item["s"]["N"] for item in scanned(client, name)] == ["1", "2"]
    description = client.describe_table(TableName=name)["Table"]
    assert description["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    assert client.list_tags_of_resource(ResourceArn=arn(name))["Tags"] == [{"Key": "k", "Value": "v"}]
    recovery = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert recovery["PointInTimeRecoveryDescription"]["RecoveryPeriodInDays"] == 7
    # One that fails is gone again, and says why.
    table["Properties"]["TableName"] = failing = unique("from-nothing")
    source["S3BucketSource"]["S3KeyPrefix"] = "nothing/"
    stack = unique("stack")
    assert deploy(node, stack, {"Table": table})["StackStatus"] == "ROLLBACK_COMPLETE"
    events = node.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    assert any("There are no objects" in event.get("ResourceStatusReason", "") for event in events)
    assert failing not in client.list_tables()["TableNames"]


def test_stream_arns_are_real(node):
    client, name, stack = node.client("dynamodb"), unique("streamed"), unique("stack")
    table = {"Type": "AWS::DynamoDB::Table", "Properties": {"TableName": name, **KEYS}}
    table["Properties"]["StreamSpecification"] = {"StreamViewType": "NEW_IMAGE"}
    outputs = {"Stream": {"Value": {"Fn::GetAtt": ["Table", "StreamArn"]}}}
    made = deploy(node, stack, {"Table": table}, Outputs=outputs)
    first = client.describe_table(TableName=name)["Table"]["LatestStreamArn"]
    assert made["Outputs"][0]["OutputValue"] == first
    update = {"StackName": stack}

    def updated():
        body = json.dumps({"Resources": {"Table": table}, "Outputs": outputs})
        node.client("cloudformation").update_stack(**update, TemplateBody=body)

        def look():
            found = node.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
            return found if not found["StackStatus"].endswith("IN_PROGRESS") else None

        return eventually(look)

    # Another stream has another ARN; one that stays keeps its own.
    table["Properties"]["StreamSpecification"] = {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    changed = updated()
    second = client.describe_table(TableName=name)["Table"]["LatestStreamArn"]
    assert changed["StackStatus"] == "UPDATE_COMPLETE" and second != first
    assert changed["Outputs"][0]["OutputValue"] == second
    table["Properties"]["Tags"] = [{"Key": "k", "Value": "v"}]
    assert updated()["Outputs"][0]["OutputValue"] == second


def test_a_global_table_has_one_replica(node):
    client, name = node.client("dynamodb"), unique("global")
    replica = {"Region": REGION, "DeletionProtectionEnabled": False, "Tags": [{"Key": "k", "Value": "v"}]}
    table = {
        "Type": "AWS::DynamoDB::GlobalTable",
        "Properties": {
            "TableName": name, **KEYS, "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
            "Replicas": [{**replica, "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}],
        },
    }
    stack = deploy(node, unique("stack"), {"Table": table}, Outputs={"Arn": {"Value": {"Fn::GetAtt": ["Table", "Arn"]}}})
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert stack["Outputs"][0]["OutputValue"] == arn(name)
    assert client.list_tags_of_resource(ResourceArn=arn(name))["Tags"] == [{"Key": "k", "Value": "v"}]
    recovery = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    table["Properties"].update(TableName=unique("global"), Replicas=[replica, {"Region": "eu-west-1"}])
    assert deploy(node, unique("stack"), {"Table": table})["StackStatus"] == "ROLLBACK_COMPLETE"
