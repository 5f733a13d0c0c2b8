"""PartiQL, legacy parameters, throughput, rights on leading keys and attributes, and tables in templates; with boto3."""

import json

import pytest
from botocore.exceptions import ClientError
from conftest import ACCOUNT, REGION, eventually, unique


@pytest.fixture
def ddb(node):
    return node.client("dynamodb")


def attribute(name, kind="S"):
    return {"AttributeName": name, "AttributeType": kind}


def schema(*names):
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"))]


def code(excinfo):
    return excinfo.value.response["Error"]["Code"]


@pytest.fixture
def music(ddb):
    name = unique("music")
    ddb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[attribute("artist"), attribute("song")],
        KeySchema=schema("artist", "song"),
    )
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    for song in range(5):
        ddb.execute_statement(
            Statement=f"INSERT INTO \"{name}\" VALUE {{'artist': ?, 'song': ?, 'plays': {song}, 'tags': <<'a', 'b'>>}}",
            Parameters=[{"S": "Acme"}, {"S": f"song {song}"}],
        )
    yield name
    ddb.delete_table(TableName=name)


def test_statements(ddb, music):
    table = f'"{music}"'
    found = ddb.execute_statement(
        Statement=f"SELECT song, plays FROM {table} WHERE artist = ? AND begins_with(song, 'song') AND plays > 1",
        Parameters=[{"S": "Acme"}], ConsistentRead=True, ReturnConsumedCapacity="TOTAL",
    )
    assert [i["plays"]["N"] for i in found["Items"]] == ["2", "3", "4"]
    assert found["ConsumedCapacity"]["CapacityUnits"] == 1
    pages, token = [], {}
    while True:
        page = ddb.execute_statement(Statement=f"SELECT * FROM {table}", Limit=2, **token)
        pages.append(len(page["Items"]))
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert sum(pages) == 5
    changed = ddb.execute_statement(
        Statement=f"UPDATE {table} SET plays = plays + 10 SET tags = set_delete(tags, <<'a'>>) WHERE artist = 'Acme' AND song = 'song 1' RETURNING ALL NEW *"
    )["Items"][0]
    assert (changed["plays"]["N"], changed["tags"]["SS"]) == ("11", ["b"])
    with pytest.raises(ClientError) as e:
        ddb.execute_statement(Statement=f"INSERT INTO {table} VALUE {{'artist': 'Acme', 'song': 'song 1'}}")
    assert code(e) == "DuplicateItemException"
    answers = ddb.batch_execute_statement(Statements=[
        {"Statement": f"SELECT plays FROM {table} WHERE artist = 'Acme' AND song = ?", "Parameters": [{"S": f"song {n}"}]}
        for n in (1, 9)
    ])["Responses"]
    assert answers[0]["Item"] == {"plays": {"N": "11"}} and "Item" not in answers[1]
    with pytest.raises(ClientError) as e:
        ddb.execute_transaction(TransactStatements=[
            {"Statement": f"DELETE FROM {table} WHERE artist = 'Acme' AND song = 'song 1'"},
            {"Statement": f"EXISTS(SELECT * FROM {table} WHERE artist = 'Acme' AND song = 'song 2' AND plays = 99)"},
        ])
    assert [r["Code"] for r in e.value.response["CancellationReasons"]] == ["None", "ConditionalCheckFailed"]
    ddb.execute_statement(Statement=f"DELETE FROM {table} WHERE artist = 'Acme' AND song = 'song 1'")
    assert ddb.scan(TableName=music)["Count"] == 4


def test_legacy_parameters(ddb, music):
    key = {"artist": {"S": "Acme"}, "song": {"S": "song 1"}}
    updated = ddb.update_item(
        TableName=music, Key=key, ReturnValues="UPDATED_NEW",
        AttributeUpdates={"plays": {"Action": "ADD", "Value": {"N": "5"}}, "mood": {"Value": {"S": "calm"}}},
        Expected={"plays": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "5"}]}},
    )
    assert updated["Attributes"] == {"plays": {"N": "6"}, "mood": {"S": "calm"}}
    with pytest.raises(ClientError) as e:
        ddb.put_item(TableName=music, Item=key, Expected={"artist": {"Exists": False}})
    assert code(e) == "ConditionalCheckFailedException"
    found = ddb.query(
        TableName=music, AttributesToGet=["song"],
        KeyConditions={
            "artist": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "Acme"}]},
            "song": {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [{"S": "song"}]},
        },
        QueryFilter={"plays": {"ComparisonOperator": "GE", "AttributeValueList": [{"N": "4"}]}},
    )
    assert [i["song"]["S"] for i in found["Items"]] == ["song 1", "song 4"]
    assert ddb.get_item(TableName=music, Key=key, AttributesToGet=["mood"])["Item"] == {"mood": {"S": "calm"}}


