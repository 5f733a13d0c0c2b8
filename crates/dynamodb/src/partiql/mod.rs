//! PartiQL, as far as DynamoDB has it: SELECT, INSERT, UPDATE and DELETE on one table.
//!
//! A statement is read straight into the conditions, updates and projections that expressions come to, with the
//! parameters in their places; from there on it is the same as any other read or write. Invariant: whatever the
//! text, reading it ends without a deep stack: a statement has at most 8,192 characters, and nests at most
//! [`MAX_NESTING`] deep.

mod lexer;
mod parser;

use crate::Error;
use crate::expr::{Columns, Comparator, Condition, Operand, Update};
use crate::value::{AttributeValue, Attributes, ValueView};
use crate::wire::SingleValue;

/// The longest statement.
pub(crate) const MAX_STATEMENT: usize = 8192;

/// How deep parentheses, NOT and values may nest.
const MAX_NESTING: usize = 40;

/// The most partitions that IN may name (Developer Guide, "Service, account, and table quotas").
const MAX_PARTITIONS: usize = 50;

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    Select(Select),
    Insert {
        table: String,
        item: Attributes,
    },
    Update {
        table: String,
        update: Update,
        conditions: Vec<Condition>,
        returning: Returning,
    },
    Delete {
        table: String,
        conditions: Vec<Condition>,
        returning: Returning,
    },
    /// `EXISTS(SELECT ...)`, for transactions.
    Exists(Select),
}

/// A SELECT.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Select {
    pub(crate) table: String,
    pub(crate) index: Option<String>,
    /// The columns by name; none is all of the item.
    pub(crate) columns: Columns,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
    /// Keys to order by, and whether descending.
    pub(crate) order: Vec<(String, bool)>,
}

/// What a write gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returning {
    Nothing,
    AllOld,
    ModifiedOld,
    AllNew,
    ModifiedNew,
}

impl Returning {
    /// The same in the words of `ReturnValues`, which policies ask about.
    pub(crate) fn return_values(self) -> &'static str {
        match self {
            Self::Nothing => "NONE",
            Self::AllOld => "ALL_OLD",
            Self::ModifiedOld => "UPDATED_OLD",
            Self::AllNew => "ALL_NEW",
            Self::ModifiedNew => "UPDATED_NEW",
        }
    }
}

impl Statement {
    /// Reads a statement with its parameters.
    pub(crate) fn parse(text: &str, parameters: &[SingleValue]) -> Result<Self, Error> {
        let parameters =
            parameters.iter().map(|value| value.valid().cloned()).collect::<Result<Vec<_>, _>>()?;
        parser::parse(text, parameters)
    }

    /// The table that it is about, as written.
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Select(select) | Self::Exists(select) => &select.table,
            Self::Insert { table, .. } | Self::Update { table, .. } | Self::Delete { table, .. } => table,
        }
    }

    /// Whether it only reads.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Select(_) => true,
            Self::Insert { .. } | Self::Update { .. } | Self::Delete { .. } | Self::Exists(_) => false,
        }
    }
}

/// The value that a condition says an attribute equals.
pub(crate) fn equality<'c>(condition: &'c Condition, name: &str) -> Option<&'c [u8]> {
    match condition {
        Condition::Compare(Comparator::Eq, Operand::Path(path), Operand::Literal(value))
        | Condition::Compare(Comparator::Eq, Operand::Literal(value), Operand::Path(path))
            if path.head == name && path.rest.is_empty() =>
        {
            Some(value)
        }
        _ => None,
    }
}

fn decode(value: &[u8]) -> Option<AttributeValue> {
    ValueView::of(value).decode()
}

/// The values that conditions let a partition key have, and which condition says so; `None` if any.
pub(crate) fn partitions(conditions: &[Condition], name: &str) -> Option<(usize, Vec<AttributeValue>)> {
    let values = |condition: &Condition| match condition {
        Condition::In(Operand::Path(path), candidates) if path.head == name && path.rest.is_empty() => {
            candidates
                .iter()
                .map(|candidate| match candidate {
                    Operand::Literal(value) => decode(value),
                    Operand::Path(_) | Operand::Size(_) => None,
                })
                .collect()
        }
        Condition::Or(parts) => {
            parts.iter().map(|part| equality(part, name).and_then(decode)).collect::<Option<Vec<_>>>()
        }
        other => equality(other, name).and_then(decode).map(|value| vec![value]),
    };
    conditions.iter().enumerate().find_map(|(at, condition)| Some((at, values(condition)?)))
}

/// The partitions must not be too many.
pub(crate) fn check_partitions(values: &[AttributeValue]) -> Result<(), Error> {
    if values.len() > MAX_PARTITIONS {
        return Err(Error::Validation(format!(
            "The IN operator is provided with too many operands; number of operands: {}; the maximum for partition keys is {MAX_PARTITIONS}",
            values.len()
        )));
    }
    Ok(())
}

/// The key that conditions name whole, and the conditions beside; `None` if they do not.
pub(crate) fn whole_key<'k>(
    conditions: &[Condition],
    keys: impl Iterator<Item = &'k str>,
) -> Option<(Attributes, Vec<Condition>)> {
    let mut rest: Vec<Condition> = conditions.to_vec();
    let mut key = Attributes::new();
    for name in keys {
        let at = rest.iter().position(|condition| equality(condition, name).is_some())?;
        let condition = rest.remove(at);
        key.insert(name.to_owned(), decode(equality(&condition, name)?)?);
    }
    Some((key, rest))
}

/// What is said of a statement that can not be read.
fn malformed(detail: impl std::fmt::Display) -> Error {
    Error::Validation(format!("Statement wasn't well formed, can't be processed: {detail}"))
}

#[cfg(test)]
mod tests;
