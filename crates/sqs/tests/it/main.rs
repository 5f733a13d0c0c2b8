//! What time, crashes and many receivers do to queues, over both engines. The API's shapes are tested with real clients.

#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aws::{Api, Caller, RequestContext};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sqs::Sqs;
use store::key::{KeyWriter, prefix_end};
use store::{Engine, FjallConfig, FjallEngine, MemoryEngine, Range, Store, TableId, tables};
use types::{AccountId, AheadEnv, Env, Region, RequestId, TraceHeader};

#[derive(Debug)]
struct AnyPolicy;

impl aws::PolicyCheck for AnyPolicy {
    fn check(&self, _policy: &str) -> Result<aws::PolicyFacts, aws::Error> {
        Ok(aws::PolicyFacts { public: false })
    }
}

#[derive(Clone)]
struct Node {
    sqs: Sqs,
    store: Store,
    clock: Arc<AheadEnv>,
}

impl Node {
    fn over(engine: Arc<dyn Engine>) -> Self {
        let clock = AheadEnv::new();
        let store = Store::new(engine);
        let sqs = Sqs::new(store.clone(), clock.clone(), Region::default(), Arc::new(AnyPolicy));
        Self { sqs, store, clock }
    }

    fn in_memory() -> Self {
        Self::over(MemoryEngine::new())
    }

    fn on_disk(path: &Path) -> Self {
        Self::over(FjallEngine::open(FjallConfig::new(path.to_owned())).unwrap())
    }

    /// The same node as after a restart: nothing in memory.
    fn again(&self) -> Self {
        let sqs = Sqs::new(self.store.clone(), self.clock.clone(), Region::default(), Arc::new(AnyPolicy));
        Self { sqs, ..self.clone() }
    }

    fn pass_seconds(&self, seconds: i64) {
        self.clock.skip_seconds(seconds);
    }

