//! Conditions, updates and projections, as clients send them.

use serde_json::{Value, json};

use crate::support::Service;

fn subject() -> Value {
    json!({
        "id": {"S": "a"},
        "n": {"N": "5"},
        "t": {"S": "hello"},
        "b": {"B": "AQID"},
        "ss": {"SS": ["x", "y"]},
        "ns": {"NS": ["1", "2"]},
        "l": {"L": [{"N": "1"}, {"S": "two"}, {"M": {"k": {"S": "v"}}}]},
        "m": {"M": {"k": {"N": "7"}, "deep": {"L": [{"BOOL": true}]}}},
        "yes": {"BOOL": true},
        "nil": {"NULL": true},
    })
}

fn placeholders(text: &str, all: &Value, sigil: char) -> Value {
    let used = |key: &str| {
        text.match_indices(key).any(|(at, _)| {
            !text[at + key.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let found: serde_json::Map<_, _> = all
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| key.starts_with(sigil) && used(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if found.is_empty() { Value::Null } else { found.into() }
}

fn values() -> Value {
    json!({
        ":one": {"N": "1"}, ":five": {"N": "5.0"}, ":nine": {"N": "9"}, ":x": {"S": "x"},
        ":he": {"S": "he"}, ":ll": {"S": "ll"}, ":hello": {"S": "hello"}, ":b": {"B": "AQ=="},
        ":S": {"S": "S"}, ":L": {"S": "L"}, ":ss": {"SS": ["y", "x"]}, ":yes": {"BOOL": true},
        ":nil": {"NULL": true}, ":m": {"M": {"k": {"S": "v"}}}, ":bad": {"S": "Q"},
        ":list": {"L": [{"N": "8"}]}, ":ssz": {"SS": ["z"]}, ":ssx": {"SS": ["x"]}, ":ns": {"NS": ["2"]},
        ":zero": {"N": "0"}, ":ssxy": {"SS": ["x", "y"]},
    })
}

fn names() -> Value {
    json!({"#t": "t", "#m": "m", "#deep": "deep", "#id": "id", "#n": "n", "#new": "new attribute"})
}

fn with(mut request: Value, text: &str) -> Value {
    for (member, all, sigil) in
        [("ExpressionAttributeValues", values(), ':'), ("ExpressionAttributeNames", names(), '#')]
    {
        let found = placeholders(text, &all, sigil);
        if !found.is_null() {
            request[member] = found;
        }
    }
    request
}

#[tokio::test]
async fn conditions_hold_or_not() {
    let service = Service::new();
    service.simple_table("things").await;
    service.put("things", subject()).await;
    for (condition, expected) in [
        ("n = :five", true),
        ("n <> :five", false),
        ("absent <> :five", true),
        ("absent = :five", false),
        ("n > :one AND n < :nine", true),
        ("n >= :five and n <= :five", true),
        ("t > n", false),
        ("n BETWEEN :one AND :nine", true),
        ("n between :nine and :nine", false),
        ("NOT n BETWEEN :one AND :nine", false),
        ("n IN (:one, :five)", true),
        ("#t IN (:x)", false),
        ("attribute_exists(m.k) AND attribute_not_exists(m.z)", true),
        ("attribute_exists(#m.#deep[0])", true),
        ("attribute_exists(l[3])", false),
        ("attribute_exists(l[2].k)", true),
        ("attribute_exists(n.k)", false),
        ("attribute_type(t, :S) AND attribute_type(l, :L)", true),
        ("begins_with(t, :he)", true),
        ("begins_with(b, :b)", true),
        ("begins_with(n, :he)", false),
        ("contains(t, :ll)", true),
        ("contains(ss, :x) AND contains(ns, :one)", true),
        ("contains(l, :one)", true),
        ("contains(l, :m)", true),
        ("contains(ns, :x)", false),
        ("ss = :ss", true),
        ("yes = :yes AND nil = :nil", true),
        ("l[2] = :m", true),
        ("size(t) = :five", true),
        ("size(l) < :five AND size(m) > :one AND size(b) > :one", true),
        ("size(n) = :one", false),
        ("n = :one OR n = :nine OR (t = :hello AND NOT (n = :one))", true),
        ("n = :one OR n = :five AND t = :x", false),
        ("(n = :one OR n = :five) AND t = :hello", true),
        ("NOT NOT n = :five", true),
        ("(n) = (:five)", true),
        (":five = n", true),
        (":x = :x", true),
    ] {
        let request = with(
            json!({"TableName": "things", "Item": subject(), "ConditionExpression": condition}),
            condition,
        );
        let held = match service.raw("PutItem", &request.to_string()).await {
            Ok(_) => true,
            Err(error) if error.code == "ConditionalCheckFailedException" => false,
            Err(error) => panic!("{condition}: {error}"),
        };
        assert_eq!(held, expected, "{condition}");
    }
}

#[tokio::test]
async fn malformed_conditions_are_refused() {
    let service = Service::new();
    service.simple_table("things").await;
    let operand = "Incorrect operand type for operator or function; operator or function";
    for (condition, message) in [
        ("", "The expression can not be empty;".to_owned()),
        ("n = ", "Syntax error; token: \"<EOF>\", near: \"= \"".into()),
        ("n = :one :one", "Syntax error; token: \":one\", near: \":one :one\"".into()),
        ("n ! :one", "Syntax error; token: \"!\", near: \"n ! :one\"".into()),
        ("n", "Syntax error; token: \"<EOF>\", near: \"n\"".into()),
        ("(n = :one", "Syntax error; token: \"<EOF>\", near: \":one\"".into()),
        ("((n = :one))", "The expression has redundant parentheses;".into()),
        ("((n)) = :one", "The expression has redundant parentheses;".into()),
        ("name = :one", "Attribute name is a reserved keyword; reserved keyword: name".into()),
        ("m.Status = :one", "Attribute name is a reserved keyword; reserved keyword: Status".into()),
        (
            "#undefined = :one",
            "An expression attribute name used in the document path is not defined; attribute name: #undefined".into(),
        ),
        (
            "n = :undefined",
            "An expression attribute value used in expression is not defined; attribute value: :undefined".into(),
        ),
        ("magic(n)", "Invalid function name; function: magic".into()),
        (
            "size(n)",
            "The function is not allowed to be used this way in an expression; function: size".into(),
        ),
        (
            "n = attribute_exists(t)",
            "The function is not allowed to be used this way in an expression; function: attribute_exists".into(),
        ),
        (
            "attribute_exists(n, t)",
            "Incorrect number of operands for operator or function; operator or function: attribute_exists, number of operands: 2".into(),
        ),
        (
            "attribute_exists(:one)",
            "Operator or function requires a document path; operator or function: attribute_exists".into(),
        ),
        ("begins_with(t, :one)", format!("{operand}: begins_with, operand type: N")),
        ("attribute_type(t, :one)", format!("{operand}: attribute_type, operand type: N")),
        (
            "attribute_type(t, :bad)",
            "Invalid attribute type name found; type: Q, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}".into(),
        ),
        ("n < :yes", format!("{operand}: <, operand type: BOOL")),
        ("size(:one) = n", format!("{operand}: size, operand type: N")),
        (
            "n = n",
            "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [n]".into(),
        ),
        (
            "n BETWEEN :nine AND :one",
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {N:9}, upper bound operand: AttributeValue: {N:1}".into(),
        ),
    ] {
        let request =
            with(json!({"TableName": "things", "Item": subject(), "ConditionExpression": condition}), condition);
        let message = format!("Invalid ConditionExpression: {message}");
        service.invalid("PutItem", request, &message).await;
    }
    let long = format!("attribute_exists({})", "x".repeat(5000));
    let deep = format!("{}n = :one{}", "NOT (".repeat(500), ")".repeat(500));
    let nots = format!("{}n = :one", "NOT ".repeat(900));
    let wide = vec!["n = :one"; 310].join(" OR ");
    for condition in [&long, &deep, &nots, &wide] {
        let request = with(
            json!({"TableName": "things", "Item": subject(), "ConditionExpression": condition}),
            condition,
        );
        assert_eq!(service.error("PutItem", request).await.code, "ValidationException");
    }
}

#[tokio::test]
async fn placeholders_must_be_right() {
    let service = Service::new();
    service.simple_table("things").await;
    let base = json!({"TableName": "things", "Item": {"id": {"S": "a"}}});
    for (extra, message) in [
        (
            json!({"ExpressionAttributeNames": {"#a": "a"}}),
            "ExpressionAttributeNames can only be specified when using expressions",
        ),
        (
            json!({"ExpressionAttributeValues": {":a": {"S": "a"}}}),
            "ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null",
        ),
        (
            json!({"ConditionExpression": "attribute_exists(a)", "ExpressionAttributeNames": {}}),
            "ExpressionAttributeNames must not be empty",
        ),
        (
            json!({"ConditionExpression": "attribute_exists(a)", "ExpressionAttributeNames": {"a": "a"}}),
            "ExpressionAttributeNames contains invalid key: Syntax error; key: \"a\"",
        ),
        (
            json!({"ConditionExpression": "attribute_exists(a)", "ExpressionAttributeNames": {"#a": "a"}}),
            "Value provided in ExpressionAttributeNames unused in expressions: keys: {#a}",
        ),
        (
            json!({"ConditionExpression": "attribute_exists(a)", "ExpressionAttributeValues": {":v": {"S": "a"}}}),
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}",
        ),
        (
            json!({"ConditionExpression": "a = :v", "ExpressionAttributeValues": {":v": {"N": "x"}}}),
            "ExpressionAttributeValues contains invalid value: The parameter cannot be converted to a numeric value: x for key :v",
        ),
    ] {
        let mut request = base.clone();
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        service.invalid("PutItem", request, message).await;
    }
}

#[tokio::test]
async fn updates_change_what_they_say() {
    let service = Service::new();
    service.simple_table("things").await;
    for (update, path, expected) in [
        ("SET n = :nine", "/n/N", json!("9")),
        ("SET n = n + :one", "/n/N", json!("6")),
        ("SET n = n - :nine", "/n/N", json!("-4")),
        ("SET z = if_not_exists(z, :zero) + :one", "/z/N", json!("1")),
        ("SET n = if_not_exists(n, :zero)", "/n/N", json!("5")),
        ("SET l = list_append(l, :list)", "/l/L/3/N", json!("8")),
        ("SET l = list_append(:list, l)", "/l/L/0/N", json!("8")),
        ("SET l[1] = :one", "/l/L/1/N", json!("1")),
        (
            "SET l[40] = :one, l[30] = :nine",
            "/l/L",
            json!([{"N": "1"}, {"S": "two"}, {"M": {"k": {"S": "v"}}}, {"N": "9"}, {"N": "1"}]),
        ),
        ("SET #m.#new = :x", "/m/M/new attribute/S", json!("x")),
        ("SET m.#deep[0] = :x", "/m/M/deep/L/0/S", json!("x")),
        ("SET t = n, n = t", "/n/S", json!("hello")),
        ("REMOVE n", "/n", Value::Null),
        ("REMOVE l[0], l[1]", "/l/L", json!([{"M": {"k": {"S": "v"}}}])),
        ("REMOVE l[9]", "/n/N", json!("5")),
        ("REMOVE m.k", "/m/M/k", Value::Null),
        ("ADD n :one", "/n/N", json!("6")),
        ("ADD z :one", "/z/N", json!("1")),
        ("ADD ss :ssz", "/ss/SS", json!(["x", "y", "z"])),
        ("ADD ss :ssx", "/ss/SS", json!(["x", "y"])),
        ("DELETE ss :ssx", "/ss/SS", json!(["y"])),
        ("DELETE ss :ssxy", "/ss", Value::Null),
        ("DELETE ns :ns", "/ns/NS", json!(["1"])),
        ("DELETE absent :ns", "/absent", Value::Null),
        ("set n = :nine remove t add z :one delete ss :ssx", "/z/N", json!("1")),
        ("SET n = (n + :one)", "/n/N", json!("6")),
    ] {
        service.put("things", subject()).await;
        let request = with(
            json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "UpdateExpression": update, "ReturnValues": "ALL_NEW"}),
            update,
        );
        let answer = service.ok("UpdateItem", request).await;
        let found = answer["Attributes"].pointer(path).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{update}");
        assert_eq!(service.get("things", "a").await, answer["Attributes"], "{update}");
    }
}

#[tokio::test]
async fn updates_that_do_not_fit_are_refused() {
    let service = Service::new();
    service.simple_table("things").await;
    service.put("things", subject()).await;
    let syntax = |rest: &str| format!("Invalid UpdateExpression: {rest}");
    for (update, message) in [
        ("", syntax("The expression can not be empty;")),
        ("n = :one", syntax("Syntax error; token: \"n\", near: \"n =\"")),
        ("SET n", syntax("Syntax error; token: \"<EOF>\", near: \"n\"")),
        ("SET n = :one,", syntax("Syntax error; token: \"<EOF>\", near: \",\"")),
        ("SET n = :one SET t = :x", syntax("The \"SET\" section can only be used once in an update expression;")),
        ("SET name = :one", syntax("Attribute name is a reserved keyword; reserved keyword: name")),
        (
            "SET m.k = :one, m = :x",
            syntax("Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [m, k], path two: [m]"),
        ),
        (
            "SET m.k = :one REMOVE m[0]",
            syntax("Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [m, k], path two: [m, [0]]"),
        ),
        ("SET n = magic(t)", syntax("Invalid function name; function: magic")),
        (
            "SET n = n + :x",
            syntax("Incorrect operand type for operator or function; operator or function: +, operand type: S"),
        ),
        (
            "ADD n :x",
            syntax("Incorrect operand type for operator or function; operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND"),
        ),
        (
            "DELETE n :one",
            syntax("Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND"),
        ),
        (
            "SET #id = :x",
            "One or more parameter values were invalid: Cannot update attribute id. This attribute is part of the key".into(),
        ),
        ("SET n = t + :one", "An operand in the update expression has an incorrect data type".into()),
        ("ADD t :one", "An operand in the update expression has an incorrect data type".into()),
        ("ADD ss :ns", "An operand in the update expression has an incorrect data type".into()),
        (
            "SET n = absent",
            "The provided expression refers to an attribute that does not exist in the item".into(),
        ),
        (
            "SET absent.x = :one",
            "The document path provided in the update expression is invalid for update".into(),
        ),
        ("SET n.x = :one", "The document path provided in the update expression is invalid for update".into()),
        ("SET m[0] = :one", "The document path provided in the update expression is invalid for update".into()),
    ] {
        let request =
            with(json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "UpdateExpression": update}), update);
        service.invalid("UpdateItem", request, &message).await;
    }
    assert_eq!(service.get("things", "a").await, subject());
}

