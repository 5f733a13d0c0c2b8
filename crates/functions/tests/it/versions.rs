//! Versions, aliases, layers and what is kept ready.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use functions::Config;
use serde_json::{Value, json};

use crate::support::{Node, handler, zip};

const F: &str = "/2015-03-31/functions";
const LAYERS: &str = "/2018-10-31/layers";

/// Answers with the version that runs, as its own start was told.
fn telling() -> crate::support::Handler {
    handler(|request, _| async move { Ok(json!(request.invoked_function_arn)) })
}

async fn executed(node: &Node, path: &str) -> Result<String, aws::Error> {
    let (head, _) = node.api("POST", path, &[], "{}").await?;
    Ok(head.headers["x-amz-executed-version"].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_version_stays_as_it_was() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", telling()).await;
    let one = node.json("POST", &format!("{F}/f/versions"), json!({ "Description": "first" })).await.unwrap();
    assert_eq!((&one["Version"], &one["Description"]), (&json!("1"), &json!("first")));
    assert!(one["FunctionArn"].as_str().unwrap().ends_with(":function:f:1"));
    let same = node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    assert_eq!(same["Version"], "1", "nothing has changed");

    node.json("PUT", &format!("{F}/f/configuration"), json!({ "Timeout": 9 })).await.unwrap();
    let code = json!({ "ZipFile": STANDARD.encode(zip("print('two')")), "Publish": true });
    let two = node.json("PUT", &format!("{F}/f/code"), code).await.unwrap();
    assert_eq!((&two["Version"], &two["Timeout"]), (&json!("2"), &json!(9)));
    let first = node.json("GET", &format!("{F}/f?Qualifier=1"), Value::Null).await.unwrap();
    assert_eq!(
        (&first["Configuration"]["Timeout"], &first["Configuration"]["CodeSha256"]),
        (&json!(3), &one["CodeSha256"])
    );
    let location = first["Code"]["Location"].as_str().unwrap().strip_prefix("http://127.0.0.1:4566").unwrap();
    assert_eq!(node.api("GET", location, &[], "").await.unwrap().1, zip("print('hello')"));

    let listed = node.json("GET", &format!("{F}/f/versions?MaxItems=2"), Value::Null).await.unwrap();
    let numbers = |listed: &Value| {
        let versions = listed["Versions"].as_array().unwrap();
        versions.iter().map(|version| version["Version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&listed), ["$LATEST", "1"]);
    let next = listed["NextMarker"].as_str().unwrap();
    let listed = node.json("GET", &format!("{F}/f/versions?Marker={next}"), Value::Null).await.unwrap();
    assert_eq!((numbers(&listed), &listed["NextMarker"]), (vec!["2".to_owned()], &Value::Null));

    assert_eq!(executed(&node, &format!("{F}/f/invocations?Qualifier=1")).await.unwrap(), "1");
    assert_eq!(executed(&node, &format!("{F}/f:2/invocations")).await.unwrap(), "2");
    assert_eq!(executed(&node, &format!("{F}/f/invocations")).await.unwrap(), "$LATEST");
    let missing = executed(&node, &format!("{F}/f:7/invocations")).await.unwrap_err();
    assert_eq!((missing.status, missing.code.as_ref()), (404, "ResourceNotFoundException"));

    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    let stored = settings["AccountUsage"]["TotalCodeSize"].as_u64().unwrap();
    node.json("DELETE", &format!("{F}/f?Qualifier=1"), Value::Null).await.unwrap();
    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    assert!(settings["AccountUsage"]["TotalCodeSize"].as_u64().unwrap() < stored);
    assert_eq!(executed(&node, &format!("{F}/f:1/invocations")).await.unwrap_err().status, 404);
    let three = node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    assert_eq!(three["Version"], "2", "a number that was used is not used again, and nothing has changed");

    node.json("DELETE", &format!("{F}/f"), Value::Null).await.unwrap();
    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    assert_eq!(settings["AccountUsage"], json!({ "TotalCodeSize": 0, "FunctionCount": 0 }));
}

#[tokio::test]
async fn an_alias_leads_to_versions_by_weight() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", telling()).await;
    for timeout in [4, 5] {
        node.json("PUT", &format!("{F}/f/configuration"), json!({ "Timeout": timeout })).await.unwrap();
        node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    }
    let create = json!({ "Name": "live", "FunctionVersion": "1" });
    let made = node.json("POST", &format!("{F}/f/aliases"), create.clone()).await.unwrap();
    assert!(made["AliasArn"].as_str().unwrap().ends_with(":function:f:live"));
    let again = node.json("POST", &format!("{F}/f/aliases"), create).await.unwrap_err();
    assert_eq!((again.status, again.code.as_ref()), (409, "ResourceConflictException"));
    assert_eq!(
        node.invoke("f", json!({})).await.unwrap(),
        "arn:aws:lambda:us-east-1:000000000000:function:f"
    );
    let path = format!("{F}/f/invocations?Qualifier=live");
    let (_, told) = node.api("POST", &path, &[], "{}").await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("function:f:live"));

    let shift = json!({ "RoutingConfig": { "AdditionalVersionWeights": { "2": 0.5 } } });
    let shifted = node.json("PUT", &format!("{F}/f/aliases/live"), shift).await.unwrap();
    assert_eq!(shifted["RoutingConfig"]["AdditionalVersionWeights"]["2"], 0.5);
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..60 {
        *counts.entry(executed(&node, &path).await.unwrap()).or_default() += 1;
    }
    // One chance in 10^17 that one of two even ones never comes.
    assert_eq!(counts.len(), 2, "{counts:?}");
    for (routing, word) in [
        (json!({ "2": 0.1, "3": 0.1 }), "cannot be greater than 1"),
        (json!({ "2": 1.5 }), "between 0.0 and 1.0"),
        (json!({ "1": 0.5 }), "already included"),
        (json!({ "9": 0.5 }), "Function not found"),
        (json!({ "$LATEST": 0.5 }), "not supported for an alias"),
    ] {
        let input = json!({ "RoutingConfig": { "AdditionalVersionWeights": routing } });
        let error = node.json("PUT", &format!("{F}/f/aliases/live"), input).await.unwrap_err();
        assert!(error.message.contains(word), "{word}: {}", error.message);
    }
    let held = node.json("DELETE", &format!("{F}/f?Qualifier=1"), Value::Null).await.unwrap_err();
    assert_eq!(held.status, 409, "an alias leads to it");

    // All at once, and nobody sees anything else any more.
    let back = json!({ "FunctionVersion": "2", "RoutingConfig": { "AdditionalVersionWeights": {} } });
    node.json("PUT", &format!("{F}/f/aliases/live"), back).await.unwrap();
    for _ in 0..5 {
        assert_eq!(executed(&node, &path).await.unwrap(), "2");
    }
    let listed = node.json("GET", &format!("{F}/f/aliases?FunctionVersion=2"), Value::Null).await.unwrap();
    assert_eq!(listed["Aliases"][0]["Name"], "live");
    node.json("DELETE", &format!("{F}/f/aliases/live"), Value::Null).await.unwrap();
    assert_eq!(executed(&node, &path).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn versions_share_the_functions_reservation() {
    let node = std::sync::Arc::new(Node::start(Config { queue_timeout_ms: 50, ..Config::default() }).await);
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let held = gate.clone();
    let waits = handler(move |_, _| {
        let held = held.clone();
        async move {
            held.acquire().await.unwrap().forget();
            Ok(json!(null))
        }
    });
    node.deploy("f", waits).await;
    node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    let reserve = json!({ "ReservedConcurrentExecutions": 1 });
    node.json("PUT", "/2017-10-31/functions/f/concurrency", reserve).await.unwrap();
    let first = {
        let node = node.clone();
        tokio::spawn(async move { executed(&node, &format!("{F}/f:1/invocations")).await })
    };
    crate::support::until(|| node.runtime.live.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = executed(&node, &format!("{F}/f/invocations")).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref()), (429, "TooManyRequestsException"));
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), "1");
    assert_eq!(executed(&node, &format!("{F}/f/invocations")).await.unwrap(), "$LATEST");
}

#[tokio::test]
async fn layers_are_numbered_and_outlive_their_deletion_where_they_are_used() {
    let node = Node::start(Config::default()).await;
    let layer = |text: &str| json!({ "Content": { "ZipFile": STANDARD.encode(zip(text)) }, "CompatibleRuntimes": ["python3.12"] });
    let path = format!("{LAYERS}/shared/versions");
    let one = node.json("POST", &path, layer("one")).await.unwrap();
    let two = node.json("POST", &path, layer("two")).await.unwrap();
    assert_eq!((&one["Version"], &two["Version"]), (&json!(1), &json!(2)));
    let arn = one["LayerVersionArn"].as_str().unwrap().to_owned();
    let by_arn = format!("{LAYERS}?find=LayerVersion&Arn={}", arn.replace(':', "%3A"));
    assert_eq!(node.json("GET", &by_arn, Value::Null).await.unwrap()["Version"], 1);
    let listed = node.json("GET", LAYERS, Value::Null).await.unwrap();
    assert_eq!(listed["Layers"][0]["LatestMatchingVersion"]["Version"], 2);

    let made = node.deploy_with("f", telling(), json!({ "Layers": [arn] })).await.unwrap();
    assert_eq!(made["Layers"][0]["Arn"], arn);
    node.invoke("f", json!({})).await.unwrap();
    assert_eq!(node.runtime.requests.lock().unwrap()[0].layers.len(), 1);
    node.json("DELETE", &format!("{path}/1"), Value::Null).await.unwrap();
    assert_eq!(node.json("GET", &format!("{path}/1"), Value::Null).await.unwrap_err().status, 404);
    // It is gone for others, not for the function that has it.
    let other = node.deploy_with("g", telling(), json!({ "Layers": [arn] })).await.unwrap_err();
    assert!(other.message.contains("does not exist"));
    let same = json!({ "Layers": [arn], "Timeout": 8 });
    node.json("PUT", &format!("{F}/f/configuration"), same).await.unwrap();
    node.invoke("f", json!({})).await.unwrap();
    let without = node.json("PUT", &format!("{F}/f/configuration"), json!({ "Layers": [] })).await.unwrap();
    assert_eq!(without["Layers"], Value::Null);
    let three = node.json("POST", &path, layer("three")).await.unwrap();
    assert_eq!(three["Version"], 3);
}

#[tokio::test]
async fn provisioned_instances_are_there_before_a_request() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", telling()).await;
    node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    let path = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1";
    let none = node.json("GET", path, Value::Null).await.unwrap_err();
    assert_eq!(none.code.as_ref(), "ProvisionedConcurrencyConfigNotFoundException");
    let wanted = json!({ "ProvisionedConcurrentExecutions": 3 });
    let latest = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=%24LATEST";
    assert!(node.json("PUT", latest, wanted.clone()).await.unwrap_err().message.contains("unpublished"));
    node.json("PUT", path, wanted).await.unwrap();
    loop {
        let got = node.json("GET", path, Value::Null).await.unwrap();
        if got["Status"] == "READY" {
            assert_eq!(got["AvailableProvisionedConcurrentExecutions"], 3);
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let started = node.runtime.started.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(started, 3);
    assert_eq!(executed(&node, &format!("{F}/f:1/invocations")).await.unwrap(), "1");
    assert_eq!(node.runtime.started.load(std::sync::atomic::Ordering::SeqCst), started);
    let requests = node.runtime.requests.lock().unwrap();
    assert!(requests.iter().all(|start| start.initialization.as_str() == "provisioned-concurrency"));
}
