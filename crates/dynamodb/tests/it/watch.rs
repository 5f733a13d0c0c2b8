//! Tables that are watched: items, changes, where a lost connection goes on, and how it ends.

use std::collections::BTreeMap;

use aws::live::{Events, LiveEvent};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::Service;

/// A service whose subscribers are told of changes.
async fn service() -> Service {
    let service = Service::new();
    tokio::spawn(service.api.feeds().run(CancellationToken::new()));
    service
}

async fn lists(service: &Service, view: &str) {
    service
        .ok(
            "CreateTable",
            json!({
                "TableName": "lists",
                "AttributeDefinitions": [
                    {"AttributeName": "p", "AttributeType": "S"},
                    {"AttributeName": "s", "AttributeType": "N"},
                    {"AttributeName": "g", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "p", "KeyType": "HASH"},
                    {"AttributeName": "s", "KeyType": "RANGE"},
                ],
                "GlobalSecondaryIndexes": [{
                    "IndexName": "by-g",
                    "KeySchema": [
                        {"AttributeName": "g", "KeyType": "HASH"},
                        {"AttributeName": "s", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["v"]},
                }],
                "BillingMode": "PAY_PER_REQUEST",
                "StreamSpecification": {"StreamEnabled": true, "StreamViewType": view},
            }),
        )
        .await;
}

fn item(p: &str, s: u32, v: &str) -> Value {
    json!({"p": {"S": p}, "s": {"N": s.to_string()}, "v": {"S": v}})
}

fn key(p: &str, s: u32) -> Value {
    json!({"p": {"S": p}, "s": {"N": s.to_string()}})
}

fn encode(parameters: &[(&str, &str)]) -> String {
    let byte =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    let value = |text: &str| text.bytes().map(byte).collect::<String>();
    parameters.iter().map(|(name, text)| format!("{name}={}", value(text))).collect::<Vec<_>>().join("&")
}

async fn open(service: &Service, parameters: &[(&str, &str)]) -> Result<Events, aws::Error> {
    let mut request = service.request("Watch", "");
    let (method, uri) = (http::Method::GET, format!("/_hawker/tables/lists/watch?{}", encode(parameters)));
    (request.head.method, request.head.uri) = (method, uri.parse().unwrap());
    let operation = service.api.native(&request).expect("it is for tables").await?;
    Ok(aws::live::take(&mut operation.handle().await?).expect("it goes on").events)
}

/// A client: what it shows.
struct Viewer {
    events: Events,
    token: Option<String>,
    items: BTreeMap<String, (String, Value)>,
    /// Names of changes, with what they are about.
    changes: Vec<(String, Value)>,
}

impl Viewer {
    async fn new(service: &Service, parameters: &[(&str, &str)]) -> Self {
        let events = open(service, parameters).await.unwrap();
        let mut this = Self { events, token: None, items: BTreeMap::new(), changes: Vec::new() };
        this.until("ready").await;
        this
    }

    /// After a lost connection.
    async fn again(&mut self, service: &Service, parameters: &[(&str, &str)]) {
        let mut parameters = parameters.to_vec();
        let token = self.token.clone().unwrap();
        parameters.push(("token", &token));
        self.events = open(service, &parameters).await.unwrap();
    }

    async fn next(&mut self) -> LiveEvent {
        let event = tokio::time::timeout(std::time::Duration::from_secs(20), self.events.next()).await;
        let event = event.expect("something happens").expect("it has not ended");
        if let Some(token) = &event.token {
            self.token = Some(token.clone()).filter(|token| !token.is_empty());
        }
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        match event.name {
            "items" => data["Items"].as_array().unwrap().iter().for_each(|row| self.put(row)),
            "change" => {
                match data["EventName"].as_str().unwrap() {
                    "REMOVE" => drop(self.items.remove(&data["Keys"].to_string())),
                    _ => self.put(&data),
                }
                self.changes.push((data["EventName"].as_str().unwrap().into(), data["Keys"].clone()));
            }
            "reset" => self.items.clear(),
            _ => {}
        }
        event
    }

    fn put(&mut self, row: &Value) {
        let order = row["Order"].as_str().unwrap().to_owned();
        self.items.insert(row["Keys"].to_string(), (order, row["Item"].clone()));
    }

    async fn until(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await;
            if event.name == name {
                return serde_json::from_slice(&event.data).unwrap();
            }
            assert_ne!(event.name, "end", "{}", String::from_utf8_lossy(&event.data));
        }
    }

    /// Its items in their order.
    fn shown(&self) -> Vec<Value> {
        let mut rows: Vec<_> = self.items.values().collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.into_iter().map(|(_, item)| item.clone()).collect()
    }

    async fn changed(&mut self) -> (String, Value) {
        self.until("change").await;
        self.changes.last().unwrap().clone()
    }
}

