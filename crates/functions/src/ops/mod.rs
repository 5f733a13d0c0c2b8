//! The operations: what each needs to be allowed to do, and where it is done.

mod aliases;
mod code;
mod concurrency;
mod create;
mod delete;
mod describe;
mod event_config;
mod invoke;
pub(crate) mod layers;
mod mappings;
mod permissions;
mod provisioned;
mod pulled;
mod recursion;
mod settings;
mod stream;
mod tags;
mod update;
mod urls;
mod versions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Guard, Operation, RequestContext, Response};
use store::{Key, Write};
use types::{AccountId, RequestId};

use crate::Error;
use crate::name::{FunctionName, function_arn};
use crate::service::Inner;
use crate::tables::{
    ALIASES, EVENT_CONFIGS, FUNCTIONS, POLICIES, PROVISIONED, URLS, VERSIONS, by_name, by_number,
    by_qualifier,
};
use crate::wire::input;
use layers::LayerVersion;

/// A mapping, as a request names it.
#[derive(Debug)]
pub(crate) struct MappingId {
    pub(crate) id: String,
    /// The ARN of the function that it is for; `None` if there is no such mapping.
    pub(crate) function: Option<String>,
}

/// An operation with its input.
#[derive(Debug)]
pub(crate) enum Op {
    CreateFunction(FunctionName, Box<input::CreateFunction>),
    GetFunction(FunctionName),
    GetFunctionConfiguration(FunctionName),
    DownloadCode(FunctionName),
    ListFunctions {
        every_version: bool,
        marker: Option<String>,
        limit: usize,
    },
    ListVersionsByFunction {
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    },
    ListAliases {
        function: FunctionName,
        version: Option<String>,
        marker: Option<String>,
        limit: usize,
    },
    PublishVersion(FunctionName, input::PublishVersion),
    CreateAlias(FunctionName, input::Alias),
    UpdateAlias(FunctionName, String, input::Alias),
    GetAlias(FunctionName, String),
    DeleteAlias(FunctionName, String),
    PublishLayerVersion(String, Box<input::PublishLayerVersion>),
    GetLayerVersion {
        layer: LayerVersion,
        by_arn: bool,
    },
    DownloadLayer(LayerVersion),
    DeleteLayerVersion(LayerVersion),
    ListLayers {
        wanted: layers::Wanted,
        marker: Option<String>,
        limit: usize,
    },
    ListLayerVersions {
        name: String,
        wanted: layers::Wanted,
        marker: Option<String>,
        limit: usize,
    },
    AddLayerVersionPermission(LayerVersion, input::AddLayerVersionPermission, Option<String>),
    RemoveLayerVersionPermission {
        layer: LayerVersion,
        statement: String,
        revision: Option<String>,
    },
    GetLayerVersionPolicy(LayerVersion),
    CreateFunctionUrlConfig(FunctionName, input::FunctionUrlConfig),
    UpdateFunctionUrlConfig(FunctionName, input::FunctionUrlConfig),
    GetFunctionUrlConfig(FunctionName),
    DeleteFunctionUrlConfig(FunctionName),
    ListFunctionUrlConfigs {
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    },
    PutProvisionedConcurrencyConfig(FunctionName, i64),
    GetProvisionedConcurrencyConfig(FunctionName),
    DeleteProvisionedConcurrencyConfig(FunctionName),
    ListProvisionedConcurrencyConfigs {
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    },
    PutFunctionRecursionConfig(FunctionName, input::PutFunctionRecursionConfig),
    GetFunctionRecursionConfig(FunctionName),
    PutRuntimeManagementConfig(FunctionName, input::PutRuntimeManagementConfig),
    GetRuntimeManagementConfig(FunctionName),
    InvokeWithResponseStream(Box<input::Invoke>),
    GetFunctionCodeSigningConfig(FunctionName),
    UpdateFunctionCode(FunctionName, Box<input::UpdateFunctionCode>),
    UpdateFunctionConfiguration(FunctionName, Box<input::UpdateFunctionConfiguration>),
    DeleteFunction(FunctionName),
    Invoke(Box<input::Invoke>),
    PutFunctionConcurrency(FunctionName, i64),
    GetFunctionConcurrency(FunctionName),
    DeleteFunctionConcurrency(FunctionName),
    AddPermission(FunctionName, Box<input::AddPermission>),
    RemovePermission {
        function: FunctionName,
        statement: String,
        revision: Option<String>,
    },
    GetPolicy(FunctionName),
    PutFunctionEventInvokeConfig {
        function: FunctionName,
        input: input::EventInvokeConfig,
        merge: bool,
    },
    GetFunctionEventInvokeConfig(FunctionName),
    DeleteFunctionEventInvokeConfig(FunctionName),
    ListFunctionEventInvokeConfigs {
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    },
    CreateEventSourceMapping(FunctionName, Box<input::EventSourceMapping>),
    GetEventSourceMapping(MappingId),
    UpdateEventSourceMapping(MappingId, Option<FunctionName>, Box<input::EventSourceMapping>),
    DeleteEventSourceMapping(MappingId),
    ListEventSourceMappings {
        source: Option<String>,
        function: Option<FunctionName>,
        marker: Option<String>,
        limit: usize,
    },
    TagResource(FunctionName, BTreeMap<String, String>),
    UntagResource(FunctionName, Vec<String>),
    ListTags(FunctionName),
    GetAccountSettings,
}

