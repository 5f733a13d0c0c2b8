//! What the transform `AWS::Serverless-2016-10-31` does: SAM resources become the ones that they stand for,
//! under the logical ids that SAM generates. `known` says what the values come to that those follow from.
//!
//! Source: the AWS SAM specification ("Generated CloudFormation resources") and the behaviour of
//! aws-sam-translator.

mod function;
mod known;
mod layer;
mod logical_id;
mod policies;
mod published;
mod references;

use indexmap::IndexMap;
use serde_json::json;

use crate::template::{Code, Node, Problems, Resource, Template, Value};
pub(crate) use known::For;
use known::Values;

/// Most that globals may come to, in all resources that they are copied to.
const MAX_GLOBALS: usize = 16 << 20;

/// Expands every SAM resource of `template`.
pub(crate) fn expand(
    template: &mut Template,
    globals: &IndexMap<String, Node>,
    code: Code,
    stack: Option<For<'_>>,
    problems: &mut Problems,
) {
    for (name, node) in globals {
        match name.as_str() {
            "Function" => {
                for (key, value) in node.as_map().into_iter().flatten() {
                    if !function::GLOBALS.contains(&key.as_str()) {
                        let message = format!("`{key}` is not supported in Globals of Function");
                        problems.add(value.at, message);
                    }
                }
            }
            other => problems.add(node.at, format!("Globals of `{other}` are not supported; Function is")),
        }
    }
    let empty = Node::map::<String>([], template.root.at);
    let function_globals = globals.get("Function").unwrap_or(&empty);
    // Every function gets its own copy of the globals.
    let copies = function_globals.weight().saturating_mul(template.resources.len());
    if copies > MAX_GLOBALS {
        let message = format!("the Globals come to more than {MAX_GLOBALS} bytes in all functions together");
        return problems.add(function_globals.at, message);
    }
    let values = Values::new(template, stack);
    let mut names = references::Names::new();
    for name in template.resources.keys().cloned().collect::<Vec<_>>() {
        let resource = &template.resources[&name];
        match resource.type_name.as_str() {
            "AWS::Serverless::Function" => {
                let mut resource = resource.clone();
                resource.properties = merge(function_globals, &resource.properties);
                function::expand(&name, resource, template, code, &values, &mut names, problems);
            }
            "AWS::Serverless::SimpleTable" => {
                let table = simple_table(&name, resource, problems);
                template.resources.insert(name, table);
            }
            _ => {}
        }
    }
    // After the functions, which look at what layers they use.
    for name in template.resources.keys().cloned().collect::<Vec<_>>() {
        if template.resources[&name].type_name == "AWS::Serverless::LayerVersion" {
            let layer = template.resources[&name].clone();
            layer::expand(&name, &layer, template, code, &values, &mut names, problems);
        }
    }
    references::rename(template, &names);
}

/// Globals under a resource's own properties: mappings merge, lists follow one another, the rest is replaced.
fn merge(global: &Node, own: &Node) -> Node {
    match (&global.value, &own.value) {
        (Value::Map(base), Value::Map(over)) if global.intrinsic().is_none() && own.intrinsic().is_none() => {
            let mut merged = base.clone();
            for (key, value) in over {
                let value = match base.get(key) {
                    Some(base) => merge(base, value),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Node::new(Value::Map(merged), own.at)
        }
        (Value::List(base), Value::List(over)) => {
            Node::list(base.iter().chain(over).cloned().collect(), own.at)
        }
        _ => own.clone(),
    }
}

/// For a check before packaging: a path in place of `Code`, or of a layer's `Content`, counts as code.
pub(crate) fn accept_local_code(properties: &mut Node, key: &str) {
    if let Value::Map(map) = &mut properties.value
        && let Some(code) = map.get_mut(key)
        && let Some(path) = code.as_str()
    {
        *code = Node::from_json(&json!({"S3Bucket": "local", "S3Key": path}), code.at);
    }
}

/// `{"a": "b"}` as CloudFormation writes tags.
fn tag_list(tags: Option<&Node>, created_by: bool) -> Option<Node> {
    let mut list = Vec::new();
    let at = tags.map(|t| t.at).unwrap_or_default();
    if created_by {
        list.push(Node::from_json(&json!({"Key": "lambda:createdBy", "Value": "SAM"}), at));
    }
    for (key, value) in tags.and_then(Node::as_map).into_iter().flatten() {
        list.push(Node::map([("Key", Node::text(key, value.at)), ("Value", value.clone())], value.at));
    }
    (!list.is_empty()).then(|| Node::list(list, at))
}

fn simple_table(name: &str, resource: &Resource, problems: &mut Problems) -> Resource {
    let at = resource.at;
    let properties = &resource.properties;
    for (key, value) in properties.as_map().into_iter().flatten() {
        let known = [
            "PointInTimeRecoverySpecification",
            "PrimaryKey",
            "ProvisionedThroughput",
            "SSESpecification",
            "TableName",
            "Tags",
        ];
        if !known.contains(&key.as_str()) {
            let message =
                format!("property `{key}` of AWS::Serverless::SimpleTable `{name}` is not supported");
            problems.add(value.at, message);
        }
    }
    let key = properties.get("PrimaryKey");
    let key_name = key.and_then(|k| k.get("Name")).cloned().unwrap_or_else(|| Node::text("id", at));
    let key_type = match key.and_then(|k| k.get("Type")).map(Node::as_str) {
        None | Some(Some("String")) => "S",
        Some(Some("Number")) => "N",
        Some(Some("Binary")) => "B",
        Some(_) => {
            problems.add(key.map_or(at, |k| k.at), "the Type of a PrimaryKey is String, Number or Binary");
            "S"
        }
    };
    let mut out = IndexMap::new();
    let pair = |kind: &str, value: &str| {
        let pair = [("AttributeName", key_name.clone()), (kind, Node::text(value, at))];
        Node::list(vec![Node::map(pair, at)], at)
    };
    out.insert("AttributeDefinitions".to_owned(), pair("AttributeType", key_type));
    out.insert("KeySchema".to_owned(), pair("KeyType", "HASH"));
    match properties.get("ProvisionedThroughput") {
        Some(throughput) => out.insert("ProvisionedThroughput".to_owned(), throughput.clone()),
        None => out.insert("BillingMode".to_owned(), Node::text("PAY_PER_REQUEST", at)),
    };
    for same in ["PointInTimeRecoverySpecification", "SSESpecification", "TableName"] {
        if let Some(value) = properties.get(same) {
            out.insert(same.to_owned(), value.clone());
        }
    }
    if let Some(tags) = tag_list(properties.get("Tags"), false) {
        out.insert("Tags".to_owned(), tags);
    }
    Resource {
        type_name: "AWS::DynamoDB::Table".to_owned(),
        properties: Node::new(Value::Map(out), at),
        ..resource.clone()
    }
}

#[cfg(test)]
mod tests;
