//! The service and what its operations share: store, blobs, time, and which blobs are in use right now.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use aws::{
    Authorizer, Body, Caller, CredentialSource, DataKeys, EventTargets, PolicyCheck, RequestContext,
    RoleSource, Signed,
};
use blobs::{BlobId, Blobs};
use http::HeaderMap;
use s3s::service::{S3Service, S3ServiceBuilder};
use store::Store;
use tokio::sync::{Notify, Semaphore};
use types::{AccountId, Region, SharedEnv, Timestamp};

use crate::access_log::{AccessLogs, Facts, Waiting};
use crate::encryption::{self, CustomerKey, DataKey, Encryption, MasterKey, Means, Seal};
use crate::expiry::Lifecycle;
use crate::frontend::Frontend;
use crate::garbage::Sweeper;
use crate::homes::Homes;
use crate::intake::{CHUNKS_UNDER_WAY, HASHING_THREADS};
use crate::lock::{self, Lock};
use crate::notify::Cause;
use crate::pace::FRAMES_AHEAD;
use crate::read::Address;
use crate::route::Route;
use crate::scrub::Scrubber;
use crate::tables::NameRow;
use crate::versions::Which;
use crate::{Config, Error};

/// Who decides on rights where a bucket has a say.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Reads policies before buckets get them.
    pub policies: Arc<dyn PolicyCheck>,
    /// Knows whom policies may name.
    pub roles: Arc<dyn RoleSource>,
    /// Decides what a web site may show.
    pub authorizer: Arc<dyn Authorizer>,
    /// Knows the keys that forms are signed with.
    pub credentials: Arc<dyn CredentialSource>,
    /// Keeps the keys that objects are sealed with on request.
    pub keys: Arc<dyn DataKeys>,
    /// Knows whether functions and queues would take events.
    pub targets: Arc<dyn EventTargets>,
}

/// Amazon S3, as an [`aws::Api`].
pub struct S3 {
    pub(crate) inner: Arc<Inner>,
    pub(crate) protocol: S3Service,
}

impl S3 {
    /// The service; [`S3::sweeper`] must run beside it. The key has been claimed for the store.
    pub fn new(
        config: Config,
        store: Store,
        blobs: Arc<dyn Blobs>,
        env: SharedEnv,
        region: Region,
        master: MasterKey,
        rights: Rights,
    ) -> Arc<Self> {
        let inner = Arc::new(Inner {
            config,
            homes: Homes::new(store.clone()),
            store,
            blobs,
            env,
            region,
            master,
            rights,
            writing: Mutex::default(),
            reading: Mutex::default(),
            chunks: Arc::new(Semaphore::new(CHUNKS_UNDER_WAY)),
            ahead: Arc::new(Semaphore::new(FRAMES_AHEAD)),
            hashing: Arc::new(Semaphore::new(HASHING_THREADS)),
            abandoned: AtomicBool::new(true),
            wake: Notify::new(),
            chores: Notify::new(),
            logs: Mutex::default(),
            log_wake: Notify::new(),
        });
        let protocol = S3ServiceBuilder::new(Frontend { inner: inner.clone() }).build();
        Arc::new(Self { inner, protocol })
    }

    /// The background work: removes blobs that nothing refers to. One runs on a node.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.inner.clone())
    }
}

impl S3 {
    /// Background work, too: reads blobs again to find damage. One runs on a node.
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.inner.clone())
    }

    /// And more: writes access logs. One runs on a node.
    pub fn access_logs(&self) -> AccessLogs {
        AccessLogs::new(self.inner.clone())
    }

    /// More background work: removes what lifecycle rules say. One runs on a node.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle::new(self.inner.clone())
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

/// What operations share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    homes: Homes,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    pub(crate) master: MasterKey,
    pub(crate) rights: Rights,
    /// Blobs of uploads under way.
    pub(crate) writing: Mutex<HashSet<BlobId>>,
    /// How many downloads under way read each blob.
    pub(crate) reading: Mutex<HashMap<BlobId, u32>>,
    /// Room for the chunks of uploads, and for what downloads are ahead of their clients.
    pub(crate) chunks: Arc<Semaphore>,
    pub(crate) ahead: Arc<Semaphore>,
    /// The threads that hash large bodies.
    pub(crate) hashing: Arc<Semaphore>,
    /// Whether there may be pending blobs that no upload under way writes: true at start.
    pub(crate) abandoned: AtomicBool,
    /// Wakes the sweeper.
    pub(crate) wake: Notify,
    /// Wakes what carries out lifecycle rules.
    pub(crate) chores: Notify,
    /// Lines of access logs that wait, and what wakes their writer.
    pub(crate) logs: Mutex<Waiting>,
    pub(crate) log_wake: Notify,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Inner {
    /// 128 random bits.
    pub(crate) fn random_id(&self) -> BlobId {
        let mut id = [0; 16];
        self.env.fill(&mut id);
        BlobId(id)
    }

    /// Random bits for the id of a version.
    pub(crate) fn noise(&self) -> u64 {
        let mut noise = [0; 8];
        self.env.fill(&mut noise);
        u64::from_be_bytes(noise)
    }

    /// What a caller can open things with.
    pub(crate) fn means<'a>(&'a self, caller: &'a Caller, customer: Option<&'a CustomerKey>) -> Means<'a> {
        Means { master: &self.master, keys: &*self.rights.keys, caller, customer }
    }

    /// What is known of a bucket from its name.
    pub(crate) async fn home(&self, bucket: &str) -> Result<Option<Arc<NameRow>>, Error> {
        self.homes.get(bucket).await
    }
}

