//! What aws-sam-translator makes of the same templates.

use serde_json::{Value, json};

use crate::template::{Code, Template};

const TEMPLATE: &str = r"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.12, Environment: {Variables: {SHARED: x}}, Tags: {team: t}}
Resources:
  B:
    Type: AWS::S3::Bucket
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://b/k
      Handler: a.b
      Environment: {Variables: {OWN: y}}
      Policies:
        - AmazonDynamoDBFullAccess
        - arn:aws:iam::aws:policy/X
        - Version: '2012-10-17'
          Statement: {Effect: Allow, Action: x, Resource: '*'}
        - LambdaInvokePolicy: {FunctionName: !Ref G}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig:
          OnFailure: {Type: Lambda, Destination: !GetAtt G.Arn}
      Events:
        E: {Type: S3, Properties: {Bucket: !Ref B, Events: ['s3:ObjectCreated:*', 's3:ObjectRemoved:*']}}
  G:
    Type: AWS::Serverless::Function
    Condition: Always
    Properties: {InlineCode: x, Handler: index.h, Role: 'arn:aws:iam::0:role/x'}
  T:
    Type: AWS::Serverless::SimpleTable
Conditions: {Always: !Equals [1, 1]}
";

#[test]
fn sam_resources_become_what_sam_makes_of_them() {
    let template = Template::read(TEMPLATE, Code::Packaged).unwrap();
    let resource = |name: &str| -> (&str, Value) {
        let resource = &template.resources[name];
        (&resource.type_name, resource.properties.to_json())
    };
    let mut names: Vec<_> = template.resources.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["B", "F", "FEPermission", "FEventInvokeConfig", "FRole", "G", "T"]);
    let notification = |event: &str| json!({"Event": event, "Function": {"Fn::GetAtt": ["F", "Arn"]}});
    let list = json!([notification("s3:ObjectCreated:*"), notification("s3:ObjectRemoved:*")]);
    assert_eq!(resource("B").1["NotificationConfiguration"]["LambdaConfigurations"], list);
    let tags = json!([{"Key": "lambda:createdBy", "Value": "SAM"}, {"Key": "team", "Value": "t"}]);
    let function = json!({
        "Code": {"S3Bucket": "b", "S3Key": "k"}, "Handler": "a.b", "Runtime": "python3.12",
        "Environment": {"Variables": {"SHARED": "x", "OWN": "y"}}, "Tags": tags,
        "Role": {"Fn::GetAtt": ["FRole", "Arn"]},
    });
    assert_eq!(resource("F"), ("AWS::Lambda::Function", function));
    let permission = json!({
        "Action": "lambda:InvokeFunction", "FunctionName": {"Ref": "F"}, "Principal": "s3.amazonaws.com",
        "SourceAccount": {"Ref": "AWS::AccountId"},
    });
    assert_eq!(resource("FEPermission"), ("AWS::Lambda::Permission", permission));
    let config = json!({
        "FunctionName": {"Ref": "F"}, "Qualifier": "$LATEST", "MaximumRetryAttempts": 1,
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["G", "Arn"]}}},
    });
    assert_eq!(resource("FEventInvokeConfig"), ("AWS::Lambda::EventInvokeConfig", config));
    let role = resource("FRole").1;
    assert_eq!(
        role["ManagedPolicyArns"],
        json!([
            "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            "arn:aws:iam::aws:policy/AmazonDynamoDBFullAccess",
            "arn:aws:iam::aws:policy/X",
        ])
    );
    assert_eq!(
        role["Policies"],
        json!([
            {"PolicyName": "FEventInvokeConfigOnFailureLambdaPolicy", "PolicyDocument": {"Statement": [
                {"Action": "lambda:InvokeFunction", "Effect": "Allow", "Resource": {"Fn::GetAtt": ["G", "Arn"]}}]}},
            {"PolicyName": "FRolePolicy2", "PolicyDocument": {"Version": "2012-10-17", "Statement":
                {"Effect": "Allow", "Action": "x", "Resource": "*"}}},
            {"PolicyName": "FRolePolicy3", "PolicyDocument": {"Statement": [
                {"Action": ["lambda:InvokeFunction"], "Effect": "Allow", "Resource": {"Fn::Sub": [
                    "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${functionName}*",
                    {"functionName": {"Ref": "G"}}]}}]}},
        ])
    );
    assert_eq!(
        role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"],
        json!({"Service": ["lambda.amazonaws.com"]})
    );
    assert_eq!(template.resources["G"].condition.as_deref(), Some("Always"));
    assert_eq!(resource("G").1["Code"], json!({"ZipFile": "x"}));
    let table = json!({
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    assert_eq!(resource("T"), ("AWS::DynamoDB::Table", table));
}

#[test]
fn the_photo_album_is_understood() {
    let text = include_str!("../../../../examples/photo-album/template.yaml");
    let template = Template::read(text, Code::Local).unwrap();
    assert_eq!(template.resources.len(), 8, "{:#?}", template.resources.keys());
    let packaged = text.replace("CodeUri: thumbnail/", "CodeUri: s3://b/k");
    assert!(Template::read(&packaged, Code::Packaged).is_ok());
}
