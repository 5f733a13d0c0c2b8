//! Conditional requests (RFC 9110, "Conditional Requests", as Amazon S3 narrows them).

use http::{HeaderMap, HeaderValue};
use s3s::dto::{ETagCondition, Timestamp};
use store::Stored;

use crate::Error;
use crate::tables::Object;

/// Conditions of a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadConditions<'a> {
    pub(crate) if_match: Option<&'a ETagCondition>,
    pub(crate) if_none_match: Option<&'a ETagCondition>,
    pub(crate) if_modified_since: Option<&'a Timestamp>,
    pub(crate) if_unmodified_since: Option<&'a Timestamp>,
}

/// An entity tag in quotation marks, of one that has none or only one: S3 takes such, whatever is in them.
pub(crate) fn quoted(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let is_whole =
        text.len() > 1 && text.ends_with('"') && (text.starts_with('"') || text.starts_with("W/\""));
    (!is_whole && !text.is_empty() && text != "*")
        .then(|| HeaderValue::try_from(format!("\"{}\"", text.trim_matches('"'))).ok())
        .flatten()
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    condition.as_etag().is_none_or(|wanted| wanted.value() == etag)
}

impl ReadConditions<'_> {
    /// Whether the object may be given out.
    pub(crate) fn check(&self, object: &Object) -> Result<(), Error> {
        self.check_with("If-Match", "If-Unmodified-Since", object)?;
        let not_modified = || Error::NotModified { etag: object.etag.clone(), modified: object.modified };
        match (self.if_none_match, self.if_modified_since.and_then(super::seconds)) {
            (Some(condition), _) if matches(condition, &object.etag) => Err(not_modified()),
            (None, Some(since)) if object.modified <= since => Err(not_modified()),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Whether the object may be copied: a failed condition is never "not modified" there.
    pub(crate) fn check_source(&self, object: &Object) -> Result<(), Error> {
        self.check_with("x-amz-copy-source-If-Match", "x-amz-copy-source-If-Unmodified-Since", object)?;
        match (self.if_none_match, self.if_modified_since.and_then(super::seconds)) {
            (Some(condition), _) if matches(condition, &object.etag) => {
                Err(Error::PreconditionFailed("x-amz-copy-source-If-None-Match"))
            }
            (None, Some(since)) if object.modified <= since => {
                Err(Error::PreconditionFailed("x-amz-copy-source-If-Modified-Since"))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn check_with(
        &self,
        if_match: &'static str,
        if_unmodified_since: &'static str,
        object: &Object,
    ) -> Result<(), Error> {
        match (self.if_match, self.if_unmodified_since.and_then(super::seconds)) {
            (Some(condition), _) if !matches(condition, &object.etag) => {
                Err(Error::PreconditionFailed(if_match))
            }
            (None, Some(since)) if object.modified > since => {
                Err(Error::PreconditionFailed(if_unmodified_since))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// Conditions of a write, decided inside its transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteConditions {
    if_match: Option<ETagCondition>,
    absent: bool,
}

impl WriteConditions {
    /// From the headers of the same names.
    pub(crate) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> Result<Self, Error> {
        if if_none_match.as_ref().is_some_and(|condition| !condition.is_any()) {
            return Err(Error::NotImplemented("The header If-None-Match with a value other than `*`".into()));
        }
        Ok(Self { if_match, absent: if_none_match.is_some() })
    }

    /// From the headers of a request, where its input does not have them.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Self, Error> {
        let read = |name: &'static str| {
            let Some(value) = headers.get(name) else { return Ok(None) };
            let whole = quoted(value);
            let condition = ETagCondition::parse_http_header(whole.as_ref().unwrap_or(value).as_bytes());
            let text = || value.to_str().unwrap_or_default();
            condition.map(Some).map_err(|_| Error::argument(name, text(), "Invalid ETag"))
        };
        Self::new(read("if-match")?, read("if-none-match")?)
    }

    /// Whether the write may take the place of `current`.
    pub(crate) fn check(&self, key: &str, current: Option<&Stored<Object>>) -> Result<(), Error> {
        self.check_object(key, current.map(|current| &current.value))
    }

    /// The same, of any version.
    pub(crate) fn check_object(&self, key: &str, current: Option<&Object>) -> Result<(), Error> {
        if self.absent && current.is_some() {
            return Err(Error::PreconditionFailed("If-None-Match"));
        }
        match (&self.if_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Error::NoSuchKey(key.to_owned())),
            (Some(condition), Some(current)) if matches(condition, &current.etag) => Ok(()),
            (Some(_), Some(_)) => Err(Error::PreconditionFailed("If-Match")),
        }
    }
}
