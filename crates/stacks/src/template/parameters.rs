//! Parameters: their declarations, and the values given for them.

use indexmap::IndexMap;

use super::node::{At, Node, Problems, Value};

/// The kinds of parameter that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// Text.
    String,
    /// A number, kept as text.
    Number,
    /// Text split at commas.
    CommaDelimitedList,
    /// Numbers split at commas.
    NumberList,
}

/// Longest value, in bytes (AWS CloudFormation user guide, "Understand CloudFormation quotas").
const MAX_VALUE_BYTES: usize = 4_096;
/// Most memory that a compiled AllowedPattern may take; the time to match one grows with it.
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// A declared parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its type.
    pub kind: ParameterType,
    /// The type as it was written.
    pub type_name: String,
    /// Used if no value is given.
    pub default: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its value is never shown.
    pub no_echo: bool,
    allowed_values: Vec<String>,
    allowed_pattern: Option<String>,
    constraint: Option<String>,
    length: (Option<usize>, Option<usize>),
    range: (Option<f64>, Option<f64>),
    at: At,
}

const KEYS: &[&str] = &[
    "Type",
    "Default",
    "AllowedValues",
    "AllowedPattern",
    "ConstraintDescription",
    "Description",
    "MinLength",
    "MaxLength",
    "MinValue",
    "MaxValue",
    "NoEcho",
];

/// Reads one declaration.
pub(super) fn read(name: &str, node: &Node, problems: &mut Problems) -> Option<Parameter> {
    let Some(map) = node.as_map() else {
        problems.add(node.at, format!("parameter `{name}` must be a mapping"));
        return None;
    };
    for (key, value) in map {
        if !KEYS.contains(&key.as_str()) {
            problems.add(value.at, format!("`{key}` is not an attribute of a parameter"));
        }
    }
    let text = |key: &str| map.get(key).and_then(Node::scalar_text);
    let type_name = text("Type").unwrap_or_default();
    let kind = match type_name.as_str() {
        "String" => ParameterType::String,
        "Number" => ParameterType::Number,
        "CommaDelimitedList" => ParameterType::CommaDelimitedList,
        "List<Number>" => ParameterType::NumberList,
        "" => {
            problems.add(node.at, format!("parameter `{name}` needs a Type"));
            return None;
        }
        other => {
            let at = map.get("Type").map_or(node.at, |n| n.at);
            let message = format!(
                "parameter type `{other}` is not supported; use String, Number, CommaDelimitedList or List<Number>"
            );
            problems.add(at, message);
            return None;
        }
    };
    let list = map.get("AllowedValues").and_then(Node::as_list).unwrap_or_default();
    Some(Parameter {
        kind,
        type_name,
        default: text("Default"),
        description: text("Description"),
        no_echo: text("NoEcho").is_some_and(|v| v == "true"),
        allowed_values: list.iter().filter_map(Node::scalar_text).collect(),
        allowed_pattern: text("AllowedPattern"),
        constraint: text("ConstraintDescription"),
        length: (
            text("MinLength").and_then(|v| v.parse().ok()),
            text("MaxLength").and_then(|v| v.parse().ok()),
        ),
        range: (text("MinValue").and_then(|v| v.parse().ok()), text("MaxValue").and_then(|v| v.parse().ok())),
        at: node.at,
    })
}

