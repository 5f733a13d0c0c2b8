//! What the API refuses, in the words of AWS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use functions::Config;
use serde_json::{Value, json};

use crate::support::{Node, handler, zip, zip_of};

const F: &str = "/2015-03-31/functions";
const LAYERS: &str = "/2018-10-31/layers";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";
const PARAMETER: &str = "InvalidParameterValueException";
const VALIDATION: &str = "ValidationException";

/// A node with the function `f`, its version 1, and the aliases `live` of that and `latest` of `$LATEST`.
async fn node() -> Node {
    let node = Node::start(Config::default()).await;
    node.deploy("f", handler(|_, _| async move { Ok(json!(null)) })).await;
    node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    for (name, version) in [("live", "1"), ("latest", "$LATEST")] {
        let alias = json!({ "Name": name, "FunctionVersion": version });
        node.json("POST", &format!("{F}/f/aliases"), alias).await.unwrap();
    }
    node
}

async fn refused(node: &Node, method: &str, path: &str, body: Value, code: &str, words: &str) {
    let error = node.json(method, path, body.clone()).await.unwrap_err();
    assert_eq!(error.code.as_ref(), code, "{method} {path} {body}: {}", error.message);
    assert!(error.message.contains(words), "{method} {path} {body}: {}", error.message);
    assert!(!error.message.contains(" at line "), "{}", error.message);
}

#[tokio::test]
async fn reserved_concurrency_is_of_functions_alone() {
    let node = node().await;
    let words = "This operation is permitted on Lambda functions only. Aliases and versions do not support this \
                 operation. Please specify either a function name or an unqualified function ARN.";
    for name in ["f:1".to_owned(), "f:live".to_owned(), format!("{ARN}:f:$LATEST")] {
        let put = format!("/2017-10-31/functions/{name}/concurrency");
        let get = format!("/2019-09-30/functions/{name}/concurrency");
        let one = json!({ "ReservedConcurrentExecutions": 1 });
        refused(&node, "PUT", &put, one, PARAMETER, words).await;
        refused(&node, "DELETE", &put, Value::Null, PARAMETER, words).await;
        refused(&node, "GET", &get, Value::Null, PARAMETER, words).await;
    }
}

#[tokio::test]
async fn provisioned_concurrency_is_of_published_versions_once() {
    let node = node().await;
    let at =
        |qualifier: &str| format!("/2019-09-30/functions/f/provisioned-concurrency?Qualifier={qualifier}");
    let two = || json!({ "ProvisionedConcurrentExecutions": 2 });
    let words = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    refused(&node, "PUT", &at("latest"), two(), PARAMETER, words).await;
    node.json("PUT", &at("1"), two()).await.unwrap();
    let words =
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    refused(&node, "PUT", &at("live"), two(), "ResourceConflictException", words).await;

    let concurrency = "/2017-10-31/functions/f/concurrency";
    let reserve = |n: u32| json!({ "ReservedConcurrentExecutions": n });
    let words = "ReservedConcurrentExecutions 1 should not be lower than function's total provisioned concurrency [2].";
    refused(&node, "PUT", concurrency, reserve(1), PARAMETER, words).await;
    node.json("PUT", concurrency, reserve(2)).await.unwrap();

    node.json("DELETE", &at("1"), Value::Null).await.unwrap();
    node.json("PUT", &at("live"), two()).await.unwrap();
    node.json("PUT", &at("live"), two()).await.unwrap();
    let words = "Version is pointed by a Provisioned Concurrency alias";
    refused(&node, "PUT", &at("1"), two(), "ResourceConflictException", words).await;
    refused(&node, "GET", &at("a.b"), Value::Null, VALIDATION, "'a.b' at 'qualifier'").await;
}