    async fn call(&self, name: &str, input: Value) -> Result<Value, String> {
        let request = http::Request::builder()
            .method("POST")
            .header("x-amz-target", format!("AmazonSQS.{name}"))
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
        let answer = match self.sqs.parse(aws::Request { head, body, context }).await {
            Ok(operation) => operation.handle().await,
            Err(error) => Err(error),
        };
        let body = answer.map_err(|error| error.code.into_owned())?.into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        Ok(if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn queue(&self, name: &str, attributes: Value) -> String {
        let made =
            self.call("CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await.unwrap();
        made["QueueUrl"].as_str().unwrap().to_owned()
    }

    async fn send(&self, url: &str, body: &str) {
        self.call("SendMessage", json!({"QueueUrl": url, "MessageBody": body})).await.unwrap();
    }

    /// Bodies and handles.
    async fn receive(&self, url: &str, more: Value) -> Vec<(String, String)> {
        let mut input = json!({"QueueUrl": url, "MaxNumberOfMessages": 10});
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        let answer = self.call("ReceiveMessage", input).await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| (text(&message["Body"]), text(&message["ReceiptHandle"]))).collect()
    }

    async fn delete(&self, url: &str, handle: &str) {
        self.call("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle})).await.unwrap();
    }

    async fn count(&self, url: &str) -> i64 {
        let input = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let found = self.call("GetQueueAttributes", input).await.unwrap();
        ["", "NotVisible", "Delayed"]
            .iter()
            .map(|kind| {
                let number = &found["Attributes"][format!("ApproximateNumberOfMessages{kind}")];
                number.as_str().unwrap().parse::<i64>().unwrap()
            })
            .sum()
    }

    /// Rows of a table, of the account's or the node's.
    async fn rows(&self, table: TableId) -> usize {
        let mut all = 0;
        for account in [AccountId::DEFAULT, AccountId::NODE] {
            let start = KeyWriter::new(account, table).finish();
            let end = prefix_end(&start);
            let range = Range { start, end, limit: 100_000, limit_bytes: usize::MAX, reverse: false };
            all += self.store.scan(range).await.unwrap().entries.len();
        }
        all
    }
}

#[tokio::test]
async fn messages_expire() {
    let node = Node::in_memory();
    let url = node.queue("q", json!({"MessageRetentionPeriod": "60"})).await;
    node.send(&url, "old").await;
    node.send(&url, "received").await;
    let handles = node.receive(&url, json!({"MaxNumberOfMessages": 1})).await;
    assert_eq!(handles[0].0, "old");
    node.pass_seconds(50);
    node.send(&url, "young").await;
    node.pass_seconds(15);
    // Receivers do not see them, and the sweeper removes them.
    let bodies: Vec<_> = node.receive(&url, json!({"VisibilityTimeout": 0})).await;
    assert_eq!(bodies.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), ["young"]);
    node.sqs.sweeper().pass().await.unwrap();
    assert_eq!(node.count(&url).await, 1);
    node.pass_seconds(60);
    node.sqs.sweeper().pass().await.unwrap();
    assert_eq!(node.count(&url).await, 0);
    for table in [tables::SQS_PLACES, tables::SQS_MESSAGES, tables::SQS_RECEIPTS, tables::SQS_EXPIRY] {
        assert_eq!(node.rows(table).await, 0, "{table:?}");
    }
    // What comes afterwards expires too; also sooner than was said when it came.
    node.send(&url, "x").await;
    let shorter = json!({"QueueUrl": url, "Attributes": {"MessageRetentionPeriod": "1209600"}});
    node.call("SetQueueAttributes", shorter).await.unwrap();
    node.sqs.sweeper().pass().await.unwrap();
    node.pass_seconds(1_209_500);
    node.sqs.sweeper().pass().await.unwrap();
    assert_eq!(node.count(&url).await, 1);
    let shorter = json!({"QueueUrl": url, "Attributes": {"MessageRetentionPeriod": "60"}});
    node.call("SetQueueAttributes", shorter).await.unwrap();
    node.sqs.sweeper().pass().await.unwrap();
    assert_eq!(node.count(&url).await, 0);
}

#[tokio::test]
async fn nothing_is_left_of_queues_that_are_gone() {
    let node = Node::in_memory();
    let url = node.queue("q", json!({})).await;
    for i in 0..20 {
        node.send(&url, &i.to_string()).await;
    }
    node.receive(&url, json!({})).await;
    node.call("PurgeQueue", json!({"QueueUrl": url})).await.unwrap();
    assert_eq!(node.count(&url).await, 0);
    node.sqs.sweeper().pass().await.unwrap();
    assert_eq!(node.rows(tables::SQS_MESSAGES).await, 0);
    node.send(&url, "x").await;
    node.call("DeleteQueue", json!({"QueueUrl": url})).await.unwrap();
    node.sqs.sweeper().pass().await.unwrap();
    for (table, name) in tables::ALL.iter().filter(|(_, name)| name.starts_with("SQS_")) {
        assert_eq!(node.rows(*table).await, 0, "{name}");
    }
    // One of that name that is made anew has none of it.
    let url = node.queue("q", json!({})).await;
    assert_eq!(node.receive(&url, json!({})).await, []);
}

#[tokio::test]
async fn what_was_in_flight_comes_back_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::on_disk(directory.path());
    let url = node.queue("q", json!({"VisibilityTimeout": "30"})).await;
    for i in 0..30 {
        node.send(&url, &i.to_string()).await;
    }
    let first = node.receive(&url, json!({})).await;
    let second = node.receive(&url, json!({})).await;
    for (_, handle) in &first {
        node.delete(&url, handle).await;
    }
    let node = node.again();
    let third = node.receive(&url, json!({})).await;
    assert_eq!((first.len(), second.len(), third.len()), (10, 10, 10));
    assert_eq!(node.receive(&url, json!({})).await, []);
    node.pass_seconds(31);
    let node = node.again();
    let mut back = BTreeSet::new();
    for _ in 0..2 {
        back.extend(node.receive(&url, json!({})).await.into_iter().map(|(body, _)| body));
    }
    assert_eq!(back, second.into_iter().chain(third).map(|(body, _)| body).collect());
    assert_eq!(node.count(&url).await, 20);
    node.store.close().await.unwrap();
}

#[tokio::test]
async fn dead_letters_move_in_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::on_disk(directory.path());
    let dead = node.queue("dead", json!({})).await;
    let policy =
        json!({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 1});
    let url = node.queue("q", json!({"RedrivePolicy": policy.to_string()})).await;
    for i in 0..10 {
        node.send(&url, &i.to_string()).await;
    }
    assert_eq!(node.receive(&url, json!({"VisibilityTimeout": 0})).await.len(), 10);
    assert_eq!(node.receive(&url, json!({})).await, []);
    assert_eq!((node.count(&url).await, node.count(&dead).await), (0, 10));
    assert_eq!(node.receive(&dead, json!({})).await.len(), 10);
    // A queue whose dead-letter queue is gone keeps what it has.
    node.call("DeleteQueue", json!({"QueueUrl": dead})).await.unwrap();
    node.send(&url, "x").await;
    for _ in 0..3 {
        assert_eq!(node.receive(&url, json!({"VisibilityTimeout": 0})).await.len(), 1);
    }
    node.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_and_receivers_at_once_lose_and_share_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for node in [Node::in_memory(), Node::on_disk(directory.path())] {
        let url = node.queue("q", json!({"VisibilityTimeout": "600"})).await;
        let senders = (0..8).map(|sender| {
            let (node, url) = (node.clone(), url.clone());
            async move {
                for i in 0..50 {
                    node.send(&url, &format!("{sender}-{i}")).await;
                }
            }
        });
        let receivers = (0..16).map(|receiver| {
            let (node, url) = (node.clone(), url.clone());
            async move {
                let mut bodies = Vec::new();
                loop {
                    let taken = node.receive(&url, json!({"WaitTimeSeconds": 2})).await;
                    if taken.is_empty() {
                        return bodies;
                    }
                    for (body, handle) in taken {
                        bodies.push(body);
                        if receiver % 2 == 0 {
                            node.delete(&url, &handle).await;
                        }
                    }
                }
            }
        });
        let senders = senders.map(tokio::spawn).collect::<Vec<_>>();
        let receivers = receivers.map(tokio::spawn).collect::<Vec<_>>();
        let mut all = Vec::new();
        for sender in senders {
            sender.await.unwrap();
        }
        for receiver in receivers {
            all.extend(receiver.await.unwrap());
        }
        assert_eq!(all.len(), 400);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 400);
        node.store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_hides_no_message() {
    let node = Node::in_memory();
    let url = node.queue("q", json!({})).await;
    node.pass_seconds(1000);
    node.send(&url, "a").await;
    let taken = node.receive(&url, json!({})).await;
    node.delete(&url, &taken[0].1).await;
    node.pass_seconds(-1000);
    node.send(&url, "b").await;
    assert_eq!(node.receive(&url, json!({})).await[0].0, "b");
    let node = node.again();
    node.send(&url, "c").await;
    assert_eq!(node.receive(&url, json!({})).await[0].0, "c");
    let node = node.again();
    node.send(&url, "d").await;
    assert_eq!(node.again().receive(&url, json!({})).await[0].0, "d");
}

#[tokio::test]
async fn the_older_protocol_is_refused_by_name() {
    let node = Node::in_memory();
    let (head, ()) = http::Request::post("/").body(()).unwrap().into_parts();
    let context = RequestContext {
        caller: Caller::platform(AccountId::DEFAULT),
        request_id: RequestId::new(&*node.clock),
        trace: TraceHeader::new(&*node.clock),
        region: Region::default(),
        received_at: node.clock.now(),
        endpoint: "http://127.0.0.1:4566".into(),
    };
    let body = aws::body::full("Action=ListQueues");
    let refused = node.sqs.parse(aws::Request { head, body, context }).await.err().unwrap();
    assert!(refused.message.contains("Query protocol"));
    assert_eq!(node.call("StartMessageMoveTask", json!({})).await.unwrap_err(), "UnknownOperationException");
}
