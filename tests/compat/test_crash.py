"""kill -9 at any moment: what was acknowledged is there, and no event is lost."""

import concurrent.futures
import random
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from conftest import PYTHON_RUNTIME, Node, eventually
from functions import BASIC, TRUST, package

pytestmark = pytest.mark.local
ROUNDS = 6


def test_acknowledged_writes_survive(tmp_path, shared_cache):
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    node.client("s3").create_bucket(Bucket="survive")
    ddb = node.client("dynamodb")
    ddb.create_table(TableName="survive", AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                     KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
    acknowledged = {}
    rng = random.Random(1)
    for round_ in range(ROUNDS):
        stop = threading.Event()

        def writer(w):
            s3, ddb = node.client("s3"), node.client("dynamodb")
            for i in range(10_000):
                if stop.is_set():
                    return
                key = f"{round_}-{w}-{i}"
                body = (key.encode() + b".") * (1 + 20_000 * (i % 7 == 0))
                try:
                    s3.put_object(Bucket="survive", Key=key, Body=body)
                    ddb.put_item(TableName="survive", Item={"id": {"S": key}})
                except (BotoCoreError, ClientError, HTTPClientError):
                    return
                acknowledged[key] = body

        threads = [threading.Thread(target=writer, args=(w,)) for w in range(8)]
        for t in threads:
            t.start()
        time.sleep(0.3 + rng.random())
        node.kill()
        stop.set()
        for t in threads:
            t.join()
        node.start()
    assert len(acknowledged) > 50
    s3, ddb = node.client("s3"), node.client("dynamodb")

    def check(item):
        key, body = item
        assert s3.get_object(Bucket="survive", Key=key)["Body"].read() == body
        assert "Item" in ddb.get_item(TableName="survive", Key={"id": {"S": key}})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(check, acknowledged.items()))
    # What was not acknowledged is there whole or not at all.
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="survive"):
        for o in page.get("Contents", []):
            if o["Key"] not in acknowledged:
                assert len(s3.get_object(Bucket="survive", Key=o["Key"])["Body"].read()) == o["Size"]
    assert node.stop() == 0


def test_no_event_is_lost(tmp_path, shared_cache):
    """Uploads wake a function that copies their key into a table, while the node is killed again and again."""
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    iam, client = node.client("iam"), node.client("lambda")
    role = iam.create_role(RoleName="copy", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.attach_role_policy(RoleName="copy", PolicyArn=BASIC)
    iam.put_role_policy(RoleName="copy", PolicyName="p", PolicyDocument=(
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "*"}]}'))
    source = """
import boto3
ddb = boto3.client("dynamodb")
def handler(event, context):
    for r in event["Records"]:
        ddb.put_item(TableName="seen", Item={"id": {"S": r["s3"]["object"]["key"]}})
"""
    arn = client.create_function(FunctionName="copy", Runtime=PYTHON_RUNTIME, Role=role, Handler="app.handler", Timeout=60,
                                 MemorySize=256, Code={"ZipFile": package({"app.py": source})})["FunctionArn"]
    client.get_waiter("function_active_v2").wait(FunctionName="copy", WaiterConfig={"Delay": 1})
    client.add_permission(FunctionName="copy", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
    s3, ddb = node.client("s3"), node.client("dynamodb")
    s3.create_bucket(Bucket="events")
    s3.put_bucket_notification_configuration(Bucket="events", NotificationConfiguration={
        "LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]})
    ddb.create_table(TableName="seen", AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                     KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
    acknowledged = set()
    rng = random.Random(2)
    for round_ in range(ROUNDS):
        def upload(i):
            key = f"{round_}-{i}"
            try:
                node.client("s3").put_object(Bucket="events", Key=key, Body=b"x")
                acknowledged.add(key)
            except (BotoCoreError, ClientError, HTTPClientError):
                pass

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(upload, i) for i in range(30)]
            time.sleep(0.2 + rng.random() * 0.8)
            node.kill()
            concurrent.futures.wait(uploads)
        node.start()
    assert len(acknowledged) > 20
    ddb = node.client("dynamodb")

    def seen():
        pages = ddb.get_paginator("scan").paginate(TableName="seen")
        return acknowledged <= {i["id"]["S"] for p in pages for i in p["Items"]}

    eventually(seen, timeout=120, interval=0.2)
    assert node.stop() == 0
