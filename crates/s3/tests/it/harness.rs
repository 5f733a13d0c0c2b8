//! A service on a store in memory and blobs in a temporary directory, and requests as a client would send them.

use std::sync::Arc;

use aws::chunked::Trailers;
use aws::{Access, Api, Caller, RequestContext};
use base64::Engine as _;
use blobs::{Blobs, FsBlobs};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use md5::Digest as _;
use store::{FjallConfig, FjallEngine, MemoryEngine, Store};
use types::{AccountId, Region, RequestId, SharedEnv, SystemEnv, TraceHeader};

pub(crate) struct Node {
    pub(crate) s3: Arc<s3::S3>,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) env: SharedEnv,
    pub(crate) account: AccountId,
    dir: Option<tempfile::TempDir>,
}

/// Takes every policy for one that is fine, and for public if it names everybody.
#[derive(Debug)]
struct AnyPolicy;

impl aws::PolicyCheck for AnyPolicy {
    fn check(&self, policy: &str) -> Result<aws::PolicyFacts, aws::Error> {
        Ok(aws::PolicyFacts { public: policy.contains("\"Principal\":\"*\"") })
    }
}

#[async_trait::async_trait]
impl aws::Authorizer for AnyPolicy {
    async fn authorize(&self, _caller: &Caller, _needs: &[Access]) -> Result<(), aws::Error> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl aws::CredentialSource for AnyPolicy {
    async fn find(&self, _id: &str, _token: Option<&str>) -> Result<Option<aws::Credential>, aws::Error> {
        Ok(None)
    }
}

/// The other side of the seam to KMS: knows one key, and what a data key of it was bound to.
#[async_trait::async_trait]
impl aws::DataKeys for AnyPolicy {
    async fn generate(&self, usage: &aws::KeyUse<'_>, key: Option<&str>) -> Result<aws::DataKey, aws::Error> {
        if key == Some("missing") {
            let message = "Key 'missing' does not exist";
            return Err(aws::Error::new(types::ErrorKind::NotFound, "NotFoundException", message));
        }
        let key_arn = format!("arn:aws:kms:us-east-1:000000000000:key/{}", key.unwrap_or("own"));
        let sealed = format!("{:?}", usage.context).into_bytes();
        Ok(aws::DataKey { key_arn, plaintext: [7; 32], sealed })
    }

    async fn open(&self, usage: &aws::KeyUse<'_>, sealed: &[u8]) -> Result<[u8; 32], aws::Error> {
        if sealed == format!("{:?}", usage.context).as_bytes() {
            return Ok([7; 32]);
        }
        Err(aws::Error::new(types::ErrorKind::Invalid, "InvalidCiphertextException", ""))
    }
}

/// Nothing is known of anybody.
#[async_trait::async_trait]
impl aws::RoleSource for AnyPolicy {
    async fn assume(
        &self,
        _account: AccountId,
        _role_arn: &str,
        _session_name: &str,
        _service: &str,
        _duration: std::time::Duration,
    ) -> Result<aws::TemporaryCredentials, aws::Error> {
        Err(aws::Error::new(types::ErrorKind::Denied, "AccessDenied", "there are no roles"))
    }

    async fn is_there(&self, _arn: &str) -> Result<Option<bool>, aws::Error> {
        Ok(None)
    }
}

/// Every function and every queue takes events.
#[async_trait::async_trait]
impl aws::EventTargets for AnyPolicy {
    async fn try_out(&self, _test: aws::ServiceMessage<'_>) -> Result<(), aws::Error> {
        Ok(())
    }
}

fn rights() -> s3::Rights {
    let any = Arc::new(AnyPolicy);
    s3::Rights {
        policies: any.clone(),
        roles: any.clone(),
        authorizer: any.clone(),
        credentials: any.clone(),
        keys: any.clone(),
        targets: any,
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The text of every element of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let mut rest = self.text();
        let mut found = Vec::new();
        while let Some((_, after)) = rest.split_once(&format!("<{name}>")) {
            let (value, after) = after.split_once(&format!("</{name}>")).unwrap();
            found.push(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&"));
            rest = after;
        }
        found
    }

    pub(crate) fn one(&self, name: &str) -> String {
        let mut all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {}", self.text());
        all.swap_remove(0)
    }
}

/// A request being put together.
pub(crate) struct Call<'a> {
    node: &'a Node,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: aws::Body,
    trailers: Option<Trailers>,
    account: AccountId,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(s3::Config { blob_grace_ms: 0, scrub_bytes_per_second: 0, ..s3::Config::default() })
    }

    pub(crate) fn with(config: s3::Config) -> Self {
        Self::on(config, tempfile::tempdir().unwrap(), Store::new(MemoryEngine::new()))
    }

    /// One whose rows are on disk too.
    pub(crate) fn on_disk(dir: tempfile::TempDir) -> Self {
        let engine = FjallEngine::open(FjallConfig::new(dir.path().join("store"))).unwrap();
        let config = s3::Config { blob_grace_ms: 0, scrub_bytes_per_second: 0, ..s3::Config::default() };
        Self::on(config, dir, Store::new(engine))
    }

    /// Ends it; the directory is what is left.
    pub(crate) async fn end(mut self) -> tempfile::TempDir {
        self.store.close().await.unwrap();
        self.dir.take().unwrap()
    }

    /// One with a clock of its own.
    pub(crate) fn at(env: SharedEnv) -> Self {
        let config = s3::Config { blob_grace_ms: 0, scrub_bytes_per_second: 0, ..s3::Config::default() };
        Self::of(config, tempfile::tempdir().unwrap(), Store::new(MemoryEngine::new()), env)
    }

