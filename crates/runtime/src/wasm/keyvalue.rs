//! wasi:keyvalue over DynamoDB tables, as far as the function's role may use them.
//!
//! A store is a table whose partition key is the string `key`; a value is the attribute `value` of an item, binary, or
//! a number once it was incremented. Nothing is asked of the table when it is opened.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};
use serde_json::{Value, json};
use types::ErrorKind;
use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::host::Host;

/// Keys of one answer of `list-keys`.
const PAGE: usize = 1000;
/// Keys of one BatchGetItem, and items of one BatchWriteItem (Amazon DynamoDB developer guide, "Quotas").
const GETS: usize = 100;
const WRITES: usize = 25;
/// How often what a batch left undone, and an increment that another one crossed, is tried.
const TRIES: usize = 10;
/// Places at which a listing may be taken up again.
const MAX_CURSORS: usize = 1024;

/// A table, as a component holds it.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Table {
    name: String,
    /// The last keys of the pages that were listed: a cursor is a place in here.
    cursors: Vec<Value>,
}

type Answer<T> = Result<T, Error>;

fn key(key: &str) -> Value {
    json!({ "key": { "S": key } })
}

fn binary(value: &[u8]) -> Value {
    json!({ "B": STANDARD.encode(value) })
}

/// The bytes of an attribute value.
fn bytes(value: &Value) -> Answer<Vec<u8>> {
    let found = match value.as_object().and_then(|value| value.iter().next()) {
        Some((kind, Value::String(text))) if kind == "B" => STANDARD.decode(text).ok(),
        Some((kind, Value::String(text))) if kind == "S" || kind == "N" => Some(text.clone().into_bytes()),
        Some(_) | None => None,
    };
    found.ok_or_else(|| {
        Error::Other("the attribute `value` is neither binary, nor text, nor a number".to_owned())
    })
}

/// The value of an item, if there is one.
fn value_of(item: &Value) -> Answer<Option<Vec<u8>>> {
    item.get("value").map(bytes).transpose()
}

fn told(error: &aws::Error) -> Error {
    match error.kind {
        ErrorKind::NotFound => Error::NoSuchStore,
        ErrorKind::Denied | ErrorKind::Unauthenticated => Error::AccessDenied,
        ErrorKind::Invalid
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::TooLarge
        | ErrorKind::Throttled
        | ErrorKind::Timeout
        | ErrorKind::Unavailable
        | ErrorKind::Unsupported
        | ErrorKind::Internal => Error::Other(error.to_string()),
    }
}

impl Host {
    fn name(&mut self, table: &Resource<Table>) -> wasmtime::Result<String> {
        Ok(self.table().get(table)?.name.clone())
    }

    /// Calls DynamoDB in the role's name.
    async fn dynamodb(&mut self, operation: &str, input: Value) -> Result<Value, aws::Error> {
        let request = Request::post("/")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
            .body(Bytes::from(input.to_string()))
            .expect("its parts are well-formed");
        let answer = self.call("dynamodb", request).await?;
        serde_json::from_slice(answer.body()).map_err(|error| aws::Error::internal(&error))
    }

    async fn get_item(&mut self, table: &str, name: &str) -> Result<Option<Value>, aws::Error> {
        let input = json!({ "TableName": table, "Key": key(name), "ConsistentRead": true });
        let mut answer = self.dynamodb("GetItem", input).await?;
        Ok(answer.get_mut("Item").map(Value::take))
    }

    /// Writes or deletes items, `WRITES` at a time.
    async fn write_all(&mut self, table: &str, requests: Vec<Value>) -> Answer<()> {
        for some in requests.chunks(WRITES) {
            let mut left = json!({ table: some });
            for _ in 0..TRIES {
                let answer = self.dynamodb("BatchWriteItem", json!({ "RequestItems": left })).await;
                let mut answer = answer.map_err(|error| told(&error))?;
                left = answer.get_mut("UnprocessedItems").map(Value::take).unwrap_or_default();
                if left.as_object().is_none_or(serde_json::Map::is_empty) {
                    break;
                }
            }
            if left.as_object().is_some_and(|left| !left.is_empty()) {
                return Err(Error::Other("the table did not take all of the batch".to_owned()));
            }
        }
        Ok(())
    }

