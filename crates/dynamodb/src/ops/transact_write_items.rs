//! TransactWriteItems.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::{Key, Read};

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::collection_metrics;
use super::item_write::{self, Action, Expressions, ItemWrite, Outcome};
use crate::Error;
use crate::collection::Collections;
use crate::error::{Canceled, CancellationReason};
use crate::service::{Node, Scope};
use crate::stream::Moment;
use crate::table::{Attempt, Table, check_not_empty};
use crate::tables::{TOKENS, Token};
use crate::throttle::Side;
use crate::value::{Number, size_bytes};
use crate::wire::{self, AttributeMap, Constraints};

/// The most actions of one transaction, and the most bytes of their items.
pub(super) const MAX_ACTIONS: usize = 100;
const MAX_TRANSACTION_BYTES: usize = 4 << 20;

/// How long a client request token is remembered.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    transact_items: Option<Vec<ActionInput>>,
    client_request_token: Option<String>,
    return_consumed_capacity: Option<String>,
    return_item_collection_metrics: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ActionInput {
    condition_check: Option<ItemInput>,
    put: Option<ItemInput>,
    delete: Option<ItemInput>,
    update: Option<ItemInput>,
}

/// The members of all four actions; which of them an action takes is checked with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ItemInput {
    table_name: Option<String>,
    key: Option<AttributeMap>,
    item: Option<AttributeMap>,
    update_expression: Option<String>,
    condition_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    expression_attribute_values: Option<AttributeMap>,
    return_values_on_condition_check_failure: Option<String>,
}

/// Changes up to 100 items, all or none.
pub(crate) struct TransactWriteItems {
    writes: Arc<Vec<ItemWrite>>,
    token: Option<RequestToken>,
    capacity: ReturnCapacity,
    /// Whether item collection metrics are wanted.
    metrics: bool,
}

/// A client request token, and the digest of what the request that it came with means.
pub(super) struct RequestToken {
    token: String,
    fingerprint: String,
}

impl RequestToken {
    /// Of a request with that body. The order of members may be another when it is sent again, since some languages
    /// write maps in any order; what the answer is to tell does not count.
    pub(super) fn of(token: Option<String>, body: &[u8]) -> Option<Self> {
        let token = token?;
        let mut digest = Sha256::new();
        match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(mut members) => {
                for told in ["ClientRequestToken", "ReturnConsumedCapacity", "ReturnItemCollectionMetrics"] {
                    members.remove(told);
                }
                digest_members(&mut digest, &members);
            }
            Err(_) => digest.update(body),
        }
        let fingerprint = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { token, fingerprint })
    }
}

/// Members in the order of their names; those that are null are none.
fn digest_members(digest: &mut Sha256, members: &Map<String, Value>) {
    let mut sorted: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
    sorted.sort_by_key(|(name, _)| *name);
    digest.update("{");
    for (name, value) in &sorted {
        digest_text(digest, name);
        match value {
            // One number has several forms.
            Value::String(text) if sorted.len() == 1 && *name == "N" => {
                let number = Number::parse(text).map_or_else(|_| text.clone(), |number| number.to_string());
                digest_text(digest, &number);
            }
            value => digest_value(digest, value),
        }
    }
    digest.update("}");
}

fn digest_value(digest: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => digest_members(digest, members),
        Value::Array(elements) => {
            digest.update("[");
            elements.iter().for_each(|element| digest_value(digest, element));
            digest.update("]");
        }
        Value::String(text) => digest_text(digest, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => digest.update(value.to_string()),
    }
}

fn digest_text(digest: &mut Sha256, text: &str) {
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text);
}

/// How a transaction went.
enum Done {
    Now(Vec<Outcome>, IndexMap<String, Arc<Table>>),
    /// Its token had been used for the same before.
    Before,
}

/// The number of statements must be within limits.
pub(super) fn count_statements(count: usize) -> Result<(), Error> {
    count_members(count, "statements", "transactStatements")
}

/// The number of actions must be within limits.
pub(super) fn count_actions(count: usize) -> Result<(), Error> {
    count_members(count, "actions", "transactItems")
}

