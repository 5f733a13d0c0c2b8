"""Secondary indexes, streams and time to live, with boto3."""

import concurrent.futures
import time

import boto3
import pytest
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError
from conftest import REGION, Aws, eventually, running, unique


@pytest.fixture
def ddb(node):
    return node.client("dynamodb")


@pytest.fixture
def streams(node):
    return node.client("dynamodbstreams")


def resource(node):
    if isinstance(node, Aws):
        return boto3.resource("dynamodb", region_name=REGION)
    return boto3.resource(
        "dynamodb", endpoint_url=node.endpoint, region_name=REGION, aws_access_key_id=node.access_key_id,
        aws_secret_access_key=node.secret_access_key,
    )


def attribute(name, kind="S"):
    return {"AttributeName": name, "AttributeType": kind}


def schema(*names):
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"))]


def active(ddb, name):
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})

    def ready():
        table = ddb.describe_table(TableName=name)["Table"]
        return all(i["IndexStatus"] == "ACTIVE" for i in table.get("GlobalSecondaryIndexes", [])) and table

    return eventually(ready, timeout=600)


@pytest.fixture
def orders(ddb):
    name = unique("orders")
    ddb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[attribute("customer"), attribute("id"), attribute("total", "N"), attribute("state")],
        KeySchema=schema("customer", "id"),
        LocalSecondaryIndexes=[
            {"IndexName": "by-total", "KeySchema": schema("customer", "total"), "Projection": {"ProjectionType": "KEYS_ONLY"}},
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": "by-state", "KeySchema": schema("state", "total"),
             "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]}},
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    active(ddb, name)
    yield name
    ddb.delete_table(TableName=name)


def read_all(streams, arn):
    shards = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    records = []
    for shard in shards:
        at = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        for _ in range(20):
            answer = streams.get_records(ShardIterator=at)
            records += answer["Records"]
            at = answer.get("NextShardIterator")
            if not at or not answer["Records"]:
                break
    return records


def test_queries_of_indexes(node, ddb, orders):
    table = resource(node).Table(orders)
    with table.batch_writer() as batch:
        for n in range(40):
            item = {"customer": f"c{n % 4}", "id": f"{n:03}", "total": n % 7, "note": "n", "more": "m"}
            if n % 3:
                item["state"] = "open" if n % 2 else "sent"
            batch.put_item(Item=item)

    def by_state():
        return table.query(IndexName="by-state", KeyConditionExpression=Key("state").eq("open") & Key("total").gte(3))["Items"]

    expected = sum(1 for n in range(40) if n % 3 and n % 2 and n % 7 >= 3)
    found = eventually(lambda: len(by_state()) == expected and by_state())
    assert [i["total"] for i in found] == sorted(i["total"] for i in found)
    assert all(set(i) == {"customer", "id", "total", "state", "note"} for i in found)
    # In pages.
    pages = ddb.get_paginator("query").paginate(
        TableName=orders, IndexName="by-state", KeyConditionExpression="#s = :s",
        ExpressionAttributeNames={"#s": "state"}, ExpressionAttributeValues={":s": {"S": "open"}},
        PaginationConfig={"PageSize": 3},
    )
    ids = [i["id"]["S"] for page in pages for i in page["Items"]]
    assert len(ids) == len(set(ids)) == 13
    # A local index fetches what it does not have.
    local = table.query(
        IndexName="by-total", KeyConditionExpression=Key("customer").eq("c1"), ConsistentRead=True,
        Select="ALL_ATTRIBUTES", ScanIndexForward=False, ReturnConsumedCapacity="INDEXES",
    )
    assert [i["total"] for i in local["Items"]] == sorted((i["total"] for i in local["Items"]), reverse=True)
    assert all(i["more"] == "m" for i in local["Items"]) and local["Count"] == 10
    assert local["ConsumedCapacity"]["Table"]["CapacityUnits"] == 10
    assert local["ConsumedCapacity"]["LocalSecondaryIndexes"]["by-total"]["CapacityUnits"] == 1
    scanned = table.scan(IndexName="by-state", Select="COUNT")
    assert scanned["Count"] == 26
    with pytest.raises(ClientError) as e:
        table.query(IndexName="by-state", KeyConditionExpression=Key("state").eq("open"), ConsistentRead=True)
    assert e.value.response["Error"]["Message"] == "Consistent reads are not supported on global secondary indexes"


def test_an_index_added_and_dropped_under_writes(node, ddb):
    name = unique("live")
    ddb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[attribute("id")], KeySchema=schema("id"))
    active(ddb, name)
    table = resource(node).Table(name)
    with table.batch_writer() as batch:
        for n in range(500):
            batch.put_item(Item={"id": str(n), "group": f"g{n % 5}"})
    ddb.update_table(
        TableName=name, AttributeDefinitions=[attribute("id"), attribute("group")],
        GlobalSecondaryIndexUpdates=[{"Create": {
            "IndexName": "by-group", "KeySchema": schema("group"), "Projection": {"ProjectionType": "ALL"},
        }}],
    )
    for n in range(0, 100):
        table.update_item(Key={"id": str(n)}, UpdateExpression="SET #g = :g", ExpressionAttributeNames={"#g": "group"},
                          ExpressionAttributeValues={":g": "moved"})
    active(ddb, name)

    def group(of):
        return table.query(IndexName="by-group", KeyConditionExpression=Key("group").eq(of), Select="COUNT")["Count"]

    assert eventually(lambda: group("moved") == 100)
    assert sum(group(f"g{n}") for n in range(5)) == 400
    ddb.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-group"}}])
    eventually(lambda: "GlobalSecondaryIndexes" not in ddb.describe_table(TableName=name)["Table"], timeout=600)
    ddb.delete_table(TableName=name)


