//! Access logs (Amazon S3 user guide, "Logging requests with server access logging"): what was asked of a bucket, as
//! lines in objects of another.
//!
//! Best effort, as on AWS: lines wait in memory, bounded, and a crash takes those along that were not written yet.
//! The bucket that they go to must let the log delivery in: by its policy (`logging.s3.amazonaws.com`) or its
//! access control list (the group `LogDelivery`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws::{Access, Caller, Origin};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use types::{AccountId, Principal, Timestamp};

use crate::access::Sides;
use crate::checksum::{Algorithm, Hashers};
use crate::encryption;
use crate::lock::Lock;
use crate::notify::{Cause, canonical_id, url_encode};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, placed, settled};
use crate::service::{Inner, State};
use crate::tables::Object;
use crate::{Error, ingest};

/// Lines that wait at most, in bytes; more are dropped.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// So many for one place are written at once.
const FLUSH_BYTES: usize = 1 << 20;

pub(crate) const DELIVERY: &str = "logging.s3.amazonaws.com";

/// Where the lines about a bucket go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogTarget {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    /// Whether it was said that names begin with the prefix alone, as they do anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) simple_prefix: bool,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    lines: BTreeMap<(AccountId, LogTarget), String>,
    bytes: usize,
}

impl Waiting {
    /// Adds a line, and says whether it is time to write.
    fn push(&mut self, owner: AccountId, target: &LogTarget, line: &str) -> bool {
        if self.bytes + line.len() > MAX_WAITING_BYTES {
            return true;
        }
        self.bytes += line.len();
        let lines = self.lines.entry((owner, target.clone())).or_default();
        lines.push_str(line);
        lines.len() >= FLUSH_BYTES
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty()).unwrap_or("-")
}

/// The kind of request, as logs name it.
fn operation(state: &State, method: &str) -> String {
    let query = &state.query;
    let kind = [
        ("uploads", "UPLOADS"),
        ("uploadId", "PART"),
        ("tagging", "TAGGING"),
        ("acl", "ACL"),
        ("versions", "BUCKETVERSIONS"),
        ("versioning", "VERSIONING"),
        ("policy", "BUCKETPOLICY"),
        ("delete", "MULTI_OBJECT_DELETE"),
    ]
    .into_iter()
    .find(|(flag, _)| query.split('&').any(|pair| pair.split('=').next() == Some(flag)));
    let kind = match kind {
        Some(("uploadId", _)) if state.route.name == "CompleteMultipartUpload" => "UPLOAD",
        Some((_, kind)) => kind,
        None if state.route.key.is_some() => "OBJECT",
        None => "BUCKET",
    };
    format!("REST.{method}.{kind}")
}

/// Records a request that was answered.
pub(crate) fn record(
    inner: &Inner,
    state: &State,
    method: &str,
    status: StatusCode,
    code: &str,
    sent: Option<u64>,
) {
    let Some(home) = &state.home else { return };
    let Some(target) = &home.logging else { return };
    let context = &state.context;
    let caller = &context.caller;
    let now = inner.env.now();
    let ip = match &caller.origin {
        Origin::Network(address) => address.to_string(),
        Origin::Function(_) | Origin::Platform => "-".to_owned(),
    };
    let requester = match &caller.principal {
        Principal::Anonymous => "-".to_owned(),
        principal => principal.arn(),
    };
    let bucket = state.route.bucket.as_deref().unwrap_or("-");
    let key = state.route.key.as_deref().map_or_else(|| "-".to_owned(), url_encode);
    let path = if key == "-" { String::new() } else { key.clone() };
    let query = if state.query.is_empty() { String::new() } else { format!("?{}", state.query) };
    let quoted = |text: &str| text.replace('"', "%22");
    let took_ms = now.as_millisecond() - context.received_at.as_millisecond();
    let sent = sent.map_or_else(|| "-".to_owned(), |sent| sent.to_string());
    let mut line = String::with_capacity(300);
    let _ = writeln!(
        line,
        "{} {bucket} [{}] {ip} {requester} {} {} {key} \"{method} /{bucket}/{path}{} HTTP/1.1\" {} {} {sent} - {took_ms} - \"{}\" \"{}\" - {} SigV4 - AuthHeader {} - - -",
        canonical_id(home.owner),
        context.received_at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        context.request_id,
        operation(state, method),
        quoted(&query),
        status.as_u16(),
        if code.is_empty() { "-" } else { code },
        quoted(text(&state.headers, "referer")),
        quoted(text(&state.headers, "user-agent")),
        crate::notify::host_id(context.request_id),
        text(&state.headers, "host"),
    );
    if inner.logs.lock().expect("no holder of this lock panics").push(home.owner, target, &line) {
        inner.log_wake.notify_one();
    }
}

