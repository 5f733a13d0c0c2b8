//! Functions that wait for their image: what they and their versions are meanwhile, and what is left when they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use functions::Config;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::Range;
use store::key::KeyWriter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::AccountId;

use crate::support::{Node, handler};

const F: &str = "/2015-03-31/functions";

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A registry of one image, whose layer comes when it is let.
struct Registry {
    host: String,
    digest: String,
    layers_asked: Arc<AtomicUsize>,
    gate: watch::Sender<bool>,
}

impl Registry {
    async fn start(flavour: &str) -> Self {
        let layer = flavour.repeat(100_000).into_bytes();
        let config = json!({"os": "linux", "flavour": flavour}).to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "config": part("config.v1+json", &config),
            "layers": [part("layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = digest_of(&manifest);
        let answers: Arc<Vec<(String, Vec<u8>)>> = Arc::new(vec![
            ("/v2/app/manifests/1".to_owned(), manifest.clone()),
            (format!("/v2/app/manifests/{digest}"), manifest),
            (format!("/v2/app/blobs/{}", digest_of(&config)), config),
            (format!("/v2/app/blobs/{}", digest_of(&layer)), layer),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (gate, opened) = watch::channel(false);
        let layers_asked = Arc::new(AtomicUsize::new(0));
        let asked = layers_asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, asked, mut opened) = (answers.clone(), asked.clone(), opened.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                    let found = answers.iter().position(|(known, _)| *known == path);
                    if found == Some(3) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        opened.wait_for(|open| *open).await.unwrap();
                    }
                    let (status, body) = match found {
                        Some(at) => ("200 OK", answers[at].1.as_slice()),
                        None => ("404 Not Found", &[][..]),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    // Who asks may have gone away.
                    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
                });
            }
        });
        Self { host, digest, layers_asked, gate }
    }

    fn config(&self) -> Config {
        Config { registries: vec![self.host.parse().unwrap()], ..Config::default() }
    }

    fn creation(&self, name: &str) -> Value {
        json!({
            "FunctionName": name,
            "PackageType": "Image",
            "Role": "arn:aws:iam::000000000000:role/thumb",
            "Code": {"ImageUri": format!("{}/app:1", self.host)},
        })
    }
}

async fn rows(node: &Node, table: store::TableId) -> usize {
    let start = KeyWriter::new(AccountId::DEFAULT, table).finish();
    let end = store::key::prefix_end(&start);
    let range = Range { start, end, limit: 10, limit_bytes: 1 << 20, reverse: false };
    node.store.scan(range).await.unwrap().entries.len()
}

