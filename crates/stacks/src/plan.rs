//! From a template and a stack as it is to the steps between them. Pure: nothing is asked, nothing is made.
//!
//! What a service decides when it makes something (a version's number, a URL's host) is not known here: values
//! that rest on it are marked, change what they are in, and are found when their step begins (`operate`).

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::evaluate::Evaluation;
use crate::resources::schema::Update;
use crate::resources::{self, Naming, Properties};
use crate::tables::{Action, OutputValue, ParameterValue, Resource, Step};
use crate::template::intrinsics::{self, Reference};
use crate::template::{Disposal, Node, Problem, Problems, Pseudo, Template, Value};

/// What a change does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeAction {
    /// It is made.
    Add,
    /// It is changed.
    Modify,
    /// It is deleted, or let go.
    Remove,
}

/// One resource's change, as a change set shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub action: ChangeAction,
    /// Its logical id.
    pub logical_id: String,
    /// Its physical id, if it has one yet.
    pub physical_id: Option<String>,
    /// Its type.
    pub type_name: String,
    /// For a modification: whether another takes its place.
    pub replacement: bool,
    /// The properties that change, and whether each replaces.
    pub properties: Vec<(String, bool)>,
}

/// What an operation will do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) steps: Vec<Step>,
    pub(crate) cleanup: Vec<Step>,
    pub(crate) outputs: Vec<OutputValue>,
    pub(crate) parameters: Vec<ParameterValue>,
}

/// Plans the way from `current` to `template`.
pub(crate) fn plan(
    template: &Template,
    given: &IndexMap<String, String>,
    pseudo: &Pseudo,
    current: &IndexMap<String, Resource>,
    now: Timestamp,
) -> Result<Plan, Vec<Problem>> {
    let evaluation = Evaluation::new(template, given, pseudo)?;
    let conditions = &evaluation.conditions;
    let mut problems = Problems::default();

    let wanted: IndexSet<&str> = template
        .resources
        .iter()
        .filter(|(_, r)| r.condition.as_ref().is_none_or(|c| conditions.get(c).copied().unwrap_or(false)))
        .map(|(name, _)| name.as_str())
        .collect();
    let context = Context { template, wanted: &wanted, conditions };
    let order = context.order(&mut problems);

    let mut planned = IndexMap::new();
    for name in &order {
        let declared = &template.resources[*name];
        let Some(kind) = resources::find(&declared.type_name) else { continue };
        let before = problems.count();
        let properties = evaluation.early(name, &planned, &mut problems);
        // Properties that could not be evaluated are not missing.
        if problems.count() == before
            && let Some(wrong) = kind.provider.check(&properties)
        {
            problems.add(declared.at, format!("{} `{name}` {wrong}", declared.type_name));
        }
        let previous = current.get(*name).filter(|r| r.type_name == declared.type_name);
        let mut resource = Resource {
            type_name: declared.type_name.clone(),
            physical_id: String::new(),
            generation: previous.map_or(0, |r| r.generation),
            properties,
            attributes: IndexMap::new(),
            dependencies: context.dependencies(name, true).into_iter().map(str::to_owned).collect(),
            deletion_policy: declared.deletion_policy,
            update_replace_policy: declared.update_replace_policy,
            status: String::new(),
            reason: None,
            updated_at: now,
        };
        let difference = previous.map(|p| {
            let old = early_properties(&p.properties, kind.late);
            kind.difference(&old, &resource.properties)
        });
        let replaces = difference.iter().flatten().any(|(_, update)| *update == Update::Replace);
        // A type change is a removal and an addition under one logical id.
        let changed_type = current.contains_key(*name) && previous.is_none();
        if replaces || changed_type {
            resource.generation = current.get(*name).map_or(0, |r| r.generation) + 1;
        }
        let naming = Naming { pseudo, logical_id: name, generation: resource.generation };
        match previous {
            Some(previous) if !replaces => {
                resource.physical_id.clone_from(&previous.physical_id);
                resource.attributes.clone_from(&previous.attributes);
                kind.provider.inherit(
                    pseudo,
                    &previous.physical_id,
                    &previous.properties,
                    &resource.properties,
                    &mut resource.attributes,
                );
            }
            _ => resource.physical_id = kind.provider.physical_id(&naming, &resource.properties),
        }
        if let Some(previous) = previous
            && replaces
            && previous.physical_id == resource.physical_id
        {
            problems.add(declared.at, same_name(&resource.physical_id));
        }
        planned.insert((*name).to_owned(), resource);
    }
    let mut late = IndexMap::new();
    for name in &order {
        late.insert((*name).to_owned(), evaluation.late(name, &planned, &mut problems));
    }
    let outputs = evaluation.outputs(&planned, &mut problems);
    problems.finish()?;

    let parameters = template
        .parameters
        .iter()
        .map(|(name, parameter)| ParameterValue {
            name: name.clone(),
            value: given.get(name).or(parameter.default.as_ref()).cloned().unwrap_or_default(),
            no_echo: parameter.no_echo,
        })
        .collect();
    let mut plan = Plan { changes: Vec::new(), steps: Vec::new(), cleanup: Vec::new(), outputs, parameters };
    plan.compare(planned, late, current);
    Ok(plan)
}

