"""Functions that are woken by the streams of tables, with boto3 and with templates."""

import json
import time

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, PYTHON_RUNTIME, REGION, Node, deployed, eventually, unique
from functions import function
from test_functions import code

pytestmark = pytest.mark.local

READS = {"Effect": "Allow", "Action": ["dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream", "dynamodb:ListStreams"], "Resource": "*"}
WRITES = {"Effect": "Allow", "Action": ["dynamodb:PutItem", "s3:PutObject"], "Resource": "*"}

# Notes every batch that it gets in another table, and fails where it is told to.
NOTE = """
import boto3, json, os, time
table = boto3.resource("dynamodb").Table(os.environ["NOTES"])
def handler(event, context):
    records = event["Records"]
    seen = [[r["eventName"], r["dynamodb"]["Keys"]["id"]["S"], r["dynamodb"].get("NewImage", {}).get("n", {}).get("N")] for r in records]
    bad = [r for r in records if r["dynamodb"]["Keys"]["id"]["S"].startswith("bad")]
    table.put_item(Item={"id": f"{time.time_ns():020}", "seen": json.dumps(seen), "source": records[0]["eventSourceARN"]})
    if bad and os.environ.get("REPORT"):
        return {"batchItemFailures": [{"itemIdentifier": bad[0]["dynamodb"]["SequenceNumber"]}]}
    if bad:
        raise ValueError("bad")
    return {"batchItemFailures": []} if os.environ.get("REPORT") else None
"""


class Table:
    def __init__(self, node, stream="NEW_AND_OLD_IMAGES"):
        self.client, self.name = node.client("dynamodb"), unique("table")
        options = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": stream}} if stream else {}
        made = self.client.create_table(
            TableName=self.name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], **options,
        )
        self.client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 1})
        self.stream = made["TableDescription"].get("LatestStreamArn")

    def put(self, key, n=0):
        self.client.put_item(TableName=self.name, Item={"id": {"S": key}, "n": {"N": str(n)}})

    def notes(self):
        """The batches that were noted, in order."""
        pages = self.client.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        items = sorted((i["id"]["S"], json.loads(i["seen"]["S"])) for page in pages for i in page["Items"])
        return [seen for _, seen in items]


def noted(notes, wanted, timeout=90):
    """Waits until the records noted are at least `wanted` many; all batches."""
    return eventually(lambda: sum(map(len, found := notes.notes())) >= wanted and found, timeout)


@pytest.fixture
def tables(node):
    return Table(node), Table(node, None)


def settings(notes, **more):
    return {"Environment": {"Variables": {"NOTES": notes.name, **more}}, "Timeout": 30}


@pytest.fixture(scope="module")
def node(tmp_path_factory, shared_cache):
    """Retries follow one another quickly."""
    directory = tmp_path_factory.mktemp("node")
    (directory / "config.json").write_text(json.dumps({"events": {"throttle_base_ms": 50, "source_retry_limit_ms": 200}}))
    node = Node(directory / "data", "--cache", shared_cache, "--config", directory / "config.json").start()
    yield node
    assert node.stop() == 0


