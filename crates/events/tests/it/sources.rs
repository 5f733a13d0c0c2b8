//! Streams wake functions: in the order of each item, until records are done, too old, or not wanted any more.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use functions::Config;
use serde_json::{Value, json};

use crate::deliver::{quick, serve};
use crate::support::{Handler, Node, handler, until};

pub(crate) const SOURCE: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-01-01T00:00:00.000";

/// A record of an item, written so many seconds ago.
fn record(node: &Node, number: usize, item: &str, age_s: i64) -> Value {
    json!({
        "eventName": "INSERT",
        "dynamodb": {
            "Keys": { "id": { "S": item } },
            "SequenceNumber": number.to_string(),
            "ApproximateCreationDateTime": node.env.now().as_second() - age_s,
        },
    })
}

type Seen = Arc<Mutex<Vec<Vec<usize>>>>;

/// Notes the numbers of the records of each batch, and fails for those of `bad`.
fn noting(seen: &Seen) -> Handler {
    let seen = seen.clone();
    handler(move |request, _| {
        let seen = seen.clone();
        async move {
            let event: Value = serde_json::from_slice(request.event.payload()).unwrap();
            let records = event["Records"].as_array().unwrap();
            let number =
                |record: &Value| record["dynamodb"]["SequenceNumber"].as_str().unwrap().parse().unwrap();
            seen.lock().unwrap().push(records.iter().map(number).collect());
            // Long enough that others run meanwhile, if they may.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let bad = records.iter().any(|record| record["dynamodb"]["Keys"]["id"]["S"] == "bad");
            assert!(records.iter().all(|record| record["eventSourceARN"] == SOURCE));
            Ok(if bad { json!({ "errorMessage": "bad" }) } else { Value::Null })
        }
    })
}

pub(crate) async fn map(node: &Node, extra: Value) -> Value {
    let mut input =
        json!({ "EventSourceArn": SOURCE, "FunctionName": "f", "StartingPosition": "TRIM_HORIZON" });
    input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    node.json("POST", "/2015-03-31/event-source-mappings", input).await.unwrap()
}

#[tokio::test]
async fn records_that_are_too_old_are_given_up_and_told_of() {
    let (node, seen) = (Node::start(Config::default()).await, Seen::default());
    node.deploy("f", noting(&seen)).await;
    let ages = [120, 120, 0, 0];
    *node.wires.stream.lock().unwrap() =
        ages.iter().enumerate().map(|(number, age)| record(&node, number, "a", *age)).collect();
    let (_handle, _stop) = serve(&node, quick());
    let failed = json!({ "OnFailure": { "Destination": "arn:aws:s3:::failed" } });
    let made = map(&node, json!({ "MaximumRecordAgeInSeconds": 60, "DestinationConfig": failed })).await;
    until(|| !seen.lock().unwrap().is_empty()).await;
    assert_eq!(*seen.lock().unwrap(), [[2, 3]]);
    let objects = node.wires.objects.lock().unwrap().clone();
    let (key, told) = objects.iter().next().unwrap();
    assert!(
        key.starts_with(&format!("/failed/aws/lambda/{}/shard/", made["UUID"].as_str().unwrap())),
        "{key}"
    );
    let told: Value = serde_json::from_slice(told).unwrap();
    assert_eq!(told["requestContext"]["condition"], "RecordAgeExceeded");
    assert_eq!(told["DDBStreamBatchInfo"]["batchSize"], 2);
    assert_eq!(told["DDBStreamBatchInfo"]["endSequenceNumber"], "1");
}

#[tokio::test]
async fn records_of_an_item_stay_in_their_order_whatever_else_runs() {
    let (node, seen) = (Node::start(Config::default()).await, Seen::default());
    node.deploy("f", noting(&seen)).await;
    let item = |number: usize| format!("item{}", number % 7);
    *node.wires.stream.lock().unwrap() =
        (0..500).map(|number| record(&node, number, &item(number), 0)).collect();
    let (_handle, _stop) = serve(&node, quick());
    map(&node, json!({ "ParallelizationFactor": 10, "BatchSize": 3 })).await;
    until(|| seen.lock().unwrap().iter().map(Vec::len).sum::<usize>() == 500).await;
    let all: Vec<usize> = seen.lock().unwrap().concat();
    for item in 0..7 {
        let numbers: Vec<_> = all.iter().copied().filter(|number| number % 7 == item).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    assert!(seen.lock().unwrap().iter().all(|batch| batch.len() <= 3));
    assert!(node.runtime.most_live.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn a_change_of_the_mapping_ends_what_would_go_on_for_ever() {
    let (node, seen) = (Node::start(Config::default()).await, Seen::default());
    node.deploy("f", noting(&seen)).await;
    *node.wires.stream.lock().unwrap() =
        vec![record(&node, 0, "bad", 0), record(&node, 1, "good", 0), record(&node, 2, "bad", 0)];
    let (handle, _stop) = serve(&node, quick());
    let made = map(&node, json!({})).await;
    until(|| seen.lock().unwrap().len() > 2).await;
    assert!(seen.lock().unwrap().iter().all(|batch| *batch == [0, 1, 2]));
    let path = format!("/2015-03-31/event-source-mappings/{}", made["UUID"].as_str().unwrap());
    // One at a time, and those that fail are passed over.
    node.json("PUT", &path, json!({ "BatchSize": 1, "MaximumRetryAttempts": 0 })).await.unwrap();
    until(|| seen.lock().unwrap().last() == Some(&vec![2])).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[seen.len() - 3..], [[0], [1], [2]]);
    assert_eq!(handle.sources(), 1);
    node.json("DELETE", &path, Value::Null).await.unwrap();
    until(|| handle.sources() == 0).await;
}
