"""Queues and functions: dead letters, destinations, notifications, and functions that messages wake, with boto3."""

import json
import time

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, PYTHON_RUNTIME, REGION, Node, deployed, eventually, unique
from functions import function
from test_functions import code
from test_sqs import arn_of, numbers, receive
from test_streams import READS, Table

pytestmark = pytest.mark.local

SENDS = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
RECEIVES = {
    "Effect": "Allow", "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "Resource": "*"
}
FAILS = "def handler(event, context):\n    raise ValueError('no, not \\x01 this')\n"
ECHO = "def handler(event, context):\n    return {'got': event}\n"
# Tells another queue what it got, and fails where it is told to.
NOTE = """
import boto3, json, os, time
sqs = boto3.client("sqs")
def handler(event, context):
    bodies = [r["body"] for r in event["Records"]]
    sqs.send_message(QueueUrl=os.environ["NOTES"], MessageBody=json.dumps(event))
    bad = [r for r in event["Records"] if r["body"].startswith("bad")]
    if os.environ.get("REPORT"):
        return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in bad]}
    if bad:
        raise ValueError("bad")
    time.sleep(float(os.environ.get("PAUSE", "0")))
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory, shared_cache):
    """Retries follow one another quickly."""
    directory = tmp_path_factory.mktemp("node")
    events = {"throttle_base_ms": 50, "source_retry_limit_ms": 200, "retry_base_ms": 50}
    (directory / "config.json").write_text(json.dumps({"events": events}))
    node = Node(directory / "data", "--cache", shared_cache, "--config", directory / "config.json").start()
    yield node
    assert node.stop() == 0


@pytest.fixture(scope="module")
def sqs(node):
    return node.client("sqs")


@pytest.fixture
def queue(sqs):
    return sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]


@pytest.fixture
def other(sqs):
    return sqs.create_queue(QueueName=unique("other"))["QueueUrl"]


def next_message(sqs, url, timeout=60, **parameters):
    """The next message, which is deleted."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        names = {"MessageAttributeNames": ["All"], "AttributeNames": ["All"]}
        for message in receive(sqs, url, WaitTimeSeconds=5, **names, **parameters):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return message
    raise AssertionError("no message came")


def noted(sqs, url, wanted):
    """The events that were noted, until their records are at least `wanted` many."""
    events = []
    while sum(len(event["Records"]) for event in events) < wanted:
        events.append(json.loads(next_message(sqs, url)["Body"]))
    return events


def test_events_that_failed_go_to_the_dead_letters(node, sqs, queue):
    target = arn_of(sqs, queue)
    with function(node, FAILS, SENDS, DeadLetterConfig={"TargetArn": target}) as f:
        client = node.client("lambda")
        assert client.get_function_configuration(FunctionName=f.name)["DeadLetterConfig"] == {"TargetArn": target}
        answer, _ = f.invoke({"n": 1}, InvocationType="Event")
        message = next_message(sqs, queue)
        assert json.loads(message["Body"]) == {"n": 1}
        attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        assert attributes == {
            "RequestID": answer["ResponseMetadata"]["RequestId"], "ErrorCode": "200", "ErrorMessage": "no, not \ufffd this"
        }
        assert message["MessageAttributes"]["ErrorCode"]["DataType"] == "Number"
        # Three tries, as Lambda makes them.
        tries = [line for line in f.lines() if line.startswith("START") and attributes["RequestID"] in line]
        assert len(tries) == 3
        client.update_function_configuration(FunctionName=f.name, DeadLetterConfig={"TargetArn": ""})
        assert "DeadLetterConfig" not in client.get_function_configuration(FunctionName=f.name)


def test_dead_letters_need_a_queue_and_the_right_to_send(node, sqs, queue):
    client = node.client("lambda")
    with function(node, FAILS) as f:
        for arn, word in [
            (arn_of(sqs, queue), "SendMessage"),
            (f"arn:aws:sns:{REGION}:{ACCOUNT}:topic", "no topics"),
            (arn_of(sqs, queue) + ".fifo", "FIFO"),
            ("arn:aws:s3:::bucket", "invalid"),
        ]:
            with pytest.raises(ClientError) as e:
                client.update_function_configuration(FunctionName=f.name, DeadLetterConfig={"TargetArn": arn})
            assert code(e) == "InvalidParameterValueException" and word in str(e.value)
        with pytest.raises(ClientError) as e:
            client.put_function_event_invoke_config(
                FunctionName=f.name, DestinationConfig={"OnFailure": {"Destination": arn_of(sqs, queue)}}
            )
        assert "SendMessage" in str(e.value)
    with function(node, FAILS, SENDS) as f:
        with pytest.raises(ClientError) as e:
            missing = {"TargetArn": arn_of(sqs, queue) + "-none"}
            client.update_function_configuration(FunctionName=f.name, DeadLetterConfig=missing)
        assert "does not exist" in str(e.value)


