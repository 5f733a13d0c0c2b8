"""What Lambda refuses, with boto3: the codes and the words of AWS."""

import base64
import io
import json
import zipfile

import pytest
import requests
from botocore.exceptions import ClientError
from functions import function


def refusal(call, **input):
    with pytest.raises(ClientError) as e:
        call(**input)
    error = e.value.response["Error"]
    return error["Code"], error["Message"]


def test_concurrency(node):
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        client.publish_version(FunctionName=f.name)
        client.create_alias(FunctionName=f.name, Name="latest", FunctionVersion="$LATEST")
        code, message = refusal(
            client.put_function_concurrency, FunctionName=f"{f.name}:1", ReservedConcurrentExecutions=1
        )
        assert code == "InvalidParameterValueException" and "permitted on Lambda functions only" in message
        assert refusal(
            client.put_provisioned_concurrency_config,
            FunctionName=f.name, Qualifier="latest", ProvisionedConcurrentExecutions=1,
        ) == (
            "InvalidParameterValueException",
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )


def test_event_configurations_and_permissions(node):
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        arn = client.get_function_configuration(FunctionName=f.name)["FunctionArn"]
        put = client.put_function_event_invoke_config
        code, message = refusal(put, FunctionName=f.name)
        assert code == "InvalidParameterValueException"
        assert message == "You must specify at least one of error handling or destination setting."
        for target, words in [
            (arn, "You can't specify the function as a destination for itself."),
            (f"{arn}-none", f"The destination ARN {arn}-none is invalid."),
        ]:
            destination = {"OnFailure": {"Destination": target}}
            assert refusal(put, FunctionName=f.name, DestinationConfig=destination) == (
                "InvalidParameterValueException", words,
            )
        allow = {"FunctionName": f.name, "StatementId": "s", "Action": "lambda:InvokeFunction"}
        assert refusal(client.add_permission, **allow, Principal="nobody") == (
            "InvalidParameterValueException",
            "The provided principal was invalid. Please check the principal and try again.",
        )
        code, message = refusal(client.add_permission, **allow, Principal="s3.amazonaws.com", SourceArn="photos")
        assert code == "ValidationException" and "'photos' at 'sourceArn'" in message


def test_names_and_sets(node):
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        code, message = refusal(
            client.create_function_url_config, FunctionName=f.name, Qualifier="$LATEST", AuthType="NONE"
        )
        assert code == "ValidationException" and "'$LATEST' at 'qualifier'" in message
        assert refusal(client.get_function, FunctionName=f.name, Qualifier="a.b")[0] == "ValidationException"
        assert refusal(client.list_functions, FunctionVersion="1")[0] == "ValidationException"
        assert refusal(client.list_layers, MaxItems=51)[0] == "ValidationException"


def test_requests_without_a_signature(node):
    for method, path in [
        ("GET", "/2015-03-31/functions"),
        ("GET", "/2015-03-31/functions/"),
        ("POST", "/2015-03-31/functions/f/invocations"),
        ("PUT", "/2017-10-31/functions/f/concurrency"),
        ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=a"),
        ("DELETE", "/2020-04-22/code-signing-configs/c"),
    ]:
        answer = requests.request(method, node.endpoint + path, data=b"{}", timeout=30)
        assert answer.status_code == 403, path
        assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
        assert answer.json() == {"message": "Missing Authentication Token"}
    other = {"Authorization": "Bearer token"}
    answer = requests.get(node.endpoint + "/2015-03-31/functions", headers=other, timeout=30)
    assert answer.headers["x-amzn-errortype"] == "IncompleteSignatureException" and "'Bearer'" in answer.json()["message"]
    # A bucket may be called so, and is nobody else's then.
    s3 = node.client("s3")
    s3.create_bucket(Bucket="2015-03-31")
    try:
        for path in ["/2015-03-31/functions", "/2015-03-31/other", "/2014-03-31/functions"]:
            answer = requests.get(node.endpoint + path, timeout=30)
            assert answer.headers["content-type"] == "application/xml" and "<Code>" in answer.text
        assert requests.get(node.endpoint + "/2017-03-31/tags/t", timeout=30).json()
    finally:
        s3.delete_bucket(Bucket="2015-03-31")
    assert requests.get(node.endpoint + "/2015-03-31/functions", timeout=30).json()