#[tokio::test]
async fn event_configurations_say_something_that_can_be_done() {
    let node = node().await;
    let path = "/2019-09-25/functions/f/event-invoke-config";
    let to = |arn: String| json!({ "DestinationConfig": { "OnSuccess": { "Destination": arn } } });
    node.json("PUT", path, json!({ "MaximumRetryAttempts": 1 })).await.unwrap();
    for method in ["PUT", "POST"] {
        let words = "You must specify at least one of error handling or destination setting.";
        refused(&node, method, path, json!({}), PARAMETER, words).await;
        let words = "You can't specify the function as a destination for itself.";
        refused(&node, method, path, to(format!("{ARN}:f")), PARAMETER, words).await;
        refused(&node, method, path, to(format!("{ARN}:f:live")), PARAMETER, words).await;
        let words = format!("The destination ARN {ARN}:none is invalid.");
        refused(&node, method, path, to(format!("{ARN}:none")), PARAMETER, &words).await;
    }
    node.deploy("g", handler(|_, _| async move { Ok(json!(null)) })).await;
    node.json("PUT", path, to(format!("{ARN}:g"))).await.unwrap();
}

#[tokio::test]
async fn permissions_name_principals_and_sources_that_can_be() {
    let node = node().await;
    let path = format!("{F}/f/policy");
    let permission = |sid: &str, member: &str, value: &str| {
        let mut input = json!({
            "StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com",
        });
        input[member] = json!(value);
        input
    };
    let words = "The provided principal was invalid. Please check the principal and try again.";
    for principal in [
        "s3",
        ".amazonaws.com",
        "12345",
        "arn:aws:iam::000000000000:group/g",
        "arn:aws:iam::000000000000:role/",
        "arn:aws:s3:::photos",
    ] {
        refused(&node, "POST", &path, permission("s", "Principal", principal), PARAMETER, words).await;
    }
    for (i, principal) in [
        "*",
        "000000000001",
        "arn:aws:iam::000000000001:root",
        "arn:aws:iam::000000000001:role/path/r",
        "arn:aws:iam::000000000001:user/u",
        "logs.us-east-1.amazonaws.com",
        "alexa-appkit.amazon.com",
    ]
    .into_iter()
    .enumerate()
    {
        node.json("POST", &path, permission(&format!("s{i}"), "Principal", principal)).await.unwrap();
    }
    let source = permission("s", "SourceArn", "photos");
    refused(&node, "POST", &path, source, VALIDATION, "Value 'photos' at 'sourceArn'").await;
    let words = "We currently do not support adding policies for $LATEST.";
    let latest = format!("{path}?Qualifier=$LATEST");
    refused(&node, "POST", &latest, permission("s", "SourceArn", "arn:aws:s3:::b"), PARAMETER, words).await;
}

#[tokio::test]
async fn qualifiers_and_sets_are_those_of_the_model() {
    let node = node().await;
    let url = "/2021-10-31/functions/f/url?Qualifier=$LATEST";
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let words = "Value '$LATEST' at 'qualifier' failed to satisfy constraint: Member must satisfy regular \
                     expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)";
        refused(&node, method, url, json!({ "AuthType": "NONE" }), VALIDATION, words).await;
        let named = "/2021-10-31/functions/f:1/url";
        let words = "Value 'f:1' at 'functionName'";
        refused(&node, method, named, json!({ "AuthType": "NONE" }), VALIDATION, words).await;
    }
    for (method, path, words) in [
        ("GET", format!("{F}/f?Qualifier=a.b"), "Value 'a.b' at 'qualifier'"),
        ("GET", format!("{F}/f/aliases/12"), "Value '12' at 'name'"),
        ("GET", format!("{F}?FunctionVersion=1"), "Member must satisfy enum value set: [ALL]"),
        ("GET", format!("{F}?MaxItems=10001"), "less than or equal to 10000"),
        ("GET", format!("{LAYERS}?MaxItems=51"), "less than or equal to 50"),
        ("GET", format!("{LAYERS}?MaxItems=0"), "greater than or equal to 1"),
        ("GET", format!("{LAYERS}?CompatibleRuntime=cobol"), "Value 'cobol' at 'compatibleRuntime'"),
        (
            "GET",
            "/2019-09-25/functions/f/event-invoke-config/list?MaxItems=51".to_owned(),
            "less than or equal to 50",
        ),
    ] {
        refused(&node, method, &path, Value::Null, VALIDATION, words).await;
    }
}

