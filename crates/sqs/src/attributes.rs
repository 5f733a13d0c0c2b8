//! What can be set of a queue (Amazon SQS API reference, SetQueueAttributes).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{AccountId, Arn, Region};

use crate::Error;

/// Largest message, and largest batch of them, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: u32 = 1 << 20;

/// What is set of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) visibility_s: u32,
    pub(crate) delay_s: u32,
    pub(crate) retention_s: u32,
    pub(crate) wait_s: u32,
    pub(crate) max_bytes: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redrive: Option<Redrive>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redrive_allow: Option<RedriveAllow>,
    /// The policy document (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility_s: 30,
            delay_s: 0,
            retention_s: 345_600,
            wait_s: 0,
            max_bytes: MAX_MESSAGE_BYTES,
            redrive: None,
            redrive_allow: None,
            policy: None,
        }
    }
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redrive {
    /// Name of the dead-letter queue, which is of the same account.
    pub(crate) queue: String,
    pub(crate) max_receives: u32,
    /// As it was given.
    pub(crate) text: String,
}

/// Which queues may have this one as their dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RedriveAllow {
    pub(crate) permission: Permission,
    #[serde(default)]
    pub(crate) sources: Vec<String>,
    /// As it was given.
    pub(crate) text: String,
}

/// See [`RedriveAllow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Permission {
    AllowAll,
    DenyAll,
    ByQueue,
}

/// Whose queue it is that is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) account: AccountId,
    pub(crate) region: &'a Region,
}

/// The names of what can be asked for and not set.
const READ_ONLY: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// Whether an attribute of that name can be asked for.
pub(crate) fn is_known(name: &str) -> bool {
    let set = [
        "All",
        "Policy",
        "VisibilityTimeout",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "DelaySeconds",
        "ReceiveMessageWaitTimeSeconds",
        "RedrivePolicy",
        "RedriveAllowPolicy",
        "FifoQueue",
        "ContentBasedDeduplication",
        "KmsMasterKeyId",
        "KmsDataKeyReusePeriodSeconds",
        "DeduplicationScope",
        "FifoThroughputLimit",
        "SqsManagedSseEnabled",
    ];
    set.contains(&name) || READ_ONLY.contains(&name)
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32, Error> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Error::InvalidAttributeValue(name.to_owned()))
}

/// The name of a queue that an ARN names, if it is one of that account here.
pub(crate) fn name_of(arn: &str, owner: Owner<'_>) -> Option<String> {
    let arn: Arn = arn.parse().ok()?;
    let ours = arn.service == "sqs"
        && arn.region == owner.region.as_str()
        && arn.account == owner.account.to_string();
    (ours && !arn.resource.contains([':', '/'])).then_some(arn.resource)
}

