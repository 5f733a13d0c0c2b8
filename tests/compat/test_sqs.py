"""Queues, with boto3."""

import base64
import concurrent.futures
import hashlib
import json
import threading
import time

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import ACCOUNT, REGION, eventually, running, unique


@pytest.fixture(scope="module")
def sqs(node):
    return node.client("sqs")


@pytest.fixture
def queue(sqs):
    url = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    yield url
    try:
        sqs.delete_queue(QueueUrl=url)
    except sqs.exceptions.QueueDoesNotExist:
        pass


def refusal(call, **parameters):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


def arn_of(sqs, url):
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def numbers(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(found[name]) for name in names)


def receive(sqs, url, **parameters):
    return sqs.receive_message(QueueUrl=url, **parameters).get("Messages", [])


def drain(sqs, url):
    bodies = []
    while messages := receive(sqs, url, MaxNumberOfMessages=10):
        bodies += [message["Body"] for message in messages]
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return bodies


def test_queues_are_made_found_and_deleted(node, sqs):
    name = unique("made")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"}, tags={"a": "b"})["QueueUrl"]
    assert url == f"{node.endpoint}/{ACCOUNT}/{name}"
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
    assert sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})["QueueUrl"] == url
    other = {"QueueName": name, "Attributes": {"VisibilityTimeout": "6"}}
    assert refusal(sqs.create_queue, **other) == "QueueAlreadyExists"
    with pytest.raises(sqs.exceptions.QueueNameExists):
        sqs.create_queue(**other)
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=ACCOUNT)["QueueUrl"] == url
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    sqs.tag_queue(QueueUrl=url, Tags={"c": "d"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"c": "d"}
    sqs.delete_queue(QueueUrl=url)
    for call in (sqs.send_message, sqs.receive_message, sqs.delete_queue, sqs.get_queue_attributes):
        more = {"MessageBody": "x"} if call == sqs.send_message else {}
        with pytest.raises(sqs.exceptions.QueueDoesNotExist):
            call(QueueUrl=url, **more)
    assert refusal(sqs.get_queue_url, QueueName=name) == "AWS.SimpleQueueService.NonExistentQueue"
    for bad in ("", "a b", "x" * 81):
        assert refusal(sqs.create_queue, QueueName=bad) == "InvalidParameterValue"
    for name, value in [("VisibilityTimeout", "43201"), ("DelaySeconds", "x"), ("Policy", "{}x")]:
        assert refusal(sqs.create_queue, QueueName="bad", Attributes={name: value}) == "InvalidAttributeValue"
    assert refusal(sqs.create_queue, QueueName="bad", Attributes={"Color": "red"}) == "InvalidAttributeName"


def test_queues_are_listed_in_pages(sqs):
    prefix = unique("listed")
    urls = [sqs.create_queue(QueueName=f"{prefix}-{i}")["QueueUrl"] for i in range(5)]
    pages = list(sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2}))
    assert [len(page["QueueUrls"]) for page in pages] == [2, 2, 1]
    assert [url for page in pages for url in page["QueueUrls"]] == urls
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix=unique("none"))
    for url in urls:
        sqs.delete_queue(QueueUrl=url)


def test_attributes(sqs, queue):
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert found["QueueArn"] == f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
    assert abs(int(found["CreatedTimestamp"]) - time.time()) < 60
    expected = {
        "VisibilityTimeout": "30", "DelaySeconds": "0", "MessageRetentionPeriod": "345600", "MaximumMessageSize": "1048576",
        "ReceiveMessageWaitTimeSeconds": "0", "ApproximateNumberOfMessages": "0",
    }
    assert found.items() >= expected.items()
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "7", "MaximumMessageSize": "1024"})
    names = ["VisibilityTimeout", "MaximumMessageSize"]
    assert sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"] == {
        "VisibilityTimeout": "7", "MaximumMessageSize": "1024"
    }
    assert refusal(sqs.send_message, QueueUrl=queue, MessageBody="x" * 1025) == "InvalidParameterValue"
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue)
    assert refusal(sqs.get_queue_attributes, QueueUrl=queue, AttributeNames=["Color"]) == "InvalidAttributeName"


def test_what_is_not_there_is_refused_by_name(sqs):
    for name, attributes in [("x.fifo", {"FifoQueue": "true"}), ("x", {"KmsMasterKeyId": "alias/aws/sqs"})]:
        code = refusal(sqs.create_queue, QueueName=name, Attributes=attributes)
        assert code == "AWS.SimpleQueueService.UnsupportedOperation"


