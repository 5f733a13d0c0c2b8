//! Reading one item by its key: what GetItem, BatchGetItem and TransactGetItems have in common.

use aws::Access;
use bytes::Bytes;
use indexmap::IndexMap;

use super::item_write::leading_keys;
use super::legacy;
use crate::Error;
use crate::expr::{Placeholders, Projection};
use crate::service::{Node, Scope};
use crate::table::Table;
use crate::value::{Attributes, ItemView};
use crate::wire::write;

/// Reads `ProjectionExpression` and its names, or `AttributesToGet`.
pub(crate) fn projection(
    text: Option<&str>,
    names: Option<&IndexMap<String, String>>,
    attributes: Option<&Vec<String>>,
) -> Result<Option<Projection>, Error> {
    legacy::exclusive(
        &[("AttributesToGet", attributes.is_some())],
        &[("ProjectionExpression", text.is_some())],
    )?;
    Placeholders::only_with_expressions((names.is_some(), false), text.is_some(), &[])?;
    let attributes = attributes.map(|names| legacy::attributes_to_get(names)).transpose()?;
    let mut placeholders = Placeholders::new(names, None)?;
    let projection = text.map(|text| Projection::parse(text, &mut placeholders)).transpose()?;
    placeholders.all_used()?;
    Ok(projection.or(attributes))
}

/// Key attributes are scalars: there is nothing below them to project.
pub(crate) fn check_nested<'n>(table: &Table, nested: impl Iterator<Item = &'n str>) -> Result<(), Error> {
    let mut nested = nested.filter_map(|name| {
        let index_key = || table.record.indexes.iter().any(|index| index.keys().any(|key| key.name == name));
        let role = if table.is_key(name) { Some("Key") } else { index_key().then_some("IndexKey") };
        Some((role?, name))
    });
    match nested.next() {
        None => Ok(()),
        Some((role, name)) => Err(Error::Validation(format!(
            "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: {role}: {name}"
        ))),
    }
}

/// The right to read items of those keys.
pub(crate) async fn access(
    node: &Node,
    scope: &Scope,
    action: &'static str,
    table: &str,
    keys: &[Attributes],
    projection: Option<&Projection>,
) -> Access {
    let mut names: Vec<String> = keys.iter().flat_map(|key| key.keys().cloned()).collect();
    names.extend(projection.iter().flat_map(|projection| projection.heads().map(str::to_owned)));
    names.sort_unstable();
    names.dedup();
    let select = if projection.is_some() { "SPECIFIC_ATTRIBUTES" } else { "ALL_ATTRIBUTES" };
    Access::new(action, scope.table_arn(table))
        .with("dynamodb:Attributes", names)
        .with("dynamodb:LeadingKeys", leading_keys(node, scope, table, keys).await)
        .with("dynamodb:Select", vec![select.into()])
}

/// Appends an item or the part of it that was asked for.
pub(crate) fn write_item(
    out: &mut Vec<u8>,
    item: &Bytes,
    projection: Option<&Projection>,
) -> Result<usize, Error> {
    let view = ItemView::new(item).map_err(store::Error::from)?;
    match projection {
        Some(projection) => projection.write(out, view),
        None => write::item(out, view),
    }
    Ok(view.size_bytes())
}
