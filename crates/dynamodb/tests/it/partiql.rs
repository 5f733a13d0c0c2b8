//! Statements: one, in batches, in transactions.

use serde_json::{Value, json};

use crate::support::Service;

async fn run(service: &Service, statement: &str, parameters: Value) -> Value {
    let mut request = json!({"Statement": statement});
    if !parameters.is_null() {
        request["Parameters"] = parameters;
    }
    service.ok("ExecuteStatement", request).await
}

async fn fails(service: &Service, statement: &str, code: &str) -> String {
    let error = service.error("ExecuteStatement", json!({"Statement": statement})).await;
    assert_eq!(error.code, code, "{statement}: {error}");
    error.message
}

async fn music(service: &Service) {
    service.sorted_table("music", "N").await;
    for n in 0..6 {
        let statement = "INSERT INTO music VALUE {'p': ?, 's': ?, 'even': ?, 'info': {'tags': ['a', 'b']}}";
        let parameters = json!([{"S": format!("p{}", n % 2)}, {"N": n.to_string()}, {"BOOL": n % 2 == 0}]);
        assert_eq!(run(service, statement, parameters).await, json!({"Items": []}));
    }
}

fn sorts(answer: &Value) -> Vec<&str> {
    answer["Items"].as_array().unwrap().iter().map(|item| item["s"]["N"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn statements_read_and_write() {
    let service = Service::new();
    music(&service).await;
    let message =
        fails(&service, "INSERT INTO music VALUE {'p': 'p0', 's': 0}", "DuplicateItemException").await;
    assert_eq!(message, "Duplicate primary key exists in table");
    let found =
        run(&service, "SELECT * FROM music WHERE p = 'p0' AND s >= 2 ORDER BY s DESC", Value::Null).await;
    assert_eq!(sorts(&found), ["4", "2"]);
    let found = run(
        &service,
        "SELECT s, info.tags[1] FROM \"music\" WHERE p = ? AND s BETWEEN 1 AND 3",
        json!([{"S": "p1"}]),
    )
    .await;
    assert_eq!(found["Items"][0], json!({"s": {"N": "1"}, "tags[1]": {"S": "b"}}));
    let found = run(&service, "SELECT s FROM music WHERE p IN ['p1', 'p0'] AND NOT s < 3", Value::Null).await;
    assert_eq!(sorts(&found), ["3", "5", "4"]);
    let found =
        run(&service, "SELECT s FROM music WHERE (p = 'p1' OR p = 'p0') AND s = 4", Value::Null).await;
    assert_eq!(sorts(&found), ["4"]);
    let found =
        run(&service, "SELECT * FROM music WHERE even = TRUE AND contains(info.tags, 'a')", Value::Null)
            .await;
    assert_eq!(found["Items"].as_array().unwrap().len(), 3);
    let found =
        run(&service, "SELECT * FROM music WHERE nothing IS MISSING AND even IS NOT MISSING", Value::Null)
            .await;
    assert_eq!(found["Items"].as_array().unwrap().len(), 6);

    let changed = run(
        &service,
        "UPDATE music SET sum = 1 SET info.tags = list_append(info.tags, ['c']) REMOVE even WHERE p = 'p0' AND s = 2 RETURNING ALL NEW *",
        Value::Null,
    )
    .await;
    assert_eq!(changed["Items"][0]["info"]["M"]["tags"]["L"][2], json!({"S": "c"}));
    assert!(changed["Items"][0].get("even").is_none());
    let changed = run(
        &service,
        "UPDATE music SET sum = sum + 2 WHERE p = 'p0' AND s = 2 AND sum = 1 RETURNING MODIFIED NEW *",
        Value::Null,
    )
    .await;
    assert_eq!(changed["Items"], json!([{"sum": {"N": "3"}}]));
    fails(
        &service,
        "UPDATE music SET sum = 1 WHERE p = 'p0' AND s = 2 AND sum = 1",
        "ConditionalCheckFailedException",
    )
    .await;
    fails(
        &service,
        "UPDATE music SET sum = 1 WHERE p = 'nobody' AND s = 2",
        "ConditionalCheckFailedException",
    )
    .await;
    let message = fails(&service, "UPDATE music SET sum = 1 WHERE p = 'p0'", "ValidationException").await;
    assert_eq!(message, "Where clause does not contain a mandatory equality on all key attributes");
    fails(
        &service,
        "DELETE FROM music WHERE p = 'p0' AND s = 2 AND sum = 1",
        "ConditionalCheckFailedException",
    )
    .await;
    let gone = run(
        &service,
        "DELETE FROM music WHERE p = 'p0' AND s = 2 AND sum = 3 RETURNING ALL OLD *",
        Value::Null,
    )
    .await;
    assert_eq!(gone["Items"][0]["sum"], json!({"N": "3"}));
    assert_eq!(
        run(&service, "DELETE FROM music WHERE p = 'p0' AND s = 2 AND sum = 3", Value::Null).await["Items"],
        json!([])
    );
    fails(&service, "SELECT * FROM nothing WHERE p = 'x'", "ResourceNotFoundException").await;
    fails(&service, "SELECT * FROM music.by_x WHERE p = 'x'", "ValidationException").await;
    fails(&service, "SELECT * FROM music WHERE p = ?", "ValidationException").await;
    fails(&service, "SELECT * FROM music WHERE p", "ValidationException").await;
    let message = fails(&service, "SELECT * FROM music ORDER BY s", "ValidationException").await;
    assert!(message.starts_with("Must have at least one non-optional hash key condition"), "{message}");
}

#[tokio::test]
async fn answers_come_in_pages() {
    let service = Service::new();
    music(&service).await;
    for statement in ["SELECT s FROM music WHERE p IN ['p0', 'p1', 'p2']", "SELECT s FROM music"] {
        let mut request = json!({"Statement": statement, "Limit": 2});
        let mut found = Vec::new();
        loop {
            let page = service.ok("ExecuteStatement", request.clone()).await;
            found.extend(sorts(&page).into_iter().map(str::to_owned));
            let Some(token) = page.get("NextToken") else { break };
            request["NextToken"] = token.clone();
        }
        found.sort();
        assert_eq!(found, ["0", "1", "2", "3", "4", "5"], "{statement}");
        request["Statement"] = json!("SELECT p FROM music");
        let error = service.error("ExecuteStatement", request).await;
        assert_eq!(error.message, "Given NextToken is not valid for this statement");
    }
}

#[tokio::test]
async fn batches_answer_each_statement() {
    let service = Service::new();
    music(&service).await;
    let answer = service
        .ok("BatchExecuteStatement", json!({"Statements": [
            {"Statement": "SELECT s FROM music WHERE p = 'p0' AND s = 0"},
            {"Statement": "SELECT * FROM music WHERE p = ? AND s = ?", "Parameters": [{"S": "nobody"}, {"N": "1"}]},
            {"Statement": "SELECT * FROM music WHERE p = 'p0'"},
            {"Statement": "SELECT * FROM nothing WHERE p = 'p0'"},
        ]}))
        .await;
    let responses = answer["Responses"].as_array().unwrap();
    assert_eq!(responses[0], json!({"TableName": "music", "Item": {"s": {"N": "0"}}}));
    assert_eq!(responses[1], json!({"TableName": "music"}));
    assert_eq!(responses[2]["Error"]["Code"], "ValidationError");
    assert_eq!(responses[3]["Error"]["Code"], "ResourceNotFound");
    let answer = service
        .ok(
            "BatchExecuteStatement",
            json!({"Statements": [
                {"Statement": "INSERT INTO music VALUE {'p': 'p0', 's': 0}"},
                {"Statement": "UPDATE music SET x = 1 WHERE p = 'p0' AND s = 0"},
            ]}),
        )
        .await;
    assert_eq!(answer["Responses"][0]["Error"]["Code"], "DuplicateItem");
    assert_eq!(answer["Responses"][1], json!({"TableName": "music"}));
}

#[tokio::test]
async fn transactions_are_all_or_nothing() {
    let service = Service::new();
    music(&service).await;
    let statements = |texts: &[&str]| {
        let all: Vec<_> = texts.iter().map(|text| json!({"Statement": text})).collect();
        json!({"TransactStatements": all})
    };
    let error = service
        .error(
            "ExecuteTransaction",
            statements(&[
                "UPDATE music SET x = 1 WHERE p = 'p0' AND s = 0",
                "EXISTS(SELECT * FROM music WHERE p = 'p1' AND s = 1 AND even = TRUE)",
                "INSERT INTO music VALUE {'p': 'p0', 's': 2}",
            ]),
        )
        .await;
    assert!(error.message.ends_with("[None, ConditionalCheckFailed, DuplicateItem]"), "{error}");
    service
        .ok(
            "ExecuteTransaction",
            statements(&[
                "UPDATE music SET x = 1 WHERE p = 'p0' AND s = 0",
                "EXISTS(SELECT * FROM music WHERE p = 'p1' AND s = 1 AND even = FALSE)",
            ]),
        )
        .await;
    let read = service
        .ok(
            "ExecuteTransaction",
            statements(&[
                "SELECT x FROM music WHERE p = 'p0' AND s = 0",
                "SELECT * FROM music WHERE p = 'x' AND s = 0",
            ]),
        )
        .await;
    assert_eq!(read["Responses"], json!([{"Item": {"x": {"N": "1"}}}, {}]));
    let error = service
        .error(
            "ExecuteTransaction",
            statements(&[
                "SELECT x FROM music WHERE p = 'p0' AND s = 0",
                "DELETE FROM music WHERE p = 'x' AND s = 0",
            ]),
        )
        .await;
    assert_eq!(error.code, "ValidationException");
}
