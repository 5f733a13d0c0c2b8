"""Templates with what only the service can name: versions, aliases, addresses and layers."""

import json
import urllib.request

import pytest
from conftest import PYTHON_RUNTIME, deployed, eventually, unique
from functions import package

pytestmark = pytest.mark.local

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Bucket: {Type: String}
Resources:
  Words:
    Type: AWS::Serverless::LayerVersion
    Properties:
      ContentUri: s3://@bucket@/@layer@
      CompatibleRuntimes: [@runtime@]
      RetentionPolicy: Delete
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://@bucket@/@code@
      Handler: app.handler
      Runtime: @runtime@
      Layers: [!Ref Words]
      AutoPublishAlias: live
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 1}
      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ['*'], MaxAge: 60}}
      EventInvokeConfig: {MaximumRetryAttempts: 0}
  Canary:
    Type: AWS::Lambda::Alias
    Properties:
      Name: canary
      FunctionName: !Ref Hello
      FunctionVersion: !GetAtt Hello.Version.Version
  Asker:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        import os
        def handler(event, context):
            return {"host": os.environ["HOST"], "alias": os.environ["ALIAS"]}
      Handler: index.handler
      Runtime: @runtime@
      Environment:
        Variables:
          HOST: !Select [2, !Split ['/', !GetAtt HelloUrl.FunctionUrl]]
          ALIAS: !Ref Hello.Alias
Outputs:
  Url: {Value: !GetAtt HelloUrl.FunctionUrl}
  Function: {Value: !Ref Hello}
  Alias: {Value: !Ref Hello.Alias}
  Version: {Value: !GetAtt Hello.Version.Version}
  Layer: {Value: !Ref Words}
  Asker: {Value: !Ref Asker}
"""
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


def deploy(node, operation, stack, **places):
    text = TEMPLATE.replace("@runtime@", PYTHON_RUNTIME)
    for name, value in places.items():
        text = text.replace(f"@{name}@", value)
    return deployed(node, operation, stack, text, Bucket=places["bucket"])


def get(node, url):
    host = url.split("/")[2]
    request = urllib.request.Request(node.endpoint, headers={"Host": host})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_published_function_is_deployed_and_updated(node):
    s3, functions = node.client("s3"), node.client("lambda")
    bucket, stack = unique("code"), unique("stack")
    s3.create_bucket(Bucket=bucket)
    code = "import words\ndef handler(event, context):\n    return f'{words.GREETING} %s {context.function_version}'\n"
    for name in ("one", "two"):
        s3.put_object(Bucket=bucket, Key=f"{name}.zip", Body=package({"app.py": code % name}))
        s3.put_object(Bucket=bucket, Key=f"layer-{name}.zip", Body=package({"python/words.py": f"GREETING = 'hello {name}'\n"}))
    first = deploy(node, "create_stack", stack, bucket=bucket, code="one.zip", layer="layer-one.zip")
    assert first["Version"] == "1" and first["Layer"].endswith(":layer:Words:1") and first["Alias"].endswith(":live")
    assert get(node, first["Url"]) == "hello one one 1"
    asked = functions.invoke(FunctionName=first["Asker"])["Payload"].read().decode()
    assert first["Url"].split("/")[2] in asked and first["Alias"] in asked
    ready = functions.get_provisioned_concurrency_config(FunctionName=first["Function"], Qualifier="live")
    assert ready["Status"] == "READY"
    config = functions.get_function_event_invoke_config(FunctionName=first["Function"], Qualifier="live")
    assert config["MaximumRetryAttempts"] == 0

    second = deploy(node, "update_stack", stack, bucket=bucket, code="two.zip", layer="layer-two.zip")
    assert second["Version"] == "2" and second["Layer"].endswith(":layer:Words:2")
    assert second["Url"] == first["Url"] and second["Alias"] == first["Alias"]
    assert get(node, second["Url"]) == "hello two two 2"
    for alias in ("live", "canary"):
        found = functions.get_alias(FunctionName=first["Function"], Name=alias)
        assert found["FunctionVersion"] == "2"
    # The version that was there stays, as SAM says.
    versions = functions.list_versions_by_function(FunctionName=first["Function"])["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST", "1", "2"]

    cloudformation = node.client("cloudformation")
    cloudformation.delete_stack(StackName=stack)
    eventually(lambda: not [s for s in cloudformation.describe_stacks()["Stacks"] if s["StackName"] == stack], 60)
    assert functions.list_layer_versions(LayerName="Words")["LayerVersions"] == []
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_function(FunctionName=first["Function"])


BY_PARAMETERS = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Bucket: {Type: String}
  Key: {Type: String}
  Stage: {Type: String, Default: dev}
  Hash: {Type: String, Default: ''}
Mappings:
  Stages:
    dev: {Alias: preview}
    prod: {Alias: live}
Conditions:
  Hashed: !Not [!Equals [!Ref Hash, '']]
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: !Sub s3://${Bucket}/${Key}.zip
      Handler: app.handler
      Runtime: @runtime@
      AutoPublishAlias: !FindInMap [Stages, !Ref Stage, Alias]
      AutoPublishCodeSha256: !If [Hashed, !Ref Hash, !Ref AWS::NoValue]
Outputs:
  Function: {Value: !Ref Hello}
  Alias: {Value: !Ref Hello.Alias}
  Version: {Value: !GetAtt Hello.Version.Version}
"""


