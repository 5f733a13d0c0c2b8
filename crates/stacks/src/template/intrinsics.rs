//! Intrinsic functions: which names a value refers to, and what it comes to.
//!
//! Invariants: what a template comes to is bounded, whatever its functions say; see [`Budget`]. What comes of a
//! [`Value::Later`] is one too: nothing is made of what is not known yet.
//!
//! Source: AWS CloudFormation template reference, "Intrinsic function reference" and "Pseudo parameters".

use std::cell::Cell;

use base64::Engine as _;
use indexmap::IndexMap;

use super::node::{At, Node, Problems, Value};

/// What `AWS::..` names come to.
#[derive(Debug, Clone)]
pub struct Pseudo {
    /// `AWS::AccountId`.
    pub account_id: String,
    /// `AWS::Region`.
    pub region: String,
    /// `AWS::StackName`.
    pub stack_name: String,
    /// `AWS::StackId`.
    pub stack_id: String,
}

/// The pseudo parameters, `AWS::NoValue` excepted.
const PSEUDO: &[&str] = &[
    "AWS::AccountId",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

impl Pseudo {
    fn get(&self, name: &str) -> Option<Value> {
        Some(Value::String(match name {
            "AWS::AccountId" => self.account_id.clone(),
            "AWS::Region" => self.region.clone(),
            "AWS::StackName" => self.stack_name.clone(),
            "AWS::StackId" => self.stack_id.clone(),
            "AWS::Partition" => "aws".to_owned(),
            "AWS::URLSuffix" => "amazonaws.com".to_owned(),
            "AWS::NotificationARNs" => return Some(Value::List(Vec::new())),
            _ => return None,
        }))
    }
}

/// One thing that a value refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference<'a> {
    /// `Ref` of a parameter or resource.
    Name(&'a str),
    /// `Fn::GetAtt`.
    Attribute(&'a str, &'a str),
    /// A condition.
    Condition(&'a str),
    /// A mapping.
    Mapping(&'a str),
}

/// True for names that a template need not define.
pub(crate) fn is_pseudo(name: &str) -> bool {
    name == "AWS::NoValue" || PSEUDO.contains(&name)
}

/// Calls `visit` for everything that `node` refers to, and reports intrinsics that are malformed or unknown.
pub(crate) fn references<'a>(
    node: &'a Node,
    problems: &mut Problems,
    visit: &mut dyn FnMut(Reference<'a>, At),
) {
    if let Some((name, argument)) = node.intrinsic() {
        check_form(name, argument, node.at, problems, visit);
        return;
    }
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| references(item, problems, visit)),
        Value::Map(map) => map.values().for_each(|value| references(value, problems, visit)),
        Value::String(text) => check_text(text, node.at, problems),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Later => {}
    }
}

/// A value that is to be looked up in another service would come to its own text.
fn check_text(text: &str, at: At, problems: &mut Problems) {
    if text.contains("{{resolve:") {
        problems.add(
            at,
            "dynamic references (`{{resolve:...}}`) are not supported; pass the value as a parameter",
        );
    }
}

fn check_form<'a>(
    name: &'a str,
    argument: &'a Node,
    at: At,
    problems: &mut Problems,
    visit: &mut dyn FnMut(Reference<'a>, At),
) {
    let items = argument.as_list();
    let count = items.map_or(0, <[Node]>::len);
    match name {
        "Ref" => match argument.as_str() {
            Some(name) => visit(Reference::Name(name), at),
            None => problems.add(at, "`Ref` needs the name of a parameter or resource"),
        },
        "Fn::GetAtt" => match attribute(argument) {
            Some((resource, attribute)) => visit(Reference::Attribute(resource, attribute), at),
            None => problems.add(at, "`Fn::GetAtt` needs a logical id and the name of an attribute"),
        },
        "Fn::Sub" => {
            let (text, variables) = match items {
                Some([text, variables]) => (text.as_str(), variables.as_map()),
                _ => (argument.as_str(), None),
            };
            let Some(text) = text else {
                return problems
                    .add(at, "`Fn::Sub` needs text, or a list of text and a mapping of variables");
            };
            check_text(text, at, problems);
            if let Some(variables) = variables {
                variables.values().for_each(|value| references(value, problems, visit));
            }
            for part in sub_parts(text) {
                match part {
                    Part::Variable(name) if variables.is_some_and(|v| v.contains_key(name)) => {}
                    Part::Variable(name) => match name.split_once('.') {
                        Some((resource, attribute)) => visit(Reference::Attribute(resource, attribute), at),
                        None => visit(Reference::Name(name), at),
                    },
                    Part::Text(_) => {}
                }
            }
            return;
        }
        "Fn::FindInMap" if count == 3 => {
            if let Some(name) = items.and_then(|items| items[0].as_str()) {
                visit(Reference::Mapping(name), at);
            }
        }
        "Fn::If" if count == 3 => match items.and_then(|items| items[0].as_str()) {
            Some(name) => visit(Reference::Condition(name), at),
            None => problems.add(at, "the first argument of `Fn::If` is the name of a condition"),
        },
        "Fn::Join" | "Fn::Split" | "Fn::Select" if count == 2 => {}
        "Fn::Base64" => {}
        "Fn::Join" | "Fn::Split" | "Fn::Select" => {
            problems.add(at, format!("`{name}` needs a list of 2 arguments"));
        }
        "Fn::If" | "Fn::FindInMap" => problems.add(at, format!("`{name}` needs a list of 3 arguments")),
        "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => {
            problems.add(at, format!("`{name}` is for the section Conditions; here use `Fn::If`"));
        }
        "Fn::ImportValue" => {
            problems.add(at, "`Fn::ImportValue` is not supported; pass the value as a parameter");
        }
        other => problems.add(at, format!("the intrinsic function `{other}` is not supported")),
    }
    // What is inside, the names already visited excepted.
    match (name, items) {
        ("Ref" | "Fn::GetAtt", _) => {}
        (_, Some(items)) => items.iter().for_each(|item| references(item, problems, visit)),
        (_, None) => references(argument, problems, visit),
    }
}

