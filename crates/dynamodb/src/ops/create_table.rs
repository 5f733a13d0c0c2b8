//! CreateTable.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use store::Write;
use types::RequestId;

use super::describe_table::{Sizes, description};
use super::resource_policy::{check_policy, revised};
use super::schema::{
    Definition, IndexInput, MAX_TABLE_KEYS, Schema, SchemaElement, Throughput, definitions_constraints,
    schema_constraints,
};
use super::tags::{TagInput, tags, with_tags};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::stream;
use crate::tables::{Billing, IndexScope, TABLES, TableRecord, ViewType, table_key};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    attribute_definitions: Option<Vec<Definition>>,
    key_schema: Option<Vec<SchemaElement>>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    deletion_protection_enabled: Option<bool>,
    table_class: Option<String>,
    tags: Option<Vec<TagInput>>,
    #[serde(rename = "SSESpecification")]
    sse_specification: Option<serde_json::Value>,
    stream_specification: Option<StreamSpecification>,
    resource_policy: Option<String>,
    global_secondary_indexes: Option<Vec<IndexInput>>,
    local_secondary_indexes: Option<Vec<IndexInput>>,
}

/// `StreamSpecification`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct StreamSpecification {
    stream_enabled: Option<bool>,
    stream_view_type: Option<String>,
}

impl StreamSpecification {
    pub(super) fn constraints(&self, constraints: &mut Constraints) {
        constraints.required(self.stream_enabled.as_ref(), "streamSpecification.streamEnabled").one_of(
            self.stream_view_type.as_deref(),
            "streamSpecification.streamViewType",
            &ViewType::WORDS,
        );
    }

    /// What the stream shows; `None` is no stream.
    pub(super) fn view(&self) -> Result<Option<ViewType>, Error> {
        match (self.stream_enabled == Some(true), self.stream_view_type.as_deref().and_then(ViewType::of)) {
            (true, Some(view)) => Ok(Some(view)),
            (true, None) => {
                Err(Error::invalid_parameter("StreamViewType must be specified when StreamEnabled is true"))
            }
            (false, Some(_)) => Err(Error::invalid_parameter(
                "StreamViewType can not be specified when StreamEnabled is false",
            )),
            (false, None) => Ok(None),
        }
    }
}

/// Makes a table, which is active at once.
pub(crate) struct CreateTable {
    name: String,
    schema: Schema,
    stream: Option<ViewType>,
    /// `None` is on demand.
    provisioned: Option<Billing>,
    deletion_protection: bool,
    class_given: bool,
    tags: BTreeMap<String, String>,
    policy: Option<String>,
}

/// The words of `BillingMode`.
pub(super) const BILLING_MODES: [&str; 2] = ["PROVISIONED", "PAY_PER_REQUEST"];

/// The table class must be the one there is.
pub(super) fn check_class(class: Option<&str>) -> Result<(), Error> {
    match class {
        Some("STANDARD_INFREQUENT_ACCESS") => {
            Err(Error::validation("TableClass STANDARD_INFREQUENT_ACCESS is not supported: use STANDARD"))
        }
        _ => Ok(()),
    }
}

fn refused(input: &Input) -> Result<(), Error> {
    if input.sse_specification.as_ref().is_some_and(|sse| sse != &json!({"Enabled": false})) {
        return Err(Error::validation("SSESpecification with a key of your own is not supported yet"));
    }
    Ok(())
}