#[tokio::test]
async fn the_newest_layer_version_that_matches_is_listed() {
    let node = Node::start(Config::default()).await;
    let content = STANDARD.encode(zip("one"));
    let layer = |runtime: &str, architecture: &str| {
        json!({
            "Content": { "ZipFile": content },
            "CompatibleRuntimes": [runtime],
            "CompatibleArchitectures": [architecture],
        })
    };
    let path = format!("{LAYERS}/shared/versions");
    refused(&node, "POST", &path, layer("cobol", "arm64"), VALIDATION, "at 'compatibleRuntimes'").await;
    refused(&node, "POST", &path, layer("python3.12", "vax"), VALIDATION, "at 'compatibleArchitectures'")
        .await;
    node.json("POST", &path, layer("python3.12", "x86_64")).await.unwrap();
    node.json("POST", &path, layer("nodejs22.x", "arm64")).await.unwrap();
    // More than are looked at in one read.
    for _ in 0..40 {
        node.json("POST", &path, layer("ruby3.4", "arm64")).await.unwrap();
    }
    for (query, version) in [
        ("", 42),
        ("?CompatibleRuntime=ruby3.4", 42),
        ("?CompatibleRuntime=nodejs22.x", 2),
        ("?CompatibleRuntime=python3.12", 1),
        ("?CompatibleArchitecture=x86_64", 1),
        ("?CompatibleArchitecture=arm64&CompatibleRuntime=nodejs22.x", 2),
    ] {
        let listed = node.json("GET", &format!("{LAYERS}{query}"), Value::Null).await.unwrap();
        assert_eq!(listed["Layers"][0]["LatestMatchingVersion"]["Version"], version, "{query}");
    }
    for query in ["java21", "python3.12&CompatibleArchitecture=arm64"] {
        let none = format!("{LAYERS}?CompatibleRuntime={query}");
        assert_eq!(node.json("GET", &none, Value::Null).await.unwrap()["Layers"], json!([]), "{query}");
    }
    let versions = format!("{path}?CompatibleArchitecture=x86_64");
    let versions = node.json("GET", &versions, Value::Null).await.unwrap();
    let versions = versions["LayerVersions"].as_array().unwrap();
    assert_eq!(versions.iter().map(|one| &one["Version"]).collect::<Vec<_>>(), [&json!(1)]);
}

#[tokio::test]
async fn inputs_are_told_by_their_members() {
    let node = node().await;
    let null = |member: &str| {
        format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        )
    };
    let none = json!({ "FunctionName": "g", "Code": {} });
    refused(&node, "POST", F, none, VALIDATION, &null("role")).await;
    let both = "2 validation errors detected: Value null at 'role' failed to satisfy constraint: Member must not be null; \
                Value null at 'code' failed to satisfy constraint: Member must not be null";
    refused(&node, "POST", F, json!({ "FunctionName": "g" }), VALIDATION, both).await;
    let all = json!({ "Timeout": 0, "MemorySize": 1, "Role": "r1", "Environment": { "Variables": { "AWS_REGION": "x" } } });
    let words = "3 validation errors detected: Value 'r1' at 'role' failed";
    refused(&node, "PUT", &format!("{F}/f/configuration"), all, VALIDATION, words).await;
    let layer = json!({
        "Content": {}, "CompatibleRuntimes": ["x"], "CompatibleArchitectures": ["y"],
    });
    let words = "2 validation errors detected: Value '[x]' at 'compatibleRuntimes' failed";
    refused(&node, "POST", &format!("{LAYERS}/l/versions"), layer, VALIDATION, words).await;
    let permission = json!({ "StatementId": "a b", "Action": "x", "Principal": " " });
    let words = "3 validation errors detected: Value 'a b' at 'statementId' failed";
    refused(&node, "POST", &format!("{F}/f/policy"), permission, VALIDATION, words).await;
    let aliases = format!("{F}/f/aliases");
    refused(&node, "POST", &aliases, json!({ "Name": "x" }), VALIDATION, &null("functionVersion")).await;
    refused(&node, "POST", "/2021-10-31/functions/f/url", json!({}), VALIDATION, &null("authType")).await;
    let serialization = "SerializationException";
    refused(&node, "POST", F, json!([1]), serialization, "Start of list found where not expected").await;
    let wrong = json!({ "Timeout": "5" });
    let path = format!("{F}/f/configuration");
    refused(&node, "PUT", &path, wrong, serialization, "Unexpected value type in payload: STRING_VALUE")
        .await;
}