def test_a_stream_wakes_a_function(node, tables):
    client = node.client("lambda")
    source, notes = tables
    source.put("before")
    with function(node, NOTE, READS, WRITES, **settings(notes)) as f:
        made = client.create_event_source_mapping(EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="TRIM_HORIZON", BatchSize=10)
        assert (made["State"], made["BatchSize"], made["MaximumRetryAttempts"], made["MaximumRecordAgeInSeconds"]) == ("Creating", 10, -1, -1)
        assert made["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{f.name}" and made["ResponseMetadata"]["HTTPStatusCode"] == 202
        identity = made["UUID"]
        assert noted(notes, 1) == [[["INSERT", "before", "0"]]]
        for n in range(30):
            source.put(f"key{n % 3}", n)
        source.client.delete_item(TableName=source.name, Key={"id": {"S": "key0"}})
        batches = noted(notes, 32)
        assert all(len(batch) <= 10 for batch in batches)
        records = [record for batch in batches for record in batch][1:]
        assert [int(n) for _, _, n in records[:-1]] == list(range(30)) and records[-1][0] == "REMOVE"
        got = eventually(lambda: (g := client.get_event_source_mapping(UUID=identity))["LastProcessingResult"] == "OK" and g)
        assert got["State"] == "Enabled" and got["EventSourceArn"] == source.stream
        assert [m["UUID"] for m in client.list_event_source_mappings(FunctionName=f.name)["EventSourceMappings"]] == [identity]
        assert [m["UUID"] for m in client.list_event_source_mappings(EventSourceArn=source.stream)["EventSourceMappings"]] == [identity]
        with pytest.raises(ClientError) as e:
            client.create_event_source_mapping(EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="LATEST")
        assert code(e) == "ResourceConflictException" and identity in str(e.value)

        # Switched off it rests, and goes on where it was.
        client.update_event_source_mapping(UUID=identity, Enabled=False)
        assert client.get_event_source_mapping(UUID=identity)["State"] == "Disabled"
        source.put("later")
        client.update_event_source_mapping(UUID=identity, Enabled=True, BatchSize=1)
        assert noted(notes, 33)[-1] == [["INSERT", "later", "0"]]
        client.delete_event_source_mapping(UUID=identity)
        with pytest.raises(ClientError) as e:
            client.get_event_source_mapping(UUID=identity)
        assert code(e) == "ResourceNotFoundException"


def test_filters_and_the_latest(node, tables):
    client = node.client("lambda")
    source, notes = tables
    source.put("old", 100)
    with function(node, NOTE, READS, WRITES, **settings(notes)) as f:
        pattern = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 10]}]}}}}
        made = client.create_event_source_mapping(
            EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="LATEST", ParallelizationFactor=3,
            FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}, {"Pattern": json.dumps({"eventName": ["REMOVE"]})}]},
        )
        for n in range(9, 14):
            source.put(f"k{n}", n)
        source.put("k11", 99)
        source.client.delete_item(TableName=source.name, Key={"id": {"S": "k9"}})
        batches = noted(notes, 4)
        assert sorted(tuple(record) for batch in batches for record in batch) == [
            ("INSERT", "k11", "11"), ("INSERT", "k12", "12"), ("INSERT", "k13", "13"), ("REMOVE", "k9", None)
        ]
        client.delete_event_source_mapping(UUID=made["UUID"])


def failures(node, bucket):
    s3 = node.client("s3")
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [(o["Key"], json.loads(s3.get_object(Bucket=bucket, Key=o["Key"])["Body"].read())) for o in found]


