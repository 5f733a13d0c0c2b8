//! Document paths: `a.#b[3]`.

use std::fmt;

use super::lexer::{Token, Tokens};
use super::reserved::is_reserved;
use super::{Faults, Placeholders};
use crate::Error;
use crate::value::{AttributeValue, Attributes, ItemView, MAX_DEPTH, Sequence, ValueView};

/// One step below an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Into a map.
    Field(String),
    /// Into a list.
    Index(u32),
}

/// A resolved path: an attribute, and what is below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) head: String,
    pub(crate) rest: Vec<Step>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}", self.head)?;
        for step in &self.rest {
            match step {
                Step::Field(name) => write!(f, ", {name}")?,
                Step::Index(index) => write!(f, ", [{index}]")?,
            }
        }
        f.write_str("]")
    }
}

impl Path {
    /// What it leads to in a stored item.
    pub(crate) fn find<'v>(&self, item: ItemView<'v>) -> Option<ValueView<'v>> {
        let mut value = item.get(&self.head)?;
        for step in &self.rest {
            value = match (step, value.sequence()?) {
                (Step::Field(name), Sequence::Named(named)) => named.find(name)?,
                (Step::Index(index), Sequence::Elements(mut elements)) => {
                    elements.nth(usize::try_from(*index).ok()?)?
                }
                _ => return None,
            };
        }
        Some(value)
    }

    /// What it leads to in a rebuilt item.
    pub(crate) fn find_in<'v>(&self, item: &'v Attributes) -> Option<&'v AttributeValue> {
        let mut value = item.get(&self.head)?;
        for step in &self.rest {
            value = match (step, value) {
                (Step::Field(name), AttributeValue::M(map)) => map.get(name)?,
                (Step::Index(index), AttributeValue::L(list)) => list.get(usize::try_from(*index).ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

/// Paths of one expression must neither contain each other nor treat one place as both list and map.
pub(crate) fn check_overlap(paths: &[&Path], ranks: (u8, u8), faults: &mut Faults) {
    // Sorted, a path that contains others stands right before them, so neighbours say it all for overlaps;
    // a list and a map in one place end up neighbours too, fields before indices.
    let mut sorted: Vec<_> = paths.iter().enumerate().collect();
    sorted.sort_by(|a, b| a.1.cmp(b.1));
    for pair in sorted.windows(2) {
        // Messages name them in the order of the expression.
        let (one, two) = if pair[0].0 < pair[1].0 { (pair[0].1, pair[1].1) } else { (pair[1].1, pair[0].1) };
        if one.head != two.head {
            continue;
        }
        let differ = one.rest.iter().zip(&two.rest).find(|(a, b)| a != b);
        let message = |what: &str| {
            format!(
                "Two document paths {what} with each other; must remove or rewrite one of these paths; path one: {one}, path two: {two}"
            )
        };
        match differ {
            None => faults.note(ranks.0, || message("overlap")),
            Some((Step::Field(_), Step::Index(_)) | (Step::Index(_), Step::Field(_))) => {
                faults.note(ranks.1, || message("conflict"));
            }
            Some(_) => {}
        }
    }
}

/// A path as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawPath<'a> {
    steps: Vec<RawStep<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
enum RawStep<'a> {
    Word(&'a str),
    Name(&'a str),
    Index(u32),
}

impl<'a> RawPath<'a> {
    /// Reads a path; the next token begins it.
    pub(crate) fn parse(tokens: &mut Tokens<'a>) -> Result<Self, Error> {
        let mut steps = vec![Self::name(tokens)?];
        loop {
            if tokens.eat(".") {
                steps.push(Self::name(tokens)?);
            } else if tokens.eat("[") {
                let Token::Digits(digits) = tokens.peek() else { return Err(tokens.unexpected()) };
                let index = digits.parse().map_err(|_| {
                    Error::Validation(format!(
                        "List index is not within the allowable range; index: [{digits}]"
                    ))
                })?;
                tokens.next();
                tokens.expect("]")?;
                steps.push(RawStep::Index(index));
            } else {
                break;
            }
        }
        if steps.len() > MAX_DEPTH {
            return Err(Error::Validation(format!(
                "The document path has too many nesting levels; nesting levels: {}",
                steps.len()
            )));
        }
        Ok(Self { steps })
    }

    fn name(tokens: &mut Tokens<'a>) -> Result<RawStep<'a>, Error> {
        let step = match tokens.peek() {
            Token::Word(word) => RawStep::Word(word),
            Token::Name(name) => RawStep::Name(name),
            _ => return Err(tokens.unexpected()),
        };
        tokens.next();
        Ok(step)
    }

    /// Replaces placeholders; faults are reserved words and undefined names, of these ranks.
    pub(crate) fn resolve(
        &self,
        placeholders: &mut Placeholders<'_>,
        ranks: (u8, u8),
        faults: &mut Faults,
    ) -> Path {
        let mut name = |text: &str, placeholder: bool| {
            if !placeholder {
                if is_reserved(text) {
                    faults.note(ranks.0, || {
                        format!("Attribute name is a reserved keyword; reserved keyword: {text}")
                    });
                }
                return text.to_owned();
            }
            placeholders.name(text).map(str::to_owned).unwrap_or_else(|| {
                faults.note(ranks.1, || {
                    format!("An expression attribute name used in the document path is not defined; attribute name: {text}")
                });
                text.to_owned()
            })
        };
        let mut head = String::new();
        let mut rest = Vec::with_capacity(self.steps.len() - 1);
        for (at, step) in self.steps.iter().enumerate() {
            let step = match *step {
                RawStep::Word(word) => Step::Field(name(word, false)),
                RawStep::Name(placeholder) => Step::Field(name(placeholder, true)),
                RawStep::Index(index) => Step::Index(index),
            };
            match (at, step) {
                (0, Step::Field(name)) => head = name,
                (_, step) => rest.push(step),
            }
        }
        Path { head, rest }
    }
}