fn count_members(count: usize, what: &str, at: &str) -> Result<(), Error> {
    let shown = if count == 0 { String::new() } else { format!("{count} {what}") };
    let constraint = match count {
        0 => "greater than or equal to 1",
        101.. => "less than or equal to 100",
        _ => return Ok(()),
    };
    Err(Error::Validation(format!(
        "1 validation error detected: Value '[{shown}]' at '{at}' failed to satisfy constraint: Member must have length {constraint}"
    )))
}

/// The values, or the cancellation that their errors amount to.
pub(super) fn canceled<T>(results: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    if results.iter().all(Result::is_ok) {
        return results.into_iter().collect();
    }
    let mut reasons = Vec::with_capacity(results.len());
    for result in results {
        reasons.push(match result {
            Ok(_) => CancellationReason::NONE,
            Err(Error::ConditionalCheckFailed { item }) => CancellationReason {
                code: "ConditionalCheckFailed",
                message: Some("The conditional request failed".into()),
                item,
            },
            Err(error @ Error::DuplicateItem) => {
                CancellationReason { code: "DuplicateItem", message: Some(error.to_string()), item: None }
            }
            Err(Error::ProvisionedThroughputExceeded { message, .. }) => CancellationReason {
                code: "ProvisionedThroughputExceeded",
                message: Some(message),
                item: None,
            },
            Err(error @ Error::CollectionTooLarge) => CancellationReason {
                code: "ItemCollectionSizeLimitExceeded",
                message: Some(error.to_string()),
                item: None,
            },
            Err(Error::Validation(message)) => {
                CancellationReason { code: "ValidationError", message: Some(message), item: None }
            }
            Err(other) => return Err(other),
        });
    }
    Err(Error::TransactionCanceled(Canceled(reasons)))
}

fn item_write(action: ActionInput, at: usize, scope: &Scope) -> Result<ItemWrite, Error> {
    let ActionInput { condition_check, put, delete, update } = action;
    let given = [("conditionCheck", condition_check), ("put", put), ("delete", delete), ("update", update)];
    let mut given = given.into_iter().filter_map(|(name, input)| Some((name, input?)));
    let (Some((name, input)), None) = (given.next(), given.next()) else {
        return Err(Error::validation("TransactItems can only contain one of Check, Put, Update or Delete"));
    };
    let at = |member: &str| format!("transactItems.{at}.member.{name}.{member}");
    let on_failure = input.return_values_on_condition_check_failure.as_deref();
    let mut constraints = Constraints::default();
    constraints.table(input.table_name.as_deref(), &at("tableName")).one_of(
        on_failure,
        &at("returnValuesOnConditionCheckFailure"),
        &["ALL_OLD", "NONE"],
    );
    let not_taken = |member: &str, given: bool| {
        if given {
            return Err(Error::Validation(format!("The parameter {member} is not supported in {name}")));
        }
        Ok(())
    };
    if name == "put" {
        constraints.required(input.item.as_ref(), &at("item"));
        not_taken("Key", input.key.is_some())?;
    } else {
        constraints.required(input.key.as_ref(), &at("key"));
        not_taken("Item", input.item.is_some())?;
    }
    if name == "update" {
        constraints.required(input.update_expression.as_ref(), &at("updateExpression"));
    } else {
        not_taken("UpdateExpression", input.update_expression.is_some())?;
    }
    if name == "conditionCheck" {
        constraints.required(input.condition_expression.as_ref(), &at("conditionExpression"));
    }
    constraints.finish()?;
    let expressions = Expressions {
        update: input.update_expression.as_deref(),
        condition: input.condition_expression.as_deref(),
        names: input.expression_attribute_names.as_ref(),
        values: input.expression_attribute_values.as_ref(),
        takes_update: name == "update",
        ..Expressions::default()
    };
    expressions.exclusive()?;
    let subject = match (input.item, input.key) {
        (Some(item), _) => Ok(item_write::put(item)?),
        (None, key) => Err(key.unwrap_or_default().into_valid()?),
    };
    let (update, condition) = expressions.parse()?;
    let action = match (subject, name) {
        (Ok(put), _) => put,
        (Err(key), "update") => Action::Update { key, update },
        (Err(key), "delete") => Action::Delete { key },
        (Err(key), _) => Action::Check { key },
    };
    Ok(ItemWrite {
        table: scope.table_name(&input.table_name.unwrap_or_default())?,
        action,
        condition,
        return_on_failure: item_write::returns_on_failure(on_failure),
        insert: false,
    })
}

