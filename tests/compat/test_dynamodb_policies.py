"""Policies that hang on tables and streams: their revisions, and whom they let in."""

import json

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, eventually, unique

pytestmark = pytest.mark.local
KEY = {"p": {"S": "a"}}


def arn(name):
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"


def policy(principal, *actions, effect="Allow", resource="*"):
    statement = {"Effect": effect, "Principal": {"AWS": principal}, "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make(client, **more):
    name = unique("shared")
    client.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("p", "s")],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[{
            "IndexName": "by-s", "KeySchema": [{"AttributeName": "s", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"}}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}, **more)
    return name


def refusal(call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]


def denied(call, **parameters):
    assert refusal(call, **parameters)["Code"] == "AccessDeniedException"


@pytest.fixture
def client(node):
    return node.client("dynamodb")


@pytest.fixture
def user(node):
    """A user without rights of its own: its ARN, and its client."""
    iam, name = node.client("iam"), unique("user")
    made = iam.create_user(UserName=name)["User"]
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return made["Arn"], node.client("dynamodb", **{k: key[k] for k in ("AccessKeyId", "SecretAccessKey")})


@pytest.fixture(scope="module")
def stranger(node):
    """Another account: its id, and clients of its root."""
    made = json.loads(node.hawker("account", "create", "--json").stdout)
    keys = {"AccessKeyId": made["accessKeyId"], "SecretAccessKey": made["secretAccessKey"]}
    return made["accountId"], lambda service: node.client(service, **keys)


def test_policies_have_revisions(client):
    name = make(client)
    table = {"ResourceArn": arn(name)}
    missing = "Resource-based policy not found for the provided ResourceArn: "
    none = refusal(client.get_resource_policy, **table)
    assert (none["Code"], none["Message"]) == ("PolicyNotFoundException", missing + arn(name))
    assert "RevisionId" not in client.delete_resource_policy(**table)
    assert refusal(client.delete_resource_policy, **table, ExpectedRevisionId="1")["Code"] == "PolicyNotFoundException"
    first, second = policy(ACCOUNT, "dynamodb:*"), policy(ACCOUNT, "dynamodb:GetItem")
    one = client.put_resource_policy(**table, Policy=first, ExpectedRevisionId="NO_POLICY")["RevisionId"]
    assert client.put_resource_policy(**table, Policy=first)["RevisionId"] == one
    found = client.get_resource_policy(**table)
    assert (found["Policy"], found["RevisionId"]) == (first, one)
    there = refusal(client.put_resource_policy, **table, Policy=second, ExpectedRevisionId="NO_POLICY")
    assert there["Message"].endswith(
        f"Requested policy update expecting none to be present for table {name}, but a policy exists with revision id {one}.")
    two = client.put_resource_policy(**table, Policy=second, ExpectedRevisionId=one)["RevisionId"]
    assert two > one
    for call in (client.delete_resource_policy, lambda **p: client.put_resource_policy(Policy=first, **p)):
        other = refusal(call, **table, ExpectedRevisionId=one)
        assert other["Code"] == "PolicyNotFoundException"
        assert f"with revision id {one}, but the policy associated to target table {name} has revision id {two}." in other["Message"]
    assert client.delete_resource_policy(**table, ExpectedRevisionId=two)["RevisionId"] == two
    assert refusal(client.get_resource_policy, **table)["Code"] == "PolicyNotFoundException"
    absent = {"ResourceArn": arn(name) + "_"}
    for call in (client.get_resource_policy, client.delete_resource_policy, lambda **p: client.put_resource_policy(Policy=first, **p)):
        error = refusal(call, **absent)
        assert (error["Code"], error["Message"]) == (
            "ResourceNotFoundException", f"Requested resource not found: Table: {name}_ not found")


def test_policies_are_checked(client):
    table = {"ResourceArn": arn(make(client))}
    for text in ("", "no JSON", "{}", policy(ACCOUNT, "dynamodb:*") + " " * 20_480):
        assert refusal(client.put_resource_policy, **table, Policy=text)["Code"] == "ValidationException", text[:80]
    # To the byte, white space included.
    text = policy(ACCOUNT, "dynamodb:*")
    client.put_resource_policy(**table, Policy=text + " " * (20_480 - len(text)))
    assert refusal(client.put_resource_policy, ResourceArn="table", Policy=text)["Code"] == "ValidationException"
    with pytest.raises(ClientError, match="ValidationException"):
        make(client, ResourcePolicy="{}")


def test_a_policy_lets_in_and_keeps_out(client, user):
    who, their = user
    name = make(client, ResourcePolicy=policy(who, "dynamodb:GetItem", "dynamodb:Query"))
    query = {"TableName": name, "IndexName": "by-s", "KeyConditionExpression": "s = :s",
             "ExpressionAttributeValues": {":s": {"S": "x"}}}
    their.get_item(TableName=name, Key=KEY)
    their.query(**query)
    denied(their.put_item, TableName=name, Item=KEY)
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(who, "dynamodb:*", effect="Deny"))
    denied(their.get_item, TableName=name, Key=KEY)
    # Only what the policy names, which may be the index alone.
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(who, "dynamodb:Query", resource=arn(name) + "/index/*"))
    their.query(**query)
    denied(their.get_item, TableName=name, Key=KEY)
    client.delete_resource_policy(ResourceArn=arn(name))
    denied(their.query, **query)
    client.delete_table(TableName=name)


def test_nobody_locks_themselves_out_by_mistake(node, client, user):
    who, their = user
    name = make(client)
    allowed = {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}
    node.client("iam").put_user_policy(
        UserName=who.rsplit("/", 1)[1], PolicyName="p",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    harsh = policy(who, "dynamodb:PutResourcePolicy", effect="Deny")
    error = refusal(their.put_resource_policy, ResourceArn=arn(name), Policy=harsh)
    assert error["Code"] == "ValidationException" and "ConfirmRemoveSelfResourceAccess" in error["Message"]
    their.put_resource_policy(ResourceArn=arn(name), Policy=harsh, ConfirmRemoveSelfResourceAccess=True)
    denied(their.put_resource_policy, ResourceArn=arn(name), Policy=harsh)
    # The root of the account can delete it whatever it says.
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(ACCOUNT, "dynamodb:*", effect="Deny"))
    denied(client.get_item, TableName=name, Key=KEY)
    client.delete_resource_policy(ResourceArn=arn(name))
    client.get_item(TableName=name, Key=KEY)


def test_another_account_uses_a_table_by_its_arn(client, stranger):
    account, clients = stranger
    their = clients("dynamodb")
    name = make(client)
    table = {"TableName": arn(name)}
    client.put_item(TableName=name, Item=KEY)
    calls = [
        (their.get_item, {**table, "Key": KEY}),
        (their.put_item, {**table, "Item": {"p": {"S": "b"}}}),
        (their.query, {**table, "KeyConditionExpression": "p = :p", "ExpressionAttributeValues": {":p": {"S": "a"}}}),
        (their.scan, {**table, "IndexName": "by-s"}),
        (their.batch_get_item, {"RequestItems": {arn(name): {"Keys": [KEY]}}}),
        (their.batch_write_item, {"RequestItems": {arn(name): [{"PutRequest": {"Item": KEY}}]}}),
        (their.transact_write_items, {"TransactItems": [{"Put": {**table, "Item": KEY}}]}),
        (their.describe_table, table),
        (their.list_tags_of_resource, {"ResourceArn": arn(name)}),
    ]
    for call, parameters in calls:
        denied(call, **parameters)
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(account, "dynamodb:*"))
    for call, parameters in calls:
        call(**parameters)
    assert their.describe_table(**table)["Table"]["TableArn"] == arn(name)
    assert client.get_item(TableName=name, Key={"p": {"S": "b"}})["Item"] == {"p": {"S": "b"}}
    # By its name alone a table is one's own, and one account's tables go in one request.
    own = make(their)
    mixed = {arn(name): {"Keys": [KEY]}, own: {"Keys": [KEY]}}
    denied(their.batch_get_item, RequestItems=mixed)
    assert refusal(their.get_item, TableName=name, Key=KEY)["Code"] == "ResourceNotFoundException"
    denied(their.execute_statement, Statement=f'SELECT * FROM "{arn(name)}"')
    # What is not there can not be told from what is closed.
    denied(their.get_item, TableName=arn(name) + "x", Key=KEY)
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(account, "dynamodb:GetItem"))
    their.get_item(**table, Key=KEY)
    denied(their.put_item, **table, Item=KEY)