fn redrive(text: &str, owner: Owner<'_>) -> Result<Redrive, Error> {
    let invalid = |reason: &str| Error::value(text, "RedrivePolicy", reason);
    let value: Value =
        serde_json::from_str(text).map_err(|_| invalid("Redrive policy is not a valid JSON map."))?;
    let Value::Object(members) = value else {
        return Err(invalid("Redrive policy is not a valid JSON map."));
    };
    if let Some(other) =
        members.keys().find(|key| !matches!(&***key, "deadLetterTargetArn" | "maxReceiveCount"))
    {
        return Err(invalid(&format!("Redrive policy has the unknown parameter {other}.")));
    }
    let target = members.get("deadLetterTargetArn").and_then(Value::as_str);
    let target = target.ok_or_else(|| {
        invalid("Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
    })?;
    let most = members
        .get("maxReceiveCount")
        .ok_or_else(|| invalid("Redrive policy does not contain mandatory attribute: maxReceiveCount."))?;
    let most = match most {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let most = most.filter(|most| (1..=1000).contains(most)).and_then(|most| u32::try_from(most).ok());
    let max_receives =
        most.ok_or_else(|| invalid("Invalid value for maxReceiveCount: it is between 1 and 1000."))?;
    let queue = name_of(target, owner).ok_or_else(|| {
        invalid("Dead-letter target is not a queue of the same account and region as the source.")
    })?;
    Ok(Redrive { queue, max_receives, text: text.to_owned() })
}

fn redrive_allow(text: &str) -> Result<RedriveAllow, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Given {
        redrive_permission: Permission,
        source_queue_arns: Option<Vec<String>>,
    }
    let invalid = |reason: &str| Error::value(text, "RedriveAllowPolicy", reason);
    let given: Given =
        serde_json::from_str(text).map_err(|_| invalid("Redrive allow policy is not valid."))?;
    let sources = given.source_queue_arns.unwrap_or_default();
    match given.redrive_permission {
        Permission::ByQueue if sources.is_empty() || sources.len() > 10 => {
            return Err(invalid("sourceQueueArns has 1 to 10 ARNs for the permission byQueue."));
        }
        Permission::AllowAll | Permission::DenyAll if !sources.is_empty() => {
            return Err(invalid("sourceQueueArns is for the permission byQueue alone."));
        }
        Permission::ByQueue | Permission::AllowAll | Permission::DenyAll => {}
    }
    Ok(RedriveAllow { permission: given.redrive_permission, sources, text: text.to_owned() })
}

impl RedriveAllow {
    /// Whether the queue with that ARN may have this one as its dead-letter queue.
    pub(crate) fn allows(&self, source: &str) -> bool {
        match self.permission {
            Permission::AllowAll => true,
            Permission::DenyAll => false,
            Permission::ByQueue => self.sources.iter().any(|allowed| allowed == source),
        }
    }
}

impl Settings {
    /// Sets what is given. Policies are checked by who knows them.
    pub(crate) fn apply(&mut self, given: &BTreeMap<String, String>, owner: Owner<'_>) -> Result<(), Error> {
        for (name, value) in given {
            match name.as_str() {
                "VisibilityTimeout" => self.visibility_s = number(name, value, 0, 43_200)?,
                "DelaySeconds" => self.delay_s = number(name, value, 0, 900)?,
                "MessageRetentionPeriod" => self.retention_s = number(name, value, 60, 1_209_600)?,
                "ReceiveMessageWaitTimeSeconds" => self.wait_s = number(name, value, 0, 20)?,
                "MaximumMessageSize" => self.max_bytes = number(name, value, 1024, MAX_MESSAGE_BYTES)?,
                "RedrivePolicy" => {
                    self.redrive = if value.is_empty() { None } else { Some(redrive(value, owner)?) };
                }
                "RedriveAllowPolicy" => {
                    self.redrive_allow = if value.is_empty() { None } else { Some(redrive_allow(value)?) };
                }
                "Policy" => self.policy = (!value.is_empty()).then(|| value.clone()),
                // What a queue of this kind is without being told.
                "SqsManagedSseEnabled" if value == "false" => {}
                "KmsMasterKeyId" if value.is_empty() => {}
                "FifoQueue" | "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" => {
                    return Err(fifo());
                }
                "SqsManagedSseEnabled" | "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" => {
                    return Err(Error::Unsupported(format!(
                        "{name} is not supported by this node: messages are not sealed under keys."
                    )));
                }
                _ => return Err(Error::InvalidAttributeName(name.clone())),
            }
        }
        Ok(())
    }

    /// What is set, by name.
    pub(crate) fn shown(&self) -> BTreeMap<&'static str, String> {
        let mut shown = BTreeMap::from([
            ("VisibilityTimeout", self.visibility_s.to_string()),
            ("DelaySeconds", self.delay_s.to_string()),
            ("MessageRetentionPeriod", self.retention_s.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.wait_s.to_string()),
            ("MaximumMessageSize", self.max_bytes.to_string()),
            ("SqsManagedSseEnabled", "false".to_owned()),
        ]);
        if let Some(redrive) = &self.redrive {
            shown.insert("RedrivePolicy", redrive.text.clone());
        }
        if let Some(allow) = &self.redrive_allow {
            shown.insert("RedriveAllowPolicy", allow.text.clone());
        }
        if let Some(policy) = &self.policy {
            shown.insert("Policy", policy.clone());
        }
        shown
    }

    /// The first attribute of which `given` says something else.
    pub(crate) fn difference(
        &self,
        given: &BTreeMap<String, String>,
        owner: Owner<'_>,
    ) -> Result<Option<String>, Error> {
        for (name, value) in given {
            let mut other = self.clone();
            other.apply(&BTreeMap::from([(name.clone(), value.clone())]), owner)?;
            if other != *self {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }
}

/// There are none yet.
pub(crate) fn fifo() -> Error {
    Error::Unsupported(
        "FIFO queues are not supported by this node; a standard queue delivers each message at least once, in no \
         promised order."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let region = Region::default();
        let owner = Owner { account: AccountId::DEFAULT, region: &region };
        settings.apply(&BTreeMap::from([(name.to_owned(), value.to_owned())]), owner)?;
        Ok(settings)
    }

    #[test]
    fn values_have_their_bounds() {
        for (name, good, bad) in [
            ("VisibilityTimeout", "43200", "43201"),
            ("DelaySeconds", "900", "-1"),
            ("MessageRetentionPeriod", "60", "59"),
            ("ReceiveMessageWaitTimeSeconds", "20", "21"),
            ("MaximumMessageSize", "1048576", "1048577"),
        ] {
            let shown = set(name, good).unwrap().shown();
            assert_eq!(shown[name], good);
            assert!(matches!(set(name, bad), Err(Error::InvalidAttributeValue(_))), "{name} {bad}");
            assert!(set(name, "x").is_err());
        }
        assert!(matches!(set("Color", "red"), Err(Error::InvalidAttributeName(_))));
        assert!(matches!(set("FifoQueue", "true"), Err(Error::Unsupported(_))));
        assert!(matches!(set("QueueArn", "x"), Err(Error::InvalidAttributeName(_))));
    }

    #[test]
    fn redrive_policies_name_a_queue_next_to_it() {
        let policy =
            |arn: &str, most: &str| format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{most}}}"#);
        let good = "arn:aws:sqs:us-east-1:000000000000:dead";
        for most in ["3", "\"3\""] {
            let redrive = set("RedrivePolicy", &policy(good, most)).unwrap().redrive.unwrap();
            assert_eq!((redrive.queue.as_str(), redrive.max_receives), ("dead", 3));
        }
        for (arn, most) in [
            (good, "0"),
            (good, "1001"),
            ("dead", "3"),
            ("arn:aws:sqs:us-east-1:000000000001:dead", "3"),
            ("arn:aws:sqs:eu-west-1:000000000000:dead", "3"),
            ("arn:aws:sns:us-east-1:000000000000:dead", "3"),
        ] {
            assert!(set("RedrivePolicy", &policy(arn, most)).is_err(), "{arn} {most}");
        }
        assert!(set("RedrivePolicy", "{}").is_err());
        assert_eq!(set("RedrivePolicy", "").unwrap().redrive, None);
        let allow = r#"{"redrivePermission":"byQueue","sourceQueueArns":["a"]}"#;
        let allow = set("RedriveAllowPolicy", allow).unwrap().redrive_allow.unwrap();
        assert!(allow.allows("a") && !allow.allows("b"));
        assert!(set("RedriveAllowPolicy", r#"{"redrivePermission":"byQueue"}"#).is_err());
    }
}