#[async_trait]
impl Run for TransactWriteItems {
    const NAME: &'static str = "TransactWriteItems";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .one_of(
                input.return_item_collection_metrics.as_deref(),
                "returnItemCollectionMetrics",
                &["SIZE", "NONE"],
            )
            .required(input.transact_items.as_ref(), "transactItems");
        if let Some(token) = &input.client_request_token {
            constraints.text_len(token, "clientRequestToken", 1, 36);
        }
        let actions = input.transact_items.unwrap_or_default();
        constraints.finish()?;
        count_actions(actions.len())?;
        let writes = (1..)
            .zip(actions)
            .map(|(at, action)| item_write(action, at, scope))
            .collect::<Result<Vec<_>, _>>()?;
        let capacity = ReturnCapacity::of(input.return_consumed_capacity.as_deref());
        let token = RequestToken::of(input.client_request_token, body);
        let this = Self::of(writes, token, capacity)?;
        Ok(Self { metrics: input.return_item_collection_metrics.as_deref() == Some("SIZE"), ..this })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.writes.len());
        for write in self.writes.iter() {
            let access = write.access(node, scope).await;
            needs.push(access.with("dynamodb:EnclosingOperation", vec![Self::NAME.into()]));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let names: Vec<_> = self.writes.iter().map(|write| write.table.as_str()).collect();
        let done = loop {
            let attempt = self.attempt(node, scope).await;
            if let Some(done) = node.settle(scope.account, &names, attempt)? {
                break done;
            }
        };
        let mut costs: IndexMap<String, Consumed> = IndexMap::new();
        for (at, write) in self.writes.iter().enumerate() {
            let single = match &done {
                Done::Now(outcomes, tables) => outcomes[at].cost(&tables[&write.table]),
                // Nothing was written again; AWS has read units for it, one pair an item at least.
                Done::Before => 1.0.into(),
            };
            costs.entry(write.table.clone()).or_default().add(&single, 2.0);
        }
        let mut out = Object::new();
        let split = match &done {
            Done::Now(outcomes, tables) => {
                for (name, cost) in &costs {
                    node.charge(&tables[name], cost, Side::Write);
                }
                let changes = self.writes.iter().zip(outcomes);
                let changes = changes.map(|(write, outcome)| outcome.change(&tables[&write.table], write));
                collection_metrics::members(&mut out, self.metrics, changes);
                Split::Write
            }
            Done::Before => Split::Read,
        };
        capacity::members(&mut out, self.capacity, &costs, split);
        Ok(out.finish())
    }
}

impl TransactWriteItems {
    /// The transaction of those writes, which must not be too large together.
    pub(super) fn of(
        writes: Vec<ItemWrite>,
        token: Option<RequestToken>,
        capacity: ReturnCapacity,
    ) -> Result<Self, Error> {
        if writes.iter().map(|write| size_bytes(write.attributes())).sum::<usize>() > MAX_TRANSACTION_BYTES {
            return Err(Error::validation(
                "Collection size cannot be greater than 4 MB: the items of a transaction are too large together",
            ));
        }
        Ok(Self { writes: Arc::new(writes), token, capacity, metrics: false })
    }