fn attribute(argument: &Node) -> Option<(&str, &str)> {
    match &argument.value {
        Value::String(text) => text.split_once('.'),
        Value::List(items) => match items.as_slice() {
            [resource, attribute] => Some((resource.as_str()?, attribute.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// The pieces of a `Fn::Sub` text; `${!Literal}` is text.
fn sub_parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}').map(|end| start + end) else { break };
        parts.push(Part::Text(&rest[..start]));
        let name = &rest[start + 2..end];
        match name.strip_prefix('!') {
            Some(literal) => {
                parts.push(Part::Text("${"));
                parts.push(Part::Text(literal));
                parts.push(Part::Text("}"));
            }
            None => parts.push(Part::Variable(name.trim())),
        }
        rest = &rest[end + 1..];
    }
    parts.push(Part::Text(rest));
    parts
}

/// The text of a `Fn::Sub` with other names in place of those that `other` knows one for.
pub(crate) fn renamed_sub(text: &str, other: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}').map(|end| start + end) else { break };
        let name = &rest[start + 2..end];
        match other(name.trim()) {
            Some(other) => {
                out.push_str(&rest[..start + 2]);
                out.push_str(&other);
                out.push('}');
            }
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

/// What resources come to.
pub(crate) trait Resources {
    /// What `Ref` gives; `None` if the template makes no such resource.
    fn reference(&self, logical_id: &str) -> Option<Known<String>>;
    /// What `Fn::GetAtt` gives.
    fn attribute(&self, logical_id: &str, attribute: &str) -> Option<Known<String>>;
}

/// What may be known only when a resource has been made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known<T> {
    /// It is known.
    Now(T),
    /// It is not known yet.
    Later,
}

impl Known<String> {
    fn value(self) -> Value {
        match self {
            Self::Now(text) => Value::String(text),
            Self::Later => Value::Later,
        }
    }
}

/// No resources: for conditions and rules, which can not refer to any.
pub(crate) struct NoResources;

impl Resources for NoResources {
    fn reference(&self, _: &str) -> Option<Known<String>> {
        None
    }

    fn attribute(&self, _: &str, _: &str) -> Option<Known<String>> {
        None
    }
}

/// How much a template may come to: functions within functions could double with each level. Whatever is made,
/// that which only goes into something else included, is paid for by its [`Node::weight`].
#[derive(Debug)]
pub(crate) struct Budget(Cell<Option<usize>>);

/// Several times what a template of the largest size says without functions.
const MAX_EXPANDED: usize = 8 << 20;

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(Some(MAX_EXPANDED)))
    }
}

