//! CreateTable.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use types::RequestId;

use super::describe_table::{Size, description};
use super::tags::{TagInput, tags};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{Billing, KeyAttribute, KeyKind, TABLES, TableRecord, table_key};
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
    global_secondary_indexes: Option<Vec<serde_json::Value>>,
    local_secondary_indexes: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Definition {
    attribute_name: Option<String>,
    attribute_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SchemaElement {
    attribute_name: Option<String>,
    key_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StreamSpecification {
    stream_enabled: bool,
    stream_view_type: Option<String>,
}

/// `ProvisionedThroughput`.
#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Throughput {
    pub(super) read_capacity_units: Option<i64>,
    pub(super) write_capacity_units: Option<i64>,
}

impl Throughput {
    pub(super) fn constraints(self, constraints: &mut Constraints) {
        for (units, name) in [
            (self.read_capacity_units, "readCapacityUnits"),
            (self.write_capacity_units, "writeCapacityUnits"),
        ] {
            let at = format!("provisionedThroughput.{name}");
            constraints.required(units.as_ref(), &at).range(units, &at, 1, i64::MAX);
        }
    }

    pub(super) fn billing(self) -> Result<Billing, Error> {
        let units = |units: Option<i64>, name: &str| {
            let units = units.unwrap_or_default();
            if units > 1_000_000_000_000 {
                return Err(Error::Validation(format!("Given value {units} for {name} is out of bounds")));
            }
            Ok(units.cast_unsigned())
        };
        Ok(Billing::Provisioned {
            read_units: units(self.read_capacity_units, "ReadCapacityUnits")?,
            write_units: units(self.write_capacity_units, "WriteCapacityUnits")?,
        })
    }
}

/// Makes a table, which is active at once.
pub(crate) struct CreateTable {
    name: String,
    partition: KeyAttribute,
    sort: Option<KeyAttribute>,
    /// `None` is on demand.
    provisioned: Option<Billing>,
    deletion_protection: bool,
    class_given: bool,
    tags: BTreeMap<String, String>,
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
    let unsupported = |what: &str| Err(Error::Validation(format!("{what} is not supported yet")));
    if input.global_secondary_indexes.as_ref().is_some_and(|indexes| !indexes.is_empty()) {
        return unsupported("GlobalSecondaryIndexes");
    }
    if input.local_secondary_indexes.as_ref().is_some_and(|indexes| !indexes.is_empty()) {
        return unsupported("LocalSecondaryIndexes");
    }
    if input.sse_specification.as_ref().is_some_and(|sse| sse != &json!({"Enabled": false})) {
        return unsupported("SSESpecification with a key of your own");
    }
    match &input.stream_specification {
        Some(StreamSpecification { stream_enabled: true, .. }) => unsupported("StreamSpecification"),
        Some(StreamSpecification { stream_view_type: Some(_), .. }) => {
            Err(Error::invalid_parameter("StreamViewType can not be specified when StreamEnabled is false"))
        }
        _ => Ok(()),
    }
}

/// The key attributes, by schema and definitions.
fn keys(schema: &[SchemaElement], definitions: &[Definition]) -> Result<Vec<KeyAttribute>, Error> {
    let defined: Vec<_> = definitions.iter().filter_map(|d| d.attribute_name.as_deref()).collect();
    let names: Vec<_> = schema.iter().filter_map(|e| e.attribute_name.as_deref()).collect();
    if names.len() > defined.len() {
        return Err(Error::validation("Invalid KeySchema: Some index key attribute have no definition"));
    }
    if names.iter().any(|name| !defined.contains(name)) {
        return Err(Error::invalid_parameter(format_args!(
            "Some index key attributes are not defined in AttributeDefinitions. Keys: [{}], AttributeDefinitions: [{}]",
            names.join(", "),
            defined.join(", ")
        )));
    }
    if names.len() == 2 && names[0] == names[1] {
        return Err(Error::validation(
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ));
    }
    for (element, (ordinal, key_type)) in schema.iter().zip([("first", "HASH"), ("second", "RANGE")]) {
        if element.key_type.as_deref() != Some(key_type) {
            return Err(Error::Validation(format!(
                "Invalid KeySchema: The {ordinal} KeySchemaElement is not a {key_type} key type"
            )));
        }
    }
    if names.len() != defined.len() {
        return Err(Error::invalid_parameter(
            "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
        ));
    }
    Ok(names
        .into_iter()
        .map(|name| {
            let definition = definitions.iter().find(|d| d.attribute_name.as_deref() == Some(name));
            let kind = match definition.and_then(|d| d.attribute_type.as_deref()) {
                Some("N") => KeyKind::N,
                Some("B") => KeyKind::B,
                _ => KeyKind::S,
            };
            KeyAttribute { name: name.to_owned(), kind }
        })
        .collect())
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
        for (at, definition) in (1..).zip(definitions) {
            let at = |member: &str| format!("attributeDefinitions.{at}.member.{member}");
            constraints
                .required(definition.attribute_name.as_ref(), &at("attributeName"))
                .required(definition.attribute_type.as_ref(), &at("attributeType"))
                .one_of(definition.attribute_type.as_deref(), &at("attributeType"), &["B", "N", "S"]);
            if let Some(name) = &definition.attribute_name {
                constraints.text_len(name, &at("attributeName"), 1, 255);
            }
        }
        if input.key_schema.is_some() {
            constraints.len(schema.len(), format_args!("'[{} elements]'", schema.len()), "keySchema", 1, 2);
        }
        for (at, element) in (1..).zip(schema) {
            let at = |member: &str| format!("keySchema.{at}.member.{member}");
            constraints
                .required(element.attribute_name.as_ref(), &at("attributeName"))
                .required(element.key_type.as_ref(), &at("keyType"))
                .one_of(element.key_type.as_deref(), &at("keyType"), &["HASH", "RANGE"]);
        }
        if let Some(throughput) = input.provisioned_throughput {
            throughput.constraints(&mut constraints);
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
        let mut keys = keys(schema, definitions)?.into_iter();
        let partition = keys.next().expect("a schema has at least one element");
        Ok(Self {
            name: scope.table_name(name)?,
            partition,
            sort: keys.next(),
            provisioned,
            deletion_protection: input.deletion_protection_enabled.unwrap_or(false),
            class_given: input.table_class.is_some(),
            tags: tags(input.tags.as_deref().unwrap_or_default())?,
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let arn = scope.table_arn(&self.name);
        let mut needs = vec![Access::new("dynamodb:CreateTable", arn.clone())];
        if !self.tags.is_empty() {
            needs.push(Access::new("dynamodb:TagResource", arn));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let now = node.env.now();
        let mut record = TableRecord {
            name: self.name,
            id: 0,
            uuid: RequestId::new(&*node.env).to_string(),
            created_at: now,
            partition: self.partition,
            sort: self.sort,
            billing: self.provisioned.unwrap_or(Billing::PayPerRequest { since: now }),
            deletion_protection: self.deletion_protection,
            class_given: self.class_given,
            tags: self.tags,
        };
        let key = table_key(scope.account, &record.name);
        let reads = vec![TABLES.read(key.clone())];
        let record = node
            .store
            .transact(reads, move |pages, version| {
                if pages[0].first().is_some() {
                    return Err(Error::ResourceInUse(format!("Table already exists: {}", record.name)));
                }
                record.id = version.0;
                Ok((vec![TABLES.put(key.clone(), &record)], record.clone()))
            })
            .await?;
        let description = description(&record, scope, Size::default(), "ACTIVE");
        Ok(document(&json!({ "TableDescription": description })))
    }
}
