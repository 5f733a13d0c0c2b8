//! What writes read: a commit holds up every other, so it looks at no more than it needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use store::{
    Commit, Committed, Engine, Error, MemoryEngine, ReadRequest, ReadResponse, Store, TableId, Watch,
};

use crate::support::Service;

/// An engine that counts what commits read.
#[derive(Debug)]
struct Counting {
    engine: Arc<MemoryEngine>,
    reads: AtomicUsize,
}

#[async_trait]
impl Engine for Counting {
    async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error> {
        self.engine.read(request).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, Error> {
        self.reads.fetch_add(commit.reads.len(), Ordering::Relaxed);
        self.engine.commit(commit).await
    }

    fn watch(&self, table: TableId) -> Watch {
        self.engine.watch(table)
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    async fn close(&self) -> Result<(), Error> {
        self.engine.close().await
    }
}

struct Fixture {
    service: Service,
    counting: Arc<Counting>,
}

impl Fixture {
    async fn new() -> Self {
        let counting = Arc::new(Counting { engine: MemoryEngine::new(), reads: AtomicUsize::new(0) });
        let service = Service::on(Store::new(counting.clone()));
        service.simple_table("things").await;
        Self { service, counting }
    }

    /// How many rows the commit of an operation reads.
    async fn reads(&self, operation: &str, body: Value) -> usize {
        let before = self.counting.reads.load(Ordering::Relaxed);
        self.service.ok(operation, body).await;
        self.counting.reads.load(Ordering::Relaxed) - before
    }

    async fn put_reads(&self, more: Value) -> usize {
        // So that the table is known as it is, and nothing is tried twice.
        self.service.get("things", "a").await;
        let mut body = json!({"TableName": "things", "Item": {"id": {"S": "a"}, "v": {"N": "1"}}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.reads("PutItem", body).await
    }
}

#[tokio::test]
async fn an_item_that_nobody_asks_for_is_not_read_to_be_replaced() {
    let fixture = Fixture::new().await;
    // The table alone.
    assert_eq!(fixture.put_reads(json!({})).await, 1);
    let item = json!({"id": {"S": "a"}, "v": {"N": "2"}});
    let batch = json!({"RequestItems": {"things": [
        {"PutRequest": {"Item": {"id": {"S": "b"}}}},
        {"DeleteRequest": {"Key": {"id": {"S": "c"}}}},
    ]}});
    assert_eq!(fixture.reads("BatchWriteItem", batch).await, 2);
    let transaction = json!({"TransactItems": [{"Put": {"TableName": "things", "Item": item}}]});
    assert_eq!(fixture.reads("TransactWriteItems", transaction).await, 1);
    assert_eq!(fixture.service.get("things", "a").await, item);
}

#[tokio::test]
async fn an_item_that_matters_is_read_to_be_replaced() {
    let fixture = Fixture::new().await;
    for more in [
        json!({"ReturnValues": "ALL_OLD"}),
        json!({"ReturnConsumedCapacity": "TOTAL"}),
        json!({"ConditionExpression": "attribute_not_exists(x)"}),
    ] {
        assert_eq!(fixture.put_reads(more.clone()).await, 2, "{more}");
    }
    let service = &fixture.service;
    let backup = service.ok("CreateBackup", json!({"TableName": "things", "BackupName": "kept"})).await;
    assert_eq!(fixture.put_reads(json!({})).await, 2);
    let arn = &backup["BackupDetails"]["BackupArn"];
    service.ok("DeleteBackup", json!({"BackupArn": arn})).await;
    assert_eq!(fixture.put_reads(json!({})).await, 1);
    let stream = json!({"StreamEnabled": true, "StreamViewType": "OLD_IMAGE"});
    service.ok("UpdateTable", json!({"TableName": "things", "StreamSpecification": stream})).await;
    assert_eq!(fixture.put_reads(json!({})).await, 2);
    let stream = json!({"StreamEnabled": false});
    service.ok("UpdateTable", json!({"TableName": "things", "StreamSpecification": stream})).await;
    assert_eq!(fixture.put_reads(json!({})).await, 1);
    let ttl = json!({"AttributeName": "ends", "Enabled": true});
    service.ok("UpdateTimeToLive", json!({"TableName": "things", "TimeToLiveSpecification": ttl})).await;
    assert_eq!(fixture.put_reads(json!({})).await, 2);
}
