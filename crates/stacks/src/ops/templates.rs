//! Looking at templates.

use aws::Response;
use aws::xml::Xml;
use serde_json::{Map, Value as Json, json};

use super::input::TemplateSource;
use super::{At, wire};
use crate::Error;
use crate::tables::Source;
use crate::template::{Code, Pseudo, SERVERLESS, Template, Value};

impl At {
    pub(super) async fn get_template(
        &self,
        stack: Option<&str>,
        change_set: Option<&str>,
        original: bool,
    ) -> Result<Response, Error> {
        let (source, name, id) = match (change_set, stack) {
            (Some(set), stack) => {
                let set = self.change_set(set, stack).await?;
                (set.source, set.stack_name, set.stack_id)
            }
            (None, Some(stack)) => {
                let stack = self.find(stack).await?;
                (stack.source, stack.name, stack.id)
            }
            (None, None) => {
                let message = "StackName is required if ChangeSetName is not specified.";
                return Err(Error::Validation(message.to_owned()));
            }
        };
        let body = if original { source.template } else { processed(source, &self.pseudo(&name, &id))? };
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.text("TemplateBody", &body);
            let stages = ["Original".to_owned(), "Processed".to_owned()];
            wire::texts(xml, "StagesAvailable", &stages);
        }))
    }

    pub(super) async fn template_summary(
        &self,
        stack: Option<&str>,
        source: Option<TemplateSource>,
    ) -> Result<Response, Error> {
        let text = match (stack, &source) {
            (Some(stack), None) => self.find(stack).await?.source.template,
            (None, Some(source)) => self.template_text(source, None).await?,
            _ => {
                let message = "Exactly one of StackName, TemplateBody and TemplateURL must be specified.";
                return Err(Error::Validation(message.to_owned()));
            }
        };
        // Not expanded to be deployed: code may still be on a machine.
        let template = Template::read(&text, Code::Local).map_err(Error::Template)?;
        let mut types: Vec<_> = declared_types(&template);
        types.dedup();
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            parameters(xml, &template);
            xml.optional("Description", template.description.as_ref());
            capabilities(xml, &template);
            wire::texts(xml, "ResourceTypes", &types);
            xml.text("Version", "2010-09-09");
            let metadata = template.root.get("Metadata").map(|m| m.to_json().to_string());
            xml.optional("Metadata", metadata);
        }))
    }

    pub(super) async fn validate_template(&self, source: TemplateSource) -> Result<Response, Error> {
        let text = self.template_text(&source, None).await?;
        let template = Template::read(&text, Code::Local).map_err(Error::Template)?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            parameters(xml, &template);
            xml.optional("Description", template.description.as_ref());
            capabilities(xml, &template);
        }))
    }
}

/// The types as the template writes them.
fn declared_types(template: &Template) -> Vec<String> {
    let resources = template.root.get("Resources").and_then(|r| r.as_map()).into_iter().flatten();
    let types = resources.filter_map(|(_, node)| Some(node.get("Type")?.as_str()?.to_owned()));
    let mut types: Vec<_> = types.collect();
    types.sort();
    types
}

fn parameters(xml: &mut Xml, template: &Template) {
    xml.list("Parameters", &template.parameters, |xml, (name, parameter)| {
        xml.text("ParameterKey", name);
        xml.optional("DefaultValue", parameter.default.as_ref());
        xml.text("ParameterType", &parameter.type_name);
        xml.value("NoEcho", parameter.no_echo);
        xml.optional("Description", parameter.description.as_ref());
    });
}

fn capabilities(xml: &mut Xml, template: &Template) {
    let (needed, types) = template.capabilities();
    let mut needed: Vec<_> = needed.into_iter().map(str::to_owned).collect();
    let mut reason = (!needed.is_empty()).then(|| {
        let types = types.join(", ");
        format!("The following resource(s) require capabilities: [{types}]")
    });
    if template.serverless {
        needed.push("CAPABILITY_AUTO_EXPAND".to_owned());
        reason.get_or_insert_with(|| format!("The transform {SERVERLESS} requires capabilities"));
    }
    wire::texts(xml, "Capabilities", &needed);
    xml.optional("CapabilitiesReason", reason);
    if template.serverless {
        wire::texts(xml, "DeclaredTransforms", &[SERVERLESS.to_owned()]);
    }
}

/// The template after its transform.
fn processed(source: Source, pseudo: &Pseudo) -> Result<String, Error> {
    let template = Template::read_for(&source.template, Code::Packaged, &source.given(), pseudo);
    let template = template.map_err(Error::Template)?;
    if !template.serverless {
        return Ok(source.template);
    }
    let mut out = Map::new();
    if let Value::Map(sections) = &template.root.value {
        for (name, node) in sections {
            if !["Transform", "Globals", "Resources"].contains(&name.as_str()) {
                out.insert(name.clone(), node.to_json());
            }
        }
    }
    let resources = template.resources.iter().map(|(name, resource)| {
        let mut one = json!({"Type": resource.type_name, "Properties": resource.properties.to_json()});
        if let Some(condition) = &resource.condition {
            one["Condition"] = json!(condition);
        }
        if !resource.depends_on.is_empty() {
            one["DependsOn"] = json!(resource.depends_on);
        }
        (name.clone(), one)
    });
    out.insert("Resources".to_owned(), Json::Object(resources.collect()));
    Ok(Json::Object(out).to_string())
}
