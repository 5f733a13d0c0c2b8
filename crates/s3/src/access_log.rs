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

use aws::{Access, Caller, Origin, Place, Response};
use http::{HeaderMap, Method};
use http_body::Body as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use types::{AccountId, Principal, Timestamp};

use crate::access::{RequestFacts, Sides};
use crate::checksum::{Algorithm, Hashers};
use crate::encryption;
use crate::lock::Lock;
use crate::notify::{Cause, canonical_id, url_encode};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, placed, settled};
use crate::route::Query;
use crate::service::{Inner, State};
use crate::tables::{NameRow, Object};
use crate::{Error, ingest, route};

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

/// What an operation notes of a request for the logs.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The size of the object, in bytes.
    pub(crate) size: Option<u64>,
    deletions: Vec<Deletion>,
}

/// One deletion of many.
#[derive(Debug)]
struct Deletion {
    key: String,
    version: Option<String>,
    status: u16,
    code: String,
}

impl Facts {
    /// Notes one deletion of many, and how it failed.
    pub(crate) fn note_deletion(&mut self, key: &str, version: Option<&str>, error: Option<&aws::Error>) {
        self.deletions.push(Deletion {
            key: key.to_owned(),
            version: version.map(str::to_owned),
            status: error.map_or(204, |error| error.status),
            code: error.map_or_else(String::new, |error| error.code.to_string()),
        });
    }
}

/// A request as it came.
pub(crate) struct RequestLine {
    method: Method,
    uri: String,
}

impl RequestLine {
    pub(crate) fn of(head: &http::request::Parts) -> Self {
        let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str()).replace('"', "%22");
        Self { method: head.method.clone(), uri }
    }
}

/// How a request was signed: the version of the signature, and where that was.
fn signed(state: &State) -> (&'static str, &'static str) {
    match state.signed {
        None => ("-", "-"),
        Some(signed) => {
            let version = if signed.version == 2 { "SigV2" } else { "SigV4" };
            match signed.place {
                Place::Header => (version, "AuthHeader"),
                Place::Query => (version, "QueryString"),
                // As AWS has it: a form is known by its operation.
                Place::Form => (version, "-"),
            }
        }
    }
}

/// The kind of request, as logs name it.
fn operation(state: &State, method: &Method) -> String {
    let query = &state.query;
    match state.route.name {
        "CopyObject" => return "REST.COPY.OBJECT".to_owned(),
        "UploadPartCopy" => return "REST.COPY.PART".to_owned(),
        "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts" => {
            return format!("REST.{method}.UPLOAD");
        }
        _ => {}
    }
    let kind = [
        ("uploads", "UPLOADS"),
        ("uploadId", "PART"),
        ("tagging", if state.route.key.is_some() { "OBJECT_TAGGING" } else { "TAGGING" }),
        ("acl", "ACL"),
        ("versions", "BUCKETVERSIONS"),
        ("versioning", "VERSIONING"),
        ("policy", "BUCKETPOLICY"),
        ("delete", "MULTI_OBJECT_DELETE"),
        ("location", "LOCATION"),
        ("website", "WEBSITE"),
        ("cors", "CORS"),
        ("lifecycle", "LIFECYCLE"),
        ("encryption", "ENCRYPTION"),
        ("logging", "LOGGING_STATUS"),
        ("notification", "NOTIFICATION"),
        ("publicAccessBlock", "PUBLIC_ACCESS_BLOCK"),
        ("policyStatus", "POLICY_STATUS"),
        ("ownershipControls", "OWNERSHIP_CONTROLS"),
        ("object-lock", "OBJECT_LOCK_CONFIGURATION"),
        ("retention", "OBJECT_LOCK_RETENTION"),
        ("legal-hold", "OBJECT_LOCK_LEGALHOLD"),
        ("attributes", "OBJECT_ATTRIBUTES"),
    ]
    .into_iter()
    .find(|(flag, _)| query.split('&').any(|pair| pair.split('=').next() == Some(flag)));
    let kind = match kind {
        Some((_, kind)) => kind,
        None if state.route.key.is_some() => "OBJECT",
        None => "BUCKET",
    };
    format!("REST.{method}.{kind}")
}

/// What differs between the lines of one request.
struct Line<'a> {
    home: &'a NameRow,
    bucket: &'a str,
    operation: &'a str,
    key: Option<&'a str>,
    status: u16,
    code: &'a str,
    sent: Option<u64>,
    size: Option<u64>,
    version: Option<&'a str>,
}

/// Records a request that was answered: a line for it, one for the source of a copy, one for each of many deletions.
pub(crate) fn record(
    inner: &Inner,
    state: &State,
    asked: &RequestLine,
    result: &Result<Response, aws::Error>,
) {
    let facts = std::mem::take(&mut *state.facts.lock().expect("no holder of this lock panics"));
    let (status, code, sent) = match result {
        Ok(response) => (response.status().as_u16(), "", response.body().size_hint().exact()),
        Err(error) => (error.status, &*error.code, None),
    };
    let answered = result.as_ref().ok().and_then(|response| response.headers().get("x-amz-version-id"));
    let query = Query::parse(&state.query);
    let named = query.get("versionId");
    let operation = operation(state, &asked.method);
    let line = |line: Line<'_>| write(inner, state, asked, &line);
    let bucket = state.route.bucket.as_deref().unwrap_or("-");
    if let Some(home) = &state.home {
        for deletion in &facts.deletions {
            line(Line {
                home,
                bucket,
                operation: "BATCH.DELETE.OBJECT",
                key: Some(&deletion.key),
                status: deletion.status,
                code: &deletion.code,
                sent: None,
                size: None,
                version: deletion.version.as_deref(),
            });
        }
        line(Line {
            home,
            bucket,
            operation: &operation,
            key: state.route.key.as_deref(),
            status,
            code,
            sent,
            size: facts.size,
            version: answered.and_then(|version| version.to_str().ok()).or(named),
        });
    }
    if let (Some(home), Ok(source)) = (&state.source_home, route::copy_source(&state.headers)) {
        line(Line {
            home,
            bucket: &source.bucket,
            operation: &format!("{operation}_GET"),
            key: Some(&source.key),
            status,
            code,
            sent: None,
            size: facts.size,
            version: source.version(),
        });
    }
}

fn write(inner: &Inner, state: &State, asked: &RequestLine, line: &Line<'_>) {
    let Line { home, bucket, operation, .. } = line;
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
    let key = line.key.map_or_else(|| "-".to_owned(), url_encode);
    let quoted = |text: &str| text.replace('"', "%22");
    let took_ms = now.as_millisecond() - context.received_at.as_millisecond();
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (version, place) = signed(state);
    let mut text_line = String::with_capacity(300);
    let _ = writeln!(
        text_line,
        "{} {bucket} [{}] {ip} {requester} {} {operation} {key} \"{} {} HTTP/1.1\" {} {} {} {} {took_ms} - \"{}\" \"{}\" {} {} {} - {} {} - - -",
        canonical_id(home.owner),
        context.received_at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        context.request_id,
        asked.method,
        asked.uri,
        line.status,
        if line.code.is_empty() { "-" } else { line.code },
        number(line.sent.filter(|sent| *sent > 0)),
        number(line.size),
        quoted(text(&state.headers, "referer")),
        quoted(text(&state.headers, "user-agent")),
        line.version.map_or_else(|| "-".to_owned(), url_encode),
        crate::notify::host_id(context.request_id),
        version,
        place,
        text(&state.headers, "host"),
    );
    if inner.logs.lock().expect("no holder of this lock panics").push(home.owner, target, &text_line) {
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
            facts: RequestFacts::NONE,
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
