//! The CloudFormation API against a cloud that only remembers: what is made, in which order, and that nothing
//! half-made remains.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod cloud;
mod published;

use std::sync::Arc;

use aws::{Api, Caller, Origin, Request, RequestContext};
use bytes::Bytes;
use http_body_util::BodyExt;
use stacks::Stacks;
use store::{MemoryEngine, Store};
use tokio_util::sync::CancellationToken;
use types::{AccountId, Principal, Region, RequestId, SystemEnv, TraceHeader};

use cloud::Cloud;

struct Setup {
    stacks: Arc<Stacks>,
    cloud: Arc<Cloud>,
    store: Store,
    stop: CancellationToken,
}

impl Setup {
    fn new() -> Self {
        Self::over(Store::new(MemoryEngine::new()), Cloud::new())
    }

    /// As after a restart: the same rows, the same cloud.
    fn over(store: Store, cloud: Arc<Cloud>) -> Self {
        let env = SystemEnv::new();
        let stacks = Stacks::new(store.clone(), env, cloud.clone(), Region::default());
        let stop = CancellationToken::new();
        tokio::spawn(stacks.service().run(stop.clone()));
        Self { stacks, cloud, store, stop }
    }

    async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<String, aws::Error> {
        let body: Vec<String> = [("Action", action), ("Version", "2010-05-15")]
            .iter()
            .chain(parameters)
            .map(|(k, v)| {
                let escape = |t: &str| form_urlencoded::byte_serialize(t.as_bytes()).collect::<String>();
                format!("{}={}", escape(k), escape(v))
            })
            .collect();
        let env = SystemEnv::new();
        let (head, ()) = http::Request::post("/").body(()).unwrap().into_parts();
        let account = AccountId::DEFAULT;
        let caller = Caller {
            principal: Principal::User { account, name: "deployer".into(), id: "AIDA".into() },
            account,
            access_key_id: None,
            origin: Origin::Platform,
            session_policy: None,
        };
        let context = RequestContext {
            caller,
            request_id: RequestId::new(&*env),
            trace: TraceHeader::new(&*env),
            region: Region::default(),
            received_at: env.now(),
            endpoint: "http://127.0.0.1:4566".into(),
        };
        let body = aws::body::full(Bytes::from(body.join("&")));
        let operation = self.stacks.parse(Request { head, body, context }).await?;
        assert!(!operation.access().is_empty());
        assert_eq!(operation.name(), action);
        let response = operation.handle().await?;
        Ok(String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn create(&self, template: &str) -> String {
        let parameters = [("TemplateBody", template), ("StackName", "app"), CAPABILITIES[0], CAPABILITIES[1]];
        self.call("CreateStack", &parameters).await.unwrap();
        self.settle("app").await
    }

    async fn update(&self, template: &str) -> Result<String, aws::Error> {
        let parameters = [("TemplateBody", template), ("StackName", "app"), CAPABILITIES[0], CAPABILITIES[1]];
        self.call("UpdateStack", &parameters).await?;
        Ok(self.settle("app").await)
    }

    /// Waits until the stack's operation has ended, and gives its status.
    async fn settle(&self, stack: &str) -> String {
        loop {
            match self.call("DescribeStacks", &[("StackName", stack)]).await {
                Err(error) => return error.message,
                Ok(text) => {
                    let status = field(&text, "StackStatus");
                    if !status.ends_with("_IN_PROGRESS") {
                        return status;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

const CAPABILITIES: [(&str, &str); 2] =
    [("Capabilities.member.1", "CAPABILITY_NAMED_IAM"), ("Capabilities.member.2", "CAPABILITY_AUTO_EXPAND")];

/// The text of the first element of that name.
fn field(xml: &str, name: &str) -> String {
    let open = format!("<{name}>");
    let Some(start) = xml.find(&open).map(|at| at + open.len()) else { return String::new() };
    xml[start..].split('<').next().unwrap_or_default().to_owned()
}

fn all<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let open = format!("<{name}>");
    xml.split(&open).skip(1).filter_map(|rest| rest.split('<').next()).collect()
}

const ALBUM: &str = r"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Size: {Type: Number, Default: 320, MinValue: 16}
Resources:
  Uploads:
    Type: AWS::S3::Bucket
  Photos:
    Type: AWS::Serverless::SimpleTable
  Thumbnail:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://code/one.zip
      Handler: app.handler
      Runtime: python3.12
      Environment:
        Variables: {TABLE: !Ref Photos, SIZE: !Ref Size, BUCKET: !Ref Uploads}
      Policies:
        - S3ReadPolicy: {BucketName: !Ref Uploads}
      Events:
        Uploaded:
          Type: S3
          Properties: {Bucket: !Ref Uploads, Events: 's3:ObjectCreated:*'}
Outputs:
  Bucket: {Value: !Ref Uploads}
  Function: {Value: !GetAtt Thumbnail.Arn, Description: what runs}
";

#[tokio::test]
async fn a_stack_comes_and_goes() {
    let setup = Setup::new();
    // The function refers to the bucket and the bucket to the function: notifications come last.
    assert_eq!(setup.create(ALBUM).await, "CREATE_COMPLETE");
    let described = setup.call("DescribeStacks", &[("StackName", "app")]).await.unwrap();
    let outputs = all(&described, "OutputValue");
    let bucket = outputs[0].to_owned();
    assert!(bucket.starts_with("app-uploads-") && bucket.to_lowercase() == bucket, "{bucket}");
    assert!(outputs[1].starts_with("arn:aws:lambda:us-east-1:000000000000:function:app-Thumbnail-"));
    assert_eq!(all(&described, "Description"), ["what runs"]);

    let function = setup.cloud.only("function/");
    assert_eq!(function["Environment"]["Variables"]["SIZE"], "320");
    assert_eq!(function["Environment"]["Variables"]["BUCKET"], bucket.as_str());
    let notification = setup.cloud.get(&format!("bucket/{bucket}"));
    assert!(notification["notification"].as_str().unwrap().contains("<Event>s3:ObjectCreated:*</Event>"));
    let calls = setup.cloud.calls();
    let at = |text: &str| {
        calls.iter().position(|c| c.contains(text)).unwrap_or_else(|| panic!("{text}: {calls:#?}"))
    };
    assert!(at("CreateRole") < at("POST /2015-03-31/functions "));
    assert!(at("/policy") < at("?notification"));
    assert!(setup.cloud.principals().iter().all(|p| p.ends_with("user/deployer")));

    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert_eq!(field(&events, "ResourceStatus"), "CREATE_COMPLETE");
    assert_eq!(field(&events, "ResourceType"), "AWS::CloudFormation::Stack");
    let resources = setup.call("ListStackResources", &[("StackName", "app")]).await.unwrap();
    assert_eq!(all(&resources, "LogicalResourceId").len(), 5);
    assert!(all(&resources, "ResourceStatus").iter().all(|s| *s == "CREATE_COMPLETE"));

    let id = field(&described, "StackId");
    setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
    assert_eq!(setup.settle("app").await, "Stack with id app does not exist");
    assert_eq!(setup.settle(&id).await, "DELETE_COMPLETE");
    assert!(setup.cloud.is_empty(), "{:#?}", setup.cloud);
    setup.stop.cancel();
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing() {
    // Whichever call fails, and however often a call was made before.
    let setup = Setup::new();
    assert_eq!(setup.create(ALBUM).await, "CREATE_COMPLETE");
    let changing: Vec<String> = setup.cloud.changes();
    assert!(changing.len() > 6, "{changing:#?}");
    for (number, change) in changing.iter().enumerate() {
        let setup = Setup::new();
        setup.cloud.fail_change(number);
        assert_eq!(setup.create(ALBUM).await, "ROLLBACK_COMPLETE", "{}", change);
        assert!(setup.cloud.is_empty(), "after {}: {:#?}", change, setup.cloud);
        let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
        assert!(events.contains("it was told to fail"), "{events}");
        setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
        assert_eq!(setup.settle("app").await, "Stack with id app does not exist");
    }
}

#[tokio::test]
async fn a_failed_update_puts_everything_back() {
    let changed = ALBUM
        .replace("one.zip", "two.zip")
        .replace("Handler: app.handler", "Handler: new.handler")
        .replace("S3ReadPolicy", "S3CrudPolicy")
        .replace("ObjectCreated", "ObjectRemoved")
        .replace(
            "Type: AWS::Serverless::SimpleTable",
            "Type: AWS::Serverless::SimpleTable\n    Properties: {PrimaryKey: {Name: k, Type: Number}}",
        )
        .replace("  Photos:", "  More: {Type: AWS::S3::Bucket}\n  Photos:");
    let setup = Setup::new();
    setup.create(ALBUM).await;
    let (before, made) = (setup.cloud.state(), setup.cloud.changes().len());
    assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_COMPLETE");
    let changing = setup.cloud.changes().split_off(made);
    assert!(setup.cloud.state() != before && changing.len() > 6, "{changing:#?}");
    // The deletions come when all else has succeeded; they are not undone.
    let until = changing.iter().position(|c| c.contains("DeleteTable")).unwrap();
    for (number, change) in changing.iter().enumerate().take(until) {
        let setup = Setup::new();
        setup.create(ALBUM).await;
        let before = setup.cloud.state();
        setup.cloud.fail_change(made + number);
        assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_ROLLBACK_COMPLETE", "{}", change);
        cloud::assert_same(&comparable(before), &comparable(setup.cloud.state()), change);
        let described = setup.call("DescribeStacks", &[("StackName", "app")]).await.unwrap();
        assert_eq!(all(&described, "OutputValue").len(), 2);
    }
}

#[tokio::test]
async fn a_rollback_that_failed_can_be_continued() {
    let changed = ALBUM
        .replace("S3ReadPolicy", "S3CrudPolicy")
        .replace("Handler: app.handler", "Handler: new.handler")
        .replace("ObjectCreated", "ObjectRemoved");
    let function = "Thumbnail";
    for skip in [false, true] {
        let setup = Setup::new();
        setup.create(ALBUM).await;
        let made = setup.cloud.changes().len();
        assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_COMPLETE");
        let changing = setup.cloud.changes().split_off(made);
        let last = changing.iter().position(|c| c.contains("?notification")).unwrap();
        let setup = Setup::new();
        setup.create(ALBUM).await;
        let before = setup.cloud.state();
        let refused = setup.call("ContinueUpdateRollback", &[("StackName", "app")]).await.unwrap_err();
        assert!(refused.message.contains("is in CREATE_COMPLETE state"), "{refused}");
        // The notification fails, and so does putting the function back.
        setup.cloud.fail_change(made + last);
        setup.cloud.fail_change(made + last + 2);
        assert_eq!(setup.update(&changed).await.unwrap(), "UPDATE_ROLLBACK_FAILED", "{changing:#?}");
        let refused = setup.update(ALBUM).await.unwrap_err();
        assert!(refused.message.contains("UPDATE_ROLLBACK_FAILED state and can not be updated"), "{refused}");
        let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
        assert!(events.contains(&format!("failed to update: [{function}]")), "{events}");
        let wrong = [("StackName", "app"), ("ResourcesToSkip.member.1", "Uploads")];
        let refused = setup.call("ContinueUpdateRollback", &wrong).await.unwrap_err();
        assert!(refused.message.contains("[Uploads] can not be skipped"), "{refused}");
        let skipped = [("StackName", "app"), ("ResourcesToSkip.member.1", function)];
        setup.call("ContinueUpdateRollback", if skip { &skipped } else { &skipped[..1] }).await.unwrap();
        assert_eq!(setup.settle("app").await, "UPDATE_ROLLBACK_COMPLETE");
        if !skip {
            cloud::assert_same(&comparable(before), &comparable(setup.cloud.state()), "the rollback");
        }
        let resources = setup.call("ListStackResources", &[("StackName", "app")]).await.unwrap();
        assert!(!resources.contains("FAILED") || !skip, "{resources}");
    }
}

/// Stacks have ids of their own, which show in generated names.
fn comparable(state: std::collections::BTreeMap<String, serde_json::Value>) -> Vec<(String, String)> {
    state.into_iter().map(|(k, v)| (k, v.to_string())).collect()
}

#[tokio::test]
async fn a_crash_at_any_call_changes_nothing_about_the_outcome() {
    let setup = Setup::new();
    setup.create(ALBUM).await;
    let calls = setup.cloud.changes().len();
    for number in 0..calls {
        // The node dies in the middle of a call that went through, or did not.
        for went_through in [false, true] {
            let store = Store::new(MemoryEngine::new());
            let cloud = Cloud::new();
            cloud.hang_at(number, went_through);
            let first = Setup::over(store.clone(), cloud.clone());
            let parameters =
                [("TemplateBody", ALBUM), ("StackName", "app"), CAPABILITIES[0], CAPABILITIES[1]];
            first.call("CreateStack", &parameters).await.unwrap();
            cloud.hung().await;
            // What hangs is never heard of again; a second node takes over.
            let second = Setup::over(first.store.clone(), cloud);
            assert_eq!(second.settle("app").await, "CREATE_COMPLETE", "call {number}");
            second.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
            second.settle("app").await;
            assert!(second.cloud.is_empty(), "call {number}: {:#?}", second.cloud);
        }
    }
}

#[tokio::test]
async fn what_exists_already_is_not_touched() {
    let setup = Setup::new();
    let template = "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: mine}}}";
    setup.cloud.put("bucket/mine", serde_json::json!({}));
    assert_eq!(setup.create(template).await, "ROLLBACK_COMPLETE");
    assert_eq!(setup.cloud.get("bucket/mine"), serde_json::json!({}));
    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert!(events.contains("mine already exists"), "{events}");
}

#[tokio::test]
async fn a_bucket_that_is_not_empty_stays_with_what_it_needs() {
    let setup = Setup::new();
    setup.create(ALBUM).await;
    let bucket = setup.cloud.names("bucket/").remove(0);
    setup.cloud.put(&bucket, serde_json::json!({"objects": 1}));
    setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
    assert_eq!(setup.settle("app").await, "DELETE_FAILED");
    let described = setup.call("DescribeStacks", &[("StackName", "app")]).await.unwrap();
    assert!(described.contains("The following resource(s) failed to delete: [Uploads]. "), "{described}");
    setup.cloud.put(&bucket, serde_json::json!({}));
    setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
    assert_eq!(setup.settle("app").await, "Stack with id app does not exist");
    assert!(setup.cloud.is_empty());
}

#[tokio::test]
async fn change_sets_show_and_then_do() {
    let setup = Setup::new();
    let create = [
        ("StackName", "app"),
        ("ChangeSetName", "first"),
        ("ChangeSetType", "CREATE"),
        ("TemplateBody", ALBUM),
        ("Parameters.member.1.ParameterKey", "Size"),
        ("Parameters.member.1.ParameterValue", "64"),
    ];
    let error = setup.call("CreateChangeSet", &create).await.unwrap_err();
    assert_eq!(
        (&*error.code, &*error.message),
        ("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]")
    );
    let mut with = create.to_vec();
    with.push(("Capabilities.member.1", "CAPABILITY_IAM"));
    setup.call("CreateChangeSet", &with).await.unwrap();
    assert!(setup.cloud.is_empty());
    let set = [("StackName", "app"), ("ChangeSetName", "first")];
    let described = setup.call("DescribeChangeSet", &set).await.unwrap();
    assert_eq!(field(&described, "Status"), "CREATE_COMPLETE");
    assert_eq!(all(&described, "Action"), ["Add"; 5]);
    setup.call("ExecuteChangeSet", &set).await.unwrap();
    assert_eq!(setup.settle("app").await, "CREATE_COMPLETE");
    assert_eq!(setup.cloud.only("function/")["Environment"]["Variables"]["SIZE"], "64");

    let changed =
        ALBUM.replace("one.zip", "two.zip").replace("Outputs:", "  B: {Type: AWS::S3::Bucket}\nOutputs:");
    let update = |name, template| {
        [
            ("StackName", "app"),
            ("ChangeSetName", name),
            ("ChangeSetType", "UPDATE"),
            ("TemplateBody", template),
            ("Parameters.member.1.ParameterKey", "Size"),
            ("Parameters.member.1.UsePreviousValue", "true"),
            ("Capabilities.member.1", "CAPABILITY_IAM"),
        ]
    };
    setup.call("CreateChangeSet", &update("same", ALBUM)).await.unwrap();
    let described = setup.call("DescribeChangeSet", &[set[0], ("ChangeSetName", "same")]).await.unwrap();
    assert_eq!(field(&described, "Status"), "FAILED");
    assert!(
        field(&described, "StatusReason").contains("didn't contain changes") || described.contains("didn")
    );
    setup.call("CreateChangeSet", &update("second", &changed)).await.unwrap();
    let described = setup.call("DescribeChangeSet", &[set[0], ("ChangeSetName", "second")]).await.unwrap();
    assert_eq!(all(&described, "Action"), ["Add", "Modify"]);
    assert_eq!(all(&described, "Replacement"), ["False"]);
    assert_eq!(all(&described, "Name"), ["Code"]);
    setup.call("ExecuteChangeSet", &[set[0], ("ChangeSetName", "second")]).await.unwrap();
    assert_eq!(setup.settle("app").await, "UPDATE_COMPLETE");
    assert_eq!(setup.cloud.only("function/")["Code"]["S3Key"], "two.zip");
    // Executing one makes the others obsolete.
    let listed = setup.call("ListChangeSets", &[("StackName", "app")]).await.unwrap();
    assert!(all(&listed, "ChangeSetName").is_empty());
}

#[tokio::test]
async fn updates_replace_where_they_must() {
    let table = |key: &str, name: &str| {
        format!(
            "Resources:\n  T:\n    Type: AWS::DynamoDB::Table\n    Properties:\n      BillingMode: PAY_PER_REQUEST\n      {name}AttributeDefinitions: [{{AttributeName: {key}, AttributeType: S}}]\n      KeySchema: [{{AttributeName: {key}, KeyType: HASH}}]\n  B:\n    Type: AWS::S3::Bucket\n    DeletionPolicy: Retain\n"
        )
    };
    let setup = Setup::new();
    setup.create(&table("a", "")).await;
    let first = setup.cloud.names("table/");
    assert_eq!(setup.update(&table("a", "")).await.unwrap_err().message, "No updates are to be performed.");
    assert_eq!(setup.update(&table("b", "")).await.unwrap(), "UPDATE_COMPLETE");
    let second = setup.cloud.names("table/");
    assert!(second.len() == 1 && first != second, "{first:?} {second:?}");
    // A name of one's own can not be in use twice.
    assert_eq!(setup.update(&table("b", "TableName: own\n      ")).await.unwrap(), "UPDATE_COMPLETE");
    let refused = setup.update(&table("c", "TableName: own\n      ")).await.unwrap_err();
    assert!(refused.message.contains("custom-named resource requires replacing"), "{refused}");
    setup.call("DeleteStack", &[("StackName", "app")]).await.unwrap();
    setup.settle("app").await;
    assert_eq!(setup.cloud.names("table/"), Vec::<String>::new());
    assert_eq!(setup.cloud.names("bucket/").len(), 1, "retained");
}

#[tokio::test]
async fn requests_are_refused_as_on_aws() {
    let setup = Setup::new();
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let table: &[Row<'_>] = &[
        ("DescribeStacks", &[("StackName", "nope")], "ValidationError", "Stack with id nope does not exist"),
        (
            "UpdateStack",
            &[("StackName", "nope"), ("TemplateBody", ALBUM)],
            "ValidationError",
            "Stack [nope] does not exist",
        ),
        (
            "CreateStack",
            &[("StackName", "a b"), ("TemplateBody", ALBUM)],
            "ValidationError",
            "at 'stackName' failed",
        ),
        (
            "CreateStack",
            &[("StackName", "a")],
            "ValidationError",
            "Either Template URL or Template Body must be specified.",
        ),
        (
            "CreateStack",
            &[("StackName", "a"), ("TemplateBody", ALBUM), ("RoleARN", "x")],
            "ValidationError",
            "RoleARN is not supported",
        ),
        (
            "CreateStack",
            &[("StackName", "a"), ("TemplateBody", ALBUM), CAPABILITIES[0]],
            "InsufficientCapabilitiesException",
            "[CAPABILITY_AUTO_EXPAND]",
        ),
        ("ValidateTemplate", &[("TemplateBody", "a: [")], "ValidationError", "not well-formed"),
        ("Nonsense", &[], "InvalidAction", "Nonsense"),
        (
            "ExecuteChangeSet",
            &[("StackName", "a"), ("ChangeSetName", "x")],
            "ChangeSetNotFound",
            "ChangeSet [x] does not exist",
        ),
    ];
    for (action, parameters, code, message) in table {
        let error = setup.call(action, parameters).await.unwrap_err();
        assert!(error.code == *code && error.message.contains(message), "{action}: {error}");
    }
    setup.call("DeleteStack", &[("StackName", "nope")]).await.unwrap();
    assert!(setup.cloud.is_empty());
}

#[tokio::test]
async fn what_is_not_to_be_echoed_is_in_no_event() {
    let setup = Setup::new();
    let template = r"
Parameters:
  Secret: {Type: String, NoEcho: true}
Resources:
  B: {Type: AWS::S3::Bucket, Properties: {Tags: [{Key: t, Value: !Sub 'is ${Secret}!'}]}}
";
    let parameters = [
        ("TemplateBody", template),
        ("StackName", "app"),
        ("Parameters.member.1.ParameterKey", "Secret"),
        ("Parameters.member.1.ParameterValue", "hush"),
    ];
    setup.call("CreateStack", &parameters).await.unwrap();
    assert_eq!(setup.settle("app").await, "CREATE_COMPLETE");
    for action in ["DescribeStackEvents", "DescribeStacks", "DescribeStackResources", "ListStackResources"] {
        let shown = setup.call(action, &[("StackName", "app")]).await.unwrap();
        assert!(!shown.contains("hush"), "{action}: {shown}");
    }
    let events = setup.call("DescribeStackEvents", &[("StackName", "app")]).await.unwrap();
    assert!(events.contains("is ****!"), "{events}");
}

#[tokio::test]
async fn a_previous_value_is_kept_unless_another_is_given_too() {
    let setup = Setup::new();
    let template = r"
Parameters:
  Kept: {Type: String}
  Other: {Type: String, Default: first}
Resources:
  B: {Type: AWS::S3::Bucket, Properties: {Tags: [{Key: !Ref Other, Value: !Ref Kept}]}}
";
    let with = |kept: (&'static str, &'static str), previous, other| {
        [
            ("TemplateBody", template),
            ("StackName", "app"),
            ("Parameters.member.1.ParameterKey", "Kept"),
            kept,
            ("Parameters.member.1.UsePreviousValue", previous),
            ("Parameters.member.2.ParameterKey", "Other"),
            ("Parameters.member.2.ParameterValue", other),
        ]
    };
    let value = |text| ("Parameters.member.1.ParameterValue", text);
    setup.call("CreateStack", &with(value("here"), "false", "first")).await.unwrap();
    assert_eq!(setup.settle("app").await, "CREATE_COMPLETE");
    let refused = setup.call("UpdateStack", &with(value("new"), "true", "second")).await.unwrap_err();
    assert!(format!("{refused:?}").contains("usePreviousValue as true and non empty value for a parameter"));
    setup.call("UpdateStack", &with(value(""), "true", "second")).await.unwrap();
    assert_eq!(setup.settle("app").await, "UPDATE_COMPLETE");
    let shown = setup.call("DescribeStacks", &[("StackName", "app")]).await.unwrap();
    assert!(shown.contains("<ParameterValue>here</ParameterValue>"), "{shown}");
    assert!(!shown.contains("Outputs"), "{shown}");
}

#[tokio::test]
async fn stacks_that_are_gone_take_no_place_on_a_page() {
    let setup = Setup::new();
    let template = ("TemplateBody", "Resources:\n  B: {Type: AWS::S3::Bucket}");
    for i in 0..101 {
        let name = ("StackName", &*format!("gone-{i}"));
        setup.call("CreateStack", &[template, name]).await.unwrap();
        setup.settle(name.1).await;
        setup.call("DeleteStack", &[name]).await.unwrap();
        setup.settle(name.1).await;
    }
    setup.call("CreateStack", &[template, ("StackName", "app")]).await.unwrap();
    let shown = setup.call("DescribeStacks", &[]).await.unwrap();
    assert_eq!((all(&shown, "StackName"), field(&shown, "NextToken")), (vec!["app"], String::new()));
}

#[tokio::test]
async fn code_for_another_machine_is_refused_before_anything_is_made() {
    let setup = Setup::new();
    let other = if cfg!(target_arch = "aarch64") { "x86_64" } else { "arm64" };
    let template = format!(
        "Resources:\n  F: {{Type: AWS::Lambda::Function, Properties: {{Handler: a.b, Runtime: python3.12, Role: r, \
         Code: {{ZipFile: x}}, Architectures: [{other}]}}}}"
    );
    let parameters = [("TemplateBody", &*template), ("StackName", "app")];
    let refused = setup.call("CreateStack", &parameters).await.unwrap_err();
    assert!(refused.message.contains(&format!("`F` has the architecture {other}")), "{refused:?}");
}
