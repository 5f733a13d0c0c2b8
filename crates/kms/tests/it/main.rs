//! What time does to keys, and what the store and other services see of them. The API's shapes are tested with real
//! clients.

#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::sync::Arc;

use aws::{Access, Api, Caller, DataKeys, KeyUse, RequestContext};
use http_body_util::BodyExt;
use kms::{Kms, NodeKey};
use serde_json::{Value, json};
use store::{MemoryEngine, Store};
use types::{AccountId, AheadEnv, Env, Region, RequestId, TraceHeader};

/// Whoever decides on rights allows everything.
#[derive(Debug)]
struct Anybody;

impl aws::PolicyCheck for Anybody {
    fn check(&self, _policy: &str) -> Result<aws::PolicyFacts, aws::Error> {
        Ok(aws::PolicyFacts { public: false })
    }
}

#[async_trait::async_trait]
impl aws::Authorizer for Anybody {
    async fn authorize(&self, _caller: &Caller, _needs: &[Access]) -> Result<(), aws::Error> {
        Ok(())
    }
}

struct Node {
    kms: Kms,
    store: Store,
    clock: Arc<AheadEnv>,
}

async fn open(store: &Store, clock: &Arc<AheadEnv>, key: u8) -> Result<Kms, kms::Error> {
    let any = Arc::new(Anybody);
    Kms::open(store.clone(), clock.clone(), Region::default(), NodeKey::new([key; 32]), any.clone(), any)
        .await
}

impl Node {
    async fn new() -> Self {
        let clock = AheadEnv::new();
        let store = Store::new(MemoryEngine::new());
        let kms = open(&store, &clock, 7).await.unwrap();
        Self { kms, store, clock }
    }

    async fn call(&self, name: &str, input: Value) -> Result<Value, String> {
        let request = http::Request::builder()
            .method("POST")
            .header("x-amz-target", format!("TrentService.{name}"))
            .body(())
            .unwrap();
        let (head, ()) = request.into_parts();
        let env = &*self.clock;
        let context = RequestContext {
            caller: Caller::platform(AccountId::DEFAULT),
            request_id: RequestId::new(env),
            trace: TraceHeader::new(env),
            region: Region::default(),
            received_at: env.now(),
            endpoint: "http://127.0.0.1:4566".into(),
        };
        let body = aws::body::full(serde_json::to_vec(&input).unwrap());
        let operation = self.kms.parse(aws::Request { head, body, context }).await;
        let answer = match operation {
            Ok(operation) => operation.handle().await,
            Err(error) => Err(error),
        };
        let body = answer.map_err(|error| error.code.into_owned())?.into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        Ok(if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn key(&self) -> String {
        let made = self.call("CreateKey", json!({})).await.unwrap();
        made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    async fn encrypt(&self, key: &str) -> Value {
        let input = json!({"KeyId": key, "Plaintext": "c2VjcmV0"});
        self.call("Encrypt", input).await.unwrap()["CiphertextBlob"].clone()
    }

    async fn decrypt(&self, sealed: &Value) -> Result<Value, String> {
        let opened = self.call("Decrypt", json!({"CiphertextBlob": sealed})).await?;
        Ok(opened["Plaintext"].clone())
    }

    fn days_pass(&self, days: i64) {
        self.clock.skip_seconds(days * 86_400);
    }

    async fn rows(&self) -> usize {
        let start = store::key::KeyWriter::new(AccountId::DEFAULT, store::tables::KMS_KEYS).finish();
        let end = store::key::prefix_end(&start);
        let range = store::Range { start, end, limit: 1000, limit_bytes: 1 << 30, reverse: false };
        self.store.scan(range).await.unwrap().entries.len()
    }
}

#[tokio::test]
async fn keys_are_destroyed_when_their_time_has_come_and_not_before() {
    let node = Node::new().await;
    let (key, kept) = (node.key().await, node.key().await);
    let sealed = node.encrypt(&key).await;
    node.call("CreateAlias", json!({"AliasName": "alias/a", "TargetKeyId": key})).await.unwrap();
    for key in [&key, &kept] {
        let input = json!({"KeyId": key, "PendingWindowInDays": 7});
        node.call("ScheduleKeyDeletion", input).await.unwrap();
    }
    node.days_pass(6);
    node.kms.deletions().pass().await.unwrap();
    assert_eq!(node.decrypt(&sealed).await, Err("KMSInvalidStateException".to_owned()));
    node.call("CancelKeyDeletion", json!({"KeyId": kept})).await.unwrap();
    node.days_pass(1);
    // Before anything is destroyed.
    assert_eq!(node.decrypt(&sealed).await, Err("NotFoundException".to_owned()));
    assert_eq!(
        node.call("CancelKeyDeletion", json!({"KeyId": key})).await,
        Err("NotFoundException".to_owned())
    );
    node.kms.deletions().pass().await.unwrap();
    assert_eq!(node.rows().await, 1);
    assert_eq!(node.call("ListAliases", json!({})).await.unwrap()["Aliases"], json!([]));
    node.call("EnableKey", json!({"KeyId": kept})).await.unwrap();
    node.decrypt(&node.encrypt(&kept).await).await.unwrap();
}

#[tokio::test]
async fn the_calendar_gives_new_material() {
    let node = Node::new().await;
    let key = node.key().await;
    let input = json!({"KeyId": key, "RotationPeriodInDays": 90});
    node.call("EnableKeyRotation", input).await.unwrap();
    let generation = |sealed: &Value| {
        let text = sealed.as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        u32::from_be_bytes(bytes[25..29].try_into().unwrap())
    };
    let mut all = Vec::new();
    for expected in [0, 1, 2] {
        for _ in 0..2 {
            let sealed = node.encrypt(&key).await;
            assert_eq!(generation(&sealed), expected);
            all.push(sealed);
        }
        node.days_pass(90);
    }
    node.call("DisableKeyRotation", json!({"KeyId": key})).await.unwrap();
    assert_eq!(generation(&node.encrypt(&key).await), 2);
    for sealed in &all {
        assert_eq!(node.decrypt(sealed).await.unwrap(), "c2VjcmV0");
    }
}

#[tokio::test]
async fn data_keys_are_bound_to_what_they_are_for() {
    let node = Node::new().await;
    let caller = Caller::platform(AccountId::DEFAULT);
    let pairs = |value: &str| vec![("aws:s3:arn".to_owned(), value.to_owned())];
    let (here, there) = (pairs("here"), pairs("there"));
    let usage = KeyUse { caller: &caller, service: "s3", context: &here };
    let made = node.kms.generate(&usage, None).await.unwrap();
    assert_eq!(node.kms.open(&usage, &made.sealed).await.unwrap(), made.plaintext);
    let elsewhere = KeyUse { context: &there, ..usage };
    let error = node.kms.open(&elsewhere, &made.sealed).await.unwrap_err();
    assert_eq!(error.code, "InvalidCiphertextException");
    // The account's own key is made once.
    assert_eq!(node.kms.generate(&usage, None).await.unwrap().key_arn, made.key_arn);
    assert_eq!(node.rows().await, 1);
    assert!(!format!("{made:?}").contains("plaintext"));
}

#[tokio::test]
async fn another_key_of_the_node_opens_nothing() {
    let node = Node::new().await;
    open(&node.store, &node.clock, 7).await.unwrap();
    assert!(open(&node.store, &node.clock, 8).await.is_err());
}
