//! Constraints on single parameters, reported together as Coral (the service framework of AWS) does.

use std::fmt::{Display, Write};

use crate::Error;

/// A list as messages show it: how many members it has, of which there may be more than anybody wants to read.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 0 { "'[]'".to_owned() } else { format!("'[{count} {what}]'") }
}

/// Collects broken constraints.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    broken: Vec<String>,
}

impl Constraints {
    // What is right costs no text: arguments are only formatted if they are shown.
    fn check(&mut self, holds: bool, value: impl Display, at: &str, constraint: impl Display) {
        // More than ten are not reported.
        if !holds && self.broken.len() < 10 {
            let message = format!("Value {value} at '{at}' failed to satisfy constraint: {constraint}");
            self.broken.push(message);
        }
    }

    /// The parameter must be there.
    pub(crate) fn required<T: ?Sized>(&mut self, value: Option<&T>, at: &str) -> &mut Self {
        self.check(value.is_some(), "null", at, "Member must not be null");
        self
    }

    /// The name of a table, or its ARN.
    pub(crate) fn table(&mut self, name: Option<&str>, at: &str) -> &mut Self {
        let Some(name) = name else { return self.required(None::<&()>, at) };
        self.text_len(name, at, 1, 1024);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b':' | b'/');
        self.check(
            !name.is_empty() && name.bytes().all(plain),
            format_args!("'{name}'"),
            at,
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.\\-:/]+",
        );
        self
    }

    /// Text of these characters only; `pattern` is how the message shows the rule.
    pub(crate) fn pattern(
        &mut self,
        text: &str,
        at: &str,
        pattern: &str,
        allowed: impl Fn(u8) -> bool,
    ) -> &mut Self {
        self.check(
            !text.is_empty() && text.bytes().all(allowed),
            format_args!("'{text}'"),
            at,
            format_args!("Member must satisfy regular expression pattern: {pattern}"),
        );
        self
    }

    /// Text within limits of length.
    pub(crate) fn text_len(&mut self, text: &str, at: &str, min: usize, max: usize) -> &mut Self {
        self.len(text.chars().count(), format_args!("'{text}'"), at, min, max)
    }

    /// A collection within limits of length; `shown` is how its value appears in the message.
    pub(crate) fn len(
        &mut self,
        len: usize,
        shown: impl Display,
        at: &str,
        min: usize,
        max: usize,
    ) -> &mut Self {
        self.check(
            len >= min,
            &shown,
            at,
            format_args!("Member must have length greater than or equal to {min}"),
        );
        self.check(
            len <= max,
            &shown,
            at,
            format_args!("Member must have length less than or equal to {max}"),
        );
        self
    }

    /// A number within limits.
    pub(crate) fn range(&mut self, value: Option<i64>, at: &str, min: i64, max: i64) -> &mut Self {
        if let Some(value) = value {
            self.check(
                value >= min,
                format_args!("'{value}'"),
                at,
                format_args!("Member must have value greater than or equal to {min}"),
            );
            self.check(
                value <= max,
                format_args!("'{value}'"),
                at,
                format_args!("Member must have value less than or equal to {max}"),
            );
        }
        self
    }

    /// One of a set of words.
    pub(crate) fn one_of(&mut self, value: Option<&str>, at: &str, words: &[&str]) -> &mut Self {
        if let Some(value) = value.filter(|value| !words.contains(value)) {
            let constraint = format!("Member must satisfy enum value set: [{}]", words.join(", "));
            self.check(false, format_args!("'{value}'"), at, constraint);
        }
        self
    }

    /// `ReturnConsumedCapacity`, which many operations have.
    pub(crate) fn return_consumed_capacity(&mut self, value: Option<&str>) -> &mut Self {
        self.one_of(value, "returnConsumedCapacity", &["INDEXES", "TOTAL", "NONE"])
    }

    /// Whether anything is broken so far.
    pub(crate) fn any(&self) -> bool {
        !self.broken.is_empty()
    }

    /// An error that names everything broken, if anything is.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.broken.is_empty() {
            return Ok(());
        }
        let count = self.broken.len();
        let mut message = format!("{count} validation error{} detected: ", if count > 1 { "s" } else { "" });
        let _ = write!(message, "{}", self.broken.join("; "));
        Err(Error::Validation(message))
    }
}
