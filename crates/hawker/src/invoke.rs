//! `hawker invoke`.

use std::io::Read;

use anyhow::Context;
use base64::Engine as _;
use http::Method;
use serde_json::{Value as Json, json};

use crate::cli;
use crate::client::escape;
use crate::failure::{Failure, Shown};
use crate::logs::rendered;
use crate::ui::{self, Colour};

/// Calls the function and shows its answer; the log and errors go to stderr.
pub(crate) async fn run(args: cli::Invoke) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let payload = payload(&args.payload)?;
    let function = client.function(&args.function).await?;
    let path = format!("/2015-03-31/functions/{}/invocations", escape(&function));
    let kind = if args.asynchronous { "Event" } else { "RequestResponse" };
    let mut headers = vec![("x-amz-invocation-type", kind), ("content-type", "application/json")];
    if args.log {
        headers.push(("x-amz-log-type", "Tail"));
    }
    let spinner = (!args.remote.json).then(|| ui::spinner(format!("running {function}")));
    let answer = client.send("lambda", Method::POST, &path, &headers, payload).await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let answer = answer?;
    let header =
        |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let error = header("x-amz-function-error");
    let id = header("x-amzn-requestid");
    let log = header("x-amz-log-result")
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if args.remote.json {
        let value = serde_json::from_str::<Json>(&text).unwrap_or(Json::String(text));
        ui::json(&json!({
            "function": function, "request_id": id, "function_error": error, "payload": value, "log": log,
        }));
        return if error.is_some() { Err(Shown.into()) } else { Ok(()) };
    }
    for line in log.iter().flat_map(|log| log.lines()) {
        ui::note(&rendered(line));
    }
    if args.asynchronous {
        ui::note(&format!("accepted as {}", id.unwrap_or_default()));
        return Ok(());
    }
    let Some(error) = error else {
        ui::line(&text);
        return Ok(());
    };
    let value: Json = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    for frame in value["stackTrace"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        ui::note(&ui::paint_err(Colour::Dim, frame.trim_end()));
    }
    ui::line(&text);
    let kind = if field("errorType").is_empty() { error } else { field("errorType") };
    Err(Failure::new(format!("{function} failed: {kind}"))
        .why(field("errorMessage"))
        .next(format!("hawker logs {function}"))
        .into())
}

fn payload(text: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = match text.strip_prefix('@') {
        Some(file) => {
            std::fs::read(file).with_context(|| format!("the payload file `{file}` can not be read"))?
        }
        None if text == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            bytes
        }
        None => text.as_bytes().to_vec(),
    };
    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
        Failure::new("the payload is not JSON")
            .why(error.to_string())
            .next("quote it for the shell: '{\"key\": 1}'")
    })?;
    Ok(bytes)
}
