//! What aws-sam-translator makes of the same templates.

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::template::{Code, Disposal, Pseudo, Template};

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

const PUBLISHED: &str = r"
Transform: AWS::Serverless-2016-10-31
Resources:
  L:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: s3://b/layer.zip, CompatibleRuntimes: [python3.12], RetentionPolicy: Delete}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://b/k
      Handler: a.b
      Runtime: python3.12
      Layers: [!Ref L]
      AutoPublishAlias: live
      VersionDescription: hello
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 2}
      FunctionUrlConfig: {AuthType: NONE, InvokeMode: BUFFERED, Cors: {AllowOrigins: ['*']}}
      EventInvokeConfig: {MaximumRetryAttempts: 1}
      Events:
        E: {Type: S3, Properties: {Bucket: !Ref B, Events: ['s3:ObjectCreated:*']}}
  B: {Type: AWS::S3::Bucket}
  H:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: y
      Handler: index.h
      Runtime: python3.12
      Role: arn:aws:iam::0:role/x
      AutoPublishAlias: a_b
      AutoPublishCodeSha256: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
      FunctionUrlConfig: {AuthType: AWS_IAM}
Outputs:
  A: {Value: !Ref F.Alias}
  V: {Value: !GetAtt F.Version.Version}
  S: {Value: !Sub '${L} ${F.Alias} ${!L}'}
";

#[test]
fn published_functions_and_layers_have_the_ids_of_sam() {
    let template = Template::read(PUBLISHED, Code::Packaged).unwrap();
    let mut names: Vec<_> = template.resources.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "B",
        "F",
        "FAliaslive",
        "FEPermission",
        "FEventInvokeConfig",
        "FRole",
        "FURLInvokeAllowPublicAccess",
        "FUrl",
        "FUrlPublicPermissions",
        "FVersion03ba323aca",
        "H",
        "HAliasaUb",
        "HUrl",
        "HVersion6b86b273ff",
        "Lb3191b1371",
    ];
    assert_eq!(names, expected);
    let properties = |name: &str| template.resources[name].properties.to_json();
    assert_eq!(properties("F")["Layers"], json!([{"Ref": "Lb3191b1371"}]));
    assert_eq!(
        properties("FAliaslive"),
        json!({
            "Name": "live", "FunctionName": {"Ref": "F"},
            "FunctionVersion": {"Fn::GetAtt": ["FVersion03ba323aca", "Version"]},
            "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 2},
        })
    );
    assert_eq!(
        properties("FVersion03ba323aca"),
        json!({"FunctionName": {"Ref": "F"}, "Description": "hello"})
    );
    assert_eq!(template.resources["FVersion03ba323aca"].deletion_policy, Disposal::Retain);
    assert_eq!(template.resources["Lb3191b1371"].deletion_policy, Disposal::Delete);
    assert_eq!(
        properties("FUrl"),
        json!({
            "TargetFunctionArn": {"Ref": "FAliaslive"}, "AuthType": "NONE", "InvokeMode": "BUFFERED",
            "Cors": {"AllowOrigins": ["*"]},
        })
    );
    assert_eq!(
        properties("FURLInvokeAllowPublicAccess"),
        json!({
            "Action": "lambda:InvokeFunction", "FunctionName": {"Ref": "FAliaslive"}, "Principal": "*",
            "InvokedViaFunctionUrl": true,
        })
    );
    assert_eq!(properties("FEventInvokeConfig")["Qualifier"], "live");
    assert_eq!(template.resources["FEventInvokeConfig"].depends_on, ["FAliaslive"]);
    let notifications = &properties("B")["NotificationConfiguration"]["LambdaConfigurations"];
    assert_eq!(notifications[0]["Function"], json!({"Ref": "FAliaslive"}));
    assert_eq!(properties("FEPermission")["FunctionName"], json!({"Ref": "FAliaslive"}));
    assert_eq!(
        properties("H")["Description"],
        "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    );
    let output = |name: &str| template.outputs[name].value.to_json();
    assert_eq!(output("A"), json!({"Ref": "FAliaslive"}));
    assert_eq!(output("V"), json!({"Fn::GetAtt": ["FVersion03ba323aca", "Version"]}));
    assert_eq!(output("S"), json!({"Fn::Sub": "${Lb3191b1371} ${FAliaslive} ${!L}"}));
}

