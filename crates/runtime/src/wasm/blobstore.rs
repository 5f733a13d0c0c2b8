//! wasi:blobstore over S3 buckets, as far as the function's role may use them.
//!
//! Invariant: values go through the host's memory, and no more of them than fits the instance's budget.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use types::ErrorKind;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::io::streams::{InputStream, OutputStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, Pollable, StreamError, StreamResult};

use super::bindings::wasi::blobstore::types::{ContainerMetadata, ObjectId, ObjectMetadata};
use super::bindings::wasi::blobstore::{blobstore, container, types as values};
use super::host::Host;

/// What all values that an instance holds may take, in bytes.
const BUDGET_BYTES: usize = 32 * 1024 * 1024;
/// How much may be written at once.
const WRITE_BYTES: usize = 64 * 1024;
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// What stays as it is in a query.
const QUERY: &AsciiSet = &PATH.add(b'/');

type Answer<T> = Result<T, String>;

/// A bucket, as a component holds it.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Bucket(String);

/// The names of a bucket's objects, as far as they were read.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Listing {
    bucket: String,
    names: VecDeque<String>,
    /// Where the next page begins; `None` if there is none.
    next: Option<Next>,
}

#[derive(Debug)]
enum Next {
    Beginning,
    Token(String),
}

/// An object that was read.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Incoming {
    body: Bytes,
    _share: Share,
}

/// An object that is being written.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Outgoing {
    body: Arc<Mutex<Written>>,
    has_stream: bool,
    target: Option<(String, String)>,
}

#[derive(Debug)]
struct Written {
    bytes: Vec<u8>,
    share: Share,
}

