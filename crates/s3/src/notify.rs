//! Which functions and queues hear of a change, and what they are told (Amazon S3 user guide, "Event message structure").
//!
//! Invariant: deliveries are written in the commit of the change that they tell of; their sequencer is that
//! commit's version, so for one key a later event always compares greater.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws::{Origin, RequestContext};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::outbox::Delivery;
use store::{Version, Write};
use types::{AccountId, Principal, Region, RequestId, SharedEnv, Timestamp, TraceHeader};

use crate::tables::Bucket;
use crate::versions::{self, VersionId};

/// As whom this service tells others.
pub(crate) const SERVICE: &str = "s3.amazonaws.com";

/// A function or a queue that a bucket's configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) arn: String,
    /// Such as `s3:ObjectCreated:*`.
    pub(crate) events: Vec<String>,
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    #[serde(default)]
    pub(crate) suffix: Option<String>,
}

impl Target {
    /// Whether it is a queue.
    pub(crate) fn is_queue(&self) -> bool {
        self.arn.starts_with("arn:aws:sqs:")
    }

    /// Whether it wants to hear of event `name` (`ObjectCreated:Put`) of `key`.
    pub(crate) fn matches(&self, name: &str, key: &str) -> bool {
        self.events.iter().any(|pattern| event_matches(pattern, name))
            && self.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
            && self.suffix.as_deref().is_none_or(|suffix| key.ends_with(suffix))
    }

    /// Whether some event of some key would go to both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let events = self.events.iter().any(|a| other.events.iter().any(|b| events_overlap(a, b)));
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (a, b) = (text(&self.prefix), text(&other.prefix));
        let prefixes = a.starts_with(&b) || b.starts_with(&a);
        let (a, b) = (text(&self.suffix), text(&other.suffix));
        events && prefixes && (a.ends_with(&b) || b.ends_with(&a))
    }
}

fn event_matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix("s3:").unwrap_or(pattern);
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

fn events_overlap(a: &str, b: &str) -> bool {
    let name = |pattern: &str| pattern.strip_prefix("s3:").unwrap_or(pattern).to_owned();
    event_matches(a, &name(b)) || event_matches(b, &name(a))
}

/// Who and what caused a change, as its events say.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    principal_id: String,
    source_ip: String,
    request_id: RequestId,
    trace: TraceHeader,
    region: Region,
    env: SharedEnv,
    now: Timestamp,
    /// Set once an event is caused.
    caused: Arc<AtomicBool>,
}

impl Cause {
    /// The platform itself, in the background.
    pub(crate) fn of_platform(env: &SharedEnv, region: &Region) -> Self {
        Self {
            principal_id: SERVICE.to_owned(),
            source_ip: "127.0.0.1".to_owned(),
            request_id: RequestId::new(&**env),
            trace: TraceHeader::new(&**env),
            region: region.clone(),
            env: env.clone(),
            now: env.now(),
            caused: Arc::default(),
        }
    }

    pub(crate) fn new(context: &RequestContext, env: &SharedEnv, caused: Arc<AtomicBool>) -> Self {
        let principal_id = match &context.caller.principal {
            Principal::Root { account } => account.to_string(),
            Principal::User { id, .. } => format!("AWS:{id}"),
            Principal::AssumedRole { id, session, .. } => format!("AWS:{id}:{session}"),
            Principal::Service { name, .. } => name.clone(),
            Principal::Anonymous => "Anonymous".to_owned(),
        };
        let source_ip = match &context.caller.origin {
            Origin::Network(address) => address.to_string(),
            Origin::Function(_) | Origin::Platform => "127.0.0.1".to_owned(),
        };
        Self {
            principal_id,
            source_ip,
            request_id: context.request_id,
            trace: context.trace.clone(),
            region: context.region.clone(),
            env: env.clone(),
            now: env.now(),
            caused,
        }
    }
}

/// A change of one object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) owner: AccountId,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// `ObjectCreated:Put`, `ObjectRemoved:Delete` ...
    pub(crate) name: &'static str,
    /// Size and ETag of what was created.
    pub(crate) created: Option<(u64, &'a str)>,
    /// The version's id, or that it is the null version; nothing in buckets that never kept versions.
    pub(crate) version: Option<Option<VersionId>>,
}

