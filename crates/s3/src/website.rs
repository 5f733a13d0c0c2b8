//! A bucket as a web site (Amazon S3 user guide, "Hosting a static website"): asked for by its own host name,
//! `<bucket>.s3-website.<region>.<domain>`, by browsers, without a signature.
//!
//! Invariant: it shows what an anonymous request may read, asked of the same authority, and nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Caller, Operation, RequestContext, Response};
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use types::{ErrorKind, Principal};

use crate::Error;
use crate::access::{RequestFacts, Sides};
use crate::encryption;
use crate::ops::http_date;
use crate::ops::range::{Wanted, wanted};
use crate::read::{self, Address};
use crate::service::Inner;
use crate::tables::NameRow;
use crate::versions::Which;

/// What is encoded of a key in a `Location`.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// How a bucket is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Website {
    /// The suffix of the object that stands for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<String>,
    /// The key of what is shown with an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Everything is elsewhere: host and protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elsewhere: Option<(String, Option<String>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<RoutingRule>,
}

/// When to send a browser elsewhere, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RoutingRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) if_error: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) if_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replace_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replace_key: Option<String>,
}

impl RoutingRule {
    /// Whether it is meant, for a key and the status of an error, if there is one.
    fn applies(&self, key: &str, error: Option<u16>) -> bool {
        let prefix = self.if_prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix));
        prefix && self.if_error == error
    }

    /// Where it sends: status and location.
    fn target(&self, key: &str, endpoint: &str) -> (u16, String) {
        let (own_protocol, own_host) = endpoint.split_once("://").unwrap_or(("http", endpoint));
        let protocol = self.protocol.as_deref().unwrap_or(own_protocol);
        let host = self.host.as_deref().unwrap_or(own_host);
        let key = match (&self.replace_key, &self.replace_prefix) {
            (Some(key), _) => key.clone(),
            (None, Some(with)) => {
                let rest = key.strip_prefix(self.if_prefix.as_deref().unwrap_or_default()).unwrap_or(key);
                format!("{with}{rest}")
            }
            (None, None) => key.to_owned(),
        };
        let key = utf8_percent_encode(&key, PATH);
        (self.status.unwrap_or(301), format!("{protocol}://{host}/{key}"))
    }
}

/// Whether a request is to a web site.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    host.contains(".s3-website.") || host.contains(".s3-website-")
}

/// A browser's request.
pub(crate) struct Visit {
    pub(crate) inner: Arc<Inner>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) home: Option<Arc<NameRow>>,
    pub(crate) context: RequestContext,
}

/// What went wrong, as a page says it.
struct Trouble {
    status: u16,
    code: String,
    message: String,
    details: Vec<(&'static str, String)>,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let error = aws::Error::from(error);
        let details =
            error.fields.iter().filter_map(|(name, value)| Some((*name, value.as_str()?.to_owned())));
        Self {
            status: error.status,
            code: error.code.clone().into_owned(),
            message: error.message.clone(),
            details: details.collect(),
        }
    }
}

fn trouble(status: u16, code: &str, message: &str) -> Trouble {
    Trouble { status, code: code.to_owned(), message: message.to_owned(), details: Vec::new() }
}

