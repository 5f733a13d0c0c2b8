//! What is known only when it has been made: versions, aliases that lead to them, addresses, layers.

use std::sync::Arc;

use serde_json::Value;
use store::{MemoryEngine, Store};

use crate::cloud::{self, Cloud};
use crate::{CAPABILITIES, Setup, all, comparable};

const APP: &str = r"
Transform: AWS::Serverless-2016-10-31
Resources:
  Tools:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: s3://code/layer.zip, RetentionPolicy: Delete}
  Api:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: api
      CodeUri: s3://code/one.zip
      Handler: app.handler
      Runtime: python3.12
      Layers: [!Ref Tools]
      AutoPublishAlias: live
      VersionDeletionPolicy: Delete
      FunctionUrlConfig: {AuthType: NONE}
  Caller:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: caller
      CodeUri: s3://code/caller.zip
      Handler: app.handler
      Runtime: python3.12
      Environment:
        Variables:
          HOST: !Select [2, !Split ['/', !GetAtt ApiUrl.FunctionUrl]]
          ALIAS: !Ref Api.Alias
Outputs:
  Address: {Value: !Sub 'at ${ApiUrl.FunctionUrl}'}
  Version: {Value: !Ref Api.Version}
";

fn variables(cloud: &Cloud) -> Value {
    cloud.get("function/caller")["Environment"]["Variables"].clone()
}

#[tokio::test]
async fn values_are_found_when_what_they_come_from_is_made() {
    let setup = Setup::new();
    assert_eq!(setup.create(APP).await, "CREATE_COMPLETE");
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:api";
    assert_eq!(variables(&setup.cloud)["HOST"], "abc.lambda-url.localhost:4566");
    assert_eq!(variables(&setup.cloud)["ALIAS"], format!("{arn}:live"));
    assert_eq!(setup.cloud.get("alias/api/live")["FunctionVersion"], "1");
    let layers = &setup.cloud.get("function/api")["Layers"];
    assert_eq!(layers[0], "arn:aws:lambda:us-east-1:000000000000:layer:Tools:1");
    let described = setup.call("DescribeStacks", &[("StackName", "app")]).await.unwrap();
    assert_eq!(
        all(&described, "OutputValue"),
        ["at http://abc.lambda-url.localhost:4566/", &format!("{arn}:1")]
    );
    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert!(!events.contains("KNOWN_AFTER"), "{events}");

    // What was decided is known from now on: nothing changes, and nothing is said to.
    assert_eq!(setup.update(APP).await.unwrap_err().message, "No updates are to be performed.");
    let described = APP.replace(
        "handler\n      Runtime: python3.12\n      Environment",
        "other\n      Runtime: python3.12\n      Environment",
    );
    assert_ne!(described, APP);
    let set = change_set(&setup, &described).await;
    assert_eq!(all(&set, "LogicalResourceId"), ["Caller"]);

    // New code: a version more, the alias leads to it, and the old one goes.
    let two = APP.replace("one.zip", "two.zip");
    let set = change_set(&setup, &two).await;
    assert_eq!(all(&set, "Action"), ["Modify", "Add", "Modify", "Remove"], "{set}");
    assert_eq!(setup.update(&two).await.unwrap(), "UPDATE_COMPLETE");
    assert_eq!(setup.cloud.get("alias/api/live")["FunctionVersion"], "2");
    assert_eq!(setup.cloud.names("version/api/"), ["version/api/2"]);
    // Another layer: the function uses its new version, and is not published for that.
    let layer = two.replace("layer.zip", "more.zip");
    assert_eq!(setup.update(&layer).await.unwrap(), "UPDATE_COMPLETE");
    let layers = &setup.cloud.get("function/api")["Layers"];
    assert_eq!(layers[0], "arn:aws:lambda:us-east-1:000000000000:layer:Tools:2");
    assert_eq!(setup.cloud.names("layer/"), ["layer/Tools/2"]);

    setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
    setup.settle("app").await;
    assert!(setup.cloud.is_empty(), "{:#?}", setup.cloud);
}

async fn change_set(setup: &Setup, template: &str) -> String {
    let name = ("ChangeSetName", "set");
    let stack = ("StackName", "app");
    let parameters = [stack, name, ("TemplateBody", template), CAPABILITIES[0], CAPABILITIES[1]];
    setup.call("CreateChangeSet", &parameters).await.unwrap();
    let described = setup.call("DescribeChangeSet", &[stack, name]).await.unwrap();
    setup.call("DeleteChangeSet", &[stack, name]).await.unwrap();
    described
}

#[tokio::test]
async fn failures_leave_what_was_there() {
    let setup = Setup::new();
    setup.create(APP).await;
    let made = setup.cloud.changes().len();
    for number in 0..made {
        let setup = Setup::new();
        setup.cloud.fail_change(number);
        assert_eq!(setup.create(APP).await, "ROLLBACK_COMPLETE", "change {number}");
        assert!(setup.cloud.is_empty(), "change {number}: {:#?}", setup.cloud);
    }
    let changed = APP.replace("one.zip", "two.zip").replace("layer.zip", "more.zip");
    assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_COMPLETE");
    let changing = setup.cloud.changes().split_off(made);
    let until = changing.iter().position(|c| c.starts_with("DELETE")).unwrap();
    assert!(until > 3, "{changing:#?}");
    for (number, change) in changing.iter().enumerate().take(until) {
        let setup = Setup::new();
        setup.create(APP).await;
        let before = setup.cloud.state();
        setup.cloud.fail_change(made + number);
        assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_ROLLBACK_COMPLETE", "{change}");
        cloud::assert_same(&comparable(before), &comparable(setup.cloud.state()), change);
    }
}