def test_streams_have_policies_of_their_own(node, client, stranger):
    account, clients = stranger
    their, name = clients("dynamodbstreams"), make(client)
    stream = client.describe_table(TableName=name)["Table"]["LatestStreamArn"]
    client.put_resource_policy(ResourceArn=arn(name), Policy=policy(account, "dynamodb:*"))
    denied(their.describe_stream, StreamArn=stream)
    client.put_resource_policy(ResourceArn=stream, Policy=policy(account, "dynamodb:DescribeStream", "dynamodb:Get*"))
    assert client.get_resource_policy(ResourceArn=stream)["RevisionId"]
    client.put_item(TableName=name, Item=KEY)
    shard = their.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = their.get_shard_iterator(StreamArn=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    assert [r["eventName"] for r in their.get_records(ShardIterator=iterator)["Records"]] == ["INSERT"]
    client.delete_resource_policy(ResourceArn=stream)
    denied(their.get_records, ShardIterator=iterator)


def test_templates_give_tables_policies(node, client, user):
    who, their = user
    cloudformation, stack = node.client("cloudformation"), unique("stack")
    name = unique("templated")
    properties = {
        "TableName": name, "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "p", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}],
        "ResourcePolicy": {"PolicyDocument": json.loads(policy(who, "dynamodb:GetItem"))},
    }

    def deploy(operation):
        body = json.dumps({"Resources": {"Table": {"Type": "AWS::DynamoDB::Table", "Properties": properties}}})
        operation(StackName=stack, TemplateBody=body)

        def settled():
            status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
            return None if status.endswith("IN_PROGRESS") else status

        return eventually(settled)

    assert deploy(cloudformation.create_stack) == "CREATE_COMPLETE"
    their.get_item(TableName=name, Key=KEY)
    properties["ResourcePolicy"]["PolicyDocument"] = json.loads(policy(who, "dynamodb:PutItem"))
    assert deploy(cloudformation.update_stack) == "UPDATE_COMPLETE"
    their.put_item(TableName=name, Item=KEY)
    denied(their.get_item, TableName=name, Key=KEY)
    del properties["ResourcePolicy"]
    assert deploy(cloudformation.update_stack) == "UPDATE_COMPLETE"
    denied(their.put_item, TableName=name, Item=KEY)
