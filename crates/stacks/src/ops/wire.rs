//! Stacks, resources and events as XML.

use aws::Response;
use aws::xml::Xml;
use types::{RequestId, Timestamp};

use crate::plan::{Change, ChangeAction};
use crate::tables::{ChangeSet, Event, ParameterValue, Resource, Stack, StackStatus};

pub(crate) const NAMESPACE: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";

/// An answer.
pub(super) fn output(operation: &str, id: RequestId, result: &dyn Fn(&mut Xml)) -> Response {
    aws::query::output(operation, NAMESPACE, id, Some(result))
}

/// An answer of an operation that returns nothing.
pub(super) fn nothing(operation: &str, id: RequestId) -> Response {
    aws::query::output(operation, NAMESPACE, id, None)
}

/// As CloudFormation writes times.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(super) fn parameters(xml: &mut Xml, parameters: &[ParameterValue]) {
    xml.list("Parameters", parameters, |xml, parameter| {
        xml.text("ParameterKey", &parameter.name);
        xml.text("ParameterValue", if parameter.no_echo { crate::operate::HIDDEN } else { &parameter.value });
    });
}

pub(super) fn tags(xml: &mut Xml, tags: &[(String, String)]) {
    xml.list("Tags", tags, |xml, (key, value)| {
        xml.text("Key", key);
        xml.text("Value", value);
    });
}

pub(super) fn texts(xml: &mut Xml, name: &str, texts: &[String]) {
    xml.list(name, texts, |xml, text| xml.escape(text));
}

/// The source to show: that of an operation that may still succeed, else what the stack was made from.
fn shown(stack: &Stack) -> &crate::tables::Source {
    match &stack.operation {
        Some(operation) if !operation.target.template.is_empty() => &operation.target,
        _ => &stack.source,
    }
}

pub(super) fn stack(xml: &mut Xml, stack: &Stack) {
    let source = shown(stack);
    xml.text("StackId", &stack.id);
    xml.text("StackName", &stack.name);
    xml.optional("ChangeSetId", stack.change_set_id.as_ref());
    xml.optional("Description", source.description.as_ref());
    parameters(xml, &source.parameters);
    xml.text("CreationTime", &time(stack.created_at));
    xml.optional("LastUpdatedTime", stack.updated_at.map(time));
    xml.optional("DeletionTime", stack.deleted_at.map(time));
    xml.element("RollbackConfiguration", |_| {});
    xml.text("StackStatus", stack.status.as_str());
    xml.optional("StackStatusReason", stack.reason.as_ref());
    xml.text("DisableRollback", "false");
    xml.element("NotificationARNs", |_| {});
    texts(xml, "Capabilities", &source.capabilities);
    // As on AWS, a stack without outputs has no list of them, not an empty one.
    if !stack.source.outputs.is_empty() {
        xml.list("Outputs", &stack.source.outputs, |xml, output| {
            xml.text("OutputKey", &output.key);
            xml.text("OutputValue", &output.value);
            xml.optional("Description", output.description.as_ref());
        });
    }
    tags(xml, &source.tags);
    xml.value("EnableTerminationProtection", stack.termination_protection);
    xml.element("DriftInformation", |xml| xml.text("StackDriftStatus", "NOT_CHECKED"));
}

pub(super) fn stack_summary(xml: &mut Xml, stack: &Stack) {
    xml.text("StackId", &stack.id);
    xml.text("StackName", &stack.name);
    xml.optional("TemplateDescription", shown(stack).description.as_ref());
    xml.text("CreationTime", &time(stack.created_at));
    xml.optional("LastUpdatedTime", stack.updated_at.map(time));
    xml.optional("DeletionTime", stack.deleted_at.map(time));
    xml.text("StackStatus", stack.status.as_str());
    xml.optional("StackStatusReason", stack.reason.as_ref());
    xml.element("DriftInformation", |xml| xml.text("StackDriftStatus", "NOT_CHECKED"));
}

fn resource_core(xml: &mut Xml, logical_id: &str, resource: &Resource, timestamp: &str) {
    xml.text("LogicalResourceId", logical_id);
    xml.text("PhysicalResourceId", resource.shown_id());
    xml.text("ResourceType", &resource.type_name);
    xml.text(timestamp, &time(resource.updated_at));
    xml.text("ResourceStatus", &resource.status);
    xml.optional("ResourceStatusReason", resource.reason.as_ref());
    xml.element("DriftInformation", |xml| xml.text("StackResourceDriftStatus", "NOT_CHECKED"));
}