/// The value of each declared parameter, given or default, as `Ref` gives it.
pub(crate) fn values(
    declared: &IndexMap<String, Parameter>,
    given: &IndexMap<String, String>,
    problems: &mut Problems,
) -> IndexMap<String, Value> {
    let unknown: Vec<_> = given.keys().filter(|name| !declared.contains_key(*name)).cloned().collect();
    if !unknown.is_empty() {
        let message = format!("Parameters: [{}] do not exist in the template", unknown.join(", "));
        problems.add(At::default(), message);
    }
    let missing: Vec<_> = declared
        .iter()
        .filter(|(name, p)| p.default.is_none() && !given.contains_key(*name))
        .map(|(name, _)| name.clone())
        .collect();
    if !missing.is_empty() {
        problems.add(At::default(), format!("Parameters: [{}] must have values", missing.join(", ")));
    }
    declared
        .iter()
        .map(|(name, parameter)| {
            let value = given.get(name).or(parameter.default.as_ref()).cloned();
            if let Some(value) = &value
                && let Err(reason) = parameter.check(name, value)
            {
                problems.add(parameter.at, reason);
            }
            (name.clone(), parameter.value(value.unwrap_or_default()))
        })
        .collect()
}

impl Parameter {
    fn items<'a>(&self, value: &'a str) -> Vec<&'a str> {
        match self.kind {
            ParameterType::String | ParameterType::Number => vec![value],
            ParameterType::CommaDelimitedList | ParameterType::NumberList => {
                value.split(',').map(str::trim).collect()
            }
        }
    }

    fn value(&self, text: String) -> Value {
        match self.kind {
            ParameterType::String | ParameterType::Number => Value::String(text),
            ParameterType::CommaDelimitedList | ParameterType::NumberList => {
                Value::List(self.items(&text).into_iter().map(|item| Node::text(item, self.at)).collect())
            }
        }
    }

    fn check(&self, name: &str, value: &str) -> Result<(), String> {
        let numeric = matches!(self.kind, ParameterType::Number | ParameterType::NumberList);
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!("Parameter '{name}' must contain at most {MAX_VALUE_BYTES} bytes"));
        }
        let matcher = self.allowed_pattern.as_ref().map(|pattern| {
            let matcher = regex_lite::RegexBuilder::new(&format!("^(?:{pattern})$"))
                .size_limit(MAX_PATTERN_BYTES)
                .build();
            matcher.map_err(|e| format!("the AllowedPattern of parameter '{name}' can not be used: {e}"))
        });
        let matcher = matcher.transpose()?;
        for item in self.items(value) {
            let number = item.parse::<f64>().ok().filter(|n| n.is_finite());
            if numeric && number.is_none() {
                return Err(format!("Parameter '{name}' must be a number."));
            }
            if !self.allowed_values.is_empty() && !self.allowed_values.iter().any(|v| v == item) {
                let allowed = self.allowed_values.join(", ");
                return Err(
                    self.explain(format!("Parameter '{name}' must be one of AllowedValues [{allowed}]"))
                );
            }
            let (least, most) = self.length;
            let length = item.chars().count();
            if least.is_some_and(|n| length < n) {
                return Err(self.explain(format!(
                    "Parameter '{name}' must contain at least {} characters",
                    least.unwrap_or_default()
                )));
            }
            if most.is_some_and(|n| length > n) {
                return Err(self.explain(format!(
                    "Parameter '{name}' must contain at most {} characters",
                    most.unwrap_or_default()
                )));
            }
            let (low, high) = self.range;
            if let Some(number) = number.filter(|_| numeric) {
                if low.is_some_and(|n| number < n) {
                    return Err(self.explain(format!(
                        "Parameter '{name}' must be a number not less than {}",
                        low.unwrap_or_default()
                    )));
                }
                if high.is_some_and(|n| number > n) {
                    return Err(self.explain(format!(
                        "Parameter '{name}' must be a number not greater than {}",
                        high.unwrap_or_default()
                    )));
                }
            }
            if let Some(pattern) = self.allowed_pattern.as_ref()
                && matcher.as_ref().is_some_and(|matcher| !matcher.is_match(item))
            {
                return Err(self.explain(format!("Parameter '{name}' must match pattern {pattern}")));
            }
        }
        Ok(())
    }

    fn explain(&self, message: String) -> String {
        match &self.constraint {
            Some(constraint) => format!("{message}: {constraint}"),
            None => message,
        }
    }
}
