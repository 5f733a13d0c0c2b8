//! ExecuteStatement, BatchExecuteStatement and ExecuteTransaction: statements become the same reads and writes
//! as the other operations have.

use std::sync::Arc;

use async_trait::async_trait;
use aws::Access;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::item_write::{self, Action, Done, ItemWrite, key_text};
use super::search::Search;
use super::transact_get_items::TransactGetItems;
use super::transact_write_items::{RequestToken, TransactWriteItems, count_statements};
use crate::Error;
use crate::expr::key_condition::KeyTest;
use crate::expr::{Comparator, Condition, Operand, Path};
use crate::partiql::{MAX_STATEMENT, Returning, Select, Statement, check_partitions, partitions, whole_key};
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::{Attempt, Table, check_not_empty};
use crate::value::{AttributeValue, Attributes, ItemView, ValueView};
use crate::wire::{self, AttributeMap, Constraints, SingleValue, write};

/// The most statements of a batch.
const MAX_BATCH: usize = 25;

/// Items of an answer come to about this at most.
const ANSWER_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StatementInput {
    statement: Option<String>,
    parameters: Option<Vec<SingleValue>>,
    consistent_read: Option<bool>,
    return_values_on_condition_check_failure: Option<String>,
}

impl StatementInput {
    fn constraints(&self, at: &str, constraints: &mut Constraints) {
        let name = |member: &str| format!("{at}{member}");
        constraints.required(self.statement.as_ref(), &name("statement"));
        if let Some(statement) = &self.statement {
            constraints.text_len(statement, &name("statement"), 1, MAX_STATEMENT);
        }
        if let Some(parameters) = &self.parameters {
            constraints.len(
                parameters.len(),
                format_args!("'[{} values]'", parameters.len()),
                &name("parameters"),
                1,
                usize::MAX,
            );
        }
        let on_failure = self.return_values_on_condition_check_failure.as_deref();
        constraints.one_of(on_failure, &name("returnValuesOnConditionCheckFailure"), &["ALL_OLD", "NONE"]);
    }

    fn prepare(&self, scope: &Scope) -> Result<Prepared, Error> {
        let text = self.statement.as_deref().unwrap_or_default();
        let statement = Statement::parse(text, self.parameters.as_deref().unwrap_or_default())?;
        Ok(Prepared {
            table: scope.table_name(statement.table())?,
            statement,
            consistent: self.consistent_read.unwrap_or(false),
            return_on_failure: item_write::returns_on_failure(
                self.return_values_on_condition_check_failure.as_deref(),
            ),
        })
    }
}

/// A statement, ready to be carried out.
struct Prepared {
    statement: Statement,
    table: String,
    consistent: bool,
    return_on_failure: bool,
}

fn exists(name: &str) -> Condition {
    Condition::Exists(Path { head: name.to_owned(), rest: Vec::new() })
}

fn no_whole_key() -> Error {
    Error::validation("Where clause does not contain a mandatory equality on all key attributes")
}

impl Prepared {
    fn is_write(&self) -> bool {
        !self.statement.is_read()
    }

    /// The right that it needs.
    async fn access(&self, node: &Node, scope: &Scope) -> Access {
        let mut names: Vec<String> = Vec::new();
        let mut conditions: &[Condition] = &[];
        let mut resource = scope.table_arn(&self.table);
        let mut index = None;
        let action = match &self.statement {
            Statement::Select(select) | Statement::Exists(select) => {
                names.extend(select.columns.iter().map(|(_, path)| path.head.clone()));
                conditions = &select.conditions;
                index = select.index.as_deref();
                if let Some(index) = index {
                    resource = format!("{resource}/index/{index}");
                }
                "dynamodb:PartiQLSelect"
            }
            Statement::Insert { item, .. } => {
                names.extend(item.keys().cloned());
                "dynamodb:PartiQLInsert"
            }
            Statement::Update { update, conditions: given, .. } => {
                update.each_path(&mut |path| names.push(path.head.clone()));
                conditions = given;
                "dynamodb:PartiQLUpdate"
            }
            Statement::Delete { conditions: given, .. } => {
                conditions = given;
                "dynamodb:PartiQLDelete"
            }
        };
        conditions
            .iter()
            .for_each(|condition| condition.each_path(&mut |path| names.push(path.head.clone())));
        names.sort_unstable();
        names.dedup();
        let table = node.table(scope.account, &self.table).await.ok();
        let place = table.as_deref().and_then(|table| Place::find(table, index).ok());
        let leading = place.and_then(|place| match &self.statement {
            Statement::Insert { item, .. } => item.get(&place.partition().name).map(|v| vec![v.clone()]),
            _ => partitions(conditions, &place.partition().name).map(|(_, values)| values),
        });
        let scans = self.statement.is_read() && leading.is_none();
        let leading = leading.into_iter().flatten().filter_map(|value| key_text(&value)).collect();
        let access = Access::new(action, resource)
            .with("dynamodb:Attributes", names)
            .with("dynamodb:LeadingKeys", leading);
        if self.statement.is_read() {
            return access.with("dynamodb:FullTableScan", vec![scans.to_string()]);
        }
        access
    }