pub(super) fn resource(xml: &mut Xml, stack: &Stack, logical_id: &str, resource: &Resource) {
    xml.text("StackName", &stack.name);
    xml.text("StackId", &stack.id);
    resource_core(xml, logical_id, resource, "Timestamp");
}

pub(super) fn resource_detail(xml: &mut Xml, stack: &Stack, logical_id: &str, resource: &Resource) {
    xml.text("StackName", &stack.name);
    xml.text("StackId", &stack.id);
    resource_core(xml, logical_id, resource, "LastUpdatedTimestamp");
}

pub(super) fn resource_summary(xml: &mut Xml, logical_id: &str, resource: &Resource) {
    resource_core(xml, logical_id, resource, "LastUpdatedTimestamp");
}

pub(super) fn event(xml: &mut Xml, stack: &Stack, event: &Event) {
    xml.text("StackId", &stack.id);
    xml.text("EventId", &event.id);
    xml.text("StackName", &stack.name);
    xml.text("LogicalResourceId", &event.logical_id);
    xml.text("PhysicalResourceId", &event.physical_id);
    xml.text("ResourceType", &event.type_name);
    xml.text("Timestamp", &time(event.at));
    xml.text("ResourceStatus", &event.status);
    xml.optional("ResourceStatusReason", event.reason.as_ref());
    xml.optional("ResourceProperties", event.properties.as_ref());
    xml.optional("ClientRequestToken", event.token.as_ref());
}

fn execution_status(set: &ChangeSet) -> &'static str {
    if set.failure.is_none() { "AVAILABLE" } else { "UNAVAILABLE" }
}

fn set_status(set: &ChangeSet) -> &'static str {
    if set.failure.is_none() { StackStatus::CreateComplete.as_str() } else { "FAILED" }
}

fn change_set_core(xml: &mut Xml, set: &ChangeSet) {
    xml.text("ChangeSetName", &set.name);
    xml.text("ChangeSetId", &set.id);
    xml.text("StackId", &set.stack_id);
    xml.text("StackName", &set.stack_name);
    xml.optional("Description", set.description.as_ref());
    xml.text("CreationTime", &time(set.created_at));
    xml.text("ExecutionStatus", execution_status(set));
    xml.text("Status", set_status(set));
    xml.optional("StatusReason", set.failure.as_ref());
    xml.text("IncludeNestedStacks", "false");
}

pub(super) fn change_set_summary(xml: &mut Xml, set: &ChangeSet) {
    change_set_core(xml, set);
}

pub(super) fn change_set(xml: &mut Xml, set: &ChangeSet) {
    change_set_core(xml, set);
    parameters(xml, &set.source.parameters);
    xml.element("NotificationARNs", |_| {});
    xml.element("RollbackConfiguration", |_| {});
    texts(xml, "Capabilities", &set.source.capabilities);
    tags(xml, &set.source.tags);
    xml.list("Changes", &set.changes, |xml, one| {
        xml.text("Type", "Resource");
        xml.element("ResourceChange", |xml| change(xml, one));
    });
}

fn change(xml: &mut Xml, change: &Change) {
    let action = match change.action {
        ChangeAction::Add => "Add",
        ChangeAction::Modify => "Modify",
        ChangeAction::Remove => "Remove",
    };
    xml.text("Action", action);
    xml.text("LogicalResourceId", &change.logical_id);
    xml.optional("PhysicalResourceId", change.physical_id.as_ref());
    xml.text("ResourceType", &change.type_name);
    if change.action == ChangeAction::Modify {
        xml.text("Replacement", if change.replacement { "True" } else { "False" });
    }
    let scope: Vec<_> = if change.properties.is_empty() { Vec::new() } else { vec!["Properties".to_owned()] };
    texts(xml, "Scope", &scope);
    xml.list("Details", &change.properties, |xml, (name, replaces)| {
        xml.element("Target", |xml| {
            xml.text("Attribute", "Properties");
            xml.text("Name", name);
            xml.text("RequiresRecreation", if *replaces { "Always" } else { "Never" });
        });
        xml.text("Evaluation", "Static");
        xml.text("ChangeSource", "DirectModification");
    });
}