def zipped(name, size):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        with package.open(name, "w", force_zip64=True) as entry:
            for _ in range(size >> 20):
                entry.write(bytes(1 << 20))
    return file.getvalue()


def test_packages_that_can_not_be_unpacked(node):
    big = zipped("big", 150 << 20)
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        for name in ["../app.py", "/app.py"]:
            assert refusal(client.update_function_code, FunctionName=f.name, ZipFile=zipped(name, 1 << 20)) == (
                "InvalidParameterValueException",
                "Could not unzip uploaded file. Please check your file, then try to upload again.",
            )
        assert refusal(client.publish_layer_version, LayerName="l", Content={"ZipFile": zipped("b", 251 << 20)}) == (
            "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes",
        )
        layers = [
            client.publish_layer_version(LayerName=f"{f.name}-{i}", Content={"ZipFile": big})["LayerVersionArn"]
            for i in range(2)
        ]
        change = client.update_function_configuration
        assert refusal(change, FunctionName=f.name, Layers=layers) == (
            "InvalidParameterValueException", "Layers consume more than the available size of 262144000 bytes",
        )
        change(FunctionName=f.name, Layers=layers[:1])
        message = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes."
        for dry in [True, False]:
            code, words = refusal(client.update_function_code, FunctionName=f.name, ZipFile=big, DryRun=dry)
            assert code == "InvalidParameterValueException" and words.startswith(message)
        change(FunctionName=f.name, Layers=[])
        client.update_function_code(FunctionName=f.name, ZipFile=big)
        code, words = refusal(change, FunctionName=f.name, Layers=layers[:1])
        assert code == "InvalidParameterValueException" and words.startswith(message)
        assert refusal(change, FunctionName=f.name, Layers=layers)[1].startswith("Layers consume")


def test_client_contexts(node):
    with function(node, "def handler(e, c):\n    return c.client_context.custom\n") as f:
        def context(size):
            rest = size * 3 // 4 - len(json.dumps({"custom": {"a": ""}}))
            return base64.b64encode(json.dumps({"custom": {"a": "x" * rest}}).encode()).decode()

        fits, large = context(3580), context(3584)
        assert (len(fits), len(large)) == (3580, 3584)
        answer = f.client.invoke(FunctionName=f.name, ClientContext=fits)
        assert set(json.load(answer["Payload"])["a"]) == {"x"}
        code, message = refusal(f.client.invoke, FunctionName=f.name, ClientContext=large)
        assert code == "InvalidRequestContentException" and "3583 bytes" in message
        assert refusal(f.client.invoke, FunctionName=f.name, ClientContext="string") == (
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.",
        )


def test_policies_and_revisions(node):
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        allow = {"FunctionName": f.name, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
        first = client.get_function_configuration(FunctionName=f.name)["RevisionId"]
        client.add_permission(**allow, StatementId="a", RevisionId=first)
        second = client.get_policy(FunctionName=f.name)["RevisionId"]
        assert second != first
        assert client.get_function_configuration(FunctionName=f.name)["RevisionId"] == second
        assert refusal(client.add_permission, **allow, StatementId="b", RevisionId=first) == (
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the "
            "latest Revision Id",
        )
        client.remove_permission(FunctionName=f.name, StatementId="a", RevisionId=second)
        assert client.get_function_configuration(FunctionName=f.name)["RevisionId"] != second
        iam, name = node.client("iam"), f"{f.name}-user"
        user = iam.create_user(UserName=name)["User"]["Arn"]
        try:
            client.add_permission(**{**allow, "Principal": user}, StatementId="u")
            for nobody in [user + "x", user.replace(":user/", ":role/")]:
                assert refusal(client.add_permission, **{**allow, "Principal": nobody}, StatementId="n") == (
                    "InvalidParameterValueException",
                    "The provided principal was invalid. Please check the principal and try again.",
                )
        finally:
            iam.delete_user(UserName=name)


def test_tags_and_markers(node):
    with function(node, "def handler(e, c):\n    return e\n") as f:
        client = f.client
        code, message = refusal(client.list_tags, Resource=f.name)
        assert code == "ValidationException" and f"Value '{f.name}' at 'resource'" in message
        for call in [client.list_functions, client.list_layers, client.list_event_source_mappings]:
            assert refusal(call, Marker=f.name)[0] == "InvalidParameterValueException"
        pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
        assert f.name in [each["FunctionName"] for page in pages for each in page["Functions"]]