    /// Reads items, `GETS` at a time.
    async fn read_all(&mut self, table: &str, names: &BTreeSet<String>) -> Answer<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let names: Vec<_> = names.iter().map(|name| key(name)).collect();
        for some in names.chunks(GETS) {
            let mut left = json!({ table: { "Keys": some, "ConsistentRead": true } });
            for _ in 0..TRIES {
                let answer = self.dynamodb("BatchGetItem", json!({ "RequestItems": left })).await;
                let mut answer = answer.map_err(|error| told(&error))?;
                for item in answer["Responses"][table].as_array().into_iter().flatten() {
                    if let (Some(name), Some(value)) = (item["key"]["S"].as_str(), value_of(item)?) {
                        found.insert(name.to_owned(), value);
                    }
                }
                left = answer.get_mut("UnprocessedKeys").map(Value::take).unwrap_or_default();
                if left.as_object().is_none_or(serde_json::Map::is_empty) {
                    break;
                }
            }
            if left.as_object().is_some_and(|left| !left.is_empty()) {
                return Err(Error::Other("the table did not answer all of the batch".to_owned()));
            }
        }
        Ok(found)
    }

    /// Adds to a number. One that was set as decimal digits becomes a number first.
    async fn add(&mut self, table: &str, name: &str, delta: u64) -> Answer<u64> {
        for _ in 0..TRIES {
            let input = json!({
                "TableName": table,
                "Key": key(name),
                "UpdateExpression": "ADD #value :delta",
                "ExpressionAttributeNames": { "#value": "value" },
                "ExpressionAttributeValues": { ":delta": { "N": delta.to_string() } },
                "ReturnValues": "UPDATED_NEW",
            });
            match self.dynamodb("UpdateItem", input).await {
                Ok(answer) => {
                    let sum = answer["Attributes"]["value"]["N"].as_str().and_then(|sum| sum.parse().ok());
                    return sum
                        .ok_or_else(|| Error::Other("the sum is no whole number of 64 bits".to_owned()));
                }
                Err(error) if error.code != "ValidationException" => return Err(told(&error)),
                Err(error) => {
                    let item = self.get_item(table, name).await.map_err(|error| told(&error))?;
                    let before = item.and_then(|mut item| item.get_mut("value").map(Value::take));
                    let digits = before.as_ref().map(bytes).transpose()?;
                    let digits =
                        digits.and_then(|digits| String::from_utf8(digits).ok()?.parse::<u64>().ok());
                    let (Some(before), Some(number)) = (before, digits) else { return Err(told(&error)) };
                    self.make_number(table, name, &before, number).await?;
                }
            }
        }
        Err(Error::Other("others changed the value all the time".to_owned()))
    }

    async fn make_number(&mut self, table: &str, name: &str, before: &Value, number: u64) -> Answer<()> {
        let input = json!({
            "TableName": table,
            "Key": key(name),
            "UpdateExpression": "SET #value = :number",
            "ConditionExpression": "#value = :before",
            "ExpressionAttributeNames": { "#value": "value" },
            "ExpressionAttributeValues": { ":number": { "N": number.to_string() }, ":before": before },
        });
        match self.dynamodb("UpdateItem", input).await {
            Err(error) if error.code != "ConditionalCheckFailedException" => Err(told(&error)),
            // Somebody else was faster: the value is looked at again.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl store::Host for Host {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Answer<Resource<Table>>> {
        if identifier.is_empty() {
            return Ok(Err(Error::NoSuchStore));
        }
        Ok(Ok(self.table().push(Table { name: identifier, cursors: Vec::new() })?))
    }
}

