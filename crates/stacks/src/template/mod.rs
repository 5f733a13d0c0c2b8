//! Templates: reading them, and the parts they are made of.
//!
//! Invariant: whatever is not understood is a [`Problem`] with the line it stands on; reading goes on, so that
//! all of them are reported at once.

pub(crate) mod intrinsics;
mod node;
pub(crate) mod parameters;
mod yaml;

use indexmap::IndexMap;

use crate::sam::For;

pub use intrinsics::Pseudo;
use intrinsics::Reference;
pub use node::{At, Node, Problem, Problems, Value};
pub(crate) use node::{LATER, advice};
pub use parameters::{Parameter, ParameterType};

/// The transform that makes a template a SAM template.
pub(crate) const SERVERLESS: &str = "AWS::Serverless-2016-10-31";

/// What happens to a resource that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Disposal {
    /// It is deleted.
    #[default]
    Delete,
    /// It stays, out of the stack's hands.
    Retain,
    /// It stays, unless its stack never came about.
    RetainExceptOnCreate,
}

/// A resource as a template has it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Such as `AWS::S3::Bucket`.
    pub type_name: String,
    /// Where it begins.
    pub at: At,
    /// Its properties, a mapping.
    pub properties: Node,
    /// Resources that must exist before it, beyond those it refers to.
    pub depends_on: Vec<String>,
    /// Resources that must exist before its late properties are set, and go after it, beyond those that those
    /// refer to.
    pub late_depends_on: Vec<String>,
    /// It is made only if this condition holds.
    pub condition: Option<String>,
    /// When it leaves the stack.
    pub deletion_policy: Disposal,
    /// When another takes its place.
    pub update_replace_policy: Disposal,
}

/// An output as a template has it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) value: Node,
    pub(crate) description: Option<String>,
    pub(crate) condition: Option<String>,
}

/// A template, expanded: no SAM type is left in it.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its description.
    pub description: Option<String>,
    /// Whether it is a SAM template.
    pub serverless: bool,
    /// Its parameters.
    pub parameters: IndexMap<String, Parameter>,
    pub(crate) mappings: IndexMap<String, Node>,
    pub(crate) conditions: IndexMap<String, Node>,
    /// Its resources, those that SAM generates included.
    pub resources: IndexMap<String, Resource>,
    pub(crate) outputs: IndexMap<String, Output>,
    /// The whole, as it was written.
    pub root: Node,
}

/// How a template is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Code {
    /// Code must be in S3: the template is about to be deployed.
    #[default]
    Packaged,
    /// Code may be a path on the machine: the template is checked before it is packaged.
    Local,
}

const SECTIONS: &[&str] = &[
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Transform",
    "Globals",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
];

impl Template {
    /// Reads and expands a template, to look at it.
    pub fn read(text: &str, code: Code) -> Result<Self, Vec<Problem>> {
        Self::read_with(text, code, None)
    }

    /// Reads a template for a stack of these parameters: what SAM generates can depend on them.
    pub(crate) fn read_for(
        text: &str,
        code: Code,
        parameters: &IndexMap<String, String>,
        pseudo: &Pseudo,
    ) -> Result<Self, Vec<Problem>> {
        Self::read_with(text, code, Some(For { parameters, pseudo }))
    }

    fn read_with(text: &str, code: Code, stack: Option<For<'_>>) -> Result<Self, Vec<Problem>> {
        let root = yaml::read(text).map_err(|problem| {
            let message = format!("Template format error: {}", problem.message);
            vec![Problem { message, ..problem }]
        })?;
        let mut problems = Problems::default();
        let template = read_sections(root, code, stack, &mut problems);
        if let Some(template) = &template {
            template.check(&mut problems);
        }
        problems.finish()?;
        Ok(template.expect("no template comes with a problem"))
    }

    /// Checks every reference, and that types exist.
    fn check(&self, problems: &mut Problems) {
        for (name, resource) in &self.resources {
            let known = crate::resources::find(&resource.type_name);
            if known.is_none() {
                let message = format!(
                    "resource type `{}` of `{name}` is not supported; {}",
                    resource.type_name,
                    advice(&resource.type_name, crate::resources::names())
                );
                problems.add(resource.at, message);
            }
            for other in &resource.depends_on {
                if !self.resources.contains_key(other) {
                    problems.add(resource.at, format!("`{name}` depends on `{other}`, which does not exist"));
                }
            }
            if let Some(condition) = &resource.condition {
                self.check_reference(Reference::Condition(condition), resource.at, problems);
            }
            self.check_node(&resource.properties, problems);
        }
        for output in self.outputs.values() {
            if let Some(condition) = &output.condition {
                self.check_reference(Reference::Condition(condition), output.value.at, problems);
            }
            self.check_node(&output.value, problems);
        }
    }

