//! What the protocol crate must not see of a request, and where it answers otherwise than S3.

use aws::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use types::ErrorKind;

use crate::Error;
use crate::ops::conditions::quoted;
use crate::route::BodyKind;
use crate::service::State;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Takes away what the pipeline has dealt with, and what would make the protocol crate do so once more.
pub(crate) fn strip(headers: &mut HeaderMap, kind: BodyKind, length: usize) {
    headers.remove(AUTHORIZATION);
    for name in ["if-match", "if-none-match", "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match"]
    {
        if let Some(whole) = headers.get(name).and_then(quoted) {
            headers.insert(name, whole);
        }
    }
    for name in [
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "transfer-encoding",
        // A range that is not understood is none, and a time may be any text; the operation reads them itself.
        "range",
        "expires",
    ] {
        headers.remove(name);
    }
    // The content type of an upload's objects may be that of a form; the operation reads it itself.
    headers.remove(CONTENT_TYPE);
    match kind {
        BodyKind::Object | BodyKind::None => {
            headers.remove(CONTENT_LENGTH);
        }
        BodyKind::Xml => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    headers.remove(CONTENT_ENCODING);
}

/// The protocol crate's answer, as S3 gives it.
pub(crate) fn answer(state: &State, answer: http::Response<s3s::Body>) -> Result<Response, aws::Error> {
    let (mut parts, body) = answer.into_parts();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        return Err(protocol_error(parts.status, &body.bytes().unwrap_or_default()));
    }
    if parts.status == StatusCode::NOT_MODIFIED {
        parts.headers.remove(CONTENT_TYPE);
        return Ok(Response::from_parts(parts, aws::body::full("")));
    }
    if parts.status == StatusCode::OK && parts.headers.contains_key(CONTENT_RANGE) {
        parts.status = StatusCode::PARTIAL_CONTENT;
    }
    // Which the protocol crate does not know.
    if parts.status == StatusCode::OK && state.route.name == "PutBucketTagging" {
        parts.status = StatusCode::NO_CONTENT;
    }
    let streamed = state.answer.lock().expect("no holder of this lock panics").take();
    let body = match (streamed, body.bytes()) {
        (Some(streamed), _) => streamed,
        // The one operation whose entity tag is without quotation marks; the protocol crate knows no other.
        (None, Some(bytes)) if state.route.name == "GetObjectAttributes" => {
            let text = String::from_utf8_lossy(&bytes);
            aws::body::full(text.replace("<ETag>\"", "<ETag>").replace("\"</ETag>", "</ETag>"))
        }
        // The protocol crate writes the namespace of S3 into the others only.
        (None, Some(bytes)) if matches!(state.route.name, "CopyObject" | "UploadPartCopy") => {
            let text = String::from_utf8_lossy(&bytes);
            let is_part = state.route.name == "UploadPartCopy";
            let root = if is_part { "<CopyPartResult" } else { "<CopyObjectResult" };
            let bare = format!("{root}>");
            aws::body::full(text.replacen(&bare, &format!("{root} xmlns=\"{NAMESPACE}\">"), 1))
        }
        // The one answer that is no document of XML.
        (None, Some(bytes)) if state.route.name == "GetBucketPolicy" => aws::body::full(bytes),
        (None, Some(bytes)) => aws::body::full(with_references(bytes)),
        (None, None) => body.boxed_unsync(),
    };
    Ok(Response::from_parts(parts, body))
}

/// A document in which characters that XML can not hold, and those that its readers make others of, are references,
/// as S3 writes them.
fn with_references(document: Bytes) -> Bytes {
    let is_raw = |byte: &u8| *byte < b' ' && !matches!(byte, b'\n' | b'\t');
    if !document.iter().any(is_raw) {
        return document;
    }
    let mut written = Vec::with_capacity(document.len() + 64);
    for byte in document {
        if is_raw(&byte) {
            written.extend_from_slice(format!("&#x{byte:x};").as_bytes());
        } else {
            written.push(byte);
        }
    }
    written.into()
}

/// The protocol crate's own error answer, which holds a code and perhaps a message.
fn protocol_error(status: StatusCode, xml: &[u8]) -> aws::Error {
    let text = String::from_utf8_lossy(xml);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
    };
    let code = element("Code").unwrap_or_else(|| "InternalError".to_owned());
    let kind = match status.as_u16() {
        404 => ErrorKind::NotFound,
        403 => ErrorKind::Denied,
        501 => ErrorKind::Unsupported,
        500..=599 => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    let message = element("Message").unwrap_or_else(|| match &*code {
        "MalformedXML" => Error::MalformedXml.to_string(),
        "MissingRequestBodyError" => "Request Body is empty".to_owned(),
        "InvalidArgument" => "Invalid Argument".to_owned(),
        other => format!("The request was refused: {other}"),
    });
    aws::Error::new(kind, code, message).with_status(status.as_u16())
}
