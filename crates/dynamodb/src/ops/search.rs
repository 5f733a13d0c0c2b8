//! What Query and Scan have in common: a page of a run of keys, filtered and projected.

use indexmap::IndexMap;
use store::{Entry, Key, Range, Read};

use super::capacity::{self, Consumed, Object, ReturnCapacity};
use super::{item_read, legacy};
use crate::Error;
use crate::expr::{Condition, Placeholders, Projection};
use crate::index::Index;
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::{Attempt, Table};
use crate::throttle::Side;
use crate::value::{Attributes, ItemView};
use crate::wire::{AttributeMap, Constraints, write};

/// Items of a page, filtered out or not, come to at most this.
const PAGE_BYTES: usize = 1 << 20;

/// Items fetched at a time for the entries of a local index.
const FETCH_BATCH: usize = 64;

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
    /// `QueryFilter` or `ScanFilter`, under that name.
    pub(crate) legacy_filter: (&'a str, Option<&'a legacy::Conditions>),
    pub(crate) conditional_operator: Option<&'a str>,
    pub(crate) attributes_to_get: Option<&'a Vec<String>>,
}

/// How a page is read and shown.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) index: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) start: Option<Attributes>,
    pub(crate) filter: Option<Condition>,
    pub(crate) projection: Option<Projection>,
    select: Select,
    consistent: bool,
    capacity: ReturnCapacity,
}

/// What of the items is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Select {
    All,
    /// What the index has.
    Projected,
    /// What the projection names.
    Specific,
    Count,
}

impl Select {
    fn word(self) -> &'static str {
        match self {
            Self::All => "ALL_ATTRIBUTES",
            Self::Projected => "ALL_PROJECTED_ATTRIBUTES",
            Self::Specific => "SPECIFIC_ATTRIBUTES",
            Self::Count => "COUNT",
        }
    }
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
        if let Some(index) = self.index {
            super::schema::index_name_constraints(Some(index), "indexName", &mut constraints);
        }
        let (name, filter) = self.legacy_filter;
        let at = if name == "QueryFilter" { "queryFilter" } else { "scanFilter" };
        legacy::conditions_constraints(filter, at, &mut constraints);
        legacy::operator_constraints(self.conditional_operator, &mut constraints);
        legacy::attributes_constraints(self.attributes_to_get, "attributesToGet", &mut constraints);
        constraints
    }

    /// Expressions and legacy parameters exclude each other; `more` are those of the operation itself.
    pub(crate) fn exclusive(
        &self,
        more_legacy: Option<(&str, bool)>,
        more_expressions: Option<(&str, bool)>,
    ) -> Result<(), Error> {
        let (name, filter) = self.legacy_filter;
        let mut legacy = vec![
            ("AttributesToGet", self.attributes_to_get.is_some()),
            (name, filter.is_some()),
            ("ConditionalOperator", self.conditional_operator.is_some()),
        ];
        legacy.extend(more_legacy);
        let mut expressions = vec![
            ("ProjectionExpression", self.projection.is_some()),
            ("FilterExpression", self.filter.is_some()),
        ];
        expressions.extend(more_expressions);
        legacy::exclusive(&legacy, &expressions)?;
        let any = expressions.iter().any(|(_, given)| *given);
        let takers: Vec<_> =
            expressions.into_iter().filter(|(name, _)| *name != "ProjectionExpression").collect();
        Placeholders::only_with_expressions((self.names.is_some(), self.values.is_some()), any, &takers)
    }

    /// Reads the legacy parameters: a filter and a projection.
    pub(crate) fn legacy(&self) -> Result<(Option<Condition>, Option<Projection>), Error> {
        let (name, filter) = self.legacy_filter;
        legacy::check_operator(self.conditional_operator, filter.is_some_and(|filter| !filter.is_empty()))?;
        let filtered = || filter.map(|filter| legacy::filter(filter, self.conditional_operator)).transpose();
        let projected = || self.attributes_to_get.map(|names| legacy::attributes_to_get(names)).transpose();
        // Query looks at the filter first, Scan at the projection.
        let (filter, attributes) = if name == "QueryFilter" {
            let filter = filtered()?;
            (filter, projected()?)
        } else {
            let attributes = projected()?;
            (filtered()?, attributes)
        };
        Ok((filter, attributes))
    }

    /// The starting key.
    pub(crate) fn start(&self) -> Result<Option<Attributes>, Error> {
        Ok(match self.start.map(|start| (start, start.fault())) {
            None => None,
            Some((_, Some((_, rule)))) => {
                // Some rules stand alone.
                let alone =
                    ["contains duplicates", "number set", "numeric value", "significant digits", "magnitude"];
                return Err(Error::Validation(if alone.iter().any(|part| rule.contains(part)) {
                    rule.to_owned()
                } else {
                    format!("The provided starting key is invalid: {rule}")
                }));
            }
            Some((start, None)) => Some(start.attributes.clone()),
        })
    }

    /// Reads the shared expressions; `placeholders` still has to be asked whether all were used.
    pub(crate) fn parse(
        &self,
        placeholders: &mut Placeholders<'_>,
        start: Option<Attributes>,
        legacy: (Option<Condition>, Option<Projection>),
    ) -> Result<Search, Error> {
        let filter =
            self.filter.map(|text| Condition::parse("FilterExpression", text, placeholders)).transpose()?;
        let projection = self.projection.map(|text| Projection::parse(text, placeholders)).transpose()?;
        let by_name = legacy.1.is_some();
        // Query says the same as Scan in more words.
        let more = if self.legacy_filter.0 == "QueryFilter" { "1 validation error detected: " } else { "" };
        let refused = |rule: String| Error::Validation(format!("{more}{rule}"));
        let (filter, projection) = (filter.or(legacy.0), projection.or(legacy.1));
        let select = match (self.select, &projection) {
            (Some("ALL_PROJECTED_ATTRIBUTES"), None) if self.index.is_none() => {
                return Err(refused(
                    "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName".into(),
                ));
            }
            (Some("SPECIFIC_ATTRIBUTES"), None) => {
                return Err(refused(
                    "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"
                        .into(),
                ));
            }
            (Some(word @ ("COUNT" | "ALL_ATTRIBUTES" | "ALL_PROJECTED_ATTRIBUTES")), Some(_)) => {
                let parameter = if by_name { "AttributesToGet" } else { "ProjectionExpression" };
                let what = if word == "COUNT" { "only the Count" } else { word };
                return Err(refused(format!("Cannot specify the {parameter} when choosing to get {what}")));
            }
            (Some("COUNT"), None) => Select::Count,
            (Some("ALL_ATTRIBUTES"), None) => Select::All,
            (_, Some(_)) => Select::Specific,
            (_, None) if self.index.is_some() => Select::Projected,
            (_, None) => Select::All,
        };
        Ok(Search {
            index: self.index.map(str::to_owned),
            limit: self.limit.and_then(|limit| usize::try_from(limit).ok()),
            start,
            filter,
            projection,
            consistent: self.consistent.unwrap_or(false),
            capacity: ReturnCapacity::of(self.capacity),
            select,
        })
    }
}