    fn on(config: s3::Config, dir: tempfile::TempDir, store: Store) -> Self {
        Self::of(config, dir, store, SystemEnv::new())
    }

    fn of(config: s3::Config, dir: tempfile::TempDir, store: Store, env: SharedEnv) -> Self {
        let blobs: Arc<dyn Blobs> = FsBlobs::open(dir.path().join("blobs")).unwrap();
        let key = s3::MasterKey::open(dir.path().join("objects.key"), &*env).unwrap();
        let s3 =
            s3::S3::new(config, store.clone(), blobs.clone(), env.clone(), Region::default(), key, rights());
        Self { s3, store, blobs, env, account: AccountId::DEFAULT, dir: Some(dir) }
    }

    /// The same store and blobs under a service that has just started.
    pub(crate) fn restarted(mut self) -> Self {
        let config = s3::Config { blob_grace_ms: 0, scrub_bytes_per_second: 0, ..s3::Config::default() };
        let (store, blobs, env) = (self.store.clone(), self.blobs.clone(), self.env.clone());
        let path = self.dir.as_ref().unwrap().path().join("objects.key");
        let key = s3::MasterKey::open(path, &*env).unwrap();
        let s3 =
            s3::S3::new(config, store.clone(), blobs.clone(), env.clone(), Region::default(), key, rights());
        Self { s3, store, blobs, env, account: self.account, dir: self.dir.take() }
    }

    pub(crate) async fn with_bucket(name: &str) -> Self {
        let node = Self::new();
        node.call(Method::PUT, &format!("/{name}")).ok().await;
        node
    }

    pub(crate) fn call(&self, method: Method, target: &str) -> Call<'_> {
        Call {
            node: self,
            method,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: aws::body::full(""),
            trailers: None,
            account: self.account,
        }
    }

    pub(crate) fn get(&self, target: &str) -> Call<'_> {
        self.call(Method::GET, target)
    }

    pub(crate) fn put(&self, target: &str, body: impl Into<Bytes>) -> Call<'_> {
        self.call(Method::PUT, target).body(body)
    }

    pub(crate) fn post(&self, target: &str, body: impl Into<Bytes>) -> Call<'_> {
        self.call(Method::POST, target).body(body)
    }

    pub(crate) fn delete(&self, target: &str) -> Call<'_> {
        self.call(Method::DELETE, target)
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.as_ref().unwrap().path()
    }

    pub(crate) async fn blob_count(&self) -> usize {
        self.blobs.list(None, 10_000).await.unwrap().len()
    }

    /// Everything the sweeper finds to do now.
    pub(crate) async fn sweep(&self) {
        self.s3.sweeper().pass().await.unwrap();
    }

    pub(crate) async fn rows(&self, table: store::TableId, account: AccountId) -> usize {
        let start = store::key::KeyWriter::new(account, table).finish();
        let end = store::key::prefix_end(&start);
        let range = store::Range { start, end, limit: 100_000, limit_bytes: 1 << 30, reverse: false };
        self.store.scan(range).await.unwrap().entries.len()
    }
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// A body; a configuration's digest goes with it, as from every client.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        if body.starts_with(b"<") && self.target.contains('?') && !self.target.contains("uploadId") {
            let digest = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&body));
            self.headers.insert("content-md5", HeaderValue::try_from(digest).unwrap());
        }
        self.headers.insert("content-length", HeaderValue::from(body.len()));
        self.body = aws::body::full(body);
        self
    }

    pub(crate) fn stream(mut self, body: aws::Body, length: u64) -> Self {
        self.headers.insert("content-length", HeaderValue::from(length));
        self.body = body;
        self
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &str) -> Self {
        let trailers = Trailers::default();
        trailers.insert(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self.trailers = Some(trailers);
        self.header("x-amz-trailer", name)
    }

    pub(crate) fn account(mut self, account: AccountId) -> Self {
        self.account = account;
        self
    }

    async fn operation(self) -> Result<Box<dyn aws::Operation>, aws::Error> {
        let Self { node, method, target, headers, body, trailers, account } = self;
        let mut request = http::Request::builder().method(method).uri(target).body(()).unwrap();
        *request.headers_mut() = headers;
        let (mut head, ()) = request.into_parts();
        head.extensions.extend(
            trailers
                .map(|t| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(t);
                    extensions
                })
                .unwrap_or_default(),
        );
        let context = RequestContext {
            caller: Caller::platform(account),
            request_id: RequestId::new(&*node.env),
            trace: TraceHeader::new(&*node.env),
            region: Region::default(),
            received_at: node.env.now(),
            endpoint: "http://127.0.0.1:4566".into(),
        };
        let operation = node.s3.parse(aws::Request { head, body, context }).await?;
        // As the pipeline does it for an account's root.
        let denies = |need: &Access| need.guard.as_ref().is_some_and(|g| g.owner != account && !g.granted);
        if operation.access().iter().any(denies) {
            return Err(aws::Error::new(types::ErrorKind::Denied, "AccessDenied", "Access Denied"));
        }
        Ok(operation)
    }

    pub(crate) async fn access(self) -> Vec<Access> {
        self.operation().await.unwrap().access()
    }

    pub(crate) async fn send(self) -> Result<Answer, aws::Error> {
        let response = self.operation().await?.handle().await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(aws::body::from_body_error)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The answer before its body is read.
    pub(crate) async fn open(self) -> aws::Response {
        self.operation().await.unwrap().handle().await.unwrap()
    }

    pub(crate) async fn ok(self) -> Answer {
        self.send().await.unwrap()
    }

    /// Code and status of the error that it must end with.
    pub(crate) async fn fails(self) -> (String, u16) {
        let error = self.send().await.expect_err("it should be refused");
        (error.code.into_owned(), error.status)
    }
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}
