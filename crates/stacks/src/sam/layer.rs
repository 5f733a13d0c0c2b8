//! `AWS::Serverless::LayerVersion`: a layer, a version of which is published for each change.

use indexmap::IndexMap;
use serde_json::json;

use super::function::location;
use super::known::Values;
use super::logical_id;
use super::references::Names;
use crate::template::{Code, Disposal, Node, Problems, Resource, Template, Value, advice};

const SAME: &[&str] =
    &["CompatibleArchitectures", "CompatibleRuntimes", "Description", "LayerName", "LicenseInfo"];
const OWN: &[&str] = &["ContentUri", "PublishLambdaVersion", "RetentionPolicy"];

/// Puts what `layer` stands for into `template`.
pub(super) fn expand(
    name: &str,
    layer: &Resource,
    template: &mut Template,
    code: Code,
    values: &Values<'_>,
    names: &mut Names,
    problems: &mut Problems,
) {
    let at = layer.at;
    let empty = IndexMap::new();
    let given = layer.properties.as_map().unwrap_or(&empty);
    for (key, value) in given {
        if !SAME.contains(&key.as_str()) && !OWN.contains(&key.as_str()) {
            let advice = advice(key, SAME.iter().chain(OWN).copied());
            let message = format!(
                "property `{key}` of AWS::Serverless::LayerVersion `{name}` is not supported; {advice}"
            );
            problems.add(value.at, message);
        }
    }
    let mut properties = IndexMap::new();
    match given.get("ContentUri") {
        Some(uri) => {
            if let Some(content) = location(name, "ContentUri", uri, code, values, problems) {
                properties.insert("Content".to_owned(), content);
            }
        }
        None => problems.add(at, format!("layer `{name}` needs ContentUri")),
    }
    for key in SAME {
        if let Some(value) = given.get(*key) {
            properties.insert((*key).to_owned(), value.clone());
        }
    }
    properties.entry("LayerName".to_owned()).or_insert_with(|| Node::text(name, at));
    let policy = given.get("RetentionPolicy");
    let deletion_policy = match policy.map(|node| node.as_str().unwrap_or_default().to_lowercase()).as_deref()
    {
        None | Some("retain") => Disposal::Retain,
        Some("delete") => Disposal::Delete,
        Some(_) => {
            problems.add(policy.map_or(at, |p| p.at), "RetentionPolicy is Retain or Delete");
            Disposal::Retain
        }
    };
    let data = json!({name: {
        "Type": "AWS::Serverless::LayerVersion",
        "Properties": values.resolved(&layer.properties).to_json(),
    }});
    let id = logical_id::hashed(name, &data);
    names.insert(name.to_owned(), id.clone());
    template.resources.shift_remove(name);
    let properties = Node::new(Value::Map(properties), layer.properties.at);
    let type_name = "AWS::Lambda::LayerVersion".to_owned();
    template.resources.insert(id, Resource { type_name, properties, deletion_policy, ..layer.clone() });
}
