//! Query and Scan.

use serde_json::{Value, json};

use crate::support::Service;

async fn filled(kind: &str, keys: &[&str]) -> Service {
    let service = Service::new();
    service.sorted_table("tab", kind).await;
    for partition in ["a", "a\u{0}", "b"] {
        for (at, key) in keys.iter().enumerate() {
            service
                .put("tab", json!({"p": {"S": partition}, "s": {kind: key}, "at": {"N": at.to_string()}}))
                .await;
        }
    }
    service
}

fn sort_keys(answer: &Value, kind: &str) -> Vec<String> {
    answer["Items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["s"][kind].as_str().unwrap().to_owned())
        .collect()
}

fn query(condition: &str, values: Value) -> Value {
    let mut values = values;
    if condition.contains(":p") {
        values[":p"] = json!({"S": "a"});
    }
    json!({"TableName": "tab", "KeyConditionExpression": condition, "ExpressionAttributeValues": values})
}

#[tokio::test]
async fn numbers_sort_as_numbers() {
    let keys = ["10", "-1", "9", "0", "-10", "1e20", "0.5", "-0.5", "100"];
    let service = filled("N", &keys).await;
    let answer = service.ok("Query", query("p = :p", json!({}))).await;
    let sorted = ["-10", "-1", "-0.5", "0", "0.5", "9", "10", "100", "100000000000000000000"];
    assert_eq!(sort_keys(&answer, "N"), sorted);
    assert_eq!((&answer["Count"], &answer["ScannedCount"]), (&json!(9), &json!(9)));
    assert_eq!(answer["LastEvaluatedKey"], Value::Null);
    for (condition, values, expected) in [
        ("p = :p AND s < :v", json!({":v": {"N": "0"}}), &sorted[..3]),
        ("p = :p AND s <= :v", json!({":v": {"N": "0"}}), &sorted[..4]),
        ("s > :v AND p = :p", json!({":v": {"N": "9"}}), &sorted[6..]),
        ("p = :p AND s >= :v", json!({":v": {"N": "9.0"}}), &sorted[5..]),
        ("p = :p AND :v <= s", json!({":v": {"N": "9.0"}}), &sorted[5..]),
        ("p = :p AND s = :v", json!({":v": {"N": "100"}}), &sorted[7..8]),
        ("(p = :p) AND (s BETWEEN :v AND :w)", json!({":v": {"N": "-1"}, ":w": {"N": "9"}}), &sorted[1..6]),
    ] {
        let answer = service.ok("Query", query(condition, values.clone())).await;
        assert_eq!(sort_keys(&answer, "N"), expected, "{condition}");
        let mut reverse = query(condition, values);
        reverse["ScanIndexForward"] = json!(false);
        let mut found = sort_keys(&service.ok("Query", reverse).await, "N");
        found.reverse();
        assert_eq!(found, expected, "{condition}");
    }
}

#[tokio::test]
async fn text_sorts_by_bytes_and_has_prefixes() {
    let service = filled("S", &["", "a", "a\u{0}b", "ab", "abc", "b", "ü"][1..]).await;
    let answer = service.ok("Query", query("p = :p", json!({}))).await;
    assert_eq!(sort_keys(&answer, "S"), ["a", "a\u{0}b", "ab", "abc", "b", "ü"]);
    for (condition, values, expected) in [
        ("p = :p AND begins_with(s, :v)", json!({":v": {"S": "ab"}}), &["ab", "abc"][..]),
        ("p = :p AND begins_with(s, :v)", json!({":v": {"S": "a"}}), &["a", "a\u{0}b", "ab", "abc"][..]),
        ("p = :p AND s = :v", json!({":v": {"S": "a"}}), &["a"][..]),
        ("p = :p AND s > :v", json!({":v": {"S": "a"}}), &["a\u{0}b", "ab", "abc", "b", "ü"][..]),
        ("p = :p AND s <= :v", json!({":v": {"S": "a"}}), &["a"][..]),
    ] {
        let answer = service.ok("Query", query(condition, values)).await;
        assert_eq!(sort_keys(&answer, "S"), expected, "{condition}");
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let keys: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    let service = filled("N", &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for forward in [true, false] {
        let mut found = Vec::new();
        let mut request = query("p = :p", json!({}));
        request["Limit"] = json!(3);
        request["ScanIndexForward"] = json!(forward);
        let mut pages = 0;
        loop {
            let answer = service.ok("Query", request.clone()).await;
            found.extend(sort_keys(&answer, "N"));
            pages += 1;
            if answer["LastEvaluatedKey"].is_null() {
                break;
            }
            assert_eq!(answer["LastEvaluatedKey"].as_object().unwrap().len(), 2);
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"].clone();
        }
        if !forward {
            found.reverse();
        }
        assert_eq!((found, pages), (keys.clone(), 4));
    }
}

#[tokio::test]
async fn filters_come_after_the_limit() {
    let service = filled("N", &["1", "2", "3", "4"]).await;
    let mut request = query("p = :p", json!({":two": {"N": "2"}}));
    request["FilterExpression"] = json!("#at >= :two");
    request["ExpressionAttributeNames"] = json!({"#at": "at"});
    let answer = service.ok("Query", request.clone()).await;
    assert_eq!((answer["Count"].clone(), answer["ScannedCount"].clone()), (json!(2), json!(4)));
    request["Limit"] = json!(2);
    let answer = service.ok("Query", request.clone()).await;
    assert_eq!((answer["Count"].clone(), answer["ScannedCount"].clone()), (json!(0), json!(2)));
    assert_eq!(answer["LastEvaluatedKey"]["s"]["N"], "2");
    request["Select"] = json!("COUNT");
    let answer = service.ok("Query", request).await;
    assert_eq!(answer.get("Items"), None);
}

#[tokio::test]
async fn pages_end_at_a_megabyte() {
    let service = Service::new();
    service.sorted_table("tab", "N").await;
    for n in 0..30 {
        service
            .put("tab", json!({"p": {"S": "a"}, "s": {"N": n.to_string()}, "v": {"S": "x".repeat(100_000)}}))
            .await;
    }
    let mut request = query("p = :p", json!({}));
    request["ReturnConsumedCapacity"] = json!("TOTAL");
    let answer = service.ok("Query", request).await;
    assert_eq!(answer["Count"], 10);
    assert_eq!(answer["LastEvaluatedKey"]["s"]["N"], "9");
    // Ten items of 100,005 bytes and a little, read eventually consistent.
    assert_eq!(answer["ConsumedCapacity"]["CapacityUnits"], 122.5);
    let scan = service.ok("Scan", json!({"TableName": "tab"})).await;
    assert_eq!(scan["Count"], 10);
}

#[tokio::test]
async fn queries_that_do_not_fit_are_refused() {
    let service = filled("N", &["1"]).await;
    let v = || json!({":v": {"N": "1"}});
    let operator = "Invalid operator used in KeyConditionExpression";
    for (condition, values, message) in [
        ("s = :v", v(), "Query condition missed key schema element: p".to_owned()),
        ("p = :p AND x = :v", v(), "Query condition missed key schema element: s".into()),
        ("p > :p", json!({}), "Query key condition not supported".into()),
        ("p = :p OR s = :v", v(), format!("{operator}: OR")),
        ("p = :p AND s <> :v", v(), format!("{operator}: <>")),
        ("p = :p AND s IN (:v)", v(), format!("{operator}: IN")),
        ("p = :p AND NOT s = :v", v(), format!("{operator}: NOT")),
        ("p = :p AND attribute_exists(s) AND s = :v", v(), format!("{operator}: attribute_exists")),
        (
            "p = :p AND s = :v AND s < :v",
            v(),
            "KeyConditionExpressions must only contain one condition per key".into(),
        ),
        (
            "p = :p AND s.x = :v",
            v(),
            "KeyConditionExpressions cannot have conditions on nested attributes".into(),
        ),
        ("p = :p AND size(s) = :v", v(), "KeyConditionExpressions cannot contain nested operations".into()),
        (
            "p = :p AND begins_with(s, :v)",
            json!({":v": {"S": "x"}}),
            "One or more parameter values were invalid: Condition parameter type does not match schema type"
                .into(),
        ),
        (
            "p = :p AND s",
            json!({}),
            "Invalid KeyConditionExpression: Syntax error; token: \"<EOF>\", near: \"s\"".into(),
        ),
    ] {
        service.invalid("Query", query(condition, values), &message).await;
    }
    service
        .invalid(
            "Query",
            json!({"TableName": "tab"}),
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
        )
        .await;
    let mut request = query("p = :p", json!({}));
    request["ExclusiveStartKey"] = json!({"p": {"S": "b"}, "s": {"N": "1"}});
    let outside = "The provided starting key is outside query boundaries based on provided conditions";
    service.invalid("Query", request, outside).await;
    let mut request = query("p = :p", json!({}));
    request["FilterExpression"] = json!("s = :v");
    request["ExpressionAttributeValues"][":v"] = json!({"N": "1"});
    let filter = "Filter Expression can only contain non-primary key attributes: Primary key attribute: s";
    service.invalid("Query", request, filter).await;
    let mut request = query("p = :p", json!({}));
    request["IndexName"] = json!("by-name");
    service.invalid("Query", request, "The table does not have the specified index: by-name").await;
}

#[tokio::test]
async fn scans_see_everything_once() {
    let service = Service::new();
    service.simple_table("tab").await;
    for n in 0..100 {
        service.put("tab", json!({"id": {"S": format!("key-{n}")}})).await;
    }
    let mut expected: Vec<_> = (0..100).map(|n| format!("key-{n}")).collect();
    expected.sort();
    for total in [1, 4, 7] {
        let mut found = Vec::new();
        let mut used = 0;
        for segment in 0..total {
            let before = found.len();
            let mut request =
                json!({"TableName": "tab", "Segment": segment, "TotalSegments": total, "Limit": 9});
            loop {
                let answer = service.ok("Scan", request.clone()).await;
                let items = answer["Items"].as_array().unwrap().clone();
                found.extend(items.iter().map(|item| item["id"]["S"].as_str().unwrap().to_owned()));
                if answer["LastEvaluatedKey"].is_null() {
                    break;
                }
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"].clone();
            }
            used += usize::from(found.len() > before);
        }
        found.sort();
        assert_eq!(found, expected, "{total} segments");
        assert_eq!(used, total, "each segment has its share");
    }
    let request = json!({
        "TableName": "tab",
        "FilterExpression": "begins_with(id, :k)",
        "ExpressionAttributeValues": {":k": {"S": "key-1"}},
        "Select": "COUNT",
    });
    let answer = service.ok("Scan", request).await;
    assert_eq!((answer["Count"].clone(), answer["ScannedCount"].clone()), (json!(11), json!(100)));
    for (request, message) in [
        (
            json!({"TableName": "tab", "Segment": 0}),
            "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
        ),
        (
            json!({"TableName": "tab", "Segment": 2, "TotalSegments": 2}),
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 2 is not less than TotalSegments: 2",
        ),
        (
            json!({"TableName": "tab", "ExclusiveStartKey": {"x": {"S": "a"}}}),
            "The provided starting key is invalid: The provided key element does not match the schema",
        ),
    ] {
        service.invalid("Scan", request, message).await;
    }
}