    /// The change of an item that it is.
    fn item_write(&self, table: &Table) -> Result<ItemWrite, Error> {
        let keys = || table.keys().map(|key| key.name.as_str());
        let partition = &table.record.partition.name;
        let (action, conditions) = match &self.statement {
            Statement::Insert { item, .. } => {
                let absent = Condition::NotExists(Path { head: partition.clone(), rest: Vec::new() });
                (item_write::put(AttributeMap::from(item.clone()))?, vec![absent])
            }
            Statement::Update { update, conditions, .. } => {
                let (key, mut rest) = whole_key(conditions, keys()).ok_or_else(no_whole_key)?;
                rest.push(exists(partition));
                (Action::Update { key, update: update.clone() }, rest)
            }
            Statement::Delete { conditions, .. } => {
                let (key, rest) = whole_key(conditions, keys()).ok_or_else(no_whole_key)?;
                // What is not there is deleted already.
                let absent = Condition::Not(Box::new(exists(partition)));
                let rest = if rest.is_empty() {
                    rest
                } else {
                    vec![Condition::Or(vec![absent, Condition::And(rest)])]
                };
                (Action::Delete { key }, rest)
            }
            Statement::Exists(select) => {
                let (key, mut rest) = whole_key(&select.conditions, keys()).ok_or_else(no_whole_key)?;
                rest.push(exists(partition));
                (Action::Check { key }, rest)
            }
            Statement::Select(_) => return Err(Error::validation("A SELECT does not write")),
        };
        Ok(ItemWrite {
            table: self.table.clone(),
            action,
            condition: (!conditions.is_empty()).then_some(Condition::And(conditions)),
            return_on_failure: self.return_on_failure,
            insert: matches!(self.statement, Statement::Insert { .. }),
        })
    }

    async fn write(&self, node: &Node, scope: &Scope) -> Result<Done, Error> {
        if matches!(self.statement, Statement::Exists(_)) {
            return Err(Error::validation("EXISTS can be used in transactions only"));
        }
        let table = node.table(scope.account, &self.table).await?;
        self.item_write(&table)?.run(node, scope, true).await
    }

    /// Appends what RETURNING asks for.
    fn returned(&self, done: &Done, out: &mut Vec<u8>) -> Result<bool, Error> {
        let view = |item: &'_ Option<bytes::Bytes>| -> Result<Option<Vec<u8>>, Error> {
            Ok(item.as_ref().map(|b| b.to_vec()))
        };
        let (returning, update) = match &self.statement {
            Statement::Update { returning, update, .. } => (*returning, Some(update)),
            Statement::Delete { returning, .. } => (*returning, None),
            Statement::Insert { .. } | Statement::Select(_) | Statement::Exists(_) => {
                (Returning::Nothing, None)
            }
        };
        let (item, modified) = match returning {
            Returning::Nothing => return Ok(false),
            Returning::AllOld => (view(&done.outcome.old)?, false),
            Returning::AllNew => (view(&done.outcome.new)?, false),
            Returning::ModifiedOld => (view(&done.outcome.old)?, true),
            Returning::ModifiedNew => (view(&done.outcome.new)?, true),
        };
        let Some(item) = item else { return Ok(false) };
        let item = ItemView::new(&item).map_err(store::Error::from)?;
        match update.filter(|_| modified) {
            Some(update) => update.projection().write(out, item),
            None => write::item(out, item),
        }
        Ok(true)
    }
}

