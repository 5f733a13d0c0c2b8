//! The API: reading requests, the rights they need, and which operation answers.
//!
//! Source: AWS CloudFormation API reference, version 2010-05-15.

mod change_sets;
mod describe;
mod input;
mod stacks;
mod templates;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use aws::query::Form;
use aws::{Access, Operation, Request, RequestContext, Response};
use types::ErrorKind;

use crate::tables::OnFailure;
use crate::{Error, Shared};
use input::{Deployment, TemplateSource};
pub(crate) use wire::NAMESPACE;

/// Largest request: a template of 51,200 bytes, form-encoded, and its parameters.
const MAX_BODY: usize = 1 << 20;

/// What is asked for.
pub(crate) enum Input {
    CreateStack {
        deployment: Deployment,
        on_failure: OnFailure,
        termination_protection: bool,
    },
    UpdateStack {
        deployment: Deployment,
    },
    DeleteStack {
        stack: String,
        retain: Vec<String>,
        token: Option<String>,
    },
    ContinueUpdateRollback {
        stack: String,
        skip: Vec<String>,
        token: Option<String>,
    },
    UpdateTerminationProtection {
        stack: String,
        on: bool,
    },
    CreateChangeSet {
        deployment: Deployment,
        name: String,
        description: Option<String>,
        creates: bool,
        on_failure: OnFailure,
    },
    DescribeChangeSet {
        name: String,
        stack: Option<String>,
    },
    ExecuteChangeSet {
        name: String,
        stack: Option<String>,
        token: Option<String>,
    },
    DeleteChangeSet {
        name: String,
        stack: Option<String>,
    },
    ListChangeSets {
        stack: String,
    },
    DescribeStacks {
        stack: Option<String>,
        next: Option<String>,
    },
    ListStacks {
        statuses: Vec<String>,
        next: Option<String>,
    },
    DescribeStackEvents {
        stack: String,
        next: Option<String>,
    },
    DescribeStackResources {
        stack: Option<String>,
        logical_id: Option<String>,
        physical_id: Option<String>,
    },
    DescribeStackResource {
        stack: String,
        logical_id: String,
    },
    ListStackResources {
        stack: String,
    },
    GetTemplate {
        stack: Option<String>,
        change_set: Option<String>,
        original: bool,
    },
    GetTemplateSummary {
        stack: Option<String>,
        source: Option<TemplateSource>,
    },
    ValidateTemplate {
        source: TemplateSource,
    },
}

/// A request, read.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) input: Input,
    pub(crate) shared: Arc<Shared>,
    pub(crate) context: RequestContext,
}

fn validation(message: impl Into<String>) -> aws::Error {
    Error::Validation(message.into()).into()
}

/// An empty list comes as an empty parameter.
fn no_empty_lists(form: &mut Form) -> Result<(), aws::Error> {
    for name in [
        "Capabilities",
        "NotificationARNs",
        "Parameters",
        "ResourcesToImport",
        "ResourcesToSkip",
        "RetainResources",
        "StackStatusFilter",
        "Tags",
    ] {
        if form.take(name).is_some_and(|text| !text.is_empty()) {
            return Err(validation(format!("{name} is a list: {name}.member.1")));
        }
    }
    Ok(())
}

/// Reads a request.
pub(crate) async fn parse(shared: Arc<Shared>, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
    let Request { head, body, context } = request;
    let bytes = aws::body::collect(body, MAX_BODY).await?;
    let mut form = if bytes.is_empty() {
        Form::parse(head.uri.query().unwrap_or_default().as_bytes())
    } else {
        Form::parse(&bytes)
    };
    no_empty_lists(&mut form)?;
    let action = form.require("Action")?;
    form.take("Version");
    let (name, input) = read(&action, &mut form)?;
    form.finish()?;
    Ok(Box::new(Call { name, input, shared, context }))
}