def test_what_fails_is_tried_again_halved_and_told_of(node, tables):
    client, s3 = node.client("lambda"), node.client("s3")
    source, notes = tables
    bucket = unique("failed")
    s3.create_bucket(Bucket=bucket)
    for key in ["a", "b", "bad", "c"]:
        source.put(key)
    with function(node, NOTE, READS, WRITES, **settings(notes)) as f:
        made = client.create_event_source_mapping(
            EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=2, BisectBatchOnFunctionError=True,
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}},
        )
        (key, told), = eventually(lambda: failures(node, bucket), 90)
        assert told["requestContext"]["condition"] == "RetryAttemptsExhausted" and told["requestContext"]["approximateInvokeCount"] == 3
        info = told["DDBStreamBatchInfo"]
        assert info["batchSize"] == 1 and info["startSequenceNumber"] == info["endSequenceNumber"] and info["streamArn"] == source.stream
        assert key.startswith(f"aws/lambda/{made['UUID']}/{info['shardId']}/") and told["responseContext"]["functionError"] == "Unhandled"
        assert json.loads(told["payload"])["Records"][0]["dynamodb"]["Keys"] == {"id": {"S": "bad"}}
        batches = eventually(lambda: (b := notes.notes())[-1:] == [[["INSERT", "c", "0"]]] and b)
        keys = [[key for _, key, _ in batch] for batch in batches]
        assert keys == [["a", "b", "bad", "c"], ["a", "b"], ["bad", "c"], ["bad"], ["bad"], ["bad"], ["c"]]
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_functions_report_from_where_a_batch_failed(node, tables):
    client = node.client("lambda")
    source, notes = tables
    for key in ["a", "bad", "c"]:
        source.put(key)
    with function(node, NOTE, READS, WRITES, **settings(notes, REPORT="1")) as f:
        made = client.create_event_source_mapping(
            EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=1,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )
        source_keys = lambda: [[key for _, key, _ in batch] for batch in notes.notes()]
        assert eventually(lambda: len(k := source_keys()) == 2 and k) == [["a", "bad", "c"], ["bad", "c"]]
        eventually(lambda: client.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"] == "PROBLEM: Function call failed")
        source.put("d")
        assert eventually(lambda: len(k := source_keys()) == 3 and k)[-1] == ["d"]
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_old_records_are_given_up_and_windows_gather(node, tables):
    client = node.client("lambda")
    source, notes = tables
    with function(node, NOTE, READS, WRITES, **settings(notes)) as f:
        made = client.create_event_source_mapping(
            EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="TRIM_HORIZON", BatchSize=5, MaximumBatchingWindowInSeconds=300,
        )
        for n in range(5):
            source.put(f"k{n}")
            time.sleep(0.05)  # They come one after another, and go together.
        assert [len(batch) for batch in noted(notes, 5)] == [5]
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_what_is_wrong_is_refused(node, tables):
    client = node.client("lambda")
    source, notes = tables
    with function(node, NOTE, WRITES, **settings(notes)) as f, function(node, NOTE, READS, WRITES, **settings(notes)) as g:
        good = dict(EventSourceArn=source.stream, FunctionName=g.name, StartingPosition="LATEST")
        for change, wrong, said in [
            ({"FunctionName": f.name}, "InvalidParameterValueException", "Cannot access stream"),
            ({"FunctionName": "nobody"}, "ResourceNotFoundException", "Function not found"),
            ({"EventSourceArn": source.stream[:-1] + "x"}, "InvalidParameterValueException", "Stream not found"),
            ({"EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s"}, "InvalidParameterValueException", "not supported by this node"),
            ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 0}, "InvalidParameterValueException", "StartingPositionTimestamp"),
            ({"BatchSize": 10_001}, "ValidationException", "batchSize"),
            ({"ParallelizationFactor": 11}, "ValidationException", "parallelizationFactor"),
            ({"MaximumRecordAgeInSeconds": 59}, "ValidationException", "maximumRecordAgeInSeconds"),
            ({"MaximumRetryAttempts": 10_001}, "ValidationException", "maximumRetryAttempts"),
            ({"TumblingWindowInSeconds": 901}, "ValidationException", "tumblingWindowInSeconds"),
            ({"TumblingWindowInSeconds": 5, "ParallelizationFactor": 2}, "InvalidParameterValueException", "ParallelizationFactor"),
            ({"FilterCriteria": {"Filters": [{"Pattern": "{\"a\": 1}"}]}}, "InvalidParameterValueException", "filter pattern"),
            ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:q"}}}, "InvalidParameterValueException", "SendMessage"),
            ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:000000000000:t"}}}, "InvalidParameterValueException", "no topics"),
        ]:
            with pytest.raises(ClientError) as e:
                client.create_event_source_mapping(**{**good, **change})
            assert code(e) == wrong and said in str(e.value), change
        assert client.list_event_source_mappings()["EventSourceMappings"] == []


def test_no_record_is_lost_in_a_crash(tmp_path, shared_cache):
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    try:
        source, notes = Table(node), Table(node, None)
        with function(node, NOTE, READS, WRITES, **settings(notes)) as f:
            client = node.client("lambda")
            client.create_event_source_mapping(EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="LATEST", BatchSize=3)
            for n in range(40):
                source.put(f"k{n % 5}", n)
                if n in (10, 30):
                    node.kill()
                    node.start()
                    # What is left of connections to the node that was is of no use.
                    source.client = notes.client = node.client("dynamodb")
            seen = lambda: {int(n) for batch in notes.notes() for _, _, n in batch}
            eventually(lambda: seen() == set(range(40)), 120)
            # In their order for each item, but for what comes again.
            last = {}
            firsts = []
            for batch in notes.notes():
                for _, key, n in batch:
                    if int(n) not in firsts:
                        assert last.get(key, -1) < int(n)
                        last[key] = int(n)
                        firsts.append(int(n))
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Size: {Type: Number, Default: 7}
Resources:
  Source:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      StreamSpecification: {StreamViewType: NEW_IMAGE}
  Notes:
    Type: AWS::Serverless::SimpleTable
  Noter:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      Runtime: @runtime@
      Timeout: 30
      AutoPublishAlias: live
      Environment: {Variables: {NOTES: !Ref Notes}}
      Policies: [{DynamoDBCrudPolicy: {TableName: !Ref Notes}}]
      Events:
        Change:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Source.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: !Ref Size
            FilterCriteria: {Filters: [{Pattern: '{"eventName": ["INSERT"]}'}]}
      InlineCode: |
