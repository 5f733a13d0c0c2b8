"""docs/compat says of every operation whether it is supported, and a node does what it says."""

import re

import pytest

import operations
from conftest import ROOT

pytestmark = pytest.mark.local

SERVICES = ["cloudformation", "dynamodb", "dynamodbstreams", "iam", "kms", "lambda", "logs", "s3", "sqs", "sts"]

# How a service says that an operation is not there: code and status.
REFUSALS = {
    "cloudformation": ("InvalidAction", 400),
    "dynamodb": ("UnknownOperationException", 400),
    "dynamodbstreams": ("UnknownOperationException", 400),
    "iam": ("InvalidAction", 400),
    "kms": ("UnknownOperationException", 400),
    "lambda": ("UnknownOperationException", 404),
    "logs": ("UnknownOperationException", 400),
    "s3": ("NotImplemented", 501),
    "sqs": ("UnknownOperationException", 400),
    "sts": ("InvalidAction", 400),
}
# Operations that clients sign for another service than the rest.
SIGNED_FOR = {"ListDirectoryBuckets": "s3express", "WriteGetObjectResponse": "s3-object-lambda"}


def table(service):
    """The rows of a page's table of operations: name and what is said of it."""
    text = (ROOT / f"docs/compat/{service}.md").read_text()
    _, _, rest = text.partition("| operation | supported |\n|---|---|\n")
    rows, _, _ = rest.partition("\n\n")
    found = [re.fullmatch(r"\| (\w+) \| (.+) \|", row) for row in rows.splitlines()]
    assert all(found), f"a row of {service}.md is not `| operation | supported |`"
    return [row.groups() for row in found]


def support(said):
    word, _, rest = said.partition(":")
    assert word in ("yes", "partly", "no"), said
    assert (word == "yes") == (not rest.strip()), f"`{said}`: what is missing, or why not?"
    return word


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_listed_once(service):
    listed = [name for name, said in table(service) if support(said)]
    assert listed == sorted(operations.model(service).operation_names)


@pytest.mark.parametrize("service", SERVICES)
def test_the_node_does_what_the_table_says(node, service):
    model = operations.model(service)
    wrong = []
    for name, said in table(service):
        answer = operations.call(node, model, name, signed_for=SIGNED_FOR.get(name))
        problem = check(service, name, support(said), answer)
        if problem:
            wrong.append(f"{name} ({answer.request}), `{said}`: {problem}: {answer.status} {answer.body[:300]}")
    assert not wrong, "\n".join(wrong)


def check(service, name, supported, answer):
    """What is wrong with the answer, if anything."""
    if supported != "no":
        if answer.status >= 500:
            return "a fault of the server"
        if answer.code in ("UnknownOperationException", "InvalidAction", "NotImplemented"):
            return "it is not there"
        return None
    if name in SIGNED_FOR:
        code, status, named = "NotImplemented", 501, SIGNED_FOR[name]
    else:
        code, status = REFUSALS[service]
        named = what_is_named(service, name, answer)
    if (answer.code, answer.status) != (code, status):
        return f"the refusal should be {code} ({status})"
    if not named or named not in answer.body:
        return f"the refusal does not name `{named}`"
    return None


def what_is_named(service, name, answer):
    """What tells a person which operation was refused: its name, or what stands for it in a REST request."""
    if service == "lambda":
        return answer.request.partition("?")[0]
    if service == "s3":
        return answer.request.partition("?")[2].partition("&")[0].partition("=")[0]
    return name