def test_a_message_with_everything_in_it(sqs, queue):
    attributes = {
        "text": {"DataType": "String", "StringValue": "süß"},
        "price.eur": {"DataType": "Number.float", "StringValue": "1.50"},
        "bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
    }
    body = "two\nlines, \U0001f600"
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    # boto3 itself verifies the checksums of what it gets.
    sent = sqs.send_message(
        QueueUrl=queue, MessageBody=body, MessageAttributes=attributes, MessageSystemAttributes=trace, MessageGroupId="g"
    )
    assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    [message] = receive(
        sqs, queue, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], VisibilityTimeout=0
    )
    assert message["MessageId"] == sent["MessageId"]
    assert message["Body"] == body
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1"
    assert abs(int(system["SentTimestamp"]) / 1000 - time.time()) < 60
    assert system["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]
    assert system["MessageGroupId"] == "g"
    assert system["SenderId"] == ACCOUNT
    [again] = receive(sqs, queue, MessageAttributeNames=["price.*"], AttributeNames=["ApproximateReceiveCount"])
    assert again["MessageAttributes"] == {"price.eur": attributes["price.eur"]}
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert again["ReceiptHandle"] != message["ReceiptHandle"]
    # The earlier receive has no power any more.
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert numbers(sqs, queue) == (0, 1, 0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    assert numbers(sqs, queue) == (0, 0, 0)


def test_messages_that_can_not_be_sent(sqs, queue):
    many = {f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(11)}
    for parameters, code in [
        ({"MessageBody": ""}, "InvalidParameterValue"),
        ({"MessageBody": "a\x01"}, "InvalidMessageContents"),
        ({"MessageBody": "x" * 1048577}, "InvalidParameterValue"),
        ({"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": many}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
    ]:
        assert refusal(sqs.send_message, QueueUrl=queue, **parameters) == code
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1048576)
    assert len(receive(sqs, queue)[0]["Body"]) == 1048576
    assert refusal(sqs.send_message, QueueUrl="nonsense", MessageBody="x") == "InvalidAddress"
    for handle in ("", "nonsense", base64.b64encode(bytes(40)).decode()):
        assert refusal(sqs.delete_message, QueueUrl=queue, ReceiptHandle=handle) == "ReceiptHandleIsInvalid"
    for name, value in [("MaxNumberOfMessages", 11), ("WaitTimeSeconds", 21), ("VisibilityTimeout", -1)]:
        assert refusal(sqs.receive_message, QueueUrl=queue, **{name: value}) == "InvalidParameterValue"


def test_batches(sqs, queue):
    entries = [{"Id": str(i), "MessageBody": f"m{i}"} for i in range(10)]
    entries[3]["MessageBody"] = "\x02"
    done = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert len(done["Successful"]) == 9
    [failed] = done["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("3", True, "InvalidMessageContents")
    messages = receive(sqs, queue, MaxNumberOfMessages=10)
    assert sorted(m["Body"] for m in messages) == [f"m{i}" for i in range(10) if i != 3]
    handles = [{"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"]} for m in messages]
    hidden = sqs.change_message_visibility_batch(
        QueueUrl=queue, Entries=[{**handle, "VisibilityTimeout": 0} for handle in handles]
    )
    assert len(hidden["Successful"]) == 9
    # They can be received at once, and the earlier handles can hide them no more.
    late = sqs.change_message_visibility_batch(
        QueueUrl=queue, Entries=[{**handle, "VisibilityTimeout": 9} for handle in handles]
    )
    assert {failed["Code"] for failed in late["Failed"]} == {"AWS.SimpleQueueService.MessageNotInflight"}
    messages = receive(sqs, queue, MaxNumberOfMessages=10)
    assert len(messages) == 9
    handles = [{"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"]} for m in messages]
    bad = {"Id": "bad", "ReceiptHandle": "nonsense"}
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=[*handles[:8], bad])
    assert (len(deleted["Successful"]), deleted["Failed"][0]["Code"]) == (8, "ReceiptHandleIsInvalid")
    assert numbers(sqs, queue) == (0, 1, 0)
    for entries, code in [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(i), "MessageBody": "x"} for i in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "InvalidBatchEntryId"),
        ([{"Id": str(i), "MessageBody": "x" * 600_000} for i in range(2)], "BatchRequestTooLong"),
    ]:
        assert refusal(sqs.send_message_batch, QueueUrl=queue, Entries=entries) == f"AWS.SimpleQueueService.{code}"


def test_visibility_and_delay(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=1)
    assert numbers(sqs, queue) == (0, 0, 1)
    assert receive(sqs, queue) == []
    began = time.monotonic()
    [message] = receive(sqs, queue, WaitTimeSeconds=20, VisibilityTimeout=1)
    assert time.monotonic() - began < 10
    assert numbers(sqs, queue) == (0, 1, 0)
    assert receive(sqs, queue) == []
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=2)
    [again] = receive(sqs, queue, WaitTimeSeconds=20)
    assert again["MessageId"] == message["MessageId"]
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=0)
    [third] = receive(sqs, queue)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=third["ReceiptHandle"])
    code = refusal(
        sqs.change_message_visibility, QueueUrl=queue, ReceiptHandle=third["ReceiptHandle"], VisibilityTimeout=5
    )
    assert code == "InvalidParameterValue"