impl Budget {
    /// Pays for something; `None` if that is too much, which is reported once.
    pub(crate) fn pay(&self, weight: usize, at: At, problems: &mut Problems) -> Option<()> {
        let left = self.0.get()?.checked_sub(weight);
        if left.is_none() {
            problems.add(at, format!("what the template comes to is more than {MAX_EXPANDED} bytes"));
        }
        self.0.set(left);
        left.map(|_| ())
    }
}

/// Everything that values are evaluated against.
pub(crate) struct Scope<'a> {
    pub(crate) pseudo: &'a Pseudo,
    pub(crate) parameters: &'a IndexMap<String, Value>,
    pub(crate) mappings: &'a IndexMap<String, Node>,
    pub(crate) conditions: &'a IndexMap<String, bool>,
    pub(crate) resources: &'a dyn Resources,
    pub(crate) budget: &'a Budget,
}

impl Scope<'_> {
    /// What `node` comes to; `None` for `AWS::NoValue`, and where a problem was reported.
    pub(crate) fn value(&self, node: &Node, problems: &mut Problems) -> Option<Node> {
        if let Some((name, argument)) = node.intrinsic() {
            self.budget.pay(1, node.at, problems)?;
            let value = self.call(name, argument, node.at, problems)?;
            self.budget.pay(value.weight(), node.at, problems)?;
            return Some(Node { at: node.at, ..value });
        }
        let own = match &node.value {
            Value::List(_) | Value::Map(_) => 1,
            _ => node.weight(),
        };
        self.budget.pay(own, node.at, problems)?;
        let value = match &node.value {
            Value::List(items) => {
                Value::List(items.iter().filter_map(|item| self.value(item, problems)).collect())
            }
            Value::Map(map) => Value::Map(
                map.iter().filter_map(|(k, v)| Some((k.clone(), self.value(v, problems)?))).collect(),
            ),
            scalar => scalar.clone(),
        };
        Some(Node { value, at: node.at, span: node.span })
    }

    fn name(&self, name: &str, at: At, problems: &mut Problems) -> Option<Node> {
        if name == "AWS::NoValue" {
            return None;
        }
        let value = self.pseudo.get(name).or_else(|| self.parameters.get(name).cloned());
        let value = value.or_else(|| self.resources.reference(name).map(Known::value));
        if value.is_none() {
            problems
                .add(at, format!("`{name}` is neither a parameter nor a resource that this template makes"));
        }
        Some(Node::new(value?, at))
    }

    fn attribute(&self, resource: &str, attribute: &str, at: At, problems: &mut Problems) -> Option<Node> {
        let value = self.resources.attribute(resource, attribute);
        if value.is_none() {
            let message =
                format!("`{resource}` is not made by this template, or has no attribute `{attribute}`");
            problems.add(at, message);
        }
        Some(Node::new(value?.value(), at))
    }

    fn text(&self, node: &Node, what: &str, problems: &mut Problems) -> Option<Known<String>> {
        let value = self.value(node, problems)?;
        if value.value == Value::Later {
            return Some(Known::Later);
        }
        let text = value.scalar_text();
        if text.is_none() {
            problems.add(node.at, format!("{what} must be text, and is {}", value.kind()));
        }
        text.map(Known::Now)
    }

    fn list(&self, node: &Node, what: &str, problems: &mut Problems) -> Option<Known<Vec<Node>>> {
        let value = self.value(node, problems)?;
        match value.value {
            Value::Later => Some(Known::Later),
            Value::List(items) => Some(Known::Now(items)),
            _ => {
                problems.add(node.at, format!("{what} must be a list, and is {}", value.kind()));
                None
            }
        }
    }

    fn call(&self, name: &str, argument: &Node, at: At, problems: &mut Problems) -> Option<Node> {
        let items = argument.as_list();
        let later = Some(Node::new(Value::Later, at));
        match (name, items) {
            ("Ref", _) => self.name(argument.as_str()?, at, problems),
            ("Fn::GetAtt", _) => {
                let (resource, attribute) = attribute(argument)?;
                self.attribute(resource, attribute, at, problems)
            }
            ("Fn::Sub", _) => self.sub(argument, at, problems),
            ("Fn::Join", Some([separator, list])) => {
                let separator = self.text(separator, "the separator of `Fn::Join`", problems)?;
                let list = self.list(list, "the second argument of `Fn::Join`", problems)?;
                let (Known::Now(separator), Known::Now(list)) = (separator, list) else { return later };
                let mut parts = Vec::new();
                for item in list {
                    match item.scalar_text() {
                        Some(text) => parts.push(text),
                        None if item.value == Value::Later => return later,
                        None => problems.add(item.at, format!("`Fn::Join` joins text, not {}", item.kind())),
                    }
                }
                self.budget.pay(separator.len().saturating_mul(parts.len()), at, problems)?;
                Some(Node::text(parts.join(&separator), at))
            }
            ("Fn::Split", Some([separator, text])) => {
                let separator = self.text(separator, "the separator of `Fn::Split`", problems)?;
                let text = self.text(text, "what `Fn::Split` splits", problems)?;
                let (Known::Now(separator), Known::Now(text)) = (separator, text) else { return later };
                if separator.is_empty() {
                    problems.add(at, "the separator of `Fn::Split` can not be empty");
                    return None;
                }
                let parts = text.matches(&separator).count() + 1;
                self.budget.pay(parts.saturating_mul(size_of::<Node>()), at, problems)?;
                Some(Node::list(text.split(&separator).map(|part| Node::text(part, at)).collect(), at))
            }
            ("Fn::Select", Some([index, list])) => {
                let index = self.text(index, "the index of `Fn::Select`", problems)?;
                let list = self.list(list, "the second argument of `Fn::Select`", problems)?;
                let (Known::Now(index), Known::Now(list)) = (index, list) else { return later };
                let item = index.parse().ok().and_then(|index: usize| list.get(index).cloned());
                if item.is_none() {
                    let message = format!("`Fn::Select` of {index} from a list of {}", list.len());
                    problems.add(at, message);
                }
                item
            }
            ("Fn::Base64", _) => {
                let text = self.text(argument, "the argument of `Fn::Base64`", problems)?;
                let Known::Now(text) = text else { return later };
                Some(Node::text(base64::engine::general_purpose::STANDARD.encode(text), at))
            }
            ("Fn::FindInMap", Some([map, top, second])) => {
                let map = self.text(map, "the mapping's name", problems)?;
                let top = self.text(top, "the top-level key", problems)?;
                let second = self.text(second, "the second-level key", problems)?;
                let (Known::Now(map), Known::Now(top), Known::Now(second)) = (map, top, second) else {
                    problems.add(at, "`Fn::FindInMap` needs keys that are known before anything is made");
                    return None;
                };
                let found = self.mappings.get(&map).and_then(|m| m.get(&top)).and_then(|m| m.get(&second));
                if found.is_none() {
                    problems.add(at, format!("mapping `{map}` has no `{top}` with `{second}`"));
                }
                found.cloned()
            }
            ("Fn::If", Some([condition, yes, no])) => {
                let holds = self.conditions.get(condition.as_str()?)?;
                self.value(if *holds { yes } else { no }, problems)
            }
            // Reported by `references`, which runs over everything first.
            _ => None,
        }
    }

    fn sub(&self, argument: &Node, at: At, problems: &mut Problems) -> Option<Node> {
        let (text, variables) = match argument.as_list() {
            Some([text, variables]) => (text.as_str()?, variables.as_map()),
            _ => (argument.as_str()?, None),
        };
        let mut out = String::with_capacity(text.len());
        let mut later = false;
        for part in sub_parts(text) {
            let name = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Variable(name) => name,
            };
            let value = match variables.and_then(|v| v.get(name)) {
                Some(node) => self.value(node, problems),
                None => match name.split_once('.') {
                    Some((resource, attribute)) => self.attribute(resource, attribute, at, problems),
                    None => self.name(name, at, problems),
                },
            };
            let value = value?;
            match value.scalar_text() {
                Some(text) => {
                    self.budget.pay(text.len(), at, problems)?;
                    out.push_str(&text);
                }
                None if value.value == Value::Later => later = true,
                None => problems.add(at, format!("`${{{name}}}` is not text, so `Fn::Sub` can not use it")),
            }
        }
        Some(if later { Node::new(Value::Later, at) } else { Node::text(out, at) })
    }
}

