//! The rules of a function's settings (AWS Lambda developer guide, "Lambda quotas").

use std::collections::BTreeMap;

use types::Arn;

use crate::Error;
use crate::queue::queue_arn;
use crate::tables::{ImageRow, LoggingRow};
use crate::wire::input::{DeadLetterConfig, EphemeralStorage, ImageConfig, LoggingConfig, TracingConfig};

const ENVIRONMENT_LIMIT: usize = 4096;

/// Names that the platform sets itself.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

fn constraint(value: impl std::fmt::Display, at: &str, rule: &str) -> Error {
    Error::rule(format!("Value '{value}' at '{at}' failed to satisfy constraint: {rule}"))
}

fn within(value: i64, at: &str, least: u32, most: u32) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(value) if value > most => {
            Err(constraint(value, at, &format!("Member must have value less than or equal to {most}")))
        }
        Ok(value) if value >= least => Ok(value),
        _ => Err(constraint(value, at, &format!("Member must have value greater than or equal to {least}"))),
    }
}

pub(super) fn timeout(value: i64) -> Result<u32, Error> {
    within(value, "timeout", 1, 900)
}

pub(super) fn memory(value: i64) -> Result<u32, Error> {
    within(value, "memorySize", 128, 10_240)
}

pub(super) fn ephemeral_storage(value: &EphemeralStorage) -> Result<u32, Error> {
    within(value.size, "ephemeralStorage.size", 512, 10_240)
}

pub(super) fn handler(value: String) -> Result<String, Error> {
    if value.is_empty() || value.len() > 128 || value.contains(char::is_whitespace) {
        return Err(constraint(value, "handler", "Member must satisfy regular expression pattern: [^\\s]+"));
    }
    Ok(value)
}

pub(super) fn description(value: String) -> Result<String, Error> {
    if value.chars().count() > 256 {
        return Err(constraint(value, "description", "Member must have length less than or equal to 256"));
    }
    Ok(value)
}

pub(super) fn role(value: String) -> Result<String, Error> {
    let arn = value.parse::<Arn>().ok();
    let names_role =
        |arn: &Arn| arn.partition == "aws" && arn.service == "iam" && arn.resource.starts_with("role/");
    if arn.as_ref().is_some_and(names_role) {
        return Ok(value);
    }
    let rule = "Member must satisfy regular expression pattern: \
                arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+";
    Err(constraint(value, "role", rule))
}

pub(super) fn environment(variables: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let prefix = "Lambda was unable to configure your environment variables because the environment variables \
                  you have provided";
    let well_formed = |name: &str| {
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(Error::InvalidParameter(format!(
            "{prefix} contains reserved keys that are currently not supported for modification. Reserved keys \
             used in this request: {}",
            reserved.join(", ")
        )));
    }
    if let Some(name) = variables.keys().find(|name| !well_formed(name)) {
        let rule = "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: \
                    [a-zA-Z]([a-zA-Z0-9_])+]";
        return Err(constraint(name, "environment.variables", rule));
    }
    if variables.values().any(|value| value.contains('\0')) {
        return Err(Error::InvalidParameter(format!("{prefix} contain a null character.")));
    }
    let offered = crate::extras::NAMES;
    if let Some(name) =
        variables.keys().find(|name| name.starts_with("HAWKER_") && !offered.contains(&name.as_str()))
    {
        return Err(Error::InvalidParameter(format!(
            "The environment variable {name} sets nothing; of the names that begin with HAWKER_ there are {}.",
            offered.join(", ")
        )));
    }
    crate::extras::Extras::read(&variables).map_err(Error::InvalidParameter)?;
    let measured = serde_json::to_string(&variables).map_or(0, |text| text.len());
    if measured > ENVIRONMENT_LIMIT {
        return Err(Error::InvalidParameter(format!(
            "{prefix} exceeded the 4KB limit. String measured: {measured} bytes"
        )));
    }
    Ok(variables)
}

pub(super) fn tracing(value: TracingConfig) -> Result<String, Error> {
    match value.mode.as_deref() {
        None => Ok("PassThrough".to_owned()),
        Some("Active" | "PassThrough") => Ok(value.mode.unwrap_or_default()),
        Some(other) => Err(constraint(
            other,
            "tracingConfig.mode",
            "Member must satisfy enum value set: [Active, PassThrough]",
        )),
    }
}

pub(super) fn log_group(value: &LoggingConfig, name: &str) -> Result<String, Error> {
    let Some(group) = &value.log_group else { return Ok(default_log_group(name)) };
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
    if group.is_empty() || group.len() > 512 || !group.chars().all(valid) {
        let rule = "Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+";
        return Err(constraint(group, "loggingConfig.logGroup", rule));
    }
    Ok(group.clone())
}

