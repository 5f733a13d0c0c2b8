//! Blobs as objects of a bucket, at AWS or anywhere else that speaks S3.
//!
//! Layout, under the prefix: `blobs/<id>` (see `format`); `uploads/<id>`, the id of the multipart upload that makes
//! a large one, for as long as it is under way; `hawker-blobs`, which tells one such place from another.
//!
//! Invariants: an object appears whole or not at all, since that is what S3 promises of one. An upload that a crash
//! cut short is found by its blob's id, and deleting that blob removes it too. Memory is flat: what clients send
//! waits in files that have no name (see `upload`), and no more than a few parts are in memory at once, however
//! many uploads there are. Every byte that is read is verified, by checksums that came with it.

mod address;
mod format;
mod http;
mod upload;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use tokio::sync::Semaphore;

use crate::fs::parse_id;
use crate::{BlobId, Blobs, ByteStream, Error};
pub use address::{BucketAddress, BucketAddressError};
use format::Decoder;

/// Parts that are in memory at once: all uploads together.
const PARTS_IN_MEMORY: usize = 8;
/// An upload this old is nobody's: clients' requests do not live longer.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Blobs in a bucket.
#[derive(Debug)]
pub struct S3Blobs {
    shared: Arc<Shared>,
    mark: String,
}

#[derive(Debug)]
struct Shared {
    store: AmazonS3,
    prefix: Path,
    /// For messages.
    address: String,
    /// Where what clients send waits.
    spool: PathBuf,
    parts: Semaphore,
}

/// Which place is expected. A place is known by its mark, which is like no other's and goes along if its objects are
/// copied elsewhere.
#[derive(Debug, Clone, Copy)]
pub enum Mark<'a> {
    /// Any; one that was never used gets this mark.
    New(&'a str),
    /// The one that has this mark.
    Known(&'a str),
}

impl S3Blobs {
    /// Finds the bucket, by the credentials in the variables of `environment` whose names AWS's clients know, and sees
    /// that it can be used and is the one that is expected. What clients send waits in files in `spool`.
    pub async fn open(
        address: &BucketAddress,
        environment: impl IntoIterator<Item = (String, String)>,
        spool: impl Into<PathBuf>,
        expected: Mark<'_>,
    ) -> Result<Arc<Self>, Error> {
        let spool = spool.into();
        let made = spool.clone();
        crate::fs::blocking(move || std::fs::create_dir_all(made).map_err(crate::fs::failure)).await?;
        let store = address.client(environment).map_err(|error| failure(&error))?;
        let shared = Arc::new(Shared {
            store,
            prefix: Path::from(&*address.prefix),
            address: address.to_string(),
            spool,
            parts: Semaphore::new(PARTS_IN_MEMORY),
        });
        let mark = shared.claim(expected).await?;
        shared.abort_abandoned().await?;
        Ok(Arc::new(Self { shared, mark }))
    }

    /// What tells this place from any other.
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

impl BucketAddress {
    /// The bucket as all its clients see it, with the credentials of an environment.
    pub fn client(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> object_store::Result<AmazonS3> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in environment {
            if name.starts_with("AWS_")
                && let Ok(key) = name.to_ascii_lowercase().parse()
            {
                builder = builder.with_config(key, value);
            }
        }
        builder = builder
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(self.virtual_hosted)
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(50),
                    max_backoff: Duration::from_secs(4),
                    base: 2.0,
                },
                max_retries: 6,
                retry_timeout: Duration::from_secs(30),
            })
            .with_http_connector(http::Connector);
        if let Some(endpoint) = &self.endpoint {
            let endpoint = match (self.virtual_hosted, endpoint.split_once("://")) {
                (true, Some((scheme, host))) => format!("{scheme}://{}.{host}", self.bucket),
                (true | false, _) => endpoint.clone(),
            };
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        builder.build()
    }
}

impl Shared {
    fn path(&self, id: BlobId) -> Path {
        self.prefix.clone().join("blobs").join(id.to_string())
    }

    /// Where the id of the upload is that makes a blob.
    fn upload_path(&self, id: BlobId) -> Path {
        self.prefix.clone().join("uploads").join(id.to_string())
    }