/// Evaluates the section Conditions. Cycles and unknown names are reported.
pub(crate) fn conditions(
    section: &IndexMap<String, Node>,
    scope: &dyn Fn(&Node, &mut Problems) -> Option<Node>,
    problems: &mut Problems,
) -> IndexMap<String, bool> {
    let mut known = IndexMap::new();
    for (name, node) in section {
        let mut path = Vec::new();
        let context = Conditions { section, scope };
        if context.named(name, node.at, &mut known, &mut path, problems).is_none() {
            known.insert(name.clone(), false);
        }
    }
    known
}

struct Conditions<'a> {
    section: &'a IndexMap<String, Node>,
    scope: &'a dyn Fn(&Node, &mut Problems) -> Option<Node>,
}

impl Conditions<'_> {
    fn named(
        &self,
        name: &str,
        at: At,
        known: &mut IndexMap<String, bool>,
        path: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Option<bool> {
        if let Some(value) = known.get(name) {
            return Some(*value);
        }
        if path.iter().any(|n| n == name) {
            problems.add(at, format!("condition `{name}` depends on itself"));
            return None;
        }
        let Some(node) = self.section.get(name) else {
            problems.add(at, format!("there is no condition `{name}`"));
            return None;
        };
        path.push(name.to_owned());
        let value = self.holds(node, known, path, problems);
        path.pop();
        known.insert(name.to_owned(), value?);
        value
    }

    fn holds(
        &self,
        node: &Node,
        known: &mut IndexMap<String, bool>,
        path: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Option<bool> {
        let entry = node.as_map().filter(|map| map.len() == 1).and_then(IndexMap::first);
        let Some((name, argument)) = entry else {
            problems.add(node.at, "a condition is one of Fn::Equals, Fn::And, Fn::Or, Fn::Not, Condition");
            return None;
        };
        let items = argument.as_list();
        let all = |this: &Self, items: &[Node], known: &mut _, path: &mut _, problems: &mut _| {
            items.iter().map(|item| this.holds(item, known, path, problems)).collect::<Option<Vec<_>>>()
        };
        match (name.as_str(), items) {
            ("Condition", _) => self.named(argument.as_str()?, node.at, known, path, problems),
            ("Fn::Not", Some([one])) => Some(!self.holds(one, known, path, problems)?),
            ("Fn::And", Some(items)) if (2..=10).contains(&items.len()) => {
                Some(all(self, items, known, path, problems)?.into_iter().all(|b| b))
            }
            ("Fn::Or", Some(items)) if (2..=10).contains(&items.len()) => {
                Some(all(self, items, known, path, problems)?.into_iter().any(|b| b))
            }
            ("Fn::Equals", Some([left, right])) => {
                let (left, right) = ((self.scope)(left, problems)?, (self.scope)(right, problems)?);
                // Parameters are text, literals may be numbers: they are compared as text.
                Some(match (left.scalar_text(), right.scalar_text()) {
                    (Some(left), Some(right)) => left == right,
                    _ => left == right,
                })
            }
            (name, _) => {
                let message =
                    format!("`{name}` is not a condition function, or has the wrong number of arguments");
                problems.add(node.at, message);
                None
            }
        }
    }
}