def test_a_right_that_was_taken_away_loses_the_event_and_says_so(node, sqs, queue):
    with function(node, FAILS, SENDS, DeadLetterConfig={"TargetArn": arn_of(sqs, queue)}) as f:
        node.client("lambda").put_function_event_invoke_config(FunctionName=f.name, MaximumRetryAttempts=0)
        sqs.delete_queue(QueueUrl=queue)
        f.invoke({}, InvocationType="Event")
        [line] = [line for line in f.log("EVENT_DROPPED") if "EVENT_DROPPED" in line]
        assert "dead-letter queue" in line and "does not exist" in line


def test_destinations(node, sqs, queue, other):
    client = node.client("lambda")
    for text, waits, condition, error in [(ECHO, other, "Success", None), (FAILS, queue, "RetriesExhausted", "Unhandled")]:
        with function(node, text, SENDS) as f:
            made = client.put_function_event_invoke_config(
                FunctionName=f.name, MaximumRetryAttempts=0,
                DestinationConfig={"OnSuccess": {"Destination": arn_of(sqs, other)}, "OnFailure": {"Destination": arn_of(sqs, queue)}},
            )
            assert made["DestinationConfig"]["OnSuccess"] == {"Destination": arn_of(sqs, other)}
            answer, _ = f.invoke({"n": 1}, InvocationType="Event")
            record = json.loads(next_message(sqs, waits)["Body"])
            assert record["requestContext"] == {
                "requestId": answer["ResponseMetadata"]["RequestId"],
                "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{f.name}:$LATEST",
                "condition": condition,
                "approximateInvokeCount": 1,
            }
            assert record["requestPayload"] == {"n": 1}
            assert record["responseContext"].get("functionError") == error
            assert record["version"] == "1.0" and "responsePayload" in record


