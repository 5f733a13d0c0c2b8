"""What policies may ask about requests to DynamoDB, and about the tables that they are for."""

import json

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, unique

pytestmark = pytest.mark.local


def arn(name):
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"


@pytest.fixture
def table(node):
    name = unique("guarded")
    node.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("p", "s")],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[{
            "IndexName": "by-s", "KeySchema": [{"AttributeName": "s", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"}}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        Tags=[{"Key": "team", "Value": "blue"}],
    )
    return name


@pytest.fixture
def user(node):
    """Makes a user with these statements, and gives its clients."""
    iam = node.client("iam")

    def make(*statements):
        name = unique("user")
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {name: key[name] for name in ("AccessKeyId", "SecretAccessKey")}
        return lambda service: node.client(service, **keys)

    return make


ALL = {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}


def deny(**condition):
    return {"Effect": "Deny", "Action": "dynamodb:*", "Resource": "*", "Condition": condition}


def denied(call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"


def test_the_capacity_that_is_returned(table, user):
    client = user(ALL, deny(StringEquals={"dynamodb:ReturnConsumedCapacity": "TOTAL"}))("dynamodb")
    key, item = {"p": {"S": "a"}}, {"p": {"S": "a"}}
    names = {"#p": "p"}
    query = {"TableName": table, "KeyConditionExpression": "#p = :p", "ExpressionAttributeNames": names,
             "ExpressionAttributeValues": {":p": {"S": "a"}}}
    calls = [
        (client.put_item, {"TableName": table, "Item": item}),
        (client.get_item, {"TableName": table, "Key": key}),
        (client.update_item, {"TableName": table, "Key": key}),
        (client.delete_item, {"TableName": table, "Key": key}),
        (client.query, query),
        (client.scan, {"TableName": table}),
        (client.batch_get_item, {"RequestItems": {table: {"Keys": [key]}}}),
        (client.batch_write_item, {"RequestItems": {table: [{"PutRequest": {"Item": item}}]}}),
        (client.transact_get_items, {"TransactItems": [{"Get": {"TableName": table, "Key": key}}]}),
        (client.transact_write_items, {"TransactItems": [{"Put": {"TableName": table, "Item": item}}]}),
    ]
    for call, parameters in calls:
        call(**parameters)
        call(**parameters, ReturnConsumedCapacity="NONE")
        denied(call, **parameters, ReturnConsumedCapacity="TOTAL")


def test_what_is_returned(table, user):
    allow = {**ALL, "Condition": {"StringEquals": {"dynamodb:ReturnValues": "NONE"}}}
    client = user(allow)("dynamodb")
    key = {"p": {"S": "a"}}
    for call, parameters in [
        (client.put_item, {"Item": key}), (client.delete_item, {"Key": key}), (client.update_item, {"Key": key}),
    ]:
        call(TableName=table, **parameters)
        call(TableName=table, **parameters, ReturnValues="NONE")
        denied(call, TableName=table, **parameters, ReturnValues="ALL_OLD")


def test_the_tags_of_tables(node, table, user):
    root = node.client("dynamodb")
    stream = root.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    clients = user({**ALL, "Condition": {"StringEquals": {"aws:ResourceTag/team": "blue"}}})
    client, streams = clients("dynamodb"), clients("dynamodbstreams")
    query = {"TableName": table, "IndexName": "by-s", "KeyConditionExpression": "s = :s",
             "ExpressionAttributeValues": {":s": {"S": "a"}}}
    calls = [
        (client.get_item, {"TableName": table, "Key": {"p": {"S": "a"}}}),
        (client.put_item, {"TableName": table, "Item": {"p": {"S": "a"}}}),
        (client.query, query),
        (client.scan, {"TableName": table}),
        (client.describe_table, {"TableName": table}),
        (client.describe_time_to_live, {"TableName": table}),
        (client.list_tags_of_resource, {"ResourceArn": arn(table)}),
        (client.execute_statement, {"Statement": f'SELECT * FROM "{table}"'}),
        (streams.describe_stream, {"StreamArn": stream}),
    ]
    for call, parameters in calls:
        call(**parameters)
    root.tag_resource(ResourceArn=arn(table), Tags=[{"Key": "team", "Value": "red"}])
    for call, parameters in calls:
        denied(call, **parameters)
    root.tag_resource(ResourceArn=arn(table), Tags=[{"Key": "team", "Value": "blue"}])
    for call, parameters in calls:
        call(**parameters)
    root.untag_resource(ResourceArn=arn(table), TagKeys=["team"])
    for call, parameters in calls:
        denied(call, **parameters)


def test_the_tags_of_requests(node, user):
    root = node.client("dynamodb")
    allow = {**ALL, "Condition": {
        "StringEquals": {"aws:RequestTag/team": "blue"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "cost"]}}}
    untag = {**ALL, "Action": "dynamodb:UntagResource", "Condition": {
        "ForAllValues:StringEquals": {"aws:TagKeys": ["cost"]}}}
    client = user(allow, untag)("dynamodb")

    def create(**tags):
        name = unique("tagged")
        client.create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "p", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
            **({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} if tags else {}))
        return name

    name = create(team="blue", cost="1")
    for tags in ({}, {"team": "red"}, {"team": "blue", "other": "1"}):
        denied(create, **tags)
    client.tag_resource(ResourceArn=arn(name), Tags=[{"Key": "team", "Value": "blue"}])
    denied(client.tag_resource, ResourceArn=arn(name), Tags=[{"Key": "team", "Value": "red"}])
    denied(client.untag_resource, ResourceArn=arn(name), TagKeys=["cost", "team"])
    client.untag_resource(ResourceArn=arn(name), TagKeys=["cost"])
    assert root.list_tags_of_resource(ResourceArn=arn(name))["Tags"] == [{"Key": "team", "Value": "blue"}]
