//! Subscribing to an instance's telemetry (AWS Lambda developer guide, "Lambda Telemetry API reference" and "Lambda
//! Logs API reference").

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use super::Exchange;
use super::answers::{Answered, forbid, json, refuse};
use super::body;
use crate::telemetry_api::{Api, Buffering, Destination, Source, Subscription};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscribe {
    schema_version: Option<String>,
    #[serde(default)]
    types: Vec<String>,
    destination: Option<To>,
    #[serde(default)]
    buffering: Buffer,
}

#[derive(Deserialize)]
struct To {
    protocol: String,
    #[serde(rename = "URI", alias = "uri")]
    uri: Option<String>,
    port: Option<u16>,
    method: Option<String>,
    encoding: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Buffer {
    max_items: Option<u64>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
}

impl Exchange {
    pub(super) async fn subscribe_telemetry(&self, request: Request<Incoming>) -> Answered {
        self.subscribe(Api::Telemetry, request).await
    }

    pub(super) async fn subscribe_logs(&self, request: Request<Incoming>) -> Answered {
        self.subscribe(Api::Logs, request).await
    }

    async fn subscribe(&self, api: Api, request: Request<Incoming>) -> Answered {
        let (head, incoming) = request.into_parts();
        let name = match self.subscriber(&head.headers) {
            Ok(name) => name,
            Err(refusal) => return *refusal,
        };
        let Some(body) = body::small(incoming).await else {
            return invalid("the request could not be read");
        };
        let subscribe: Subscribe = match serde_json::from_slice(&body) {
            Ok(subscribe) => subscribe,
            Err(error) => return invalid(&error.to_string()),
        };
        let subscription = match read(api, name, subscribe) {
            Ok(subscription) => subscription,
            Err(reasons) => return invalid(&reasons.join("; ")),
        };
        if self.telemetry.subscribe(subscription) {
            return json(StatusCode::OK, Bytes::from_static(b"\"OK\""));
        }
        match api {
            Api::Telemetry => {
                forbid("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already")
            }
            Api::Logs => forbid("Logs.SubscriptionClosed", "Logs API subscription is closed already"),
        }
    }
}

fn invalid(message: &str) -> Answered {
    refuse(StatusCode::BAD_REQUEST, "ValidationError", message)
}

/// Everything that is wrong is told at once.
fn read(api: Api, name: String, from: Subscribe) -> Result<Subscription, Vec<String>> {
    let mut wrong = Vec::new();
    let (versions, needed): (&[&str], bool) = match api {
        Api::Telemetry => (&["2022-07-01", "2022-12-13", "2025-01-29"], true),
        Api::Logs => (&["2020-08-15", "2021-03-18"], false),
    };
    match &from.schema_version {
        None if needed => wrong.push("schemaVersion is not provided".to_owned()),
        Some(version) if !versions.contains(&version.as_str()) => {
            wrong.push(format!("schemaVersion {version} is not supported"));
        }
        None | Some(_) => {}
    }
    let destination = match &from.destination {
        None => {
            wrong.push("destination is not provided".to_owned());
            None
        }
        Some(to) => match destination(to) {
            Ok(destination) => Some(destination),
            Err(reason) => {
                wrong.push(reason);
                None
            }
        },
    };
    let mut sources = Vec::new();
    for kind in &from.types {
        match Source::ALL.into_iter().find(|source| source.as_str() == kind) {
            Some(source) if !sources.contains(&source) => sources.push(source),
            Some(_) => {}
            None => wrong.push(format!("type {kind} is not supported")),
        }
    }
    if from.types.is_empty() {
        wrong.push("types should not be empty".to_owned());
    }
    let mut within = |name: &str, value: Option<u64>, default: u64, least: u64, most: u64| {
        let value = value.unwrap_or(default);
        if !(least..=most).contains(&value) {
            wrong.push(format!("buffering.{name} should be between {least} and {most}"));
        }
        value
    };
    let items = within("maxItems", from.buffering.max_items, 1_000, 1_000, 10_000);
    let bytes = within("maxBytes", from.buffering.max_bytes, 262_144, 262_144, 1_048_576);
    let timeout_ms = within("timeoutMs", from.buffering.timeout_ms, 1_000, 25, 30_000);
    match destination {
        Some(destination) if wrong.is_empty() => Ok(Subscription {
            api,
            name,
            sources,
            buffering: Buffering {
                max_items: usize::try_from(items).unwrap_or(1_000),
                max_bytes: usize::try_from(bytes).unwrap_or(262_144),
                timeout: Duration::from_millis(timeout_ms),
            },
            destination,
        }),
        Some(_) | None => Err(wrong),
    }
}

fn destination(to: &To) -> Result<Destination, String> {
    if to.encoding.as_deref().is_some_and(|encoding| encoding != "JSON") {
        return Err("destination encoding should be JSON".to_owned());
    }
    match to.protocol.as_str() {
        "HTTP" => {
            if to.method.as_deref().is_some_and(|method| method != "POST") {
                return Err("destination method should be POST".to_owned());
            }
            let uri = to.uri.as_deref().ok_or("URI is not provided")?;
            let uri: http::Uri = uri.parse().map_err(|_| format!("URI {uri} is not valid"))?;
            if uri.scheme_str() != Some("http") {
                return Err("URI scheme should be http".to_owned());
            }
            if !matches!(uri.host(), Some("sandbox.localdomain" | "sandbox")) {
                return Err("URI host should be sandbox.localdomain".to_owned());
            }
            let port = uri.port_u16().ok_or("URI port is not provided")?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            Ok(Destination::Http { port, authority, path })
        }
        "TCP" => match to.port {
            Some(port) if port > 0 => Ok(Destination::Tcp { port }),
            Some(_) | None => Err("destination port is not provided".to_owned()),
        },
        other => Err(format!("destination protocol {other} is not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(api: Api, text: &str) -> Result<Subscription, String> {
        let subscribe = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read(api, "x".to_owned(), subscribe).map_err(|reasons| reasons.join("; "))
    }

    #[test]
    fn what_is_wrong_with_a_subscription_is_named() {
        let good = parse(
            Api::Telemetry,
            r#"{"schemaVersion":"2022-12-13","types":["platform","function"],
                "destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a?b"},
                "buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25}}"#,
        )
        .unwrap();
        let Destination::Http { port, path, .. } = good.destination else { panic!() };
        assert_eq!((port, path.as_str(), good.buffering.timeout.as_millis()), (8080, "/a?b", 25));
        let bad = parse(
            Api::Telemetry,
            r#"{"schemaVersion":"2022-12-13","destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain"}}"#,
        );
        assert_eq!(bad.unwrap_err(), "URI port is not provided; types should not be empty");
        for (text, reason) in [
            (r#"{"types":["x"],"destination":{"protocol":"TCP","port":1}}"#, "type x is not supported"),
            (
                r#"{"types":["function"],"destination":{"protocol":"HTTP","URI":"http://10.0.0.1:80"}}"#,
                "URI host should be sandbox.localdomain",
            ),
            (
                r#"{"types":["function"],"destination":{"protocol":"TCP","port":1},"buffering":{"timeoutMs":1}}"#,
                "buffering.timeoutMs should be between 25 and 30000",
            ),
            (r#"{"types":["function"]}"#, "destination is not provided"),
        ] {
            assert_eq!(parse(Api::Logs, text).unwrap_err(), reason);
        }
        assert!(
            parse(Api::Logs, r#"{"types":["function"],"destination":{"protocol":"TCP","port":1}}"#).is_ok()
        );
    }
}
