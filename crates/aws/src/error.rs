//! An error as it goes over the wire, before a protocol gives it its shape.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use types::ErrorKind;

/// An error answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// The HTTP status.
    pub status: u16,
    /// The service's error code, such as `ResourceNotFoundException`.
    pub code: Cow<'static, str>,
    /// The message for a person.
    pub message: String,
    /// Further members of the error's shape, in order: `("Reason", "ReservedFunction...")` for JSON, elements
    /// such as `BucketName` for XML.
    pub fields: Vec<(&'static str, serde_json::Value)>,
    /// For `RestJson` and `Json`: the message's member is `Message` rather than `message`.
    pub capital_message: bool,
    /// Headers that the answer has beyond those of every error.
    pub headers: Option<Box<HeaderMap>>,
}

impl Error {
    /// An error with the status that its kind usually has.
    pub fn new(kind: ErrorKind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::Invalid | ErrorKind::PreconditionFailed => 400,
            ErrorKind::Unauthenticated | ErrorKind::Denied => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::Timeout => 408,
            ErrorKind::Conflict => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::Throttled => 429,
            ErrorKind::Internal => 500,
            ErrorKind::Unsupported => 501,
            ErrorKind::Unavailable => 503,
        };
        Self {
            kind,
            status,
            code: code.into(),
            message: message.into(),
            fields: Vec::new(),
            capital_message: false,
            headers: None,
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with one more member.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The same with one more header, if that is one.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.get_or_insert_default().insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// The body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request body is larger than the limit of {limit} bytes");
        Self::new(ErrorKind::TooLarge, "RequestEntityTooLargeException", message)
    }

    /// A fault of ours; `detail` goes to the log, not to the client.
    pub fn internal(detail: &dyn std::fmt::Display) -> Self {
        tracing::error!(%detail, "internal error");
        Self::new(ErrorKind::Internal, "InternalFailure", "An internal error occurred; see the node's log")
    }
}
