//! Keys, indexes and throughput as CreateTable and UpdateTable take them.

use serde::Deserialize;

use crate::Error;
use crate::tables::{Billing, IndexRecord, IndexScope, IndexState, KeyAttribute, KeyKind, Projected};
use crate::wire::{Constraints, Long};

/// The most attributes of the key of a table, and of each half of that of a global index.
pub(super) const MAX_TABLE_KEYS: usize = 2;
const MAX_INDEX_KEYS: usize = 4;

/// The most indexes of a table, and of attributes beside keys that one index and all of them may project
/// (Developer Guide, "Service, account, and table quotas").
const MAX_LOCAL_INDEXES: usize = 5;
pub(super) const MAX_GLOBAL_INDEXES: usize = 20;
const MAX_INCLUDED: usize = 20;
const MAX_INCLUDED_IN_ALL: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct AttributeDefinition")]
pub(super) struct Definition {
    attribute_name: Option<String>,
    attribute_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct KeySchemaElement")]
pub(super) struct SchemaElement {
    attribute_name: Option<String>,
    key_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ProjectionInput {
    projection_type: Option<String>,
    non_key_attributes: Option<Vec<String>>,
}

/// `LocalSecondaryIndex`, `GlobalSecondaryIndex` and `CreateGlobalSecondaryIndexAction`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct GlobalSecondaryIndex")]
pub(super) struct IndexInput {
    pub(super) index_name: Option<String>,
    key_schema: Option<Vec<SchemaElement>>,
    projection: Option<ProjectionInput>,
    pub(super) provisioned_throughput: Option<Throughput>,
}

/// `ProvisionedThroughput`.
#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct ProvisionedThroughput")]
pub(super) struct Throughput {
    read_capacity_units: Option<Long>,
    write_capacity_units: Option<Long>,
}

impl Throughput {
    pub(super) fn constraints(self, constraints: &mut Constraints, at: &str) {
        for (units, name) in [
            (self.write_capacity_units, "writeCapacityUnits"),
            (self.read_capacity_units, "readCapacityUnits"),
        ] {
            let at = format!("{at}.{name}");
            let units = units.map(|Long(units)| units);
            constraints.required(units.as_ref(), &at).range(units, &at, 1, i64::MAX);
        }
    }

    /// Read and write units of an index that is changed, whose bounds are checked with the table at hand.
    pub(super) fn unchecked_units(self) -> (u64, u64) {
        let units = |units: Option<Long>| units.map_or(0, |Long(units)| units.cast_unsigned());
        (units(self.read_capacity_units), units(self.write_capacity_units))
    }

    /// Read and write units.
    pub(super) fn units(self) -> Result<(u64, u64), Error> {
        let units = |units: Option<Long>, name: &str| {
            let units = units.map_or(0, |Long(units)| units);
            if units > 1_000_000_000_000 {
                return Err(Error::Validation(format!("Given value {units} for {name} is out of bounds")));
            }
            Ok(units.cast_unsigned())
        };
        Ok((
            units(self.read_capacity_units, "ReadCapacityUnits")?,
            units(self.write_capacity_units, "WriteCapacityUnits")?,
        ))
    }