/// What a search of one page has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// JSON, without brackets.
    pub(crate) items: Vec<u8>,
    pub(crate) count: usize,
    pub(crate) scanned: usize,
    /// Where the search goes on.
    pub(crate) last: Option<Attributes>,
    pub(crate) cost: Consumed,
}

impl Search {
    /// The search that a SELECT asks for.
    pub(crate) fn select(
        select: &crate::partiql::Select,
        limit: Option<usize>,
        filter: Option<Condition>,
        consistent: bool,
        capacity: ReturnCapacity,
    ) -> Self {
        let projection = (!select.columns.is_empty()).then(|| Projection::columns(&select.columns));
        Self {
            index: select.index.clone(),
            limit,
            start: None,
            filter,
            select: match (&projection, &select.index) {
                (Some(_), _) => Select::Specific,
                (None, Some(_)) => Select::Projected,
                (None, None) => Select::All,
            },
            projection,
            consistent,
            capacity,
        }
    }

    /// The consumed capacity that it returns.
    pub(crate) fn capacity(&self) -> ReturnCapacity {
        self.capacity
    }

    /// What it asks for has to be there.
    pub(crate) fn check_place(&self, place: Place<'_>) -> Result<(), Error> {
        if self.consistent && place.index.is_some_and(Index::is_global) {
            return Err(Error::validation("Consistent reads are not supported on global secondary indexes"));
        }
        self.check_projected(place)?;
        self.check_nested(place)
    }

    /// The condition keys that it adds to an access: attributes named, and what is selected.
    pub(crate) fn describe(&self, access: aws::Access, mut names: Vec<String>) -> aws::Access {
        if let Some(filter) = &self.filter {
            filter.each_path(&mut |path| names.push(path.head.clone()));
        }
        names.extend(self.projection.iter().flat_map(|p| p.heads().map(str::to_owned)));
        names.sort_unstable();
        names.dedup();
        access.with("dynamodb:Attributes", names).with("dynamodb:Select", vec![self.select.word().into()])
    }

