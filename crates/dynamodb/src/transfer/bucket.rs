//! A bucket, as exports write to it and imports read from it: through the pipeline, like anybody.

use std::sync::Arc;

use aws::{Caller, Dispatch};
use bytes::Bytes;
use http::Request;
use http::header::{ETAG, IF_MATCH, RANGE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use types::{SharedEnv, TraceHeader};

use super::Sse;

/// What keeps its form in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How often something is tried that failed for a passing reason, and the first pause in between.
const TRIES: u32 = 6;
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// A bucket, and who reads or writes it.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) env: SharedEnv,
    pub(crate) caller: Caller,
    pub(crate) name: String,
    /// How what is written is encrypted.
    pub(crate) sse: Sse,
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) etag: String,
    pub(crate) size_bytes: u64,
}

impl Bucket {
    fn uri(&self, key: &str) -> String {
        format!("/{}/{}", utf8_percent_encode(&self.name, PATH), utf8_percent_encode(key, PATH))
    }

    /// Calls S3; what fails for a passing reason is tried again.
    async fn call(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        let request = request.body(body).map_err(|error| {
            aws::Error::new(types::ErrorKind::Invalid, "InvalidURI", format!("a key is no URI: {error}"))
        })?;
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            let trace = TraceHeader::new(&*self.env);
            match self.dispatch.call(&self.caller, &trace, "s3", request.clone()).await {
                Err(error) if error.kind.is_retryable() => self.env.sleep(pause).await,
                other => return other,
            }
            pause *= 2;
        }
        self.dispatch.call(&self.caller, &TraceHeader::new(&*self.env), "s3", request).await
    }

    /// Writes an object; answers with its ETag.
    pub(crate) async fn put(&self, key: &str, body: Bytes) -> Result<String, aws::Error> {
        let mut request = Request::put(self.uri(key)).header("content-length", body.len());
        match &self.sse {
            Sse::Default => {}
            Sse::Aes256 => request = request.header("x-amz-server-side-encryption", "AES256"),
            Sse::Kms(id) => {
                request = request.header("x-amz-server-side-encryption", "aws:kms");
                if let Some(id) = id {
                    request = request.header("x-amz-server-side-encryption-aws-kms-key-id", id);
                }
            }
        }
        let answer = self.call(request, body).await?;
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        Ok(etag.trim_matches('"').to_owned())
    }

    /// Bytes of an object, from the first, which must be there, to the last, which need not.
    pub(crate) async fn get(&self, object: &Listed, first: u64, last: u64) -> Result<Bytes, aws::Error> {
        let request = Request::get(self.uri(&object.key))
            .header(RANGE, format!("bytes={first}-{last}"))
            .header(IF_MATCH, &object.etag);
        Ok(self.call(request, Bytes::new()).await?.into_body())
    }

    /// The objects whose keys begin with `prefix`, after a key, up to `most`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Listed>, aws::Error> {
        let mut uri = format!(
            "/{}?list-type=2&encoding-type=url&max-keys={most}&prefix={}",
            utf8_percent_encode(&self.name, PATH),
            utf8_percent_encode(prefix, QUERY)
        );
        if let Some(after) = after {
            uri.push_str("&start-after=");
            uri.extend(utf8_percent_encode(after, QUERY));
        }
        let answer = self.call(Request::get(uri), Bytes::new()).await?.into_body();
        let text = String::from_utf8_lossy(&answer);
        Ok(text.split("<Contents>").skip(1).filter_map(listed).collect())
    }
}

/// One object, from its element on. Keys are URL-encoded, as was asked for; nothing else that is read needs escapes
/// but the quotes of an ETag.
fn listed(element: &str) -> Option<Listed> {
    let between = |name: &str| {
        let (_, rest) = element.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    Some(Listed {
        // A space may be a plus sign.
        key: percent_decode_str(&between("Key")?.replace('+', " ")).decode_utf8().ok()?.into_owned(),
        etag: between("ETag")?.replace("&quot;", "\""),
        size_bytes: between("Size")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        let element = "<Key>a%2Bb+c/%C3%BC.json</Key><ETag>&quot;abc&quot;</ETag><Size>12</Size></Contents>";
        let listed = listed(element).unwrap();
        assert_eq!((&*listed.key, &*listed.etag, listed.size_bytes), ("a+b c/ü.json", "\"abc\"", 12));
    }
}
