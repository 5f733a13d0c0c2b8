//! Pages of any origin may call the services that speak JSON and be answered, as on AWS: the signature is what counts.
//!
//! What S3 and the URLs of functions answer to pages is theirs to say, and not decided here.

use aws::{Protocol, Response, body};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN,
};
use http::request::Parts;

use crate::gateway::Gateway;

/// What a page may read of an answer.
const EXPOSED: &str = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date";

/// How long a browser may go by an answer to its question: two days.
const MAX_AGE_SECONDS: &str = "172800";

/// Whether a request comes from a page.
pub(crate) fn is_of_page(head: &Parts) -> bool {
    head.headers.contains_key(ORIGIN)
}

/// Lets the page that a request comes from read what a service that speaks JSON answers.
pub(crate) fn let_page_read(protocol: Protocol, headers: &mut HeaderMap) {
    match protocol {
        Protocol::Json10 | Protocol::Json11 => expose(headers),
        Protocol::RestJson | Protocol::RestXml | Protocol::Query => {}
    }
}

fn expose(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

impl Gateway {
    /// The answer to a browser that asks whether a page may call a service that speaks JSON: these are all at `/`, where
    /// no bucket and no object is.
    pub(crate) fn preflight(&self, head: &Parts) -> Option<Response> {
        let asks = head.method == http::Method::OPTIONS && head.uri.path() == "/" && is_of_page(head);
        if !asks || self.bucket_of(head).is_some() || self.function_url(head).is_some() {
            return None;
        }
        let mut response = Response::new(body::full(""));
        let headers = response.headers_mut();
        expose(headers);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
        for (asked, allowed) in [
            (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
            (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        ] {
            if let Some(value) = head.headers.get(asked) {
                headers.insert(allowed, value.clone());
            }
        }
        Some(response)
    }
}