fn read(action: &str, form: &mut Form) -> Result<(&'static str, Input), aws::Error> {
    let token = |form: &mut Form| form.take("ClientRequestToken");
    Ok(match action {
        "CreateStack" => {
            let on_failure = input::on_failure(form, "OnFailure", true)?;
            let termination_protection = form.take_parsed("EnableTerminationProtection")?.unwrap_or(false);
            let deployment = Deployment::read(form)?;
            ("CreateStack", Input::CreateStack { deployment, on_failure, termination_protection })
        }
        "UpdateStack" => {
            input::only_false(form, "DisableRollback")?;
            ("UpdateStack", Input::UpdateStack { deployment: Deployment::read(form)? })
        }
        "DeleteStack" => {
            let input = Input::DeleteStack {
                stack: form.require("StackName")?,
                retain: form.take_list("RetainResources"),
                token: token(form),
            };
            ("DeleteStack", input)
        }
        "ContinueUpdateRollback" => {
            let input = Input::ContinueUpdateRollback {
                stack: form.require("StackName")?,
                skip: form.take_list("ResourcesToSkip"),
                token: token(form),
            };
            ("ContinueUpdateRollback", input)
        }
        "UpdateTerminationProtection" => {
            let on = form.take_parsed("EnableTerminationProtection")?;
            let on = on.ok_or_else(|| validation("EnableTerminationProtection is needed"))?;
            let input = Input::UpdateTerminationProtection { stack: form.require("StackName")?, on };
            ("UpdateTerminationProtection", input)
        }
        "CreateChangeSet" => {
            let creates = match form.take("ChangeSetType").as_deref() {
                Some("CREATE") => true,
                None | Some("UPDATE") => false,
                Some(other) => return Err(validation(format!("ChangeSetType {other} is not supported"))),
            };
            // There are no nested stacks, so that including them changes nothing.
            form.take_parsed::<bool>("IncludeNestedStacks")?;
            form.take("ClientToken");
            let input = Input::CreateChangeSet {
                name: form.require("ChangeSetName")?,
                description: form.take("Description"),
                creates,
                on_failure: input::on_failure(form, "OnStackFailure", creates)?,
                deployment: Deployment::read(form)?,
            };
            ("CreateChangeSet", input)
        }
        "DescribeChangeSet" => {
            let input = Input::DescribeChangeSet {
                name: form.require("ChangeSetName")?,
                stack: form.take("StackName"),
            };
            ("DescribeChangeSet", input)
        }
        "ExecuteChangeSet" => {
            input::only_false(form, "DisableRollback")?;
            input::only_false(form, "RetainExceptOnCreate")?;
            let input = Input::ExecuteChangeSet {
                name: form.require("ChangeSetName")?,
                stack: form.take("StackName"),
                token: token(form),
            };
            ("ExecuteChangeSet", input)
        }
        "DeleteChangeSet" => {
            let input = Input::DeleteChangeSet {
                name: form.require("ChangeSetName")?,
                stack: form.take("StackName"),
            };
            ("DeleteChangeSet", input)
        }
        "ListChangeSets" => ("ListChangeSets", Input::ListChangeSets { stack: form.require("StackName")? }),
        "DescribeStacks" => {
            let input = Input::DescribeStacks { stack: form.take("StackName"), next: form.take("NextToken") };
            ("DescribeStacks", input)
        }
        "ListStacks" => {
            let input = Input::ListStacks {
                statuses: form.take_list("StackStatusFilter"),
                next: form.take("NextToken"),
            };
            ("ListStacks", input)
        }
        "DescribeStackEvents" => {
            let input = Input::DescribeStackEvents {
                stack: form.require("StackName")?,
                next: form.take("NextToken"),
            };
            ("DescribeStackEvents", input)
        }
        "DescribeStackResources" => {
            let input = Input::DescribeStackResources {
                stack: form.take("StackName"),
                logical_id: form.take("LogicalResourceId"),
                physical_id: form.take("PhysicalResourceId"),
            };
            ("DescribeStackResources", input)
        }
        "DescribeStackResource" => {
            let input = Input::DescribeStackResource {
                stack: form.require("StackName")?,
                logical_id: form.require("LogicalResourceId")?,
            };
            ("DescribeStackResource", input)
        }
        "ListStackResources" => {
            ("ListStackResources", Input::ListStackResources { stack: form.require("StackName")? })
        }
        "GetTemplate" => {
            let original = match form.take("TemplateStage").as_deref() {
                None | Some("Processed") => false,
                Some("Original") => true,
                Some(other) => return Err(validation(format!("{other} is not a TemplateStage"))),
            };
            let (stack, change_set) = (form.take("StackName"), form.take("ChangeSetName"));
            ("GetTemplate", Input::GetTemplate { stack, change_set, original })
        }
        "GetTemplateSummary" => {
            let stack = form.take("StackName");
            let source = input::template_source(form, false)?;
            ("GetTemplateSummary", Input::GetTemplateSummary { stack, source })
        }
        "ValidateTemplate" => {
            let source = input::template_source(form, false)?;
            let source = source
                .ok_or_else(|| validation("Either Template URL or Template Body must be specified."))?;
            ("ValidateTemplate", Input::ValidateTemplate { source })
        }
        other => {
            let message = format!("The action {other} is not supported");
            return Err(aws::Error::new(ErrorKind::Unsupported, "InvalidAction", message).with_status(400));
        }
    })
}