def test_messages_wake_a_function(node, sqs, queue, other):
    client = node.client("lambda")
    environment = {"Environment": {"Variables": {"NOTES": other}}, "Timeout": 20}
    with function(node, NOTE, SENDS, RECEIVES, **environment) as f:
        made = client.create_event_source_mapping(EventSourceArn=arn_of(sqs, queue), FunctionName=f.name)
        assert (made["State"], made["BatchSize"]) == ("Creating", 10)
        assert "StartingPosition" not in made
        attribute = {"a": {"DataType": "String", "StringValue": "x"}}
        sent = sqs.send_message(QueueUrl=queue, MessageBody="one", MessageAttributes=attribute)
        [event] = noted(sqs, other, 1)
        [record] = event["Records"]
        assert record["messageId"] == sent["MessageId"] and record["body"] == "one"
        assert record["eventSource"] == "aws:sqs" and record["eventSourceARN"] == arn_of(sqs, queue)
        assert record["awsRegion"] == REGION and record["md5OfBody"] == sent["MD5OfMessageBody"]
        assert record["messageAttributes"] == {
            "a": {"dataType": "String", "stringValue": "x", "stringListValues": [], "binaryListValues": []}
        }
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        eventually(lambda: numbers(sqs, queue) == (0, 0, 0))
        for at in range(0, 40, 10):
            entries = [{"Id": str(i), "MessageBody": f"m{at + i}"} for i in range(10)]
            sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        bodies = [record["body"] for event in noted(sqs, other, 40) for record in event["Records"]]
        assert sorted(bodies) == sorted(f"m{i}" for i in range(40))
        eventually(lambda: numbers(sqs, queue) == (0, 0, 0))
        shown = eventually(lambda: (g := client.get_event_source_mapping(UUID=made["UUID"])).get("LastProcessingResult") == "OK" and g)
        assert shown["State"] == "Enabled"

        # Switched off it leaves messages where they are.
        client.update_event_source_mapping(UUID=made["UUID"], Enabled=False)
        eventually(lambda: client.get_event_source_mapping(UUID=made["UUID"])["State"] == "Disabled")
        time.sleep(0.2)
        sqs.send_message(QueueUrl=queue, MessageBody="later")
        time.sleep(1)
        assert numbers(sqs, queue) == (1, 0, 0)
        client.update_event_source_mapping(UUID=made["UUID"], Enabled=True)
        assert noted(sqs, other, 1)[0]["Records"][0]["body"] == "later"
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_messages_of_a_function_that_fails_come_again_and_end_as_dead_letters(node, sqs, queue, other):
    dead = sqs.create_queue(QueueName=unique("dead"))["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 2})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "3", "RedrivePolicy": policy})
    client = node.client("lambda")
    environment = {"Environment": {"Variables": {"NOTES": other, "REPORT": "1"}}, "Timeout": 3}
    with function(node, NOTE, SENDS, RECEIVES, **environment) as f:
        made = client.create_event_source_mapping(
            EventSourceArn=arn_of(sqs, queue), FunctionName=f.name, FunctionResponseTypes=["ReportBatchItemFailures"],
            MaximumBatchingWindowInSeconds=1,
        )
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(["good", "bad", "fine"])]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        message = next_message(sqs, dead)
        assert message["Body"] == "bad"
        assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(sqs, queue)
        batches = [[record["body"] for record in event["Records"]] for event in noted(sqs, other, 4)]
        assert sorted(batches[0]) == ["bad", "fine", "good"] and batches[1:] == [["bad"]]
        assert numbers(sqs, queue) == (0, 0, 0)
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_messages_are_filtered_and_invocations_limited(node, sqs, queue, other):
    client = node.client("lambda")
    environment = {"Environment": {"Variables": {"NOTES": other, "PAUSE": "0.2"}}, "Timeout": 20}
    with function(node, NOTE, SENDS, RECEIVES, **environment) as f:
        pattern = json.dumps({"body": {"kind": ["wanted"]}})
        made = client.create_event_source_mapping(
            EventSourceArn=arn_of(sqs, queue), FunctionName=f.name, BatchSize=1,
            FilterCriteria={"Filters": [{"Pattern": pattern}]}, ScalingConfig={"MaximumConcurrency": 2},
        )
        assert made["ScalingConfig"] == {"MaximumConcurrency": 2}
        for n in range(8):
            body = json.dumps({"kind": "wanted" if n % 2 else "other", "n": n})
            sqs.send_message(QueueUrl=queue, MessageBody=body)
        events = noted(sqs, other, 4)
        assert sorted(json.loads(event["Records"][0]["body"])["n"] for event in events) == [1, 3, 5, 7]
        # What the function does not want is deleted.
        eventually(lambda: numbers(sqs, queue) == (0, 0, 0))
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_mappings_of_queues_that_can_not_be(node, sqs, queue):
    client = node.client("lambda")
    with function(node, ECHO, SENDS) as f:
        with pytest.raises(ClientError) as e:
            client.create_event_source_mapping(EventSourceArn=arn_of(sqs, queue), FunctionName=f.name)
        assert "permissions to call ReceiveMessage on SQS" in str(e.value)
    with function(node, ECHO, RECEIVES, Timeout=31) as f:
        source = {"EventSourceArn": arn_of(sqs, queue), "FunctionName": f.name}
        for more, word in [
            ({}, "visibility timeout: 30 seconds is less than Function timeout: 31"),
            ({"StartingPosition": "LATEST"}, "StartingPosition"),
            ({"BatchSize": 11}, "Maximum batch window"),
            ({"MaximumRetryAttempts": 1}, "MaximumRetryAttempts"),
            ({"ScalingConfig": {"MaximumConcurrency": 1001}}, "maximumConcurrency"),
            ({"EventSourceArn": source["EventSourceArn"] + "-none"}, "NonExistentQueue"),
        ]:
            with pytest.raises(ClientError) as e:
                client.create_event_source_mapping(**{**source, **more})
            assert word in str(e.value)


