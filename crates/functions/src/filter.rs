//! Which records wake a function: the patterns of `FilterCriteria` (AWS Lambda developer guide, "Filter rule syntax").

use serde_json::{Map, Value};

/// Most patterns of one mapping, and the length of one.
pub(crate) const MOST: usize = 5;
const MAX_PATTERN_BYTES: usize = 4096;
/// How deep patterns and `$or` may be within each other.
const MAX_DEPTH: usize = 32;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Pattern);

#[derive(Debug, Clone, PartialEq)]
enum Pattern {
    /// Every member has to match.
    Members(Vec<(String, Pattern)>),
    /// One of them has to.
    Any(Vec<Pattern>),
    /// A member's value has to match one of these rules.
    Rules(Vec<Rule>),
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Is(Value),
    IgnoringCase(String),
    Prefix(String),
    Suffix(String),
    Not(Vec<Rule>),
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    MoreOrEqual,
    More,
}

impl Filter {
    /// Reads a pattern. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} characters"));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(members) = value else { return Err("a pattern is an object".into()) };
        members_of(&members, 0).map(Self)
    }

    /// Whether a record matches.
    pub fn matches(&self, record: &Value) -> bool {
        self.0.matches(Some(record))
    }
}

fn members_of(members: &Map<String, Value>, depth: usize) -> Result<Pattern, String> {
    if depth > MAX_DEPTH {
        return Err(format!("a pattern is at most {MAX_DEPTH} levels deep"));
    }
    let mut all = Vec::new();
    let mut ors = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("$or", Value::Array(choices)) => {
                let choice = |choice: &Value| match choice {
                    Value::Object(members) => members_of(members, depth + 1),
                    _ => Err("$or is a list of patterns".to_owned()),
                };
                ors.push(Pattern::Any(choices.iter().map(choice).collect::<Result<_, _>>()?));
            }
            (_, Value::Object(inner)) => all.push((name.clone(), members_of(inner, depth + 1)?)),
            (_, Value::Array(rules)) => {
                if rules.is_empty() {
                    return Err(format!("`{name}` has no rules"));
                }
                let rules = rules.iter().map(rule).collect::<Result<_, _>>()?;
                all.push((name.clone(), Pattern::Rules(rules)));
            }
            _ => return Err(format!("`{name}` must be an object or a list of rules")),
        }
    }
    // What `$or` says is about the same object.
    Ok(ors.into_iter().fold(Pattern::Members(all), |all, or| match all {
        Pattern::Members(mut members) => {
            members.push((String::new(), or));
            Pattern::Members(members)
        }
        other => other,
    }))
}

fn rule(value: &Value) -> Result<Rule, String> {
    let Value::Object(operator) = value else {
        return match value {
            Value::Array(_) => Err("a rule is a value or an operator, not a list".into()),
            plain => Ok(Rule::Is(plain.clone())),
        };
    };
    let [(name, argument)] = &operator.iter().collect::<Vec<_>>()[..] else {
        return Err("a rule has one operator".into());
    };
    let text = || argument.as_str().map(str::to_owned).ok_or_else(|| format!("`{name}` takes text"));
    match name.as_str() {
        "prefix" => text().map(Rule::Prefix),
        "suffix" => text().map(Rule::Suffix),
        "equals-ignore-case" => text().map(|text| Rule::IgnoringCase(text.to_lowercase())),
        "exists" => argument.as_bool().map(Rule::Exists).ok_or_else(|| "`exists` is true or false".into()),
        "anything-but" => {
            let rules = match argument {
                Value::Array(values) => values.iter().map(rule).collect::<Result<Vec<_>, _>>()?,
                one => vec![rule(one)?],
            };
            let plain = |rule: &Rule| {
                matches!(rule, Rule::Is(_) | Rule::Prefix(_) | Rule::Suffix(_) | Rule::IgnoringCase(_))
            };
            if rules.is_empty() || !rules.iter().all(plain) {
                return Err("`anything-but` takes values, prefixes and suffixes".into());
            }
            Ok(Rule::Not(rules))
        }
        "numeric" => {
            let parts = argument.as_array().map(Vec::as_slice).unwrap_or_default();
            let comparison = |pair: &[Value]| {
                let [operator, number] = pair else { return None };
                let operator = match operator.as_str()? {
                    "<" => Comparison::Less,
                    "<=" => Comparison::LessOrEqual,
                    "=" => Comparison::Equal,
                    ">=" => Comparison::MoreOrEqual,
                    ">" => Comparison::More,
                    _ => return None,
                };
                Some((operator, number.as_f64()?))
            };
            let all: Option<Vec<_>> = parts.chunks(2).map(comparison).collect();
            let all = all.filter(|all| (1..=2).contains(&all.len()));
            all.map(Rule::Numeric)
                .ok_or_else(|| "`numeric` takes one or two comparisons, such as [\">\", 0]".into())
        }
        other => Err(format!("there is no operator `{other}`")),
    }
}