def test_waiting_receivers_are_woken_by_a_message(sqs, queue):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(receive, sqs, queue, WaitTimeSeconds=20) for _ in range(8)]
        time.sleep(0.5)
        began = time.monotonic()
        for i in range(8):
            sqs.send_message(QueueUrl=queue, MessageBody=f"m{i}")
        got = [message["Body"] for future in waiting for message in future.result()]
    assert sorted(got) == [f"m{i}" for i in range(8)]
    assert time.monotonic() - began < 10


def test_a_receiver_that_has_left_takes_nothing(node, sqs, queue):
    impatient = boto3.client(
        "sqs", endpoint_url=node.endpoint, region_name=REGION, aws_access_key_id=node.access_key_id,
        aws_secret_access_key=node.secret_access_key,
        config=botocore.config.Config(retries={"max_attempts": 0}, read_timeout=1),
    )
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        receive(impatient, queue, WaitTimeSeconds=20)
    impatient.close()
    time.sleep(0.2)
    sqs.send_message(QueueUrl=queue, MessageBody="for those who are there")
    assert [message["Body"] for message in receive(sqs, queue)] == ["for those who are there"]


def test_many_receivers_never_share_a_message(sqs, queue):
    count, receivers = 1000, 50
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        entries = lambda at: [{"Id": str(i), "MessageBody": str(at * 10 + i)} for i in range(10)]  # noqa: E731
        list(pool.map(lambda at: sqs.send_message_batch(QueueUrl=queue, Entries=entries(at)), range(count // 10)))
    taken, lock, left = [], threading.Lock(), threading.Event()

    def work(number):
        while not left.is_set():
            messages = receive(sqs, queue, MaxNumberOfMessages=number % 10 + 1, VisibilityTimeout=300, WaitTimeSeconds=1)
            with lock:
                taken.extend(message["Body"] for message in messages)
                if len(taken) >= count:
                    left.set()
            for message in messages[::2]:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    with concurrent.futures.ThreadPoolExecutor(receivers) as pool:
        list(pool.map(work, range(receivers)))
    assert sorted(map(int, taken)) == list(range(count))


def test_what_is_received_too_often_goes_to_the_dead_letters(sqs, queue):
    dead = sqs.create_queue(QueueName=unique("dead"))["QueueUrl"]
    policy = {"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 2}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [queue]
    attribute = {"a": {"DataType": "String", "StringValue": "x"}}
    sent = sqs.send_message(QueueUrl=queue, MessageBody="poison", MessageAttributes=attribute)
    for count in ("1", "2"):
        [message] = receive(sqs, queue, VisibilityTimeout=0, AttributeNames=["All"])
        assert message["Attributes"]["ApproximateReceiveCount"] == count
    assert receive(sqs, queue) == []
    assert (numbers(sqs, queue), numbers(sqs, dead)) == ((0, 0, 0), (1, 0, 0))
    [message] = receive(sqs, dead, AttributeNames=["All"], MessageAttributeNames=["All"])
    assert message["MessageId"] == sent["MessageId"]
    assert message["MessageAttributes"] == attribute
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(sqs, queue)

    # Whoever keeps dead letters says whose.
    for allow, allowed in [
        ({"redrivePermission": "denyAll"}, False),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [arn_of(sqs, queue)]}, True),
    ]:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": ""})
        sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(allow)})
        again = {"QueueUrl": queue, "Attributes": {"RedrivePolicy": json.dumps(policy)}}
        if allowed:
            sqs.set_queue_attributes(**again)
        else:
            assert refusal(sqs.set_queue_attributes, **again) == "InvalidParameterValue"
    policy["deadLetterTargetArn"] += "-none"
    again = {"QueueUrl": queue, "Attributes": {"RedrivePolicy": json.dumps(policy)}}
    assert refusal(sqs.set_queue_attributes, **again) == "InvalidParameterValue"
    sqs.delete_queue(QueueUrl=queue)
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == []
    sqs.delete_queue(QueueUrl=dead)


def test_purge(sqs, queue):
    for i in range(25):
        sqs.send_message(QueueUrl=queue, MessageBody=str(i))
    [message] = receive(sqs, queue)
    sqs.purge_queue(QueueUrl=queue)
    assert numbers(sqs, queue) == (0, 0, 0)
    assert receive(sqs, queue) == []
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert refusal(sqs.purge_queue, QueueUrl=queue) == "AWS.SimpleQueueService.PurgeQueueInProgress"
    sqs.send_message(QueueUrl=queue, MessageBody="new")
    assert drain(sqs, queue) == ["new"]