@pytest.mark.local
def test_a_back_fill_goes_on_after_a_crash(tmp_path, shared_cache):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        ddb, name = node.client("dynamodb"), "crash"
        ddb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[attribute("id")], KeySchema=schema("id"))
        table = resource(node).Table(name)
        with table.batch_writer() as batch:
            for n in range(2000):
                batch.put_item(Item={"id": str(n), "group": "g", "pad": "x" * 500})
        ddb.update_table(
            TableName=name, AttributeDefinitions=[attribute("id"), attribute("group")],
            GlobalSecondaryIndexUpdates=[{"Create": {
                "IndexName": "by-group", "KeySchema": schema("group"), "Projection": {"ProjectionType": "KEYS_ONLY"},
            }}],
        )
        node.kill()
        node.start()
        active(ddb, name)
        pages = ddb.get_paginator("query").paginate(
            TableName=name, IndexName="by-group", KeyConditionExpression="#g = :g", Select="COUNT",
            ExpressionAttributeNames={"#g": "group"}, ExpressionAttributeValues={":g": {"S": "g"}},
        )
        assert sum(page["Count"] for page in pages) == 2000


def test_a_stream_has_every_change_of_many_writers(node, ddb, streams, orders):
    arn = ddb.describe_table(TableName=orders)["Table"]["LatestStreamArn"]
    table = resource(node)
    key = {"customer": {"S": "hot"}, "id": {"S": "counter"}}

    def count(_):
        ddb.update_item(TableName=orders, Key=key, UpdateExpression="ADD #t :one", ExpressionAttributeNames={"#t": "total"},
                        ExpressionAttributeValues={":one": {"N": "1"}})

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(count, range(300)))
    records = eventually(lambda: len(found := read_all(streams, arn)) >= 300 and found)
    assert len(records) == 300
    assert [r["eventName"] for r in records] == ["INSERT"] + ["MODIFY"] * 299
    totals = [int(r["dynamodb"]["NewImage"]["total"]["N"]) for r in records]
    assert totals == list(range(1, 301))
    numbers = [r["dynamodb"]["SequenceNumber"] for r in records]
    assert numbers == sorted(numbers) and len(set(numbers)) == 300
    # The local index shows the last state, and only that.
    found = table.Table(orders).query(IndexName="by-total", KeyConditionExpression=Key("customer").eq("hot"))["Items"]
    assert [i["total"] for i in found] == [300]
    assert arn in [s["StreamArn"] for s in streams.list_streams(TableName=orders)["Streams"]]


@pytest.mark.local
def test_items_expire(node, ddb, streams, orders):
    specification = {"Enabled": True, "AttributeName": "ends"}
    ddb.update_time_to_live(TableName=orders, TimeToLiveSpecification=specification)
    assert ddb.describe_time_to_live(TableName=orders)["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED", "AttributeName": "ends"}
    for name, ends in (("soon", 1), ("later", 3600)):
        ddb.put_item(TableName=orders, Item={
            "customer": {"S": "c"}, "id": {"S": name}, "ends": {"N": str(int(time.time()) + ends)}, "state": {"S": "x"}})
    eventually(lambda: ddb.scan(TableName=orders)["Count"] == 1)
    assert ddb.scan(TableName=orders, IndexName="by-state")["Count"] == 0
    arn = ddb.describe_table(TableName=orders)["Table"]["LatestStreamArn"]
    (removed,) = [r for r in read_all(streams, arn) if r["eventName"] == "REMOVE"]
    assert removed["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    assert removed["dynamodb"]["Keys"]["id"]["S"] == "soon"


@pytest.mark.local
def test_indexes_and_stream_agree_with_the_items_after_a_crash(tmp_path, shared_cache):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        ddb, name = node.client("dynamodb"), "crash"
        ddb.create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[attribute("id"), attribute("group"), attribute("n", "N")], KeySchema=schema("id"),
            GlobalSecondaryIndexes=[{"IndexName": "by-group", "KeySchema": schema("group", "n"), "Projection": {"ProjectionType": "ALL"}}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        acknowledged, stop = {}, False

        def write(worker):
            for n in range(10_000):
                key = f"{worker}-{n % 20}"
                item = {"id": {"S": key}, "group": {"S": f"g{n % 3}"}, "n": {"N": str(n)}}
                try:
                    ddb.put_item(TableName=name, Item=item)
                except Exception:
                    return
                acknowledged[key] = n
                if stop:
                    return

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            work = [pool.submit(write, worker) for worker in range(16)]
            time.sleep(2)
            node.kill()
            stop = True
            for w in work:
                w.result()
        node.start()
        assert acknowledged

        def items(**where):
            pages = ddb.get_paginator("scan").paginate(TableName=name, **where)
            return {i["id"]["S"]: (i["group"]["S"], int(i["n"]["N"])) for page in pages for i in page["Items"]}

        table = items()
        assert table == items(IndexName="by-group")
        assert all(table[key][1] >= n for key, n in acknowledged.items())
        streams = node.client("dynamodbstreams")
        arn = ddb.describe_table(TableName=name)["Table"]["LatestStreamArn"]
        last = {}
        at = streams.get_shard_iterator(
            StreamArn=arn, ShardId=streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"],
            ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        while True:
            answer = streams.get_records(ShardIterator=at)
            for record in answer["Records"]:
                image = record["dynamodb"]["NewImage"]
                last[image["id"]["S"]] = (image["group"]["S"], int(image["n"]["N"]))
            at = answer["NextShardIterator"]
            if not answer["Records"]:
                break
        assert last == table
