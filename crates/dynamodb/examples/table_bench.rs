//! What the table service does a second on a disk, without a network before it, beside the bare engine.
//!
//! `cargo run --release -p dynamodb --example table_bench -- [DIR] [SECONDS] [ITEMS] [WORK...]`: a table of ITEMS
//! items of 1 KB is made (100,000 unless said otherwise), then 64 clients do each work for SECONDS: `engine` (puts
//! of the bare engine), `put`, `put_rich` (to a table with two indexes, a stream and recovery), `get`, `get_1` (one
//! client), `query` (100 items of 1 KB), `transact` (4 puts), `counter` (one item). DIR must be on the disk to be
//! measured; a new directory in it is used and removed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws::{Api, Caller, Dispatch, Request, RequestContext};
use bytes::Bytes;
use dynamodb::{DynamoDb, Rights};
use http_body_util::BodyExt;
use store::key::KeyWriter;
use store::{Commit, Engine, FjallConfig, FjallEngine, Store, TableId, Write};
use types::{AccountId, Region, RequestId, SharedEnv, SystemEnv, TraceHeader};

const CLIENTS: u64 = 64;

/// Items in a partition of the table that queries read.
const RUN: u64 = 100;

struct Node {
    engine: Arc<FjallEngine>,
    api: Arc<DynamoDb>,
    env: SharedEnv,
    items: u64,
}

/// No work here reaches another service.
#[derive(Debug)]
struct Alone;

impl aws::PolicyCheck for Alone {
    fn check(&self, _policy: &str) -> Result<aws::PolicyFacts, aws::Error> {
        Ok(aws::PolicyFacts { public: false })
    }
}

#[async_trait]
impl aws::Authorizer for Alone {
    async fn authorize(&self, _caller: &Caller, _needs: &[aws::Access]) -> Result<(), aws::Error> {
        Ok(())
    }
}

#[async_trait]
impl Dispatch for Alone {
    async fn call(
        &self,
        _caller: &Caller,
        _trace: &TraceHeader,
        service: &str,
        _request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        Err(aws::Error::internal(&format!("there is no {service} here")))
    }
}

impl Node {
    async fn call(&self, operation: &str, body: String) -> Bytes {
        let head = http::Request::post("/").header("x-amz-target", format!("DynamoDB_20120810.{operation}"));
        let request = Request {
            head: head.body(()).expect("it is a request").into_parts().0,
            body: aws::body::full(body),
            context: RequestContext {
                caller: Caller::platform(AccountId::DEFAULT),
                request_id: RequestId::new(&*self.env),
                trace: TraceHeader::new(&*self.env),
                region: Region::default(),
                received_at: self.env.now(),
                endpoint: "http://127.0.0.1:4566".into(),
            },
        };
        let operation = self.api.parse(request).await.expect("it is understood");
        // As the pipeline does before it handles an operation.
        std::hint::black_box(operation.access());
        let answer = operation.handle().await.expect("it succeeds");
        answer.into_body().collect().await.expect("it is at hand").to_bytes()
    }
}

/// A number spread over all of 64 bits, as ids are.
fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Text that hardly compresses.
fn noise(len: usize, seed: u64) -> String {
    let mut state = spread(seed) | 1;
    let mut text = String::with_capacity(len + 16);
    while text.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(text, "{state:016x}").expect("memory does not fail");
    }
    text.truncate(len);
    text
}

/// The members of an item.
fn item(n: u64, data: &str) -> String {
    let (id, run) = (spread(n), n / RUN);
    format!(
        r#""id":{{"S":"{id:016x}"}},"run":{{"S":"run-{run}"}},"n":{{"N":"{n}"}},"kind":{{"S":"kind-{}"}},"data":{{"S":"{data}"}}"#,
        n % 10
    )
}