def test_purging_moves_those_who_wait(sqs, queue):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive, sqs, queue, WaitTimeSeconds=20)
        time.sleep(0.3)
        sqs.purge_queue(QueueUrl=queue)
        sqs.send_message(QueueUrl=queue, MessageBody="x")
        assert [message["Body"] for message in waiting.result()] == ["x"]


def test_rights(node, sqs, queue):
    iam = node.client("iam")
    user = unique("sender")
    iam.create_user(UserName=user)
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn_of(sqs, queue)}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=user, PolicyName="send", PolicyDocument=document)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    sender = node.client("sqs", **key)
    sender.send_message(QueueUrl=queue, MessageBody="x")
    sender.send_message_batch(QueueUrl=queue, Entries=[{"Id": "a", "MessageBody": "x"}])
    assert refusal(sender.receive_message, QueueUrl=queue).startswith("AccessDenied")
    assert refusal(sender.send_message, QueueUrl=queue + "-other", MessageBody="x").startswith("AccessDenied")
    # The queue's own policy lets somebody in as well.
    who = iam.get_user(UserName=user)["User"]["Arn"]
    allow = {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sqs:ReceiveMessage", "Resource": arn_of(sqs, queue)}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    assert len(receive(sender, queue, MaxNumberOfMessages=10)) == 2
    assert refusal(sender.purge_queue, QueueUrl=queue).startswith("AccessDenied")


@pytest.mark.local
def test_another_account_is_let_in_by_the_queue_alone(node, sqs, queue):
    made = json.loads(node.hawker("account", "create", "--json").stdout)
    key = {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}
    other = node.client("sqs", **key)
    assert refusal(other.send_message, QueueUrl=queue, MessageBody="x").startswith("AccessDenied")
    sqs.add_permission(QueueUrl=queue, Label="other", AWSAccountIds=[made["accountId"]], Actions=["SendMessage"])
    other.send_message(QueueUrl=queue, MessageBody="x")
    assert refusal(other.receive_message, QueueUrl=queue).startswith("AccessDenied")
    assert drain(sqs, queue) == ["x"]


def test_permissions_by_label(sqs, queue):
    sqs.add_permission(QueueUrl=queue, Label="friends", AWSAccountIds=["111111111111"], Actions=["SendMessage"])
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"])
    [statement] = policy["Statement"]
    assert (statement["Sid"], statement["Action"]) == ("friends", ["SQS:SendMessage"])
    again = {"QueueUrl": queue, "Label": "friends", "AWSAccountIds": ["111111111111"], "Actions": ["SendMessage"]}
    assert refusal(sqs.add_permission, **again) == "InvalidParameterValue"
    sqs.remove_permission(QueueUrl=queue, Label="friends")
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])
    assert refusal(sqs.remove_permission, QueueUrl=queue, Label="friends") == "InvalidParameterValue"


@pytest.mark.local
def test_nothing_acknowledged_is_lost_in_a_crash(tmp_path):
    """kill -9 amid sends, receives and deletions: what was acknowledged is there, what was deleted is not."""
    with running(tmp_path / "data") as node:
        sqs = node.client("sqs")
        url = sqs.create_queue(QueueName="crash", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        path = url.removeprefix(node.endpoint)
        sent, deleting, deleted, lock = set(), set(), set(), threading.Lock()
        for round_number in range(3):
            sqs = node.client("sqs")
            url = node.endpoint + path
            stop = threading.Event()

            def send(number):
                i = 0
                while not stop.is_set():
                    body = f"{round_number}-{number}-{i}"
                    try:
                        sqs.send_message(QueueUrl=url, MessageBody=body)
                    except Exception:
                        return
                    with lock:
                        sent.add(body)
                    i += 1

            def take(number):
                while not stop.is_set():
                    try:
                        for message in receive(sqs, url, MaxNumberOfMessages=3):
                            with lock:
                                deleting.add(message["Body"])
                            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                            with lock:
                                deleted.add(message["Body"])
                    except Exception:
                        return

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                for number in range(4):
                    pool.submit(send, number)
                    pool.submit(take, number)
                time.sleep(1.5)
                node.kill()
                stop.set()
            node.start()
        sqs, url = node.client("sqs"), node.endpoint + path
        left = []

        def empty():
            left.extend(drain(sqs, url))
            return numbers(sqs, url) == (0, 0, 0)

        eventually(empty)
        assert len(sent) > 100
        assert len(left) == len(set(left))
        # One whose deletion was not acknowledged may be there or not.
        assert sent - deleting <= set(left)
        assert not deleted & set(left)