@pytest.mark.local
def test_throughput_is_a_limit(node, ddb):
    name = unique("slow")
    ddb.create_table(
        TableName=name, AttributeDefinitions=[attribute("id")], KeySchema=schema("id"),
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )
    item = {"id": {"S": "a"}, "pad": {"S": "x" * 390_000}}
    ddb.put_item(TableName=name, Item=item)
    with pytest.raises(ClientError) as e:
        ddb.put_item(TableName=name, Item=item)
    assert code(e) == "ProvisionedThroughputExceededException"
    ddb.update_table(TableName=name, BillingMode="PAY_PER_REQUEST")
    ddb.put_item(TableName=name, Item=item)
    ddb.delete_table(TableName=name)


@pytest.mark.local
def test_deep_documents_and_expressions_end_with_an_answer(ddb, music):
    key = {"artist": {"S": "Acme"}, "song": {"S": "deep"}}
    value = {"N": "1"}
    for _ in range(60):
        value = {"L": [value]}
    requests = [
        lambda: ddb.put_item(TableName=music, Item={**key, "v": value}),
        lambda: ddb.update_item(TableName=music, Key=key, UpdateExpression="SET v = " + "(" * 2000 + "a" + ")" * 2000),
        lambda: ddb.scan(TableName=music, FilterExpression="(" * 2000 + "a = b" + ")" * 2000),
        lambda: ddb.scan(TableName=music, FilterExpression="NOT " * 1000 + "a = b"),
        lambda: ddb.execute_statement(Statement=f'SELECT * FROM "{music}" WHERE ' + "(" * 3000 + "a = 1" + ")" * 3000),
        lambda: ddb.execute_statement(Statement=f"INSERT INTO \"{music}\" VALUE {{'a': " + "[" * 3000 + "]" * 3000 + "}"),
    ]
    for request in requests:
        with pytest.raises(ClientError) as e:
            request()
        assert code(e) == "ValidationException"
    # Growing an item step by step past the limit is refused, too.
    ddb.put_item(TableName=music, Item={**key, "v": {"L": []}})
    with pytest.raises(ClientError) as e:
        for _ in range(40):
            ddb.update_item(TableName=music, Key=key, UpdateExpression="SET v = list_append(:e, v), w = v, v[0] = w",
                            ExpressionAttributeValues={":e": {"L": []}})
            ddb.update_item(TableName=music, Key=key, UpdateExpression="SET v[0] = v")
    assert code(e) == "ValidationException"
    assert ddb.describe_table(TableName=music)["Table"]["TableStatus"] == "ACTIVE"


