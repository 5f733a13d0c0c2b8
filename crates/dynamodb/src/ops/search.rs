//! What Query and Scan have in common: a page of a run of keys, filtered and projected.

use indexmap::IndexMap;
use store::{Key, Range, Read};

use super::capacity::{self, Object, ReturnCapacity};
use super::item_read;
use crate::Error;
use crate::expr::{Condition, Placeholders, Projection};
use crate::service::Node;
use crate::tables::{Attempt, Table};
use crate::value::{Attributes, ItemView};
use crate::wire::{AttributeMap, Constraints, write};

/// Items of a page, filtered out or not, come to at most this.
const PAGE_BYTES: usize = 1 << 20;

/// The words of `Select`.
const SELECT: [&str; 4] = ["SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"];

/// Parameters that both have.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    pub(crate) table: Option<&'a str>,
    pub(crate) index: Option<&'a str>,
    pub(crate) select: Option<&'a str>,
    pub(crate) limit: Option<i64>,
    pub(crate) capacity: Option<&'a str>,
    pub(crate) start: Option<&'a AttributeMap>,
    pub(crate) consistent: Option<bool>,
    pub(crate) filter: Option<&'a str>,
    pub(crate) projection: Option<&'a str>,
    pub(crate) names: Option<&'a IndexMap<String, String>>,
    pub(crate) values: Option<&'a AttributeMap>,
}

/// How a page is read and shown.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) limit: Option<usize>,
    pub(crate) start: Option<Attributes>,
    pub(crate) filter: Option<Condition>,
    pub(crate) projection: Option<Projection>,
    count_only: bool,
    consistent: bool,
    capacity: ReturnCapacity,
    select: &'static str,
}

impl Parameters<'_> {
    /// Constraints on single parameters.
    pub(crate) fn constraints(&self) -> Constraints {
        let mut constraints = Constraints::default();
        constraints
            .one_of(self.select, "select", &SELECT)
            .return_consumed_capacity(self.capacity)
            .table(self.table, "tableName")
            .range(self.limit, "limit", 1, i64::from(i32::MAX));
        constraints
    }

    /// Reads the shared expressions; `placeholders` still has to be asked whether all were used.
    pub(crate) fn parse(&self, placeholders: &mut Placeholders<'_>) -> Result<Search, Error> {
        let start = match self.start.map(|start| (start, start.fault())) {
            None => None,
            Some((_, Some((_, rule)))) => {
                return Err(Error::Validation(format!("The provided starting key is invalid: {rule}")));
            }
            Some((start, None)) => Some(start.attributes.clone()),
        };
        let filter =
            self.filter.map(|text| Condition::parse("FilterExpression", text, placeholders)).transpose()?;
        let projection = self.projection.map(|text| Projection::parse(text, placeholders)).transpose()?;
        if let Some(index) = self.index {
            return Err(Error::Validation(format!("The table does not have the specified index: {index}")));
        }
        let select = match (self.select, &projection) {
            (Some("ALL_PROJECTED_ATTRIBUTES"), _) => {
                return Err(Error::invalid_parameter(
                    "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName",
                ));
            }
            (Some("SPECIFIC_ATTRIBUTES"), None) => {
                return Err(Error::invalid_parameter(
                    "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES",
                ));
            }
            (Some(word @ ("COUNT" | "ALL_ATTRIBUTES")), Some(_)) => {
                return Err(Error::Validation(format!(
                    "Cannot specify the ProjectionExpression when choosing to get {word}"
                )));
            }
            (Some("COUNT"), None) => "COUNT",
            (_, Some(_)) => "SPECIFIC_ATTRIBUTES",
            (_, None) => "ALL_ATTRIBUTES",
        };
        Ok(Search {
            limit: self.limit.and_then(|limit| usize::try_from(limit).ok()),
            start,
            filter,
            projection,
            count_only: select == "COUNT",
            consistent: self.consistent.unwrap_or(false),
            capacity: ReturnCapacity::of(self.capacity),
            select,
        })
    }
}

impl Search {
    /// The condition keys that it adds to an access: attributes named, and what is selected.
    pub(crate) fn describe(&self, access: aws::Access, mut names: Vec<String>) -> aws::Access {
        if let Some(filter) = &self.filter {
            filter.each_path(&mut |path| names.push(path.head.clone()));
        }
        names.extend(self.projection.iter().flat_map(|p| p.heads().map(str::to_owned)));
        names.sort_unstable();
        names.dedup();
        access.with("dynamodb:Attributes", names).with("dynamodb:Select", vec![self.select.into()])
    }

    /// Reads the page of `table` between two keys, and answers with it. The bounds are narrowed by the caller
    /// to begin after the starting key.
    pub(crate) async fn page(
        &self,
        node: &Node,
        table: &Table,
        (start, end): (Key, Key),
        reverse: bool,
    ) -> Result<Vec<u8>, Attempt> {
        if let Some(projection) = &self.projection {
            item_read::check_nested(table, projection.nested_heads())?;
        }
        let mut reads = vec![table.read()];
        if start < end {
            reads.push(Read::Range(Range {
                start,
                end,
                limit: self.limit.unwrap_or(usize::MAX),
                // Stored items are close to what they count for, and a page that ends early is only short.
                limit_bytes: PAGE_BYTES,
                reverse,
            }));
        }
        let mut pages = node.store.read(reads).await?;
        table.check(&pages[0])?;
        let page = if pages.len() > 1 { pages.swap_remove(1) } else { store::Page::default() };
        Ok(self.answer(table, &page)?)
    }

    fn answer(&self, table: &Table, page: &store::Page) -> Result<Vec<u8>, Error> {
        let (mut scanned, mut count, mut size_bytes) = (0usize, 0usize, 0usize);
        let mut items = vec![b'['];
        let mut last = None;
        let mut more = page.more;
        for entry in &page.entries {
            let view = ItemView::new(&entry.value).map_err(store::Error::from)?;
            if scanned > 0 && size_bytes + view.size_bytes() > PAGE_BYTES {
                more = true;
                break;
            }
            scanned += 1;
            size_bytes += view.size_bytes();
            last = Some(view);
            if self.filter.as_ref().is_some_and(|filter| !filter.holds(view)) {
                continue;
            }
            count += 1;
            if self.count_only {
                continue;
            }
            if count > 1 {
                items.push(b',');
            }
            match &self.projection {
                Some(projection) => projection.write(&mut items, view),
                None => write::item(&mut items, view),
            }
        }
        items.push(b']');
        let mut out = Object::new();
        if !self.count_only {
            out.member("Items").extend_from_slice(&items);
        }
        out.member("Count").extend_from_slice(count.to_string().as_bytes());
        out.member("ScannedCount").extend_from_slice(scanned.to_string().as_bytes());
        // At the limit DynamoDB does not look whether there is more.
        if let Some(last) = last.filter(|_| more || Some(scanned) == self.limit) {
            let key = table.key_attributes(last).ok_or_else(|| store::Error::Corrupt {
                table: "ddb_items",
                reason: "an item has no key".into(),
            })?;
            write::attributes(out.member("LastEvaluatedKey"), &key);
        }
        let units = capacity::read_units(size_bytes, self.consistent);
        capacity::member(&mut out, self.capacity, &table.record.name, units);
        Ok(out.finish())
    }
}