@code@
Outputs:
  Source: {Value: !Ref Source}
  Notes: {Value: !Ref Notes}
  Function: {Value: !Ref Noter}
  Mapping: {Value: !Ref NoterChange}
  Arn: {Value: !GetAtt NoterChange.EventSourceMappingArn}
"""


def test_templates_map_streams(node):
    cloudformation, client, dynamodb = node.client("cloudformation"), node.client("lambda"), node.client("dynamodb")
    indented = "\n".join(" " * 8 + line for line in NOTE.strip().splitlines())
    text = TEMPLATE.replace("@runtime@", PYTHON_RUNTIME).replace("@code@", indented)
    stack = unique("stack")

    outputs = deployed(node, "create_stack", stack, text)
    mapping = client.get_event_source_mapping(UUID=outputs["Mapping"])
    assert (mapping["BatchSize"], mapping["EventSourceMappingArn"]) == (7, outputs["Arn"])
    assert mapping["FunctionArn"].endswith(f":function:{outputs['Function']}:live")
    dynamodb.put_item(TableName=outputs["Source"], Item={"id": {"S": "x"}})
    eventually(lambda: dynamodb.scan(TableName=outputs["Notes"])["Count"] == 1)
    assert deployed(node, "update_stack", stack, text, Size="9")["Mapping"] == outputs["Mapping"]
    assert client.get_event_source_mapping(UUID=outputs["Mapping"])["BatchSize"] == 9
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError):
        client.get_event_source_mapping(UUID=outputs["Mapping"])


# Counts the records of each item in a window, and notes what it came to.
AGGREGATE = """
import boto3, json, os
table = boto3.resource("dynamodb").Table(os.environ["NOTES"])
def handler(event, context):
    state = event["state"]
    for record in event["Records"]:
        key = record["dynamodb"]["Keys"]["id"]["S"]
        state[key] = state.get(key, 0) + 1
    if event["isFinalInvokeForWindow"]:
        assert event["Records"] == [] and event["shardId"] and event["eventSourceARN"]
        table.put_item(Item={"id": event["window"]["start"], "seen": json.dumps(state), "end": event["window"]["end"]})
    return {"state": state}
"""


def test_windows_keep_their_state_in_a_crash(tmp_path, shared_cache):
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    try:
        source, notes = Table(node), Table(node, None)
        with function(node, AGGREGATE, READS, WRITES, **settings(notes)) as f:
            client = node.client("lambda")
            made = client.create_event_source_mapping(
                EventSourceArn=source.stream, FunctionName=f.name, StartingPosition="LATEST", BatchSize=2,
                TumblingWindowInSeconds=4,
            )
            assert made["TumblingWindowInSeconds"] == 4
            for n in range(30):
                source.put(f"k{n % 3}", n)
                time.sleep(0.2)
                if n in (9, 20):
                    node.kill()
                    node.start()
                    source.client = notes.client = node.client("dynamodb")
            counts = lambda: [sum(window[k] for window in notes.notes() if k in window) for k in ("k0", "k1", "k2")]
            eventually(lambda: counts() == [10, 10, 10], 120)
            assert len(notes.notes()) >= 2
            client = node.client("lambda")
            client.update_event_source_mapping(UUID=made["UUID"], TumblingWindowInSeconds=0)
            assert client.get_event_source_mapping(UUID=made["UUID"])["TumblingWindowInSeconds"] == 0
    finally:
        if node.process.poll() is None:
            node.kill()
