//! Getting a package from where a request says it is.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use types::ErrorKind;

use super::Cx;
use crate::Error;
use crate::code::Package;
use crate::wire::input::FunctionCode;

/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

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
            _ => Err(Error::InvalidParameter(
                "Please provide a source for function code: ZipFile, or S3Bucket and S3Key.".into(),
            )
            .into()),
        }
    }

    /// An object, read with the caller's own rights.
    async fn object(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Bytes, aws::Error> {
        let mut uri = format!("/{}/{}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(key, PATH));
        if let Some(version) = version {
            uri.push_str("?versionId=");
            uri.extend(utf8_percent_encode(version, NON_ALPHANUMERIC));
        }
        let request = http::Request::get(uri).body(Bytes::new());
        let request = request.map_err(|error| Error::InvalidParameter(format!("S3Key: {error}")))?;
        let answer = self.inner.dispatch.call(&self.context.caller, &self.context.trace, "s3", request).await;
        match answer {
            Ok(answer) => Ok(answer.into_body()),
            Err(error) if error.kind.is_retryable() => Err(error),
            Err(error) => {
                let message = format!(
                    "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}",
                    error.code, error.message
                );
                let wrapped: aws::Error = Error::InvalidParameter(message).into();
                // AWS answers 403 where it is the caller's right that is missing.
                Err(if error.kind == ErrorKind::Denied { wrapped.with_status(403) } else { wrapped })
            }
        }
    }
}