async fn until_rows(node: &Node, table: store::TableId, wanted: usize) {
    while rows(node, table).await != wanted {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_function_is_pending_until_its_image_is_there() {
    let registry = Registry::start("tin").await;
    let node = Node::start(registry.config()).await;
    // Functions from images have no handler: that is the name of the closure too.
    node.runtime.set("", handler(|_, _| async { Ok(json!("ran")) }));
    let mut creation = registry.creation("f");
    creation["Publish"] = json!(true);
    let made = node.json("POST", F, creation).await.unwrap();
    assert_eq!((&made["State"], &made["Version"]), (&json!("Pending"), &json!("1")));
    assert_eq!(made["LastUpdateStatus"], Value::Null);
    for call in [
        ("POST", format!("{F}/f/invocations"), json!({})),
        ("POST", format!("{F}/f:1/invocations"), json!({})),
        ("PUT", format!("{F}/f/configuration"), json!({"Timeout": 9})),
        ("PUT", format!("{F}/f/code"), json!({"ImageUri": format!("{}/app:1", registry.host)})),
        ("POST", format!("{F}/f/versions"), json!({})),
    ] {
        let error = node.json(call.0, &call.1, call.2).await.unwrap_err();
        assert_eq!((error.status, error.code.as_ref()), (409, "ResourceConflictException"), "{}", call.1);
        assert!(error.message.ends_with("in the following state: Pending"), "{}", error.message);
    }
    registry.gate.send(true).unwrap();
    until_rows(&node, store::tables::FUNCTION_PULLS, 0).await;
    for path in ["f/configuration", "f/configuration?Qualifier=1"] {
        let got = node.json("GET", &format!("{F}/{path}"), Value::Null).await.unwrap();
        assert_eq!((&got["State"], &got["LastUpdateStatus"]), (&json!("Active"), &json!("Successful")));
        assert_eq!(got["CodeSha256"], registry.digest.strip_prefix("sha256:").unwrap());
    }
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), "ran");
    // A second function of the image asks for nothing large.
    node.json("POST", F, registry.creation("g")).await.unwrap();
    until_rows(&node, store::tables::FUNCTION_PULLS, 0).await;
    assert_eq!(registry.layers_asked.load(Ordering::SeqCst), 1);
    assert_eq!(rows(&node, store::tables::FUNCTION_CODE).await, 1);
    for name in ["f", "g"] {
        node.json("DELETE", &format!("{F}/{name}"), Value::Null).await.unwrap();
    }
    for table in [store::tables::FUNCTION_CODE, store::tables::FUNCTION_IMAGES] {
        assert_eq!(rows(&node, table).await, 0);
    }
    let settings = node.json("GET", "/2016-08-19/account-settings", Value::Null).await.unwrap();
    assert_eq!(settings["AccountUsage"], json!({"TotalCodeSize": 0, "FunctionCount": 0}));
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_let_go() {
    let registry = Registry::start("tin").await;
    let node = Node::start(registry.config()).await;
    node.json("POST", F, registry.creation("f")).await.unwrap();
    crate::support::until(|| registry.layers_asked.load(Ordering::SeqCst) == 1).await;
    node.json("DELETE", &format!("{F}/f"), Value::Null).await.unwrap();
    // Another of the same name does not get what the first one has waited for before it waits itself.
    let input = json!({
        "FunctionName": "f", "Runtime": "closure1.0", "Handler": "h", "Role": "arn:aws:iam::000000000000:role/thumb",
        "Code": {"ZipFile": STANDARD.encode(crate::support::zip("x"))},
    });
    node.json("POST", F, input).await.unwrap();
    registry.gate.send(true).unwrap();
    until_rows(&node, store::tables::FUNCTION_PULLS, 0).await;
    let got = node.json("GET", &format!("{F}/f/configuration"), Value::Null).await.unwrap();
    assert_eq!((&got["PackageType"], &got["State"]), (&json!("Zip"), &json!("Active")));
    assert_eq!(rows(&node, store::tables::FUNCTION_CODE).await, 1);
    // Its blob waits to be swept.
    assert_eq!(rows(&node, store::tables::FUNCTION_CODE_UNUSED).await, 1);
}

#[tokio::test]
async fn an_update_keeps_the_old_code_until_the_new_is_there() {
    let registry = Registry::start("tin").await;
    let node = Node::start(registry.config()).await;
    node.runtime.set("", handler(|_, _| async { Ok(json!("ran")) }));
    registry.gate.send(true).unwrap();
    node.json("POST", F, registry.creation("f")).await.unwrap();
    until_rows(&node, store::tables::FUNCTION_PULLS, 0).await;
    let by_digest = json!({"ImageUri": format!("{}/app@{}", registry.host, registry.digest)});
    let same = node.json("PUT", &format!("{F}/f/code"), by_digest).await.unwrap();
    assert_eq!(same["LastUpdateStatus"], "Successful");
    let got = node.json("GET", &format!("{F}/f"), Value::Null).await.unwrap();
    assert_eq!(got["Code"]["ImageUri"], got["Code"]["ResolvedImageUri"]);
    for (uri, said) in [
        (format!("{}/app:2", registry.host), "does not exist"),
        ("localhost:1/app:1".to_owned(), "--registry localhost:1"),
        ("app:1".to_owned(), "is not valid"),
    ] {
        let error = node.json("PUT", &format!("{F}/f/code"), json!({"ImageUri": uri})).await.unwrap_err();
        assert_eq!((error.status, error.code.as_ref()), (400, "InvalidParameterValueException"));
        assert!(error.message.contains(said), "{}", error.message);
    }
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), "ran");
}
