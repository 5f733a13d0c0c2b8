//! The members of requests. What Lambda has and this node does not offer is named here and refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::name::FunctionName;

/// A member that is refused unless it is empty: tools send `{"SubnetIds": []}` for "no VPC".
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Refused(Value);

impl Refused {
    fn is_empty(&self) -> bool {
        fn empty(value: &Value) -> bool {
            match value {
                Value::Null => true,
                Value::Bool(flag) => !flag,
                Value::Number(_) => false,
                Value::String(text) => text.is_empty() || text == "None",
                Value::Array(items) => items.iter().all(empty),
                Value::Object(members) => members.values().all(empty),
            }
        }
        empty(&self.0)
    }
}

/// Refuses members that are there.
pub(crate) fn refuse(members: &[(&str, &Refused)]) -> Result<(), Error> {
    let Some((name, _)) = members.iter().find(|(_, member)| !member.is_empty()) else { return Ok(()) };
    Err(Error::Unsupported(format!("{name} is not supported by this node.")))
}

/// Where events go that failed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct DeadLetterConfig {
    pub(crate) target_arn: Option<String>,
}

/// `CreateFunction`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct CreateFunction {
    pub(crate) function_name: String,
    pub(crate) role: String,
    pub(crate) code: FunctionCode,
    pub(crate) runtime: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) package_type: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) timeout: Option<i64>,
    pub(crate) memory_size: Option<i64>,
    pub(crate) environment: Option<Environment>,
    pub(crate) ephemeral_storage: Option<EphemeralStorage>,
    pub(crate) tracing_config: Option<TracingConfig>,
    pub(crate) logging_config: Option<LoggingConfig>,
    pub(crate) architectures: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) publish: bool,
    pub(crate) layers: Option<Vec<String>>,
    #[serde(default)]
    vpc_config: Refused,
    pub(crate) dead_letter_config: Option<DeadLetterConfig>,
    #[serde(default, rename = "KMSKeyArn")]
    kms_key_arn: Refused,
    #[serde(default)]
    file_system_configs: Refused,
    pub(crate) image_config: Option<ImageConfig>,
    #[serde(default)]
    code_signing_config_arn: Refused,
    #[serde(default)]
    snap_start: Refused,
    #[serde(default)]
    capacity_provider_config: Refused,
    #[serde(default)]
    publish_to: Refused,
    #[serde(default)]
    durable_config: Refused,
    #[serde(default)]
    tenancy_config: Refused,
}

impl CreateFunction {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[
            ("VpcConfig", &self.vpc_config),
            ("KMSKeyArn", &self.kms_key_arn),
            ("FileSystemConfigs", &self.file_system_configs),
            ("CodeSigningConfigArn", &self.code_signing_config_arn),
            ("SnapStart", &self.snap_start),
            ("CapacityProviderConfig", &self.capacity_provider_config),
            ("PublishTo", &self.publish_to),
            ("DurableConfig", &self.durable_config),
            ("TenancyConfig", &self.tenancy_config),
        ])?;
        self.code.check()?;
        match (self.package_type.as_deref(), &self.image_config) {
            (None | Some("Zip"), None) | (Some("Image"), _) => Ok(()),
            (None | Some("Zip"), Some(_)) => Err(Error::InvalidParameter(
                "ImageConfig is for functions with the package type Image alone.".into(),
            )),
            (Some(other), _) => Err(Error::rule(format!(
                "Value '{other}' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: \
                 [Zip, Image]"
            ))),
        }
    }

    /// Whether the package is a container image.
    pub(crate) fn is_image(&self) -> bool {
        self.package_type.as_deref() == Some("Image")
    }
}

/// Where a package comes from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct FunctionCode {
    pub(crate) zip_file: Option<String>,
    #[serde(rename = "S3Bucket")]
    pub(crate) s3_bucket: Option<String>,
    #[serde(rename = "S3Key")]
    pub(crate) s3_key: Option<String>,
    #[serde(rename = "S3ObjectVersion")]
    pub(crate) s3_object_version: Option<String>,
    pub(crate) image_uri: Option<String>,
    #[serde(default, rename = "SourceKMSKeyArn")]
    source_kms_key_arn: Refused,
}

impl FunctionCode {
    fn check(&self) -> Result<(), Error> {
        refuse(&[("SourceKMSKeyArn", &self.source_kms_key_arn)])
    }
}

/// What a function overrides of its container image.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) entry_point: Vec<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    pub(crate) working_directory: Option<String>,
}

/// `UpdateFunctionCode`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct UpdateFunctionCode {
    zip_file: Option<String>,
    #[serde(rename = "S3Bucket")]
    s3_bucket: Option<String>,
    #[serde(rename = "S3Key")]
    s3_key: Option<String>,
    #[serde(rename = "S3ObjectVersion")]
    s3_object_version: Option<String>,
    image_uri: Option<String>,
    #[serde(default, rename = "SourceKMSKeyArn")]
    source_kms_key_arn: Refused,
    #[serde(default)]
    pub(crate) publish: bool,
    #[serde(default)]
    publish_to: Refused,
    #[serde(default)]
    pub(crate) dry_run: bool,
    pub(crate) revision_id: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
}

