//! The service and what its operations share: store, blobs, time, and which blobs are in use right now.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use aws::{Body, RequestContext};
use blobs::{BlobId, Blobs};
use http::HeaderMap;
use s3s::service::{S3Service, S3ServiceBuilder};
use store::Store;
use tokio::sync::Notify;
use types::{AccountId, Region, SharedEnv, Timestamp};

use crate::frontend::Frontend;
use crate::garbage::Sweeper;
use crate::notify::Cause;
use crate::route::Route;
use crate::tables::{self, NAMES};
use crate::{Config, Error};

/// Amazon S3, as an [`aws::Api`].
pub struct S3 {
    pub(crate) inner: Arc<Inner>,
    pub(crate) protocol: S3Service,
}

impl S3 {
    /// The service; [`S3::sweeper`] must run beside it.
    pub fn new(
        config: Config,
        store: Store,
        blobs: Arc<dyn Blobs>,
        env: SharedEnv,
        region: Region,
    ) -> Arc<Self> {
        let inner = Arc::new(Inner {
            config,
            store,
            blobs,
            env,
            region,
            writing: Mutex::default(),
            reading: Mutex::default(),
            abandoned: AtomicBool::new(true),
            wake: Notify::new(),
        });
        let protocol = S3ServiceBuilder::new(Frontend { inner: inner.clone() }).build();
        Arc::new(Self { inner, protocol })
    }

    /// The background work: removes blobs that nothing refers to. One runs on a node.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.inner.clone())
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
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    /// Blobs of uploads under way.
    pub(crate) writing: Mutex<HashSet<BlobId>>,
    /// How many downloads under way read each blob.
    pub(crate) reading: Mutex<HashMap<BlobId, u32>>,
    /// Whether there may be pending blobs that no upload under way writes: true at start.
    pub(crate) abandoned: AtomicBool,
    /// Wakes the sweeper.
    pub(crate) wake: Notify,
}

impl Inner {
    /// 128 random bits.
    pub(crate) fn random_id(&self) -> BlobId {
        let mut id = [0; 16];
        self.env.fill(&mut id);
        BlobId(id)
    }
}

/// A request on its way through the protocol crate and back: carried in the request's extensions.
pub(crate) struct State {
    pub(crate) context: RequestContext,
    pub(crate) route: Route,
    /// The query string as it came.
    pub(crate) query: String,
    /// The headers as they came.
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<aws::chunked::Trailers>,
    /// The body of an upload, which goes around the protocol crate.
    pub(crate) body: Mutex<Option<Body>>,
    /// The body of a download, which goes around it too.
    pub(crate) answer: Mutex<Option<Body>>,
    /// Whether the operation caused an event.
    pub(crate) caused: Arc<AtomicBool>,
    /// The error that an operation ended with, with all its members.
    pub(crate) failure: Mutex<Option<aws::Error>>,
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

    pub(crate) fn cause(&self) -> Cause {
        Cause::new(&self.state.context, &self.inner.env, self.state.caused.clone())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.state.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The account whose rows the request's bucket is.
    pub(crate) async fn owner(&self) -> Result<AccountId, Error> {
        self.owner_of(self.bucket(), "x-amz-expected-bucket-owner").await
    }

    /// The account whose rows a bucket is. Only that account's principals may use it: what a policy of another
    /// account says about this bucket's ARN is for that account to say only about its own.
    pub(crate) async fn owner_of(&self, bucket: &str, expectation: &str) -> Result<AccountId, Error> {
        let row = NAMES.get(&self.inner.store, tables::name_key(bucket)).await?;
        let owner = row.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?.value.owner;
        let expected = self.header(expectation).is_none_or(|expected| expected == owner.to_string());
        if owner != self.account() || !expected {
            return Err(Error::AccessDenied);
        }
        Ok(owner)
    }
}
