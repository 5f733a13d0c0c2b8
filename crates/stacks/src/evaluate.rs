//! What a template's values come to: when a change is planned, and once more where they could not be known then.
//!
//! Invariant: a value that rests on what is not made yet is [`Known::Later`], whatever functions stand around it;
//! the same template with the same parameters gives it when all it rests on is there.

use indexmap::IndexMap;

use crate::resources::{self, Properties, schema};
use crate::tables::{OutputValue, Resource};
use crate::template::intrinsics::{self, Budget, Known, NoResources, Resources, Scope};
use crate::template::{LATER, Node, Problem, Problems, Pseudo, Template, Value, parameters};

/// A template with its parameters.
pub(crate) struct Evaluation<'a> {
    template: &'a Template,
    pseudo: &'a Pseudo,
    parameters: IndexMap<String, Value>,
    pub(crate) conditions: IndexMap<String, bool>,
    budget: Budget,
}

impl<'a> Evaluation<'a> {
    /// Of `template` with the parameters `given`.
    pub(crate) fn new(
        template: &'a Template,
        given: &IndexMap<String, String>,
        pseudo: &'a Pseudo,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let parameters = parameters::values(&template.parameters, given, &mut problems);
        let none = IndexMap::new();
        let conditions = {
            let scope = Scope {
                pseudo,
                parameters: &parameters,
                mappings: &template.mappings,
                conditions: &none,
                resources: &NoResources,
                budget: &Budget::default(),
            };
            let value = |node: &Node, problems: &mut Problems| scope.value(node, problems);
            intrinsics::conditions(&template.conditions, &value, &mut problems)
        };
        problems.finish()?;
        Ok(Self { template, pseudo, parameters, conditions, budget: Budget::default() })
    }

    fn scope<'s>(&'s self, resources: &'s Held<'s>) -> Scope<'s> {
        Scope {
            pseudo: self.pseudo,
            parameters: &self.parameters,
            mappings: &self.template.mappings,
            conditions: &self.conditions,
            resources,
            budget: &self.budget,
        }
    }

    fn held<'s>(&'s self, resources: &'s IndexMap<String, Resource>) -> Held<'s> {
        Held { pseudo: self.pseudo, resources }
    }

    /// The properties that the resource `name` is made with.
    pub(crate) fn early(
        &self,
        name: &str,
        resources: &IndexMap<String, Resource>,
        problems: &mut Problems,
    ) -> Properties {
        let declared = &self.template.resources[name];
        let Some(kind) = resources::find(&declared.type_name) else { return Properties::new() };
        let node = without(&declared.properties, kind.late);
        let path = format!("{} `{name}`", declared.type_name);
        let before = problems.count();
        match self.scope(&self.held(resources)).value(&node, problems) {
            // A value that could not be evaluated would be reported again as missing.
            Some(value) if problems.count() == before => {
                schema::convert(kind.properties, &path, &value, problems)
            }
            _ => Properties::new(),
        }
    }

    /// The properties that it gets when every other resource exists.
    pub(crate) fn late(
        &self,
        name: &str,
        resources: &IndexMap<String, Resource>,
        problems: &mut Problems,
    ) -> Properties {
        let declared = &self.template.resources[name];
        let mut properties = Properties::new();
        let Some(kind) = resources::find(&declared.type_name) else { return properties };
        for (key, value) in declared.properties.as_map().into_iter().flatten() {
            let known = kind.properties.iter().find(|p| p.name == key && kind.late.contains(&p.name));
            let Some(property) = known else { continue };
            let path = format!("{} `{name}`.{key}", declared.type_name);
            if let Some(value) = self.scope(&self.held(resources)).value(value, problems) {
                properties.insert(key.clone(), property.shape.convert(&path, &value, problems));
            }
        }
        properties
    }

    /// The template's outputs.
    pub(crate) fn outputs(
        &self,
        resources: &IndexMap<String, Resource>,
        problems: &mut Problems,
    ) -> Vec<OutputValue> {
        let held = self.held(resources);
        let scope = self.scope(&held);
        let mut outputs = Vec::new();
        for (name, output) in &self.template.outputs {
            let wanted = |condition: &String| self.conditions.get(condition).copied().unwrap_or(false);
            if !output.condition.as_ref().is_none_or(wanted) {
                continue;
            }
            let Some(value) = scope.value(&output.value, problems) else { continue };
            let text = match value.value {
                Value::Later => Some(LATER.to_owned()),
                _ => value.scalar_text(),
            };
            match text {
                Some(text) => outputs.push(OutputValue {
                    key: name.clone(),
                    value: text,
                    description: output.description.clone(),
                }),
                None => {
                    problems.add(value.at, format!("output `{name}` must be text, and is {}", value.kind()));
                }
            }
        }
        outputs
    }
}

fn without(node: &Node, late: &[&str]) -> Node {
    let map = node.as_map().into_iter().flatten();
    let early = map.filter(|(key, _)| !late.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone()));
    Node::map(early, node.at)
}

/// True if a part of it is not known yet.
pub(crate) fn is_later(properties: &Properties) -> bool {
    fn later(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text == LATER,
            serde_json::Value::Array(items) => items.iter().any(later),
            serde_json::Value::Object(map) => map.values().any(later),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    properties.values().any(later)
}

/// Resources as they are planned, or as they are.
struct Held<'a> {
    pseudo: &'a Pseudo,
    resources: &'a IndexMap<String, Resource>,
}

/// Names are made of properties: of what is not known, nothing follows.
fn known(resource: &Resource, text: String) -> Known<String> {
    let later = resource.physical_id.contains(LATER) || text.contains(LATER);
    if later { Known::Later } else { Known::Now(text) }
}

impl Resources for Held<'_> {
    fn reference(&self, logical_id: &str) -> Option<Known<String>> {
        let resource = self.resources.get(logical_id)?;
        let provider = resources::find(&resource.type_name)?.provider;
        Some(known(resource, provider.reference(self.pseudo, &resource.physical_id, &resource.properties)))
    }

    fn attribute(&self, logical_id: &str, attribute: &str) -> Option<Known<String>> {
        let resource = self.resources.get(logical_id)?;
        if let Some(decided) = resource.attributes.get(attribute) {
            return Some(Known::Now(decided.clone()));
        }
        let provider = resources::find(&resource.type_name)?.provider;
        let given = provider.attribute(self.pseudo, &resource.physical_id, &resource.properties, attribute);
        given.map(|text| known(resource, text))
    }
}