/// Reads one page of what a SELECT finds.
struct Reading<'s> {
    select: &'s Select,
    table: &'s str,
    consistent: bool,
    limit: Option<usize>,
    capacity: ReturnCapacity,
}

/// Where a SELECT goes on.
#[derive(Debug, Clone, Default, PartialEq)]
struct Continuation {
    /// Which of the partitions that it names.
    partition: usize,
    /// After this item of it.
    after: Option<Attributes>,
}

/// What a SELECT has found.
struct Selected {
    /// JSON, without brackets.
    items: Vec<u8>,
    next: Option<Continuation>,
    cost: Consumed,
    table: Arc<Table>,
}

impl Reading<'_> {
    async fn read(&self, node: &Node, scope: &Scope, from: &Continuation) -> Result<Selected, Error> {
        loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(scope.account, self.table).await?;
                let (items, next, cost) = self.attempt(node, &table, from.clone()).await?;
                Ok(Selected { items, next, cost, table })
            }
            .await;
            if let Some(found) = node.settle(scope.account, &[self.table], attempt)? {
                return Ok(found);
            }
        }
    }

    async fn attempt(
        &self,
        node: &Node,
        table: &Table,
        from: Continuation,
    ) -> Result<(Vec<u8>, Option<Continuation>, Consumed), Attempt> {
        let index = self.select.index.as_deref();
        if index.is_some_and(|name| table.record.index(name).is_none()) {
            return Err(Error::validation("The table does not have the specified index").into());
        }
        let place = Place::find(table, index)?;
        let mut rest = self.select.conditions.clone();
        let named = partitions(&rest, &place.partition().name);
        let reverse = self.order(place, named.as_ref().map(|(_, values)| values.len()))?;
        let mut test = None;
        let named = match named {
            None => None,
            Some((at, mut values)) => {
                rest.remove(at);
                check_partitions(&values)?;
                let mut seen: Vec<AttributeValue> = Vec::with_capacity(values.len());
                values.retain(|value| {
                    let new = !seen.contains(value);
                    if new {
                        seen.push(value.clone());
                    }
                    new
                });
                if let Some(sort) = place.sort()
                    && let Some((at, found)) = rest
                        .iter()
                        .enumerate()
                        .find_map(|(at, condition)| Some((at, key_test(condition, &sort.name)?)))
                    && fits(&found, sort.kind.kind())
                {
                    rest.remove(at);
                    test = Some(found);
                }
                Some(values)
            }
        };
        let filter = (!rest.is_empty()).then_some(Condition::And(rest));
        let mut search = Search::select(self.select, self.limit, filter, self.consistent, self.capacity);
        search.check_place(place)?;
        let mut items = Vec::new();
        let mut cost = Consumed::default();
        let total = named.as_ref().map_or(1, Vec::len);
        let mut after = from.after;
        for partition in from.partition..total {
            let (mut start, mut end) = match &named {
                None => place.segment(0, 1),
                Some(values) => {
                    let value = &values[partition];
                    let key = place.partition();
                    if value.kind() != key.kind.kind() {
                        return Err(Error::invalid_parameter(
                            "Condition parameter type does not match schema type",
                        )
                        .into());
                    }
                    check_not_empty(&key.name, value)?;
                    place.run(&place.partition_prefix(value), test.as_ref())
                }
            };
            if let Some(key) = after.take() {
                let at = place.cursor(&key).map_err(|_| invalid_token())?;
                if !(start <= at && at < end) {
                    return Err(invalid_token().into());
                }
                if reverse {
                    end = at;
                } else {
                    start = store::key::after(&at);
                }
            }
            let found = search.find(node, place, (start, end), reverse).await?;
            cost.add(&found.cost, 1.0);
            if !found.items.is_empty() {
                if !items.is_empty() {
                    items.push(b',');
                }
                items.extend_from_slice(&found.items);
            }
            if let Some(last) = found.last {
                return Ok((items, Some(Continuation { partition, after: Some(last) }), cost));
            }
            let left = search.limit.map(|limit| limit.saturating_sub(found.scanned));
            if partition + 1 < total && (left == Some(0) || items.len() >= ANSWER_BYTES) {
                return Ok((items, Some(Continuation { partition: partition + 1, after: None }), cost));
            }
            search.limit = left;
        }
        Ok((items, None, cost))
    }

    /// Whether ORDER BY turns the order round; it can name keys only.
    fn order(&self, place: Place<'_>, partitions: Option<usize>) -> Result<bool, Error> {
        let mut reverse = false;
        for (name, descending) in &self.select.order {
            match partitions {
                None => {
                    return Err(Error::validation(
                        "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause.",
                    ));
                }
                Some(1) => {}
                Some(_) => {
                    return Err(Error::validation("ORDER BY over several partitions is not supported"));
                }
            }
            if place.sort().is_some_and(|sort| sort.name == *name) {
                reverse = *descending;
            } else if place.partition().name != *name {
                return Err(Error::Validation(format!(
                    "Variable reference {name} in ORDER BY clause must be part of the primary key"
                )));
            }
        }
        Ok(reverse)
    }
}