impl store::HostBucket for Host {
    async fn get(
        &mut self,
        table: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Answer<Option<Vec<u8>>>> {
        let table = self.name(&table)?;
        let item = self.get_item(&table, &key).await;
        Ok(item.map_err(|error| told(&error)).and_then(|item| item.map_or(Ok(None), |item| value_of(&item))))
    }

    async fn set(
        &mut self,
        table: Resource<Table>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Answer<()>> {
        let item = json!({ "key": { "S": key }, "value": binary(&value) });
        let input = json!({ "TableName": self.name(&table)?, "Item": item });
        Ok(self.dynamodb("PutItem", input).await.map(drop).map_err(|error| told(&error)))
    }

    async fn delete(&mut self, table: Resource<Table>, name: String) -> wasmtime::Result<Answer<()>> {
        let input = json!({ "TableName": self.name(&table)?, "Key": key(&name) });
        Ok(self.dynamodb("DeleteItem", input).await.map(drop).map_err(|error| told(&error)))
    }

    async fn exists(&mut self, table: Resource<Table>, key: String) -> wasmtime::Result<Answer<bool>> {
        let table = self.name(&table)?;
        let item = self.get_item(&table, &key).await.map_err(|error| told(&error));
        Ok(item.map(|item| item.is_some_and(|item| item.get("value").is_some())))
    }

    async fn list_keys(
        &mut self,
        table: Resource<Table>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Answer<KeyResponse>> {
        let held = self.table().get(&table)?;
        let mut input = json!({
            "TableName": held.name,
            "Limit": PAGE,
            "ProjectionExpression": "#key",
            "ExpressionAttributeNames": { "#key": "key" },
        });
        if let Some(cursor) = cursor {
            let place = usize::try_from(cursor).ok().and_then(|cursor| held.cursors.get(cursor));
            let Some(place) = place else {
                return Ok(Err(Error::Other("the cursor is not one that this bucket gave".to_owned())));
            };
            input["ExclusiveStartKey"] = place.clone();
        }
        let mut answer = match self.dynamodb("Scan", input).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(told(&error))),
        };
        let items = answer["Items"].as_array().into_iter().flatten();
        let keys = items.filter_map(|item| Some(item["key"]["S"].as_str()?.to_owned())).collect();
        let cursor = match answer.get_mut("LastEvaluatedKey").map(Value::take) {
            None => None,
            Some(last) => {
                let held = self.table().get_mut(&table)?;
                if held.cursors.len() >= MAX_CURSORS {
                    return Ok(Err(Error::Other("the listing is too long".to_owned())));
                }
                held.cursors.push(last);
                Some(held.cursors.len() as u64 - 1)
            }
        };
        Ok(Ok(KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, table: Resource<Table>) -> wasmtime::Result<()> {
        self.table().delete(table)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    async fn increment(
        &mut self,
        table: Resource<Table>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Answer<u64>> {
        let table = self.name(&table)?;
        Ok(self.add(&table, &key, delta).await)
    }
}

impl batch::Host for Host {
    async fn get_many(
        &mut self,
        table: Resource<Table>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Answer<Vec<Option<(String, Vec<u8>)>>>> {
        let table = self.name(&table)?;
        let found = self.read_all(&table, &keys.iter().cloned().collect()).await;
        let pair = |found: &BTreeMap<String, Vec<u8>>, key: String| {
            let value = found.get(&key)?.clone();
            Some((key, value))
        };
        Ok(found.map(|found| keys.into_iter().map(|key| pair(&found, key)).collect()))
    }

    async fn set_many(
        &mut self,
        table: Resource<Table>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Answer<()>> {
        let table = self.name(&table)?;
        // A batch may not have a key twice: the last one counts.
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        let put = |(key, value): (String, Vec<u8>)| json!({ "PutRequest": { "Item": { "key": { "S": key }, "value": binary(&value) } } });
        Ok(self.write_all(&table, pairs.into_iter().map(put).collect()).await)
    }

    async fn delete_many(
        &mut self,
        table: Resource<Table>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Answer<()>> {
        let table = self.name(&table)?;
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let delete = |name: String| json!({ "DeleteRequest": { "Key": key(&name) } });
        Ok(self.write_all(&table, keys.into_iter().map(delete).collect()).await)
    }
}