fn put(table: &str, n: u64, data: &str) -> String {
    format!(r#"{{"TableName":"{table}","Item":{{{}}}}}"#, item(n, data))
}

async fn make_tables(node: &Node) {
    let create = |name: &str, keys: [&str; 2], more: &str| {
        let (partition, sort) = (keys[0], keys[1]);
        let range = format!(r#",{{"AttributeName":"{sort}","KeyType":"RANGE"}}"#);
        let range = if sort.is_empty() { "" } else { &range };
        let names: &[(&str, &str)] = if more.is_empty() {
            &[(partition, "S")]
        } else {
            &[("id", "S"), ("kind", "S"), ("run", "S"), ("n", "N")]
        };
        let mut defined: Vec<_> = names.to_vec();
        if !sort.is_empty() && more.is_empty() {
            defined.push((sort, "N"));
        }
        let defined: Vec<_> = defined
            .iter()
            .map(|(name, kind)| format!(r#"{{"AttributeName":"{name}","AttributeType":"{kind}"}}"#))
            .collect();
        format!(
            r#"{{"TableName":"{name}","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{}],"KeySchema":[{{"AttributeName":"{partition}","KeyType":"HASH"}}{range}]{more}}}"#,
            defined.join(",")
        )
    };
    let index = |name: &str, keys: [&str; 2], projection: &str| {
        format!(
            r#"{{"IndexName":"{name}","KeySchema":[{{"AttributeName":"{}","KeyType":"HASH"}},{{"AttributeName":"{}","KeyType":"RANGE"}}],"Projection":{{"ProjectionType":"{projection}"}}}}"#,
            keys[0], keys[1]
        )
    };
    node.call("CreateTable", create("plain", ["id", ""], "")).await;
    node.call("CreateTable", create("runs", ["run", "n"], "")).await;
    let more = format!(
        r#","GlobalSecondaryIndexes":[{},{}],"StreamSpecification":{{"StreamEnabled":true,"StreamViewType":"NEW_AND_OLD_IMAGES"}}"#,
        index("kinds", ["kind", "n"], "ALL"),
        index("runs", ["run", "n"], "KEYS_ONLY")
    );
    node.call("CreateTable", create("rich", ["id", ""], &more)).await;
    let recovery =
        r#"{"TableName":"rich","PointInTimeRecoverySpecification":{"PointInTimeRecoveryEnabled":true}}"#;
    node.call("UpdateContinuousBackups", recovery.to_owned()).await;
}

/// Fills `plain` with items, and `runs` with some.
async fn fill(node: &Arc<Node>) {
    let begun = Instant::now();
    let data = noise(900, 1);
    for (table, items) in [("plain", node.items), ("runs", 100 * RUN)] {
        let tasks: Vec<_> = (0..4)
            .map(|part| {
                let (node, data) = (node.clone(), data.clone());
                tokio::spawn(async move {
                    for first in (part * 25..items).step_by(100) {
                        let puts: Vec<_> = (first..items.min(first + 25))
                            .map(|n| format!(r#"{{"PutRequest":{{"Item":{{{}}}}}}}"#, item(n, &data)))
                            .collect();
                        let body = format!(r#"{{"RequestItems":{{"{table}":[{}]}}}}"#, puts.join(","));
                        node.call("BatchWriteItem", body).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it does not panic");
        }
    }
    println!("{} items of 1 KB in {:.1?}; resident {} MiB", node.items, begun.elapsed(), resident_mib());
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Engine,
    Put,
    PutRich,
    Get,
    Query,
    Transact,
    Counter,
}

impl Work {
    /// Work number `n`, which no other client has, done.
    async fn run(self, node: &Node, n: u64, data: &str) {
        let some = spread(n) % node.items.max(1);
        match self {
            Self::Engine => {
                let mut key = KeyWriter::new(AccountId::DEFAULT, TableId(0x7001));
                key.u64(spread(n));
                let write = Write::Put(key.finish(), Bytes::copy_from_slice(data.as_bytes()));
                node.engine.commit(Commit::of(vec![write])).await.expect("it commits");
            }
            Self::Put => drop(node.call("PutItem", put("plain", some, data)).await),
            Self::PutRich => drop(node.call("PutItem", put("rich", n % 20_000, data)).await),
            Self::Get => {
                let id = spread(some);
                let body = format!(r#"{{"TableName":"plain","Key":{{"id":{{"S":"{id:016x}"}}}}}}"#);
                assert!(node.call("GetItem", body).await.len() > 900);
            }
            Self::Query => {
                let run = spread(n) % 100;
                let body = format!(
                    r##"{{"TableName":"runs","KeyConditionExpression":"#r = :r","ExpressionAttributeNames":{{"#r":"run"}},"ExpressionAttributeValues":{{":r":{{"S":"run-{run}"}}}}}}"##
                );
                assert!(node.call("Query", body).await.len() > 90_000);
            }
            Self::Transact => {
                let puts: Vec<_> = (0..4)
                    .map(|k| format!(r#"{{"Put":{}}}"#, put("plain", node.items + n * 4 + k, data)))
                    .collect();
                let body =
                    format!(r#"{{"ClientRequestToken":"{n:036}","TransactItems":[{}]}}"#, puts.join(","));
                node.call("TransactWriteItems", body).await;
            }
            Self::Counter => {
                let body = r#"{"TableName":"plain","Key":{"id":{"S":"counter"}},"UpdateExpression":"ADD c :one","ExpressionAttributeValues":{":one":{"N":"1"}},"ReturnValues":"UPDATED_NEW"}"#;
                node.call("UpdateItem", body.to_owned()).await;
            }
        }
    }
}

async fn measure(what: &str, work: Work, clients: u64, run: Duration, node: &Arc<Node>) {
    let (start, cpu) = (Instant::now(), cpu_time());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let node = node.clone();
            tokio::spawn(async move {
                let data = noise(900, client);
                let mut waits = Vec::new();
                while start.elapsed() < run {
                    let begun = Instant::now();
                    work.run(&node, waits.len() as u64 * CLIENTS + client, &data).await;
                    waits.push(begun.elapsed());
                    // Reads are at once: others have to have their turn.
                    tokio::task::yield_now().await;
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("it does not panic"));
    }
    let rate = waits.len() as f64 / start.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu) / u32::try_from(waits.len()).expect("a run is short");
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{what:<9} {rate:>8.0}/s  p50 {:.2?}  p99 {:.2?}  most {:.2?}  {cpu:.1?} of CPU each",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// What the process, its background work included, has used of the cores: steadier than time on a busy machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux tells programs hundredths of seconds.
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib >> 10)
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(5, |text| text.parse().expect("SECONDS is a number"));
    let items = arguments.next().map_or(100_000, |text| text.parse().expect("ITEMS is a number"));
    let wanted: Vec<String> = arguments.collect();
    let dir = parent.join(format!("table-bench-{}", std::process::id()));
    let engine = FjallEngine::open(FjallConfig::new(&dir)).expect("the directory opens");
    let env = SystemEnv::new();
    let rights = Rights { policies: Arc::new(Alone), authorizer: Arc::new(Alone) };
    let api =
        DynamoDb::new(Store::new(engine.clone()), env.clone(), Region::default(), rights, Arc::new(Alone));
    let node = Arc::new(Node { engine, api, env, items });
    make_tables(&node).await;
    fill(&node).await;
    for (name, work, clients) in [
        ("engine", Work::Engine, CLIENTS),
        ("put", Work::Put, CLIENTS),
        ("put_rich", Work::PutRich, CLIENTS),
        ("get", Work::Get, CLIENTS),
        ("get_1", Work::Get, 1),
        ("query", Work::Query, CLIENTS),
        ("transact", Work::Transact, CLIENTS),
        ("counter", Work::Counter, CLIENTS),
    ] {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(name, work, clients, Duration::from_secs(seconds), &node).await;
        }
    }
    println!("on disk: {} MiB; resident {} MiB", node.engine.size_bytes() >> 20, resident_mib());
    drop(node);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}
