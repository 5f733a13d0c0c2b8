//! What properties a resource type has, and the conversion of evaluated values to them.
//!
//! Invariant: a property that is not listed is refused, never ignored.

use serde_json::{Map, Value as Json};

use crate::template::{LATER, Node, Problems, Value, advice};

/// What a change of a property does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// The resource is changed.
    InPlace,
    /// Another resource takes its place.
    Replace,
}

/// A property's shape.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Text; numbers and booleans become text.
    Text,
    /// A whole number, or text that is one.
    Integer,
    /// A number, or text that is one.
    Number,
    /// A boolean, or text that is one.
    Boolean,
    /// Any JSON object (a policy document).
    Document,
    /// A mapping of any names to text.
    TextMap,
    /// A list.
    List(&'static Shape),
    /// A mapping of these.
    Object(&'static [Property]),
}

/// A property.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) update: Update,
}

impl Property {
    /// An optional property that can be changed.
    pub(crate) const fn new(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, required: false, update: Update::InPlace }
    }

    /// The same, needed.
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The same, replacing the resource when it changes.
    pub(crate) const fn replaces(self) -> Self {
        Self { update: Update::Replace, ..self }
    }
}

/// Tags, as most types have them.
pub(crate) const TAGS: Shape = Shape::List(&Shape::Object(&[
    Property::new("Key", Shape::Text).required(),
    Property::new("Value", Shape::Text).required(),
]));

impl Shape {
    /// An evaluated value as JSON of this shape; what does not fit is reported.
    pub(crate) fn convert(&self, path: &str, node: &Node, problems: &mut Problems) -> Json {
        let mut mismatch = |wanted: &str| {
            problems.add(node.at, format!("{path} must be {wanted}, and is {}", node.kind()));
            Json::Null
        };
        if node.value == Value::Later {
            return Json::String(LATER.to_owned());
        }
        match self {
            Self::Text => node.scalar_text().map_or_else(|| mismatch("text"), Json::String),
            Self::Integer => match node.scalar_text().and_then(|text| text.parse::<i64>().ok()) {
                Some(number) => number.into(),
                None => mismatch("a whole number"),
            },
            Self::Number => match node.scalar_text().and_then(|text| text.parse::<f64>().ok()) {
                Some(number) if number.is_finite() => number.into(),
                _ => mismatch("a number"),
            },
            Self::Boolean => match node.scalar_text().as_deref() {
                Some("true") => Json::Bool(true),
                Some("false") => Json::Bool(false),
                _ => mismatch("true or false"),
            },
            Self::Document => match &node.value {
                Value::Map(_) => node.to_json(),
                _ => mismatch("a mapping"),
            },
            Self::TextMap => match &node.value {
                Value::Map(map) => {
                    let entries = map.iter().map(|(key, value)| {
                        (key.clone(), Self::Text.convert(&format!("{path}.{key}"), value, problems))
                    });
                    Json::Object(entries.collect())
                }
                _ => mismatch("a mapping"),
            },
            Self::List(item) => match &node.value {
                Value::List(items) => {
                    let items = items.iter().enumerate();
                    items.map(|(i, node)| item.convert(&format!("{path}[{i}]"), node, problems)).collect()
                }
                _ => mismatch("a list"),
            },
            Self::Object(properties) => match &node.value {
                Value::Map(_) => Json::Object(convert(properties, path, node, problems)),
                _ => mismatch("a mapping"),
            },
        }
    }
}

/// An evaluated mapping as JSON of these properties.
pub(crate) fn convert(
    properties: &[Property],
    path: &str,
    node: &Node,
    problems: &mut Problems,
) -> Map<String, Json> {
    let mut out = Map::new();
    for (name, value) in node.as_map().into_iter().flatten() {
        match properties.iter().find(|p| p.name == name) {
            Some(property) => {
                let path = format!("{path}.{name}");
                out.insert(name.clone(), property.shape.convert(&path, value, problems));
            }
            None => {
                let advice = advice(name, properties.iter().map(|p| p.name));
                let message = format!("{path}.{name} is not supported; {advice}");
                problems.add(value.at, message);
            }
        }
    }
    for property in properties.iter().filter(|p| p.required) {
        if !node.as_map().is_some_and(|map| map.contains_key(property.name)) {
            problems.add(node.at, format!("{path} needs the property {}", property.name));
        }
    }
    out
}