fn literal(operand: &Operand) -> Option<AttributeValue> {
    match operand {
        Operand::Literal(encoded) => ValueView::of(encoded).decode(),
        Operand::Path(_) | Operand::Size(_) => None,
    }
}

/// A condition on a sort key, as a run of keys.
fn key_test(condition: &Condition, name: &str) -> Option<KeyTest> {
    let is_key = |operand: &Operand| matches!(operand, Operand::Path(path) if path.head == name && path.rest.is_empty());
    match condition {
        Condition::Compare(Comparator::Ne, ..) => None,
        Condition::Compare(comparator, left, right) if is_key(left) => {
            Some(KeyTest::Compare(*comparator, literal(right)?))
        }
        Condition::Compare(comparator, left, right) if is_key(right) => {
            Some(KeyTest::Compare(comparator.mirrored(), literal(left)?))
        }
        Condition::Between(value, low, high) if is_key(value) => {
            Some(KeyTest::Between(literal(low)?, literal(high)?))
        }
        Condition::BeginsWith(value, prefix) if is_key(value) => Some(KeyTest::BeginsWith(literal(prefix)?)),
        _ => None,
    }
}

/// Whether the values of a test have the key's type; else it filters, and finds nothing.
fn fits(test: &KeyTest, kind: crate::value::Kind) -> bool {
    match test {
        KeyTest::Compare(_, value) => value.kind() == kind,
        KeyTest::BeginsWith(value) => value.kind() == kind && kind != crate::value::Kind::N,
        KeyTest::Between(low, high) => low.kind() == kind && high.kind() == kind,
        KeyTest::Unindexable => false,
    }
}

fn invalid_token() -> Error {
    Error::validation("Given NextToken is not valid for this statement")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    statement: String,
    partition: usize,
    after: Option<AttributeMap>,
}

impl Continuation {
    fn to_token(&self, statement: &str) -> String {
        let mut out = Object::new();
        write::string(out.member("statement"), statement.as_bytes());
        out.member("partition").extend_from_slice(self.partition.to_string().as_bytes());
        if let Some(after) = &self.after {
            write::attributes(out.member("after"), after);
        }
        URL_SAFE_NO_PAD.encode(out.finish())
    }

    fn parse(token: &str, statement: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid_token())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid_token())?;
        if token.statement != statement {
            return Err(invalid_token());
        }
        let after = token.after.map(AttributeMap::into_valid).transpose().map_err(|_| invalid_token())?;
        Ok(Self { partition: token.partition, after })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ExecuteInput {
    statement: Option<String>,
    parameters: Option<Vec<SingleValue>>,
    consistent_read: Option<bool>,
    return_values_on_condition_check_failure: Option<String>,
    next_token: Option<String>,
    return_consumed_capacity: Option<String>,
    limit: Option<i64>,
}