const WEEKEND: [(&str, &str); 1] = [("partition", r#"{"p":{"S":"weekend"}}"#)];

#[tokio::test]
async fn items_come_first_and_changes_follow() {
    let service = service().await;
    lists(&service, "NEW_AND_OLD_IMAGES").await;
    service.put("lists", item("weekend", 2, "milk")).await;
    service.put("lists", item("weekend", 1, "bread")).await;
    service.put("lists", item("other", 1, "secret")).await;
    let mut viewer = Viewer::new(&service, &WEEKEND).await;
    assert_eq!(viewer.shown(), [item("weekend", 1, "bread"), item("weekend", 2, "milk")]);

    service.put("lists", item("other", 2, "secret")).await;
    service.put("lists", item("weekend", 10, "eggs")).await;
    assert_eq!(viewer.changed().await, ("INSERT".into(), key("weekend", 10)));
    service.put("lists", item("weekend", 1, "rye bread")).await;
    assert_eq!(viewer.changed().await, ("MODIFY".into(), key("weekend", 1)));
    service.ok("DeleteItem", json!({"TableName": "lists", "Key": key("weekend", 2)})).await;
    assert_eq!(viewer.changed().await, ("REMOVE".into(), key("weekend", 2)));
    assert_eq!(viewer.shown(), [item("weekend", 1, "rye bread"), item("weekend", 10, "eggs")]);

    // One item alone.
    let mut one = Viewer::new(&service, &[("key", r#"{"s":{"N":"7"},"p":{"S":"weekend"}}"#)]).await;
    assert!(one.items.is_empty());
    service.put("lists", item("weekend", 8, "x")).await;
    service.put("lists", item("weekend", 7, "y")).await;
    assert_eq!(one.changed().await, ("INSERT".into(), key("weekend", 7)));
}

#[tokio::test]
async fn queries_are_watched_with_their_filters_and_in_their_order() {
    let service = service().await;
    for (view, table) in [("NEW_AND_OLD_IMAGES", true), ("NEW_IMAGE", false)] {
        lists(&service, view).await;
        let query = json!({
            "KeyConditionExpression": "p = :p AND s BETWEEN :low AND :high",
            "FilterExpression": "begins_with(v, :v)",
            "ProjectionExpression": "v",
            "ExpressionAttributeValues": {
                ":p": {"S": "p"}, ":low": {"N": "2"}, ":high": {"N": "5"}, ":v": {"S": "a"},
            },
            "ScanIndexForward": false,
        })
        .to_string();
        for s in 1..=6 {
            service.put("lists", item("p", s, if s % 2 == 0 { "a" } else { "b" })).await;
        }
        let mut viewer = Viewer::new(&service, &[("query", &query)]).await;
        assert_eq!(viewer.shown(), [json!({"v": {"S": "a"}}), json!({"v": {"S": "a"}})]);
        // Out of bounds, then in, then filtered out again.
        service.put("lists", item("p", 6, "a!")).await;
        service.put("lists", item("p", 3, "a3")).await;
        let name = if table { "INSERT" } else { "MODIFY" };
        assert_eq!(viewer.changed().await, (name.into(), key("p", 3)));
        service.put("lists", item("p", 3, "b3")).await;
        assert_eq!(viewer.changed().await, ("REMOVE".into(), key("p", 3)));
        service.ok("DeleteItem", json!({"TableName": "lists", "Key": key("p", 2)})).await;
        assert_eq!(viewer.changed().await, ("REMOVE".into(), key("p", 2)));
        assert_eq!(viewer.items.len(), 1);
        service.ok("DeleteTable", json!({"TableName": "lists"})).await;
    }
}

#[tokio::test]
async fn items_come_and_go_in_an_index() {
    let service = service().await;
    lists(&service, "NEW_AND_OLD_IMAGES").await;
    let in_group = |s: u32, g: &str, v: &str| {
        let mut item = item("p", s, v);
        item["g"] = json!({"S": g});
        item["hidden"] = json!({"S": "not projected"});
        item
    };
    service.put("lists", in_group(1, "red", "x")).await;
    let red = [("partition", r#"{"g":{"S":"red"}}"#), ("index", "by-g")];
    let mut viewer = Viewer::new(&service, &red).await;
    let entry = |s: u32, v: &str| json!({"g": {"S": "red"}, "p": {"S": "p"}, "s": {"N": s.to_string()}, "v": {"S": v}});
    assert_eq!(viewer.shown(), [entry(1, "x")]);
    service.put("lists", in_group(2, "blue", "y")).await;
    service.put("lists", in_group(2, "red", "y")).await;
    assert_eq!(viewer.changed().await, ("INSERT".into(), key("p", 2)));
    service.put("lists", in_group(1, "blue", "x")).await;
    assert_eq!(viewer.changed().await, ("REMOVE".into(), key("p", 1)));
    assert_eq!(viewer.shown(), [entry(2, "y")]);
    service
        .ok(
            "UpdateTable",
            json!({"TableName": "lists", "GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "by-g"}}]}),
        )
        .await;
    let end = viewer.until_end().await;
    assert_eq!(end["Reason"], "StreamDisabled");
}

impl Viewer {
    async fn until_end(&mut self) -> Value {
        loop {
            let event = self.next().await;
            if event.name == "end" {
                assert!(self.events.next().await.is_none(), "nothing follows the end");
                return serde_json::from_slice(&event.data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_lost_connection_goes_on_without_a_gap() {
    let service = service().await;
    lists(&service, "NEW_IMAGE").await;
    let mut viewer = Viewer::new(&service, &WEEKEND).await;
    service.put("lists", item("weekend", 1, "before")).await;
    viewer.changed().await;
    viewer.events = Box::pin(futures_util::stream::empty());
    for s in 2..300 {
        service.put("lists", item("weekend", s, "meanwhile")).await;
        service.put("lists", item("other", s, "meanwhile")).await;
    }
    viewer.again(&service, &WEEKEND).await;
    assert_eq!(viewer.until("open").await["Resumed"], true);
    viewer.until("ready").await;
    assert_eq!(viewer.changes.len(), 299);
    service.put("lists", item("weekend", 1, "after")).await;
    assert_eq!(viewer.changed().await, ("MODIFY".into(), key("weekend", 1)));
    assert_eq!(viewer.changes.len(), 300);

    // Another subscription's token is none of this one's.
    let token = viewer.token.clone().unwrap();
    let error =
        open(&service, &[("partition", r#"{"p":{"S":"x"}}"#), ("token", &token)]).await.err().unwrap();
    assert_eq!(error.message, "The token belongs to a subscription to something else");

    // Another stream has another beginning.
    let stream = |enabled: bool| {
        let mut specification = json!({"StreamEnabled": enabled});
        if enabled {
            specification["StreamViewType"] = "NEW_IMAGE".into();
        }
        json!({"TableName": "lists", "StreamSpecification": specification})
    };
    service.ok("UpdateTable", stream(false)).await;
    assert_eq!(viewer.until_end().await["Reason"], "StreamDisabled");
    service.put("lists", item("weekend", 1, "unseen")).await;
    service.ok("UpdateTable", stream(true)).await;
    viewer.again(&service, &WEEKEND).await;
    assert_eq!(viewer.until("reset").await["Reason"], "TokenExpired");
    viewer.until("ready").await;
    assert_eq!(viewer.items.len(), 299);
    assert_eq!(viewer.shown()[0], item("weekend", 1, "unseen"));
    service.ok("DeleteTable", json!({"TableName": "lists"})).await;
    assert_eq!(viewer.until_end().await["Reason"], "TableDeleted");
}

#[tokio::test]
async fn a_slow_subscriber_misses_nothing() {
    let service = service().await;
    lists(&service, "NEW_IMAGE").await;
    let mut viewer = Viewer::new(&service, &WEEKEND).await;
    let mut last = Viewer::new(&service, &[("partition", r#"{"p":{"S":"other"}}"#)]).await;
    service.put("lists", item("weekend", 0, "0")).await;
    viewer.changed().await;
    for s in 1..1500 {
        service.put("lists", item("weekend", s, "fast")).await;
    }
    // Who is told of the last change is told after everybody was told of those before.
    service.put("lists", item("other", 1, "last")).await;
    last.changed().await;
    for n in 1..1500 {
        assert_eq!(viewer.changed().await, ("INSERT".into(), key("weekend", n)));
    }
    service.put("lists", item("weekend", 1, "again")).await;
    assert_eq!(viewer.changed().await, ("MODIFY".into(), key("weekend", 1)));
}

/// What a viewer shows that follows until the last item is there; one may lose its connection in between.
async fn follow(service: std::sync::Arc<Service>, reverse: bool, lose_after: usize) -> Vec<Value> {
    let query = everything(reverse).to_string();
    let parameters = [("query", query.as_str())];
    let events = open(&service, &parameters).await.unwrap();
    let mut viewer = Viewer { events, token: None, items: BTreeMap::new(), changes: Vec::new() };
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let (mut ready, mut lost) = (false, false);
    while !ready || !viewer.items.contains_key(&key("p", 1000).to_string()) {
        let event = viewer.next().await;
        ready |= event.name == "ready";
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        let rows = data["Items"].as_array().cloned().unwrap_or_else(|| vec![data.clone()]);
        for row in rows.iter().filter(|row| row["Item"]["n"]["N"].is_string()) {
            let n = row["Item"]["n"]["N"].as_str().unwrap().parse().unwrap();
            let before = newest.insert(row["Keys"].to_string(), n).unwrap_or(0);
            assert!(before <= n, "an item never goes back");
        }
        if !lost && ready && viewer.changes.len() >= lose_after {
            lost = true;
            viewer.again(&service, &parameters).await;
        }
    }
    viewer.shown()
}

fn everything(reverse: bool) -> Value {
    json!({
        "KeyConditionExpression": "p = :p",
        "ExpressionAttributeValues": {":p": {"S": "p"}},
        "ScanIndexForward": !reverse,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn items_and_changes_fit_together_under_load() {
    let service = std::sync::Arc::new(service().await);
    lists(&service, "NEW_AND_OLD_IMAGES").await;
    let numbered = |s: u32, n: u32| {
        let mut item = item("p", s, &"x".repeat(3000));
        item["n"] = json!({"N": n.to_string()});
        item
    };
    for s in 0..400 {
        service.put("lists", numbered(s, 0)).await;
    }
    let viewers = [(false, usize::MAX), (true, usize::MAX), (false, 100), (true, 0)]
        .map(|(reverse, lose_after)| tokio::spawn(follow(service.clone(), reverse, lose_after)));
    let mut random = 1_u32;
    for n in 1..1500 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let s = (random >> 16) % 400;
        if n % 7 == 0 {
            service.ok("DeleteItem", json!({"TableName": "lists", "Key": key("p", s)})).await;
        } else {
            service.put("lists", numbered(s, n)).await;
        }
        tokio::task::yield_now().await;
    }
    service.put("lists", item("p", 1000, "last")).await;
    let mut all = Vec::new();
    let mut request = everything(false);
    request["TableName"] = "lists".into();
    loop {
        let answer = service.ok("Query", request.clone()).await;
        all.extend(answer["Items"].as_array().unwrap().clone());
        if answer["LastEvaluatedKey"].is_null() {
            break;
        }
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"].clone();
    }
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap(), all);
    }
}

#[tokio::test]
async fn what_can_not_be_watched_is_refused_with_a_reason() {
    let service = service().await;
    let missing = open(&service, &WEEKEND).await.err().unwrap();
    assert_eq!((&*missing.code, missing.status), ("ResourceNotFoundException", 400));
    lists(&service, "KEYS_ONLY").await;
    let choose = "Give one of: key (the key of an item), partition (its one attribute, perhaps with index), query (members of Query)";
    let query = |name: &str| format!(r#"{{"KeyConditionExpression":"p = :p","{name}":1}}"#);
    let limit = query("Limit");
    for (parameters, message) in [
        (&[][..], choose),
        (&[("partition", r#"{"p":{"S":"a"},"s":{"N":"1"}}"#)], choose),
        (&[WEEKEND[0], ("key", r#"{"p":{"S":"a"}}"#)], choose),
        (&[("partition", "weekend")], "The parameter partition must be a JSON object"),
        (&[("query", &limit)], "The parameter Limit is not supported in a query that is watched"),
        (&[("key", r#"{"p":{"S":"a"}}"#)], "The provided key element does not match the schema"),
        (&[("partition", r#"{"s":{"N":"1"}}"#)], "Query condition missed key schema element: p"),
        (&[WEEKEND[0], ("token", "nonsense")], "Invalid token"),
        (
            &WEEKEND,
            "To be watched, the table needs a stream with StreamViewType NEW_IMAGE or NEW_AND_OLD_IMAGES; UpdateTable enables one",
        ),
        (
            &[("partition", r#"{"g":{"S":"a"}}"#), ("index", "by-g")],
            "To be watched, the table needs a stream with StreamViewType NEW_AND_OLD_IMAGES; UpdateTable enables one",
        ),
    ] {
        let error =
            open(&service, parameters).await.err().unwrap_or_else(|| panic!("{parameters:?} was let in"));
        assert_eq!((&*error.code, error.status), ("ValidationException", 400), "{parameters:?}: {error}");
        assert_eq!(error.message, message, "{parameters:?}");
    }
}

#[tokio::test]
async fn a_watch_needs_the_right_to_query() {
    let service = service().await;
    lists(&service, "NEW_IMAGE").await;
    let mut request = service.request("Watch", "");
    request.head.uri = format!("/_hawker/tables/lists/watch?{}", encode(&WEEKEND)).parse().unwrap();
    request.head.method = http::Method::GET;
    let operation = service.api.native(&request).unwrap().await.unwrap();
    let access = operation.access();
    assert_eq!(access.len(), 1);
    assert_eq!(access[0].action, "dynamodb:Query");
    assert_eq!(access[0].resource, "arn:aws:dynamodb:us-east-1:000000000000:table/lists");
    let leading = access[0].context.iter().find(|(name, _)| name == "dynamodb:LeadingKeys").unwrap();
    assert_eq!(leading.1, ["weekend"]);
}
