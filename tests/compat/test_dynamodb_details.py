"""Details in which DynamoDB is particular, as other projects' tests against AWS found them; with boto3."""

import json

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import REGION, unique


@pytest.fixture
def ddb(node):
    return node.client("dynamodb")


@pytest.fixture
def table(ddb):
    name = unique("details")
    ddb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    yield name
    ddb.delete_table(TableName=name)


def key(id):
    return {"id": {"S": id}}


def refused(call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]


def changes(node, ddb, table):
    streams = node.client("dynamodbstreams")
    arn = ddb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    at = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    return [(r["eventName"], r["dynamodb"]["Keys"]["id"]["S"]) for r in streams.get_records(ShardIterator=at)["Records"]]


def test_taking_something_from_nothing_leaves_nothing(node, ddb, table):
    nothing = [
        {"UpdateExpression": "REMOVE a"},
        {"UpdateExpression": "DELETE a :a", "ExpressionAttributeValues": {":a": {"SS": ["x"]}}},
        {"AttributeUpdates": {"a": {"Action": "DELETE"}}},
    ]
    for n, update in enumerate(nothing):
        answer = ddb.update_item(TableName=table, Key=key(f"n{n}"), ReturnValues="ALL_NEW", **update)
        assert "Attributes" not in answer
    remove = {"TableName": table, "Key": key("t"), "UpdateExpression": "REMOVE a"}
    ddb.transact_write_items(TransactItems=[{"Update": remove}])
    assert ddb.scan(TableName=table)["Count"] == 0
    something = [
        {}, {"AttributeUpdates": {}},
        {"UpdateExpression": "SET b = :b REMOVE a", "ExpressionAttributeValues": {":b": {"N": "1"}}},
    ]
    for n, update in enumerate(something):
        ddb.update_item(TableName=table, Key=key(f"s{n}"), **update)
    assert ddb.scan(TableName=table)["Count"] == 3
    assert sorted(changes(node, ddb, table)) == [("INSERT", "s0"), ("INSERT", "s1"), ("INSERT", "s2")]


def test_a_token_stands_for_what_is_asked_in_whatever_form(ddb, table):
    put = lambda item: {"TransactItems": [{"Put": {"TableName": table, "Item": item}}], "ClientRequestToken": token}
    token = unique("t")[:36]
    ddb.transact_write_items(**put({"id": {"S": "a"}, "n": {"N": "1"}, "s": {"S": "x"}}))
    ddb.update_item(TableName=table, Key=key("a"), UpdateExpression="SET n = :n", ExpressionAttributeValues={":n": {"N": "2"}})
    ddb.transact_write_items(**put({"s": {"S": "x"}, "n": {"N": "1.0"}, "id": {"S": "a"}}), ReturnConsumedCapacity="TOTAL")
    assert ddb.get_item(TableName=table, Key=key("a"))["Item"]["n"] == {"N": "2"}
    error = refused(ddb.transact_write_items, **put({"id": {"S": "a"}, "n": {"N": "3"}, "s": {"S": "x"}}))
    assert error["Code"] == "IdempotentParameterMismatchException"


def test_expectations_of_before_expressions(ddb, table):
    ddb.put_item(TableName=table, Item={**key("a"), "l": {"L": []}, "n": {"N": "1"}})
    expect = lambda name, operator, *values: {"TableName": table, "Item": key("a"), "Expected": {
        name: {"ComparisonOperator": operator, "AttributeValueList": list(values)}}}
    assert refused(ddb.put_item, **expect("none", "NOT_CONTAINS", {"S": "x"}))["Code"] == "ConditionalCheckFailedException"
    for operator, value, kind in (("LT", {"L": []}, "L"), ("CONTAINS", {"SS": ["a"]}, "SS"), ("BEGINS_WITH", {"N": "1"}, "N")):
        message = refused(ddb.put_item, **expect("l", operator, value))["Message"]
        assert f"ComparisonOperator {operator} is not valid for {kind} AttributeValue type" in message
    skip = {"none": {"ComparisonOperator": "NOT_CONTAINS", "AttributeValueList": [{"S": "x"}]}}
    assert ddb.scan(TableName=table, ScanFilter=skip)["Count"] == 0


def test_attributes_have_names(ddb, table):
    empty, long = "", "n" * 65536
    for name, word in ((empty, "Empty attribute name"), (long, "65536")):
        for call, parameters in (
            (ddb.put_item, {"Item": {**key("a"), name: {"S": "x"}}}),
            (ddb.put_item, {"Item": {**key("a"), "m": {"M": {name: {"S": "x"}}}}}),
            (ddb.get_item, {"Key": key("a"), "AttributesToGet": [name]}),
            (ddb.get_item, {"Key": key("a"), "ProjectionExpression": "#n", "ExpressionAttributeNames": {"#n": name}}),
            (ddb.update_item, {"Key": key("a"), "AttributeUpdates": {name: {"Value": {"S": "x"}}}}),
        ):
            assert word in refused(call, TableName=table, **parameters)["Message"]
    longest = "n" * 65535
    ddb.put_item(TableName=table, Item={**key("a"), longest: {"S": "x"}})
    assert ddb.get_item(TableName=table, Key=key("a"))["Item"][longest] == {"S": "x"}