#[async_trait]
impl Operation for Visit {
    fn name(&self) -> &'static str {
        "WebsiteRequest"
    }

    /// Everybody may ask; for each object that it would show, it asks as nobody in particular.
    fn access(&self) -> Vec<Access> {
        Vec::new()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Some(home) = &self.home else {
            let error = Error::NoSuchBucket(self.bucket.clone());
            return Ok(self.page(&error.into()));
        };
        let Some(site) = &home.website else {
            let message = "The specified bucket does not have a website configuration";
            let mut no_site = trouble(404, "NoSuchWebsiteConfiguration", message);
            no_site.details.push(("BucketName", self.bucket.clone()));
            return Ok(self.page(&no_site));
        };
        let endpoint = self.context.endpoint.clone();
        if let Some((host, protocol)) = &site.elsewhere {
            let rule = RoutingRule {
                host: Some(host.clone()),
                protocol: protocol.clone(),
                ..RoutingRule::default()
            };
            return Ok(redirect(rule.target(&self.key, &endpoint)));
        }
        if self.method != Method::GET && self.method != Method::HEAD {
            let refused = trouble(
                405,
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
            );
            let mut response = self.page(&refused);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        if let Some(rule) = site.rules.iter().find(|rule| rule.applies(&self.key, None)) {
            return Ok(redirect(rule.target(&self.key, &endpoint)));
        }
        let index = site.index.as_deref().unwrap_or_default();
        let key = if self.key.is_empty() || self.key.ends_with('/') {
            format!("{}{index}", self.key)
        } else {
            self.key.clone()
        };
        let problem = match self.show(home, &key, StatusCode::OK).await {
            Ok(response) => return Ok(response),
            Err(problem) => problem,
        };
        // A folder that was named without its slash.
        let folder = format!("{key}/{index}");
        if key == self.key && problem.status != 500 && self.is_there(home, &folder).await {
            let location = format!("/{}/", utf8_percent_encode(&key, PATH));
            return Ok(redirect((302, location)));
        }
        if let Some(rule) = site.rules.iter().find(|rule| rule.applies(&self.key, Some(problem.status))) {
            return Ok(redirect(rule.target(&self.key, &endpoint)));
        }
        if let Some(error_key) = &site.error {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if let Ok(response) = self.show(home, error_key, status).await {
                return Ok(response);
            }
        }
        Ok(self.page(&problem))
    }
}

impl Visit {
    fn anonymous(&self) -> Caller {
        Caller {
            principal: Principal::Anonymous,
            access_key_id: None,
            session_policy: None,
            ..self.context.caller.clone()
        }
    }

    async fn may(&self, home: &NameRow, access: Access) -> Result<bool, Trouble> {
        let caller = self.anonymous();
        let sides = Sides {
            inner: &self.inner,
            caller: &caller,
            headers: &self.headers,
            facts: RequestFacts::NONE,
            homes: [Some((&self.bucket, home)), None],
        };
        sides.may(access).await.map_err(|error| trouble(error.status, &error.code, &error.message))
    }

    fn address<'a>(&'a self, home: &NameRow, key: &'a str) -> Address<'a> {
        Address {
            owner: home.owner,
            bucket: &self.bucket,
            key,
            which: Which::Current,
            versioned: home.versioned,
        }
    }

    async fn is_there(&self, home: &NameRow, key: &str) -> bool {
        let arn = format!("arn:aws:s3:::{}/{key}", self.bucket);
        matches!(self.may(home, Access::new("s3:GetObject", arn)).await, Ok(true))
            && read::find(&self.inner, self.address(home, key), false).await.is_ok()
    }

