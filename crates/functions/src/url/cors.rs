//! Cross-origin resource sharing at a function's URL (AWS Lambda developer guide, "Cross-origin resource sharing
//! (CORS)"; the Fetch standard, "CORS protocol"). What the URL's configuration says replaces what the function says.

use aws::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};

use crate::tables::Cors;

/// The origin as it is to be answered, if it is allowed.
fn allowed_origin(cors: &Cors, origin: &HeaderValue) -> Option<HeaderValue> {
    let text = origin.to_str().ok()?;
    let any = cors.allow_origins.iter().any(|allowed| allowed == "*");
    if any && !cors.allow_credentials {
        return Some(HeaderValue::from_static("*"));
    }
    let allowed = any || cors.allow_origins.iter().any(|allowed| matches_origin(allowed, text));
    allowed.then(|| origin.clone())
}

/// `https://*.example.com` stands for every name below.
fn matches_origin(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before)
                && origin.ends_with(after)
        }
        None => allowed == origin,
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if let Ok(value) = HeaderValue::try_from(values.join(","))
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}

/// The answer to a browser that asks before it sends its request.
pub(super) fn preflight(cors: &Cors, request: &HeaderMap) -> Response {
    let mut response = Response::new(aws::body::full(""));
    let Some(origin) = request.get(ORIGIN) else { return response };
    let Some(allowed) = allowed_origin(cors, origin) else { return response };
    let method = request.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| method.to_str().ok());
    let methods = &cors.allow_methods;
    if !methods.iter().any(|allowed| allowed == "*" || Some(allowed.as_str()) == method) {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    put(headers, ACCESS_CONTROL_ALLOW_METHODS, methods);
    if cors.allow_headers.iter().any(|allowed| allowed == "*") {
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    } else {
        put(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers);
    }
    if let Some(seconds) = cors.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
    }
    if cors.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    response
}

/// What an answer to a request from `origin` says to the browser.
pub(super) fn dress(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    for name in [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ] {
        headers.remove(name);
    }
    let Some(allowed) = origin.and_then(|origin| allowed_origin(cors, origin)) else { return };
    if allowed != "*" {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    put(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers);
    if cors.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Cors {
            allow_credentials: true,
            allow_headers: list(&["*"]),
            allow_methods: list(&["GET", "PUT"]),
            allow_origins: list(&["https://a.example", "https://*.b.example"]),
            expose_headers: list(&["x-one", "x-two"]),
            max_age: Some(60),
        }
    }

    #[test]
    fn origins_are_answered_by_name() {
        let answered = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://function.example"));
            dress(&cors(), Some(&HeaderValue::from_static(origin)), &mut headers);
            headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        for origin in ["https://a.example", "https://x.b.example"] {
            assert_eq!(answered(origin).as_deref(), Some(origin));
        }
        for origin in ["https://b.example", "https://a.example.evil", "http://a.example", "null"] {
            assert_eq!(answered(origin), None, "{origin}");
        }
    }

    #[test]
    fn preflights_name_what_is_allowed() {
        let mut request = HeaderMap::new();
        request.insert(ORIGIN, HeaderValue::from_static("https://a.example"));
        request.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        request.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-own"));
        let response = preflight(&cors(), &request);
        let header = |name: HeaderName| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header(ACCESS_CONTROL_ALLOW_METHODS), "GET,PUT");
        assert_eq!(header(ACCESS_CONTROL_ALLOW_HEADERS), "x-own");
        assert_eq!(
            (header(ACCESS_CONTROL_MAX_AGE), header(ACCESS_CONTROL_ALLOW_CREDENTIALS)),
            ("60".into(), "true".into())
        );
        request.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("DELETE"));
        assert!(preflight(&cors(), &request).headers().is_empty());
    }
}