impl Op {
    /// The versions of layers that it is about to read. What is no ARN of one is refused when it is carried out.
    pub(crate) fn uses_layers(&self, region: &types::Region) -> Vec<LayerVersion> {
        if let Self::GetLayerVersion { layer, .. } | Self::DownloadLayer(layer) = self {
            return vec![layer.clone()];
        }
        let named = if let Self::CreateFunction(_, input) = self {
            input.layers.as_deref()
        } else if let Self::UpdateFunctionConfiguration(_, input) = self {
            input.layers.as_deref()
        } else {
            None
        };
        named.unwrap_or_default().iter().filter_map(|arn| layers::layer_version(arn, region).ok()).collect()
    }
}

/// An operation of one request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) inner: Arc<Inner>,
    pub(crate) context: RequestContext,
    pub(crate) op: Op,
    /// What layers of other accounts say of who may use them, by their ARNs.
    pub(crate) guards: HashMap<String, Arc<Guard>>,
}

impl Call {
    fn account(&self) -> AccountId {
        self.context.caller.account
    }

    /// A right to a mapping, which policies can also give by its function.
    fn mapping(&self, action: &'static str, mapping: &MappingId) -> Access {
        let access = Access::new(action, self.inner.mapping_arn(self.account(), &mapping.id));
        match &mapping.function {
            Some(function) => access.with("lambda:FunctionArn", vec![function.clone()]),
            None => access,
        }
    }

    /// The right to use a layer.
    fn uses_layer(&self, arn: String) -> Access {
        let guard = self.guards.get(&arn).cloned();
        Access { guard, ..Access::new("lambda:GetLayerVersion", arn) }
    }

