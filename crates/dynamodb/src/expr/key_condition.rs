//! Key conditions: which partition, and which run of sort keys within it.

use super::Placeholders;
use super::condition::{Condition, Operand};
use super::path::Path;
use super::syntax::Comparator;
use crate::Error;
use crate::value::{AttributeValue, ValueView};

/// What is asked of one key attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeyTest {
    Compare(Comparator, AttributeValue),
    Between(AttributeValue, AttributeValue),
    BeginsWith(AttributeValue),
    /// An operator of `KeyConditions` that no run of keys answers.
    Unindexable,
}

/// The tests of a key condition, by attribute, at most one for each.
pub(crate) type KeyTests = Vec<(String, KeyTest)>;

/// Reads a key condition.
pub(crate) fn read(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Condition, Error> {
    Condition::parse("KeyConditionExpression", text, placeholders)
}

/// What a key condition asks of which attribute.
pub(crate) fn tests(condition: Condition) -> Result<KeyTests, Error> {
    let mut tests = KeyTests::new();
    collect(condition, &mut tests)?;
    Ok(tests)
}

fn collect(condition: Condition, tests: &mut KeyTests) -> Result<(), Error> {
    let operator = |name: &str| {
        Err(Error::Validation(format!("Invalid operator used in KeyConditionExpression: {name}")))
    };
    let (name, test) = match condition {
        Condition::And(parts) => return parts.into_iter().try_for_each(|part| collect(part, tests)),
        Condition::Or(_) => return operator("OR"),
        Condition::Not(_) => return operator("NOT"),
        Condition::In(..) => return operator("IN"),
        Condition::Exists(_) => return operator("attribute_exists"),
        Condition::NotExists(_) => return operator("attribute_not_exists"),
        Condition::Type(..) => return operator("attribute_type"),
        Condition::Contains(..) => return operator("contains"),
        Condition::Compare(Comparator::Ne, ..) => return operator("<>"),
        Condition::Compare(comparator, left, right) => {
            let mirrored = matches!((&left, &right), (Operand::Literal(_), Operand::Path(_)));
            let comparator = if mirrored { comparator.mirrored() } else { comparator };
            let (name, [value]) = split([left, right])?;
            (name, KeyTest::Compare(comparator, value))
        }
        Condition::Between(value, low, high) => {
            first_is_path("BETWEEN", &value)?;
            let (name, [low, high]) = split([value, low, high])?;
            (name, KeyTest::Between(low, high))
        }
        Condition::BeginsWith(value, prefix) => {
            first_is_path("begins_with", &value)?;
            let (name, [prefix]) = split([value, prefix])?;
            (name, KeyTest::BeginsWith(prefix))
        }
    };
    if tests.iter().any(|(other, _)| *other == name) {
        return Err(Error::validation("KeyConditionExpressions must only contain one condition per key"));
    }
    tests.push((name, test));
    Ok(())
}

fn first_is_path(name: &str, operand: &Operand) -> Result<(), Error> {
    match operand {
        Operand::Path(_) => Ok(()),
        Operand::Literal(_) | Operand::Size(_) => Err(Error::Validation(format!(
            "Invalid condition in KeyConditionExpression: {name} operator must have the key attribute as its first operand"
        ))),
    }
}

/// The one attribute among the operands, and the values.
fn split<const OPERANDS: usize, const VALUES: usize>(
    operands: [Operand; OPERANDS],
) -> Result<(String, [AttributeValue; VALUES]), Error> {
    let mut name = None;
    let mut values = Vec::with_capacity(VALUES);
    for operand in operands {
        match operand {
            Operand::Size(_) => {
                return Err(Error::validation("KeyConditionExpressions cannot contain nested operations"));
            }
            Operand::Literal(encoded) => values.extend(ValueView::of(&encoded).decode()),
            Operand::Path(_) if name.is_some() => {
                return Err(Error::validation(
                    "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition",
                ));
            }
            Operand::Path(Path { rest, .. }) if !rest.is_empty() => {
                return Err(Error::validation(
                    "KeyConditionExpressions cannot have conditions on nested attributes",
                ));
            }
            Operand::Path(path) => name = Some(path.head),
        }
    }
    match (name, values.try_into()) {
        (Some(name), Ok(values)) => Ok((name, values)),
        _ => {
            Err(Error::validation("Invalid condition in KeyConditionExpression: No key attribute specified"))
        }
    }
}
