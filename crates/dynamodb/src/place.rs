//! Where Query and Scan look: a table, or one of its indexes, as runs of keys.

use store::Key;
use store::key::{KeyWriter, after, prefix_end};

use crate::Error;
use crate::expr::Comparator;
use crate::expr::key_condition::KeyTest;
use crate::index::Index;
use crate::table::{Table, delimited, sort_key_bytes};
use crate::tables::{IndexState, KeyAttribute, items_prefix};
use crate::value::{AttributeValue, Attributes, ItemView, encode_item, size_bytes};

/// A table or an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'t> {
    pub(crate) table: &'t Table,
    pub(crate) index: Option<&'t Index>,
}

/// What is asked of a sort key attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SortTest<'q> {
    pub(crate) key: &'q KeyAttribute,
    pub(crate) test: &'q KeyTest,
}

impl<'t> Place<'t> {
    /// The table, or its index of that name.
    pub(crate) fn find(table: &'t Table, index: Option<&str>) -> Result<Self, Error> {
        let Some(name) = index else { return Ok(Self { table, index: None }) };
        let index = table.indexes.iter().find(|index| index.record.name == name).ok_or_else(|| {
            Error::Validation(format!("The table does not have the specified index: {name}"))
        })?;
        if index.record.state == IndexState::Creating {
            return Err(Error::Validation(format!(
                "Cannot read from backfilling global secondary index: {name}"
            )));
        }
        Ok(Self { table, index: Some(index) })
    }

    /// The table itself.
    pub(crate) fn table(table: &'t Table) -> Self {
        Self { table, index: None }
    }