    /// An object, as a browser gets it.
    async fn show(&self, home: &NameRow, key: &str, status: StatusCode) -> Result<Response, Trouble> {
        let arn = format!("arn:aws:s3:::{}/{key}", self.bucket);
        if !self.may(home, Access::new("s3:GetObject", arn)).await? {
            return Err(trouble(403, "AccessDenied", "Access Denied"));
        }
        let found = match read::find(&self.inner, self.address(home, key), true).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Whether a key is there is for those to know who may list.
                let list = Access::new("s3:ListBucket", format!("arn:aws:s3:::{}", self.bucket));
                let may_know = self.may(home, list).await?;
                let denied = trouble(403, "AccessDenied", "Access Denied");
                return Err(if may_know { error.into() } else { denied });
            }
            Err(error) => return Err(error.into()),
        };
        let object = &found.object;
        if let Some(to) = &object.redirect {
            return Ok(redirect((301, to.clone())));
        }
        let visitor = self.anonymous();
        let opener = encryption::opener(object.encryption.as_ref(), self.inner.means(&visitor, None)).await?;
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        };
        for (name, value) in &object.headers {
            if let Ok(name) = HeaderName::try_from(name) {
                put(name, value);
            }
        }
        for (name, value) in &object.metadata {
            if let Ok(name) = HeaderName::try_from(format!("x-amz-meta-{name}")) {
                put(name, value);
            }
        }
        let etag = format!("\"{}\"", object.etag);
        put(ETAG, &etag);
        put(LAST_MODIFIED, &http_date(object.modified));
        let text = |name: HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let same = match (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE)) {
            (Some(tags), _) => tags.split(',').any(|tag| [&*etag, "*"].contains(&tag.trim())),
            (None, Some(since)) => since == http_date(object.modified),
            (None, None) => false,
        };
        let (mut status, mut range) = (status, 0..object.size);
        if status == StatusCode::OK && same {
            headers.remove(CONTENT_TYPE);
            let mut response = Response::new(aws::body::full(""));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        if status == StatusCode::OK {
            match wanted(text(RANGE), object.size) {
                Wanted::Whole => {}
                Wanted::Part(part) => {
                    let value = format!("bytes {}-{}/{}", part.start, part.end - 1, object.size);
                    put(CONTENT_RANGE, &value);
                    (status, range) = (StatusCode::PARTIAL_CONTENT, part);
                }
                Wanted::Unsatisfiable => {
                    let asked = text(RANGE).unwrap_or_default().to_owned();
                    return Err(Error::InvalidRange { asked, size: object.size }.into());
                }
            }
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        let body = if self.method == Method::HEAD {
            aws::body::full("")
        } else {
            read::body(&self.inner, home.owner, &found, opener, range).await?
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// A page that says what went wrong.
    fn page(&self, trouble: &Trouble) -> Response {
        let status = StatusCode::from_u16(trouble.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let mut html = aws::xml::Xml::default();
        html.element("html", |html| {
            html.element("head", |html| html.text("title", &title));
            html.element("body", |html| {
                html.text("h1", &title);
                html.element("ul", |html| {
                    html.text("li", &format!("Code: {}", trouble.code));
                    html.text("li", &format!("Message: {}", trouble.message));
                    for (name, value) in &trouble.details {
                        html.text("li", &format!("{name}: {value}"));
                    }
                    html.text("li", &format!("RequestId: {}", self.context.request_id));
                });
            });
        });
        let html = html.finish();
        let body = if self.method == Method::HEAD { String::new() } else { html };
        let mut response = Response::new(aws::body::full(body));
        *response.status_mut() = status;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
        if let Ok(code) = HeaderValue::from_str(&trouble.code) {
            response.headers_mut().insert("x-amz-error-code", code);
        }
        response
    }
}

fn redirect((status, location): (u16, String)) -> Response {
    let mut response = Response::new(aws::body::full(""));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_bytes(location.as_bytes()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_send_elsewhere() {
        let rule = RoutingRule {
            if_prefix: Some("docs/".into()),
            replace_prefix: Some("documents/".into()),
            ..RoutingRule::default()
        };
        assert!(
            rule.applies("docs/a", None)
                && !rule.applies("other", None)
                && !rule.applies("docs/a", Some(404))
        );
        let to = rule.target("docs/a b", "http://b.s3-website.localhost:4566");
        assert_eq!(to, (301, "http://b.s3-website.localhost:4566/documents/a%20b".into()));
        let rule = RoutingRule {
            if_error: Some(404),
            host: Some("example.org".into()),
            protocol: Some("https".into()),
            status: Some(302),
            replace_key: Some("gone.html".into()),
            ..RoutingRule::default()
        };
        assert!(rule.applies("any", Some(404)) && !rule.applies("any", Some(403)));
        assert_eq!(rule.target("any", "http://x"), (302, "https://example.org/gone.html".into()));
    }
}
