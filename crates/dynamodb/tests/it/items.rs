//! PutItem, GetItem, UpdateItem, DeleteItem and batches.

use serde_json::{Value, json};

use crate::support::Service;

fn every_type() -> Value {
    json!({
        "id": {"S": "a"},
        "text": {"S": "quote \" slash \\ tab \t bell \u{7} ünï 😀"},
        "number": {"N": "-12.5"},
        "binary": {"B": "AAEC/w=="},
        "yes": {"BOOL": true},
        "no": {"BOOL": false},
        "nothing": {"NULL": true},
        "texts": {"SS": ["a", "b"]},
        "numbers": {"NS": ["-1", "2", "10"]},
        "binaries": {"BS": ["AA==", "AQ=="]},
        "list": {"L": [{"S": "x"}, {"N": "1"}, {"L": []}, {"M": {}}]},
        "map": {"M": {"inner": {"M": {"deep": {"BOOL": true}}}, "empty": {"S": ""}}},
    })
}

#[tokio::test]
async fn items_come_back_as_they_went_in() {
    let service = Service::new();
    service.simple_table("things").await;
    service.put("things", every_type()).await;
    assert_eq!(service.get("things", "a").await, every_type());
    assert_eq!(service.get("things", "b").await, Value::Null);

    let old = service
        .ok("PutItem", json!({"TableName": "things", "Item": {"id": {"S": "a"}}, "ReturnValues": "ALL_OLD"}))
        .await;
    assert_eq!(old["Attributes"], every_type());
    let old = service
        .ok(
            "DeleteItem",
            json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "ReturnValues": "ALL_OLD"}),
        )
        .await;
    assert_eq!(old, json!({"Attributes": {"id": {"S": "a"}}}));
    let again = json!({"TableName": "things", "Key": {"id": {"S": "a"}}, "ReturnValues": "ALL_OLD"});
    assert_eq!(service.ok("DeleteItem", again).await, json!({}));
}

#[tokio::test]
async fn numbers_are_canonical() {
    let service = Service::new();
    service.simple_table("things").await;
    for (given, kept) in [("0010", "10"), ("1.500", "1.5"), ("1E3", "1000"), ("-0", "0"), ("1e-5", "0.00001")]
    {
        service.put("things", json!({"id": {"S": "n"}, "v": {"N": given}})).await;
        assert_eq!(service.get("things", "n").await["v"]["N"], kept);
    }
}

#[tokio::test]
async fn what_is_put_is_checked() {
    let service = Service::new();
    service.simple_table("things").await;
    let prefix = "One or more parameter values were invalid: ";
    let nested = (0..33).fold(json!({"N": "1"}), |inner, _| json!({"L": [inner]}));
    for (item, message) in [
        (json!({}), format!("{prefix}Missing the key id in the item")),
        (json!({"id": {"N": "1"}}), format!("{prefix}Type mismatch for key id expected: S actual: N")),
        (
            json!({"id": {"S": ""}}),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id".into(),
        ),
        (
            json!({"id": {"S": "x".repeat(2049)}}),
            format!("{prefix}Size of hashkey has exceeded the maximum size limit of2048 bytes"),
        ),
        (
            json!({"id": {}}),
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes".into(),
        ),
        (
            json!({"id": {"S": "a", "N": "1"}}),
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes".into(),
        ),
        (json!({"id": {"S": "a"}, "n": {"N": ""}}), "The parameter cannot be converted to a numeric value".into()),
        (
            json!({"id": {"S": "a"}, "n": {"N": "one"}}),
            "The parameter cannot be converted to a numeric value: one".into(),
        ),
        (
            json!({"id": {"S": "a"}, "n": {"N": "1e126"}}),
            "Number overflow. Attempting to store a number with magnitude larger than supported range".into(),
        ),
        (
            json!({"id": {"S": "a"}, "n": {"N": "1e-131"}}),
            "Number underflow. Attempting to store a number with magnitude smaller than supported range".into(),
        ),
        (
            json!({"id": {"S": "a"}, "n": {"N": "123456789012345678901234567890123456789"}}),
            "Attempting to store more than 38 significant digits in a Number".into(),
        ),
        (
            json!({"id": {"S": "a"}, "n": {"NULL": false}}),
            format!("{prefix}Null attribute value types must have the value of true"),
        ),
        (json!({"id": {"S": "a"}, "n": {"SS": []}}), format!("{prefix}An string set  may not be empty")),
        (json!({"id": {"S": "a"}, "n": {"NS": []}}), format!("{prefix}An number set  may not be empty")),
        (json!({"id": {"S": "a"}, "n": {"BS": []}}), format!("{prefix}Binary sets should not be empty")),
        (
            json!({"id": {"S": "a"}, "n": {"SS": ["x", "y", "x"]}}),
            format!("{prefix}Input collection [x, y, x] contains duplicates."),
        ),
        (json!({"id": {"S": "a"}, "n": {"NS": ["1", "1.0"]}}), "Input collection contains duplicates".into()),
        (
            json!({"id": {"S": "a"}, "n": {"S": "x".repeat(409_600)}}),
            "Item size has exceeded the maximum allowed size".into(),
        ),
        (json!({"id": {"S": "a"}, "n": nested}), "Nesting Levels have exceeded supported limits".into()),
    ] {
        service.invalid("PutItem", json!({"TableName": "things", "Item": item}), &message).await;
    }
    // Exactly at the limits.
    let name_and_key = "id".len() + "a".len() + "n".len();
    let text = "x".repeat(400 * 1024 - name_and_key);
    service.put("things", json!({"id": {"S": "a"}, "n": {"S": text}})).await;
    let nested = (0..32).fold(json!({"N": "1"}), |inner, _| json!({"L": [inner]}));
    service.put("things", json!({"id": {"S": "x".repeat(2048)}, "n": nested})).await;
}

