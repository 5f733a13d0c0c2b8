//! The operations: what each needs to be allowed to do, and where it is done.

mod code;
mod concurrency;
mod create;
mod delete;
mod describe;
mod event_config;
mod invoke;
mod permissions;
mod settings;
mod tags;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Operation, RequestContext, Response};
use types::{AccountId, RequestId};

use crate::Error;
use crate::name::{FunctionName, function_arn};
use crate::service::Inner;
use crate::wire::input;

/// An operation with its input.
#[derive(Debug)]
pub(crate) enum Op {
    CreateFunction(FunctionName, Box<input::CreateFunction>),
    GetFunction(FunctionName),
    GetFunctionConfiguration(FunctionName),
    DownloadCode(FunctionName),
    ListFunctions { marker: Option<String>, limit: usize },
    ListVersionsByFunction { function: FunctionName, marker: Option<String>, limit: usize },
    ListAliases(FunctionName),
    GetFunctionCodeSigningConfig(FunctionName),
    UpdateFunctionCode(FunctionName, Box<input::UpdateFunctionCode>),
    UpdateFunctionConfiguration(FunctionName, Box<input::UpdateFunctionConfiguration>),
    DeleteFunction(FunctionName),
    Invoke(Box<input::Invoke>),
    PutFunctionConcurrency(FunctionName, i64),
    GetFunctionConcurrency(FunctionName),
    DeleteFunctionConcurrency(FunctionName),
    AddPermission(FunctionName, Box<input::AddPermission>),
    RemovePermission { function: FunctionName, statement: String, revision: Option<String> },
    GetPolicy(FunctionName),
    PutFunctionEventInvokeConfig { function: FunctionName, input: input::EventInvokeConfig, merge: bool },
    GetFunctionEventInvokeConfig(FunctionName),
    DeleteFunctionEventInvokeConfig(FunctionName),
    ListFunctionEventInvokeConfigs(FunctionName),
    TagResource(FunctionName, BTreeMap<String, String>),
    UntagResource(FunctionName, Vec<String>),
    ListTags(FunctionName),
    GetAccountSettings,
}

/// An operation of one request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) inner: Arc<Inner>,
    pub(crate) context: RequestContext,
    pub(crate) op: Op,
}

impl Call {
    fn account(&self) -> AccountId {
        self.context.caller.account
    }
}

/// A right to a function, and to the parts of a qualified one.
fn on(action: &'static str, arn: &str) -> Vec<Access> {
    vec![Access::new(action, arn)]
}

/// The right to hand a role to a function.
fn pass_role(role: &str) -> Access {
    Access::new("iam:PassRole", role).with("iam:PassedToService", vec!["lambda.amazonaws.com".to_owned()])
}

