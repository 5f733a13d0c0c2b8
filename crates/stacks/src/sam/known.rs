//! What values come to that the transform itself has to know: the ids of what it generates follow from them.
//!
//! Invariant: a value is known if it rests on parameters, mappings, conditions and pseudo parameters alone; nothing is
//! made of what a resource decides.

use indexmap::{IndexMap, IndexSet};

use crate::template::intrinsics::{self, Budget, Known, NoResources, Resources, Scope};
use crate::template::{Node, Problems, Pseudo, Template, Value, parameters};

/// What a template is read for: the parameters given, and what the stack is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct For<'a> {
    pub(crate) parameters: &'a IndexMap<String, String>,
    pub(crate) pseudo: &'a Pseudo,
}

/// What a value comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// This.
    Value(Node),
    /// `AWS::NoValue`: it is as if it were not there.
    Nothing,
    /// Nobody can know before its stack is made.
    Later,
    /// It is not asked for a stack, or what is wrong with it is said elsewhere.
    Unsaid,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Values<'a> {
    mappings: IndexMap<String, Node>,
    resources: IndexSet<String>,
    /// `None` if the template is not read for a stack.
    stack: Option<Stack<'a>>,
    budget: Budget,
}

#[derive(Debug)]
struct Stack<'a> {
    pseudo: &'a Pseudo,
    parameters: IndexMap<String, Value>,
    conditions: IndexMap<String, bool>,
}

/// What is not made yet.
struct Unmade<'a>(&'a IndexSet<String>);

impl Resources for Unmade<'_> {
    fn reference(&self, logical_id: &str) -> Option<Known<String>> {
        self.0.contains(logical_id).then_some(Known::Later)
    }

    fn attribute(&self, logical_id: &str, _: &str) -> Option<Known<String>> {
        self.0.contains(logical_id).then_some(Known::Later)
    }
}

impl<'a> Values<'a> {
    pub(super) fn new(template: &Template, stack: Option<For<'a>>) -> Self {
        let stack = stack.and_then(|stack| {
            // What is wrong with parameters and conditions is said where they are used.
            let mut problems = Problems::default();
            let parameters = parameters::values(&template.parameters, stack.parameters, &mut problems);
            let scope = Scope {
                pseudo: stack.pseudo,
                parameters: &parameters,
                mappings: &template.mappings,
                conditions: &IndexMap::new(),
                resources: &NoResources,
                budget: &Budget::default(),
            };
            let value = |node: &Node, problems: &mut Problems| scope.value(node, problems);
            let conditions = intrinsics::conditions(&template.conditions, &value, &mut problems);
            problems.finish().is_ok().then_some(Stack { pseudo: stack.pseudo, parameters, conditions })
        });
        Self {
            mappings: template.mappings.clone(),
            resources: template.resources.keys().cloned().collect(),
            stack,
            budget: Budget::default(),
        }
    }

    /// Whether the template is read to be looked at, and not for a stack.
    pub(super) fn is_for_none(&self) -> bool {
        self.stack.is_none()
    }

    /// What `node` comes to.
    pub(super) fn of(&self, node: &Node, problems: &mut Problems) -> Found {
        if is_plain(node) {
            return Found::Value(node.clone());
        }
        let Some(stack) = &self.stack else { return Found::Unsaid };
        let scope = Scope {
            pseudo: stack.pseudo,
            parameters: &stack.parameters,
            mappings: &self.mappings,
            conditions: &stack.conditions,
            resources: &Unmade(&self.resources),
            budget: &self.budget,
        };
        let before = problems.count();
        match scope.value(node, problems) {
            Some(value) if is_known(&value) => Found::Value(value),
            Some(_) => Found::Later,
            None if problems.count() == before => Found::Nothing,
            None => Found::Unsaid,
        }
    }

    /// `node` with what is known in the place of what says it.
    pub(super) fn resolved(&self, node: &Node) -> Node {
        if node.intrinsic().is_some() {
            // What is wrong is said when the resource is planned.
            return match self.of(node, &mut Problems::default()) {
                Found::Value(value) => value,
                Found::Nothing | Found::Later | Found::Unsaid => node.clone(),
            };
        }
        match &node.value {
            Value::List(items) => Node::list(items.iter().map(|item| self.resolved(item)).collect(), node.at),
            Value::Map(map) => {
                let map = map.iter().map(|(key, value)| (key.clone(), self.resolved(value)));
                Node::map(map, node.at)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Later => node.clone(),
        }
    }
}

/// Whether no function is in it.
pub(super) fn is_plain(node: &Node) -> bool {
    node.intrinsic().is_none()
        && match &node.value {
            Value::List(items) => items.iter().all(is_plain),
            Value::Map(map) => map.values().all(is_plain),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Later => true,
        }
}

fn is_known(node: &Node) -> bool {
    match &node.value {
        Value::Later => false,
        Value::List(items) => items.iter().all(is_known),
        Value::Map(map) => map.values().all(is_known),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