#[tokio::test]
async fn crashes_make_nothing_twice() {
    let setup = Setup::new();
    setup.create(APP).await;
    for number in 0..setup.cloud.changes().len() {
        for went_through in [false, true] {
            let store = Store::new(MemoryEngine::new());
            let cloud: Arc<Cloud> = Cloud::new();
            cloud.hang_at(number, went_through);
            let first = Setup::over(store.clone(), cloud.clone());
            let parameters = [("TemplateBody", APP), ("StackName", "app"), CAPABILITIES[0], CAPABILITIES[1]];
            first.call("CreateStack", &parameters).await.unwrap();
            cloud.hung().await;
            let second = Setup::over(store, cloud);
            assert_eq!(second.settle("app").await, "CREATE_COMPLETE", "change {number}");
            assert_eq!(second.cloud.names("version/"), ["version/api/1"], "change {number}");
            assert_eq!(second.cloud.names("layer/"), ["layer/Tools/1"], "change {number}");
            assert_eq!(variables(&second.cloud)["HOST"], "abc.lambda-url.localhost:4566");
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_undone_however_late_it_shows() {
    for late in [
        "      Description: !Select [9, !Split ['/', !GetAtt ApiUrl.FunctionUrl]]\nOutputs:",
        "Outputs:\n  Wrong: {Value: !Select [9, !Split ['/', !GetAtt ApiUrl.FunctionUrl]]}",
    ] {
        let setup = Setup::new();
        assert_eq!(setup.create(&APP.replace("Outputs:", late)).await, "ROLLBACK_COMPLETE");
        assert!(setup.cloud.is_empty(), "{:#?}", setup.cloud);
        let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
        assert!(events.contains("of 9 from a list of 4"), "{events}");
    }
    // A version of what is published already is not the stack's.
    let setup = Setup::new();
    let twice = APP.replace(
        "Outputs:",
        "  More: {Type: AWS::Lambda::Version, DependsOn: ApiAliaslive, Properties: {FunctionName: !Ref Api}}\nOutputs:",
    );
    assert_eq!(setup.create(&twice).await, "ROLLBACK_COMPLETE");
    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert!(events.contains("A version for this Lambda function exists ( 1 )"), "{events}");
}

#[tokio::test]
async fn what_turns_out_to_have_the_same_name_stays() {
    let template = |target: &str, key: &str| {
        format!(
            "{}  U: {{Type: AWS::Lambda::Url, Properties: {{AuthType: AWS_IAM, TargetFunctionArn: {target}}}}}\n  T:\n    \
             Type: AWS::DynamoDB::Table\n    Properties:\n      TableName: !Select [0, !Split ['.', !Select [2, !Split \
             ['/', !GetAtt U.FunctionUrl]]]]\n      BillingMode: PAY_PER_REQUEST\n      AttributeDefinitions: \
             [{{AttributeName: {key}, AttributeType: S}}]\n      KeySchema: [{{AttributeName: {key}, KeyType: HASH}}]\n",
            APP.split("Outputs:").next().unwrap()
        )
    };
    let setup = Setup::new();
    assert_eq!(setup.create(&template("!Ref Api", "k")).await, "CREATE_COMPLETE");
    assert_eq!(setup.cloud.names("table/"), ["table/abc"]);
    // Another address, of which nobody knew that the table's name in it is the same.
    let moved = template("!Ref Caller", "k");
    let set = change_set(&setup, &moved).await;
    assert_eq!(all(&set, "Replacement"), ["True", "True"], "{set}");
    assert_eq!(setup.update(&moved).await.unwrap(), "UPDATE_COMPLETE");
    assert_eq!(setup.cloud.names("table/"), ["table/abc"]);
    let before = setup.cloud.state();
    // A table of that name with another key can not take its place.
    let changed = template("!Ref Api", "other");
    assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_ROLLBACK_COMPLETE");
    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert!(events.contains("Rename abc and update the stack again"), "{events}");
    cloud::assert_same(&comparable(before), &comparable(setup.cloud.state()), "the update");
}

#[tokio::test]
async fn images_need_no_handler_and_packages_do() {
    let template = |properties: &str| {
        format!(
            "Transform: AWS::Serverless-2016-10-31\nResources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: \
             {{{properties}, Role: 'arn:aws:iam::000000000000:role/r'}}\n"
        )
    };
    let image = "PackageType: Image, ImageUri: s3://images/app.tar, ImageConfig: {Command: [app.handler]}";
    let setup = Setup::new();
    assert_eq!(setup.create(&template(image)).await, "CREATE_COMPLETE");
    let made = setup.cloud.only("function/");
    assert_eq!(made["Code"], serde_json::json!({"ImageUri": "s3://images/app.tar"}));
    assert_eq!(made["ImageConfig"], serde_json::json!({"Command": ["app.handler"]}));
    assert_eq!(made["PackageType"], "Image");
    let other = image.replace("app.tar", "next.tar");
    assert_eq!(setup.update(&template(&other)).await.unwrap(), "UPDATE_COMPLETE");
    assert_eq!(setup.cloud.only("function/")["Code"]["ImageUri"], "s3://images/next.tar");
    let refused = setup.update(&template("CodeUri: s3://code/a.zip, Runtime: python3.12")).await.unwrap_err();
    assert!(refused.message.contains("`F` needs the property Handler, unless"), "{refused}");
}