    fn check_node(&self, node: &Node, problems: &mut Problems) {
        let mut found = Vec::new();
        intrinsics::references(node, problems, &mut |reference, at| found.push((reference, at)));
        for (reference, at) in found {
            self.check_reference(reference, at, problems);
        }
    }

    fn check_reference(&self, reference: Reference<'_>, at: At, problems: &mut Problems) {
        match reference {
            Reference::Name(name) => {
                let known = intrinsics::is_pseudo(name)
                    || self.parameters.contains_key(name)
                    || self.resources.contains_key(name);
                if !known {
                    let mut message =
                        format!("`{name}` is neither a parameter nor a resource of this template");
                    let names = self.parameters.keys().chain(self.resources.keys()).map(String::as_str);
                    let advice = advice(name, names);
                    if advice.starts_with("did") {
                        message.push_str(&format!("; {advice}"));
                    }
                    problems.add(at, message);
                }
            }
            Reference::Attribute(name, attribute) => match self.resources.get(name) {
                None => problems.add(at, format!("there is no resource `{name}` in this template")),
                Some(resource) => {
                    let Some(kind) = crate::resources::find(&resource.type_name) else { return };
                    if !kind.attributes.contains(&attribute) {
                        let known = match kind.attributes {
                            [] => "it has none; use Ref".to_owned(),
                            known => format!("supported: {}", known.join(", ")),
                        };
                        let type_name = &resource.type_name;
                        let message = format!("`{attribute}` is not an attribute of {type_name} ({known})");
                        problems.add(at, message);
                    }
                }
            },
            Reference::Condition(name) => {
                if !self.conditions.contains_key(name) {
                    problems.add(at, format!("there is no condition `{name}`"));
                }
            }
            Reference::Mapping(name) => {
                if !self.mappings.contains_key(name) {
                    problems.add(at, format!("there is no mapping `{name}`"));
                }
            }
        }
    }