    fn uses_layers(&self, arns: Option<&[String]>) -> impl Iterator<Item = Access> {
        arns.unwrap_or_default().iter().map(|arn| self.uses_layer(arn.clone()))
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
            Op::ListAliases { .. } => "ListAliases",
            Op::PublishVersion(..) => "PublishVersion",
            Op::CreateAlias(..) => "CreateAlias",
            Op::UpdateAlias(..) => "UpdateAlias",
            Op::GetAlias(..) => "GetAlias",
            Op::DeleteAlias(..) => "DeleteAlias",
            Op::PublishLayerVersion(..) => "PublishLayerVersion",
            Op::GetLayerVersion { by_arn: false, .. } | Op::DownloadLayer(_) => "GetLayerVersion",
            Op::GetLayerVersion { by_arn: true, .. } => "GetLayerVersionByArn",
            Op::DeleteLayerVersion(_) => "DeleteLayerVersion",
            Op::ListLayers { .. } => "ListLayers",
            Op::ListLayerVersions { .. } => "ListLayerVersions",
            Op::AddLayerVersionPermission(..) => "AddLayerVersionPermission",
            Op::RemoveLayerVersionPermission { .. } => "RemoveLayerVersionPermission",
            Op::GetLayerVersionPolicy(_) => "GetLayerVersionPolicy",
            Op::CreateFunctionUrlConfig(..) => "CreateFunctionUrlConfig",
            Op::UpdateFunctionUrlConfig(..) => "UpdateFunctionUrlConfig",
            Op::GetFunctionUrlConfig(_) => "GetFunctionUrlConfig",
            Op::DeleteFunctionUrlConfig(_) => "DeleteFunctionUrlConfig",
            Op::ListFunctionUrlConfigs { .. } => "ListFunctionUrlConfigs",
            Op::PutProvisionedConcurrencyConfig(..) => "PutProvisionedConcurrencyConfig",
            Op::GetProvisionedConcurrencyConfig(_) => "GetProvisionedConcurrencyConfig",
            Op::DeleteProvisionedConcurrencyConfig(_) => "DeleteProvisionedConcurrencyConfig",
            Op::ListProvisionedConcurrencyConfigs { .. } => "ListProvisionedConcurrencyConfigs",
            Op::PutFunctionRecursionConfig(..) => "PutFunctionRecursionConfig",
            Op::GetFunctionRecursionConfig(_) => "GetFunctionRecursionConfig",
            Op::PutRuntimeManagementConfig(..) => "PutRuntimeManagementConfig",
            Op::GetRuntimeManagementConfig(_) => "GetRuntimeManagementConfig",
            Op::InvokeWithResponseStream(_) => "InvokeWithResponseStream",
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
            Op::ListFunctionEventInvokeConfigs { .. } => "ListFunctionEventInvokeConfigs",
            Op::CreateEventSourceMapping(..) => "CreateEventSourceMapping",
            Op::GetEventSourceMapping(_) => "GetEventSourceMapping",
            Op::UpdateEventSourceMapping(..) => "UpdateEventSourceMapping",
            Op::DeleteEventSourceMapping(_) => "DeleteEventSourceMapping",
            Op::ListEventSourceMappings { .. } => "ListEventSourceMappings",
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
        let layer_arn = |name: &str| format!("arn:aws:lambda:{}:{account}:layer:{name}", self.inner.region);
        let version_arn = |layer: &LayerVersion| layer.arn(&self.inner.region);
        match &self.op {
            Op::CreateFunction(function, input) => {
                let arn = plain(function);
                let mut needs = on("lambda:CreateFunction", &arn);
                needs.push(pass_role(&input.role));
                needs.extend(self.uses_layers(input.layers.as_deref()));
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
            Op::ListAliases { function, .. } => on("lambda:ListAliases", &plain(function)),
            Op::PublishVersion(f, _) => on("lambda:PublishVersion", &plain(f)),
            Op::CreateAlias(f, _) => on("lambda:CreateAlias", &plain(f)),
            Op::UpdateAlias(f, _, _) => on("lambda:UpdateAlias", &plain(f)),
            Op::GetAlias(f, _) => on("lambda:GetAlias", &plain(f)),
            Op::DeleteAlias(f, _) => on("lambda:DeleteAlias", &plain(f)),
            Op::PublishLayerVersion(name, _) => on("lambda:PublishLayerVersion", &layer_arn(name)),
            Op::GetLayerVersion { layer, .. } | Op::DownloadLayer(layer) => {
                vec![self.uses_layer(version_arn(layer))]
            }
            Op::DeleteLayerVersion(layer) => on("lambda:DeleteLayerVersion", &version_arn(layer)),
            Op::ListLayers { .. } => on("lambda:ListLayers", "*"),
            Op::ListLayerVersions { name, .. } => on("lambda:ListLayerVersions", &layer_arn(name)),
            Op::AddLayerVersionPermission(layer, ..) => {
                on("lambda:AddLayerVersionPermission", &version_arn(layer))
            }
            Op::RemoveLayerVersionPermission { layer, .. } => {
                on("lambda:RemoveLayerVersionPermission", &version_arn(layer))
            }
            Op::GetLayerVersionPolicy(layer) => on("lambda:GetLayerVersionPolicy", &version_arn(layer)),
            Op::CreateFunctionUrlConfig(f, _) => on("lambda:CreateFunctionUrlConfig", &qualified(f)),
            Op::UpdateFunctionUrlConfig(f, _) => on("lambda:UpdateFunctionUrlConfig", &qualified(f)),
            Op::GetFunctionUrlConfig(f) => on("lambda:GetFunctionUrlConfig", &qualified(f)),
            Op::DeleteFunctionUrlConfig(f) => on("lambda:DeleteFunctionUrlConfig", &qualified(f)),
            Op::ListFunctionUrlConfigs { function, .. } => {
                on("lambda:ListFunctionUrlConfigs", &plain(function))
            }
            Op::PutProvisionedConcurrencyConfig(f, _) => {
                on("lambda:PutProvisionedConcurrencyConfig", &qualified(f))
            }
            Op::GetProvisionedConcurrencyConfig(f) => {
                on("lambda:GetProvisionedConcurrencyConfig", &qualified(f))
            }
            Op::DeleteProvisionedConcurrencyConfig(f) => {
                on("lambda:DeleteProvisionedConcurrencyConfig", &qualified(f))
            }
            Op::ListProvisionedConcurrencyConfigs { function, .. } => {
                on("lambda:ListProvisionedConcurrencyConfigs", &plain(function))
            }
            Op::PutFunctionRecursionConfig(f, _) => on("lambda:PutFunctionRecursionConfig", &plain(f)),
            Op::GetFunctionRecursionConfig(f) => on("lambda:GetFunctionRecursionConfig", &plain(f)),
            Op::PutRuntimeManagementConfig(f, _) => on("lambda:PutRuntimeManagementConfig", &qualified(f)),
            Op::GetRuntimeManagementConfig(f) => on("lambda:GetRuntimeManagementConfig", &qualified(f)),
            Op::GetFunctionCodeSigningConfig(f) => on("lambda:GetFunctionCodeSigningConfig", &plain(f)),
            Op::UpdateFunctionCode(f, _) => on("lambda:UpdateFunctionCode", &plain(f)),
            Op::UpdateFunctionConfiguration(f, input) => {
                let mut needs = on("lambda:UpdateFunctionConfiguration", &plain(f));
                needs.extend(input.role.as_deref().map(pass_role));
                needs.extend(self.uses_layers(input.layers.as_deref()));
                needs
            }
            Op::DeleteFunction(f) => on("lambda:DeleteFunction", &qualified(f)),
            Op::Invoke(input) | Op::InvokeWithResponseStream(input) => {
                on("lambda:InvokeFunction", &qualified(&input.function))
            }
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
            Op::ListFunctionEventInvokeConfigs { function, .. } => {
                on("lambda:ListFunctionEventInvokeConfigs", &plain(function))
            }
            Op::CreateEventSourceMapping(f, _) => {
                let function = vec![qualified(f)];
                vec![Access::new("lambda:CreateEventSourceMapping", "*").with("lambda:FunctionArn", function)]
            }
            Op::GetEventSourceMapping(mapping) => vec![self.mapping("lambda:GetEventSourceMapping", mapping)],
            Op::UpdateEventSourceMapping(mapping, function, _) => {
                let mut needs = vec![self.mapping("lambda:UpdateEventSourceMapping", mapping)];
                needs.extend(function.as_ref().map(|function| {
                    let new = vec![qualified(function)];
                    let arn = self.inner.mapping_arn(account, &mapping.id);
                    Access::new("lambda:UpdateEventSourceMapping", arn).with("lambda:FunctionArn", new)
                }));
                needs
            }
            Op::DeleteEventSourceMapping(mapping) => {
                vec![self.mapping("lambda:DeleteEventSourceMapping", mapping)]
            }
            Op::ListEventSourceMappings { .. } => on("lambda:ListEventSourceMappings", "*"),
            Op::TagResource(f, _) => on("lambda:TagResource", &plain(f)),
            Op::UntagResource(f, _) => on("lambda:UntagResource", &plain(f)),
            Op::ListTags(f) => on("lambda:ListTags", &plain(f)),
            Op::GetAccountSettings => on("lambda:GetAccountSettings", "*"),
        }
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Self { inner, context, op, guards: _ } = *self;
        let cx = Cx { account: context.caller.account, inner, context };
        match op {
            Op::CreateFunction(function, input) => cx.create_function(function, *input).await,
            Op::GetFunction(function) => Ok(cx.get_function(function).await?),
            Op::GetFunctionConfiguration(function) => Ok(cx.get_function_configuration(function).await?),
            Op::DownloadCode(function) => Ok(cx.download_code(function).await?),
            Op::ListFunctions { every_version, marker, limit } => {
                Ok(cx.list_functions(every_version, marker, limit).await?)
            }
            Op::ListVersionsByFunction { function, marker, limit } => {
                Ok(cx.list_versions(function, marker, limit).await?)
            }
            Op::ListAliases { function, version, marker, limit } => {
                Ok(cx.list_aliases(function, version, marker, limit).await?)
            }
            Op::PublishVersion(function, input) => Ok(cx.publish_version(function, input).await?),
            Op::CreateAlias(function, input) => Ok(cx.create_alias(function, input).await?),
            Op::UpdateAlias(function, name, input) => Ok(cx.update_alias(function, name, input).await?),
            Op::GetAlias(function, name) => Ok(cx.get_alias(function, name).await?),
            Op::DeleteAlias(function, name) => Ok(cx.delete_alias(function, name).await?),
            Op::PublishLayerVersion(name, input) => cx.publish_layer(name, *input).await,
            Op::GetLayerVersion { layer, .. } => Ok(cx.get_layer(layer).await?),
            Op::DownloadLayer(layer) => Ok(cx.download_layer(layer).await?),
            Op::DeleteLayerVersion(layer) => Ok(cx.delete_layer(layer).await?),
            Op::ListLayers { wanted, marker, limit } => Ok(cx.list_layers(wanted, marker, limit).await?),
            Op::ListLayerVersions { name, wanted, marker, limit } => {
                Ok(cx.list_layer_versions(name, wanted, marker, limit).await?)
            }
            Op::AddLayerVersionPermission(layer, input, revision) => {
                Ok(cx.add_layer_permission(layer, input, revision).await?)
            }
            Op::RemoveLayerVersionPermission { layer, statement, revision } => {
                Ok(cx.remove_layer_permission(layer, statement, revision).await?)
            }
            Op::GetLayerVersionPolicy(layer) => Ok(cx.get_layer_policy(layer).await?),
            Op::CreateFunctionUrlConfig(function, input) => Ok(cx.create_url(function, input).await?),
            Op::UpdateFunctionUrlConfig(function, input) => Ok(cx.update_url(function, input).await?),
            Op::GetFunctionUrlConfig(function) => Ok(cx.get_url(function).await?),
            Op::DeleteFunctionUrlConfig(function) => Ok(cx.delete_url(function).await?),
            Op::ListFunctionUrlConfigs { function, marker, limit } => {
                Ok(cx.list_urls(function, marker, limit).await?)
            }
            Op::PutProvisionedConcurrencyConfig(function, wanted) => {
                Ok(cx.put_provisioned(function, wanted).await?)
            }
            Op::GetProvisionedConcurrencyConfig(function) => Ok(cx.get_provisioned(function).await?),
            Op::DeleteProvisionedConcurrencyConfig(function) => Ok(cx.delete_provisioned(function).await?),
            Op::ListProvisionedConcurrencyConfigs { function, marker, limit } => {
                Ok(cx.list_provisioned(function, marker, limit).await?)
            }
            Op::PutFunctionRecursionConfig(function, input) => Ok(cx.put_recursion(function, input).await?),
            Op::GetFunctionRecursionConfig(function) => Ok(cx.get_recursion(function).await?),
            Op::PutRuntimeManagementConfig(function, input) => {
                Ok(cx.put_runtime_management(function, input).await?)
            }
            Op::GetRuntimeManagementConfig(function) => Ok(cx.get_runtime_management(function).await?),
            Op::InvokeWithResponseStream(input) => Ok(cx.invoke_with_stream(*input).await?),
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
            Op::AddPermission(function, input) => cx.add_permission(function, *input).await,
            Op::RemovePermission { function, statement, revision } => {
                Ok(cx.remove_permission(function, statement, revision).await?)
            }
            Op::GetPolicy(function) => Ok(cx.get_policy(function).await?),
            Op::PutFunctionEventInvokeConfig { function, input, merge } => {
                Ok(cx.put_event_config(function, input, merge).await?)
            }
            Op::GetFunctionEventInvokeConfig(function) => Ok(cx.get_event_config(function).await?),
            Op::DeleteFunctionEventInvokeConfig(function) => Ok(cx.delete_event_config(function).await?),
            Op::ListFunctionEventInvokeConfigs { function, marker, limit } => {
                Ok(cx.list_event_configs(function, marker, limit).await?)
            }
            Op::CreateEventSourceMapping(function, input) => cx.create_mapping(function, *input).await,
            Op::GetEventSourceMapping(mapping) => Ok(cx.get_mapping(mapping.id).await?),
            Op::UpdateEventSourceMapping(mapping, function, input) => {
                cx.update_mapping(mapping.id, function, *input).await
            }
            Op::DeleteEventSourceMapping(mapping) => Ok(cx.delete_mapping(mapping.id).await?),
            Op::ListEventSourceMappings { source, function, marker, limit } => {
                Ok(cx.list_mappings(source, function, marker, limit).await?)
            }
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

    /// What something belongs to.
    fn owner_of(&self, function: &FunctionName) -> Owner {
        match function.owner() {
            None => Owner::Function(by_name(&FUNCTIONS, self.account, &function.name)),
            Some(owner) => match owner.parse() {
                Ok(number) => Owner::Version(by_number(&VERSIONS, self.account, &function.name, number)),
                Err(_) => Owner::Alias(by_qualifier(&ALIASES, self.account, &function.name, Some(owner))),
            },
        }
    }

    /// The row that has to be there for something to belong to a function, a version or an alias.
    fn owner_key(&self, function: &FunctionName) -> Key {
        self.owner_of(function).key()
    }

    /// That it is not.
    fn no_owner(&self, function: &FunctionName) -> Error {
        Error::NotFound(format!("Function not found: {}", function.arn(self.account, &self.inner.region)))
    }

    async fn require_owner(&self, function: &FunctionName) -> Result<(), Error> {
        match self.inner.store.get(self.owner_key(function)).await? {
            Some(_) => Ok(()),
            None => Err(self.no_owner(function)),
        }
    }
}

/// The row of what something belongs to.
#[derive(Debug, Clone)]
enum Owner {
    Function(Key),
    Version(Key),
    Alias(Key),
}

impl Owner {
    fn key(&self) -> Key {
        match self {
            Self::Function(key) | Self::Version(key) | Self::Alias(key) => key.clone(),
        }
    }

    /// Its revision, if it is there: `page` is of its key.
    fn revision(&self, page: &store::Page) -> Result<Option<RequestId>, Error> {
        Ok(match self {
            Self::Function(_) => FUNCTIONS.first(page)?.map(|stored| stored.value.revision),
            Self::Version(_) => VERSIONS.first(page)?.map(|stored| stored.value.function.revision),
            Self::Alias(_) => ALIASES.first(page)?.map(|stored| stored.value.revision),
        })
    }

    /// Gives it another revision, if it is there.
    fn revised(&self, page: &store::Page, revision: RequestId) -> Result<Option<Write>, Error> {
        Ok(match self {
            Self::Function(key) => FUNCTIONS.first(page)?.map(|stored| {
                FUNCTIONS.put(key.clone(), &crate::tables::FunctionRow { revision, ..stored.value })
            }),
            Self::Version(key) => VERSIONS.first(page)?.map(|stored| {
                let mut row = stored.value;
                row.function.revision = revision;
                VERSIONS.put(key.clone(), &row)
            }),
            Self::Alias(key) => ALIASES.first(page)?.map(|stored| {
                ALIASES.put(key.clone(), &crate::tables::AliasRow { revision, ..stored.value })
            }),
        })
    }
}

/// Removes what belongs to a version or an alias.
fn belongings(account: AccountId, name: &str, qualifier: Option<&str>) -> Vec<Write> {
    vec![
        Write::Delete(by_qualifier(&POLICIES, account, name, qualifier)),
        Write::Delete(by_qualifier(&EVENT_CONFIGS, account, name, qualifier)),
        Write::Delete(by_qualifier(&PROVISIONED, account, name, qualifier)),
        Write::Delete(by_qualifier(&URLS, account, name, qualifier)),
    ]
}

/// Refuses a change whose author has seen another state.
fn check_revision(expected: Option<&str>, current: RequestId) -> Result<(), Error> {
    check_revision_of(expected, current, "GetFunction/GetAlias")
}

/// The same, of what the operation `told_by` tells of.
fn check_revision_of(expected: Option<&str>, current: RequestId, told_by: &'static str) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != current.to_string() => Err(Error::Revision(told_by)),
        _ => Ok(()),
    }
}
