//! Cross-origin requests (Amazon S3 user guide, "Using cross-origin resource sharing"; the Fetch standard): which
//! rule of a bucket lets a page of another origin see an answer, and what the answer says of it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::Error;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expose: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_age_seconds: Option<i32>,
}

/// Whether a text is what a pattern with at most one `*` stands for.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

impl Rule {
    fn allows(&self, origin: &str, method: &str, headers: &[String]) -> bool {
        self.origins.iter().any(|pattern| matches(pattern, origin))
            && self.methods.iter().any(|allowed| allowed == method)
            && headers.iter().all(|header| {
                self.headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), header))
            })
    }

    fn answer(&self, origin: &str) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.insert(name, value);
            }
        };
        let everyone = self.origins.iter().any(|pattern| pattern == "*");
        put(ACCESS_CONTROL_ALLOW_ORIGIN, if everyone { "*" } else { origin });
        if !everyone {
            put(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        put(ACCESS_CONTROL_ALLOW_METHODS, &self.methods.join(", "));
        if !self.expose.is_empty() {
            put(ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose.join(", "));
        }
        if let Some(seconds) = self.max_age_seconds {
            put(ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
        put(VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
        answer
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// What the answer to a request from another origin says; nothing if no rule lets it.
pub(crate) fn of_request(rules: &[Rule], method: &str, headers: &HeaderMap) -> Option<HeaderMap> {
    let origin = text(headers, "origin")?;
    let rule = rules.iter().find(|rule| rule.allows(origin, method, &[]))?;
    Some(rule.answer(origin))
}

/// The answer to a browser that asks whether it may send a request.
pub(crate) fn preflight(rules: &[Rule], headers: &HeaderMap) -> Result<HeaderMap, Error> {
    let origin = text(headers, "origin")
        .ok_or_else(|| Error::BadRequest("Insufficient information. Origin request header needed.".into()))?;
    let method = text(headers, "access-control-request-method")
        .ok_or_else(|| Error::BadRequest("Invalid Access-Control-Request-Method: null".into()))?;
    if rules.is_empty() {
        return Err(Error::AccessForbidden("CORSResponse: CORS is not enabled for this bucket."));
    }
    let asked = text(headers, "access-control-request-headers").unwrap_or_default();
    let asked: Vec<_> =
        asked.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|n| !n.is_empty()).collect();
    let rule = rules.iter().find(|rule| rule.allows(origin, method, &asked)).ok_or(Error::AccessForbidden(
        "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
    ))?;
    let mut answer = rule.answer(origin);
    if !asked.is_empty()
        && let Ok(value) = HeaderValue::from_str(&asked.join(", "))
    {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_let_in_what_they_name() {
        let rule = Rule {
            id: None,
            origins: vec!["https://*.example".into()],
            methods: vec!["GET".into(), "PUT".into()],
            headers: vec!["x-amz-*".into()],
            expose: vec!["ETag".into()],
            max_age_seconds: Some(60),
        };
        let rules = [rule];
        let ask = |origin: &str, method: &str, asked: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", asked),
            ] {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            preflight(&rules, &headers)
        };
        let answer = ask("https://a.example", "PUT", "X-Amz-Date, x-amz-acl").unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-amz-date, x-amz-acl");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "60");
        assert!(ask("https://a.other", "PUT", "").is_err());
        assert!(ask("https://a.example", "DELETE", "").is_err());
        assert!(ask("https://a.example", "PUT", "authorization").is_err());
        assert!(ask("", "PUT", "").is_err());
        assert!(!matches("a*a", "a"));
    }
}