    /// Reads the place's mark, and gives it one if it may have none.
    async fn claim(&self, expected: Mark<'_>) -> Result<String, Error> {
        let path = self.prefix.clone().join("hawker-blobs");
        let named = |error: Error| match error {
            Error::Refused(why) => Error::Refused(format!(
                "{why} (of {}; credentials are those of the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
                self.address
            )),
            Error::Unreachable(why) => Error::Unreachable(format!("{why} (of {})", self.address)),
            other => other,
        };
        for _ in 0..2 {
            match (self.small(&path).await.map_err(named)?, expected) {
                (Some(found), Mark::Known(known)) if found != known => {
                    return Err(Error::Refused(format!(
                        "{} holds the blobs of another data directory",
                        self.address
                    )));
                }
                (Some(found), Mark::New(_) | Mark::Known(_)) => return Ok(found),
                (None, Mark::Known(_)) => {
                    return Err(Error::Refused(format!(
                        "{} does not hold the blobs of this data directory",
                        self.address
                    )));
                }
                (None, Mark::New(mark)) => {
                    let options = PutOptions::from(PutMode::Create);
                    match self.store.put_opts(&path, mark.to_owned().into(), options).await {
                        // Read once more: the first of two nodes is right.
                        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
                        Err(error) => return Err(named(failure(&error))),
                    }
                }
            }
        }
        Err(Error::Refused(format!("{} does not show what was just written to it", self.address)))
    }