#[async_trait]
impl Operation for Call {
    fn name(&self) -> &'static str {
        match &self.op {
            Op::CreateFunction(..) => "CreateFunction",
            Op::GetFunction(_) | Op::DownloadCode(_) => "GetFunction",
            Op::GetFunctionConfiguration(_) => "GetFunctionConfiguration",
            Op::ListFunctions { .. } => "ListFunctions",
            Op::ListVersionsByFunction { .. } => "ListVersionsByFunction",
            Op::ListAliases(_) => "ListAliases",
            Op::GetFunctionCodeSigningConfig(_) => "GetFunctionCodeSigningConfig",
            Op::UpdateFunctionCode(..) => "UpdateFunctionCode",
            Op::UpdateFunctionConfiguration(..) => "UpdateFunctionConfiguration",
            Op::DeleteFunction(_) => "DeleteFunction",
            Op::Invoke(_) => "Invoke",
            Op::PutFunctionConcurrency(..) => "PutFunctionConcurrency",
            Op::GetFunctionConcurrency(_) => "GetFunctionConcurrency",
            Op::DeleteFunctionConcurrency(_) => "DeleteFunctionConcurrency",
            Op::AddPermission(..) => "AddPermission",
            Op::RemovePermission { .. } => "RemovePermission",
            Op::GetPolicy(_) => "GetPolicy",
            Op::PutFunctionEventInvokeConfig { merge: false, .. } => "PutFunctionEventInvokeConfig",
            Op::PutFunctionEventInvokeConfig { merge: true, .. } => "UpdateFunctionEventInvokeConfig",
            Op::GetFunctionEventInvokeConfig(_) => "GetFunctionEventInvokeConfig",
            Op::DeleteFunctionEventInvokeConfig(_) => "DeleteFunctionEventInvokeConfig",
            Op::ListFunctionEventInvokeConfigs(_) => "ListFunctionEventInvokeConfigs",
            Op::TagResource(..) => "TagResource",
            Op::UntagResource(..) => "UntagResource",
            Op::ListTags(_) => "ListTags",
            Op::GetAccountSettings => "GetAccountSettings",
        }
    }

    fn access(&self) -> Vec<Access> {
        let account = self.account();
        let plain = |function: &FunctionName| function_arn(account, &self.inner.region, &function.name);
        let qualified = |function: &FunctionName| function.arn(account, &self.inner.region);
        match &self.op {
            Op::CreateFunction(function, input) => {
                let arn = plain(function);
                let mut needs = on("lambda:CreateFunction", &arn);
                needs.push(pass_role(&input.role));
                if !input.tags.is_empty() {
                    needs.extend(on("lambda:TagResource", &arn));
                }
                needs
            }
            Op::GetFunction(f) | Op::DownloadCode(f) => on("lambda:GetFunction", &qualified(f)),
            Op::GetFunctionConfiguration(f) => on("lambda:GetFunctionConfiguration", &qualified(f)),
            Op::ListFunctions { .. } => on("lambda:ListFunctions", "*"),
            Op::ListVersionsByFunction { function, .. } => {
                on("lambda:ListVersionsByFunction", &plain(function))
            }
            Op::ListAliases(f) => on("lambda:ListAliases", &plain(f)),
            Op::GetFunctionCodeSigningConfig(f) => on("lambda:GetFunctionCodeSigningConfig", &plain(f)),
            Op::UpdateFunctionCode(f, _) => on("lambda:UpdateFunctionCode", &plain(f)),
            Op::UpdateFunctionConfiguration(f, input) => {
                let mut needs = on("lambda:UpdateFunctionConfiguration", &plain(f));
                needs.extend(input.role.as_deref().map(pass_role));
                needs
            }
            Op::DeleteFunction(f) => on("lambda:DeleteFunction", &qualified(f)),
            Op::Invoke(input) => on("lambda:InvokeFunction", &qualified(&input.function)),
            Op::PutFunctionConcurrency(f, _) => on("lambda:PutFunctionConcurrency", &plain(f)),
            Op::GetFunctionConcurrency(f) => on("lambda:GetFunctionConcurrency", &plain(f)),
            Op::DeleteFunctionConcurrency(f) => on("lambda:DeleteFunctionConcurrency", &plain(f)),
            Op::AddPermission(f, input) => {
                let principal = vec![input.principal.clone()];
                vec![Access::new("lambda:AddPermission", qualified(f)).with("lambda:Principal", principal)]
            }
            Op::RemovePermission { function, .. } => on("lambda:RemovePermission", &qualified(function)),
            Op::GetPolicy(f) => on("lambda:GetPolicy", &qualified(f)),
            Op::PutFunctionEventInvokeConfig { function, merge, .. } => {
                let action = if *merge {
                    "lambda:UpdateFunctionEventInvokeConfig"
                } else {
                    "lambda:PutFunctionEventInvokeConfig"
                };
                on(action, &qualified(function))
            }
            Op::GetFunctionEventInvokeConfig(f) => on("lambda:GetFunctionEventInvokeConfig", &qualified(f)),
            Op::DeleteFunctionEventInvokeConfig(f) => {
                on("lambda:DeleteFunctionEventInvokeConfig", &qualified(f))
            }
            Op::ListFunctionEventInvokeConfigs(f) => on("lambda:ListFunctionEventInvokeConfigs", &plain(f)),
            Op::TagResource(f, _) => on("lambda:TagResource", &plain(f)),
            Op::UntagResource(f, _) => on("lambda:UntagResource", &plain(f)),
            Op::ListTags(f) => on("lambda:ListTags", &plain(f)),
            Op::GetAccountSettings => on("lambda:GetAccountSettings", "*"),
        }
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Self { inner, context, op } = *self;
        let cx = Cx { account: context.caller.account, inner, context };
        match op {
            Op::CreateFunction(function, input) => cx.create_function(function, *input).await,
            Op::GetFunction(function) => Ok(cx.get_function(function).await?),
            Op::GetFunctionConfiguration(function) => Ok(cx.get_function_configuration(function).await?),
            Op::DownloadCode(function) => Ok(cx.download_code(function).await?),
            Op::ListFunctions { marker, limit } => Ok(cx.list_functions(marker, limit).await?),
            Op::ListVersionsByFunction { function, marker, limit } => {
                Ok(cx.list_versions(function, marker, limit).await?)
            }
            Op::ListAliases(function) => Ok(cx.list_aliases(function).await?),
            Op::GetFunctionCodeSigningConfig(function) => Ok(cx.get_code_signing_config(function).await?),
            Op::UpdateFunctionCode(function, input) => cx.update_function_code(function, *input).await,
            Op::UpdateFunctionConfiguration(function, input) => {
                Ok(cx.update_function_configuration(function, *input).await?)
            }
            Op::DeleteFunction(function) => Ok(cx.delete_function(function).await?),
            Op::Invoke(input) => Ok(cx.invoke(*input).await?),
            Op::PutFunctionConcurrency(function, reserved) => {
                Ok(cx.put_function_concurrency(function, reserved).await?)
            }
            Op::GetFunctionConcurrency(function) => Ok(cx.get_function_concurrency(function).await?),
            Op::DeleteFunctionConcurrency(function) => Ok(cx.delete_function_concurrency(function).await?),
            Op::AddPermission(function, input) => Ok(cx.add_permission(function, *input).await?),
            Op::RemovePermission { function, statement, revision } => {
                Ok(cx.remove_permission(function, statement, revision).await?)
            }
            Op::GetPolicy(function) => Ok(cx.get_policy(function).await?),
            Op::PutFunctionEventInvokeConfig { function, input, merge } => {
                Ok(cx.put_event_config(function, input, merge).await?)
            }
            Op::GetFunctionEventInvokeConfig(function) => Ok(cx.get_event_config(function).await?),
            Op::DeleteFunctionEventInvokeConfig(function) => Ok(cx.delete_event_config(function).await?),
            Op::ListFunctionEventInvokeConfigs(function) => Ok(cx.list_event_configs(function).await?),
            Op::TagResource(function, tags) => Ok(cx.tag(function, tags).await?),
            Op::UntagResource(function, keys) => Ok(cx.untag(function, keys).await?),
            Op::ListTags(function) => Ok(cx.list_tags(function).await?),
            Op::GetAccountSettings => Ok(cx.get_account_settings().await?),
        }
    }
}

/// What every operation has at hand.
pub(crate) struct Cx {
    inner: Arc<Inner>,
    account: AccountId,
    context: RequestContext,
}

impl Cx {
    fn arn(&self, name: &str) -> String {
        function_arn(self.account, &self.inner.region, name)
    }

    fn not_found(&self, name: &str) -> Error {
        Error::NotFound(format!("Function not found: {}", self.arn(name)))
    }

    fn fresh_id(&self) -> RequestId {
        RequestId::new(&*self.inner.env)
    }

    fn require_latest(&self, function: &FunctionName) -> Result<(), Error> {
        function.require_latest(self.account, &self.inner.region)
    }
}

/// Refuses a change whose author has seen another state.
fn check_revision(expected: Option<&str>, current: RequestId) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != current.to_string() => Err(Error::Revision),
        _ => Ok(()),
    }
}