    pub(super) fn billing(self) -> Result<Billing, Error> {
        let (read_units, write_units) = self.units()?;
        Ok(Billing::Provisioned { read_units, write_units })
    }
}

/// Constraints on `AttributeDefinitions`.
pub(super) fn definitions_constraints(definitions: &[Definition], constraints: &mut Constraints) {
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
}

/// Constraints on a `KeySchema`.
pub(super) fn schema_constraints(
    schema: Option<&[SchemaElement]>,
    at: &str,
    most: usize,
    constraints: &mut Constraints,
) {
    let Some(schema) = schema else {
        constraints.required(None::<&()>, at);
        return;
    };
    let shown = if schema.is_empty() { "'[]'".to_owned() } else { format!("'[{} elements]'", schema.len()) };
    constraints.len(schema.len(), shown, at, 1, most);
    for (nth, element) in (1..).zip(schema) {
        let at = |member: &str| format!("{at}.{nth}.member.{member}");
        constraints
            .required(element.attribute_name.as_ref(), &at("attributeName"))
            .required(element.key_type.as_ref(), &at("keyType"))
            .one_of(element.key_type.as_deref(), &at("keyType"), &["HASH", "RANGE"]);
        if let Some(name) = &element.attribute_name {
            constraints.text_len(name, &at("attributeName"), 1, 255);
        }
    }
}

/// Constraints on the name of an index.
pub(super) fn index_name_constraints(name: Option<&str>, at: &str, constraints: &mut Constraints) {
    constraints.required(name, at);
    if let Some(name) = name {
        constraints.pattern(name, at, "[a-zA-Z0-9_.-]+", |b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
        });
        constraints.text_len(name, at, 3, 255);
    }
}

impl IndexInput {
    /// Constraints on single parameters.
    pub(super) fn constraints(&self, scope: IndexScope, at: &str, constraints: &mut Constraints) {
        let at = |member: &str| format!("{at}.{member}");
        let most = match scope {
            IndexScope::Local => MAX_TABLE_KEYS,
            IndexScope::Global => 2 * MAX_INDEX_KEYS,
        };
        index_name_constraints(self.index_name.as_deref(), &at("indexName"), constraints);
        schema_constraints(self.key_schema.as_deref(), &at("keySchema"), most, constraints);
        constraints.required(self.projection.as_ref(), &at("projection"));
        if let Some(projection) = &self.projection {
            constraints.one_of(
                projection.projection_type.as_deref(),
                &at("projection.projectionType"),
                &["ALL", "INCLUDE", "KEYS_ONLY"],
            );
            if let Some(names) = &projection.non_key_attributes {
                let shown = format!("'[{}]'", names.join(", "));
                constraints.len(names.len(), shown, &at("projection.nonKeyAttributes"), 1, MAX_INCLUDED);
            }
        }
        if let Some(throughput) = self.provisioned_throughput {
            throughput.constraints(constraints, &at("provisionedThroughput"));
        }
    }

    fn names(&self) -> Vec<&str> {
        names(self.key_schema.as_deref().unwrap_or_default())
    }

    /// The index, numbered later.
    fn record(&self, scope: IndexScope, defined: &[KeyAttribute]) -> Result<IndexRecord, Error> {
        let schema = self.key_schema.as_deref().unwrap_or_default();
        let (partition, sort) = match scope {
            IndexScope::Local => {
                let (partition, sort) = keys(schema, defined)?;
                (vec![partition], sort.into_iter().collect())
            }
            IndexScope::Global => index_keys(schema, defined)?,
        };
        Ok(IndexRecord {
            name: self.index_name.clone().unwrap_or_default(),
            number: 0,
            scope,
            partition,
            sort,
            projected: Projected::All,
            throughput: None,
            state: IndexState::Active,
        })
    }

    fn projected(&self) -> Result<Projected, Error> {
        let projection = self.projection.as_ref();
        let kind = projection.and_then(|p| p.projection_type.as_deref());
        let included = projection.and_then(|p| p.non_key_attributes.as_ref());
        match (kind, included) {
            (None, _) => Err(Error::invalid_parameter("Unknown ProjectionType: null")),
            (Some("INCLUDE"), Some(names)) => Ok(Projected::Include(names.clone())),
            (Some("INCLUDE"), None) => Err(Error::invalid_parameter(
                "ProjectionType is INCLUDE, but NonKeyAttributes is not specified",
            )),
            (Some(kind), Some(_)) => Err(Error::invalid_parameter(format_args!(
                "ProjectionType is {kind}, but NonKeyAttributes is specified"
            ))),
            (Some("KEYS_ONLY"), None) => Ok(Projected::KeysOnly),
            (Some(_), None) => Ok(Projected::All),
        }
    }

    /// Whether it describes that index: its keys, and what it projects.
    pub(super) fn is_as(&self, index: &IndexRecord) -> bool {
        let keys = self.names().into_iter().eq(index.keys().map(|key| key.name.as_str()));
        let sorted = |projected: &Projected| match projected {
            Projected::Include(names) => {
                let mut names = names.clone();
                names.sort_unstable();
                Projected::Include(names)
            }
            other @ (Projected::All | Projected::KeysOnly) => other.clone(),
        };
        keys && self.projected().is_ok_and(|projected| sorted(&projected) == sorted(&index.projected))
    }