    /// A small object's text.
    async fn small(&self, path: &Path) -> Result<Option<String>, Error> {
        match self.store.get(path).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|error| failure(&error))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(object_store::Error::NotFound { .. }) => self.exists(path).await,
            Err(error) => Err(failure(&error)),
        }
    }

    /// Tells an object that is missing from a bucket that is.
    async fn exists(&self, missing: &Path) -> Result<Option<String>, Error> {
        match self.store.list(Some(&self.prefix)).next().await {
            None | Some(Ok(_)) => Ok(None),
            Some(Err(error @ object_store::Error::NotFound { .. })) => {
                Err(Error::Refused(format!("the bucket of {missing} does not exist: {}", innermost(&error))))
            }
            Some(Err(error)) => Err(failure(&error)),
        }
    }

    /// Ends uploads that were begun too long ago for anybody to end them.
    async fn abort_abandoned(&self) -> Result<(), Error> {
        let uploads = self.prefix.clone().join("uploads");
        let mut found = self.store.list(Some(&uploads));
        let now = std::time::SystemTime::now();
        while let Some(upload) = found.try_next().await.map_err(|error| failure(&error))? {
            let begun = std::time::SystemTime::from(upload.last_modified);
            let old = now.duration_since(begun).is_ok_and(|age| age > ABANDONED_AFTER);
            if let Some(id) = upload.location.filename().and_then(parse_id).filter(|_| old) {
                self.end_upload(id).await?;
            }
        }
        Ok(())
    }

    /// Aborts the upload that was to make a blob, if there is one, and forgets it.
    async fn end_upload(&self, id: BlobId) -> Result<(), Error> {
        let path = self.upload_path(id);
        let upload = match self.store.get(&path).await {
            Ok(found) => found.bytes().await.map_err(|error| failure(&error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(failure(&error)),
        };
        let upload = String::from_utf8_lossy(&upload).into_owned();
        absent_is_fine(self.store.abort_multipart(&self.path(id), &upload).await)?;
        absent_is_fine(self.store.delete(&path).await)
    }

    async fn delete(&self, id: BlobId) -> Result<(), Error> {
        // First what would make it.
        self.end_upload(id).await?;
        absent_is_fine(self.store.delete(&self.path(id)).await)
    }

    /// A blob's size, from its object's.
    async fn size(&self, id: BlobId) -> Result<u64, Error> {
        match self.store.head(&self.path(id)).await {
            Ok(object) => format::size_of(object.size).ok_or(Error::Corrupt { id, at: 0 }),
            Err(object_store::Error::NotFound { .. }) => Err(Error::NotFound(id)),
            Err(error) => Err(failure(&error)),
        }
    }

    /// The object's bytes that hold `range` of the blob (all of them: `None`), and the blob's size.
    async fn open(
        &self,
        id: BlobId,
        range: Option<&Range<u64>>,
    ) -> Result<(BoxStream<'static, object_store::Result<Bytes>>, u64), Error> {
        let range = range.map(|range| GetRange::Bounded(format::object_range(range)));
        match self.store.get_opts(&self.path(id), GetOptions { range, ..Default::default() }).await {
            Ok(found) => {
                let size = format::size_of(found.meta.size).ok_or(Error::Corrupt { id, at: 0 })?;
                Ok((found.into_stream(), size))
            }
            Err(object_store::Error::NotFound { .. }) => Err(Error::NotFound(id)),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// No blob is as long: what is asked for beyond is not there.
const LONGEST_BYTES: u64 = 1 << 50;

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, id: BlobId, body: ByteStream) -> Result<u64, Error> {
        upload::put(self.shared.clone(), id, body).await
    }

    async fn get(&self, id: BlobId, range: Range<u64>) -> Result<ByteStream, Error> {
        let outside = |size| Error::Range { start: range.start, end: range.end, size };
        if range.start >= range.end || range.end > LONGEST_BYTES {
            let size = self.shared.size(id).await?;
            let fits = range.start == range.end && range.end <= size;
            return if fits { Ok(stream::empty().boxed()) } else { Err(outside(size)) };
        }
        let (stream, size) = match self.shared.open(id, Some(&range)).await {
            Ok(opened) => opened,
            Err(error @ (Error::NotFound(_) | Error::Corrupt { .. } | Error::Unreachable(_))) => {
                return Err(error);
            }
            // What S3 has for a range that begins behind the end.
            Err(error) => match self.shared.size(id).await? {
                size if range.end > size => return Err(outside(size)),
                _ => return Err(error),
            },
        };
        if range.end > size {
            return Err(outside(size));
        }
        let decoder = Decoder::new(id, size, range);
        let reading = Reading { stream, decoder, ready: Vec::new() };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }

    async fn delete(&self, id: BlobId) -> Result<(), Error> {
        self.shared.delete(id).await
    }

    async fn verify(&self, id: BlobId) -> Result<u64, Error> {
        let (mut stream, size) = self.shared.open(id, None).await?;
        let mut decoder = Decoder::new(id, size, 0..size);
        let mut verified = Vec::new();
        while let Some(piece) = stream.try_next().await.map_err(|error| failure(&error))? {
            decoder.add(piece, &mut verified)?;
            verified.clear();
        }
        decoder.check_trailer()?;
        Ok(size)
    }

    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobId>, Error> {
        let shared = &self.shared;
        let all = shared.prefix.clone().join("blobs");
        let found = match after {
            Some(after) => shared.store.list_with_offset(Some(&all), &shared.path(after)),
            None => shared.store.list(Some(&all)),
        };
        // Objects that are not ours are left alone.
        let ids = found.try_filter_map(|object| {
            let id = object.location.filename().and_then(parse_id);
            std::future::ready(Ok(id.filter(|id| after.is_none_or(|after| *id > after))))
        });
        ids.take(limit).try_collect().await.map_err(|error| failure(&error))
    }
}

/// Where a stream of a blob's bytes stands.
struct Reading {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    decoder: Decoder,
    /// What is verified and comes next, the last first.
    ready: Vec<Bytes>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            if let Some(bytes) = self.ready.pop() {
                return Ok(Some((bytes, self)));
            }
            match self.stream.try_next().await.map_err(|error| failure(&error))? {
                Some(piece) => {
                    self.decoder.add(piece, &mut self.ready)?;
                    self.ready.reverse();
                }
                None if self.decoder.is_done() => return Ok(None),
                None => return Err(Error::Unreachable("an answer ended half way".to_owned())),
            }
        }
    }
}

fn absent_is_fine(outcome: object_store::Result<()>) -> Result<(), Error> {
    match outcome {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(failure(&error)),
    }
}

/// What a failed request means to whoever wanted a blob read or written.
fn failure(error: &object_store::Error) -> Error {
    use object_store::Error as Theirs;
    let why = innermost(error);
    let refused = match error {
        Theirs::PermissionDenied { .. }
        | Theirs::Unauthenticated { .. }
        | Theirs::NotFound { .. }
        | Theirs::AlreadyExists { .. }
        | Theirs::Precondition { .. }
        | Theirs::NotModified { .. }
        | Theirs::NotSupported { .. }
        | Theirs::NotImplemented { .. }
        | Theirs::InvalidPath { .. }
        | Theirs::UnknownConfigurationKey { .. } => true,
        // Of all other answers, those that say that the request itself is at fault.
        _ => why.contains("non-2xx status code: 4") && !why.contains("status code: 429"),
    };
    if refused { Error::Refused(why) } else { Error::Unreachable(why) }
}

/// The words of what is at the bottom of an error, with what is above it where that has words of its own.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    // Answers are XML over many lines.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(600).collect()
}