#[tokio::test]
async fn keys_are_checked() {
    let service = Service::new();
    service.simple_table("things").await;
    let message = "The provided key element does not match the schema";
    for operation in ["GetItem", "DeleteItem", "UpdateItem"] {
        for key in [
            json!({}),
            json!({"id": {"N": "1"}}),
            json!({"other": {"S": "1"}}),
            json!({"id": {"S": "a"}, "x": {"S": "b"}}),
        ] {
            service.invalid(operation, json!({"TableName": "things", "Key": key}), message).await;
        }
        let missing = json!({"TableName": "nothing", "Key": {"id": {"S": "a"}}});
        let error = service.error(operation, missing).await;
        assert_eq!((&*error.code, error.status), ("ResourceNotFoundException", 400));
        assert_eq!(error.message, "Requested resource not found");
        service
            .invalid(
                operation,
                json!({"TableName": "things"}),
                "1 validation error detected: Value null at 'key' failed to satisfy constraint: Member must not be null",
            )
            .await;
    }
}

#[tokio::test]
async fn malformed_and_hostile_bodies_are_refused() {
    let service = Service::new();
    service.simple_table("things").await;
    let deep =
        format!(r#"{{"TableName":"things","Item":{{"id":{{"S":"a"}},"x":{}"#, r#"{"L":["#.repeat(50_000));
    for (body, code) in [
        ("[]", "SerializationException"),
        ("{", "SerializationException"),
        (r#"{"TableName": 5}"#, "SerializationException"),
        (r#"{"TableName":"things","Item":{"id":{"S":5}}}"#, "SerializationException"),
        (r#"{"TableName":"things","Item":{"id":{"B":"a"}}}"#, "SerializationException"),
        (deep.as_str(), "SerializationException"),
        (r#"["things",{"id":{"S":"a"}}]"#, "SerializationException"),
        (r#"{"TableName":"things","Item":{},"Expected":{}}"#, "ValidationException"),
        (r#"{"TableName":"things","Item":{},"Surprise":1}"#, "ValidationException"),
    ] {
        let error = service.raw("PutItem", body).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
    let error = service.raw("PutItem", r#"{"TableName":"things","Item":{},"Surprise":1}"#).await.unwrap_err();
    assert_eq!(error.message, "1 validation error detected: The parameter Surprise is not supported");
    for (body, message) in [
        (r#"{"TableName":true}"#, "TRUE_VALUE cannot be converted to String"),
        (r#"{"TableName":[]}"#, "Unrecognized collection type class java.lang.String"),
        (r#"{"TableName":{}}"#, "Start of structure or map found where not expected"),
        (r#"{"Item":"x"}"#, "Unexpected field type"),
        (r#"{"Item":{"id":"x"}}"#, "Unexpected value type in payload"),
        (r#"{"Expected":{"id":"x"}}"#, "Unexpected value type in payload"),
        (
            r#"{"Expected":{"id":[]}}"#,
            "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.ExpectedAttributeValue",
        ),
        (
            r#"{"Expected":[]}"#,
            "Unrecognized collection type java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.ExpectedAttributeValue>",
        ),
        (r#"{"Item":{"id":{"B":true}}}"#, "only base-64-encoded strings are convertible to bytes"),
        (r#"{"Item":{"id":{"B":[]}}}"#, "Unrecognized collection type class java.nio.ByteBuffer"),
        (r#"{"Expected":{"id":{"Exists":"x"}}}"#, "Unexpected token received from parser"),
    ] {
        let error = service.raw("PutItem", body).await.unwrap_err();
        assert_eq!((&*error.code, &*error.message), ("SerializationException", message), "{body}");
    }
    // What is no JSON, or says something twice, is told of without words.
    for body in [
        "",
        " ",
        "{",
        "{} x",
        r#"{"TableName"}"#,
        r#"{"TableName":"\ud8"#,
        "{3:1}",
        r#"{"TableName":"a","TableName":"b"}"#,
    ] {
        let error = service.raw("PutItem", body).await.unwrap_err();
        assert_eq!((&*error.code, &*error.message), ("SerializationException", ""), "{body}");
    }
    assert_eq!(service.raw("ListTables", "").await.unwrap_err().code, "SerializationException");
    for operation in ["", "PutItems"] {
        assert_eq!(service.raw(operation, "{}").await.unwrap_err().code, "UnknownOperationException");
    }
}

#[tokio::test]
async fn conditions_decide() {
    let service = Service::new();
    service.simple_table("things").await;
    let put = |condition: &str| {
        json!({
            "TableName": "things",
            "Item": {"id": {"S": "a"}, "v": {"N": "1"}},
            "ConditionExpression": condition,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        })
    };
    let error = service.error("PutItem", put("attribute_exists(id)")).await;
    assert_eq!((&*error.code, error.status), ("ConditionalCheckFailedException", 400));
    assert_eq!(error.message, "The conditional request failed");
    assert!(error.fields.is_empty());
    service.ok("PutItem", put("attribute_not_exists(id)")).await;
    let error = service.error("PutItem", put("attribute_not_exists(id)")).await;
    assert_eq!(error.fields, [("Item", json!({"id": {"S": "a"}, "v": {"N": "1"}}))]);
    let delete = json!({
        "TableName": "things",
        "Key": {"id": {"S": "a"}},
        "ConditionExpression": "v = :two",
        "ExpressionAttributeValues": {":two": {"N": "2"}},
    });
    assert_eq!(service.error("DeleteItem", delete).await.code, "ConditionalCheckFailedException");
    assert_ne!(service.get("things", "a").await, Value::Null);
}

#[tokio::test]
async fn capacity_follows_size() {
    let service = Service::new();
    service.simple_table("things").await;
    let item = json!({"id": {"S": "a"}, "v": {"S": "x".repeat(9000)}});
    let put = json!({"TableName": "things", "Item": item, "ReturnConsumedCapacity": "TOTAL"});
    let answer = service.ok("PutItem", put).await;
    assert_eq!(answer["ConsumedCapacity"], json!({"TableName": "things", "CapacityUnits": 9.0}));
    let mut get = json!({
        "TableName": "things",
        "Key": {"id": {"S": "a"}},
        "ReturnConsumedCapacity": "INDEXES",
    });
    let answer = service.ok("GetItem", get.clone()).await;
    let expected = json!({"TableName": "things", "CapacityUnits": 1.5, "Table": {"CapacityUnits": 1.5}});
    assert_eq!(answer["ConsumedCapacity"], expected);
    get["ConsistentRead"] = json!(true);
    assert_eq!(service.ok("GetItem", get).await["ConsumedCapacity"]["CapacityUnits"], 3.0);
    // The larger of before and after counts.
    let small = json!({"TableName": "things", "Item": {"id": {"S": "a"}}, "ReturnConsumedCapacity": "TOTAL"});
    assert_eq!(service.ok("PutItem", small.clone()).await["ConsumedCapacity"]["CapacityUnits"], 9.0);
    assert_eq!(service.ok("PutItem", small).await["ConsumedCapacity"]["CapacityUnits"], 1.0);
}

#[tokio::test]
async fn batches_write_and_read() {
    let service = Service::new();
    service.simple_table("one").await;
    service.simple_table("two").await;
    service.put("two", json!({"id": {"S": "old"}})).await;
    let puts: Vec<_> = (0..20)
        .map(|n| json!({"PutRequest": {"Item": {"id": {"S": n.to_string()}, "n": {"N": n.to_string()}}}}))
        .collect();
    let request = json!({
        "RequestItems": {"one": puts, "two": [{"DeleteRequest": {"Key": {"id": {"S": "old"}}}}]},
        "ReturnConsumedCapacity": "TOTAL",
    });
    let answer = service.ok("BatchWriteItem", request).await;
    assert_eq!(answer["UnprocessedItems"], json!({}));
    assert_eq!(answer["ConsumedCapacity"][0], json!({"TableName": "one", "CapacityUnits": 20.0}));
    let keys: Vec<_> = (15..25).map(|n| json!({"id": {"S": n.to_string()}})).collect();
    let request = json!({"RequestItems": {
        "one": {"Keys": keys, "ProjectionExpression": "#n", "ExpressionAttributeNames": {"#n": "n"}},
        "two": {"Keys": [{"id": {"S": "old"}}], "ConsistentRead": true},
    }});
    let answer = service.ok("BatchGetItem", request).await;
    assert_eq!(answer["UnprocessedKeys"], json!({}));
    assert_eq!(answer["Responses"]["two"], json!([]));
    let mut found: Vec<_> = answer["Responses"]["one"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["n"]["N"].as_str().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, ["15", "16", "17", "18", "19"]);
}

#[tokio::test]
async fn batches_have_limits() {
    let service = Service::new();
    service.simple_table("one").await;
    let put = |n: usize| json!({"PutRequest": {"Item": {"id": {"S": n.to_string()}}}});
    let duplicates = "Provided list of item keys contains duplicates";
    service.invalid("BatchWriteItem", json!({"RequestItems": {"one": [put(1), put(1)]}}), duplicates).await;
    let keys = json!({"RequestItems": {"one": {"Keys": [{"id": {"S": "1"}}, {"id": {"S": "1"}}]}}});
    service.invalid("BatchGetItem", keys, duplicates).await;
    let many: Vec<_> = (0..26).map(put).collect();
    assert_eq!(
        service.error("BatchWriteItem", json!({"RequestItems": {"one": many}})).await.code,
        "ValidationException"
    );
    let keys: Vec<_> = (0..101).map(|n| json!({"id": {"S": n.to_string()}})).collect();
    assert_eq!(
        service.error("BatchGetItem", json!({"RequestItems": {"one": {"Keys": keys}}})).await.code,
        "ValidationException"
    );
    let wrong = json!({"RequestItems": {"one": [{"PutRequest": {"Item": {"x": {"S": "1"}}}}]}});
    service.invalid("BatchWriteItem", wrong, "The provided key element does not match the schema").await;
    let missing = json!({"RequestItems": {"none": [put(1)]}});
    assert_eq!(service.error("BatchWriteItem", missing).await.code, "ResourceNotFoundException");
}

#[tokio::test]
async fn large_answers_leave_keys() {
    let service = Service::new();
    service.simple_table("big").await;
    let keys: Vec<_> = (0..50).map(|n| json!({"id": {"S": n.to_string()}})).collect();
    for n in 0..50 {
        service.put("big", json!({"id": {"S": n.to_string()}, "v": {"S": "x".repeat(400_000)}})).await;
    }
    let answer = service.ok("BatchGetItem", json!({"RequestItems": {"big": {"Keys": keys}}})).await;
    let read = answer["Responses"]["big"].as_array().unwrap().len();
    let left = answer["UnprocessedKeys"]["big"]["Keys"].as_array().unwrap().len();
    assert_eq!((read, left), (41, 9));
    let rest = service.ok("BatchGetItem", json!({"RequestItems": answer["UnprocessedKeys"]})).await;
    assert_eq!(rest["Responses"]["big"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn rights_name_tables_and_leading_keys() {
    use aws::Api;
    let service = Service::new();
    service.simple_table("things").await;
    let body = json!({"TableName": "things", "Item": {"id": {"S": "me"}, "v": {"N": "1"}}}).to_string();
    let operation = service.api.parse(service.request("PutItem", &body)).await.unwrap();
    let needs = operation.access();
    assert_eq!(operation.name(), "PutItem");
    assert_eq!(needs[0].action, "dynamodb:PutItem");
    assert_eq!(needs[0].resource, "arn:aws:dynamodb:us-east-1:000000000000:table/things");
    assert!(needs[0].context.contains(&("dynamodb:LeadingKeys".into(), vec!["me".into()])));
    assert!(needs[0].context.contains(&("dynamodb:Attributes".into(), vec!["id".into(), "v".into()])));
    let arn = json!({"TableName": needs[0].resource, "Key": {"id": {"S": "me"}}});
    assert_eq!(service.ok("GetItem", arn).await, json!({}));
    let other = json!({"TableName": "arn:aws:dynamodb:us-east-1:111111111111:table/things", "Key": {"id": {"S": "me"}}});
    // Another account's table is asked for as that, for its policy to decide.
    let operation = service.api.parse(service.request("GetItem", &other.to_string())).await.unwrap();
    assert_eq!(operation.access()[0].resource, "arn:aws:dynamodb:us-east-1:111111111111:table/things");
    let beside = json!({"RequestItems": {"things": {"Keys": [other["Key"]]}, other["TableName"].as_str().unwrap(): {"Keys": [other["Key"]]}}});
    assert_eq!(service.error("BatchGetItem", beside).await.code, "AccessDeniedException");
    let statement =
        json!({"Statement": "SELECT * FROM \"arn:aws:dynamodb:us-east-1:111111111111:table/things\""});
    assert_eq!(service.error("ExecuteStatement", statement).await.code, "AccessDeniedException");
    // What a policy says goes with every right to its table and its indexes.
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/things";
    service.ok("PutResourcePolicy", json!({"ResourceArn": arn, "Policy": "{}"})).await;
    let operation = service.api.parse(service.request("PutItem", &body)).await.unwrap();
    let guard = operation.access()[0].guard.clone().unwrap();
    assert_eq!((guard.owner, guard.policy.as_deref()), (types::AccountId::DEFAULT, Some("{}")));
    service.ok("DeleteResourcePolicy", json!({"ResourceArn": arn})).await;
    let operation = service.api.parse(service.request("PutItem", &body)).await.unwrap();
    assert_eq!(operation.access()[0].guard, None);
}

#[tokio::test]
async fn booleans_may_be_text() {
    let service = Service::new();
    service.simple_table("things").await;
    service
        .put(
            "things",
            json!({"id": {"S": "a"}, "yes": {"BOOL": "true"}, "no": {"BOOL": "No"}, "none": {"NULL": "1"}}),
        )
        .await;
    let item = service.get("things", "a").await;
    assert_eq!((&item["yes"], &item["no"]), (&json!({"BOOL": true}), &json!({"BOOL": false})));
    assert_eq!(item["none"], json!({"NULL": true}));
    service
        .invalid(
            "PutItem",
            json!({"TableName": "things", "Item": {"id": {"S": "a"}, "none": {"NULL": "no"}}}),
            "One or more parameter values were invalid: Null attribute value types must have the value of true",
        )
        .await;
}

#[tokio::test]
async fn what_is_wrong_with_input_is_told_in_more_words() {
    let service = Service::new();
    service.simple_table("things").await;
    let key = json!({"id": {"S": "a"}});
    let empty_set = json!({":s": {"NS": []}});
    for (operation, body, message) in [
        (
            "PutItem",
            json!({"TableName": "things", "Item": {"id": {"S": "a"}, "s": {"NS": []}}}),
            "1 validation error detected: One or more parameter values were invalid: An number set  may not be empty",
        ),
        (
            "UpdateItem",
            json!({"TableName": "things", "Key": key, "UpdateExpression": "SET s = :s", "ExpressionAttributeValues": empty_set}),
            "1 validation error detected: One or more parameter values were invalid: An number set  may not be empty",
        ),
        (
            "UpdateItem",
            json!({"TableName": "things", "Key": key, "UpdateExpression": ""}),
            "1 validation error detected: Invalid UpdateExpression: The expression can not be empty;",
        ),
        (
            "DeleteItem",
            json!({"TableName": "things", "Key": key, "ExpressionAttributeNames": {"#a": "a"}}),
            "1 validation error detected: ExpressionAttributeNames can only be specified when using expressions",
        ),
        // What takes the table to know is not, nor is it of other operations.
        (
            "UpdateItem",
            json!({"TableName": "things", "Key": {"x": {"S": "a"}}}),
            "The provided key element does not match the schema",
        ),
        (
            "GetItem",
            json!({"TableName": "things", "Key": key, "ProjectionExpression": ""}),
            "Invalid ProjectionExpression: The expression can not be empty;",
        ),
    ] {
        let error = service.error(operation, body).await;
        assert_eq!((&*error.code, &*error.message), ("ValidationException", message));
    }
}
