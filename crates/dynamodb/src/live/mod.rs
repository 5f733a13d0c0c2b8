//! `GET /_hawker/tables/<name>/watch`: the items of a query as they are, then every change of them, in order.
//!
//! The map: this file reads the request and is the operation, with the rights that a Query needs; `token` is where
//! a lost connection goes on; `hub` tells subscribers which records of a stream concern them; `subscription`
//! makes the events.
//!
//! A change is seen through the record that the table's stream has of it: what is watched has to have a stream, and
//! a lost connection goes on without a gap for as long as the stream keeps its records. Invariants: items and
//! changes fit together without a gap or a repetition, since both are read with the place of the stream at one
//! snapshot; nothing is kept for a subscriber that does not read but the numbers of some records.

mod hub;
mod subscription;
mod token;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use aws::live::Live;
use aws::{Access, Operation, Request, Response};
use http::Method;
use serde_json::{Map, Value, json};
use types::ErrorKind;

use crate::ops::{Query, Run};
use crate::service::{Node, Scope};
use crate::{DynamoDb, Error, guard};

pub use hub::Feeds;
pub(crate) use hub::Hub;

use subscription::Subscription;
use token::{Fingerprint, Token};

/// What of a Query a subscription can have: it has no pages, and it counts nothing.
const MEMBERS: [&str; 7] = [
    "IndexName",
    "KeyConditionExpression",
    "FilterExpression",
    "ProjectionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ScanIndexForward",
];

type Parsed = Pin<Box<dyn Future<Output = Result<Box<dyn Operation>, aws::Error>> + Send>>;

impl DynamoDb {
    /// Reads a request for `/_hawker/tables/...`; `None` if it is for something else.
    pub fn native(&self, request: &Request) -> Option<Parsed> {
        let path = request.head.uri.path().strip_prefix("/_hawker/tables/")?;
        let node = self.node().clone();
        let scope = Scope {
            account: request.context.caller.account,
            caller: Arc::new(request.context.caller.clone()),
            region: request.context.region.clone(),
            endpoint: request.context.endpoint.clone(),
        };
        let watch = watch(path, request, node, scope);
        Some(Box::pin(async move {
            let mut watch = watch?;
            watch.needs = watch.query.access(&watch.node, &watch.scope).await;
            watch.access = described(&watch.node, &watch.scope, &watch.needs).await?;
            Ok(Box::new(watch) as Box<dyn Operation>)
        }))
    }

    /// What tells subscribers of changes; a node runs one.
    pub fn feeds(&self) -> Feeds {
        Feeds::new(self.node().clone())
    }
}

fn watch(path: &str, request: &Request, node: Arc<Node>, scope: Scope) -> Result<Watch, aws::Error> {
    let Some(name) = path.strip_suffix("/watch").filter(|name| !name.contains('/')) else {
        let message =
            format!("There is nothing at `/_hawker/tables/{path}`; a table is watched at `<name>/watch`.");
        return Err(aws::Error::new(ErrorKind::NotFound, "ResourceNotFoundException", message));
    };
    if request.head.method != Method::GET {
        let message = "A table is watched with GET.";
        let error = aws::Error::new(ErrorKind::Invalid, "MethodNotAllowedException", message);
        return Err(error.with_status(405));
    }
    let mut parameters = aws::query::Form::parse(request.head.uri.query().unwrap_or_default().as_bytes());
    let table = scope.table_name(name)?;
    let (query, is_key) = question(&mut parameters, &table)?;
    let body = query.to_string();
    let fingerprint = Fingerprint::of(&body);
    // A browser that connects again by itself tells where it was in a header.
    let last = request.head.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let given = parameters.take("token");
    parameters.finish()?;
    let given = last.filter(|text| !text.is_empty()).or(given.as_deref());
    let token = given.map(|text| Token::parse(text, fingerprint)).transpose()?;
    let query = Query::parse(body.as_bytes(), &scope)?;
    Ok(Watch { node, scope, table, query, is_key, fingerprint, token, needs: Vec::new(), access: Vec::new() })
}

/// The Query that is asked for, and whether it is for one item.
fn question(parameters: &mut aws::query::Form, table: &str) -> Result<(Value, bool), Error> {
    let mut object = |name: &str| -> Result<Option<Map<String, Value>>, Error> {
        let Some(text) = parameters.take(name) else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Ok(Some(map)),
            _ => Err(Error::Validation(format!("The parameter {name} must be a JSON object"))),
        }
    };
    let (key, partition, query) = (object("key")?, object("partition")?, object("query")?);
    let index = parameters.take("index");
    let (mut query, is_key) = match (key, partition, query) {
        (Some(key), None, None) if index.is_none() && matches!(key.len(), 1 | 2) => (equals(key), true),
        (None, Some(partition), None) if partition.len() == 1 => (equals(partition), false),
        (None, None, Some(query)) if index.is_none() => {
            if let Some(name) = query.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
                return Err(Error::Validation(format!(
                    "The parameter {name} is not supported in a query that is watched"
                )));
            }
            (query, false)
        }
        _ => {
            return Err(Error::validation(
                "Give one of: key (the key of an item), partition (its one attribute, perhaps with index), query (members of Query)",
            ));
        }
    };
    query.extend(index.map(|index| ("IndexName".to_owned(), index.into())));
    query.insert("TableName".to_owned(), table.into());
    Ok((query.into(), is_key))
}

/// The members of a Query for those attributes.
fn equals(attributes: Map<String, Value>) -> Map<String, Value> {
    let (mut names, mut values, mut tests) = (Map::new(), Map::new(), Vec::new());
    for (at, (name, value)) in attributes.into_iter().enumerate() {
        names.insert(format!("#{at}"), name.into());
        values.insert(format!(":{at}"), value);
        tests.push(format!("#{at} = :{at}"));
    }
    let mut query = Map::new();
    query.insert("KeyConditionExpression".to_owned(), tests.join(" AND ").into());
    query.insert("ExpressionAttributeNames".to_owned(), names.into());
    query.insert("ExpressionAttributeValues".to_owned(), values.into());
    query
}

/// The operation.
struct Watch {
    node: Arc<Node>,
    scope: Scope,
    table: String,
    query: Query,
    /// One item is watched, so the whole key must be there.
    is_key: bool,
    fingerprint: Fingerprint,
    token: Option<Token>,
    /// The rights, and the same with what the table itself says of them now.
    needs: Vec<Access>,
    access: Vec<Access>,
}

/// Rights, with what the table itself says of them now.
async fn described(node: &Node, scope: &Scope, needs: &[Access]) -> Result<Vec<Access>, Error> {
    let mut needs = needs.to_vec();
    guard::describe(node, scope, &mut needs).await?;
    Ok(needs)
}

#[async_trait]
impl Operation for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn access(&self) -> Vec<Access> {
        self.access.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let about = Arc::new((self.node.clone(), self.scope.clone(), self.needs.clone()));
        let needs = move || {
            let about = about.clone();
            let needs = async move {
                let (node, scope, needs) = &*about;
                Ok(described(node, scope, needs).await?)
            };
            Box::pin(needs) as Pin<Box<_>>
        };
        let events = Subscription::open(*self).await?.events();
        Ok(aws::live::answer(Live { events, needs: Box::new(needs) }))
    }
}

/// An event whose data is a small document.
fn event(name: &'static str, data: &Value) -> aws::live::LiveEvent {
    aws::live::LiveEvent { name, token: None, data: data.to_string().into_bytes() }
}

/// The event that ends a subscription.
fn end(reason: &str, message: &str) -> aws::live::LiveEvent {
    event("end", &json!({"Reason": reason, "Message": message}))
}
