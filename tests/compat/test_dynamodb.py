"""Tables, with boto3's client and resource and the AWS CLI."""

import concurrent.futures
import json
from decimal import Decimal

import boto3
import pytest
from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.types import Binary
from botocore.exceptions import ClientError
from conftest import REGION, Aws, unique


@pytest.fixture
def ddb(node):
    return node.client("dynamodb")


def make(ddb, hash_type="S", range_type=None, **more):
    name = unique("table")
    definitions = [{"AttributeName": "id", "AttributeType": hash_type}]
    schema = [{"AttributeName": "id", "KeyType": "HASH"}]
    if range_type:
        definitions.append({"AttributeName": "at", "AttributeType": range_type})
        schema.append({"AttributeName": "at", "KeyType": "RANGE"})
    ddb.create_table(
        TableName=name, AttributeDefinitions=definitions, KeySchema=schema, BillingMode="PAY_PER_REQUEST", **more
    )
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    return name


@pytest.fixture
def simple(ddb):
    name = make(ddb)
    yield name
    ddb.delete_table(TableName=name)


@pytest.fixture
def sorted_table(ddb):
    name = make(ddb, "S", "N")
    yield name
    ddb.delete_table(TableName=name)


@pytest.fixture
def table(node, simple):
    if isinstance(node, Aws):
        return boto3.resource("dynamodb", region_name=REGION).Table(simple)
    return boto3.resource(
        "dynamodb", endpoint_url=node.endpoint, region_name=REGION, aws_access_key_id=node.access_key_id,
        aws_secret_access_key=node.secret_access_key,
    ).Table(simple)


IN_INPUT = "1 validation error detected: "


def error(excinfo):
    return excinfo.value.response["Error"]["Code"], excinfo.value.response["Error"]["Message"]


