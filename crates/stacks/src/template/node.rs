//! A template as a tree in which every node knows its line and column. Intrinsic functions are in their long
//! form (`{"Fn::Sub": ..}`), whichever way they were written.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

/// A place in a template's text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Something wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; line 0 means the template as a whole (a parameter that was not given).
    pub at: At,
    /// What, and what to do about it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.at.line > 0 {
            write!(f, "line {}, column {}: ", self.at.line, self.at.column)?;
        }
        f.write_str(&self.message)
    }
}

/// Most problems that are reported at once: a template could have as many as it has words.
const MAX_PROBLEMS: usize = 1_000;

/// Collects problems, so that all of them are reported at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, at: At, message: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(Problem { at, message: message.into() });
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order of the text; `Ok` if there are none.
    pub fn finish(mut self) -> Result<(), Vec<Problem>> {
        self.0.sort();
        self.0.dedup();
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// Advice about a name that is not among `known`: the one that was probably meant, else all of them.
pub(crate) fn advice<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().map(|k| (distance(name, k), *k)).min();
    match near {
        Some((distance, near)) if distance <= (name.len() / 4).max(2) => format!("did you mean `{near}`?"),
        _ => format!("supported are {}", known.join(", ")),
    }
}

/// How many characters are to be added, removed or changed to get from one to the other, case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// Text.
    String(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; keys are unique.
    Map(IndexMap<String, Node>),
    /// What is known only when a resource has been made that is not there yet.
    Later,
}

/// What stands in a plan for a [`Value::Later`]: the text that CloudFormation shows in its place.
pub(crate) const LATER: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where: for the value of a mapping, where its key stands.
    pub at: At,
    /// For scalars read from text: the range of characters of the scalar, quotes included.
    pub span: Option<(usize, usize)>,
}

// What a template says does not depend on where it says it.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// What a value without text counts for in [`Node::weight`].
const NODE_WEIGHT: usize = 16;

impl Node {
    /// About how many bytes it holds: what is bounded where a short template could come to a lot.
    pub(crate) fn weight(&self) -> usize {
        NODE_WEIGHT
            + match &self.value {
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Later => 0,
                Value::String(text) => text.len(),
                Value::List(items) => items.iter().map(Self::weight).sum(),
                Value::Map(map) => map.iter().map(|(key, value)| key.len() + value.weight()).sum(),
            }
    }

    /// A value at a place.
    pub fn new(value: Value, at: At) -> Self {
        Self { value, at, span: None }
    }

    /// Text at a place.
    pub fn text(text: impl Into<String>, at: At) -> Self {
        Self::new(Value::String(text.into()), at)
    }

    /// A mapping at a place.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Node)>, at: At) -> Self {
        Self::new(Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect()), at)
    }

    /// A list at a place.
    pub fn list(items: Vec<Node>, at: At) -> Self {
        Self::new(Value::List(items), at)
    }

    /// A tree of JSON, all of it at one place: for what an expansion generates.
    pub fn from_json(json: &Json, at: At) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(|i| Self::from_json(i, at)).collect()),
            Json::Object(members) => {
                Value::Map(members.iter().map(|(k, v)| (k.clone(), Self::from_json(v, at))).collect())
            }
        };
        Self::new(value, at)
    }

    /// The same as JSON, as it is.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Later => Json::String(LATER.to_owned()),
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(map) => {
                Json::Object(map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar as text: what CloudFormation makes of numbers and booleans where text is wanted.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Later => None,
        }
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&IndexMap<String, Node>> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A member of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// The name and argument, if this is an intrinsic function (`Ref` or `Fn::..`).
    pub fn intrinsic(&self) -> Option<(&str, &Node)> {
        let map = self.as_map()?;
        let (name, argument) = map.first()?;
        (map.len() == 1 && (name == "Ref" || name.starts_with("Fn::"))).then_some((name.as_str(), argument))
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Later => "known only later",
        }
    }
}
