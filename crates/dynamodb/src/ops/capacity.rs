//! What reads and writes cost (Developer Guide, "DynamoDB read and write operations", capacity unit consumption).
//!
//! A read unit is 4 KB read strongly consistent, half of one eventually consistent, two in a transaction; a
//! write unit is 1 KB, two in a transaction. Sizes are rounded up per item, for queries and scans per page.

use std::io::Write;

use crate::wire::write;

/// Whether and how consumed capacity is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnCapacity {
    None,
    Total,
    Indexes,
}

impl ReturnCapacity {
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

/// Appends a `ConsumedCapacity` structure.
pub(crate) fn consumed(out: &mut Vec<u8>, wanted: ReturnCapacity, table: &str, total: f64, split: Split) {
    out.extend_from_slice(b"{\"TableName\":");
    write::string(out, table.as_bytes());
    out.push(b',');
    units(out, total, split);
    if wanted == ReturnCapacity::Indexes {
        out.extend_from_slice(b",\"Table\":{");
        units(out, total, split);
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends the member `ConsumedCapacity` of an operation on one table, if it is wanted.
pub(crate) fn member(out: &mut Object, wanted: ReturnCapacity, table: &str, total: f64) {
    if wanted != ReturnCapacity::None {
        consumed(out.member("ConsumedCapacity"), wanted, table, total, Split::None);
    }
}

/// Appends the member `ConsumedCapacity` of an operation on several tables, if it is wanted.
pub(crate) fn members(out: &mut Object, wanted: ReturnCapacity, tables: &[(String, f64)], split: Split) {
    if wanted != ReturnCapacity::None {
        write::list(out.member("ConsumedCapacity"), *b"[]", tables.iter(), |out, (table, total)| {
            consumed(out, wanted, table, *total, split);
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