    /// The ARN that a search needs the right to: the table's, or the index's.
    pub(crate) fn arn(&self, scope: &Scope, table: &str) -> String {
        let table = scope.table_arn(table);
        self.index.as_ref().map_or(table.clone(), |index| format!("{table}/index/{index}"))
    }

    /// Where it looks; what it asks for has to be there.
    pub(crate) fn place<'t>(&self, table: &'t Table) -> Result<Place<'t>, Error> {
        let place = Place::find(table, self.index.as_deref())?;
        if self.consistent && place.index.is_some_and(Index::is_global) {
            return Err(Error::validation("Consistent reads are not supported on global secondary indexes"));
        }
        Ok(place)
    }

    /// A global index has only what it projects.
    pub(crate) fn check_projected(&self, place: Place<'_>) -> Result<(), Error> {
        let Some(index) = place.index.filter(|index| index.is_global()) else { return Ok(()) };
        let name = &index.record.name;
        if self.select == Select::All && !index.projects_all() {
            return Err(Error::invalid_parameter(format_args!(
                "Select type ALL_ATTRIBUTES is not supported for global secondary index {name} because its projection type is not ALL"
            )));
        }
        let heads = self.projection.iter().flat_map(|projection| projection.heads());
        let missing: Vec<_> = heads.filter(|head| !index.projects(head)).collect();
        if !missing.is_empty() {
            return Err(Error::invalid_parameter(format_args!(
                "Global secondary index {name} does not project [{}]",
                missing.join(", ")
            )));
        }
        Ok(())
    }

    /// What is projected and filtered by may not be part of a key attribute.
    pub(crate) fn check_nested(&self, place: Place<'_>) -> Result<(), Error> {
        if let Some(projection) = &self.projection {
            item_read::check_nested(place.table, projection.nested_heads())?;
        }
        let Some(filter) = &self.filter else { return Ok(()) };
        let mut nested = Vec::new();
        filter.each_path(&mut |path| {
            if !path.rest.is_empty() {
                nested.push(path.head.clone());
            }
        });
        item_read::check_nested(place.table, nested.iter().map(String::as_str))
    }

    /// Whether a local index lacks something that is asked for, so that the items have to be read, too.
    pub(crate) fn fetches(&self, place: Place<'_>) -> bool {
        let Some(index) = place.index.filter(|index| !index.is_global() && !index.projects_all()) else {
            return false;
        };
        let mut missing = self.select == Select::All;
        let heads = self.projection.iter().flat_map(|projection| projection.heads());
        missing |= heads.into_iter().any(|head| !index.projects(head));
        if let Some(filter) = &self.filter {
            filter.each_path(&mut |path| missing |= !index.projects(&path.head));
        }
        missing
    }

    /// Reads the page between two keys, and answers with it. The bounds are narrowed by the caller to begin
    /// after the starting key.
    pub(crate) async fn page(
        &self,
        node: &Node,
        place: Place<'_>,
        bounds: (Key, Key),
        reverse: bool,
    ) -> Result<Vec<u8>, Attempt> {
        let found = self.find(node, place, bounds, reverse).await?;
        let mut out = Object::with_capacity(found.items.len() + 512);
        if self.select != Select::Count {
            let items = out.member("Items");
            items.push(b'[');
            items.extend_from_slice(&found.items);
            items.push(b']');
        }
        out.member("Count").extend_from_slice(found.count.to_string().as_bytes());
        out.member("ScannedCount").extend_from_slice(found.scanned.to_string().as_bytes());
        if let Some(last) = &found.last {
            write::attributes(out.member("LastEvaluatedKey"), last);
        }
        capacity::member(&mut out, self.capacity, &place.table.record.name, &found.cost);
        Ok(out.finish())
    }

    /// Reads the page between two keys.
    pub(crate) async fn find(
        &self,
        node: &Node,
        place: Place<'_>,
        (start, end): (Key, Key),
        reverse: bool,
    ) -> Result<Found, Attempt> {
        node.admit_read(place)?;
        let mut reads = vec![place.table.read()];
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
        place.table.check(&pages[0])?;
        let page = if pages.len() > 1 { pages.swap_remove(1) } else { store::Page::default() };
        let mut answer = Answer::new(self, &page);
        if self.fetches(place) {
            for entries in page.entries.chunks(FETCH_BATCH) {
                let items = fetch(node, place, entries).await?;
                for (entry, item) in entries.iter().zip(&items) {
                    let item = item.as_ref().map(|item| ItemView::new(&item.value)).transpose();
                    let item = item.map_err(store::Error::from)?;
                    answer.take(entry, item)?;
                }
                if answer.full {
                    break;
                }
            }
        } else {
            page.entries.iter().try_for_each(|entry| answer.take(entry, None))?;
        }
        Ok(answer.finish(node, place)?)
    }
}