/// Why a resource can not take the place of one of the same name.
pub(crate) fn same_name(physical_id: &str) -> String {
    format!(
        "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename {physical_id} and \
         update the stack again."
    )
}

/// The properties that are set when a resource is made.
pub(crate) fn early_properties(properties: &Properties, late: &[&str]) -> Properties {
    let early = properties.iter().filter(|(key, _)| !late.contains(&key.as_str()));
    early.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn only_late(properties: &Properties, late: &[&str]) -> Properties {
    let some = properties.iter().filter(|(key, _)| late.contains(&key.as_str()));
    some.map(|(key, value)| (key.clone(), value.clone())).collect()
}

struct Context<'a> {
    template: &'a Template,
    wanted: &'a IndexSet<&'a str>,
    conditions: &'a IndexMap<String, bool>,
}

impl<'a> Context<'a> {
    /// What `name` needs: with or without what only its late properties refer to.
    fn dependencies(&self, name: &str, late: bool) -> IndexSet<&'a str> {
        let resource = &self.template.resources[name];
        let skip = match resources::find(&resource.type_name) {
            Some(kind) if !late => kind.late,
            _ => &[],
        };
        let mut found = IndexSet::new();
        found.extend(resource.depends_on.iter().map(String::as_str));
        if late {
            found.extend(resource.late_depends_on.iter().map(String::as_str));
        }
        for (key, value) in resource.properties.as_map().into_iter().flatten() {
            if !skip.contains(&key.as_str()) {
                self.collect(value, &mut found);
            }
        }
        found.retain(|other| self.wanted.contains(other) && *other != name);
        found
    }

    fn collect(&self, node: &'a Node, found: &mut IndexSet<&'a str>) {
        // Of an `Fn::If`, only the branch that is taken counts.
        if let Some(("Fn::If", argument)) = node.intrinsic()
            && let Some([condition, yes, no]) = argument.as_list()
        {
            let holds = condition.as_str().and_then(|c| self.conditions.get(c)).copied().unwrap_or(false);
            return self.collect(if holds { yes } else { no }, found);
        }
        match &node.value {
            Value::List(items) if node.intrinsic().is_none() => {
                items.iter().for_each(|item| self.collect(item, found));
            }
            Value::Map(map) if node.intrinsic().is_none() => {
                map.values().for_each(|value| self.collect(value, found));
            }
            _ => {
                intrinsics::references(node, &mut Problems::default(), &mut |reference, _| match reference {
                    Reference::Name(name) | Reference::Attribute(name, _) => {
                        found.insert(name);
                    }
                    Reference::Condition(_) | Reference::Mapping(_) => {}
                })
            }
        }
    }

    /// Dependencies before dependents, otherwise in the template's order.
    fn order(&self, problems: &mut Problems) -> Vec<&'a str> {
        let wanted: Vec<&'a str> =
            self.template.resources.keys().map(String::as_str).filter(|n| self.wanted.contains(n)).collect();
        let needs: IndexMap<_, _> =
            wanted.iter().map(|name| (*name, self.dependencies(name, false))).collect();
        let mut order: IndexSet<&'a str> = IndexSet::new();
        while order.len() < wanted.len() {
            let ready =
                |name: &&str| !order.contains(*name) && needs[*name].iter().all(|need| order.contains(need));
            let Some(next) = wanted.iter().copied().find(ready) else {
                let mut stuck: Vec<&str> =
                    wanted.iter().copied().filter(|name| !order.contains(name)).collect();
                // Those that merely wait for the circle are not in it.
                while let Some(at) = stuck.iter().position(|a| !stuck.iter().any(|b| needs[b].contains(a))) {
                    stuck.remove(at);
                }
                let at = stuck.first().map(|name| self.template.resources[*name].at).unwrap_or_default();
                problems.add(at, format!("Circular dependency between resources: [{}]", stuck.join(", ")));
                break;
            };
            order.insert(next);
        }
        order.into_iter().collect()
    }
}