@pytest.mark.local
def test_rights_by_leading_key_attribute_and_index(node, ddb, music):
    iam = node.client("iam")
    user = unique("user")
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{music}"
    ddb.update_table(
        TableName=music, AttributeDefinitions=[attribute("song")],
        GlobalSecondaryIndexUpdates=[{"Create": {
            "IndexName": "by-song", "KeySchema": schema("song"), "Projection": {"ProjectionType": "ALL"}}}],
    )
    eventually(lambda: ddb.describe_table(TableName=music)["Table"]["GlobalSecondaryIndexes"][0]["IndexStatus"] == "ACTIVE")
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=json.dumps({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:PartiQLSelect"],
            "Resource": [arn],
            "Condition": {
                "ForAllValues:StringEquals": {
                    "dynamodb:LeadingKeys": [user], "dynamodb:Attributes": ["artist", "song", "plays"],
                },
                "Null": {"dynamodb:LeadingKeys": "false"},
                "StringEqualsIfExists": {"dynamodb:ReturnValues": ["NONE", "UPDATED_OLD", "UPDATED_NEW"]},
            },
        }],
    }))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    theirs = node.client("dynamodb", AccessKeyId=key["AccessKeyId"], SecretAccessKey=key["SecretAccessKey"])
    own = {"artist": {"S": user}, "song": {"S": "mine"}}
    ddb.put_item(TableName=music, Item={**own, "plays": {"N": "1"}, "secret": {"S": "s"}})
    names = {"ProjectionExpression": "plays"}
    assert theirs.get_item(TableName=music, Key=own, **names)["Item"] == {"plays": {"N": "1"}}
    values = {":u": {"S": user}}
    assert theirs.query(TableName=music, KeyConditionExpression="artist = :u", ExpressionAttributeValues=values, **names)["Count"] == 1
    theirs.update_item(TableName=music, Key=own, UpdateExpression="ADD plays :n", ExpressionAttributeValues={":n": {"N": "1"}})
    statement = f'SELECT plays FROM "{music}" WHERE artist = ?'
    assert theirs.execute_statement(Statement=statement, Parameters=[{"S": user}])["Items"] == [{"plays": {"N": "2"}}]
    denied = [
        lambda: theirs.get_item(TableName=music, Key={"artist": {"S": "Acme"}, "song": {"S": "song 1"}}, **names),
        lambda: theirs.get_item(TableName=music, Key=own, ProjectionExpression="secret"),
        lambda: theirs.query(TableName=music, KeyConditionExpression="artist = :u", ExpressionAttributeValues={":u": {"S": "Acme"}}, **names),
        lambda: theirs.query(TableName=music, KeyConditionExpression="artist = :u", FilterExpression="begins_with(secret, :u)",
                             ExpressionAttributeValues=values, **names),
        lambda: theirs.query(TableName=music, IndexName="by-song", KeyConditionExpression="song = :u", ExpressionAttributeValues=values, **names),
        lambda: theirs.update_item(TableName=music, Key=own, UpdateExpression="SET plays = secret"),
        lambda: theirs.update_item(TableName=music, Key=own, UpdateExpression="ADD plays :n", ReturnValues="ALL_NEW",
                                   ExpressionAttributeValues={":n": {"N": "1"}}),
        lambda: theirs.scan(TableName=music),
        lambda: theirs.execute_statement(Statement=f'SELECT plays FROM "{music}"'),
        lambda: theirs.execute_statement(Statement=statement, Parameters=[{"S": "Acme"}]),
    ]
    for request in denied:
        with pytest.raises(ClientError) as e:
            request()
        assert code(e) == "AccessDeniedException"


@pytest.mark.local
def test_tables_in_templates(node, ddb):
    cloudformation, streams = node.client("cloudformation"), node.client("dynamodbstreams")
    stack = unique("tables")

    def template(indexes, view, ttl):
        properties = {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [attribute("id"), attribute("at", "N"), *[attribute(i) for i in indexes]],
            "KeySchema": schema("id", "at"),
            "GlobalSecondaryIndexes": [
                {"IndexName": f"by-{i}", "KeySchema": schema(i, "at"), "Projection": {"ProjectionType": "ALL"}} for i in indexes
            ],
            "StreamSpecification": {"StreamViewType": view},
            "TimeToLiveSpecification": {"AttributeName": ttl, "Enabled": True},
            "Tags": [{"Key": "team", "Value": "shop"}],
        }
        if not indexes:
            del properties["GlobalSecondaryIndexes"]
        return json.dumps({
            "Resources": {"Orders": {"Type": "AWS::DynamoDB::Table", "Properties": properties}},
            "Outputs": {
                "Name": {"Value": {"Ref": "Orders"}}, "Stream": {"Value": {"Fn::GetAtt": ["Orders", "StreamArn"]}},
            },
        })

    def outputs():
        stacks = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return {o["OutputKey"]: o["OutputValue"] for o in stacks[0]["Outputs"]}

    cloudformation.create_stack(StackName=stack, TemplateBody=template(["state"], "NEW_IMAGE", "ends"))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    name, stream = outputs()["Name"], outputs()["Stream"]
    ddb.put_item(TableName=name, Item={"id": {"S": "a"}, "at": {"N": "1"}, "state": {"S": "open"}, "kind": {"S": "k"}})
    assert ddb.scan(TableName=name, IndexName="by-state")["Count"] == 1
    described = streams.describe_stream(StreamArn=stream)["StreamDescription"]
    assert described["StreamViewType"] == "NEW_IMAGE"
    assert described["StreamArn"] == ddb.describe_table(TableName=name)["Table"]["LatestStreamArn"]
    assert ddb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["AttributeName"] == "ends"

    cloudformation.update_stack(StackName=stack, TemplateBody=template(["kind"], "KEYS_ONLY", "until"))
    cloudformation.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    assert outputs()["Name"] == name
    table = ddb.describe_table(TableName=name)["Table"]
    assert [i["IndexName"] for i in table["GlobalSecondaryIndexes"]] == ["by-kind"]
    assert ddb.scan(TableName=name, IndexName="by-kind")["Count"] == 1
    assert outputs()["Stream"] != stream
    assert streams.describe_stream(StreamArn=outputs()["Stream"])["StreamDescription"]["StreamViewType"] == "KEYS_ONLY"
    assert ddb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["AttributeName"] == "until"
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