def test_what_is_published_may_be_made_of_parameters(node):
    s3, functions, cloudformation = node.client("s3"), node.client("lambda"), node.client("cloudformation")
    bucket, stack = unique("code"), unique("stack")
    s3.create_bucket(Bucket=bucket)
    for name in ("one", "two"):
        code = f"def handler(event, context):\n    return '{name} ' + context.function_version\n"
        s3.put_object(Bucket=bucket, Key=f"{name}.zip", Body=package({"app.py": code}))
    text = BY_PARAMETERS.replace("@runtime@", PYTHON_RUNTIME)

    def run(operation, **given):
        outputs = deployed(node, operation, stack, text, **{"Bucket": bucket, **given})
        alias = outputs["Alias"].rsplit(":", 1)[1]
        answer = functions.invoke(FunctionName=outputs["Function"], Qualifier=alias)["Payload"].read()
        return alias, outputs["Version"], json.loads(answer)

    assert cloudformation.get_template_summary(TemplateBody=text)["ResourceTypes"] == ["AWS::Serverless::Function"]
    assert run("create_stack", Key="one") == ("preview", "1", "one 1")
    assert run("update_stack", Key="two") == ("preview", "2", "two 2")
    # Another alias leads to the same version.
    assert run("update_stack", Key="two", Stage="prod") == ("live", "2", "two 2")
    assert run("update_stack", Key="two", Stage="prod", Hash="ab" * 32) == ("live", "3", "two 3")
    processed = cloudformation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]
    assert "HelloAliaslive" in str(processed) and "HelloVersionababababab" in str(processed)
    for name, wrong in [("AutoPublishAlias", "!GetAtt Other.Arn"), ("AutoPublishCodeSha256", "!Ref Other"), ("CodeUri", "!Sub 's3://${Other}/x'")]:
        resources = "Resources:\n  Other: {Type: AWS::S3::Bucket}\n"
        lines = [f"      {name}: {wrong}" if line.startswith(f"      {name}:") else line for line in text.splitlines()]
        with pytest.raises(cloudformation.exceptions.ClientError) as e:
            cloudformation.update_stack(
                StackName=stack, TemplateBody="\n".join(lines).replace("Resources:\n", resources), Capabilities=CAPABILITIES,
                Parameters=[{"ParameterKey": "Bucket", "ParameterValue": bucket}, {"ParameterKey": "Key", "ParameterValue": "one"}],
            )
        assert e.value.response["Error"]["Code"] == "ValidationError" and "not known before the stack is made" in str(e.value)
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
