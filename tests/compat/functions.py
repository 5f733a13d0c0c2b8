"""Deploying small functions from text, for the tests."""

import contextlib
import io
import json
import zipfile

from conftest import PYTHON_RUNTIME, eventually, unique

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


def package(files):
    """A zip of `files`: path -> text or bytes; a tuple adds the file's mode."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            info = zipfile.ZipInfo(path)
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, content)
    return out.getvalue()


@contextlib.contextmanager
def role(node, *statements):
    iam = node.client("iam")
    name = unique("role")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=BASIC)
    if statements:
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_role_policy(RoleName=name, PolicyName="rights", PolicyDocument=json.dumps(document))
    try:
        yield arn
    finally:
        if statements:
            iam.delete_role_policy(RoleName=name, PolicyName="rights")
        iam.detach_role_policy(RoleName=name, PolicyArn=BASIC)
        iam.delete_role(RoleName=name)


class Function:
    def __init__(self, node, name):
        self.node = node
        self.name = name
        self.client = node.client("lambda")
        self.group = f"/aws/lambda/{name}"

    def invoke(self, payload=None, **options):
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(payload), **options)
        body = answer["Payload"].read()
        return answer, json.loads(body) if body else None

    def result(self, payload=None):
        answer, result = self.invoke(payload)
        assert "FunctionError" not in answer, result
        return result

    def log(self, until, pattern=""):
        """The function's log messages, as soon as `until` is among them."""
        logs = self.node.client("logs")

        def look():
            try:
                pages = logs.get_paginator("filter_log_events").paginate(logGroupName=self.group, filterPattern=pattern)
                messages = [e["message"] for page in pages for e in page["events"]]
            except logs.exceptions.ResourceNotFoundException:
                return None
            return messages if any(until in m for m in messages) else None

        return eventually(look)


    def lines(self):
        """The function's log messages as they are now."""
        logs = self.node.client("logs")
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=self.group)
            return [e["message"] for page in pages for e in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


@contextlib.contextmanager
def function(node, files, *statements, runtime=PYTHON_RUNTIME, handler="app.handler", **options):
    if isinstance(files, str):
        files = {"app.py": files}
    client = node.client("lambda")
    name = unique("fn")
    with role(node, *statements) as arn:
        client.create_function(
            FunctionName=name, Runtime=runtime, Role=arn, Handler=handler, Code={"ZipFile": package(files)}, **options
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        try:
            yield Function(node, name)
        finally:
            client.delete_function(FunctionName=name)