#[tokio::test]
async fn updates_return_what_was_asked_for() {
    let service = Service::new();
    service.simple_table("things").await;
    for (returns, expected) in [
        ("NONE", Value::Null),
        ("ALL_OLD", subject()),
        ("UPDATED_OLD", json!({"n": {"N": "5"}, "m": {"M": {"k": {"N": "7"}}}})),
        ("UPDATED_NEW", json!({"n": {"N": "6"}, "m": {"M": {"k": {"N": "1"}}}, "z": {"N": "1"}})),
    ] {
        service.put("things", subject()).await;
        let update = "SET n = n + :one, m.k = :one, z = :one";
        let request = with(
            json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "UpdateExpression": update, "ReturnValues": returns}),
            update,
        );
        assert_eq!(service.ok("UpdateItem", request).await["Attributes"], expected, "{returns}");
    }
    // An update makes the item if it is not there, even without an expression.
    let upsert = json!({"TableName": "things", "Key": {"id": {"S": "new"}}, "ReturnValues": "ALL_NEW"});
    assert_eq!(service.ok("UpdateItem", upsert).await["Attributes"], json!({"id": {"S": "new"}}));
    let none = json!({"TableName": "things", "Key": {"id": {"S": "newer"}}, "ReturnValues": "ALL_OLD"});
    assert_eq!(service.ok("UpdateItem", none).await, json!({}));
}