#[async_trait]
impl Run for CreateTable {
    const NAME: &'static str = "CreateTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let Some(name) = &input.table_name else {
            return Err(Error::validation(
                "The parameter 'TableName' is required but was not present in the request",
            ));
        };
        if !name.starts_with("arn:") && !(3..=255).contains(&name.len()) {
            return Err(Error::validation(
                "TableName must be at least 3 characters long and at most 255 characters long",
            ));
        }
        let mut constraints = Constraints::default();
        constraints
            .required(input.attribute_definitions.as_ref(), "attributeDefinitions")
            .table(Some(name), "tableName")
            .one_of(input.billing_mode.as_deref(), "billingMode", &BILLING_MODES)
            .one_of(input.table_class.as_deref(), "tableClass", &["STANDARD", "STANDARD_INFREQUENT_ACCESS"])
            .required(input.key_schema.as_ref(), "keySchema");
        let definitions = input.attribute_definitions.as_deref().unwrap_or_default();
        let schema = input.key_schema.as_deref().unwrap_or_default();
        definitions_constraints(definitions, &mut constraints);
        if let Some(schema) = &input.key_schema {
            schema_constraints(Some(schema), "keySchema", MAX_TABLE_KEYS, &mut constraints);
        }
        if let Some(throughput) = input.provisioned_throughput {
            throughput.constraints(&mut constraints, "provisionedThroughput");
        }
        let local = input.local_secondary_indexes.as_deref();
        let global = input.global_secondary_indexes.as_deref();
        for (indexes, scope, name) in [
            (local, IndexScope::Local, "localSecondaryIndexes"),
            (global, IndexScope::Global, "globalSecondaryIndexes"),
        ] {
            for (nth, index) in (1..).zip(indexes.unwrap_or_default()) {
                index.constraints(scope, &format!("{name}.{nth}.member"), &mut constraints);
            }
        }
        if let Some(stream) = &input.stream_specification {
            stream.constraints(&mut constraints);
        }
        constraints.finish()?;
        let provisioned = match (input.billing_mode.as_deref(), input.provisioned_throughput) {
            (Some("PAY_PER_REQUEST"), None) => None,
            (Some("PAY_PER_REQUEST"), Some(_)) => {
                return Err(Error::invalid_parameter(
                    "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
                ));
            }
            (_, Some(throughput)) => Some(throughput.billing()?),
            (_, None) => {
                return Err(Error::invalid_parameter(
                    "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
                ));
            }
        };
        refused(&input)?;
        check_class(input.table_class.as_deref())?;
        let schema = Schema::of(definitions, schema, local, global, provisioned.is_some())?;
        let stream = input.stream_specification.as_ref().map(StreamSpecification::view).transpose()?;
        Ok(Self {
            name: scope.table_name(name)?,
            schema,
            stream: stream.flatten(),
            provisioned,
            deletion_protection: input.deletion_protection_enabled.unwrap_or(false),
            class_given: input.table_class.is_some(),
            tags: tags(input.tags.as_deref().unwrap_or_default())?,
            policy: input.resource_policy,
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let arn = scope.table_arn(&self.name);
        let mut needs = vec![Access::new("dynamodb:CreateTable", arn.clone())];
        if !self.tags.is_empty() {
            needs.push(Access::new("dynamodb:TagResource", arn.clone()));
            needs = needs.into_iter().map(|need| with_tags(need, &self.tags)).collect();
        }
        if self.policy.is_some() {
            needs.push(Access::new("dynamodb:PutResourcePolicy", arn));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let record = self.make(node, scope, |_, _| {}).await?;
        let description = description(&record, scope, &Sizes::default(), "ACTIVE");
        Ok(document(&json!({ "TableDescription": description })))
    }
}

impl CreateTable {
    /// The name of the table to be made.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes it; `finish` has the last word on its row, and may write more.
    pub(super) async fn make(
        self,
        node: &Node,
        scope: &Scope,
        finish: impl Fn(&mut TableRecord, &mut Vec<Write>) + Send + 'static,
    ) -> Result<TableRecord, Error> {
        let now = node.env.now();
        if let Some(policy) = &self.policy {
            check_policy(node, policy)?;
        }
        let mut record = TableRecord {
            name: self.name,
            id: 0,
            uuid: RequestId::new(&*node.env).to_string(),
            created_at: now,
            partition: self.schema.partition,
            sort: self.schema.sort,
            billing: self.provisioned.unwrap_or(Billing::PayPerRequest { since: now }),
            deletion_protection: self.deletion_protection,
            class_given: self.class_given,
            tags: self.tags,
            definitions: self.schema.definitions,
            next_index: u16::try_from(self.schema.indexes.len()).expect("there are at most 25"),
            indexes: self.schema.indexes,
            stream: None,
            ttl: None,
            backups: Vec::new(),
            recovery: None,
            restored: None,
            importing: false,
            collections: true,
            increased_at: None,
            decreased_at: None,
            policy: self.policy.map(|policy| revised(&policy, None, now)),
        };
        let (account, stream) = (scope.account, self.stream);
        let key = table_key(scope.account, &record.name);
        let reads = vec![TABLES.read(key.clone())];
        node.store
            .transact(reads, move |pages, version| {
                if pages[0].first().is_some() {
                    return Err(Error::ResourceInUse(format!("Table already exists: {}", record.name)));
                }
                record.id = version.0;
                let mut writes = Vec::with_capacity(2);
                if let Some(view) = stream {
                    stream::open(account, &mut record, view, now, version.0, &mut writes);
                }
                finish(&mut record, &mut writes);
                writes.push(TABLES.put(key.clone(), &record));
                Ok((writes, record.clone()))
            })
            .await
    }
}
