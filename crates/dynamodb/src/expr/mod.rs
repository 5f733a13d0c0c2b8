//! Expressions: condition, filter, projection, key condition and update.
//!
//! A lexer, a recursive-descent parser for each grammar, and a second step that resolves placeholders and
//! checks operands. Errors of syntax come first, then those of the second step in DynamoDB's order.
//! Invariant: whatever the text, parsing ends without a deep stack: expressions have at most 4,096 bytes,
//! 300 operators, and nest at most [`MAX_NESTING`] deep.

pub(crate) mod condition;
pub(crate) mod evaluate;
pub(crate) mod key_condition;
mod lexer;
mod path;
pub(crate) mod projection;
mod reserved;
mod syntax;
pub(crate) mod update;

use std::collections::HashSet;

use indexmap::IndexMap;

use crate::Error;
use crate::value::AttributeValue;
use crate::wire::{AttributeMap, valid_name};

pub(crate) use condition::{Condition, Operand};
pub(crate) use path::{Path, Step};
pub(crate) use projection::{Columns, Projection};
pub(crate) use syntax::Comparator;
pub(crate) use update::Update;

/// The most operators and functions in one expression (Developer Guide, "Service, account, and table quotas").
const MAX_OPERATORS: usize = 300;

/// How deep parentheses, NOT and function calls may nest: as deep as conditions joined by AND or OR can within the limit
/// of operators.
const MAX_NESTING: usize = MAX_OPERATORS / 2;

/// There must not be too many operators and functions.
fn check_operators(count: usize) -> Result<(), Error> {
    if count <= MAX_OPERATORS {
        return Ok(());
    }
    Err(Error::Validation(format!("The expression contains too many operators; operator count: {count}")))
}

/// A function that has its place in other expressions.
fn misused(function: &str) -> String {
    format!("The function is not allowed to be used this way in an expression; function: {function}")
}

/// `ExpressionAttributeNames` and `ExpressionAttributeValues`, and which of them have been used.
#[derive(Debug)]
pub(crate) struct Placeholders<'a> {
    names: Option<&'a IndexMap<String, String>>,
    values: Option<&'a AttributeMap>,
    used: HashSet<String>,
}

impl<'a> Placeholders<'a> {
    /// Checks the maps themselves.
    pub(crate) fn new(
        names: Option<&'a IndexMap<String, String>>,
        values: Option<&'a AttributeMap>,
    ) -> Result<Self, Error> {
        let well_formed = |key: &str, sigil: char| {
            key.strip_prefix(sigil).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            })
        };
        let syntax = |map: &str, key: &str| {
            Error::Validation(format!("{map} contains invalid key: Syntax error; key: \"{key}\""))
        };
        if let Some(names) = names {
            if names.is_empty() {
                return Err(Error::validation("ExpressionAttributeNames must not be empty"));
            }
            if let Some(key) = names.keys().find(|key| !well_formed(key, '#')) {
                return Err(syntax("ExpressionAttributeNames", key));
            }
            for (key, name) in names {
                if let Err(rule) = valid_name(name) {
                    return Err(Error::Validation(format!(
                        "ExpressionAttributeNames contains invalid value: {rule} for key {key}"
                    )));
                }
            }
        }
        if let Some(values) = values {
            if values.attributes.is_empty() {
                return Err(Error::validation("ExpressionAttributeValues must not be empty"));
            }
            if let Some(key) = values.attributes.keys().find(|key| !well_formed(key, ':')) {
                return Err(syntax("ExpressionAttributeValues", key));
            }
            if let Some((key, rule)) = values.fault() {
                // That a set is empty is told without the key.
                return Err(Error::Validation(if rule.ends_with("set  may not be empty") {
                    rule.to_owned()
                } else {
                    format!("ExpressionAttributeValues contains invalid value: {rule} for key {key}")
                }));
            }
        }
        Ok(Self { names, values, used: HashSet::new() })
    }

    /// Without expressions there may be neither; `value_expressions` are those that can hold values.
    pub(crate) fn only_with_expressions(
        (names, values): (bool, bool),
        any_expression: bool,
        value_expressions: &[(&str, bool)],
    ) -> Result<(), Error> {
        if names && !any_expression {
            return Err(Error::validation(
                "ExpressionAttributeNames can only be specified when using expressions",
            ));
        }
        if values && !value_expressions.iter().any(|(_, given)| *given) {
            let names: Vec<_> = value_expressions.iter().map(|(name, _)| *name).collect();
            return Err(Error::Validation(format!(
                "ExpressionAttributeValues can only be specified when using expressions: {} {} null",
                names.join(" and "),
                if names.len() > 1 { "are" } else { "is" }
            )));
        }
        Ok(())
    }

    fn name(&mut self, placeholder: &str) -> Option<&'a str> {
        let name = self.names?.get(placeholder)?;
        self.used.insert(placeholder.to_owned());
        Some(name)
    }

    fn value(&mut self, placeholder: &str) -> Option<&'a AttributeValue> {
        let value = self.values?.attributes.get(placeholder)?;
        self.used.insert(placeholder.to_owned());
        Some(value)
    }

    /// Every name and value must have been used by an expression.
    pub(crate) fn all_used(&self) -> Result<(), Error> {
        let unused = |map: &str, keys: Vec<&str>| match keys.as_slice() {
            [] => Ok(()),
            keys => Err(Error::Validation(format!(
                "Value provided in {map} unused in expressions: keys: {{{}}}",
                keys.join(", ")
            ))),
        };
        let left = |key: &&str| !self.used.contains(*key);
        let names = self.names.into_iter().flatten().map(|(key, _)| key.as_str());
        unused("ExpressionAttributeNames", names.filter(left).collect())?;
        let values = self.values.into_iter().flat_map(|map| map.attributes.keys()).map(String::as_str);
        unused("ExpressionAttributeValues", values.filter(left).collect())
    }
}

/// Puts the parameter's name in front of an error about its expression.
pub(crate) fn named<T>(parameter: &str, result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|error| match error {
        Error::Validation(message) => Error::Validation(format!("Invalid {parameter}: {message}")),
        other => other,
    })
}

/// Errors of the second step, of which the most important is reported: lowest rank, then first found.
#[derive(Debug, Default)]
struct Faults {
    worst: Option<(u8, String)>,
}

impl Faults {
    fn note(&mut self, rank: u8, message: impl FnOnce() -> String) {
        if self.worst.as_ref().is_none_or(|(worst, _)| rank < *worst) {
            self.worst = Some((rank, message()));
        }
    }

    fn finish(self) -> Result<(), Error> {
        self.worst.map_or(Ok(()), |(_, message)| Err(Error::Validation(message)))
    }
}

#[cfg(test)]
mod tests;