impl Call {
    /// The ARN that policies see for a stack given by name or id.
    fn stack_arn(&self, stack: Option<&str>) -> String {
        match stack {
            Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
            Some(name) => {
                let (region, account) = (&self.context.region, self.context.caller.account);
                format!("arn:aws:cloudformation:{region}:{account}:stack/{name}/*")
            }
            None => "*".to_owned(),
        }
    }

    fn stack_of_request(&self) -> Option<&str> {
        match &self.input {
            Input::CreateStack { deployment, .. }
            | Input::UpdateStack { deployment }
            | Input::CreateChangeSet { deployment, .. } => Some(&deployment.stack),
            Input::DeleteStack { stack, .. }
            | Input::ContinueUpdateRollback { stack, .. }
            | Input::UpdateTerminationProtection { stack, .. }
            | Input::ListChangeSets { stack }
            | Input::DescribeStackEvents { stack, .. }
            | Input::DescribeStackResource { stack, .. }
            | Input::ListStackResources { stack } => Some(stack),
            Input::DescribeChangeSet { stack, name }
            | Input::ExecuteChangeSet { stack, name, .. }
            | Input::DeleteChangeSet { stack, name } => Some(stack.as_deref().unwrap_or(name)),
            Input::DescribeStacks { stack, .. }
            | Input::DescribeStackResources { stack, .. }
            | Input::GetTemplate { stack, .. }
            | Input::GetTemplateSummary { stack, .. } => stack.as_deref(),
            Input::ListStacks { .. } | Input::ValidateTemplate { .. } => None,
        }
    }
}

#[async_trait]
impl Operation for Call {
    fn name(&self) -> &'static str {
        self.name
    }

    fn access(&self) -> Vec<Access> {
        vec![Access::new(format!("cloudformation:{}", self.name), self.stack_arn(self.stack_of_request()))]
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Self { name, input, shared, context } = *self;
        let at = At { name, shared, context };
        let response = match input {
            Input::CreateStack { deployment, on_failure, termination_protection } => {
                Box::pin(at.create_stack(deployment, on_failure, termination_protection)).await
            }
            Input::UpdateStack { deployment } => Box::pin(at.update_stack(deployment)).await,
            Input::DeleteStack { stack, retain, token } => at.delete_stack(&stack, &retain, token).await,
            Input::ContinueUpdateRollback { stack, skip, token } => {
                at.continue_rollback(&stack, &skip, token).await
            }
            Input::UpdateTerminationProtection { stack, on } => at.protect(&stack, on).await,
            Input::CreateChangeSet { deployment, name, description, creates, on_failure } => {
                Box::pin(at.create_change_set(deployment, name, description, creates, on_failure)).await
            }
            Input::DescribeChangeSet { name, stack } => at.describe_change_set(&name, stack.as_deref()).await,
            Input::ExecuteChangeSet { name, stack, token } => {
                Box::pin(at.execute_change_set(&name, stack.as_deref(), token)).await
            }
            Input::DeleteChangeSet { name, stack } => at.delete_change_set(&name, stack.as_deref()).await,
            Input::ListChangeSets { stack } => at.list_change_sets(&stack).await,
            Input::DescribeStacks { stack, next } => at.describe_stacks(stack.as_deref(), next).await,
            Input::ListStacks { statuses, next } => at.list_stacks(&statuses, next).await,
            Input::DescribeStackEvents { stack, next } => at.describe_events(&stack, next).await,
            Input::DescribeStackResources { stack, logical_id, physical_id } => {
                at.describe_resources(stack.as_deref(), logical_id.as_deref(), physical_id.as_deref()).await
            }
            Input::DescribeStackResource { stack, logical_id } => {
                at.describe_resource(&stack, &logical_id).await
            }
            Input::ListStackResources { stack } => at.list_resources(&stack).await,
            Input::GetTemplate { stack, change_set, original } => {
                at.get_template(stack.as_deref(), change_set.as_deref(), original).await
            }
            Input::GetTemplateSummary { stack, source } => {
                at.template_summary(stack.as_deref(), source).await
            }
            Input::ValidateTemplate { source } => at.validate_template(source).await,
        };
        response.map_err(aws::Error::from)
    }
}

/// A request being handled.
pub(crate) struct At {
    pub(crate) name: &'static str,
    pub(crate) shared: Arc<Shared>,
    pub(crate) context: RequestContext,
}
