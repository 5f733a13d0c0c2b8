//! `Policies` of a SAM function: policy templates, managed policies, inline documents.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::template::{At, Node, Problems, Value, advice};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyTemplate {
    parameters: Vec<String>,
    statement: Json,
}

/// SAM's policy templates (AWS SAM developer guide, "SAM policy templates"), of the services that there are.
static TEMPLATES: LazyLock<BTreeMap<String, PolicyTemplate>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("policy_templates.json")).expect("the file is part of the build")
});

/// What `Policies` comes to.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) managed: Vec<Node>,
    pub(super) inline: Vec<Node>,
}

/// An entry of a role's `Policies`.
pub(super) fn inline(name: String, document: Node, at: At) -> Node {
    Node::map([("PolicyName", Node::text(name, at)), ("PolicyDocument", document)], at)
}

/// Reads `Policies` of the function `function`.
pub(super) fn read(function: &str, node: &Node, problems: &mut Problems) -> Policies {
    let mut out = Policies::default();
    let one = std::slice::from_ref(node);
    for (index, entry) in node.as_list().unwrap_or(one).iter().enumerate() {
        let name = || format!("{function}RolePolicy{index}");
        match &entry.value {
            Value::String(policy) if policy.starts_with("arn:") => out.managed.push(entry.clone()),
            Value::String(policy) => match TEMPLATES.get(policy) {
                Some(template) if template.parameters.is_empty() => {
                    out.inline.push(inline(
                        name(),
                        template.document(&Node::map::<String>([], entry.at), entry.at),
                        entry.at,
                    ));
                }
                Some(template) => {
                    let needs = template.parameters.join(", ");
                    problems.add(entry.at, format!("the policy template {policy} needs {needs}"));
                }
                None => out.managed.push(Node::text(managed_arn(policy), entry.at)),
            },
            Value::Map(_) if entry.intrinsic().is_some() => out.managed.push(entry.clone()),
            Value::Map(map) if map.contains_key("Statement") => {
                for (key, value) in map {
                    if !["Version", "Statement", "Id"].contains(&key.as_str()) {
                        problems.add(value.at, format!("`{key}` is not a part of a policy document"));
                    }
                }
                out.inline.push(inline(name(), entry.clone(), entry.at));
            }
            Value::Map(map) => match map.first().filter(|_| map.len() == 1) {
                Some((policy, arguments)) => match TEMPLATES.get(policy) {
                    Some(template) => {
                        // Without an argument the document would refer to nothing, which is no news.
                        if template.check(policy, arguments, problems) {
                            out.inline.push(inline(name(), template.document(arguments, entry.at), entry.at));
                        }
                    }
                    None => problems.add(
                        entry.at,
                        format!(
                            "there is no policy template `{policy}` here; {}",
                            advice(policy, TEMPLATES.keys().map(String::as_str))
                        ),
                    ),
                },
                None => problems.add(entry.at, "a policy is a name, an ARN, a policy template or a document"),
            },
            _ => problems.add(entry.at, "a policy is a name, an ARN, a policy template or a document"),
        }
    }
    out
}

/// AWS's managed policies for Lambda are under `service-role/`.
fn managed_arn(name: &str) -> String {
    let service_role = name.starts_with("AWSLambda") && (name.ends_with("Role") || name.ends_with("Policy"));
    let path = if service_role { "service-role/" } else { "" };
    format!("arn:aws:iam::aws:policy/{path}{name}")
}

impl PolicyTemplate {
    fn check(&self, name: &str, arguments: &Node, problems: &mut Problems) -> bool {
        let before = problems.count();
        let given = arguments.as_map();
        for parameter in &self.parameters {
            if !given.is_some_and(|map| map.contains_key(parameter)) {
                problems.add(arguments.at, format!("the policy template {name} needs `{parameter}`"));
            }
        }
        for (key, value) in given.into_iter().flatten() {
            if !self.parameters.contains(key) {
                problems.add(value.at, format!("the policy template {name} has no parameter `{key}`"));
            }
        }
        problems.count() == before
    }

    /// Its document, with arguments in place of references to its parameters.
    fn document(&self, arguments: &Node, at: At) -> Node {
        let statement = fill(&Node::from_json(&self.statement, at), arguments);
        Node::map([("Statement", statement)], at)
    }
}

fn fill(node: &Node, arguments: &Node) -> Node {
    if let Some(("Ref", name)) = node.intrinsic()
        && let Some(argument) = name.as_str().and_then(|name| arguments.get(name))
    {
        return argument.clone();
    }
    let value = match &node.value {
        Value::List(items) => Value::List(items.iter().map(|item| fill(item, arguments)).collect()),
        Value::Map(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), fill(v, arguments))).collect()),
        scalar => scalar.clone(),
    };
    Node::new(value, node.at)
}