impl Change<'_> {
    /// The deliveries it causes in a commit of that version.
    pub(crate) fn deliveries(&self, bucket: &Bucket, cause: &Cause, version: Version) -> Vec<Write> {
        let wanting = bucket.notifications.iter().filter(|target| target.matches(self.name, self.key));
        wanting
            .map(|target| {
                cause.caused.store(true, Ordering::Relaxed);
                let delivery = Delivery {
                    request_id: RequestId::new(&*cause.env),
                    target: target.arn.clone(),
                    source: format!("arn:aws:s3:::{}", self.bucket),
                    service: Some(SERVICE.to_owned()),
                    payload: self.payload(&target.id, cause, version),
                    client_context: None,
                    failures: 0,
                    accepted_at: cause.now,
                    trace: cause.trace.clone(),
                };
                delivery.due(self.owner)
            })
            .collect()
    }

    fn payload(&self, configuration: &str, cause: &Cause, version: Version) -> Bytes {
        let mut object = json!({ "key": url_encode(self.key) });
        if let Some((size, etag)) = self.created {
            object["size"] = size.into();
            object["eTag"] = etag.into();
        }
        if let Some(version) = self.version {
            object["versionId"] = versions::name(version).into();
        }
        object["sequencer"] = format!("{:016X}", version.0).into();
        let event = json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": cause.region.as_str(),
            "eventTime": format!("{:.3}", cause.now),
            "eventName": self.name,
            "userIdentity": { "principalId": cause.principal_id },
            "requestParameters": { "sourceIPAddress": cause.source_ip },
            "responseElements": {
                "x-amz-request-id": cause.request_id.to_string(),
                "x-amz-id-2": host_id(cause.request_id),
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": configuration,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": canonical_id(self.owner)[..14].to_uppercase() },
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": object,
            },
        }] });
        serde_json::to_vec(&event).expect("a JSON value is writable").into()
    }
}

/// What a queue gets when it is to hear of a bucket.
pub(crate) fn test_message(bucket: &str, request_id: RequestId, now: Timestamp) -> Bytes {
    let message = json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": format!("{now:.3}"),
        "Bucket": bucket,
        "RequestId": request_id.to_string(),
        "HostId": host_id(request_id),
    });
    Bytes::from(message.to_string())
}

/// The `x-amz-id-2` of a request.
pub(crate) fn host_id(request_id: RequestId) -> String {
    crate::checksum::encode(request_id.to_string().as_bytes())
}

/// The canonical user id of an account: 64 hexadecimal digits, always the same.
pub(crate) fn canonical_id(account: AccountId) -> String {
    let text = format!("canonical user of account {account}");
    hex::encode(crate::checksum::Algorithm::Sha256.of(text.as_bytes()))
}

/// A key as events and listings write it: form encoding, except that `/` stays.
pub(crate) fn url_encode(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'*' | b'/' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => {
                use std::fmt::Write as _;
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(events: &[&str], prefix: Option<&str>, suffix: Option<&str>) -> Target {
        Target {
            id: "1".into(),
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            events: events.iter().map(|e| (*e).to_owned()).collect(),
            prefix: prefix.map(str::to_owned),
            suffix: suffix.map(str::to_owned),
        }
    }

    #[test]
    fn filters_select() {
        let images = target(&["s3:ObjectCreated:*"], Some("in/"), Some(".jpg"));
        assert!(images.matches("ObjectCreated:Put", "in/cat.jpg"));
        assert!(!images.matches("ObjectCreated:Put", "out/cat.jpg"));
        assert!(!images.matches("ObjectCreated:Put", "in/cat.png"));
        assert!(!images.matches("ObjectRemoved:Delete", "in/cat.jpg"));
        assert!(target(&["s3:ObjectRemoved:Delete"], None, None).matches("ObjectRemoved:Delete", "x"));
    }

    #[test]
    fn overlaps_are_seen() {
        let all = target(&["s3:ObjectCreated:*"], None, None);
        let put = target(&["s3:ObjectCreated:Put"], Some("a/"), None);
        assert!(all.overlaps(&put));
        assert!(!put.overlaps(&target(&["s3:ObjectCreated:Put"], Some("b/"), None)));
        assert!(!put.overlaps(&target(&["s3:ObjectRemoved:*"], None, None)));
    }

    #[test]
    fn keys_are_form_encoded() {
        assert_eq!(url_encode("in/happy face+ä.jpg"), "in/happy+face%2B%C3%A4.jpg");
    }
}