@pytest.mark.parametrize("expression, words", [
    ("_a = :v", 'Syntax error; token: "_"'),
    ("size(size(a)) = :v", "Incorrect operand type for operator or function; operator or function: size, operand type: N"),
    ("if_not_exists(a, :v)", "The function is not allowed to be used this way in an expression; function: if_not_exists"),
    ("a." * 32 + "a = :v", "The document path has too many nesting levels; nesting levels: 33"),
    (" OR ".join(["a = :v"] * 151), "The expression contains too many operators; operator count: 301"),
])
def test_words_of_conditions(ddb, table, expression, words):
    value = {":v": {"N": "1"}} if ":v" in expression else {}
    message = refused(ddb.put_item, TableName=table, Item=key("a"), ConditionExpression=expression, ExpressionAttributeValues=value)["Message"]
    assert words in message


def test_conditions_nest_as_deep_as_tools_write_them(ddb, table):
    names = {"ExpressionAttributeNames": {"#n": "n"}, "ExpressionAttributeValues": {":v": {"N": "1"}}}
    right, left = "#n = :v", "#n = :v"
    for _ in range(149):
        right, left = f"#n = :v OR ({right})", f"({left}) OR #n = :v"
    ddb.put_item(TableName=table, Item={**key("a"), "n": {"N": "1"}})
    for nested in (right, left, "NOT NOT " * 70 + "(#n = :v)"):
        assert ddb.scan(TableName=table, FilterExpression=nested, **names)["Count"] == 1


def test_what_updates_mean(ddb, table):
    item = lambda: ddb.get_item(TableName=table, Key=key("a"))["Item"]
    update = lambda expression, **values: {"TableName": table, "Key": key("a"), "UpdateExpression": expression,
                                           "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()}}
    ddb.put_item(TableName=table, Item={**key("a"), "l": {"L": [{"N": n} for n in "123"]}, "n": {"N": "1" + "0" * 50}})
    # An index beyond the list's end is nothing to remove, whatever SET appends.
    ddb.update_item(**update("SET l[5] = :x REMOVE l[3]", x={"S": "x"}))
    assert item()["l"]["L"][3] == {"S": "x"}
    message = refused(ddb.update_item, **update("SET n = n + :one", one={"N": "1"}))["Message"]
    assert message.startswith("Number overflow.")
    message = refused(ddb.update_item, **update("SET a = size(:x)", x={"S": "x"}))["Message"]
    assert "not allowed to be used this way" in message


def sent(node, operation, document):
    """A request as no SDK writes it, but signed."""
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", "content-type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", node.endpoint + "/", data=json.dumps(document), headers=headers)
    SigV4Auth(Credentials(node.access_key_id, node.secret_access_key), "dynamodb", REGION).add_auth(request)
    return requests.post(request.url, data=request.data, headers=dict(request.headers))


def test_members_that_are_null_are_none(node, table):
    answer = sent(node, "PutItem", {"TableName": table, "Item": {"id": {"S": "a", "N": None}}})
    assert answer.status_code == 200, answer.text
    answer = sent(node, "PutItem", {"TableName": table, "Item": {"id": {"S": None}}})
    assert "Supplied AttributeValue is empty" in answer.json()["message"]


def test_definitions_are_made_once(ddb, table):
    twice = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": kind} for kind in "SN"],
    }
    assert "duplicate attribute definitions: id" in refused(ddb.create_table, TableName=unique("t"), **twice)["Message"]
    index = {"Create": {"IndexName": "byId", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"}}}
    error = refused(ddb.update_table, TableName=table, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
                    GlobalSecondaryIndexUpdates=[index])
    assert "Existing schema: Schema:[SchemaElement: key{id:S:HASH}] New schema: Schema:[SchemaElement: key{id:N:HASH}]" in error["Message"]


def test_statements_tell_policies_what_they_give_back(node, ddb, table):
    ddb.put_item(TableName=table, Item={**key("a"), "secret": {"S": "x"}, "open": {"S": "y"}})
    iam, name = node.client("iam"), unique("user")
    iam.create_user(UserName=name)
    pair = iam.create_access_key(UserName=name)["AccessKey"]
    user = node.client("dynamodb", AccessKeyId=pair["AccessKeyId"], SecretAccessKey=pair["SecretAccessKey"])
    columns = {
        "Effect": "Allow", "Action": "dynamodb:*", "Resource": "*", "Condition": {
            "ForAllValues:StringEquals": {"dynamodb:Attributes": ["id", "open"]},
            "StringEqualsIfExists": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES", "dynamodb:ReturnValues": ["NONE", "UPDATED_OLD", "UPDATED_NEW"]},
        },
    }
    iam.put_user_policy(UserName=name, PolicyName="columns", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": columns}))
    run = lambda statement: user.execute_statement(Statement=statement.replace("@", f'"{table}"'))
    assert run("SELECT open FROM @ WHERE id = 'a'")["Items"] == [{"open": {"S": "y"}}]
    assert run("UPDATE @ SET open = 'z' WHERE id = 'a' RETURNING MODIFIED OLD *")["Items"] == [{"open": {"S": "y"}}]
    for statement in (
        "SELECT * FROM @ WHERE id = 'a'",
        "UPDATE @ SET open = 'z' WHERE id = 'a' RETURNING ALL OLD *",
        "DELETE FROM @ WHERE id = 'a' RETURNING ALL OLD *",
    ):
        with pytest.raises(ClientError) as error:
            run(statement)
        assert error.value.response["Error"]["Code"] == "AccessDeniedException", statement
    with pytest.raises(ClientError) as error:
        ddb.execute_transaction(TransactStatements=[{"Statement": f"UPDATE \"{table}\" SET a = 1 WHERE id = 'a' RETURNING ALL OLD *"}])
    assert "RETURNING" in error.value.response["Error"]["Message"]