    /// What must be acknowledged before it is deployed.
    pub fn capabilities(&self) -> (Vec<&'static str>, Vec<&str>) {
        let iam: Vec<_> =
            self.resources.iter().filter(|(_, r)| r.type_name.starts_with("AWS::IAM::")).collect();
        let named = |r: &Resource| {
            ["RoleName", "ManagedPolicyName"].iter().any(|name| r.properties.get(name).is_some())
        };
        let mut needed = Vec::new();
        if iam.iter().any(|(_, r)| named(r)) {
            needed.push("CAPABILITY_NAMED_IAM");
        } else if !iam.is_empty() {
            needed.push("CAPABILITY_IAM");
        }
        let mut types: Vec<_> = iam.iter().map(|(_, r)| r.type_name.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        (needed, types)
    }
}

/// Most entries of a section (AWS CloudFormation user guide, "Understand CloudFormation quotas").
fn quota(section: &str) -> usize {
    if section == "Resources" { 500 } else { 200 }
}

fn section(root: &Node, name: &str, problems: &mut Problems) -> IndexMap<String, Node> {
    match root.get(name) {
        None => IndexMap::new(),
        Some(node) => match &node.value {
            Value::Map(map) if map.len() > quota(name) => {
                let (count, most) = (map.len(), quota(name));
                let message = format!(
                    "Template format error: Number of {}, {count}, is greater than maximum allowed, {most}",
                    name.to_lowercase()
                );
                problems.add(node.at, message);
                IndexMap::new()
            }
            Value::Map(map) => map.clone(),
            Value::Null => IndexMap::new(),
            _ => {
                problems
                    .add(node.at, format!("the section {name} must be a mapping, and is {}", node.kind()));
                IndexMap::new()
            }
        },
    }
}

fn read_sections(
    root: Node,
    code: Code,
    stack: Option<For<'_>>,
    problems: &mut Problems,
) -> Option<Template> {
    let Some(map) = root.as_map() else {
        problems.add(root.at, "Template format error: a template is a mapping of sections");
        return None;
    };
    for (name, node) in map {
        if !SECTIONS.contains(&name.as_str()) {
            problems.add(node.at, format!("the section `{name}` is not supported"));
        }
    }
    if let Some(version) = map.get("AWSTemplateFormatVersion")
        && version.as_str() != Some("2010-09-09")
    {
        problems.add(version.at, "AWSTemplateFormatVersion must be \"2010-09-09\"");
    }
    let mut serverless = false;
    if let Some(node) = map.get("Transform") {
        let one = std::slice::from_ref(node);
        for transform in node.as_list().unwrap_or(one) {
            match transform.as_str() {
                Some(SERVERLESS) => serverless = true,
                other => {
                    let name = other.unwrap_or("?");
                    let message = format!("the transform `{name}` is not supported; {SERVERLESS} is");
                    problems.add(transform.at, message);
                }
            }
        }
    }
    let parameters = section(&root, "Parameters", problems)
        .iter()
        .filter_map(|(name, node)| Some((name.clone(), parameters::read(name, node, problems)?)))
        .collect();
    let outputs = section(&root, "Outputs", problems)
        .iter()
        .filter_map(|(name, node)| Some((name.clone(), read_output(name, node, problems)?)))
        .collect();
    let mut resources = IndexMap::new();
    for (name, node) in section(&root, "Resources", problems) {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            problems.add(node.at, format!("the logical id `{name}` must be letters and digits only"));
        }
        if let Some(resource) = read_resource(&name, &node, problems) {
            resources.insert(name, resource);
        }
    }
    if !map.contains_key("Resources") {
        problems.add(root.at, "Template format error: At least one Resources member must be defined.");
    }
    let globals = section(&root, "Globals", problems);
    let mut template = Template {
        description: map.get("Description").and_then(Node::scalar_text),
        serverless,
        parameters,
        mappings: section(&root, "Mappings", problems),
        conditions: section(&root, "Conditions", problems),
        resources,
        outputs,
        root: root.clone(),
    };
    if serverless {
        crate::sam::expand(&mut template, &globals, code, stack, problems);
    } else if let Some(node) = map.get("Globals") {
        problems.add(node.at, format!("Globals need `Transform: {SERVERLESS}`"));
    }
    for (name, resource) in &mut template.resources {
        if !serverless && resource.type_name.starts_with("AWS::Serverless::") {
            let message = format!("`{name}` is a SAM resource: the template needs `Transform: {SERVERLESS}`");
            problems.add(resource.at, message);
        }
        if code == Code::Local {
            match resource.type_name.as_str() {
                "AWS::Lambda::Function" => crate::sam::accept_local_code(&mut resource.properties, "Code"),
                "AWS::Lambda::LayerVersion" => {
                    crate::sam::accept_local_code(&mut resource.properties, "Content");
                }
                _ => {}
            }
        }
    }
    Some(template)
}

fn read_output(name: &str, node: &Node, problems: &mut Problems) -> Option<Output> {
    let map = node.as_map();
    for (key, value) in map.into_iter().flatten() {
        match key.as_str() {
            "Value" | "Description" | "Condition" => {}
            "Export" => problems.add(
                value.at,
                format!("output `{name}`: Export is not supported; pass the value to the other stack as a parameter"),
            ),
            other => problems.add(value.at, format!("`{other}` is not an attribute of an output")),
        }
    }
    match map.and_then(|map| map.get("Value")) {
        Some(value) => Some(Output {
            value: value.clone(),
            description: node.get("Description").and_then(Node::scalar_text),
            condition: node.get("Condition").and_then(Node::scalar_text),
        }),
        None => {
            problems.add(node.at, format!("output `{name}` needs a Value"));
            None
        }
    }
}

