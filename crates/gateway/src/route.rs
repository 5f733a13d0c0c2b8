//! Which service a request is for.

use std::net::IpAddr;
use std::sync::Arc;

use aws::{Api, Error, Protocol};
use http::header::{CONTENT_TYPE, HOST, HeaderMap};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use crate::gateway::Gateway;

/// The node's own paths.
const OWN_PATHS: &str = "/_hawker/";

/// The URLs of functions, for clients that cannot resolve their host names.
const URL_PATH: &str = "/_hawker/url/";

/// Where the node tells whether it is ready.
pub(crate) const HEALTH_PATH: &str = "/_hawker/health";

impl Gateway {
    /// The service of the URLs of functions, if the request is for one.
    pub(crate) fn function_url(&self, head: &Parts) -> Option<Arc<dyn Api>> {
        let host = text(&head.headers, HOST.as_str());
        let is_url = head.uri.path().starts_with(URL_PATH) || host.is_some_and(is_function_url);
        if is_url { self.api("lambda-url") } else { None }
    }

    /// The protocol of a request whose signature can not be read: that of the path's service, if it says one.
    pub(crate) fn protocol_of_path(&self, head: &Parts) -> Protocol {
        let path = head.uri.path();
        let guess = guess_protocol(head);
        let is_claimed = guess == Protocol::RestXml
            && self.bucket_of(head).is_none()
            && self.apis.load().values().any(|api| api.has_path(path));
        if is_claimed { Protocol::RestJson } else { guess }
    }

    /// The service of a request that is not signed: by its target, by the node's own paths, else S3. A path of
    /// another service's is that service's unless there is a bucket of that name: `2015-03-31` is a legal one.
    pub(crate) async fn route_unsigned(&self, head: &Parts) -> Result<Option<Arc<dyn Api>>, Error> {
        let found = |is_it: &dyn Fn(&dyn Api) -> bool| {
            self.apis.load().values().find(|api| is_it(api.as_ref())).cloned()
        };
        if let Some(target) = text(&head.headers, "x-amz-target") {
            let prefix = target.split_once('.').map(|(prefix, _)| prefix);
            return Ok(prefix.and_then(|prefix| found(&|api| api.target_prefix() == prefix)));
        }
        let path = head.uri.path();
        if path.starts_with(OWN_PATHS) {
            return Ok(self.api("hawker"));
        }
        if guess_protocol(head) != Protocol::RestXml {
            return Ok(None);
        }
        let objects = self.api("s3");
        if self.bucket_of(head).is_none()
            && let Some(other) = found(&|api| api.has_path(path))
        {
            let is_bucket = match &objects {
                Some(objects) => objects.holds(path).await?,
                None => false,
            };
            if !is_bucket {
                return Ok(Some(other));
            }
        }
        Ok(objects)
    }
}

/// The protocol that a request seems to speak, for errors about requests whose service is not known.
pub(crate) fn guess_protocol(head: &Parts) -> Protocol {
    let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if head.headers.contains_key("x-amz-target") {
        if content_type == b"application/x-amz-json-1.0" { Protocol::Json10 } else { Protocol::Json11 }
    } else if head.uri.path() == "/" && content_type.starts_with(b"application/x-www-form-urlencoded") {
        Protocol::Query
    } else if head.uri.path().starts_with(OWN_PATHS) {
        Protocol::RestJson
    } else {
        Protocol::RestXml
    }
}

/// Whether a host name is that of a function's URL: `<id>.lambda-url.<anything>`.
fn is_function_url(host: &str) -> bool {
    host.split_once('.').is_some_and(|(_, rest)| rest.starts_with("lambda-url."))
}

/// The bucket in a host name: `<bucket>.s3.<anything>` `<bucket>.s3-website.<anything>` or
/// `<bucket>.<one of the node's domains>`.
pub(crate) fn bucket_of_host<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if name.parse::<IpAddr>().is_ok() || name.starts_with('[') {
        return None;
    }
    if name.starts_with("s3.") || name == "s3" {
        return None;
    }
    // `.s3-website.` and `.s3-website-` are the same service, which looks at the host itself.
    let bucket = match name.rfind(".s3.").or_else(|| name.rfind(".s3-website")) {
        Some(at) => &name[..at],
        None => domains.iter().find_map(|domain| name.strip_suffix(&**domain)?.strip_suffix('.'))?,
    };
    (!bucket.is_empty() && bucket != "s3").then_some(bucket)
}

/// Puts the bucket into the path, where the S3 service looks for it.
pub(crate) fn put_bucket_in_path(uri: &mut Uri, bucket: &str) {
    let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
    let mut text = format!("/{bucket}");
    if !path.is_empty() {
        text.push('/');
        text.push_str(path);
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    // A host name has no character that a path could not have.
    if let Ok(path) = PathAndQuery::try_from(text) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path);
        *uri = Uri::from_parts(parts).expect("only its path has changed");
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_in_host_names() {
        let domains = ["localhost".to_owned(), "cloud.example".to_owned()];
        for (host, bucket) in [
            ("photos.s3.us-east-1.localhost:4566", Some("photos")),
            ("my.photos.s3.localhost.localstack.cloud:4566", Some("my.photos")),
            ("photos.s3.amazonaws.com", Some("photos")),
            ("photos.s3-website.us-east-1.localhost:4566", Some("photos")),
            ("photos.s3-website-us-east-1.amazonaws.com", Some("photos")),
            ("photos.localhost", Some("photos")),
            ("photos.cloud.example:80", Some("photos")),
            ("photos.elsewhere.example", None),
            ("s3.localhost:4566", None),
            ("s3.us-east-1.localhost", None),
            ("localhost:4566", None),
            ("cloud.example", None),
            ("127.0.0.1:4566", None),
            ("[::1]:4566", None),
            ("", None),
        ] {
            assert_eq!(bucket_of_host(host, &domains), bucket, "{host}");
        }
    }

    #[test]
    fn paths_take_the_bucket_in() {
        for (before, after) in [
            ("/", "/b"),
            ("/?list-type=2", "/b?list-type=2"),
            ("/a%20b//c?x", "/b/a%20b//c?x"),
            ("http://b.localhost/k", "http://b.localhost/b/k"),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            put_bucket_in_path(&mut uri, "b");
            assert_eq!(uri.to_string(), after);
        }
    }
}
