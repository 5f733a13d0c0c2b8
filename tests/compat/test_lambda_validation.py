"""What Lambda refuses, with boto3: the codes and the words of AWS."""

import pytest
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
