//! The members of answers.

use std::collections::BTreeMap;

use serde::Serialize;
use types::{AccountId, Region, RequestId, Timestamp};

use crate::name::{Version, function_arn};
use crate::tables::{FunctionRow, LayerRef};

/// `FunctionConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FunctionConfiguration<'a> {
    function_name: &'a str,
    function_arn: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    runtime: &'a str,
    role: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    handler: &'a str,
    code_size: u64,
    description: &'a str,
    timeout: u32,
    memory_size: u32,
    last_modified: String,
    code_sha256: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Environment<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_config: Option<DeadLetterConfig<'a>>,
    tracing_config: TracingConfig<'a>,
    revision_id: RequestId,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status_reason_code: Option<&'a str>,
    package_type: &'static str,
    architectures: [&'static str; 1],
    ephemeral_storage: EphemeralStorage,
    snap_start: SnapStart,
    logging_config: LoggingConfig<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_config_response: Option<ImageConfigResponse<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfigResponse<'a> {
    image_config: ImageConfig<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entry_point: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    command: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Layer<'a> {
    arn: &'a str,
    code_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Environment<'a> {
    variables: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeadLetterConfig<'a> {
    target_arn: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TracingConfig<'a> {
    mode: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EphemeralStorage {
    size: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SnapStart {
    apply_on: &'static str,
    optimization_status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoggingConfig<'a> {
    log_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_log_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_log_level: Option<&'a str>,
    log_group: &'a str,
}

/// `2026-11-23T22:40:10.000+0000`.
pub(crate) fn iso_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

/// How far a function is (AWS Lambda developer guide, "Lambda function states").
struct Progress<'a> {
    state: &'static str,
    update: Option<&'static str>,
    /// Why it is there, and the code for that.
    reason: Option<(&'a str, &'a str)>,
}

impl<'a> Progress<'a> {
    fn of(row: &'a FunctionRow) -> Self {
        const CREATING: (&str, &str) = ("The function is being created.", "Creating");
        let Some(pull) = &row.pull else {
            return Self { state: "Active", update: Some("Successful"), reason: None };
        };
        let failure = pull.failure.as_ref().map(|failure| (failure.reason.as_str(), failure.code.as_str()));
        let reason = Some(failure.unwrap_or(CREATING));
        // The status of updates is that of the creation until that has succeeded.
        match (row.code.is_missing(), failure) {
            (true, None) => Self { state: "Pending", update: None, reason },
            (true, Some(_)) => Self { state: "Failed", update: Some("Failed"), reason },
            (false, None) => Self { state: "Active", update: Some("InProgress"), reason },
            (false, Some(_)) => Self { state: "Active", update: Some("Failed"), reason },
        }
    }
}

impl<'a> FunctionConfiguration<'a> {
    /// The configuration of `row`, which is `version`; with the qualifier in its ARN by which it was asked for.
    pub(crate) fn new(
        row: &'a FunctionRow,
        account: AccountId,
        region: &Region,
        version: Version,
        qualifier: Option<&str>,
    ) -> Self {
        let arn = function_arn(account, region, &row.name);
        let progress = Progress::of(row);
        let reason = progress.reason;
        let is_new = row.code.is_missing();
        let layer = |layer: &'a LayerRef| Layer { arn: &layer.arn, code_size: layer.code.size_bytes };
        Self {
            function_name: &row.name,
            function_arn: match qualifier {
                Some(qualifier) => format!("{arn}:{qualifier}"),
                None => arn,
            },
            runtime: &row.runtime,
            role: &row.role,
            handler: &row.handler,
            // As on Lambda, where an image stays in its registry.
            code_size: if row.image.as_ref().is_some_and(|image| image.digest.is_some()) {
                0
            } else {
                row.code.size_bytes
            },
            description: &row.description,
            timeout: row.timeout_s,
            memory_size: row.memory_mb,
            last_modified: iso_time(row.last_modified),
            code_sha256: row.code_sha256(),
            version: version.to_string(),
            environment: (!row.environment.is_empty()).then_some(Environment { variables: &row.environment }),
            dead_letter_config: row.dead_letters.as_deref().map(|target_arn| DeadLetterConfig { target_arn }),
            tracing_config: TracingConfig { mode: &row.tracing },
            revision_id: row.revision,
            state: progress.state,
            state_reason: reason.map(|(reason, _)| reason).filter(|_| is_new),
            state_reason_code: reason.map(|(_, code)| code).filter(|_| is_new),
            last_update_status: progress.update,
            last_update_status_reason: reason.map(|(reason, _)| reason).filter(|_| !is_new),
            last_update_status_reason_code: reason.map(|(_, code)| code).filter(|_| !is_new),
            package_type: if row.image.is_some() { "Image" } else { "Zip" },
            architectures: [types::architecture()],
            ephemeral_storage: EphemeralStorage { size: row.ephemeral_storage_mb },
            snap_start: SnapStart { apply_on: "None", optimization_status: "Off" },
            logging_config: LoggingConfig {
                log_format: if row.logging.json { "JSON" } else { "Text" },
                application_log_level: row.logging.application_level.as_deref(),
                system_log_level: row.logging.system_level.as_deref(),
                log_group: &row.log_group,
            },
            layers: row.layers.iter().map(layer).collect(),
            image_config_response: row.image.as_ref().map(|image| ImageConfigResponse {
                image_config: ImageConfig {
                    entry_point: &image.entry_point,
                    command: &image.command,
                    working_directory: image.working_directory.as_deref(),
                },
            }),
        }
    }
}