/// A request on its way through the protocol crate and back: carried in the request's extensions.
pub(crate) struct State {
    pub(crate) context: RequestContext,
    pub(crate) route: Route,
    /// How it was signed, if by a header or its query.
    pub(crate) signed: Option<Signed>,
    /// The query string as it came.
    pub(crate) query: String,
    /// The headers as they came.
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<aws::chunked::Trailers>,
    /// The body of an upload, which goes around the protocol crate.
    pub(crate) body: Mutex<Option<Body>>,
    /// The body of a download, which goes around it too.
    pub(crate) answer: Mutex<Option<Body>>,
    /// What is known of the bucket that is named, and of that of the source of a copy, from their names.
    pub(crate) home: Option<Arc<NameRow>>,
    pub(crate) source_home: Option<Arc<NameRow>>,
    /// Of the keys that DeleteObjects names, those that the caller may not delete, and why.
    pub(crate) denied: HashMap<(String, Option<String>), String>,
    /// Whether the operation caused an event.
    pub(crate) caused: Arc<AtomicBool>,
    /// The error that an operation ended with, with all its members.
    pub(crate) failure: Mutex<Option<aws::Error>>,
    /// What an access log tells of it, where there is one.
    pub(crate) facts: Mutex<Facts>,
}

impl State {
    /// Whether a bucket that the request is about has an access log.
    pub(crate) fn is_logged(&self) -> bool {
        [&self.home, &self.source_home].into_iter().flatten().any(|home| home.logging.is_some())
    }
}

/// What an operation gets: the service, and its own request.
#[derive(Clone)]
pub(crate) struct Cx {
    pub(crate) inner: Arc<Inner>,
    pub(crate) state: Arc<State>,
}

impl Cx {
    /// The bucket that the request names.
    pub(crate) fn bucket(&self) -> &str {
        self.state.route.bucket.as_deref().unwrap_or_default()
    }

    /// The key that the request names.
    pub(crate) fn key(&self) -> &str {
        self.state.route.key.as_deref().unwrap_or_default()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.state.context.caller.account
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.env.now()
    }

    /// Notes what access logs will tell of the request, if there are any.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Facts)) {
        if self.state.is_logged() {
            note(&mut self.state.facts.lock().expect("no holder of this lock panics"));
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause::new(&self.state.context, &self.inner.env, self.state.caused.clone())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.state.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The account whose rows the request's bucket is.
    pub(crate) async fn owner(&self) -> Result<AccountId, Error> {
        Ok(self.home().await?.owner)
    }

    /// The account whose rows the request's bucket is, and what else is known of it: as it was when the request
    /// was authorised.
    pub(crate) async fn home(&self) -> Result<Arc<NameRow>, Error> {
        self.checked(self.state.home.as_ref(), self.bucket(), "x-amz-expected-bucket-owner")
    }

    /// The same of the bucket of a copy's source.
    pub(crate) fn source_home(&self, bucket: &str) -> Result<Arc<NameRow>, Error> {
        self.checked(self.state.source_home.as_ref(), bucket, "x-amz-source-expected-bucket-owner")
    }

    fn checked(
        &self,
        home: Option<&Arc<NameRow>>,
        bucket: &str,
        expectation: &str,
    ) -> Result<Arc<NameRow>, Error> {
        let home = home.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?;
        match self.header(expectation) {
            Some(expected) if expected != home.owner.to_string() => Err(Error::AccessDenied),
            Some(_) | None => Ok(home.clone()),
        }
    }

    /// The object that the request names.
    pub(crate) fn address(&self, home: &NameRow, version: Option<&str>) -> Result<Address<'_>, Error> {
        Ok(Address {
            owner: home.owner,
            bucket: self.bucket(),
            key: self.key(),
            which: Which::read(version)?,
            versioned: home.versioned,
        })
    }

    /// What the request can open things with, if it brings that key.
    pub(crate) fn means<'a>(&'a self, customer: Option<&'a CustomerKey>) -> Means<'a> {
        self.inner.means(&self.state.context.caller, customer)
    }

    /// The key that opens an object which the request reads.
    pub(crate) async fn opener(&self, encryption: Option<&Encryption>) -> Result<Option<DataKey>, Error> {
        let customer = CustomerKey::of_request(&self.state.headers)?;
        encryption::opener(encryption, self.means(customer.as_ref())).await
    }

    /// Refuses the request if the key that it brings is not that of an object of which it reads all but the bytes.
    pub(crate) fn check_customer(&self, encryption: Option<&Encryption>) -> Result<(), Error> {
        let customer = CustomerKey::of_request(&self.state.headers)?;
        encryption::check_customer(encryption, customer.as_ref())
    }

    /// How the object is sealed that the request makes.
    pub(crate) async fn seal(&self) -> Result<Seal, Error> {
        let asked = encryption::Asked::of_request(&self.state.headers)?;
        let usual = self.state.home.as_ref().and_then(|home| home.encryption.as_ref());
        let arn = format!("arn:aws:s3:::{}/{}", self.bucket(), self.key());
        asked.seal(self.means(None), &*self.inner.env, &arn, usual).await
    }

    /// Random bits for the id of a version.
    pub(crate) fn noise(&self) -> u64 {
        self.inner.noise()
    }

    /// Whether the request is to bypass a retention that lets itself be bypassed; the right to was asked for.
    pub(crate) fn bypasses(&self) -> bool {
        self.header("x-amz-bypass-governance-retention").is_some_and(|v| v.eq_ignore_ascii_case("true"))
    }

    /// The lock that the request asks for.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        lock::of_headers(&self.state.headers, self.now())
    }
}
