//! The API as clients see it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use functions::Config;
use serde_json::{Value, json};
use store::Range;
use store::key::KeyWriter;
use types::AccountId;

use crate::support::{Node, creation, handler, zip};

const F: &str = "/2015-03-31/functions";

fn echo() -> crate::support::Handler {
    handler(|request, _| async move { Ok(serde_json::from_slice(request.event.payload()).unwrap()) })
}

#[tokio::test]
async fn a_function_lives_from_create_to_delete() {
    let node = Node::start(Config::default()).await;
    let extra = json!({
        "Environment": { "Variables": { "TABLE": "photos" } },
        "Tags": { "team": "a" },
        "VpcConfig": { "SubnetIds": [], "SecurityGroupIds": [] },
    });
    let made = node.deploy_with("thumb", echo(), extra).await.unwrap();
    assert_eq!(made["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:thumb");
    assert_eq!(
        (&made["Timeout"], &made["MemorySize"], &made["State"]),
        (&json!(3), &json!(128), &json!("Active"))
    );
    assert_eq!(made["LoggingConfig"]["LogGroup"], "/aws/lambda/thumb");
    assert!(made["LastModified"].as_str().unwrap().ends_with("+0000"));

    let again = node.json("POST", F, creation("thumb")).await.unwrap_err();
    assert_eq!((again.status, again.code.as_ref()), (409, "ResourceConflictException"));
    assert_eq!(again.message, "Function already exist: thumb");

    let got = node.json("GET", &format!("{F}/thumb"), Value::Null).await.unwrap();
    assert_eq!(got["Configuration"]["CodeSha256"], made["CodeSha256"]);
    assert_eq!(got["Tags"]["team"], "a");
    let location = got["Code"]["Location"].as_str().unwrap().strip_prefix("http://127.0.0.1:4566").unwrap();
    let (_, package) = node.api("GET", location, &[], "").await.unwrap();
    assert_eq!(package, zip("print('hello')"));

    let by_arn = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Athumb";
    let changed = node
        .json("PUT", &format!("{by_arn}/configuration"), json!({ "Timeout": 30, "MemorySize": 256 }))
        .await
        .unwrap();
    assert_eq!((&changed["Timeout"], &changed["MemorySize"]), (&json!(30), &json!(256)));
    assert_eq!(changed["Environment"]["Variables"]["TABLE"], "photos");
    assert_ne!(changed["RevisionId"], made["RevisionId"]);
    let stale = json!({ "Timeout": 31, "RevisionId": made["RevisionId"] });
    let stale = node.json("PUT", &format!("{F}/thumb/configuration"), stale).await.unwrap_err();
    assert_eq!((stale.status, stale.code.as_ref()), (412, "PreconditionFailedException"));

    node.json("DELETE", &format!("{F}/thumb"), Value::Null).await.unwrap();
    let gone = node.json("GET", &format!("{F}/thumb"), Value::Null).await.unwrap_err();
    assert_eq!((gone.status, gone.code.as_ref()), (404, "ResourceNotFoundException"));
    assert_eq!(gone.message, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:thumb");
    assert!(gone.capital_message);
}

#[tokio::test]
async fn what_is_wrong_or_not_offered_is_refused_by_name() {
    let node = Node::start(Config::default()).await;
    for (member, value, word) in [
        ("Timeout", json!(901), "timeout"),
        ("MemorySize", json!(64), "memorySize"),
        ("Role", json!("arn:aws:iam::000000000000:role/missing"), "cannot be assumed by Lambda"),
        ("Role", json!("thumb"), "role"),
        ("Runtime", json!("python2.7"), "python2.7"),
        ("Code", json!({ "ZipFile": STANDARD.encode("not a zip") }), "Could not unzip uploaded file."),
        ("Code", json!({ "S3Bucket": "b", "S3Key": "no" }), "NoSuchKey"),
        ("Code", json!({ "ImageUri": "x" }), "ImageUri"),
        ("ImageConfig", json!({ "Command": ["x"] }), "package type Image"),
        ("Layers", json!(["arn:aws:lambda:us-east-1:000000000000:layer:x:1"]), "layer:x:1 does not exist"),
        ("Layers", json!(["arn:aws:lambda:us-east-1:000000000001:layer:x:1"]), "layer:x:1 does not exist"),
        ("Layers", json!(["arn:aws:lambda:us-east-2:000000000000:layer:x:1"]), "not of this region"),
        ("Layers", json!(["x"]), "layers"),
        ("Environment", json!({ "Variables": { "HAWKER_REUSE": "x" } }), "HAWKER_REUSE sets nothing"),
        ("VpcConfig", json!({ "SubnetIds": ["subnet-1"] }), "VpcConfig"),
        ("DeadLetterConfig", json!({ "TargetArn": "arn:aws:sns:us-east-1:000000000000:t" }), "no topics"),
        ("SnapStart", json!({ "ApplyOn": "PublishedVersions" }), "SnapStart"),
        ("PackageType", json!("Image"), "PackageType is Image"),
        ("PackageType", json!("Jar"), "packageType"),
        ("Nonsense", json!(1), "Nonsense"),
        ("Environment", json!({ "Variables": { "AWS_REGION": "x" } }), "AWS_REGION"),
        ("LoggingConfig", json!({ "LogFormat": "XML" }), "logFormat"),
        ("LoggingConfig", json!({ "SystemLogLevel": "DEBUG" }), "not applicable for the Text log format"),
    ] {
        let mut input = creation("f");
        input[member] = value;
        let error = node.json("POST", F, input).await.unwrap_err();
        // Values outside of the service's model have an error of their own.
        let code = if error.message.starts_with("1 validation error detected: ") {
            "ValidationException"
        } else {
            "InvalidParameterValueException"
        };
        assert_eq!((error.status, error.code.as_ref()), (400, code), "{member}");
        assert!(error.message.contains(word), "{member}: {}", error.message);
    }
    let elsewhere = node.json("GET", "/2015-03-31/nothing", Value::Null).await.unwrap_err();
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn packages_come_from_a_bucket_and_are_shared_until_the_last_user_is_gone() {
    let node = Node::start(Config::default()).await;
    let package = zip("print('from a bucket')");
    node.wires.objects.lock().unwrap().insert("/deploy/a%20b.zip".into(), package.clone().into());
    node.runtime.set("one", echo());
    for name in ["one", "two"] {
        let mut input = creation(name);
        input["Code"] = json!({ "S3Bucket": "deploy", "S3Key": "a b.zip" });
        node.json("POST", F, input).await.unwrap();
    }
    let rows = |table| {
        let start = KeyWriter::new(AccountId::DEFAULT, table).finish();
        let end = store::key::prefix_end(&start);
        node.store.scan(Range { start, end, limit: 10, limit_bytes: 1 << 20, reverse: false })
    };
    assert_eq!(rows(store::tables::FUNCTION_CODE).await.unwrap().entries.len(), 1);
    assert_eq!(rows(store::tables::FUNCTION_CODE_UNUSED).await.unwrap().entries.len(), 0);

    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    assert_eq!(settings["AccountUsage"]["FunctionCount"], 2);
    assert_eq!(settings["AccountUsage"]["TotalCodeSize"], 2 * package.len());

    let update = json!({ "ZipFile": STANDARD.encode(zip("print('new')")) });
    let dry = json!({ "ZipFile": STANDARD.encode(zip("print('new')")), "DryRun": true });
    let before = node.json("GET", &format!("{F}/one/configuration"), Value::Null).await.unwrap();
    let tried = node.json("PUT", &format!("{F}/one/code"), dry).await.unwrap();
    assert_ne!(tried["CodeSha256"], before["CodeSha256"]);
    let after = node.json("GET", &format!("{F}/one/configuration"), Value::Null).await.unwrap();
    assert_eq!(after["CodeSha256"], before["CodeSha256"]);

    let updated = node.json("PUT", &format!("{F}/one/code"), update.clone()).await.unwrap();
    assert_eq!(updated["CodeSha256"], tried["CodeSha256"]);
    node.json("PUT", &format!("{F}/one/code"), update).await.unwrap();
    assert_eq!(rows(store::tables::FUNCTION_CODE).await.unwrap().entries.len(), 2);
    for name in ["one", "two"] {
        node.json("DELETE", &format!("{F}/{name}"), Value::Null).await.unwrap();
    }
    assert_eq!(rows(store::tables::FUNCTION_CODE).await.unwrap().entries.len(), 0);
    // Both blobs are named until they are removed.
    assert_eq!(rows(store::tables::FUNCTION_CODE_UNUSED).await.unwrap().entries.len(), 2);
    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    assert_eq!(settings["AccountUsage"], json!({ "TotalCodeSize": 0, "FunctionCount": 0 }));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let node = Node::start(Config::default()).await;
    for name in ["a", "b", "c"] {
        node.deploy(name, echo()).await;
    }
    let mut names = Vec::new();
    let mut path = format!("{F}?MaxItems=2");
    loop {
        let page = node.json("GET", &path, Value::Null).await.unwrap();
        names.extend(page["Functions"].as_array().unwrap().iter().map(|f| f["FunctionName"].clone()));
        match page["NextMarker"].as_str() {
            Some(marker) => path = format!("{F}?MaxItems=2&Marker={marker}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn what_belongs_to_a_function_comes_in_pages() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", echo()).await;
    node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    for alias in ["a", "b"] {
        let alias = json!({ "Name": alias, "FunctionVersion": "1" });
        node.json("POST", &format!("{F}/f/aliases"), alias).await.unwrap();
    }
    for qualifier in ["$LATEST", "a", "b"] {
        let alias = if qualifier == "$LATEST" { String::new() } else { format!("?Qualifier={qualifier}") };
        let url = format!("/2021-10-31/functions/f/url{alias}");
        node.json("POST", &url, json!({ "AuthType": "NONE" })).await.unwrap();
        let events = format!("/2019-09-25/functions/f/event-invoke-config?Qualifier={qualifier}");
        node.json("PUT", &events, json!({ "MaximumRetryAttempts": 1 })).await.unwrap();
        if qualifier != "$LATEST" {
            let kept = format!("/2019-09-30/functions/f/provisioned-concurrency?Qualifier={qualifier}");
            let one = json!({ "ProvisionedConcurrentExecutions": 1 });
            node.json("PUT", &kept, one).await.unwrap();
        }
    }
    let f = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let qualified = |names: &[&str]| names.iter().map(|name| format!("{f}:{name}")).collect::<Vec<_>>();
    let lists = [
        (
            "/2021-10-31/functions/f/urls?",
            "FunctionUrlConfigs",
            [vec![f.to_owned()], qualified(&["a", "b"])].concat(),
        ),
        (
            "/2019-09-25/functions/f/event-invoke-config/list?",
            "FunctionEventInvokeConfigs",
            qualified(&["$LATEST", "a", "b"]),
        ),
        (
            "/2019-09-30/functions/f/provisioned-concurrency?List=ALL&",
            "ProvisionedConcurrencyConfigs",
            qualified(&["a", "b"]),
        ),
    ];
    for (path, member, expected) in lists {
        let (mut found, mut marker) = (Vec::new(), String::new());
        loop {
            let page = node.json("GET", &format!("{path}MaxItems=1{marker}"), Value::Null).await.unwrap();
            let items = page[member].as_array().unwrap();
            assert!(items.len() <= 1, "{page}");
            found.extend(items.iter().map(|item| item["FunctionArn"].as_str().unwrap().to_owned()));
            match page["NextMarker"].as_str() {
                Some(next) => marker = format!("&Marker={next}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "{member}");
    }
}

#[tokio::test]
async fn permissions_tags_and_event_configurations() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", echo()).await;
    let permission = json!({
        "StatementId": "s3",
        "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
        "SourceArn": "arn:aws:s3:::photos",
        "SourceAccount": "000000000000",
    });
    let added = node.json("POST", &format!("{F}/f/policy"), permission.clone()).await.unwrap();
    let statement: Value = serde_json::from_str(added["Statement"].as_str().unwrap()).unwrap();
    assert_eq!(statement["Principal"], json!({ "Service": "s3.amazonaws.com" }));
    let twice = node.json("POST", &format!("{F}/f/policy"), permission).await.unwrap_err();
    assert_eq!(twice.status, 409);
    let policy = node.json("GET", &format!("{F}/f/policy"), Value::Null).await.unwrap();
    let policy: Value = serde_json::from_str(policy["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["Statement"], json!([statement]));
    node.json("DELETE", &format!("{F}/f/policy/s3"), Value::Null).await.unwrap();
    let none = node.json("GET", &format!("{F}/f/policy"), Value::Null).await.unwrap_err();
    assert_eq!(none.status, 404);

    let tags = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f";
    node.json("POST", tags, json!({ "Tags": { "a": "1", "b": "2", "c": "3" } })).await.unwrap();
    node.json("DELETE", &format!("{tags}?tagKeys=a&tagKeys=b"), Value::Null).await.unwrap();
    assert_eq!(node.json("GET", tags, Value::Null).await.unwrap()["Tags"], json!({ "c": "3" }));

    let config = "/2019-09-25/functions/f/event-invoke-config";
    assert_eq!(node.json("GET", config, Value::Null).await.unwrap_err().status, 404);
    let put = json!({
        "MaximumRetryAttempts": 0,
        "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:s3:::failures" } },
    });
    node.json("PUT", config, put).await.unwrap();
    let merged = node.json("POST", config, json!({ "MaximumEventAgeInSeconds": 60 })).await.unwrap();
    assert_eq!(merged["MaximumRetryAttempts"], 0);
    assert_eq!(merged["DestinationConfig"]["OnFailure"]["Destination"], "arn:aws:s3:::failures");
    for (refused, word) in [
        (json!({ "DestinationConfig": { "OnSuccess": { "Destination": "arn:aws:s3:::b" } } }), "OnFailure"),
        (
            json!({ "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:sqs:us-east-1:000000000000:q" } } }),
            "sqs",
        ),
        (json!({ "MaximumRetryAttempts": 3 }), "maximumRetryAttempts"),
    ] {
        let error = node.json("PUT", config, refused).await.unwrap_err();
        assert!(error.status == 400 && error.message.contains(word), "{error}");
    }
    let listed = node.json("GET", &format!("{config}/list"), Value::Null).await.unwrap();
    assert_eq!(listed["FunctionEventInvokeConfigs"].as_array().unwrap().len(), 1);
    node.json("DELETE", config, Value::Null).await.unwrap();

    let concurrency = "/2017-10-31/functions/f/concurrency";
    let reserve = |n: i64| json!({ "ReservedConcurrentExecutions": n });
    assert_eq!(node.json("PUT", concurrency, reserve(901)).await.unwrap_err().status, 400);
    node.json("PUT", concurrency, reserve(900)).await.unwrap();
    let got = node.json("GET", "/2019-09-30/functions/f/concurrency", Value::Null).await.unwrap();
    assert_eq!(got, reserve(900));
    node.json("DELETE", concurrency, Value::Null).await.unwrap();
}

#[tokio::test]
async fn invoke_over_the_wire() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", echo()).await;
    let path = format!("{F}/f/invocations");
    let (head, body) = node.api("POST", &path, &[("x-amz-log-type", "Tail")], r#"{"a":1}"#).await.unwrap();
    assert_eq!((head.status.as_u16(), &body[..]), (200, &br#"{"a":1}"#[..]));
    assert_eq!(head.headers["x-amz-executed-version"], "$LATEST");
    let tail = String::from_utf8(STANDARD.decode(&head.headers["x-amz-log-result"]).unwrap()).unwrap();
    let lines: Vec<_> = tail.lines().collect();
    assert!(lines[0].starts_with("START RequestId: ") && lines[0].ends_with("Version: $LATEST"), "{tail}");
    assert_eq!(lines[1], "a line of its own");
    assert!(lines[2].starts_with("END RequestId: "), "{tail}");
    assert!(lines[3].contains("\tDuration: 1.50 ms\tBilled Duration: 9 ms\tMemory Size: 128 MB\t"), "{tail}");
    assert!(lines[3].ends_with("Max Memory Used: 40 MB\tInit Duration: 7.00 ms\t"), "{tail}");

    let (_, body) = node.api("POST", &path, &[], "").await.unwrap();
    assert_eq!(&body[..], b"{}");
    let (head, _) = node.api("POST", &path, &[("x-amz-invocation-type", "DryRun")], "{}").await.unwrap();
    assert_eq!(head.status.as_u16(), 204);
    let (head, _) = node.api("POST", &path, &[("x-amz-invocation-type", "Event")], "{}").await.unwrap();
    assert_eq!(head.status.as_u16(), 202);
    let start = KeyWriter::new(AccountId::DEFAULT, store::tables::OUTBOX).finish();
    let end = store::key::prefix_end(&start);
    let range = Range { start, end, limit: 10, limit_bytes: 1 << 20, reverse: false };
    assert_eq!(node.store.scan(range).await.unwrap().entries.len(), 1);

    let bad = node.api("POST", &path, &[], "{").await.unwrap_err();
    assert_eq!((bad.status, bad.code.as_ref()), (400, "InvalidRequestContentException"));
    let big = format!("\"{}\"", "x".repeat(1_048_575));
    let big = node.api("POST", &path, &[("x-amz-invocation-type", "Event")], big).await.unwrap_err();
    assert_eq!((big.status, big.code.as_ref()), (413, "RequestTooLargeException"));
    let other = node.api("POST", &format!("{F}/f:live/invocations"), &[], "{}").await.unwrap_err();
    assert_eq!((other.status, other.code.as_ref()), (404, "ResourceNotFoundException"));
    let none = node.api("POST", &format!("{F}/g/invocations"), &[], "{}").await.unwrap_err();
    assert_eq!(none.status, 404);
}