impl UpdateFunctionCode {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[("PublishTo", &self.publish_to)])?;
        refuse(&[("SourceKMSKeyArn", &self.source_kms_key_arn)])
    }

    pub(crate) fn take_code(&mut self) -> FunctionCode {
        FunctionCode {
            zip_file: self.zip_file.take(),
            s3_bucket: self.s3_bucket.take(),
            s3_key: self.s3_key.take(),
            s3_object_version: self.s3_object_version.take(),
            image_uri: self.image_uri.take(),
            ..FunctionCode::default()
        }
    }
}

/// `UpdateFunctionConfiguration`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct UpdateFunctionConfiguration {
    pub(crate) role: Option<String>,
    pub(crate) runtime: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) timeout: Option<i64>,
    pub(crate) memory_size: Option<i64>,
    pub(crate) environment: Option<Environment>,
    pub(crate) ephemeral_storage: Option<EphemeralStorage>,
    pub(crate) tracing_config: Option<TracingConfig>,
    pub(crate) logging_config: Option<LoggingConfig>,
    pub(crate) revision_id: Option<String>,
    pub(crate) layers: Option<Vec<String>>,
    #[serde(default)]
    vpc_config: Refused,
    pub(crate) dead_letter_config: Option<DeadLetterConfig>,
    #[serde(default, rename = "KMSKeyArn")]
    kms_key_arn: Refused,
    #[serde(default)]
    file_system_configs: Refused,
    pub(crate) image_config: Option<ImageConfig>,
    #[serde(default)]
    snap_start: Refused,
    #[serde(default)]
    capacity_provider_config: Refused,
    #[serde(default)]
    durable_config: Refused,
}

impl UpdateFunctionConfiguration {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[
            ("VpcConfig", &self.vpc_config),
            ("KMSKeyArn", &self.kms_key_arn),
            ("FileSystemConfigs", &self.file_system_configs),
            ("SnapStart", &self.snap_start),
            ("CapacityProviderConfig", &self.capacity_provider_config),
            ("DurableConfig", &self.durable_config),
        ])
    }
}

/// Environment variables.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Environment {
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
}

/// The size of `/tmp`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct EphemeralStorage {
    pub(crate) size: i64,
}

/// How the function is traced.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct TracingConfig {
    pub(crate) mode: Option<String>,
}

/// Where and how the function logs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct LoggingConfig {
    pub(crate) log_format: Option<String>,
    pub(crate) log_group: Option<String>,
    pub(crate) application_log_level: Option<String>,
    pub(crate) system_log_level: Option<String>,
}

/// `Invoke`: headers, query and body.
#[derive(Debug)]
pub(crate) struct Invoke {
    pub(crate) function: FunctionName,
    pub(crate) kind: InvocationType,
    pub(crate) log_tail: bool,
    pub(crate) client_context: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) payload: bytes::Bytes,
}

/// How an invocation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvocationType {
    /// With the function's answer.
    RequestResponse,
    /// At once; the function runs later.
    Event,
    /// At once; nothing runs.
    DryRun,
}

/// `PutFunctionConcurrency`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PutFunctionConcurrency {
    pub(crate) reserved_concurrent_executions: i64,
}

/// `AddPermission`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct AddPermission {
    pub(crate) statement_id: String,
    pub(crate) action: String,
    pub(crate) principal: String,
    pub(crate) source_arn: Option<String>,
    pub(crate) source_account: Option<String>,
    pub(crate) revision_id: Option<String>,
    #[serde(default)]
    event_source_token: Refused,
    #[serde(default, rename = "PrincipalOrgID")]
    principal_org_id: Refused,
    pub(crate) function_url_auth_type: Option<String>,
    #[serde(default)]
    pub(crate) invoked_via_function_url: bool,
}

impl AddPermission {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[("EventSourceToken", &self.event_source_token), ("PrincipalOrgID", &self.principal_org_id)])
    }
}

/// `PublishVersion`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PublishVersion {
    pub(crate) code_sha256: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) revision_id: Option<String>,
    #[serde(default)]
    publish_to: Refused,
}

impl PublishVersion {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[("PublishTo", &self.publish_to)])
    }
}

/// `CreateAlias` and `UpdateAlias`, which has no name of its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Alias {
    pub(crate) name: Option<String>,
    pub(crate) function_version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) routing_config: Option<RoutingConfig>,
    pub(crate) revision_id: Option<String>,
}

/// How an alias shares its invocations out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct RoutingConfig {
    #[serde(default)]
    pub(crate) additional_version_weights: BTreeMap<String, f64>,
}

/// `PublishLayerVersion`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PublishLayerVersion {
    pub(crate) content: FunctionCode,
    pub(crate) description: Option<String>,
    pub(crate) license_info: Option<String>,
    #[serde(default)]
    pub(crate) compatible_runtimes: Vec<String>,
    #[serde(default)]
    pub(crate) compatible_architectures: Vec<String>,
}