/// Writes the lines that wait into objects. One runs on a node.
#[derive(Debug)]
pub struct AccessLogs {
    inner: Arc<Inner>,
}

impl AccessLogs {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Works until `shutdown`, and writes what waits then.
    pub async fn run(self, shutdown: CancellationToken) {
        let pause = Duration::from_millis(self.inner.config.access_log_pause_ms);
        loop {
            let ends = tokio::select! {
                () = shutdown.cancelled() => true,
                () = self.inner.log_wake.notified() => false,
                () = self.inner.env.sleep(pause) => false,
            };
            self.flush().await;
            if ends {
                return;
            }
        }
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        let waiting = std::mem::take(&mut *self.inner.logs.lock().expect("no holder of this lock panics"));
        for ((owner, target), lines) in waiting.lines {
            if let Err(error) = self.write(owner, &target, lines).await {
                tracing::warn!(bucket = target.bucket, %error, "an access log could not be written; it is dropped");
            }
        }
    }

    async fn write(&self, owner: AccountId, target: &LogTarget, lines: String) -> Result<(), Error> {
        let inner = &self.inner;
        let home = inner.home(&target.bucket).await?.filter(|home| home.owner == owner);
        let home = home.ok_or_else(|| Error::NoSuchBucket(target.bucket.clone()))?;
        let now = inner.env.now();
        let key = key(target, now, inner.noise());
        let caller = Caller {
            principal: Principal::Service { account: owner, name: DELIVERY.to_owned() },
            ..Caller::platform(owner)
        };
        let sides = Sides {
            inner,
            caller: &caller,
            headers: &HeaderMap::new(),
            homes: [Some((&target.bucket, &*home)), None],
        };
        let need = Access::new("s3:PutObject", format!("arn:aws:s3:::{}/{key}", target.bucket));
        let needs = sides.guard(vec![need]).await?;
        let verdict = inner.rights.authorizer.authorize(&caller, &needs).await;
        verdict.map_err(|error| Error::Denied(error.message))?;

        let seal = encryption::managed(&inner.master, &*inner.env);
        let size = lines.len() as u64;
        let limit = inner.config.inline_limit_bytes;
        let hashers = Hashers::new([Algorithm::Crc64Nvme]);
        let body = aws::body::full(lines);
        let (content, digests) = ingest::body_of(inner, body, size, limit, hashers, Some(&seal)).await?;
        let (data, bytes, along) = placed(&content);
        let object = Object {
            size,
            etag: encryption::etag(Some(&seal), &digests),
            modified: now.as_second(),
            data,
            checksum: digests.full(Algorithm::Crc64Nvme),
            headers: BTreeMap::from([("content-type".to_owned(), "text/plain".to_owned())]),
            metadata: BTreeMap::new(),
            tags: Vec::new(),
            parts: 0,
            upload: None,
            encryption: Some(seal.encryption),
            version: None,
            acl: Vec::new(),
            redirect: None,
            lock: Lock::default(),
        };
        let install = Install {
            owner,
            bucket: target.bucket.clone(),
            key,
            object,
            bytes,
            conditions: WriteConditions::default(),
            event: "ObjectCreated:Put",
            cause: Cause::of_platform(&inner.env, &inner.region),
            at_ms: now.as_millisecond(),
            noise: inner.noise(),
            unchanged: None,
            along,
            dead: Vec::new(),
        };
        let _ = install.commit(inner).await?;
        settled(content);
        Ok(())
    }
}

/// The name of a log: the prefix, the time, and something that no other has.
fn key(target: &LogTarget, now: Timestamp, noise: u64) -> String {
    format!("{}{}-{noise:016X}", target.prefix, now.strftime("%Y-%m-%d-%H-%M-%S"))
}