/// The items of entries, for what a local index does not project.
async fn fetch(node: &Node, place: Place<'_>, entries: &[Entry]) -> Result<Vec<Option<Entry>>, Attempt> {
    let table = place.table;
    let mut reads = vec![table.read()];
    for entry in entries {
        let view = ItemView::new(&entry.value).map_err(store::Error::from)?;
        let key = table.key_attributes(view).ok_or_else(no_key)?;
        reads.push(Read::Key(table.key_of_key(&key)?));
    }
    let mut pages = node.store.read(reads).await?.into_iter();
    table.check(&pages.next().unwrap_or_default())?;
    Ok(pages.map(|mut page| page.entries.pop()).collect())
}

fn no_key() -> Error {
    store::Error::Corrupt { table: "ddb_items", reason: "an item has no key".into() }.into()
}

/// A page, as it is put together.
struct Answer<'s, 'v> {
    search: &'s Search,
    items: Vec<u8>,
    scanned: usize,
    count: usize,
    size_bytes: usize,
    /// Read units of items that were fetched for entries.
    fetched_units: f64,
    fetched_bytes: usize,
    last: Option<ItemView<'v>>,
    more: bool,
    full: bool,
}

impl<'s, 'v> Answer<'s, 'v> {
    fn new(search: &'s Search, page: &store::Page) -> Self {
        // Of what is shown whole it is known about how long it will be, so that it is not moved as it grows.
        let whole = search.filter.is_none() && search.projection.is_none() && search.select != Select::Count;
        let stored: usize = page.entries.iter().map(|entry| entry.value.len()).sum();
        Self {
            search,
            items: Vec::with_capacity(if whole { stored + stored / 4 + page.entries.len() * 64 } else { 0 }),
            scanned: 0,
            count: 0,
            size_bytes: 0,
            fetched_units: 0.0,
            fetched_bytes: 0,
            last: None,
            more: page.more,
            full: false,
        }
    }

    /// Takes the next row of the page, and perhaps the item that belongs to it.
    fn take(&mut self, entry: &'v Entry, item: Option<ItemView<'_>>) -> Result<(), Error> {
        let row = ItemView::new(&entry.value).map_err(store::Error::from)?;
        let size_bytes = row.size_bytes() + item.map_or(0, ItemView::size_bytes);
        let total = self.size_bytes + self.fetched_bytes;
        self.full |= self.scanned > 0 && total + size_bytes > PAGE_BYTES;
        if self.full {
            self.more = true;
            return Ok(());
        }
        self.scanned += 1;
        self.size_bytes += row.size_bytes();
        if let Some(item) = item {
            self.fetched_bytes += item.size_bytes();
            self.fetched_units += capacity::read_units(item.size_bytes(), self.search.consistent);
        }
        self.last = Some(row);
        let shown = item.unwrap_or(row);
        if self.search.filter.as_ref().is_some_and(|filter| !filter.holds(shown)) {
            return Ok(());
        }
        self.count += 1;
        if self.search.select == Select::Count {
            return Ok(());
        }
        if self.count > 1 {
            self.items.push(b',');
        }
        match &self.search.projection {
            Some(projection) => projection.write(&mut self.items, shown),
            None => write::item(&mut self.items, if self.search.select == Select::All { shown } else { row }),
        }
        Ok(())
    }

    fn finish(self, node: &Node, place: Place<'_>) -> Result<Found, Error> {
        let search = self.search;
        // At the limit DynamoDB does not look whether there is more.
        let last = self.last.filter(|_| self.more || Some(self.scanned) == search.limit);
        let last = last.map(|last| place.cursor_attributes(last).ok_or_else(no_key)).transpose()?;
        let mut cost = Consumed::search(place, capacity::read_units(self.size_bytes, search.consistent));
        cost.table += self.fetched_units;
        node.charge(place.table, &cost, Side::Read);
        let Self { items, count, scanned, .. } = self;
        Ok(Found { items, count, scanned, last, cost })
    }
}