/// What is left of an instance's budget.
#[derive(Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// A part of a budget that is taken.
#[derive(Debug)]
struct Share {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    fn share(&self) -> Share {
        Share { taken: self.0.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes more; false if there is not that much.
    fn grow(&mut self, bytes: usize) -> bool {
        if self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > BUDGET_BYTES {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Writes to an [`Outgoing`].
struct Writer(Arc<Mutex<Written>>);

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl wasmtime_wasi::p2::OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.share.grow(bytes.len()) {
            return Err(StreamError::LastOperationFailed(wasmtime::format_err!("{}", too_large())));
        }
        written.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

fn too_large() -> String {
    format!(
        "values take more than {BUDGET_BYTES} bytes together; use the S3 API for larger ones, or read in parts"
    )
}

fn object_path(bucket: &str, key: &str) -> String {
    format!("/{}/{}", utf8_percent_encode(bucket, QUERY), utf8_percent_encode(key, PATH))
}

/// The texts of all elements of this name, as they stand.
fn texts<'a>(xml: &'a str, element: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let found: Vec<_> = xml.match_indices(&open).map(|(at, _)| &xml[at + open.len()..]).collect();
    found.into_iter().filter_map(move |rest| Some(rest.split_once(&close)?.0))
}

/// A key as a listing with `encoding-type=url` has it.
fn key(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

impl Host {
    /// Calls S3 in the role's name.
    async fn s3(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, aws::Error> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| aws::Error::internal(&error))?;
        *request.headers_mut() = headers;
        let length = request.body().len();
        request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        self.call("s3", request).await
    }

    async fn plain(&mut self, method: Method, path: &str) -> Answer<Response<Bytes>> {
        self.s3(method, path, HeaderMap::new(), Bytes::new()).await.map_err(|error| error.to_string())
    }

    /// True if it is there, false if it is not.
    async fn is_there(&mut self, path: &str) -> Answer<bool> {
        match self.s3(Method::HEAD, path, HeaderMap::new(), Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads the next page into the listing. It may be empty.
    async fn next_page(&mut self, listing: &mut Listing) -> Answer<()> {
        let Some(next) = listing.next.take() else { return Ok(()) };
        let mut path =
            format!("/{}?list-type=2&encoding-type=url", utf8_percent_encode(&listing.bucket, QUERY));
        if let Next::Token(token) = next {
            path.push_str(&format!("&continuation-token={}", utf8_percent_encode(&token, QUERY)));
        }
        let answer = self.plain(Method::GET, &path).await?;
        let xml = String::from_utf8_lossy(answer.body());
        listing.names.extend(texts(&xml, "Key").map(key));
        listing.next = texts(&xml, "NextContinuationToken").next().map(|token| Next::Token(token.to_owned()));
        Ok(())
    }

    async fn copy(&mut self, from: &ObjectId, to: &ObjectId) -> Answer<()> {
        let source = object_path(&from.container, &from.object);
        let mut headers = HeaderMap::new();
        let source = source.parse().map_err(|error| format!("{error}"))?;
        headers.insert("x-amz-copy-source", source);
        let target = object_path(&to.container, &to.object);
        self.s3(Method::PUT, &target, headers, Bytes::new())
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    async fn delete_one(&mut self, bucket: &str, key: &str) -> Answer<()> {
        self.plain(Method::DELETE, &object_path(bucket, key)).await.map(drop)
    }

    async fn empty(&mut self, bucket: &str) -> Answer<()> {
        let mut listing = Listing::of(bucket);
        while listing.next.is_some() {
            self.next_page(&mut listing).await?;
            while let Some(name) = listing.names.pop_front() {
                self.delete_one(bucket, &name).await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self, bucket: &str, key: &str, start: u64, end: u64) -> Answer<Incoming> {
        // One more than there may be tells a value that fits from one that does not.
        let last = end.min(start.saturating_add(BUDGET_BYTES as u64));
        if last < start {
            return Err(format!("the range {start} to {end} is none"));
        }
        let mut headers = HeaderMap::new();
        let range = format!("bytes={start}-{last}").parse().map_err(|error| format!("{error}"))?;
        headers.insert(header::RANGE, range);
        let body = match self.s3(Method::GET, &object_path(bucket, key), headers, Bytes::new()).await {
            Ok(answer) => answer.into_body(),
            // An empty object has no range at all.
            Err(error) if error.status == 416 && start == 0 => Bytes::new(),
            Err(error) => return Err(error.to_string()),
        };
        let mut share = self.budget.share();
        if !share.grow(body.len()) {
            return Err(too_large());
        }
        Ok(Incoming { body, _share: share })
    }

    async fn info_of(&mut self, bucket: &str, key: &str) -> Answer<ObjectMetadata> {
        let answer = self.plain(Method::HEAD, &object_path(bucket, key)).await?;
        let text =
            |name| answer.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let size = text(header::CONTENT_LENGTH).and_then(|size| size.parse().ok()).unwrap_or_default();
        let modified = text(header::LAST_MODIFIED).and_then(|time| jiff::fmt::rfc2822::parse(time).ok());
        let created_at = modified.and_then(|time| u64::try_from(time.timestamp().as_second()).ok());
        let created_at = created_at.ok_or("the object does not tell its time")?;
        Ok(ObjectMetadata { name: key.to_owned(), container: bucket.to_owned(), created_at, size })
    }

    fn bucket(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<String> {
        Ok(self.table().get(bucket)?.0.clone())
    }
}

impl Listing {
    fn of(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), names: VecDeque::new(), next: Some(Next::Beginning) }
    }
}

impl blobstore::Host for Host {
    async fn create_container(&mut self, name: String) -> wasmtime::Result<Answer<Resource<Bucket>>> {
        match self.plain(Method::PUT, &format!("/{}", utf8_percent_encode(&name, QUERY))).await {
            Ok(_) => Ok(Ok(self.table().push(Bucket(name))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn get_container(&mut self, name: String) -> wasmtime::Result<Answer<Resource<Bucket>>> {
        match self.is_there(&format!("/{}", utf8_percent_encode(&name, QUERY))).await {
            Ok(true) => Ok(Ok(self.table().push(Bucket(name))?)),
            Ok(false) => Ok(Err(format!("the bucket `{name}` does not exist"))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn delete_container(&mut self, name: String) -> wasmtime::Result<Answer<()>> {
        if let Err(error) = self.empty(&name).await {
            return Ok(Err(error));
        }
        Ok(self.plain(Method::DELETE, &format!("/{}", utf8_percent_encode(&name, QUERY))).await.map(drop))
    }

    async fn container_exists(&mut self, name: String) -> wasmtime::Result<Answer<bool>> {
        Ok(self.is_there(&format!("/{}", utf8_percent_encode(&name, QUERY))).await)
    }

    async fn copy_object(&mut self, from: ObjectId, to: ObjectId) -> wasmtime::Result<Answer<()>> {
        Ok(self.copy(&from, &to).await)
    }

    async fn move_object(&mut self, from: ObjectId, to: ObjectId) -> wasmtime::Result<Answer<()>> {
        if let Err(error) = self.copy(&from, &to).await {
            return Ok(Err(error));
        }
        if (&from.container, &from.object) == (&to.container, &to.object) {
            return Ok(Ok(()));
        }
        Ok(self.delete_one(&from.container, &from.object).await)
    }
}

impl container::Host for Host {}

impl container::HostContainer for Host {
    async fn name(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<Answer<String>> {
        self.bucket(&bucket).map(Ok)
    }

    async fn info(&mut self, _: Resource<Bucket>) -> wasmtime::Result<Answer<ContainerMetadata>> {
        Ok(Err("a bucket does not tell when it was created".to_owned()))
    }

    async fn get_data(
        &mut self,
        bucket: Resource<Bucket>,
        name: String,
        start: u64,
        end: u64,
    ) -> wasmtime::Result<Answer<Resource<Incoming>>> {
        let bucket = self.bucket(&bucket)?;
        match self.read(&bucket, &name, start, end).await {
            Ok(value) => Ok(Ok(self.table().push(value)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn write_data(
        &mut self,
        bucket: Resource<Bucket>,
        name: String,
        value: Resource<Outgoing>,
    ) -> wasmtime::Result<Answer<()>> {
        let bucket = self.bucket(&bucket)?;
        self.table().get_mut(&value)?.target = Some((bucket, name));
        Ok(Ok(()))
    }

    async fn list_objects(
        &mut self,
        bucket: Resource<Bucket>,
    ) -> wasmtime::Result<Answer<Resource<Listing>>> {
        let listing = Listing::of(&self.bucket(&bucket)?);
        Ok(Ok(self.table().push(listing)?))
    }

    async fn delete_object(
        &mut self,
        bucket: Resource<Bucket>,
        name: String,
    ) -> wasmtime::Result<Answer<()>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.delete_one(&bucket, &name).await)
    }

    async fn delete_objects(
        &mut self,
        bucket: Resource<Bucket>,
        names: Vec<String>,
    ) -> wasmtime::Result<Answer<()>> {
        let bucket = self.bucket(&bucket)?;
        for name in names {
            if let Err(error) = self.delete_one(&bucket, &name).await {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn has_object(&mut self, bucket: Resource<Bucket>, name: String) -> wasmtime::Result<Answer<bool>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.is_there(&object_path(&bucket, &name)).await)
    }

    async fn object_info(
        &mut self,
        bucket: Resource<Bucket>,
        name: String,
    ) -> wasmtime::Result<Answer<ObjectMetadata>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.info_of(&bucket, &name).await)
    }

    async fn clear(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<Answer<()>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.empty(&bucket).await)
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table().delete(bucket)?;
        Ok(())
    }
}

impl Host {
    /// The next names of a listing, at most so many, and whether that was all.
    async fn names(
        &mut self,
        listing: &Resource<Listing>,
        count: u64,
    ) -> wasmtime::Result<Answer<(Vec<String>, bool)>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let empty = Listing { bucket: String::new(), names: VecDeque::new(), next: None };
        let mut held = std::mem::replace(self.table().get_mut(listing)?, empty);
        // A page at a time: whoever wants more asks again.
        while held.names.is_empty() && held.next.is_some() {
            if let Err(error) = self.next_page(&mut held).await {
                return Ok(Err(error));
            }
        }
        let names = held.names.drain(..count.min(held.names.len())).collect();
        let is_end = held.names.is_empty() && held.next.is_none();
        *self.table().get_mut(listing)? = held;
        Ok(Ok((names, is_end)))
    }
}

impl container::HostStreamObjectNames for Host {
    async fn read_stream_object_names(
        &mut self,
        listing: Resource<Listing>,
        count: u64,
    ) -> wasmtime::Result<Answer<(Vec<String>, bool)>> {
        self.names(&listing, count).await
    }

    async fn skip_stream_object_names(
        &mut self,
        listing: Resource<Listing>,
        count: u64,
    ) -> wasmtime::Result<Answer<(u64, bool)>> {
        let skipped = self.names(&listing, count).await?;
        Ok(skipped.map(|(names, is_end)| (names.len() as u64, is_end)))
    }

    async fn drop(&mut self, listing: Resource<Listing>) -> wasmtime::Result<()> {
        self.table().delete(listing)?;
        Ok(())
    }
}

impl values::Host for Host {}

impl values::HostOutgoingValue for Host {
    async fn new_outgoing_value(&mut self) -> wasmtime::Result<Resource<Outgoing>> {
        let body = Arc::new(Mutex::new(Written { bytes: Vec::new(), share: self.budget.share() }));
        Ok(self.table().push(Outgoing { body, has_stream: false, target: None })?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        value: Resource<Outgoing>,
    ) -> wasmtime::Result<Result<Resource<OutputStream>, ()>> {
        let held = self.table().get_mut(&value)?;
        if std::mem::replace(&mut held.has_stream, true) {
            return Ok(Err(()));
        }
        let stream: DynOutputStream = Box::new(Writer(held.body.clone()));
        Ok(Ok(self.table().push_child(stream, &value)?))
    }

    async fn finish(&mut self, value: Resource<Outgoing>) -> wasmtime::Result<Answer<()>> {
        let value = self.table().delete(value)?;
        let Some((bucket, key)) = value.target else {
            return Ok(Err("the value was not given to `write-data`".to_owned()));
        };
        let body = {
            let mut written = value.body.lock().unwrap_or_else(PoisonError::into_inner);
            Bytes::from(std::mem::take(&mut written.bytes))
        };
        let put = self.s3(Method::PUT, &object_path(&bucket, &key), HeaderMap::new(), body).await;
        Ok(put.map(drop).map_err(|error| error.to_string()))
    }

    async fn drop(&mut self, value: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table().delete(value)?;
        Ok(())
    }
}

impl values::HostIncomingValue for Host {
    async fn incoming_value_consume_sync(
        &mut self,
        value: Resource<Incoming>,
    ) -> wasmtime::Result<Answer<Vec<u8>>> {
        Ok(Ok(self.table().delete(value)?.body.into()))
    }

    async fn incoming_value_consume_async(
        &mut self,
        value: Resource<Incoming>,
    ) -> wasmtime::Result<Answer<Resource<InputStream>>> {
        let value = self.table().delete(value)?;
        let stream: DynInputStream = Box::new(MemoryInputPipe::new(value.body));
        Ok(Ok(self.table().push(stream)?))
    }

    async fn size(&mut self, value: Resource<Incoming>) -> wasmtime::Result<u64> {
        Ok(self.table().get(&value)?.body.len() as u64)
    }

    async fn drop(&mut self, value: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table().delete(value)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_out_of_a_listing_as_they_were() {
        let xml = "<R><NextContinuationToken>a+b==</NextContinuationToken><Contents><Key>gr%C3%BCn/a+b%2Bc</Key>\
                   <Size>1</Size></Contents><Contents><Key>2</Key></Contents></R>";
        assert_eq!(Vec::from_iter(texts(xml, "Key").map(key)), ["gr\u{fc}n/a b+c", "2"]);
        assert_eq!(Vec::from_iter(texts(xml, "NextContinuationToken")), ["a+b=="]);
        assert_eq!(object_path("b", "gr\u{fc}n/a b+c%"), "/b/gr%C3%BCn/a%20b%2Bc%25");
    }

    #[test]
    fn values_take_no_more_than_there_is() {
        let budget = Budget::default();
        let mut first = budget.share();
        assert!(first.grow(BUDGET_BYTES - 1));
        let mut second = budget.share();
        assert!(second.grow(1) && !second.grow(1));
        drop(first);
        assert!(second.grow(1));
    }
}
