//! What `AutoPublishAlias` and `FunctionUrlConfig` of a SAM function stand for: a version for each change of its
//! code, an alias that leads to the newest, and an address.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::known::{Found, Values, is_plain};
use super::logical_id;
use super::references::Names;
use crate::template::{At, Disposal, Node, Problems, Template, Value};

/// An alias that leads to the version published last.
pub(super) struct Alias {
    /// Its logical id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
}

/// A generated resource.
pub(super) struct Generated {
    pub(super) id: String,
    pub(super) type_name: &'static str,
    pub(super) properties: IndexMap<String, Node>,
    pub(super) disposal: Disposal,
}

fn generated(id: String, type_name: &'static str, properties: IndexMap<String, Node>) -> Generated {
    Generated { id, type_name, properties, disposal: Disposal::Delete }
}

fn entry(name: &str, node: Node) -> (String, Node) {
    (name.to_owned(), node)
}

fn reference(id: &str, at: At) -> Node {
    Node::from_json(&json!({ "Ref": id }), at)
}

/// The version and the alias of `function`, whose Lambda properties are `lambda`.
pub(super) fn alias(
    function: &str,
    given: &IndexMap<String, Node>,
    lambda: &mut IndexMap<String, Node>,
    template: &Template,
    values: &Values<'_>,
    names: &mut Names,
    problems: &mut Problems,
) -> Option<(Alias, Vec<Generated>)> {
    let Some(named) = given.get("AutoPublishAlias") else {
        let without = [
            "ProvisionedConcurrencyConfig",
            "VersionDescription",
            "VersionDeletionPolicy",
            "AutoPublishCodeSha256",
        ];
        for key in without {
            if let Some(node) = given.get(key) {
                problems.add(node.at, format!("`{key}` of `{function}` needs an AutoPublishAlias"));
            }
        }
        return None;
    };
    let at = named.at;
    let found = values.of(named, problems);
    if found == Found::Nothing {
        return None;
    }
    let word = |text: &&str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !text.is_empty() && text.bytes().all(allowed) && !text.bytes().all(|b| b.is_ascii_digit())
    };
    let name = match &found {
        Found::Value(name) => {
            name.as_str().filter(word).ok_or("must be a name of letters, digits, `-` and `_`")
        }
        // What it is for is asked without a stack: any name does.
        Found::Unsaid => Ok("live"),
        Found::Nothing | Found::Later => {
            Err("is not known before the stack is made, and the ids of what it generates follow from it")
        }
    };
    let name = match name {
        Ok(name) => name,
        Err(why) => {
            problems.add(at, format!("AutoPublishAlias of `{function}` {why}"));
            return None;
        }
    };
    let version_id = version_id(function, given, lambda, template, values, problems)?;
    let hash = given.get("AutoPublishCodeSha256");
    if let Some(hash) = hash.filter(|hash| values.of(hash, problems) != Found::Nothing) {
        // Lambda publishes nothing if nothing has changed; the same code under another hash is to be published.
        let description = match lambda.get("Description") {
            Some(text) => {
                let parts = Node::list(vec![text.clone(), hash.clone()], hash.at);
                let join = Node::list(vec![Node::text(" ", hash.at), parts], hash.at);
                Node::map([("Fn::Join", join)], hash.at)
            }
            None => hash.clone(),
        };
        lambda.insert("Description".to_owned(), description);
    }
    let policy = given.get("VersionDeletionPolicy").map(|node| values.resolved(node));
    let disposal = match policy.as_ref().map(|node| (node.as_str(), node.at)) {
        None | Some((Some("Retain"), _)) => Disposal::Retain,
        Some((Some("Delete"), _)) => Disposal::Delete,
        // Without a stack a function may stand there.
        Some((None, _))
            if policy.as_ref().is_some_and(|node| node.intrinsic().is_some()) && values.is_for_none() =>
        {
            Disposal::Retain
        }
        Some((_, at)) => {
            problems.add(at, "VersionDeletionPolicy is Retain or Delete");
            Disposal::Retain
        }
    };
    let mut version = IndexMap::from([entry("FunctionName", reference(function, at))]);
    if let Some(description) = given.get("VersionDescription") {
        version.insert("Description".to_owned(), description.clone());
    }
    let number = json!({"Fn::GetAtt": [version_id, "Version"]});
    let mut properties = IndexMap::from([
        entry("Name", Node::text(name, at)),
        entry("FunctionName", reference(function, at)),
        entry("FunctionVersion", Node::from_json(&number, at)),
    ]);
    if let Some(config) = given.get("ProvisionedConcurrencyConfig") {
        properties.insert("ProvisionedConcurrencyConfig".to_owned(), config.clone());
    }
    let id = format!("{function}Alias{}", name.replace('-', "D").replace('_', "U"));
    names.insert(format!("{function}.Version"), version_id.clone());
    names.insert(format!("{function}.Alias"), id.clone());
    let resources = vec![
        Generated { disposal, ..generated(version_id, "AWS::Lambda::Version", version) },
        generated(id.clone(), "AWS::Lambda::Alias", properties),
    ];
    Some((Alias { id, name: name.to_owned() }, resources))
}