#[test]
fn what_publishing_needs_and_what_is_refused_is_named() {
    let problems = |properties: &str| {
        let text = format!(
            "Transform: AWS::Serverless-2016-10-31\nParameters: {{K: {{Type: String}}}}\nResources:\n  Other: \
             {{Type: AWS::S3::Bucket}}\n  F:\n    Type: \
             AWS::Serverless::Function\n    Properties: {{Handler: a.b, Runtime: python3.12, Role: r, {properties}}}\n"
        );
        let given = IndexMap::from([("K".to_owned(), "live".to_owned())]);
        let problems = Template::read_for(&text, Code::Packaged, &given, &pseudo()).unwrap_err();
        problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("\n")
    };
    for (properties, said) in [
        ("CodeUri: s3://b/k, DeploymentPreference: {Type: Canary10Percent5Minutes}", "no CodeDeploy"),
        ("CodeUri: s3://b/k, DeadLetterQueue: {Type: SQS}", "needs Type and TargetArn"),
        ("CodeUri: s3://b/k, DeadLetterQueue: {Type: SNS, TargetArn: x}", "no topics"),
        ("CodeUri: s3://b/k, Events: {Q: {Type: SQS, Properties: {}}}", "event `Q` needs Queue"),
        ("CodeUri: s3://b/k, Events: {Q: {Type: SQS, Properties: {Queue: x, Stream: y}}}", "`Stream` is not"),
        (
            "CodeUri: s3://b/k, Events: {S: {Type: DynamoDB, Properties: {Stream: x, StartingPosition: LATEST, \
             DestinationConfig: {OnFailure: {Type: SNS, Destination: y}}}}}",
            "destination type `SNS` is not supported",
        ),
        ("ImageConfig: {}", "needs CodeUri, InlineCode or ImageUri"),
        ("CodeUri: s3://b/k, VersionDescription: x", "needs an AutoPublishAlias"),
        ("CodeUri: s3://b/k, AutoPublishAlias: !Ref Other", "not known before the stack is made"),
        ("CodeUri: s3://b/k, AutoPublishAlias: !Sub '${K}.x'", "letters, digits"),
        ("CodeUri: {Bucket: !Ref Other, Key: k}, AutoPublishAlias: live", "AutoPublishCodeSha256"),
        ("CodeUri: !Sub 's3://${Other}/k'", "not known before the stack is made"),
        (
            "CodeUri: s3://b/k, AutoPublishAlias: live, AutoPublishCodeSha256: !GetAtt Other.Arn",
            "not known before",
        ),
        ("CodeUri: s3://b/k, AutoPublishAlias: live, AutoPublishCodeSha256: !Ref K", "64 hexadecimal digits"),
    ] {
        let found = problems(properties);
        assert!(found.contains(said), "{properties}: {found}");
    }
}

#[test]
fn where_failures_of_a_stream_go_the_role_may_send_to() {
    let text = "Transform: AWS::Serverless-2016-10-31\nResources:\n  Q: {Type: AWS::SQS::Queue}\n  F:\n    Type: \
                AWS::Serverless::Function\n    Properties:\n      {Handler: a.b, Runtime: python3.12, CodeUri: s3://b/k, \
                Events: {S: {Type: DynamoDB, Properties: {Stream: x, StartingPosition: LATEST, DestinationConfig: \
                {OnFailure: {Type: SQS, Destination: !GetAtt Q.Arn}}}}}}\n";
    let template = Template::read(text, Code::Packaged).unwrap();
    let queue = json!({"Fn::GetAtt": ["Q", "Arn"]});
    let mapping = template.resources["FS"].properties.to_json();
    assert_eq!(mapping["DestinationConfig"], json!({"OnFailure": {"Destination": queue}}));
    let policies = template.resources["FRole"].properties.to_json()["Policies"].clone();
    assert_eq!(policies[0]["PolicyName"], "FSSQSPolicy");
    assert_eq!(
        policies[0]["PolicyDocument"]["Statement"],
        json!([{"Action": "sqs:SendMessage", "Effect": "Allow", "Resource": queue}])
    );
}