impl Pattern {
    fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Members(members) => members.iter().all(|(name, pattern)| match pattern {
                Self::Any(_) => pattern.matches(value),
                Self::Members(_) | Self::Rules(_) => pattern.matches(value.and_then(|value| value.get(name))),
            }),
            Self::Any(choices) => choices.iter().any(|choice| choice.matches(value)),
            Self::Rules(rules) => match value {
                // Of a list, one value has to match.
                Some(Value::Array(values)) => {
                    rules.iter().any(|rule| values.iter().any(|value| rule.matches(Some(value))))
                }
                value => rules.iter().any(|rule| rule.matches(value)),
            },
        }
    }
}

impl Rule {
    fn matches(&self, value: Option<&Value>) -> bool {
        // `exists` looks at leaves, as everything else does.
        let leaf = value.filter(|value| !value.is_object());
        let text = leaf.and_then(Value::as_str);
        match self {
            Self::Exists(wanted) => leaf.is_some() == *wanted,
            Self::Is(wanted) => leaf.is_some_and(|leaf| same(leaf, wanted)),
            Self::IgnoringCase(wanted) => text.is_some_and(|text| text.to_lowercase() == *wanted),
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix)),
            Self::Not(rules) => leaf.is_some() && !rules.iter().any(|rule| rule.matches(value)),
            Self::Numeric(comparisons) => {
                // Numbers of DynamoDB are text.
                let number = leaf.and_then(|leaf| leaf.as_f64().or_else(|| leaf.as_str()?.parse().ok()));
                number.is_some_and(|number| {
                    comparisons.iter().all(|(comparison, other)| match comparison {
                        Comparison::Less => number < *other,
                        Comparison::LessOrEqual => number <= *other,
                        Comparison::Equal => number == *other,
                        Comparison::MoreOrEqual => number >= *other,
                        Comparison::More => number > *other,
                    })
                })
            }
        }
    }
}

fn same(value: &Value, wanted: &Value) -> bool {
    match (value.as_f64(), wanted.as_f64()) {
        (Some(value), Some(wanted)) => value == wanted,
        _ => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_chosen() {
        let record = json!({
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": {"id": {"S": "order#1"}},
                "NewImage": {"price": {"N": "12.50"}, "tags": {"SS": ["a", "b"]}, "paid": {"BOOL": true}, "none": {"NULL": null}},
            },
        });
        let image = |rest: Value| json!({"dynamodb": {"NewImage": rest}});
        for (pattern, wanted) in [
            (json!({}), true),
            (json!({"eventName": ["INSERT", "MODIFY"]}), true),
            (json!({"eventName": ["REMOVE"]}), false),
            (json!({"eventName": [{"anything-but": ["REMOVE", "MODIFY"]}]}), true),
            (json!({"eventName": [{"anything-but": {"prefix": "IN"}}]}), false),
            (json!({"eventName": [{"equals-ignore-case": "insert"}]}), true),
            (json!({"dynamodb": {"Keys": {"id": {"S": [{"prefix": "order#"}]}}}}), true),
            (json!({"dynamodb": {"Keys": {"id": {"S": [{"suffix": "#2"}]}}}}), false),
            (image(json!({"price": {"N": [{"numeric": [">", 10, "<=", 12.5]}]}})), true),
            (image(json!({"price": {"N": [{"numeric": ["=", 12]}]}})), false),
            (image(json!({"tags": {"SS": ["b", "c"]}})), true),
            (image(json!({"tags": {"SS": ["c"]}})), false),
            (image(json!({"paid": {"BOOL": [true]}})), true),
            (image(json!({"none": {"NULL": [null]}})), true),
            (image(json!({"discount": {"N": [{"exists": false}]}})), true),
            (image(json!({"price": {"N": [{"exists": false}]}})), false),
            (image(json!({"discount": {"N": [{"anything-but": "1"}]}})), false),
            (json!({"eventName": ["INSERT"], "dynamodb": {"Keys": {"id": {"S": ["x"]}}}}), false),
            (
                json!({"$or": [{"eventName": ["REMOVE"]}, {"dynamodb": {"Keys": {"id": {"S": ["order#1"]}}}}]}),
                true,
            ),
            (json!({"$or": [{"eventName": ["REMOVE"]}, {"eventName": ["MODIFY"]}]}), false),
        ] {
            let filter = Filter::parse(&pattern.to_string()).unwrap();
            assert_eq!(filter.matches(&record), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let mut deep = json!(["x"]);
        for _ in 0..40 {
            deep = json!({"a": deep});
        }
        for pattern in [
            json!([]),
            json!({"a": "x"}),
            json!({"a": []}),
            json!({"a": [{"prefix": 1}]}),
            json!({"a": [{"wildcard": "x*"}]}),
            json!({"a": [{"prefix": "x", "suffix": "y"}]}),
            json!({"a": [{"numeric": [">"]}]}),
            json!({"a": [{"numeric": []}]}),
            json!({"a": [{"numeric": ["~", 1]}]}),
            json!({"a": [{"exists": "x"}]}),
            json!({"a": [{"anything-but": {"exists": true}}]}),
            json!({"a": [["x"]]}),
            json!({"$or": ["x"]}),
            deep,
        ] {
            assert!(Filter::parse(&pattern.to_string()).is_err(), "{pattern}");
        }
        assert!(Filter::parse("{").is_err());
        assert!(Filter::parse(&json!({"a": ["x".repeat(5000)]}).to_string()).is_err());
    }
}
