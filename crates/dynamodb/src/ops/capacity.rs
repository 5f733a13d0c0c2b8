//! What reads and writes cost (Developer Guide, "DynamoDB read and write operations", capacity unit consumption).
//!
//! A read unit is 4 KB read strongly consistent, half of one eventually consistent, two in a transaction; a
//! write unit is 1 KB, two in a transaction. Sizes are rounded up per item, for queries and scans per page.

use std::io::Write;

use crate::index::Index;
use crate::place::Place;
use crate::tables::IndexScope;
use crate::wire::write;

/// Whether and how consumed capacity is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnCapacity {
    None,
    Total,
    Indexes,
}

impl ReturnCapacity {
    /// As it is asked for.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Total => "TOTAL",
            Self::Indexes => "INDEXES",
        }
    }

    /// The word, which has been checked; none means none.
    pub(crate) fn of(word: Option<&str>) -> Self {
        match word {
            Some("TOTAL") => Self::Total,
            Some("INDEXES") => Self::Indexes,
            _ => Self::None,
        }
    }
}

/// What a transaction adds to the answer: whether it read or wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    None,
    Read,
    Write,
}

/// Read units for so many bytes.
pub(crate) fn read_units(size_bytes: usize, consistent: bool) -> f64 {
    let units = size_bytes.div_ceil(4096).max(1) as f64;
    if consistent { units } else { units / 2.0 }
}

/// Write units for an item that had and now has these sizes: the larger counts.
pub(crate) fn write_units(old_bytes: usize, new_bytes: usize) -> f64 {
    old_bytes.max(new_bytes).div_ceil(1024).max(1) as f64
}

fn number(out: &mut Vec<u8>, units: f64) {
    // Units are halves of whole numbers, which print exactly.
    write!(out, "{units:.1}").expect("memory does not fail");
}

fn units(out: &mut Vec<u8>, units: f64, split: Split) {
    out.extend_from_slice(b"\"CapacityUnits\":");
    number(out, units);
    match split {
        Split::None => return,
        Split::Read => out.extend_from_slice(b",\"ReadCapacityUnits\":"),
        Split::Write => out.extend_from_slice(b",\"WriteCapacityUnits\":"),
    }
    number(out, units);
}

/// What one index of a table cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IndexUnits {
    pub(crate) name: String,
    pub(crate) scope: IndexScope,
    pub(crate) units: f64,
}

/// What a table and its indexes cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Consumed {
    pub(crate) table: f64,
    pub(crate) indexes: Vec<IndexUnits>,
}

impl From<f64> for Consumed {
    fn from(table: f64) -> Self {
        Self { table, indexes: Vec::new() }
    }
}

impl Consumed {
    /// Of a search of the table or one of its indexes.
    pub(crate) fn search(place: Place<'_>, units: f64) -> Self {
        match place.index {
            None => units.into(),
            Some(index) => Self { table: 0.0, indexes: vec![IndexUnits::of(index, units)] },
        }
    }

    /// Table and indexes together.
    pub(crate) fn total(&self) -> f64 {
        self.table + self.indexes.iter().map(|index| index.units).sum::<f64>()
    }

    /// Adds what something else cost, so many times.
    pub(crate) fn add(&mut self, other: &Self, times: f64) {
        self.table += other.table * times;
        for index in &other.indexes {
            match self.indexes.iter_mut().find(|known| known.name == index.name) {
                Some(known) => known.units += index.units * times,
                None => self.indexes.push(IndexUnits { units: index.units * times, ..index.clone() }),
            }
        }
    }
}

impl IndexUnits {
    pub(crate) fn of(index: &Index, units: f64) -> Self {
        Self { name: index.record.name.clone(), scope: index.record.scope, units }
    }
}

/// Appends a `ConsumedCapacity` structure.
fn consumed(out: &mut Vec<u8>, wanted: ReturnCapacity, table: &str, cost: &Consumed, split: Split) {
    out.extend_from_slice(b"{\"TableName\":");
    write::string(out, table.as_bytes());
    out.push(b',');
    units(out, cost.total(), split);
    if wanted == ReturnCapacity::Indexes {
        out.extend_from_slice(b",\"Table\":{");
        units(out, cost.table, split);
        out.push(b'}');
        for (scope, member) in
            [(IndexScope::Local, "LocalSecondaryIndexes"), (IndexScope::Global, "GlobalSecondaryIndexes")]
        {
            let mut own = cost.indexes.iter().filter(|index| index.scope == scope).peekable();
            if own.peek().is_some() {
                out.push(b',');
                write::key(out, member);
                write::list(out, *b"{}", own, |out, index| {
                    write::key(out, &index.name);
                    out.push(b'{');
                    units(out, index.units, split);
                    out.push(b'}');
                });
            }
        }
    }
    out.push(b'}');
}

/// Appends the member `ConsumedCapacity` of an operation on one table, if it is wanted.
pub(crate) fn member(out: &mut Object, wanted: ReturnCapacity, table: &str, cost: &Consumed) {
    if wanted != ReturnCapacity::None {
        consumed(out.member("ConsumedCapacity"), wanted, table, cost, Split::None);
    }
}

/// Appends the member `ConsumedCapacity` of an operation on several tables, if it is wanted.
pub(crate) fn members<'c>(
    out: &mut Object,
    wanted: ReturnCapacity,
    tables: impl IntoIterator<Item = (&'c String, &'c Consumed)>,
    split: Split,
) {
    if wanted != ReturnCapacity::None {
        write::list(out.member("ConsumedCapacity"), *b"[]", tables.into_iter(), |out, (table, cost)| {
            consumed(out, wanted, table, cost, split);
        });
    }
}

/// A JSON object that is being written.
#[derive(Debug)]
pub(crate) struct Object {
    out: Vec<u8>,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { out: vec![b'{'] }
    }

    /// With room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self { out }
    }

    /// Begins a member; its value is appended to what this returns.
    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        write::key(&mut self.out, name);
        &mut self.out
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}