/// Another id for each change that is to be published.
fn version_id(
    function: &str,
    given: &IndexMap<String, Node>,
    lambda: &IndexMap<String, Node>,
    template: &Template,
    values: &Values<'_>,
    problems: &mut Problems,
) -> Option<String> {
    let prefix = format!("{function}Version");
    if let Some(node) = given.get("AutoPublishCodeSha256") {
        let is_hash = |hash: &&str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        match values.of(node, problems) {
            Found::Nothing => {}
            Found::Unsaid => return Some(logical_id::hashed(&prefix, &node.to_json())),
            Found::Value(hash) => {
                let hash = hash.as_str().filter(is_hash);
                if hash.is_none() {
                    let message = "AutoPublishCodeSha256 must be a SHA-256 in 64 hexadecimal digits";
                    problems.add(node.at, message);
                }
                return hash.map(|hash| logical_id::given(&prefix, hash));
            }
            Found::Later => {
                let message = format!(
                    "AutoPublishCodeSha256 of `{function}` is not known before the stack is made, and the id of the \
                     version follows from it"
                );
                problems.add(node.at, message);
                return None;
            }
        }
    }
    let lambda: IndexMap<_, _> =
        lambda.iter().map(|(key, node)| (key.clone(), values.resolved(node))).collect();
    let code = lambda.get("Code")?;
    if !is_plain(code) && !values.is_for_none() {
        problems.add(
            code.at,
            format!(
                "`{function}` is published when its code changes, which does not show where its place is not known \
                 before the stack is made; write the place out, make it of parameters, or give AutoPublishCodeSha256"
            ),
        );
        return None;
    }
    let all = given.get("AutoPublishAliasAllProperties");
    let all = all.map(|node| values.resolved(node)).as_ref().and_then(Node::scalar_text);
    let mut data = serde_json::Map::new();
    if all.as_deref() == Some("true") {
        data.extend(lambda.iter().map(|(key, node)| (key.clone(), node.to_json())));
        for layer in lambda.get("Layers").and_then(Node::as_list).into_iter().flatten() {
            let Some(("Ref", id)) = layer.intrinsic() else { continue };
            let id = id.as_str().unwrap_or_default();
            let properties = template.resources.get(id).map(|layer| &layer.properties);
            let publishes =
                properties.and_then(|p| p.get("PublishLambdaVersion")).and_then(Node::scalar_text);
            if publishes.as_deref() == Some("true") {
                data.insert(id.to_owned(), properties.map(Node::to_json).unwrap_or_default());
            }
        }
    } else {
        let maps = [Some(code), lambda.get("Environment")];
        for (key, node) in maps.into_iter().flatten().filter_map(Node::as_map).flatten() {
            data.insert(key.clone(), node.to_json());
        }
        if let Some(memory) = lambda.get("MemorySize") {
            data.insert("MemorySize".to_owned(), memory.to_json());
        }
    }
    Some(logical_id::hashed(&prefix, &Json::Object(data)))
}

/// The address of `function`, or of its alias, and who may use it.
pub(super) fn url(
    function: &str,
    config: &Node,
    alias: Option<&Alias>,
    problems: &mut Problems,
) -> Vec<Generated> {
    let at = config.at;
    let target = reference(alias.map_or(function, |alias| &alias.id), at);
    let mut properties = IndexMap::from([entry("TargetFunctionArn", target.clone())]);
    for (key, value) in config.as_map().into_iter().flatten() {
        match key.as_str() {
            "AuthType" | "Cors" | "InvokeMode" => {
                properties.insert(key.clone(), value.clone());
            }
            other => problems.add(value.at, format!("`{other}` is not a part of FunctionUrlConfig")),
        }
    }
    let open = config.get("AuthType").and_then(Node::as_str) == Some("NONE");
    let mut resources = vec![generated(format!("{function}Url"), "AWS::Lambda::Url", properties)];
    if open {
        let permission = |action: &str, condition: &str, value: Value| {
            IndexMap::from([
                entry("Action", Node::text(action, at)),
                entry("FunctionName", target.clone()),
                entry("Principal", Node::text("*", at)),
                entry(condition, Node::new(value, at)),
            ])
        };
        let by_url =
            permission("lambda:InvokeFunctionUrl", "FunctionUrlAuthType", Value::String("NONE".into()));
        let invoke = permission("lambda:InvokeFunction", "InvokedViaFunctionUrl", Value::Bool(true));
        let kind = "AWS::Lambda::Permission";
        resources.push(generated(format!("{function}UrlPublicPermissions"), kind, by_url));
        resources.push(generated(format!("{function}URLInvokeAllowPublicAccess"), kind, invoke));
    }
    resources
}