/// `AddLayerVersionPermission`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct AddLayerVersionPermission {
    pub(crate) statement_id: String,
    pub(crate) action: String,
    pub(crate) principal: String,
    #[serde(default)]
    organization_id: Refused,
}

impl AddLayerVersionPermission {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[("OrganizationId", &self.organization_id)])
    }
}

/// `CreateFunctionUrlConfig` and `UpdateFunctionUrlConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct FunctionUrlConfig {
    pub(crate) auth_type: Option<String>,
    pub(crate) cors: Option<crate::tables::Cors>,
    pub(crate) invoke_mode: Option<String>,
}

/// `PutProvisionedConcurrencyConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PutProvisionedConcurrencyConfig {
    pub(crate) provisioned_concurrent_executions: i64,
}

/// `PutFunctionRecursionConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PutFunctionRecursionConfig {
    pub(crate) recursive_loop: String,
}

/// `PutRuntimeManagementConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PutRuntimeManagementConfig {
    pub(crate) update_runtime_on: String,
    pub(crate) runtime_version_arn: Option<String>,
}

/// `PutFunctionEventInvokeConfig` and `UpdateFunctionEventInvokeConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct EventInvokeConfig {
    pub(crate) maximum_retry_attempts: Option<i64>,
    pub(crate) maximum_event_age_in_seconds: Option<i64>,
    pub(crate) destination_config: Option<DestinationConfig>,
}

/// Who hears of an event's end.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct DestinationConfig {
    pub(crate) on_success: Option<Destination>,
    pub(crate) on_failure: Option<Destination>,
}

/// One of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Destination {
    pub(crate) destination: Option<String>,
}

/// `CreateEventSourceMapping` and `UpdateEventSourceMapping`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct EventSourceMapping {
    pub(crate) event_source_arn: Option<String>,
    pub(crate) function_name: Option<String>,
    pub(crate) enabled: Option<bool>,
    pub(crate) batch_size: Option<i64>,
    pub(crate) filter_criteria: Option<FilterCriteria>,
    pub(crate) maximum_batching_window_in_seconds: Option<i64>,
    pub(crate) parallelization_factor: Option<i64>,
    pub(crate) starting_position: Option<String>,
    pub(crate) destination_config: Option<DestinationConfig>,
    pub(crate) maximum_record_age_in_seconds: Option<i64>,
    pub(crate) bisect_batch_on_function_error: Option<bool>,
    pub(crate) maximum_retry_attempts: Option<i64>,
    pub(crate) function_response_types: Option<Vec<String>>,
    pub(crate) tumbling_window_in_seconds: Option<i64>,
    #[serde(default)]
    starting_position_timestamp: Refused,
    #[serde(default)]
    tags: Refused,
    #[serde(default)]
    topics: Refused,
    #[serde(default)]
    queues: Refused,
    #[serde(default)]
    source_access_configurations: Refused,
    #[serde(default)]
    self_managed_event_source: Refused,
    #[serde(default)]
    amazon_managed_kafka_event_source_config: Refused,
    #[serde(default)]
    self_managed_kafka_event_source_config: Refused,
    pub(crate) scaling_config: Option<ScalingConfig>,
    #[serde(default, rename = "DocumentDBEventSourceConfig")]
    document_db_event_source_config: Refused,
    #[serde(default, rename = "KMSKeyArn")]
    kms_key_arn: Refused,
    #[serde(default)]
    metrics_config: Refused,
    #[serde(default)]
    logging_config: Refused,
    #[serde(default)]
    provisioned_poller_config: Refused,
}

impl EventSourceMapping {
    pub(crate) fn check(&self) -> Result<(), Error> {
        refuse(&[
            ("StartingPositionTimestamp", &self.starting_position_timestamp),
            ("Tags", &self.tags),
            ("Topics", &self.topics),
            ("Queues", &self.queues),
            ("SourceAccessConfigurations", &self.source_access_configurations),
            ("SelfManagedEventSource", &self.self_managed_event_source),
            ("AmazonManagedKafkaEventSourceConfig", &self.amazon_managed_kafka_event_source_config),
            ("SelfManagedKafkaEventSourceConfig", &self.self_managed_kafka_event_source_config),
            ("DocumentDBEventSourceConfig", &self.document_db_event_source_config),
            ("KMSKeyArn", &self.kms_key_arn),
            ("MetricsConfig", &self.metrics_config),
            ("LoggingConfig", &self.logging_config),
            ("ProvisionedPollerConfig", &self.provisioned_poller_config),
        ])
    }
}

/// How many invocations a queue's mapping causes at a time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ScalingConfig {
    pub(crate) maximum_concurrency: Option<i64>,
}

/// Which records wake a function.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct FilterCriteria {
    #[serde(default)]
    pub(crate) filters: Vec<FilterText>,
}

/// One pattern.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct FilterText {
    pub(crate) pattern: Option<String>,
}

/// `TagResource`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct TagResource {
    pub(crate) tags: BTreeMap<String, String>,
}