def test_records_of_streams_that_were_given_up_are_told_to_a_queue(node, sqs, queue):
    client = node.client("lambda")
    table = Table(node)
    with function(node, FAILS, READS, SENDS) as f:
        made = client.create_event_source_mapping(
            EventSourceArn=table.stream, FunctionName=f.name, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": arn_of(sqs, queue)}},
        )
        table.put("x")
        told = json.loads(next_message(sqs, queue)["Body"])
        assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert told["DDBStreamBatchInfo"]["streamArn"] == table.stream and told["DDBStreamBatchInfo"]["batchSize"] == 1
        assert "payload" not in told
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_a_bucket_tells_a_queue(node, sqs, queue):
    s3 = node.client("s3")
    bucket = unique("bucket")
    s3.create_bucket(Bucket=bucket)
    rule = {
        "Id": "jpgs", "QueueArn": arn_of(sqs, queue), "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".jpg"}]}},
    }
    tell = lambda bucket, **more: s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]}, **more)
    # Nobody has let the bucket in yet.
    with pytest.raises(ClientError) as error:
        tell(bucket)
    refusal = error.value.response["Error"]
    assert (refusal["Code"], refusal["ArgumentName1"]) == ("InvalidArgument", rule["QueueArn"])
    assert "do not allow S3" in refusal["ArgumentValue1"]
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    tell(bucket, SkipDestinationValidation=True)
    [shown] = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert (shown["Id"], shown["QueueArn"], shown["Events"]) == ("jpgs", rule["QueueArn"], rule["Events"])
    s3.put_object(Bucket=bucket, Key="dropped.jpg", Body=b"x")
    time.sleep(1)
    allow = {
        "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": arn_of(sqs, queue),
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}, "StringEquals": {"aws:SourceAccount": ACCOUNT},
        },
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    tell(bucket)
    test = json.loads(next_message(sqs, queue)["Body"])
    assert (test["Service"], test["Event"], test["Bucket"]) == ("Amazon S3", "s3:TestEvent", bucket)
    s3.put_object(Bucket=bucket, Key="cat.jpg", Body=b"x")
    s3.put_object(Bucket=bucket, Key="cat.png", Body=b"x")
    [record] = json.loads(next_message(sqs, queue)["Body"])["Records"]
    assert (record["s3"]["object"]["key"], record["s3"]["configurationId"]) == ("cat.jpg", "jpgs")
    other = unique("bucket")
    s3.create_bucket(Bucket=other)
    tell(other, SkipDestinationValidation=True)
    s3.put_object(Bucket=other, Key="cat.jpg", Body=b"x")
    time.sleep(1)
    assert numbers(sqs, queue) == (0, 0, 0)
    with pytest.raises(ClientError):
        topic = [{"TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:t", "Events": ["s3:ObjectCreated:*"]}]
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"TopicConfigurations": topic})


def test_messages_outlive_a_crash_in_the_middle_of_an_invocation(tmp_path, shared_cache):
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    try:
        sqs = node.client("sqs")
        queue = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "3"})["QueueUrl"]
        notes = sqs.create_queue(QueueName="notes")["QueueUrl"]
        slow = NOTE.replace("def handler(event, context):", "def handler(event, context):\n    time.sleep(2)", 1)
        environment = {"Environment": {"Variables": {"NOTES": notes}}, "Timeout": 3}
        with function(node, slow, SENDS, RECEIVES, **environment) as f:
            f.client.create_event_source_mapping(EventSourceArn=arn_of(sqs, queue), FunctionName=f.name)
            sqs.send_message(QueueUrl=queue, MessageBody="x")
            eventually(lambda: numbers(sqs, queue) == (0, 1, 0))
            node.kill()
            node.start()
            sqs = node.client("sqs")
            event = noted(sqs, f"{node.endpoint}/{ACCOUNT}/notes", 1)[0]
            assert event["Records"][0]["body"] == "x"
            assert int(event["Records"][0]["attributes"]["ApproximateReceiveCount"]) == 2
    finally:
        assert node.stop() == 0


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Hidden: {Type: Number, Default: 20}
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Hidden
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
      Tags: [{Key: a, Value: b}]
  Dead:
    Type: AWS::SQS::Queue
  Notes:
    Type: AWS::SQS::Queue
    Properties: {QueueName: !Sub "${AWS::StackName}-notes"}
  Policy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref Work]
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: s3.amazonaws.com}, Action: "sqs:SendMessage", Resource: !GetAtt Work.Arn}]
  Uploads:
    Type: AWS::S3::Bucket
    DependsOn: Policy
    Properties:
      NotificationConfiguration:
        QueueConfigurations:
          - Event: s3:ObjectCreated:*
            Filter: {S3Key: {Rules: [{Name: suffix, Value: .txt}]}}
            Queue: !GetAtt Work.Arn
  Noter:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      Runtime: @runtime@
      Timeout: 20
      Environment: {Variables: {NOTES: !Ref Notes}}
      Policies: [{SQSSendMessagePolicy: {QueueName: !GetAtt Notes.QueueName}}]
      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt Dead.Arn}
      EventInvokeConfig:
        MaximumRetryAttempts: 0
        DestinationConfig: {OnSuccess: {Type: SQS, Destination: !GetAtt Notes.Arn}}
      Events:
        Message:
          Type: SQS
          Properties:
            Queue: !GetAtt Work.Arn
            BatchSize: 5
            ScalingConfig: {MaximumConcurrency: 3}
      InlineCode: |