#[tokio::test]
async fn packages_are_refused_when_they_come() {
    let node = node().await;
    let unreadable = "Could not unzip uploaded file. Please check your file, then try to upload again.";
    for name in ["../app.py", "a/../../app.py", "/etc/app.py"] {
        let file = STANDARD.encode(zip_of(name, "x"));
        refused(&node, "PUT", &format!("{F}/f/code"), json!({ "ZipFile": file }), PARAMETER, unreadable)
            .await;
        let layer = json!({ "Content": { "ZipFile": file } });
        refused(&node, "POST", &format!("{LAYERS}/l/versions"), layer, PARAMETER, unreadable).await;
    }
    let inside = STANDARD.encode(zip_of("a/../app.py", "x"));
    node.json("PUT", &format!("{F}/f/code"), json!({ "ZipFile": inside })).await.unwrap();
}

#[tokio::test]
async fn a_policy_is_a_part_of_what_it_belongs_to() {
    let node = node().await;
    let permission = |sid: &str, revision: &Value| {
        json!({
            "StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com",
            "RevisionId": revision,
        })
    };
    let words = |api: &str| {
        format!(
            "The Revision Id provided does not match the latest Revision Id. Call the {api} API to retrieve the \
             latest Revision Id"
        )
    };
    for (qualifier, shown) in [
        ("", format!("{F}/f/configuration")),
        ("?Qualifier=1", format!("{F}/f/configuration?Qualifier=1")),
        ("?Qualifier=live", format!("{F}/f/aliases/live")),
    ] {
        let policy = format!("{F}/f/policy{qualifier}");
        let revision = async || node.json("GET", &shown, Value::Null).await.unwrap()["RevisionId"].clone();
        let first = revision().await;
        node.json("POST", &policy, permission("a", &first)).await.unwrap();
        let second = revision().await;
        assert_ne!(first, second);
        assert_eq!(node.json("GET", &policy, Value::Null).await.unwrap()["RevisionId"], second);
        let stale = permission("b", &first);
        refused(&node, "POST", &policy, stale, "PreconditionFailedException", &words("GetPolicy")).await;
        let separator = if qualifier.is_empty() { "?" } else { "&" };
        let remove = |sid: &str, revision: &Value| {
            let revision = revision.as_str().unwrap();
            format!("{F}/f/policy/{sid}{qualifier}{separator}RevisionId={revision}")
        };
        let gone = "Statement b is not found in resource policy.";
        refused(&node, "DELETE", &remove("b", &second), Value::Null, "ResourceNotFoundException", gone).await;
        let stale = words("GetFunction/GetAlias");
        let code = "PreconditionFailedException";
        refused(&node, "DELETE", &remove("a", &first), Value::Null, code, &stale).await;
        node.json("DELETE", &remove("a", &second), Value::Null).await.unwrap();
        assert_ne!(revision().await, second);
        let none = "No policy is associated with the given resource.";
        refused(&node, "DELETE", &remove("a", &second), Value::Null, "ResourceNotFoundException", none).await;
    }
}