/// Carries out one statement.
pub(crate) struct ExecuteStatement {
    prepared: Prepared,
    from: Continuation,
    limit: Option<usize>,
    /// What a token must have been handed out for.
    digest: String,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for ExecuteStatement {
    const NAME: &'static str = "ExecuteStatement";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ExecuteInput = wire::input(body)?;
        let statement = StatementInput {
            statement: input.statement,
            parameters: input.parameters,
            consistent_read: input.consistent_read,
            return_values_on_condition_check_failure: input.return_values_on_condition_check_failure,
        };
        let mut constraints = Constraints::default();
        statement.constraints("", &mut constraints);
        constraints.return_consumed_capacity(input.return_consumed_capacity.as_deref()).range(
            input.limit,
            "limit",
            1,
            i64::from(i32::MAX),
        );
        if let Some(token) = &input.next_token {
            constraints.text_len(token, "nextToken", 1, 32768);
        }
        constraints.finish()?;
        let mut hash = Sha256::new();
        hash.update(statement.statement.as_deref().unwrap_or_default());
        hash.update(format!("{:?}", statement.parameters));
        let digest: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let from = match &input.next_token {
            None => Continuation::default(),
            Some(token) => Continuation::parse(token, &digest)?,
        };
        Ok(Self {
            prepared: statement.prepare(scope)?,
            from,
            limit: input.limit.and_then(|limit| usize::try_from(limit).ok()),
            digest,
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
        })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        vec![self.prepared.access(node, scope).await]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut out = Object::new();
        let Statement::Select(select) = &self.prepared.statement else {
            let done = self.prepared.write(node, scope).await?;
            let items = out.member("Items");
            items.push(b'[');
            self.prepared.returned(&done, items)?;
            items.push(b']');
            return Ok(done.finish(out, self.capacity, false));
        };
        let reading = Reading {
            select,
            table: &self.prepared.table,
            consistent: self.prepared.consistent,
            limit: self.limit,
            capacity: self.capacity,
        };
        let found = reading.read(node, scope, &self.from).await?;
        let items = out.member("Items");
        items.push(b'[');
        items.extend_from_slice(&found.items);
        items.push(b']');
        if let Some(next) = &found.next {
            write::string(out.member("NextToken"), next.to_token(&self.digest).as_bytes());
            if let Some(after) = &next.after {
                write::attributes(out.member("LastEvaluatedKey"), after);
            }
        }
        capacity::member(&mut out, self.capacity, &found.table.record.name, &found.cost);
        Ok(out.finish())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BatchInput {
    statements: Option<Vec<StatementInput>>,
    return_consumed_capacity: Option<String>,
}

/// Carries out up to 25 statements, each for itself; all read an item or all write one.
pub(crate) struct BatchExecuteStatement {
    statements: Vec<Result<Prepared, Error>>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for BatchExecuteStatement {
    const NAME: &'static str = "BatchExecuteStatement";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: BatchInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.statements.as_ref(), "statements");
        let statements = input.statements.unwrap_or_default();
        if !constraints.any() {
            let shown = format!("'[{} statements]'", statements.len());
            constraints.len(statements.len(), shown, "statements", 1, MAX_BATCH);
        }
        for (nth, statement) in (1..).zip(&statements) {
            statement.constraints(&format!("statements.{nth}.member."), &mut constraints);
        }
        constraints.finish()?;
        let statements: Vec<_> = statements.iter().map(|statement| statement.prepare(scope)).collect();
        let mut kinds = statements.iter().filter_map(|s| s.as_ref().ok()).map(Prepared::is_write);
        if let Some(first) = kinds.next()
            && kinds.any(|kind| kind != first)
        {
            return Err(Error::validation("Statements of a batch must either all read or all write"));
        }
        Ok(Self { statements, capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()) })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.statements.len());
        for statement in self.statements.iter().flatten() {
            needs.push(statement.access(node, scope).await);
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut costs = indexmap::IndexMap::<String, Consumed>::new();
        let mut responses = Vec::with_capacity(self.statements.len());
        for statement in &self.statements {
            let mut out = Object::new();
            let done = match statement {
                Err(error) => Err(error.clone()),
                Ok(prepared) => one_of_batch(node, scope, prepared, self.capacity).await,
            };
            if let Ok(prepared) = statement {
                write::string(out.member("TableName"), prepared.table.as_bytes());
            }
            match done {
                Ok((item, cost)) => {
                    if let Ok(prepared) = statement {
                        costs.entry(prepared.table.clone()).or_default().add(&cost, 1.0);
                    }
                    if !item.is_empty() {
                        out.member("Item").extend_from_slice(&item);
                    }
                }
                Err(error) => {
                    out.member("Error").extend_from_slice(&super::document(&batch_error(error)?));
                }
            }
            responses.push(out.finish());
        }
        let mut out = Object::new();
        write::list(out.member("Responses"), *b"[]", responses.iter(), |out, response| {
            out.extend_from_slice(response);
        });
        capacity::members(&mut out, self.capacity, &costs, Split::None);
        Ok(out.finish())
    }
}

/// The item that a statement of a batch gives, if any, and what it cost.
async fn one_of_batch(
    node: &Node,
    scope: &Scope,
    prepared: &Prepared,
    capacity: ReturnCapacity,
) -> Result<(Vec<u8>, Consumed), Error> {
    let Statement::Select(select) = &prepared.statement else {
        let done = prepared.write(node, scope).await?;
        let mut item = Vec::new();
        prepared.returned(&done, &mut item)?;
        return Ok((item, done.cost));
    };
    let table = node.table(scope.account, &prepared.table).await?;
    if whole_key(&select.conditions, table.keys().map(|key| key.name.as_str())).is_none() {
        return Err(Error::validation(
            "Select statements within BatchExecuteStatement must specify the primary key in the where clause.",
        ));
    }
    let (table, consistent) = (&*prepared.table, prepared.consistent);
    let reading = Reading { select, table, consistent, limit: None, capacity };
    let found = reading.read(node, scope, &Continuation::default()).await?;
    Ok((found.items, found.cost))
}

/// The error of one statement; a fault of the store is one of all.
fn batch_error(error: Error) -> Result<serde_json::Value, Error> {
    let code = match &error {
        Error::Store(_) => return Err(error),
        Error::Validation(_) | Error::Serialization(_) => "ValidationError",
        other => other.code().trim_end_matches("Exception"),
    };
    let mut out = json!({"Code": code, "Message": error.to_string()});
    if let Error::ConditionalCheckFailed { item: Some(item) } = error {
        out["Item"] = item;
    }
    Ok(out)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TransactionInput {
    transact_statements: Option<Vec<StatementInput>>,
    client_request_token: Option<String>,
    return_consumed_capacity: Option<String>,
}

/// Carries out up to 100 statements, all or none; all read or all write.
pub(crate) struct ExecuteTransaction {
    statements: Vec<Prepared>,
    token: Option<RequestToken>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for ExecuteTransaction {
    const NAME: &'static str = "ExecuteTransaction";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: TransactionInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.transact_statements.as_ref(), "transactStatements");
        if let Some(token) = &input.client_request_token {
            constraints.text_len(token, "clientRequestToken", 1, 36);
        }
        let statements = input.transact_statements.unwrap_or_default();
        for (nth, statement) in (1..).zip(&statements) {
            statement.constraints(&format!("transactStatements.{nth}.member."), &mut constraints);
        }
        constraints.finish()?;
        count_statements(statements.len())?;
        let statements =
            statements.iter().map(|statement| statement.prepare(scope)).collect::<Result<Vec<_>, _>>()?;
        if statements.iter().any(Prepared::is_write) && !statements.iter().all(Prepared::is_write) {
            return Err(Error::validation("Statements of a transaction must either all read or all write"));
        }
        Ok(Self {
            statements,
            token: RequestToken::of(input.client_request_token, body),
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
        })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.statements.len());
        for statement in &self.statements {
            let access = statement.access(node, scope).await;
            needs.push(access.with("dynamodb:EnclosingOperation", vec![Self::NAME.into()]));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut writes = Vec::new();
        let mut gets = Vec::new();
        for prepared in &self.statements {
            let table = node.table(scope.account, &prepared.table).await?;
            let Statement::Select(select) = &prepared.statement else {
                writes.push(prepared.item_write(&table)?);
                continue;
            };
            let keys = table.keys().map(|key| key.name.as_str());
            let (key, rest) = whole_key(&select.conditions, keys).ok_or_else(no_whole_key)?;
            if !rest.is_empty() || select.index.is_some() {
                return Err(Error::validation(
                    "A SELECT of a transaction reads an item of a table by its primary key alone",
                ));
            }
            gets.push((prepared.table.clone(), key, select.columns.clone()));
        }
        if gets.is_empty() {
            let Self { token, capacity, .. } = self;
            return TransactWriteItems::of(writes, token, capacity)?.run(node, scope).await;
        }
        TransactGetItems::of(gets, self.capacity).run(node, scope).await
    }
}