@code@
Outputs:
  Work: {Value: !Ref Work}
  Uploads: {Value: !Ref Uploads}
  Arn: {Value: !GetAtt Work.Arn}
  Dead: {Value: !Ref Dead}
  Notes: {Value: !GetAtt Notes.QueueUrl}
  Function: {Value: !Ref Noter}
  Mapping: {Value: !Ref NoterMessage}
"""


def test_templates_make_queues(node, sqs):
    cloudformation, client = node.client("cloudformation"), node.client("lambda")
    indented = "\n".join(" " * 8 + line for line in NOTE.strip().splitlines())
    text = TEMPLATE.replace("@runtime@", PYTHON_RUNTIME).replace("@code@", indented)
    stack = unique("stack")

    def attributes(url):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    outputs = deployed(node, "create_stack", stack, text)
    work = attributes(outputs["Work"])
    assert work["QueueArn"] == outputs["Arn"] and work["VisibilityTimeout"] == "20"
    assert json.loads(work["RedrivePolicy"])["maxReceiveCount"] == 3
    assert json.loads(work["Policy"])["Statement"][0]["Principal"] == {"Service": "s3.amazonaws.com"}
    assert sqs.list_queue_tags(QueueUrl=outputs["Work"])["Tags"] == {"a": "b"}
    assert outputs["Notes"].endswith(f"/{ACCOUNT}/{stack}-notes")
    assert sqs.list_dead_letter_source_queues(QueueUrl=outputs["Dead"])["queueUrls"][0].endswith(outputs["Work"].rpartition("/")[2])
    configuration = client.get_function_configuration(FunctionName=outputs["Function"])
    assert configuration["DeadLetterConfig"]["TargetArn"] == attributes(outputs["Dead"])["QueueArn"]
    mapping = client.get_event_source_mapping(UUID=outputs["Mapping"])
    assert (mapping["BatchSize"], mapping["ScalingConfig"]) == (5, {"MaximumConcurrency": 3})
    # The bucket's test message, and then one of ours.
    sqs.send_message(QueueUrl=outputs["Work"], MessageBody="x")
    bodies = {record["body"] for event in noted(sqs, outputs["Notes"], 2) for record in event["Records"]}
    assert "x" in bodies and any("s3:TestEvent" in body for body in bodies)
    s3 = node.client("s3")
    for key in ("a.txt", "a.png"):
        s3.put_object(Bucket=outputs["Uploads"], Key=key, Body=b"a")
    [told] = json.loads(noted(sqs, outputs["Notes"], 1)[0]["Records"][0]["body"])["Records"]
    assert told["s3"]["object"]["key"] == "a.txt"
    s3.delete_object(Bucket=outputs["Uploads"], Key="a.txt")
    s3.delete_object(Bucket=outputs["Uploads"], Key="a.png")
    client.invoke(FunctionName=outputs["Function"], InvocationType="Event", Payload=b'{"none": 1}')
    assert json.loads(next_message(sqs, outputs["Dead"])["Body"]) == {"none": 1}

    again = deployed(node, "update_stack", stack, text, Hidden="30")
    assert again == outputs and attributes(outputs["Work"])["VisibilityTimeout"] == "30"
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    for queue in ("Work", "Dead", "Notes"):
        with pytest.raises(sqs.exceptions.QueueDoesNotExist):
            attributes(outputs[queue])
