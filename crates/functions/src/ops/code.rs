//! Getting a package from where a request says it is.

use std::sync::Arc;

use aws::Caller;
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use types::{ErrorKind, TraceHeader};

use super::Cx;
use crate::Error;
use crate::code::{Package, Reread};
use crate::registry::{Image, Reference};
use crate::service::Inner;
use crate::wire::input::FunctionCode;

/// Where a container image is.
pub(super) enum ImageSource {
    /// A package that can be had now, and the URI that it is known by.
    Archive(Package, String),
    /// In a registry: it is there, and comes in the background.
    Registry(Box<Image>),
}

/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How much of a container image is read at a time.
const PIECE_BYTES: u64 = 16 << 20;

/// A container image in a bucket: read in ranges, with the rights of who deploys it.
#[derive(Debug)]
struct ImageArchive {
    inner: Arc<Inner>,
    caller: Caller,
    trace: TraceHeader,
    uri: String,
    etag: HeaderValue,
    size_bytes: u64,
}

impl ImageArchive {
    async fn piece(self: Arc<Self>, from: u64) -> Result<Bytes, blobs::Error> {
        let to = (from + PIECE_BYTES).min(self.size_bytes) - 1;
        let failed = |error: String| blobs::Error::Body(error.into());
        let request = http::Request::get(&self.uri)
            .header(http::header::RANGE, format!("bytes={from}-{to}"))
            // Another image in its place is not half of this one.
            .header(http::header::IF_MATCH, &self.etag)
            .body(Bytes::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.inner.dispatch.call(&self.caller, &self.trace, "s3", request).await;
        answer.map(http::Response::into_body).map_err(|error| failed(error.to_string()))
    }
}

/// The image, to be read again and again.
#[derive(Debug)]
struct Archive(Arc<ImageArchive>);

impl Reread for Archive {
    fn read(&self) -> blobs::ByteStream {
        let pieces = futures_util::stream::unfold((self.0.clone(), 0), |(archive, from)| async move {
            if from >= archive.size_bytes {
                return None;
            }
            let piece = archive.clone().piece(from).await;
            // After an error nothing is read any more.
            let next = piece.as_ref().map_or(u64::MAX, |piece| from + piece.len() as u64);
            Some((piece, (archive, next)))
        });
        pieces.boxed()
    }
}

fn object_uri(bucket: &str, key: &str, version: Option<&str>) -> String {
    let mut uri = format!("/{}/{}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(key, PATH));
    if let Some(version) = version {
        uri.push_str("?versionId=");
        uri.extend(utf8_percent_encode(version, NON_ALPHANUMERIC));
    }
    uri
}

impl Cx {
    /// The package, checked.
    pub(super) async fn package(&self, code: FunctionCode) -> Result<Package, aws::Error> {
        match code {
            FunctionCode { zip_file: Some(zip), s3_bucket: None, s3_key: None, .. } => {
                Ok(Package::from_base64(zip).await?)
            }
            FunctionCode {
                zip_file: None,
                s3_bucket: Some(bucket),
                s3_key: Some(key),
                s3_object_version,
                ..
            } => {
                let zip = self.object(&bucket, &key, s3_object_version.as_deref()).await?;
                Ok(Package::new(zip).await?)
            }
            FunctionCode { image_uri: Some(_), .. } => Err(Error::InvalidParameter(
                "ImageUri is for functions with the package type Image alone.".into(),
            )
            .into()),
            _ => Err(Error::InvalidParameter(
                "Please provide a source for function code: ZipFile, or S3Bucket and S3Key.".into(),
            )
            .into()),
        }
    }

    /// A container image: one in a registry, or an archive in a bucket.
    pub(super) async fn image(&self, code: FunctionCode) -> Result<ImageSource, aws::Error> {
        let of_uri = |uri: &str| {
            let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
            Some((bucket.to_owned(), key.to_owned()))
        };
        let (bucket, key, version) = match code {
            FunctionCode {
                s3_bucket: Some(bucket),
                s3_key: Some(key),
                s3_object_version,
                zip_file: None,
                ..
            } => (bucket, key, s3_object_version),
            FunctionCode { image_uri: Some(uri), .. } => match of_uri(&uri) {
                Some((bucket, key)) => (bucket, key, None),
                None => {
                    let reference = Reference::parse(&uri).ok_or_else(|| {
                        Error::InvalidParameter(format!(
                            "Source image {uri} is not valid. Provide a valid source image."
                        ))
                    })?;
                    let found = self.inner.registries.find(reference).await.map_err(Error::from)?;
                    return Ok(ImageSource::Registry(Box::new(found)));
                }
            },
            FunctionCode { .. } => {
                return Err(Error::InvalidParameter(
                    "Please provide ImageUri, the image's name in a registry, or an archive of it in a bucket: \
                     ImageUri s3://bucket/key, or S3Bucket and S3Key."
                        .into(),
                )
                .into());
            }
        };
        let uri = object_uri(&bucket, &key, version.as_deref());
        let request = http::Request::head(&uri).body(Bytes::new());
        let request = request.map_err(|error| Error::InvalidParameter(format!("S3Key: {error}")))?;
        let (caller, trace) = (&self.context.caller, &self.context.trace);
        let head = self.inner.dispatch.call(caller, trace, "s3", request).await.map_err(not_got)?;
        let header = |name| head.headers().get(name).cloned();
        let size = header(http::header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        let (Some(size_bytes), Some(etag)) = (size, header(http::header::ETAG)) else {
            return Err(Error::Platform("an object has neither size nor ETag".into()).into());
        };
        let archive = ImageArchive {
            inner: self.inner.clone(),
            caller: caller.clone(),
            trace: trace.clone(),
            uri,
            etag,
            size_bytes,
        };
        let package = Package::image(Arc::new(Archive(Arc::new(archive)))).await?;
        Ok(ImageSource::Archive(package, format!("s3://{bucket}/{key}")))
    }

    /// An object, read with the caller's own rights.
    async fn object(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Bytes, aws::Error> {
        let uri = object_uri(bucket, key, version);
        let request = http::Request::get(uri).body(Bytes::new());
        let request = request.map_err(|error| Error::InvalidParameter(format!("S3Key: {error}")))?;
        let answer = self.inner.dispatch.call(&self.context.caller, &self.context.trace, "s3", request).await;
        answer.map(http::Response::into_body).map_err(not_got)
    }
}

/// Why an object could not be read, as Lambda says it.
fn not_got(error: aws::Error) -> aws::Error {
    if error.kind.is_retryable() {
        return error;
    }
    let message = format!(
        "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}",
        error.code, error.message
    );
    let wrapped: aws::Error = Error::InvalidParameter(message).into();
    // AWS answers 403 where it is the caller's right that is missing.
    if error.kind == ErrorKind::Denied { wrapped.with_status(403) } else { wrapped }
}