fn read_resource(name: &str, node: &Node, problems: &mut Problems) -> Option<Resource> {
    let Some(map) = node.as_map() else {
        problems.add(node.at, format!("resource `{name}` must be a mapping"));
        return None;
    };
    let Some(type_name) = map.get("Type").and_then(Node::as_str) else {
        problems.add(node.at, format!("resource `{name}` needs a Type"));
        return None;
    };
    let mut resource = Resource {
        type_name: type_name.to_owned(),
        at: map.get("Type").map_or(node.at, |n| n.at),
        properties: Node::map::<String>([], node.at),
        depends_on: Vec::new(),
        late_depends_on: Vec::new(),
        condition: None,
        deletion_policy: Disposal::Delete,
        update_replace_policy: Disposal::Delete,
    };
    for (key, value) in map {
        match key.as_str() {
            // What they say is for people and tools.
            "Type" | "Metadata" | "Description" => {}
            "Properties" => match &value.value {
                Value::Map(_) if value.intrinsic().is_none() => resource.properties = value.clone(),
                Value::Null => {}
                _ => problems.add(value.at, format!("the properties of `{name}` must be a mapping")),
            },
            "DependsOn" => match &value.value {
                Value::String(other) => resource.depends_on.push(other.clone()),
                Value::List(items) if items.iter().all(|i| i.as_str().is_some()) => {
                    resource.depends_on.extend(items.iter().filter_map(Node::as_str).map(str::to_owned));
                }
                _ => problems.add(value.at, "DependsOn needs a logical id or a list of them"),
            },
            "Condition" => resource.condition = value.scalar_text(),
            "DeletionPolicy" | "UpdateReplacePolicy" => {
                let policy = match value.as_str() {
                    Some("Delete") => Disposal::Delete,
                    Some("Retain") => Disposal::Retain,
                    Some("RetainExceptOnCreate") if key == "DeletionPolicy" => Disposal::RetainExceptOnCreate,
                    other => {
                        let given = other.unwrap_or("?");
                        problems
                            .add(value.at, format!("{key} `{given}` is not supported; use Delete or Retain"));
                        continue;
                    }
                };
                if key == "DeletionPolicy" {
                    resource.deletion_policy = policy;
                } else {
                    resource.update_replace_policy = policy;
                }
            }
            other => problems.add(value.at, format!("`{other}` of resource `{name}` is not supported")),
        }
    }
    Some(resource)
}

/// Code that a template takes from the machine: what packaging must upload, and where to write the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCode {
    /// The function's or layer's logical id; `Globals` if several functions share it.
    pub logical_id: String,
    /// The path as written, relative to the template.
    pub path: String,
    /// The function's runtime, if the template says it plainly.
    pub runtime: Option<String>,
    /// How SAM is to build it (`BuildMethod` of its metadata), if SAM has not done so.
    pub build_method: Option<String>,
    /// Where the path stands in the text: characters, quotes included.
    pub span: (usize, usize),
    /// Where it stands.
    pub at: At,
    /// The property is `Code` of a Lambda function or `Content` of a layer, which take a mapping, not a URI.
    pub as_mapping: bool,
}

/// The code that a template takes from the machine. Templates that can not be read have none.
pub fn local_code(text: &str) -> Vec<LocalCode> {
    let Ok(root) = yaml::read(text) else { return Vec::new() };
    let globals = root.get("Globals").and_then(|g| g.get("Function"));
    let default_runtime = globals.and_then(|g| g.get("Runtime")).and_then(Node::as_str);
    let mut found = Vec::new();
    let mut add =
        |logical_id: &str, node: Option<&Node>, of: Option<&Node>, runtime: Option<&str>, as_mapping| {
            let Some((node, path, span)) = node.and_then(|n| Some((n, n.as_str()?, n.span?))) else { return };
            if !path.starts_with("s3://") {
                found.push(LocalCode {
                    logical_id: logical_id.to_owned(),
                    path: path.to_owned(),
                    runtime: runtime.map(str::to_owned),
                    build_method: of.and_then(build_method),
                    span,
                    at: node.at,
                    as_mapping,
                });
            }
        };
    add("Globals", globals.and_then(|g| g.get("CodeUri")), None, default_runtime, false);
    for (name, resource) in root.get("Resources").and_then(Node::as_map).into_iter().flatten() {
        let Some(properties) = resource.get("Properties") else { continue };
        let runtime = properties.get("Runtime").and_then(Node::as_str);
        match resource.get("Type").and_then(Node::as_str) {
            Some("AWS::Serverless::Function") => {
                add(name, properties.get("CodeUri"), Some(resource), runtime.or(default_runtime), false);
            }
            Some("AWS::Serverless::LayerVersion") => {
                add(name, properties.get("ContentUri"), Some(resource), None, false);
            }
            Some("AWS::Lambda::Function") => add(name, properties.get("Code"), Some(resource), runtime, true),
            Some("AWS::Lambda::LayerVersion") => {
                add(name, properties.get("Content"), Some(resource), None, true);
            }
            _ => {}
        }
    }
    found
}

/// How SAM is to build a resource's code: what it has built says whose it is.
fn build_method(resource: &Node) -> Option<String> {
    let metadata = resource.get("Metadata").filter(|metadata| metadata.get("SamResourceId").is_none())?;
    metadata.get("BuildMethod").and_then(Node::as_str).map(str::to_owned)
}

/// A YAML or JSON document as JSON: for files that are not templates.
pub fn to_json(text: &str) -> Result<serde_json::Value, Problem> {
    yaml::read(text).map(|node| node.to_json())
}

#[cfg(test)]
mod tests;
