//! A service to call, and words to call it with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws::{Api, Caller, Dispatch, Request, RequestContext};
use bytes::Bytes;
use dynamodb::{DynamoDb, Rights};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{MemoryEngine, Store};
use types::{AccountId, AheadEnv, ErrorKind, Region, RequestId, SharedEnv, TraceHeader};

const IN_INPUT: &str = "1 validation error detected: ";

/// A service on a store of its own.
pub(crate) struct Service {
    pub(crate) api: Arc<DynamoDb>,
    pub(crate) store: Store,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) clock: Arc<AheadEnv>,
    env: SharedEnv,
}

/// The bucket `bucket`, as far as exports and imports need it.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    pub(crate) objects: Mutex<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl Dispatch for Buckets {
    async fn call(
        &self,
        _caller: &Caller,
        _trace: &TraceHeader,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        assert_eq!(service, "s3");
        let path = request.uri().path().to_owned();
        let Some(key) = path.strip_prefix("/bucket") else {
            let message = "The specified bucket does not exist";
            return Err(aws::Error::new(ErrorKind::NotFound, "NoSuchBucket", message));
        };
        let key = key.trim_start_matches('/');
        let mut objects = self.objects.lock().unwrap();
        let answer = |body: Bytes| http::Response::builder().header("etag", "\"e\"").body(body).unwrap();
        Ok(match (request.method().as_str(), key) {
            ("PUT", key) => {
                objects.insert(key.to_owned(), request.into_body());
                answer(Bytes::new())
            }
            ("GET", "") => {
                let mut query = aws::query::Form::parse(request.uri().query().unwrap().as_bytes());
                let (prefix, after) = (query.take("prefix").unwrap(), query.take("start-after"));
                let most = query.take_parsed("max-keys").unwrap().unwrap();
                let listed = objects
                    .iter()
                    .filter(|(key, _)| {
                        key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after)
                    })
                    .take(most);
                let row = |(key, body): (&String, &Bytes)| {
                    format!(
                        "<Contents><Key>{key}</Key><ETag>&quot;e&quot;</ETag><Size>{}</Size></Contents>",
                        body.len()
                    )
                };
                answer(listed.map(row).collect::<String>().into())
            }
            ("GET", key) => {
                let range = request.headers()["range"].to_str().unwrap().strip_prefix("bytes=").unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let body = &objects[key];
                answer(body.slice(first..body.len().min(last + 1)))
            }
            other => panic!("{other:?}"),
        })
    }
}

/// Whoever decides on rights allows everything.
#[derive(Debug)]
struct Anybody;

impl aws::PolicyCheck for Anybody {
    fn check(&self, _policy: &str) -> Result<aws::PolicyFacts, aws::Error> {
        Ok(aws::PolicyFacts { public: false })
    }
}

#[async_trait]
impl aws::Authorizer for Anybody {
    async fn authorize(&self, _caller: &Caller, _needs: &[aws::Access]) -> Result<(), aws::Error> {
        Ok(())
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        Self::on(Store::new(MemoryEngine::new()))
    }

    pub(crate) fn on(store: Store) -> Self {
        let clock = AheadEnv::new();
        let env: SharedEnv = clock.clone();
        let buckets = Arc::new(Buckets::default());
        let rights = Rights { policies: Arc::new(Anybody), authorizer: Arc::new(Anybody) };
        let api = DynamoDb::new(store.clone(), env.clone(), Region::default(), rights, buckets.clone());
        Self { api, store, buckets, clock, env }
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

    /// Fails with a ValidationException of that message, before which writes of one item say that it is about their
    /// input (see `items::what_is_wrong_with_input_is_told_in_more_words`).
    pub(crate) async fn invalid(&self, operation: &str, body: Value, message: &str) {
        let error = self.error(operation, body.clone()).await;
        assert_eq!((&*error.code, error.status), ("ValidationException", 400), "{body}: {error}");
        let told = match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" if !message.starts_with(IN_INPUT) => {
                error.message.strip_prefix(IN_INPUT).unwrap_or(&error.message)
            }
            _ => &error.message,
        };
        assert_eq!(told, message, "{body}");
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
