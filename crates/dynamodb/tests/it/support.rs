//! A service to call, and words to call it with.

use std::sync::Arc;

use aws::{Api, Caller, Request, RequestContext};
use dynamodb::DynamoDb;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{MemoryEngine, Store};
use types::{AccountId, Region, RequestId, SharedEnv, SystemEnv, TraceHeader};

/// A service on a store of its own.
pub(crate) struct Service {
    pub(crate) api: Arc<DynamoDb>,
    pub(crate) store: Store,
    env: SharedEnv,
}

impl Service {
    pub(crate) fn new() -> Self {
        let env = SystemEnv::new();
        let store = Store::new(MemoryEngine::new());
        Self { api: DynamoDb::new(store.clone(), env.clone(), Region::default()), store, env }
    }

    pub(crate) fn request(&self, operation: &str, body: &str) -> Request {
        let request = http::Request::builder()
            .method("POST")
            .uri("/")
            .header("x-amz-target", format!("{}_20120810.{operation}", service_of(operation)))
            .body(())
            .unwrap();
        Request {
            head: request.into_parts().0,
            body: aws::body::full(body.to_owned()),
            context: RequestContext {
                caller: Caller::platform(AccountId::DEFAULT),
                request_id: RequestId::new(&*self.env),
                trace: TraceHeader::new(&*self.env),
                region: Region::default(),
                received_at: self.env.now(),
                endpoint: "http://127.0.0.1:4566".into(),
            },
        }
    }

    pub(crate) async fn raw(&self, operation: &str, body: &str) -> Result<Value, aws::Error> {
        let operation = self.api.parse(self.request(operation, body)).await?;
        let response = operation.handle().await?;
        assert_eq!(response.status(), 200);
        let checksum = response.headers()["x-amz-crc32"].to_str().unwrap().to_owned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let computed = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &bytes);
        assert_eq!(checksum, computed.to_string());
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&bytes).expect("answers are JSON"))
    }

    pub(crate) async fn ok(&self, operation: &str, body: Value) -> Value {
        match self.raw(operation, &body.to_string()).await {
            Ok(answer) => answer,
            Err(error) => panic!("{operation} {body}: {error}"),
        }
    }

    pub(crate) async fn error(&self, operation: &str, body: Value) -> aws::Error {
        match self.raw(operation, &body.to_string()).await {
            Ok(answer) => panic!("{operation} {body} succeeded: {answer}"),
            Err(error) => error,
        }
    }

    /// Fails with a ValidationException of that message.
    pub(crate) async fn invalid(&self, operation: &str, body: Value, message: &str) {
        let error = self.error(operation, body.clone()).await;
        assert_eq!((&*error.code, error.status), ("ValidationException", 400), "{body}: {error}");
        assert_eq!(error.message, message, "{body}");
    }

    /// A table with a partition key `id` of type S.
    pub(crate) async fn simple_table(&self, name: &str) {
        self.ok(
            "CreateTable",
            json!({
                "TableName": name,
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        )
        .await;
    }

    /// A table with a partition key `p` (S) and a sort key `s` of that type.
    pub(crate) async fn sorted_table(&self, name: &str, kind: &str) {
        self.ok(
            "CreateTable",
            json!({
                "TableName": name,
                "AttributeDefinitions": [
                    {"AttributeName": "p", "AttributeType": "S"},
                    {"AttributeName": "s", "AttributeType": kind},
                ],
                "KeySchema": [
                    {"AttributeName": "p", "KeyType": "HASH"},
                    {"AttributeName": "s", "KeyType": "RANGE"},
                ],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        )
        .await;
    }

    pub(crate) async fn put(&self, table: &str, item: Value) {
        self.ok("PutItem", json!({"TableName": table, "Item": item})).await;
    }

    pub(crate) async fn get(&self, table: &str, id: &str) -> Value {
        let key = json!({"id": {"S": id}});
        self.ok("GetItem", json!({"TableName": table, "Key": key})).await["Item"].take()
    }
}

/// The service that an operation belongs to, as targets name it.
fn service_of(operation: &str) -> &'static str {
    match operation {
        "ListStreams" | "DescribeStream" | "GetShardIterator" | "GetRecords" => "DynamoDBStreams",
        _ => "DynamoDB",
    }
}
