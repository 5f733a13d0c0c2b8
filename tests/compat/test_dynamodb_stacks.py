"""Tables of templates: which changes are made, which replace the table, and which are refused and leave it as it was."""

import copy
import json

import pytest
from botocore.exceptions import ClientError
from conftest import eventually, unique

pytestmark = pytest.mark.local


class Stack:
    """A stack with one table."""

    def __init__(self, node, **properties):
        self.cloudformation, self.tables, self.name = node.client("cloudformation"), node.client("dynamodb"), unique("stack")
        self.properties = {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("p", "s")],
            "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [index("by-s", "s", "note", "more")],
            **properties,
        }
        self.cloudformation.create_stack(StackName=self.name, TemplateBody=self.template(self.properties))
        assert self.settled() == "CREATE_COMPLETE"

    def template(self, properties, kind="AWS::DynamoDB::Table"):
        return json.dumps({"Resources": {"Table": {"Type": kind, "Properties": properties}}})

    def settled(self):
        def look():
            status = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]
            return None if status.endswith("IN_PROGRESS") else status

        return eventually(look)

    def update(self, change):
        """The status that the stack ends in when its table is changed so."""
        properties = copy.deepcopy(self.properties)
        change(properties)
        self.cloudformation.update_stack(StackName=self.name, TemplateBody=self.template(properties))
        status = self.settled()
        if status == "UPDATE_COMPLETE":
            self.properties = properties
        return status

    def table(self):
        resource = self.cloudformation.describe_stack_resource(StackName=self.name, LogicalResourceId="Table")
        name = resource["StackResourceDetail"]["PhysicalResourceId"]
        return self.tables.describe_table(TableName=name)["Table"]

    def reasons(self):
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in events)


def index(name, key, *projected):
    projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(projected)}
    return {"IndexName": name, "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}], "Projection": projection}


def retyped(properties, name="s"):
    for definition in properties["AttributeDefinitions"]:
        if definition["AttributeName"] == name:
            definition["AttributeType"] = "N"


def test_an_index_keeps_its_keys_under_its_name(node):
    stack = Stack(node)
    before = stack.table()
    for _ in range(2):
        status = stack.update(lambda p: p["GlobalSecondaryIndexes"][0]["KeySchema"].__setitem__(
            0, {"AttributeName": "p", "KeyType": "HASH"}))
        assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Cannot update GSI's properties other than Provisioned Throughput" in stack.reasons()
    assert stack.table()["TableId"] == before["TableId"]
    assert stack.table()["GlobalSecondaryIndexes"] == before["GlobalSecondaryIndexes"]
    # It can still be changed.
    assert stack.update(lambda p: p.update(DeletionProtectionEnabled=False)) == "UPDATE_COMPLETE"


def test_the_order_of_projected_attributes_is_of_no_account(node):
    local = {**index("local", "p", "note", "more")}
    local["KeySchema"].append({"AttributeName": "s", "KeyType": "RANGE"})
    keys = [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "q", "KeyType": "RANGE"}]
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in ("p", "q", "s")]
    stack = Stack(node, KeySchema=keys, AttributeDefinitions=attributes, LocalSecondaryIndexes=[local])
    before = stack.table()

    def reverse(properties):
        for indexes in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
            properties[indexes][0]["Projection"]["NonKeyAttributes"].reverse()
        properties["AttributeDefinitions"].reverse()

    assert stack.update(reverse) == "UPDATE_COMPLETE"
    assert stack.table()["TableId"] == before["TableId"]


@pytest.mark.parametrize("attribute", ["p", "s"])
def test_an_attribute_of_another_type_replaces_the_table(node, attribute):
    stack = Stack(node)
    before = stack.table()
    assert stack.update(lambda p: retyped(p, attribute)) == "UPDATE_COMPLETE"
    after = stack.table()
    assert after["TableName"] != before["TableName"]
    types = {d["AttributeName"]: d["AttributeType"] for d in after["AttributeDefinitions"]}
    assert types == {"p": "S", "s": "S", attribute: "N"}
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        stack.tables.describe_table(TableName=before["TableName"])


def test_an_index_of_another_name_and_type_replaces_the_table(node):
    stack = Stack(node)
    before = stack.table()

    def change(properties):
        retyped(properties)
        properties["GlobalSecondaryIndexes"][0]["IndexName"] = "by-number"

    assert stack.update(change) == "UPDATE_COMPLETE"
    assert stack.table()["TableId"] != before["TableId"]
    assert [i["IndexName"] for i in stack.table()["GlobalSecondaryIndexes"]] == ["by-number"]


def test_a_table_with_a_name_of_its_own_is_not_replaced(node):
    stack = Stack(node, TableName=unique("own"))
    with pytest.raises(ClientError, match="cannot update a stack when a custom-named resource requires replacing"):
        stack.update(retyped)
    assert stack.settled() == "CREATE_COMPLETE"


def test_what_tables_do_not_have_may_be_off(node):
    off = {"ContributorInsightsSpecification": {"Enabled": False}}
    stack = Stack(node, **off, SSESpecification={"SSEEnabled": False},
                  GlobalSecondaryIndexes=[{**index("by-s", "s", "note"), **off}])
    assert stack.update(lambda p: p.pop("SSESpecification")) == "UPDATE_COMPLETE"
    for on, said in [
        ({"SSESpecification": {"SSEEnabled": True}}, "encryption with a key"),
        ({"ContributorInsightsSpecification": {"Enabled": True}}, "contributor insights"),
    ]:
        with pytest.raises(ClientError, match=said):
            stack.update(lambda p, on=on: p.update(on))
    simple = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"T": {
        "Type": "AWS::Serverless::SimpleTable", "Properties": {"SSESpecification": {"SSEEnabled": True}}}}}
    with pytest.raises(ClientError, match="encryption with a key"):
        stack.cloudformation.create_stack(
            StackName=unique("simple"), TemplateBody=json.dumps(simple), Capabilities=["CAPABILITY_AUTO_EXPAND"])