def test_table_life(ddb):
    name = make(ddb, "S", "N")
    described = ddb.describe_table(TableName=name)["Table"]
    assert described["TableStatus"] == "ACTIVE"
    assert described["KeySchema"] == [
        {"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}
    ]
    assert described["TableArn"].startswith(f"arn:aws:dynamodb:{REGION}:") and described["TableArn"].endswith(f":table/{name}")
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert name in [n for p in ddb.get_paginator("list_tables").paginate() for n in p["TableNames"]]
    with pytest.raises(ClientError) as e:
        make_again = dict(TableName=name, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                          KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
        ddb.create_table(**make_again)
    assert error(e) == ("ResourceInUseException", f"Table already exists: {name}")
    ddb.delete_table(TableName=name)
    ddb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError) as e:
        ddb.describe_table(TableName=name)
    assert error(e) == ("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")
    with pytest.raises(ClientError) as e:
        ddb.get_item(TableName=name, Key={"id": {"S": "a"}, "at": {"N": "1"}})
    assert error(e) == ("ResourceNotFoundException", "Requested resource not found")


def test_recreated_table_is_empty(ddb):
    name = make(ddb)
    ddb.put_item(TableName=name, Item={"id": {"S": "old"}})
    ddb.delete_table(TableName=name)
    ddb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    ddb.create_table(TableName=name, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                     KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    assert ddb.scan(TableName=name)["Items"] == []
    ddb.delete_table(TableName=name)


EVERYTHING = {
    "id": "every",
    "s": "text ü \U0001f4f7",
    "empty": "",
    "n": Decimal("-12345678901234567890.123456789012345678"),
    "tiny": Decimal("1E-130"),
    "b": Binary(bytes(range(256))),
    "t": True,
    "f": False,
    "null": None,
    "l": ["a", Decimal(1), [Decimal(2), {"deep": True}], Binary(b"")],
    "m": {"a.b": {"c d": [None]}},
    "ss": {"a", "b"},
    "ns": {Decimal(1), Decimal("2.5")},
    "bs": {Binary(b"1"), Binary(b"2")},
}


def test_every_type_round_trips(table):
    table.put_item(Item=EVERYTHING)
    assert table.get_item(Key={"id": "every"}, ConsistentRead=True)["Item"] == EVERYTHING


def test_number_text(ddb, simple):
    for text, shown in [
        ("1.50", "1.5"), ("00012", "12"), ("-0", "0"), ("1e3", "1000"), ("12e-2", "0.12"),
        ("1E+40", "1" + "0" * 40), ("0.00001", "0.00001"),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
    ]:
        ddb.put_item(TableName=simple, Item={"id": {"S": "n"}, "v": {"N": text}})
        assert ddb.get_item(TableName=simple, Key={"id": {"S": "n"}})["Item"]["v"] == {"N": shown}
    for bad, message in [
        ("1" * 39, "Attempting to store more than 38 significant digits in a Number"),
        ("1e126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("1e-131", "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
        ("abc", "The parameter cannot be converted to a numeric value: abc"),
    ]:
        with pytest.raises(ClientError) as e:
            ddb.put_item(TableName=simple, Item={"id": {"S": "n"}, "v": {"N": bad}})
        assert error(e) == ("ValidationException", IN_INPUT + message)


def test_put_conditions_and_return_values(table):
    assert "Attributes" not in table.put_item(Item={"id": "a", "v": 1})
    with pytest.raises(ClientError) as e:
        table.put_item(Item={"id": "a", "v": 2}, ConditionExpression=Attr("id").not_exists())
    assert error(e) == ("ConditionalCheckFailedException", "The conditional request failed")
    old = table.put_item(Item={"id": "a", "v": 2}, ConditionExpression=Attr("v").eq(1), ReturnValues="ALL_OLD")
    assert old["Attributes"] == {"id": "a", "v": 1}
    with pytest.raises(ClientError) as e:
        table.put_item(Item={"id": "a"}, ConditionExpression="v = :v", ExpressionAttributeValues={":v": 9},
                       ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert e.value.response["Item"] == {"id": {"S": "a"}, "v": {"N": "2"}}
    gone = table.delete_item(Key={"id": "a"}, ConditionExpression="#v IN (:a, :b)", ReturnValues="ALL_OLD",
                             ExpressionAttributeNames={"#v": "v"}, ExpressionAttributeValues={":a": 1, ":b": 2})
    assert gone["Attributes"]["v"] == 2
    assert "Item" not in table.get_item(Key={"id": "a"})


def test_update_expressions(table):
    def update(expression, values=None, names=None, returns="ALL_NEW"):
        more = {}
        if values:
            more["ExpressionAttributeValues"] = values
        if names:
            more["ExpressionAttributeNames"] = names
        return table.update_item(Key={"id": "u"}, UpdateExpression=expression, ReturnValues=returns, **more).get("Attributes")

    assert update("SET a = :a, l = :l, m = :m", {":a": 1, ":l": ["x"], ":m": {"k": {"n": 1}}})["a"] == 1
    assert update("SET a = a + :one, b = a - :one", {":one": 1})["a"] == 2
    assert update("SET b = if_not_exists(b, :z), c = if_not_exists(c, :z)", {":z": 9}, returns="UPDATED_NEW") == {"b": 0, "c": 9}
    assert update("SET l = list_append(l, :more)", {":more": ["y", "z"]})["l"] == ["x", "y", "z"]
    assert update("SET l = list_append(:first, l)", {":first": ["w"]})["l"] == ["w", "x", "y", "z"]
    assert update("REMOVE l[1], l[3] SET m.#k.deeper = :v", {":v": True}, {"#k": "k"})["l"] == ["w", "y"]
    assert update("SET l[10] = :v", {":v": "end"})["l"] == ["w", "y", "end"]
    assert update("ADD n :five, tags :t", {":five": 5, ":t": {"a", "b"}})["tags"] == {"a", "b"}
    both = update("ADD n :five DELETE tags :t", {":five": Decimal("0.5"), ":t": {"a"}})
    assert both["n"] == Decimal("5.5") and both["tags"] == {"b"}
    assert "tags" not in update("DELETE tags :t", {":t": {"b"}})
    assert update("REMOVE m", returns="UPDATED_OLD") == {"m": {"k": {"n": 1, "deeper": True}}}
    for expression, values, message in [
        ("SET absent = nosuch + :v", {":v": 1}, "The provided expression refers to an attribute that does not exist in the item"),
        ("SET a.b = :v", {":v": 1}, "The document path provided in the update expression is invalid for update"),
        ("SET id = :v", {":v": "x"}, "One or more parameter values were invalid: Cannot update attribute id. This attribute is part of the key"),
        ("SET a = :v, a = :v", {":v": 1}, IN_INPUT + "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]"),
        ("SET a = :v", {":v": 1, ":unused": 2}, IN_INPUT + "Value provided in ExpressionAttributeValues unused in expressions: keys: {:unused}"),
        ("SET a = :missing", None, IN_INPUT + "Invalid UpdateExpression: An expression attribute value used in expression is not defined; attribute value: :missing"),
        ("SET name = :v", {":v": 1}, IN_INPUT + "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: name"),
        ("SET a = = :v", {":v": 1}, IN_INPUT + 'Invalid UpdateExpression: Syntax error; token: "=", near: "= = :v"'),
    ]:
        with pytest.raises(ClientError) as e:
            update(expression, values)
        assert error(e) == ("ValidationException", message)


def test_concurrent_counter(table):
    def bump(_):
        table.update_item(Key={"id": "c"}, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(bump, range(400)))
    assert table.get_item(Key={"id": "c"}, ConsistentRead=True)["Item"]["n"] == 400


def test_query(ddb, sorted_table):
    numbers = [Decimal(x) for x in ("-1e20", "-5", "-0.5", "0", "0.25", "1", "2", "10", "3e30")]
    for shuffled in sorted(numbers, key=str):
        ddb.put_item(TableName=sorted_table, Item={"id": {"S": "a"}, "at": {"N": str(shuffled)}, "even": {"BOOL": shuffled in (0, 2, 10)}})
    ddb.put_item(TableName=sorted_table, Item={"id": {"S": "b"}, "at": {"N": "1"}})

    def query(condition, **more):
        values = {":id": {"S": "a"}, **more.pop("values", {})}
        answer = ddb.query(TableName=sorted_table, KeyConditionExpression=condition, ExpressionAttributeValues=values, **more)
        return [Decimal(i["at"]["N"]) for i in answer["Items"]], answer

    assert query("id = :id")[0] == numbers
    assert query("id = :id", ScanIndexForward=False)[0] == numbers[::-1]
    n = lambda x: {"N": str(x)}
    assert query("id = :id AND #at > :x", values={":x": n("-0.5")}, ExpressionAttributeNames={"#at": "at"})[0] == numbers[3:]
    assert query("id = :id AND #at <= :x", values={":x": n(1)}, ExpressionAttributeNames={"#at": "at"})[0] == numbers[:6]
    assert query("id = :id AND #at BETWEEN :x AND :y", values={":x": n(0), ":y": n(2)}, ExpressionAttributeNames={"#at": "at"})[0] == numbers[3:7]
    first, answer = query("id = :id", Limit=4)
    rest, last = query("id = :id", ExclusiveStartKey=answer["LastEvaluatedKey"])
    assert first + rest == numbers and "LastEvaluatedKey" not in last
    filtered, answer = query("id = :id", values={":t": {"BOOL": True}}, FilterExpression="even = :t")
    assert answer["ScannedCount"] == len(numbers) and answer["Count"] == len(filtered) < len(numbers)
    count = ddb.query(TableName=sorted_table, KeyConditionExpression="id = :id", Select="COUNT", ExpressionAttributeValues={":id": {"S": "a"}})
    assert count["Count"] == len(numbers) and "Items" not in count


def test_sort_key_text(ddb):
    name = make(ddb, "S", "S")
    keys = ["a", "a\0", "a\0b", "aa", "b", "é", "\uffff", "\U00010000"]
    for k in reversed(keys):
        ddb.put_item(TableName=name, Item={"id": {"S": "x"}, "at": {"S": k}})
    items = ddb.query(TableName=name, KeyConditionExpression="id = :i", ExpressionAttributeValues={":i": {"S": "x"}})["Items"]
    assert [i["at"]["S"] for i in items] == sorted(keys, key=lambda k: k.encode())
    items = ddb.query(TableName=name, KeyConditionExpression="id = :i AND begins_with(#at, :p)", ExpressionAttributeNames={"#at": "at"},
                      ExpressionAttributeValues={":i": {"S": "x"}, ":p": {"S": "a"}})["Items"]
    assert [i["at"]["S"] for i in items] == ["a", "a\0", "a\0b", "aa"]
    ddb.delete_table(TableName=name)


def test_pages_of_a_megabyte_and_capacity(ddb, sorted_table):
    for i in range(30):
        ddb.put_item(TableName=sorted_table, Item={"id": {"S": "big"}, "at": {"N": str(i)}, "v": {"S": "x" * 100_000}})
    pages = list(ddb.get_paginator("query").paginate(
        TableName=sorted_table, KeyConditionExpression="id = :i", ExpressionAttributeValues={":i": {"S": "big"}},
        ReturnConsumedCapacity="TOTAL", ConsistentRead=True))
    assert len(pages) == 3 and sum(p["Count"] for p in pages) == 30
    assert 240 <= pages[0]["ConsumedCapacity"]["CapacityUnits"] <= 270
    put = ddb.put_item(TableName=sorted_table, Item={"id": {"S": "c"}, "at": {"N": "1"}, "v": {"S": "x" * 1500}}, ReturnConsumedCapacity="TOTAL")
    assert put["ConsumedCapacity"] == {"TableName": sorted_table, "CapacityUnits": 2.0}
    key = {"id": {"S": "c"}, "at": {"N": "1"}}
    assert ddb.get_item(TableName=sorted_table, Key=key, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]["CapacityUnits"] == 0.5
    assert ddb.get_item(TableName=sorted_table, Key=key, ConsistentRead=True, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]["CapacityUnits"] == 1.0


def test_scan_and_parallel_scan(ddb, simple):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ddb.put_item(TableName=simple, Item={"id": {"S": str(i)}, "n": {"N": str(i)}}), range(200)))
    pages = ddb.get_paginator("scan").paginate(TableName=simple, PaginationConfig={"PageSize": 17})
    assert sorted(int(i["id"]["S"]) for p in pages for i in p["Items"]) == list(range(200))
    seen = []
    for segment in range(4):
        seen += [i["id"]["S"] for p in ddb.get_paginator("scan").paginate(TableName=simple, Segment=segment, TotalSegments=4) for i in p["Items"]]
    assert sorted(map(int, seen)) == list(range(200))
    some = ddb.scan(TableName=simple, FilterExpression="n BETWEEN :a AND :b AND NOT contains(id, :c)", ProjectionExpression="id",
                    ExpressionAttributeValues={":a": {"N": "10"}, ":b": {"N": "20"}, ":c": {"S": "5"}})
    assert sorted(i["id"]["S"] for i in some["Items"]) == ["10", "11", "12", "13", "14", "16", "17", "18", "19", "20"]
    assert all(set(i) == {"id"} for i in some["Items"])


def test_batches(ddb, simple, table):
    with table.batch_writer() as batch:
        for i in range(60):
            batch.put_item(Item={"id": f"b{i}", "n": i})
    keys = [{"id": {"S": f"b{i}"}} for i in range(0, 100, 2)]
    got = ddb.batch_get_item(RequestItems={simple: {"Keys": keys, "ProjectionExpression": "n"}})
    assert sorted(int(i["n"]["N"]) for i in got["Responses"][simple]) == list(range(0, 60, 2))
    assert got["UnprocessedKeys"] == {}
    with pytest.raises(ClientError) as e:
        ddb.batch_write_item(RequestItems={simple: [{"PutRequest": {"Item": {"id": {"S": "x"}}}}] * 2})
    assert error(e) == ("ValidationException", "Provided list of item keys contains duplicates")


def test_transactions(ddb, simple):
    ddb.put_item(TableName=simple, Item={"id": {"S": "from"}, "n": {"N": "10"}})

    def move(amount):
        ddb.transact_write_items(TransactItems=[
            {"Update": {"TableName": simple, "Key": {"id": {"S": "from"}}, "UpdateExpression": "SET n = n - :a",
                        "ConditionExpression": "n >= :a", "ExpressionAttributeValues": {":a": {"N": str(amount)}}}},
            {"Update": {"TableName": simple, "Key": {"id": {"S": "to"}}, "UpdateExpression": "ADD n :a",
                        "ExpressionAttributeValues": {":a": {"N": str(amount)}}}},
        ])

    move(4)
    with pytest.raises(ClientError) as e:
        move(7)
    assert e.value.response["Error"]["Code"] == "TransactionCanceledException"
    assert [r["Code"] for r in e.value.response["CancellationReasons"]] == ["ConditionalCheckFailed", "None"]
    got = ddb.transact_get_items(TransactItems=[{"Get": {"TableName": simple, "Key": {"id": {"S": k}}}} for k in ("from", "to")])
    assert [r["Item"]["n"]["N"] for r in got["Responses"]] == ["6", "4"]


def test_validation(ddb, simple):
    cases = [
        (lambda: ddb.put_item(TableName=simple, Item={"x": {"S": "a"}}),
         "One or more parameter values were invalid: Missing the key id in the item"),
        (lambda: ddb.put_item(TableName=simple, Item={"id": {"N": "1"}}),
         "One or more parameter values were invalid: Type mismatch for key id expected: S actual: N"),
        (lambda: ddb.put_item(TableName=simple, Item={"id": {"S": ""}}),
         "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id"),
        (lambda: ddb.get_item(TableName=simple, Key={"nope": {"S": "a"}}),
         "The provided key element does not match the schema"),
        (lambda: ddb.put_item(TableName=simple, Item={"id": {"S": "a"}, "v": {"S": "x" * 410_000}}),
         "Item size has exceeded the maximum allowed size"),
        (lambda: ddb.get_item(TableName=simple, Key={"id": {"S": "a"}}, ProjectionExpression="a", ExpressionAttributeNames={"#u": "u"}),
         "Value provided in ExpressionAttributeNames unused in expressions: keys: {#u}"),
    ]
    for call, message in cases:
        with pytest.raises(ClientError) as e:
            call()
        assert error(e) == ("ValidationException", message)


@pytest.mark.local
def test_deep_documents_are_refused(node, ddb, simple):
    deep = {"S": "x"}
    for _ in range(40):
        deep = {"L": [deep]}
    with pytest.raises(ClientError) as e:
        ddb.put_item(TableName=simple, Item={"id": {"S": "a"}, "v": deep})
    assert error(e)[0] == "ValidationException"
    with pytest.raises(ClientError) as e:
        ddb.get_item(TableName=simple, Key={"id": {"S": "a"}}, ProjectionExpression="a" + ".a" * 3000)
    assert error(e)[0] == "ValidationException"
    expression = "(" * 400 + "attribute_exists(id)" + ")" * 400
    with pytest.raises(ClientError) as e:
        ddb.put_item(TableName=simple, Item={"id": {"S": "a"}}, ConditionExpression=expression)
    assert error(e)[0] == "ValidationException"


@pytest.mark.local
def test_cli(node, simple):
    node.aws("dynamodb", "put-item", "--table-name", simple, "--item", '{"id": {"S": "cli"}, "n": {"N": "7"}}')
    got = node.aws("dynamodb", "get-item", "--table-name", simple, "--key", '{"id": {"S": "cli"}}').stdout
    assert json.loads(got)["Item"]["n"] == {"N": "7"}