    /// The throughput that a global index needs, and may have, by how its table is paid for.
    pub(super) fn throughput(&self, provisioned: bool) -> Result<Option<(u64, u64)>, Error> {
        let name = self.index_name.as_deref().unwrap_or_default();
        match (self.provisioned_throughput, provisioned) {
            (Some(_), false) => Err(Error::invalid_parameter(format_args!(
                "ProvisionedThroughput should not be specified for index: {name} when BillingMode is PAY_PER_REQUEST"
            ))),
            (None, true) => Err(Error::invalid_parameter(format_args!(
                "ProvisionedThroughput must be specified for index: {name}"
            ))),
            (Some(throughput), true) => throughput.units().map(Some),
            (None, false) => Ok(None),
        }
    }
}

fn names(schema: &[SchemaElement]) -> Vec<&str> {
    schema.iter().filter_map(|element| element.attribute_name.as_deref()).collect()
}

/// `AttributeDefinitions`.
pub(super) fn definitions(definitions: &[Definition]) -> Vec<KeyAttribute> {
    definitions
        .iter()
        .map(|definition| KeyAttribute {
            name: definition.attribute_name.clone().unwrap_or_default(),
            kind: match definition.attribute_type.as_deref() {
                Some("N") => KeyKind::N,
                Some("B") => KeyKind::B,
                _ => KeyKind::S,
            },
        })
        .collect()
}

/// The key attributes of a global index: of the partition key, and of the sort key.
fn index_keys(
    schema: &[SchemaElement],
    defined: &[KeyAttribute],
) -> Result<(Vec<KeyAttribute>, Vec<KeyAttribute>), Error> {
    let is_hash = |element: &SchemaElement| element.key_type.as_deref() == Some("HASH");
    let hashes = schema.iter().take_while(|element| is_hash(element)).count();
    if hashes <= 1 && schema.len() <= MAX_TABLE_KEYS {
        let (partition, sort) = keys(schema, defined)?;
        return Ok((vec![partition], sort.into_iter().collect()));
    }
    let invalid = |rule: &str| Err(Error::Validation(format!("Invalid KeySchema: {rule}")));
    let mut all = defined_keys(schema, defined)?;
    if hashes == 0 {
        return invalid("The first KeySchemaElement is not a HASH key type");
    }
    if schema[hashes..].iter().any(is_hash) {
        return invalid("All HASH key types must come before the RANGE key types");
    }
    if hashes > MAX_INDEX_KEYS || schema.len() - hashes > MAX_INDEX_KEYS {
        return invalid(&format!(
            "There can be {MAX_INDEX_KEYS} HASH and {MAX_INDEX_KEYS} RANGE key types at most"
        ));
    }
    let mut names = names(schema);
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return invalid(&format!("The attribute {} is in it more than once", pair[0]));
    }
    let sort = all.split_off(hashes);
    Ok((all, sort))
}

/// The attributes of a schema, all of which must be defined.
fn defined_keys(schema: &[SchemaElement], defined: &[KeyAttribute]) -> Result<Vec<KeyAttribute>, Error> {
    let names = names(schema);
    let listed = || defined.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
    if names.iter().any(|name| !defined.iter().any(|key| key.name == *name)) {
        return Err(Error::invalid_parameter(format_args!(
            "Some index key attributes are not defined in AttributeDefinitions. Keys: [{}], AttributeDefinitions: [{}]",
            names.join(", "),
            listed()
        )));
    }
    let named = |name: &str| defined.iter().find(|key| key.name == name).cloned();
    Ok(names.into_iter().filter_map(named).collect())
}

/// The key attributes of a table or local index, by schema and definitions.
fn keys(
    schema: &[SchemaElement],
    defined: &[KeyAttribute],
) -> Result<(KeyAttribute, Option<KeyAttribute>), Error> {
    let mut keys = defined_keys(schema, defined)?.into_iter();
    let names = names(schema);
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
    Ok((keys.next().expect("a schema has at least one element"), keys.next()))
}

/// The keys and indexes of a table that is made.
pub(super) struct Schema {
    pub(super) partition: KeyAttribute,
    pub(super) sort: Option<KeyAttribute>,
    pub(super) definitions: Vec<KeyAttribute>,
    pub(super) indexes: Vec<IndexRecord>,
}