impl Plan {
    fn compare(
        &mut self,
        planned: IndexMap<String, Resource>,
        mut late: IndexMap<String, Properties>,
        current: &IndexMap<String, Resource>,
    ) {
        let names: IndexSet<String> = planned.keys().cloned().collect();
        let mut gone = IndexMap::new();
        let mut configure = Vec::new();
        for (name, mut to) in planned {
            let Some(kind) = resources::find(&to.type_name) else { continue };
            let previous = current.get(&name).filter(|r| r.type_name == to.type_name);
            let old_late = previous.map(|p| only_late(&p.properties, kind.late)).unwrap_or_default();
            let new_late = late.shift_remove(&name).unwrap_or_default();
            let mut from = previous.cloned();
            if let Some(from) = &mut from {
                from.properties = early_properties(&from.properties, kind.late);
            }
            let changed = from.as_ref().map(|from| kind.difference(&from.properties, &to.properties));
            let changed = changed.unwrap_or_default();
            let replaced = from.as_ref().is_some_and(|from| from.physical_id != to.physical_id);
            let mut shown: Vec<(String, bool)> = changed
                .iter()
                .map(|(name, update)| ((*name).to_owned(), *update == Update::Replace))
                .collect();
            let late_changed = kind.late.iter().filter(|key| old_late.get(**key) != new_late.get(**key));
            shown.extend(late_changed.map(|key| ((*key).to_owned(), false)));
            // What it is set to before it is configured: a resource just made has no late properties.
            let base = if from.is_none() || replaced { Properties::new() } else { old_late.clone() };
            if base != new_late {
                let action = Action::Configure { from: base.clone(), to: new_late };
                configure.push(Step { logical_id: name.clone(), action });
            }
            to.properties.extend(base);
            let action = match from {
                None => {
                    self.change(ChangeAction::Add, &name, &to, None, false, Vec::new());
                    if let Some(other) = current.get(&name) {
                        gone.insert(name.clone(), other.clone());
                    }
                    Action::Create { to }
                }
                Some(mut from) => {
                    from.properties.extend(old_late);
                    let physical_id = Some(from.physical_id.clone());
                    if !shown.is_empty() {
                        self.change(ChangeAction::Modify, &name, &to, physical_id, replaced, shown);
                    }
                    if replaced {
                        gone.insert(name.clone(), from.clone());
                        Action::Replace { from, to }
                    } else if changed.is_empty() {
                        to.status.clone_from(&from.status);
                        to.updated_at = from.updated_at;
                        to.reason.clone_from(&from.reason);
                        if from == to {
                            continue;
                        }
                        Action::Note { from, to }
                    } else {
                        Action::Update { from, to }
                    }
                }
            };
            self.steps.push(Step { logical_id: name, action });
        }
        for (name, resource) in current.iter().filter(|(name, _)| !names.contains(*name)) {
            let physical_id = Some(resource.physical_id.clone());
            self.change(ChangeAction::Remove, name, resource, physical_id, false, Vec::new());
            gone.insert(name.clone(), resource.clone());
        }
        self.steps.extend(configure);
        self.cleanup = deletions(&gone, |name, resource| {
            let replaced = names.contains(name);
            let policy = if replaced { resource.update_replace_policy } else { resource.deletion_policy };
            policy != Disposal::Delete
        });
    }

    fn change(
        &mut self,
        action: ChangeAction,
        name: &str,
        resource: &Resource,
        physical_id: Option<String>,
        replacement: bool,
        properties: Vec<(String, bool)>,
    ) {
        self.changes.push(Change {
            action,
            logical_id: name.to_owned(),
            physical_id,
            type_name: resource.type_name.clone(),
            replacement,
            properties,
        });
    }
}

/// Deletions of `resources`: what depends on another before it, what was made last first.
pub(crate) fn deletions(
    resources: &IndexMap<String, Resource>,
    retain: impl Fn(&str, &Resource) -> bool,
) -> Vec<Step> {
    let mut left: Vec<&String> = resources.keys().rev().collect();
    let mut steps = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let needed = |name: &str| {
            left.iter()
                .any(|other| *other != name && resources[*other].dependencies.iter().any(|d| d == name))
        };
        // In a circle (through late properties) the one made last goes first.
        let at = left.iter().position(|name| !needed(name)).unwrap_or(0);
        let name = left.remove(at);
        let from = resources[name].clone();
        let retain = retain(name, &from);
        steps.push(Step { logical_id: name.clone(), action: Action::Delete { from, retain } });
    }
    steps
}
