//! CloudWatch Logs.

use serde_json::json;
use store::{FjallConfig, FjallEngine, Store};
use telemetry::Config;

use crate::node::{Node, messages};

#[tokio::test]
async fn what_a_function_logs_can_be_read_and_followed() {
    let node = Node::new();
    let start = node.now_ms();
    let lines: Vec<_> = (0..5).map(|i| (i, format!("line {i}"))).collect();
    node.log("/aws/lambda/f", "s1", start, &lines).await;
    node.telemetry.flush().await;

    let groups = node.logs("DescribeLogGroups", json!({"logGroupNamePrefix": "/aws/lambda/"})).await.unwrap();
    assert_eq!(groups["logGroups"][0]["logGroupName"], "/aws/lambda/f");
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f";
    assert_eq!(groups["logGroups"][0]["logGroupArn"], arn);
    assert_eq!(groups["logGroups"][0]["arn"], format!("{arn}:*"));

    let get = |more: serde_json::Value| {
        let mut input = json!({"logGroupName": "/aws/lambda/f", "logStreamName": "s1"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.logs("GetLogEvents", input)
    };
    let page = get(json!({"startFromHead": true, "limit": 3})).await.unwrap();
    assert_eq!(messages(&page), ["line 0", "line 1", "line 2"]);
    let page = get(json!({"nextToken": page["nextForwardToken"], "limit": 3})).await.unwrap();
    assert_eq!(messages(&page), ["line 3", "line 4"]);
    // At the end the token stays the same, and goes on from there when there is more.
    let end = get(json!({"nextToken": page["nextForwardToken"]})).await.unwrap();
    assert_eq!((messages(&end).len(), &end["nextForwardToken"]), (0, &page["nextForwardToken"]));
    node.log("/aws/lambda/f", "s1", start, &[(7, "line 7".into())]).await;
    node.telemetry.flush().await;
    let page = get(json!({"nextToken": end["nextForwardToken"]})).await.unwrap();
    assert_eq!(messages(&page), ["line 7"]);

    // Without a token, the latest; backwards from there.
    let page = get(json!({"limit": 2})).await.unwrap();
    assert_eq!(messages(&page), ["line 4", "line 7"]);
    let page = get(json!({"limit": 3, "nextToken": page["nextBackwardToken"]})).await.unwrap();
    assert_eq!(messages(&page), ["line 1", "line 2", "line 3"]);
    let page = get(json!({"nextToken": page["nextBackwardToken"]})).await.unwrap();
    assert_eq!(messages(&page), ["line 0"]);
    let first = get(json!({"nextToken": page["nextBackwardToken"]})).await.unwrap();
    assert_eq!((messages(&first).len(), &first["nextBackwardToken"]), (0, &page["nextBackwardToken"]));
    // The end is excluded.
    let page =
        get(json!({"startFromHead": true, "startTime": start + 1, "endTime": start + 3})).await.unwrap();
    assert_eq!(messages(&page), ["line 1", "line 2"]);
}

#[tokio::test]
async fn a_group_is_searched_in_order_of_time_over_its_streams() {
    let node = Node::new();
    let start = node.now_ms() - 60_000;
    // Streams overlap, arrive out of order, and span many chunks.
    let mut expected = Vec::new();
    for stream in ["a", "b", "c"] {
        let offset = i64::from(stream.as_bytes()[0] - b'a');
        let lines: Vec<_> = (0..400i64).rev().map(|i| (i * 100 + offset, format!("{stream} {i}"))).collect();
        expected.extend(lines.iter().map(|(ms, message)| (*ms, message.clone())));
        for part in lines.chunks(37) {
            node.log("g", stream, start, part).await;
            node.telemetry.flush().await;
        }
    }
    expected.sort();
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut input = json!({"logGroupName": "g", "limit": 100});
        if let Some(token) = &token {
            input["nextToken"] = token.as_str().into();
        }
        let page = node.logs("FilterLogEvents", input).await.unwrap();
        found.extend(messages(&page));
        match page["nextToken"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    let expected: Vec<_> = expected.into_iter().map(|(_, message)| message).collect();
    assert_eq!(found, expected);

    // Backwards through one stream.
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut input = json!({"logGroupName": "g", "logStreamName": "b", "limit": 70});
        if let Some(token) = &token {
            input["nextToken"] = token.as_str().into();
        }
        let page = node.logs("GetLogEvents", input).await.unwrap();
        let page_messages = messages(&page);
        if page_messages.is_empty() {
            break;
        }
        found.extend(page_messages.into_iter().rev());
        token = page["nextBackwardToken"].as_str().map(str::to_owned);
    }
    assert_eq!(found, (0..400).rev().map(|i| format!("b {i}")).collect::<Vec<_>>());

    let search = async |more: serde_json::Value| {
        let mut input = json!({"logGroupIdentifier": "arn:aws:logs:us-east-1:000000000000:log-group:g:*"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        messages(&node.logs("FilterLogEvents", input).await.unwrap())
    };
    assert_eq!(search(json!({"filterPattern": "\"b 39\" -399"})).await.len(), 10);
    assert_eq!(search(json!({"logStreamNames": ["a", "c"], "filterPattern": "17"})).await.len(), 2 * 14);
    assert_eq!(search(json!({"logStreamNamePrefix": "c", "interleaved": true})).await.len(), 400);
    // Unlike in GetLogEvents, the end is included.
    assert_eq!(search(json!({"startTime": start, "endTime": start + 2})).await, ["a 0", "b 0", "c 0"]);
}

#[tokio::test]
async fn event_ids_and_tokens_are_those_that_clients_rely_on() {
    let node = Node::new();
    node.log("g", "s", node.now_ms(), &[(0, "same".into()), (0, "same".into())]).await;
    node.telemetry.flush().await;
    let page = node.logs("FilterLogEvents", json!({"logGroupName": "g"})).await.unwrap();
    let ids: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|e| e["eventId"].as_str().unwrap()).collect();
    assert!(ids[0] < ids[1] && ids.iter().all(|id| id.len() == 56), "{ids:?}");
    assert_eq!(page["events"][0]["logStreamName"], "s");
    let error =
        node.logs("FilterLogEvents", json!({"logGroupName": "g", "nextToken": "x"})).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
}

#[tokio::test]
async fn groups_and_streams_are_made_and_deleted_for_good() {
    let node = Node::new();
    let group = json!({"logGroupName": "g", "tags": {"team": "a"}});
    node.logs("CreateLogGroup", group.clone()).await.unwrap();
    let error = node.logs("CreateLogGroup", group).await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("ResourceAlreadyExistsException", 400));
    assert_eq!(error.message, "The specified log group already exists");
    let stream = json!({"logGroupName": "g", "logStreamName": "s"});
    node.logs("CreateLogStream", stream.clone()).await.unwrap();
    assert!(node.logs("CreateLogStream", stream.clone()).await.is_err());
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g";
    let tags = node.logs("ListTagsForResource", json!({"resourceArn": arn})).await.unwrap();
    assert_eq!(tags["tags"]["team"], "a");

    let now = node.now_ms();
    let put = |stream: &str, events: serde_json::Value| {
        node.logs("PutLogEvents", json!({"logGroupName": "g", "logStreamName": stream, "logEvents": events}))
    };
    let answer = put(
        "s",
        json!([
            {"timestamp": now - 15 * 86_400_000, "message": "too old"},
        ]),
    )
    .await
    .unwrap();
    assert_eq!(answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"], 1);
    let answer = put(
        "s",
        json!([
            {"timestamp": now, "message": "now"},
            {"timestamp": now + 3 * 3_600_000, "message": "too new"},
        ]),
    )
    .await
    .unwrap();
    assert_eq!(answer["rejectedLogEventsInfo"]["tooNewLogEventStartIndex"], 1);
    let backwards = json!([{"timestamp": now, "message": "b"}, {"timestamp": now - 1, "message": "a"}]);
    assert_eq!(put("s", backwards).await.unwrap_err().code, "InvalidParameterException");
    let error = put("t", json!([{"timestamp": now, "message": "m"}])).await.unwrap_err();
    assert_eq!(error.message, "The specified log stream does not exist.");

    let read = || node.logs("FilterLogEvents", json!({"logGroupName": "g"}));
    assert_eq!(messages(&read().await.unwrap()), ["now"]);
    node.logs("DeleteLogGroup", json!({"logGroupName": "g"})).await.unwrap();
    assert_eq!(read().await.unwrap_err().message, "The specified log group does not exist.");
    // A group of the same name is another one, also for what is recorded while nobody looked.
    node.log("g", "s", now, &[(1, "new".into())]).await;
    node.telemetry.flush().await;
    assert_eq!(messages(&read().await.unwrap()), ["new"]);
    node.logs("DeleteLogStream", stream.clone()).await.unwrap();
    node.log("g", "s", now, &[(2, "newer".into())]).await;
    node.telemetry.flush().await;
    let page = node.logs("GetLogEvents", stream).await.unwrap();
    assert_eq!(messages(&page), ["newer"]);
    assert!(node.logs("CreateLogGroup", json!({"logGroupName": "a b"})).await.is_err());
    assert!(node.logs("CreateLogGroup", json!({"logGroupName": "k", "kmsKeyId": "x"})).await.is_err());
    assert!(node.logs("StartQuery", json!({})).await.is_err());
}

#[tokio::test]
async fn streams_are_listed_by_name_and_by_time() {
    let node = Node::new();
    let now = node.now_ms();
    for (at, stream) in ["d", "b", "e", "a", "c"].into_iter().enumerate() {
        node.log("g", stream, now, &[(i64::try_from(at).unwrap(), "m".into())]).await;
    }
    node.telemetry.flush().await;
    let list = async |order: &str, descending: bool| {
        let (mut names, mut token) = (String::new(), serde_json::Value::Null);
        loop {
            let mut input =
                json!({"logGroupName": "g", "orderBy": order, "descending": descending, "limit": 2});
            if !token.is_null() {
                input["nextToken"] = token;
            }
            let page = node.logs("DescribeLogStreams", input).await.unwrap();
            for stream in page["logStreams"].as_array().unwrap() {
                names.push_str(stream["logStreamName"].as_str().unwrap());
            }
            token = page["nextToken"].clone();
            if token.is_null() {
                return names;
            }
        }
    };
    assert_eq!(list("LogStreamName", false).await, "abcde");
    assert_eq!(list("LogStreamName", true).await, "edcba");
    assert_eq!(list("LastEventTime", true).await, "caebd");
    assert_eq!(list("LastEventTime", false).await, "dbeac");
}

#[tokio::test]
async fn expired_events_are_not_shown() {
    let node = Node::new();
    let now = node.now_ms();
    node.log("g", "s", now - 3 * 86_400_000, &[(0, "old".into())]).await;
    node.log("g", "s", now, &[(0, "new".into())]).await;
    node.telemetry.flush().await;
    let read = async || messages(&node.logs("FilterLogEvents", json!({"logGroupName": "g"})).await.unwrap());
    assert_eq!(read().await, ["old", "new"]);
    let put = json!({"logGroupName": "g", "retentionInDays": 1});
    node.logs("PutRetentionPolicy", put).await.unwrap();
    assert_eq!(read().await, ["new"]);
    node.logs("DeleteRetentionPolicy", json!({"logGroupName": "g"})).await.unwrap();
    let odd = json!({"logGroupName": "g", "retentionInDays": 2});
    assert_eq!(node.logs("PutRetentionPolicy", odd).await.unwrap_err().code, "InvalidParameterException");
}

#[tokio::test]
async fn what_was_flushed_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || FjallEngine::open(FjallConfig::new(dir.path().join("store"))).unwrap();
    let store = Store::new(open());
    let node = Node::over(store.clone(), Config::default());
    node.log("g", "s", node.now_ms(), &[(0, "kept".into())]).await;
    node.telemetry.flush().await;
    node.log("g", "s", node.now_ms(), &[(0, "written at the end".into())]).await;
    node.stop().await;
    store.close().await.unwrap();
    drop(store);
    let node = Node::over(Store::new(open()), Config::default());
    let page = node.logs("FilterLogEvents", json!({"logGroupName": "g"})).await.unwrap();
    assert_eq!(messages(&page), ["kept", "written at the end"]);
}
