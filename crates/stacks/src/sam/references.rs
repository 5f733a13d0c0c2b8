//! References to what SAM makes under other names: `!Ref Layer`, `!Ref Function.Alias`, `!Ref Function.Version`.

use indexmap::IndexMap;

use crate::template::intrinsics::renamed_sub;
use crate::template::{Node, Template, Value};

/// From what a template says to the logical id that it means.
pub(super) type Names = IndexMap<String, String>;

/// Has every reference of `template` mean the resources that there are.
pub(super) fn rename(template: &mut Template, names: &Names) {
    if names.is_empty() {
        return;
    }
    for resource in template.resources.values_mut() {
        node(&mut resource.properties, names);
        for other in resource.depends_on.iter_mut().chain(&mut resource.late_depends_on) {
            if let Some(name) = names.get(other) {
                other.clone_from(name);
            }
        }
    }
    for output in template.outputs.values_mut() {
        node(&mut output.value, names);
    }
}

fn node(target: &mut Node, names: &Names) {
    let intrinsic = target.intrinsic().map(|(name, _)| name.to_owned());
    match (intrinsic.as_deref(), &mut target.value) {
        (Some("Ref"), Value::Map(map)) => {
            if let Some(argument) = map.values_mut().next()
                && let Some(name) = argument.as_str().and_then(|name| names.get(name))
            {
                *argument = Node::text(name, argument.at);
            }
        }
        (Some("Fn::GetAtt"), Value::Map(map)) => {
            let Some(argument) = map.values_mut().next() else { return };
            let text = match &argument.value {
                Value::String(text) => text.clone(),
                Value::List(items) => items.iter().filter_map(Node::as_str).collect::<Vec<_>>().join("."),
                _ => return,
            };
            if let Some((resource, attribute)) = text.rsplit_once('.')
                && let Some(name) = names.get(resource)
            {
                let at = argument.at;
                *argument = Node::list(vec![Node::text(name, at), Node::text(attribute, at)], at);
            }
        }
        (Some("Fn::Sub"), Value::Map(map)) => {
            let Some(argument) = map.values_mut().next() else { return };
            match &mut argument.value {
                Value::String(text) => *text = renamed_sub(text, |name| renamed(name, names)),
                Value::List(items) => {
                    if let [text, variables] = items.as_mut_slice() {
                        node(variables, names);
                        if let Value::String(text) = &mut text.value {
                            let own = |name: &str| variables.get(name).is_some();
                            *text =
                                renamed_sub(text, |name| if own(name) { None } else { renamed(name, names) });
                        }
                    }
                }
                _ => {}
            }
        }
        (_, Value::List(items)) => items.iter_mut().for_each(|item| node(item, names)),
        (_, Value::Map(map)) => map.values_mut().for_each(|value| node(value, names)),
        _ => {}
    }
}

/// A variable of `Fn::Sub`, which may have an attribute.
fn renamed(variable: &str, names: &Names) -> Option<String> {
    if let Some(name) = names.get(variable) {
        return Some(name.clone());
    }
    let (resource, attribute) = variable.rsplit_once('.')?;
    names.get(resource).map(|name| format!("{name}.{attribute}"))
}
