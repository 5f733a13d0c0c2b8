//! Telemetry with its service running, and requests to its APIs.

use aws::{Api, Caller, Request, RequestContext};
use http_body_util::BodyExt;
use serde_json::Value;
use store::{MemoryEngine, Store};
use telemetry::{Config, LogEvent, LogLines, LogsApi, Telemetry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{AccountId, RequestId, SharedEnv, SystemEnv, Timestamp, TraceHeader};

/// What is tested.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) telemetry: Telemetry,
    pub(crate) caller: Caller,
    shutdown: CancellationToken,
    service: JoinHandle<()>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::over(Store::new(MemoryEngine::new()), Config::default())
    }

    pub(crate) fn over(store: Store, config: Config) -> Self {
        let env = SystemEnv::new();
        let (telemetry, service) = Telemetry::new(store.clone(), env.clone(), config);
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(service.run(shutdown.clone()));
        Self { store, env, telemetry, caller: Caller::platform(AccountId::DEFAULT), shutdown, service }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.service.await.unwrap();
    }

    pub(crate) fn request(&self, uri: &str, target: &str, body: String) -> Request {
        let builder = http::Request::builder()
            .method(if target.is_empty() { "GET" } else { "POST" })
            .uri(uri)
            .header("x-amz-target", target);
        let (head, body) = builder.body(body).unwrap().into_parts();
        let context = RequestContext {
            caller: self.caller.clone(),
            request_id: RequestId::new(&*self.env),
            trace: TraceHeader::new(&*self.env),
            region: types::Region::default(),
            received_at: self.env.now(),
            endpoint: "http://127.0.0.1".into(),
        };
        Request { head, body: aws::body::full(body), context }
    }

    pub(crate) async fn logs(&self, operation: &str, input: Value) -> Result<Value, aws::Error> {
        let api = LogsApi::new(self.telemetry.clone());
        let request = self.request("/", &format!("Logs_20140328.{operation}"), input.to_string());
        let operation = api.parse(request).await?;
        assert!(!operation.access().is_empty());
        let body = operation.handle().await?.into_body().collect().await.unwrap().to_bytes();
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    pub(crate) async fn native(&self, uri: &str) -> Result<Value, aws::Error> {
        let operation = self.telemetry.native(&self.request(uri, "", String::new())).unwrap()?;
        assert!(!operation.access().is_empty());
        let body = operation.handle().await?.into_body().collect().await.unwrap().to_bytes();
        Ok(serde_json::from_slice(&body).unwrap())
    }

    /// Records messages at milliseconds since `base_ms`.
    pub(crate) async fn log(&self, group: &str, stream: &str, base_ms: i64, events: &[(i64, String)]) {
        let event = |(ms, message): &(i64, String)| LogEvent {
            timestamp: Timestamp::from_millisecond(base_ms + ms).unwrap(),
            message: message.clone(),
        };
        let events = events.iter().map(event).collect();
        let account = AccountId::DEFAULT;
        self.telemetry.log(LogLines { account, group: group.into(), stream: stream.into(), events }).await;
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.env.now().as_millisecond()
    }
}

pub(crate) fn messages(page: &Value) -> Vec<String> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}