#[tokio::test]
async fn concurrent_updates_lose_nothing() {
    let service = std::sync::Arc::new(Service::new());
    service.simple_table("things").await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let service = service.clone();
        tasks.push(tokio::spawn(async move {
            let request = with(
                json!({"TableName": "things", "Key": {"id": {"S": "counter"}}, "UpdateExpression": "ADD n :one"}),
                "ADD n :one",
            );
            service.ok("UpdateItem", request).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(service.get("things", "counter").await["n"]["N"], "50");
}

#[tokio::test]
async fn projections_take_parts() {
    let service = Service::new();
    service.simple_table("things").await;
    service.put("things", subject()).await;
    for (projection, expected) in [
        ("n", json!({"n": {"N": "5"}})),
        ("#t, n", json!({"t": {"S": "hello"}, "n": {"N": "5"}})),
        ("absent", json!({})),
        ("m.k", json!({"m": {"M": {"k": {"N": "7"}}}})),
        ("m.absent", json!({})),
        ("m.#deep[0], m.k", json!({"m": {"M": {"deep": {"L": [{"BOOL": true}]}, "k": {"N": "7"}}}})),
        ("l[2].k, l[0]", json!({"l": {"L": [{"N": "1"}, {"M": {"k": {"S": "v"}}}]}})),
        ("l[7], n", json!({"n": {"N": "5"}})),
    ] {
        let request = with(
            json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "ProjectionExpression": projection}),
            projection,
        );
        assert_eq!(service.ok("GetItem", request).await["Item"], expected, "{projection}");
    }
    for (projection, message) in [
        ("n,", "Invalid ProjectionExpression: Syntax error; token: \"<EOF>\", near: \",\""),
        (
            "m, m.k",
            "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [m], path two: [m, k]",
        ),
        (
            "#id.x",
            "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: id",
        ),
    ] {
        let request = with(
            json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "ProjectionExpression": projection}),
            projection,
        );
        service.invalid("GetItem", request, message).await;
    }
}