#[tokio::test]
async fn provisioned_aliases_stay_with_what_can_be_kept_ready() {
    let node = node().await;
    node.json("PUT", &format!("{F}/f/configuration"), json!({ "Timeout": 9 })).await.unwrap();
    node.json("POST", &format!("{F}/f/versions"), json!({})).await.unwrap();
    let one = || json!({ "ProvisionedConcurrentExecutions": 1 });
    for qualifier in ["live", "2"] {
        let path = format!("/2019-09-30/functions/f/provisioned-concurrency?Qualifier={qualifier}");
        node.json("PUT", &path, one()).await.unwrap();
    }
    let alias = format!("{F}/f/aliases/live");
    let to = |version: &str| json!({ "FunctionVersion": version });
    let words = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    refused(&node, "PUT", &alias, to("$LATEST"), PARAMETER, words).await;
    let words =
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    refused(&node, "PUT", &alias, to("2"), "ResourceConflictException", words).await;
    node.json("PUT", &format!("{F}/f/aliases/latest"), to("2")).await.unwrap();
    let path = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=live";
    node.json("DELETE", path, Value::Null).await.unwrap();
    node.json("PUT", &alias, to("2")).await.unwrap();
}

#[tokio::test]
async fn principals_of_the_node_are_there() {
    let node = node().await;
    let permission = |sid: &str, principal: &str| json!({ "StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": principal });
    let path = format!("{F}/f/policy");
    let words = "The provided principal was invalid. Please check the principal and try again.";
    let missing = permission("s", "arn:aws:iam::000000000000:role/missing");
    refused(&node, "POST", &path, missing, PARAMETER, words).await;
    for (i, principal) in ["000000000000:role/there", "000000000009:role/missing"].iter().enumerate() {
        let permission = permission(&format!("s{i}"), &format!("arn:aws:iam::{principal}"));
        node.json("POST", &path, permission).await.unwrap();
    }
}

#[tokio::test]
async fn tags_are_of_arns_and_pages_begin_where_lists_say() {
    let node = node().await;
    let tags = |resource: &str| format!("/2017-03-31/tags/{resource}");
    for (method, body) in [("GET", Value::Null), ("POST", json!({ "Tags": { "a": "b" } }))] {
        refused(&node, method, &tags("f"), body.clone(), VALIDATION, "Value 'f' at 'resource' failed").await;
        let words = "Tags on function aliases and versions are not supported. Please specify a function ARN.";
        refused(&node, method, &tags(&format!("{ARN}:f:live")), body, PARAMETER, words).await;
    }
    let none = format!("{}?tagKeys=a", tags("f"));
    refused(&node, "DELETE", &none, Value::Null, VALIDATION, "Value 'f' at 'resource' failed").await;
    let null = "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be \
                null";
    refused(&node, "DELETE", &tags(&format!("{ARN}:f")), Value::Null, VALIDATION, null).await;
    let words = "An error occurred and the request cannot be processed.";
    refused(&node, "POST", &tags(&format!("{ARN}:f")), json!({ "Tags": {} }), PARAMETER, words).await;

    node.deploy("g", handler(|_, _| async move { Ok(json!(null)) })).await;
    let first = node.json("GET", &format!("{F}?MaxItems=1"), Value::Null).await.unwrap();
    let marker = first["NextMarker"].as_str().unwrap();
    let second = node.json("GET", &format!("{F}?Marker={marker}"), Value::Null).await.unwrap();
    assert_eq!(second["Functions"][0]["FunctionName"], "g");
    for list in [
        F.to_owned(),
        format!("{F}/f/versions"),
        format!("{F}/f/aliases"),
        "/2019-09-25/functions/f/event-invoke-config/list".to_owned(),
        "/2015-03-31/event-source-mappings".to_owned(),
        LAYERS.to_owned(),
        format!("{LAYERS}/l/versions"),
        "/2021-10-31/functions/f/urls".to_owned(),
        "/2019-09-30/functions/f/provisioned-concurrency?List=ALL".to_owned(),
    ] {
        let separator = if list.contains('?') { "&" } else { "?" };
        let words = "Marker is not one that was given out.";
        let mut markers = vec!["f".to_owned(), "1".to_owned(), "garbage".to_owned()];
        markers.extend((list != F).then(|| marker.to_owned()));
        for marker in markers {
            let path = format!("{list}{separator}Marker={marker}");
            refused(&node, "GET", &path, Value::Null, PARAMETER, words).await;
        }
    }
}