impl Schema {
    /// Checks what the parameters say together.
    pub(super) fn of(
        given: &[Definition],
        schema: &[SchemaElement],
        local: Option<&[IndexInput]>,
        global: Option<&[IndexInput]>,
        provisioned: bool,
    ) -> Result<Self, Error> {
        let definitions = definitions(given);
        for (at, key) in definitions.iter().enumerate() {
            if definitions[..at].iter().any(|other| other.name == key.name) {
                return Err(Error::invalid_parameter(format_args!(
                    "Cannot have duplicate attribute definitions: {}",
                    key.name
                )));
            }
        }
        if names(schema).len() > definitions.len() {
            return Err(Error::validation("Invalid KeySchema: Some index key attribute have no definition"));
        }
        let (partition, sort) = keys(schema, &definitions)?;
        if local.is_none() && global.is_none() && schema.len() != definitions.len() {
            return Err(Error::invalid_parameter(
                "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
            ));
        }
        let mut indexes: Vec<IndexRecord> = Vec::new();
        if let Some(local) = local {
            local_indexes(local, &partition, sort.is_some(), &definitions, &mut indexes)?;
        }
        if let Some(global) = global {
            if global.is_empty() {
                return Err(Error::invalid_parameter("List of GlobalSecondaryIndexes is empty"));
            }
            for input in global {
                let mut index = input.record(IndexScope::Global, &definitions)?;
                index.projected = input.projected()?;
                index.throughput = input.throughput(provisioned)?;
                add(index, &mut indexes)?;
            }
            if global.len() > MAX_GLOBAL_INDEXES {
                return Err(Error::invalid_parameter(format_args!(
                    "GlobalSecondaryIndex count exceeds the per-table limit of {MAX_GLOBAL_INDEXES}"
                )));
            }
        }
        check_included(&indexes)?;
        let inputs = local.iter().chain(&global).flat_map(|inputs| inputs.iter());
        let mut used = names(schema);
        used.extend(inputs.flat_map(IndexInput::names));
        if definitions.iter().any(|key| !used.contains(&key.name.as_str())) {
            used.dedup();
            let listed: Vec<_> = definitions.iter().map(|key| key.name.as_str()).collect();
            return Err(Error::invalid_parameter(format_args!(
                "Some AttributeDefinitions are not used. AttributeDefinitions: [{}], keys used: [{}]",
                listed.join(", "),
                used.join(", ")
            )));
        }
        for (number, index) in (0..).zip(&mut indexes) {
            index.number = number;
        }
        Ok(Self { partition, sort, definitions, indexes })
    }
}

fn local_indexes(
    inputs: &[IndexInput],
    partition: &KeyAttribute,
    has_sort: bool,
    definitions: &[KeyAttribute],
    indexes: &mut Vec<IndexRecord>,
) -> Result<(), Error> {
    if inputs.is_empty() {
        return Err(Error::invalid_parameter("List of LocalSecondaryIndexes is empty"));
    }
    if !has_sort {
        return Err(Error::invalid_parameter(
            "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex",
        ));
    }
    for input in inputs {
        let index = input.record(IndexScope::Local, definitions)?;
        let name = &index.name;
        if index.sort.is_empty() {
            return Err(Error::invalid_parameter(format_args!(
                "Index KeySchema does not have a range key for index: {name}"
            )));
        }
        if index.partition[0] != *partition {
            return Err(Error::invalid_parameter(format_args!(
                "Index KeySchema does not have the same leading hash key as table KeySchema for index: {name}. index hash key: {}, table hash key: {}",
                index.partition[0].name, partition.name
            )));
        }
        let index = IndexRecord { projected: input.projected()?, ..index };
        add(index, indexes)?;
    }
    if inputs.len() > MAX_LOCAL_INDEXES {
        return Err(Error::invalid_parameter(format_args!(
            "Number of LocalSecondaryIndexes exceeds per-table limit of {MAX_LOCAL_INDEXES}"
        )));
    }
    Ok(())
}

fn add(index: IndexRecord, indexes: &mut Vec<IndexRecord>) -> Result<(), Error> {
    if indexes.iter().any(|other| other.name == index.name) {
        return Err(Error::invalid_parameter(format_args!("Duplicate index name: {}", index.name)));
    }
    indexes.push(index);
    Ok(())
}

/// A global index of a table that is there; numbered and given throughput by the caller.
pub(super) fn new_global_index(input: &IndexInput, defined: &[KeyAttribute]) -> Result<IndexRecord, Error> {
    let index = input.record(IndexScope::Global, defined)?;
    Ok(IndexRecord { state: IndexState::Creating, projected: input.projected()?, ..index })
}

/// Together, the indexes of a table may not include too much.
pub(super) fn check_included(indexes: &[IndexRecord]) -> Result<(), Error> {
    let included = indexes.iter().map(|index| match &index.projected {
        Projected::Include(names) => names.len(),
        Projected::All | Projected::KeysOnly => 0,
    });
    if included.sum::<usize>() > MAX_INCLUDED_IN_ALL {
        return Err(Error::invalid_parameter(format_args!(
            "The number of projected attributes (NonKeyAttributes) of all indexes exceeds the per-table limit of {MAX_INCLUDED_IN_ALL}"
        )));
    }
    Ok(())
}