#[test]
fn the_photo_album_is_understood() {
    let text = include_str!("../../../../examples/photo-album/template.yaml");
    let template = Template::read(text, Code::Local).unwrap();
    assert_eq!(template.resources.len(), 8, "{:#?}", template.resources.keys());
    let packaged = text.replace("CodeUri: thumbnail/", "CodeUri: s3://b/k");
    assert!(Template::read(&packaged, Code::Packaged).is_ok());
}

fn pseudo() -> Pseudo {
    Pseudo {
        account_id: "000000000000".into(),
        region: "us-east-1".into(),
        stack_name: "app".into(),
        stack_id: "arn:aws:cloudformation:us-east-1:000000000000:stack/app/1".into(),
    }
}

const BY_PARAMETERS: &str = "
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev}
  Key: {Type: String}
  Hash: {Type: String, Default: ''}
Mappings:
  Stages:
    dev: {Alias: preview}
    prod: {Alias: live}
Conditions:
  Hashed: !Not [!Equals [!Ref Hash, '']]
  Published: !Not [!Equals [!Ref Stage, local]]
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: {Bucket: !Sub 'code-${AWS::Region}', Key: !Ref Key}
      Handler: index.h
      Runtime: python3.12
      Role: arn:aws:iam::0:role/x
      AutoPublishAlias: !If [Published, !FindInMap [Stages, !Ref Stage, Alias], !Ref AWS::NoValue]
      AutoPublishCodeSha256: !If [Hashed, !Ref Hash, !Ref AWS::NoValue]
  G:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: !Sub 's3://code-${AWS::Region}/${Key}'
      Handler: index.h
      Runtime: python3.12
      Role: arn:aws:iam::0:role/x
Outputs:
  A: {Value: !Ref F.Alias}
";

#[test]
fn what_follows_from_parameters_is_published_by_their_values() {
    let ids = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let template = Template::read_for(BY_PARAMETERS, Code::Packaged, &given, &pseudo()).unwrap();
        let mut ids: Vec<_> = template.resources.keys().cloned().collect();
        ids.sort_unstable();
        (ids, template)
    };
    let (first, template) = ids(&[("Key", "a.zip")]);
    assert_eq!(&first[..2], ["F", "FAliaspreview"]);
    assert!(first[2].starts_with("FVersion"), "{first:?}");
    assert_eq!(template.resources["FAliaspreview"].properties.to_json()["Name"], "preview");
    assert_eq!(template.outputs["A"].value.to_json(), json!({"Ref": "FAliaspreview"}));
    assert_eq!(
        template.resources["G"].properties.to_json()["Code"],
        json!({"S3Bucket": "code-us-east-1", "S3Key": "a.zip"})
    );
    // The same place written out has the same id; another place has another.
    let literal = BY_PARAMETERS
        .replace("{Bucket: !Sub 'code-${AWS::Region}', Key: !Ref Key}", "s3://code-us-east-1/a.zip");
    let literal = Template::read_for(
        &literal,
        Code::Packaged,
        &IndexMap::from([("Key".to_owned(), "x".to_owned())]),
        &pseudo(),
    );
    assert!(literal.unwrap().resources.contains_key(&first[2]));
    assert_ne!(ids(&[("Key", "b.zip")]).0[2], first[2]);
    let (live, _) = ids(&[("Key", "a.zip"), ("Stage", "prod")]);
    assert_eq!((live[1].as_str(), &live[2]), ("FAliaslive", &first[2]));
    let hash = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    assert_eq!(ids(&[("Key", "a.zip"), ("Hash", hash)]).0[2], "FVersion6b86b273ff");
    // No value, no alias.
    let bare = BY_PARAMETERS.replace("  A: {Value: !Ref F.Alias}", "  A: {Value: !Ref F}");
    let given =
        [("Key", "a.zip"), ("Stage", "local")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let local = Template::read_for(&bare, Code::Packaged, &given.into_iter().collect(), &pseudo());
    let local = local.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(local.resources.keys().collect::<Vec<_>>(), ["F", "G"]);
    // To look at it no values are needed.
    assert!(Template::read(BY_PARAMETERS, Code::Packaged).is_ok());
}