@pytest.mark.local
def test_backups_and_recovery(ddb, music):
    made = ddb.create_backup(TableName=music, BackupName="nightly")["BackupDetails"]
    ddb.update_continuous_backups(TableName=music, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    ddb.put_item(TableName=music, Item={"artist": {"S": "Acme"}, "song": {"S": "song 0"}, "plays": {"N": "100"}})
    recovery = ddb.describe_continuous_backups(TableName=music)["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    assert made["BackupArn"] in [b["BackupArn"] for b in ddb.list_backups(TableName=music)["BackupSummaries"]]
    ddb.restore_table_from_backup(TargetTableName=f"{music}-old", BackupArn=made["BackupArn"])
    ddb.restore_table_to_point_in_time(SourceTableName=music, TargetTableName=f"{music}-now", UseLatestRestorableTime=True)
    key = {"artist": {"S": "Acme"}, "song": {"S": "song 0"}}
    for suffix, plays in (("old", "0"), ("now", "100")):
        name = f"{music}-{suffix}"
        ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        assert ddb.scan(TableName=name)["Count"] == 5
        assert ddb.get_item(TableName=name, Key=key)["Item"]["plays"]["N"] == plays
        ddb.delete_table(TableName=name)
    ddb.delete_backup(BackupArn=made["BackupArn"])
    with pytest.raises(ClientError) as e:
        ddb.describe_backup(BackupArn=made["BackupArn"])
    assert code(e) == "BackupNotFoundException"


@pytest.mark.local
def test_a_table_is_restored_with_some_of_its_indexes(ddb):
    name = unique("indexed")

    def index(name, *keys):
        return {"IndexName": name, "KeySchema": schema(*keys), "Projection": {"ProjectionType": "ALL"}}

    ddb.create_table(
        TableName=name, KeySchema=schema("id"), BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[attribute("id"), attribute("a"), attribute("b")],
        GlobalSecondaryIndexes=[index("by-a", "a"), index("by-b", "b", "a")])
    ddb.put_item(TableName=name, Item={n: {"S": n} for n in ("id", "a", "b")})
    backup = ddb.create_backup(TableName=name, BackupName="whole")["BackupDetails"]["BackupArn"]
    for target, override, indexes in (("one", [index("by-a", "a")], ["by-a"]), ("none", [], []), ("all", None, ["by-a", "by-b"])):
        more = {} if override is None else {"GlobalSecondaryIndexOverride": override}
        ddb.restore_table_from_backup(TargetTableName=f"{name}-{target}", BackupArn=backup, **more)
        ddb.get_waiter("table_exists").wait(TableName=f"{name}-{target}", WaiterConfig={"Delay": 1})
        table = ddb.describe_table(TableName=f"{name}-{target}")["Table"]
        assert sorted(i["IndexName"] for i in table.get("GlobalSecondaryIndexes", [])) == indexes
        for found in indexes:
            assert ddb.scan(TableName=f"{name}-{target}", IndexName=found)["Count"] == 1
    with pytest.raises(ClientError) as e:
        ddb.restore_table_from_backup(
            TargetTableName=f"{name}-wrong", BackupArn=backup, GlobalSecondaryIndexOverride=[index("by-a", "b")])
    assert code(e) == "ValidationException"