    async fn attempt(&self, node: &Node, scope: &Scope) -> Result<Done, Attempt> {
        let account = scope.account;
        let mut tables = IndexMap::new();
        for write in self.writes.iter() {
            if !tables.contains_key(&write.table) {
                tables.insert(write.table.clone(), node.table(account, &write.table).await?);
            }
        }
        // A key attribute without a value refuses the request; all else that is wrong with keys cancels it.
        for write in self.writes.iter() {
            let attributes = write.attributes();
            for key in tables[&write.table].keys() {
                attributes.get(&key.name).map_or(Ok(()), |value| check_not_empty(&key.name, value))?;
            }
        }
        let keys = self.writes.iter().map(|write| write.key(&tables[&write.table])).collect();
        let keys: Vec<Key> = canceled(keys)?;
        let admitted = self.writes.iter().map(|write| node.admit_write(&tables[&write.table])).collect();
        canceled(admitted)?;
        if keys.iter().collect::<HashSet<_>>().len() < keys.len() {
            let message = "Transaction request cannot include multiple operations on one item";
            return Err(Error::validation(message).into());
        }
        let now = node.env.now();
        // What can be made ready is, before every other commit waits for it.
        let token = self.token.as_ref().map(|given| {
            let (token, fingerprint) = (given.token.clone(), given.fingerprint.clone());
            let token = Token { token, account, fingerprint, expires_at: now + TOKEN_LIFE };
            let writes = token.writes();
            (token, writes)
        });
        let mut reads: Vec<_> = tables.values().map(|table| table.read()).collect();
        reads.extend(token.iter().map(|(token, _)| Read::Key(token.key())));
        let told = self.capacity != ReturnCapacity::None;
        // For each write its table, its key, and the place of the page that shows what it changes, if that matters.
        let mut steps = Vec::with_capacity(keys.len());
        for (write, key) in self.writes.iter().zip(keys) {
            let table = tables[&write.table].clone();
            let looks_back = write.looks_back(&table, told);
            let place = looks_back.then_some(reads.len());
            reads.extend(looks_back.then(|| Read::Key(key.clone())));
            steps.push((table, key, place));
        }
        let collections = Collections::of(steps.iter().map(|(table, key, _)| (&**table, key)), &mut reads);
        let in_force: Vec<_> = tables.values().cloned().collect();
        let writes = self.writes.clone();
        let outcomes = node
            .store
            .transact(reads, move |pages, _| {
                let mut out = Vec::with_capacity(steps.len() + 2);
                if let Some((token, remember)) = &token {
                    let used = TOKENS.first(&pages[in_force.len()])?.map(|row| row.value);
                    match used.filter(|used| used.expires_at > now) {
                        Some(used) if used.fingerprint == token.fingerprint => return Ok((Vec::new(), None)),
                        Some(_) => return Err(Error::IdempotentParameterMismatch.into()),
                        None => out.extend(remember.iter().cloned()),
                    }
                }
                for (table, row) in in_force.iter().zip(pages) {
                    table.check(row)?;
                }
                let old = |place: &Option<usize>| place.and_then(|place| pages[place].first());
                let decided = writes.iter().zip(&steps).map(|(write, (table, _, place))| {
                    write.decide(table, old(place).map(|entry| &entry.value))
                });
                let moment = Moment::caller(now);
                let mut sizes = collections.sizes(pages)?;
                let decided = steps.iter().zip(canceled(decided.collect())?);
                let written = decided.map(|((table, key, place), (change, mut outcome))| {
                    outcome.effect = table.writes(key, old(place), change, moment, &mut sizes, &mut out)?;
                    Ok(outcome)
                });
                let outcomes = canceled(written.collect())?;
                sizes.writes(&mut out);
                Ok::<_, Attempt>((out, Some(outcomes)))
            })
            .await?;
        let Some(outcomes) = outcomes else { return Ok(Done::Before) };
        Ok(Done::Now(outcomes, tables))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_same_whatever_their_form() {
        let of = |body: &str| RequestToken::of(Some("t".into()), body.as_bytes()).unwrap().fingerprint;
        let one = of(
            r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"a":{"S":"1"},"b":{"N":"1"}}}}],"ClientRequestToken":"t"}"#,
        );
        let same = of(
            r#"{"ReturnConsumedCapacity":"NONE","TransactItems":[{"Put":{"Item":{"b":{"N":"1.0"},"a":{"S":"1","N":null}},"TableName":"t"}}]}"#,
        );
        assert_eq!(one, same);
        for other in [
            r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"a":{"S":"1"},"b":{"N":"2"}}}}]}"#,
            r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"a":{"S":"1.0"},"b":{"N":"1"}}}}]}"#,
            r#"{"TransactItems":[{"Put":{"TableName":"tItem","":{"a":{"S":"1"},"b":{"N":"1"}}}}]}"#,
            r#"{"TransactItems":[]}"#,
        ] {
            assert_ne!(one, of(other), "{other}");
        }
    }
}
