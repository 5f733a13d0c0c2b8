//! Requests as events, and what functions return as answers: payload format 2.0 (AWS Lambda developer guide,
//! "Function URL request and response payloads").

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws::{RequestContext, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use types::{AccountId, Principal};

/// The same address with another path.
pub(super) fn with_path(uri: &Uri, path: &str) -> Uri {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // It is a part of a path that was read.
    PathAndQuery::try_from(text).map_or_else(|_| uri.clone(), Uri::from)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: Cow<'a, str>,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: Cow<'a, str>,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer>,
    domain_name: Cow<'a, str>,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: String,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
struct Authorizer {
    iam: Iam,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam {
    access_key: Option<String>,
    account_id: String,
    caller_id: String,
    cognito_identity: Option<()>,
    principal_org_id: Option<()>,
    user_arn: String,
    user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: Cow<'a, str>,
    protocol: &'static str,
    source_ip: String,
    user_agent: Cow<'a, str>,
}

fn lossy(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// Whether a body goes into the event as text.
fn is_text(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(kind.as_str(), "application/json" | "application/xml" | "application/javascript")
}

/// The address that a request came from.
pub(super) fn source_ip(context: &RequestContext) -> String {
    match &context.caller.origin {
        aws::Origin::Network(address) => address.to_string(),
        aws::Origin::Function(_) | aws::Origin::Platform => "127.0.0.1".to_owned(),
    }
}

/// The event of a request.
pub(super) fn of(
    head: &Parts,
    body: &Bytes,
    context: &RequestContext,
    account: AccountId,
    id: &str,
) -> Bytes {
    let mut headers: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in &head.headers {
        if name == COOKIE {
            continue;
        }
        let value = lossy(value);
        headers
            .entry(name.as_str())
            .and_modify(|before| {
                let joined = before.to_mut();
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    let source_ip = source_ip(context);
    let (_, authority) = context.endpoint.split_once("://").unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("80", |(_, port)| port);
    headers.insert("x-forwarded-for", source_ip.clone().into());
    headers.insert("x-forwarded-proto", "http".into());
    headers.insert("x-forwarded-port", port.to_owned().into());
    headers.insert("x-amzn-trace-id", context.trace.to_string().into());
    if let Some(parent) = context.trace.to_w3c() {
        headers.insert("traceparent", parent.into());
    }

    let cookies = head.headers.get_all(COOKIE).iter().flat_map(|value| match lossy(value) {
        Cow::Borrowed(text) => text.split(';').map(|one| Cow::Borrowed(one.trim())).collect::<Vec<_>>(),
        Cow::Owned(text) => text.split(';').map(|one| Cow::Owned(one.trim().to_owned())).collect(),
    });
    let query = head.uri.query().unwrap_or_default();
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        parameters
            .entry(name.into_owned())
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let text = std::str::from_utf8(body).ok().filter(|_| is_text(content_type));
    let (body, is_base64_encoded) = match text {
        _ if body.is_empty() => (None, false),
        Some(text) => (Some(Cow::Borrowed(text)), false),
        None => (Some(Cow::Owned(STANDARD.encode(body))), true),
    };
    let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy();
    let host = headers.get("host").cloned().unwrap_or_default();
    let (authorizer, account_id) = match &context.caller.principal {
        Principal::Anonymous => (None, Cow::Borrowed("anonymous")),
        principal => {
            let caller = principal.account().unwrap_or(account).to_string();
            let iam = Iam {
                access_key: context.caller.access_key_id.clone(),
                account_id: caller.clone(),
                caller_id: principal.id().unwrap_or_default(),
                cognito_identity: None,
                principal_org_id: None,
                user_arn: principal.arn(),
                user_id: principal.id().unwrap_or_default(),
            };
            (Some(Authorizer { iam }), Cow::Owned(caller))
        }
    };
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: path.clone(),
        raw_query_string: query,
        cookies: cookies.collect(),
        query_string_parameters: parameters,
        request_context: Context {
            account_id,
            api_id: id,
            authorizer,
            domain_name: Cow::Owned(host.split(':').next().unwrap_or_default().to_owned()),
            domain_prefix: id,
            http: Http {
                method: head.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip,
                user_agent: headers.get("user-agent").cloned().unwrap_or_default(),
            },
            request_id: context.request_id.to_string(),
            route_key: "$default",
            stage: "$default",
            time: context.received_at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            time_epoch: context.received_at.as_millisecond(),
        },
        headers,
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).expect("events have string keys").into()
}

/// An answer as a function describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    status_code: Option<Value>,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

impl Described {
    /// The status, and what may be said in headers; `None` if it is not an answer.
    pub(super) fn into_head(self) -> Option<(http::StatusCode, HeaderMap, Option<Value>, bool)> {
        let number = match &self.status_code {
            None | Some(Value::Null) => 200,
            Some(Value::Number(number)) => number.as_u64()?,
            Some(Value::String(text)) => text.parse().ok()?,
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return None,
        };
        let status = u16::try_from(number).ok().filter(|status| (200..=599).contains(status))?;
        let status = http::StatusCode::from_u16(status).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.unwrap_or_default() {
            let text = match value {
                Value::String(text) => text,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => return None,
            };
            let name = HeaderName::try_from(name).ok()?;
            // What is said of the message itself is the platform's to say.
            if !is_hop(&name) {
                headers.insert(name, HeaderValue::try_from(text).ok()?);
            }
        }
        for cookie in self.cookies.unwrap_or_default() {
            headers.append(SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
        }
        Some((status, headers, self.body, self.is_base64_encoded.unwrap_or(false)))
    }
}

/// Headers of one connection, and of a message's length.
pub(super) fn is_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "transfer-encoding" | "content-length" | "upgrade" | "te" | "trailer"
    )
}

/// The answer that a function's JSON stands for; `None` if it is not one.
pub(super) fn answer(payload: &Bytes) -> Option<Response> {
    // Only an object with `statusCode` describes an answer; everything else is the body of one.
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow, rename = "statusCode")]
        status_code: Option<&'a RawValue>,
    }
    // An array would be taken for the members in order.
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let describes = is_object
        && serde_json::from_slice::<Probe<'_>>(payload).is_ok_and(|probe| probe.status_code.is_some());
    if !describes {
        let mut response = Response::new(aws::body::full(payload.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Some(response);
    }
    let described: Described = serde_json::from_slice(payload).ok()?;
    let (status, headers, body, is_base64) = described.into_head()?;
    let bytes: Bytes = match body {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if is_base64 => STANDARD.decode(text).ok()?.into(),
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string().into(),
    };
    let mut response = Response::new(aws::body::full(bytes));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(payload: &str) -> Option<(u16, Vec<(String, String)>)> {
        let response = answer(&Bytes::from(payload.to_owned()))?;
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        Some((response.status().as_u16(), response.headers().iter().map(header).collect()))
    }

    #[test]
    fn answers_are_described_or_are_the_body() {
        let json = ("content-type".to_owned(), "application/json".to_owned());
        assert_eq!(told(r#"{"message": "hi"}"#), Some((200, vec![json.clone()])));
        assert_eq!(told("[1]"), Some((200, vec![json.clone()])));
        assert_eq!(told(r#"{"statusCode": "204"}"#), Some((204, vec![json])));
        let described = r#"{"statusCode": 201, "headers": {"Content-Type": "text/plain", "X-N": 1, "Connection": "close"},
                            "cookies": ["a=1", "b=2"], "body": "aGk=", "isBase64Encoded": true}"#;
        let (status, headers) = told(described).unwrap();
        assert_eq!(status, 201);
        assert_eq!(headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
        assert!(
            headers.contains(&("x-n".into(), "1".into())) && !headers.iter().any(|(n, _)| n == "connection")
        );
        for wrong in [
            r#"{"statusCode": 99}"#,
            r#"{"statusCode": "x"}"#,
            r#"{"statusCode": 200, "headers": {"a b": "c"}}"#,
            r#"{"statusCode": 200, "body": "%", "isBase64Encoded": true}"#,
        ] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bodies_are_text_where_they_say_so() {
        for text in
            ["text/plain", "application/json; charset=utf-8", "application/problem+json", "image/svg+xml"]
        {
            assert!(is_text(Some(text)), "{text}");
        }
        for binary in ["application/octet-stream", "image/png", "multipart/form-data; boundary=x"] {
            assert!(!is_text(Some(binary)), "{binary}");
        }
    }

    #[test]
    fn paths_are_replaced_and_queries_kept() {
        let uri: Uri = "http://h/_hawker/url/x/a%20b?c=d".parse().unwrap();
        assert_eq!(with_path(&uri, "/a%20b").to_string(), "/a%20b?c=d");
    }
}