    /// The attributes of its partition key.
    pub(crate) fn partition(self) -> &'t [KeyAttribute] {
        self.index.map_or(std::slice::from_ref(&self.table.record.partition), |index| &index.record.partition)
    }

    /// The attribute that alone is its partition key; none if there are several.
    pub(crate) fn sole_partition(self) -> Option<&'t KeyAttribute> {
        let [key] = self.partition() else { return None };
        Some(key)
    }

    /// The attributes of its sort key.
    pub(crate) fn sort(self) -> &'t [KeyAttribute] {
        self.index.map_or(self.table.record.sort.as_slice(), |index| &index.record.sort)
    }

    /// Its key attributes.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'t KeyAttribute> {
        self.partition().iter().chain(self.sort())
    }

    fn prefix(self) -> KeyWriter {
        match self.index {
            None => items_prefix(self.table.account, self.table.record.id),
            Some(index) => index.prefix(),
        }
    }

    /// The beginning of the keys of a partition, from a value for each attribute of its key.
    pub(crate) fn partition_prefix(self, values: &[&AttributeValue]) -> Key {
        match (self.index, values) {
            (None, [value]) => self.table.partition_prefix(value).finish(),
            (None, _) => unreachable!("a table has one partition key attribute"),
            (Some(index), values) => {
                let values: Vec<_> = values.iter().map(|value| sort_key_bytes(value)).collect();
                index.partition_prefix(&values).finish()
            }
        }
    }

    /// The keys that begin with `prefix` and have that value next, of a sort key attribute.
    pub(crate) fn narrowed(self, prefix: &Key, key: &KeyAttribute, value: &AttributeValue) -> Key {
        match self.index {
            None => Key::from([prefix, &sort_key_bytes(value)[..]].concat()),
            // In an index more follows, so that it is delimited there.
            Some(index) => {
                let mut element = index.prefix();
                let skip = element.clone().finish().len();
                delimited(&mut element, key.kind, &sort_key_bytes(value));
                Key::from([prefix, &element.finish()[skip..]].concat())
            }
        }
    }

    /// The keys of segment `segment` of `total`: from the first, to the last excluded.
    pub(crate) fn segment(self, segment: u64, total: u64) -> (Key, Key) {
        let bound = |segment: u64| {
            let mut writer = self.prefix();
            match u16::try_from((segment << 16).div_ceil(total)) {
                Ok(hash) => {
                    writer.raw(&hash.to_be_bytes());
                    writer.finish()
                }
                Err(_) => prefix_end(&writer.finish()),
            }
        };
        (bound(segment), bound(segment + 1))
    }

    /// The run of keys that begin with `prefix` and whose next sort key attribute passes the test.
    pub(crate) fn run(self, prefix: &Key, test: Option<SortTest<'_>>) -> (Key, Key) {
        let Some(SortTest { key, test }) = test else {
            return (prefix.clone(), prefix_end(prefix));
        };
        let with = |value: &AttributeValue| self.narrowed(prefix, key, value);
        let past = |value: &AttributeValue| match self.index {
            None => after(&with(value)),
            Some(_) => prefix_end(&with(value)),
        };
        let (all_start, all_end) = (prefix.clone(), prefix_end(prefix));
        match test {
            KeyTest::Compare(comparator, value) => match comparator {
                Comparator::Eq => (with(value), past(value)),
                Comparator::Lt => (all_start, with(value)),
                Comparator::Le => (all_start, past(value)),
                Comparator::Gt => (past(value), all_end),
                Comparator::Ge => (with(value), all_end),
                Comparator::Ne => unreachable!("key conditions refuse it"),
            },
            KeyTest::Unindexable => unreachable!("a query refuses it"),
            KeyTest::Between(low, high) => (with(low), past(high)),
            KeyTest::BeginsWith(value) => {
                let key = with(value);
                // Without the two bytes that end an element.
                let stem = if self.index.is_some() { key.slice(..key.len() - 2) } else { key };
                (stem.clone(), prefix_end(&stem))
            }
        }
    }

    /// The attributes of a starting key: the keys of the table, and of the index.
    pub(crate) fn cursor_names(self) -> Vec<&'t String> {
        let index = self.index.into_iter().flat_map(|index| index.record.keys());
        let mut names: Vec<_> = self.table.keys().chain(index).map(|key| &key.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the sort key of a starting key passes the test.
    pub(crate) fn passes(self, start: &Attributes, test: SortTest<'_>) -> bool {
        let Some(value) = start.get(&test.key.name) else { return true };
        // As if its partition were any: only the order of sort keys matters.
        let prefix = Key::new();
        let (low, high) = self.run(&prefix, Some(test));
        let at = self.narrowed(&prefix, test.key, value);
        low <= at && (at < high || unbounded(test.test))
    }

    /// The key at which a starting key stands. Errors say what of it is wrong, or nothing for an index whose
    /// keys are not all there.
    pub(crate) fn cursor(self, start: &Attributes) -> Result<Key, Error> {
        let Some(index) = self.index else { return self.table.key_of_key(start) };
        let invalid = || Error::validation("The provided starting key is invalid");
        if start.len() != self.cursor_names().len() {
            return Err(invalid());
        }
        let mismatch = || Error::validation("The provided key element does not match the schema");
        for key in index.record.keys() {
            if start.get(&key.name).ok_or_else(invalid)?.kind() != key.kind.kind() {
                return Err(mismatch());
            }
        }
        index.check(start, |_| true)?;
        let own = |key: &KeyAttribute| Some((key.name.clone(), start.get(&key.name)?.clone()));
        let own = self.table.keys().filter_map(own).collect();
        let item_key = self.table.key_of_key(&own).map_err(|error| match error {
            Error::Validation(rule) => {
                Error::Validation(format!("The provided starting key is invalid: {rule}"))
            }
            other => other,
        })?;
        let encoded = encode_item(start, size_bytes(start));
        let item = ItemView::new(&encoded).map_err(store::Error::from)?;
        index.entry_key(&item_key, item).ok_or_else(mismatch)
    }

    /// The starting key that goes on after an item: the keys of the table, and of the index.
    pub(crate) fn cursor_attributes(self, item: ItemView<'_>) -> Option<Attributes> {
        let index = self.index.into_iter().flat_map(|index| index.record.keys());
        self.table
            .keys()
            .chain(index)
            .map(|key| Some((key.name.clone(), item.get(&key.name)?.decode()?)))
            .collect()
    }
}

/// Whether a test has no upper end.
fn unbounded(test: &KeyTest) -> bool {
    matches!(test, KeyTest::Compare(Comparator::Gt | Comparator::Ge, _))
}