/// What is overridden of a container image.
pub(super) fn image(config: ImageConfig) -> Result<ImageRow, Error> {
    let parts = [&config.entry_point, &config.command];
    if parts.iter().any(|words| words.len() > 1500 || words.iter().any(|word| word.contains('\0'))) {
        return Err(Error::InvalidParameter(
            "ImageConfig has at most 1500 words, without null characters.".into(),
        ));
    }
    if config.working_directory.as_ref().is_some_and(|path| path.len() > 1000 || !path.starts_with('/')) {
        return Err(Error::InvalidParameter("ImageConfig.WorkingDirectory is an absolute path.".into()));
    }
    let ImageConfig { entry_point, command, working_directory } = config;
    Ok(ImageRow { uri: String::new(), digest: None, entry_point, command, working_directory })
}

/// The format of the log, and the levels, which only JSON has.
pub(super) fn logging(value: &LoggingConfig) -> Result<LoggingRow, Error> {
    let json = match value.log_format.as_deref() {
        None | Some("Text") => false,
        Some("JSON") => true,
        Some(other) => {
            let rule = "Member must satisfy enum value set: [JSON, Text]";
            return Err(constraint(other, "loggingConfig.logFormat", rule));
        }
    };
    let level = |given: &Option<String>, at: &str, levels: &[&str]| match given.as_deref() {
        None => Ok(json.then(|| "INFO".to_owned())),
        Some(level) if levels.contains(&level) && json => Ok(Some(level.to_owned())),
        Some(level) if levels.contains(&level) => Err(Error::InvalidParameter(
            "The log level is not applicable for the Text log format. Configure LogFormat JSON to set it."
                .into(),
        )),
        Some(other) => {
            let rule = format!("Member must satisfy enum value set: [{}]", levels.join(", "));
            Err(constraint(other, &format!("loggingConfig.{at}"), &rule))
        }
    };
    let application = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    Ok(LoggingRow {
        json,
        application_level: level(&value.application_log_level, "applicationLogLevel", &application)?,
        system_level: level(&value.system_log_level, "systemLogLevel", &["DEBUG", "INFO", "WARN"])?,
    })
}

pub(super) fn default_log_group(name: &str) -> String {
    format!("/aws/lambda/{name}")
}

pub(super) fn architectures(value: Option<&[String]>) -> Result<(), Error> {
    let own = types::architecture();
    match value {
        None | Some([]) => Ok(()),
        Some([one]) if one == own => Ok(()),
        Some([one]) if one == "x86_64" || one == "arm64" => Err(Error::Unsupported(format!(
            "Architectures {one} is not supported by this node; it runs {own}."
        ))),
        Some(other) => {
            let rule = "Member must satisfy enum value set: [x86_64, arm64]";
            Err(constraint(other.join(", "), "architectures", rule))
        }
    }
}

/// Tags as they would be after a change.
pub(super) fn tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > 50 {
        return Err(Error::InvalidParameter("Too many tags: a function has at most 50.".into()));
    }
    for (key, value) in tags {
        let length = key.chars().count();
        if length == 0 || length > 128 || key.starts_with("aws:") {
            return Err(Error::InvalidParameter(format!(
                "The tag key '{key}' must have 1 to 128 characters and must not begin with aws:"
            )));
        }
        if value.chars().count() > 256 {
            return Err(Error::InvalidParameter(format!(
                "The value of the tag '{key}' must have at most 256 characters."
            )));
        }
    }
    Ok(())
}

/// The queue that gets events that failed, if there is to be one.
pub(super) fn dead_letters(given: Option<DeadLetterConfig>) -> Result<Option<String>, Error> {
    let target = given.and_then(|given| given.target_arn).filter(|arn| !arn.is_empty());
    if let Some(arn) = &target {
        queue_arn(arn, "DeadLetterConfig.TargetArn")?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lambdas() {
        assert_eq!((timeout(1).unwrap(), timeout(900).unwrap()), (1, 900));
        assert!(timeout(0).is_err() && timeout(901).is_err() && timeout(-1).is_err());
        assert!(memory(127).is_err() && memory(10_241).is_err() && memory(128).is_ok());
        let message = timeout(901).unwrap_err().to_string();
        assert!(message.contains("less than or equal to 900"), "{message}");
    }

    #[test]
    fn environments_are_checked() {
        let of = |name: &str, value: &str| environment([(name.to_owned(), value.to_owned())].into());
        assert!(of("TABLE", "photos").is_ok());
        assert!(of("AWS_REGION", "x").unwrap_err().to_string().ends_with("AWS_REGION"));
        assert!(of("1A", "x").is_err());
        assert!(of("A", "x").is_err());
        assert!(of("BIG", &"x".repeat(4096)).unwrap_err().to_string().contains("4KB"));
    }
}
