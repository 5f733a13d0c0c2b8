//! TransactWriteItems and TransactGetItems.

use serde_json::{Value, json};

use crate::support::Service;

async fn accounts() -> Service {
    let service = Service::new();
    service.simple_table("accounts").await;
    for (id, balance) in [("a", "100"), ("b", "0")] {
        service.put("accounts", json!({"id": {"S": id}, "balance": {"N": balance}})).await;
    }
    service
}

fn transfer(amount: &str, token: Option<&str>) -> Value {
    let update = |id: &str, expression: &str, condition: Option<&str>| {
        let mut update = json!({
            "TableName": "accounts",
            "Key": {"id": {"S": id}},
            "UpdateExpression": expression,
            "ExpressionAttributeValues": {":x": {"N": amount}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        });
        if let Some(condition) = condition {
            update["ConditionExpression"] = json!(condition);
        }
        json!({ "Update": update })
    };
    let mut request = json!({
        "TransactItems": [
            update("a", "SET balance = balance - :x", Some("balance >= :x")),
            update("b", "SET balance = balance + :x", None),
        ],
        "ReturnConsumedCapacity": "TOTAL",
    });
    if let Some(token) = token {
        request["ClientRequestToken"] = json!(token);
    }
    request
}

async fn balances(service: &Service) -> (Value, Value) {
    let mut a = service.get("accounts", "a").await;
    let mut b = service.get("accounts", "b").await;
    (a["balance"]["N"].take(), b["balance"]["N"].take())
}

#[tokio::test]
async fn all_or_nothing() {
    let service = accounts().await;
    let answer = service.ok("TransactWriteItems", transfer("60", None)).await;
    let capacity = json!({"TableName": "accounts", "CapacityUnits": 4.0, "WriteCapacityUnits": 4.0});
    assert_eq!(answer["ConsumedCapacity"], json!([capacity]));
    assert_eq!(balances(&service).await, (json!("40"), json!("60")));

    let error = service.error("TransactWriteItems", transfer("60", None)).await;
    assert_eq!((&*error.code, error.status), ("TransactionCanceledException", 400));
    assert_eq!(
        error.message,
        "Transaction cancelled, please refer cancellation reasons for specific reasons [ConditionalCheckFailed, None]"
    );
    let reasons = json!([
        {
            "Code": "ConditionalCheckFailed",
            "Message": "The conditional request failed",
            "Item": {"id": {"S": "a"}, "balance": {"N": "40"}},
        },
        {"Code": "None"},
    ]);
    assert_eq!(error.fields, [("CancellationReasons", reasons)]);
    assert_eq!(balances(&service).await, (json!("40"), json!("60")));
}

#[tokio::test]
async fn tokens_make_repetition_harmless() {
    let service = accounts().await;
    service.ok("TransactWriteItems", transfer("10", Some("t1"))).await;
    service.ok("TransactWriteItems", transfer("10", Some("t1"))).await;
    assert_eq!(balances(&service).await, (json!("90"), json!("10")));
    let error = service.error("TransactWriteItems", transfer("20", Some("t1"))).await;
    assert_eq!(error.code, "IdempotentParameterMismatchException");
    service.ok("TransactWriteItems", transfer("20", Some("t2"))).await;
    assert_eq!(balances(&service).await, (json!("70"), json!("30")));
}

#[tokio::test]
async fn every_kind_of_action() {
    let service = accounts().await;
    let request = json!({"TransactItems": [
        {"Put": {"TableName": "accounts", "Item": {"id": {"S": "c"}}, "ConditionExpression": "attribute_not_exists(id)"}},
        {"Delete": {"TableName": "accounts", "Key": {"id": {"S": "b"}}}},
        {"ConditionCheck": {"TableName": "accounts", "Key": {"id": {"S": "a"}}, "ConditionExpression": "attribute_exists(id)"}},
    ]});
    assert_eq!(service.ok("TransactWriteItems", request.clone()).await, json!({}));
    assert_eq!(service.get("accounts", "b").await, Value::Null);
    assert_ne!(service.get("accounts", "c").await, Value::Null);
    assert_eq!(service.error("TransactWriteItems", request).await.code, "TransactionCanceledException");
    let request = json!({"TransactItems": [
        {"Get": {"TableName": "accounts", "Key": {"id": {"S": "a"}}, "ProjectionExpression": "balance"}},
        {"Get": {"TableName": "accounts", "Key": {"id": {"S": "b"}}}},
    ], "ReturnConsumedCapacity": "TOTAL"});
    let answer = service.ok("TransactGetItems", request).await;
    assert_eq!(answer["Responses"], json!([{"Item": {"balance": {"N": "100"}}}, {}]));
    assert_eq!(answer["ConsumedCapacity"][0]["ReadCapacityUnits"], 4.0);
}

#[tokio::test]
async fn transactions_that_do_not_fit_are_refused() {
    let service = accounts().await;
    let delete = |id: &str| json!({"Delete": {"TableName": "accounts", "Key": {"id": {"S": id}}}});
    for (items, message) in [
        (
            json!([delete("a"), delete("a")]),
            "Transaction request cannot include multiple operations on one item",
        ),
        (json!([{}]), "TransactItems can only contain one of Check, Put, Update or Delete"),
        (
            json!([{"ConditionCheck": {"TableName": "accounts", "Key": {"id": {"S": "a"}}}}]),
            "1 validation error detected: Value null at 'transactItems.1.member.conditionCheck.conditionExpression' failed to satisfy constraint: Member must not be null",
        ),
    ] {
        service.invalid("TransactWriteItems", json!({"TransactItems": items}), message).await;
    }
    let many: Vec<_> = (0..101).map(|n| delete(&n.to_string())).collect();
    assert_eq!(
        service.error("TransactWriteItems", json!({"TransactItems": many})).await.code,
        "ValidationException"
    );
    let wrong_key = json!({"TransactItems": [
        {"Delete": {"TableName": "accounts", "Key": {"x": {"S": "a"}}}},
    ]});
    let error = service.error("TransactWriteItems", wrong_key).await;
    assert_eq!(error.fields[0].1[0]["Code"], "ValidationError");
    let missing = json!({"TransactItems": [{"Delete": {"TableName": "nothing", "Key": {"id": {"S": "a"}}}}]});
    assert_eq!(service.error("TransactWriteItems", missing).await.code, "ResourceNotFoundException");
}
