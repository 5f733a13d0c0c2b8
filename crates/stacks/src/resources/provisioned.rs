//! Provisioned concurrency of versions and aliases.

use std::time::Duration;

use http::Method;
use serde_json::Value as Json;
use types::ErrorKind;

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{Calls, gone_is_fine};

pub(super) const PROVISIONED: Shape =
    Shape::Object(&[Property::new("ProvisionedConcurrentExecutions", Shape::Integer).required()]);

/// How long instances may take to become ready.
const PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

fn path(function: &str, qualifier: &str) -> String {
    format!(
        "/2019-09-30/functions/{}/provisioned-concurrency?Qualifier={}",
        segment(function),
        segment(qualifier)
    )
}

/// Asks for instances, and waits until they are ready.
pub(super) async fn put(
    calls: &Calls,
    function: &str,
    qualifier: &str,
    config: &Json,
) -> Result<(), aws::Error> {
    let path = path(function, qualifier);
    let mut state = calls.lambda(Method::PUT, &path, Some(config)).await?;
    let until = calls.env.now() + PATIENCE;
    while state["Status"].as_str() != Some("READY") {
        if state["Status"].as_str() == Some("FAILED") || calls.env.now() > until {
            let reason =
                state["StatusReason"].as_str().unwrap_or("the instances did not become ready in 5 minutes");
            let message = format!("provisioned concurrency of {function}:{qualifier}: {reason}");
            return Err(aws::Error::new(ErrorKind::Invalid, "NotStabilized", message));
        }
        calls.env.sleep(Duration::from_millis(100)).await;
        state = calls.lambda(Method::GET, &path, None).await?;
    }
    Ok(())
}

pub(super) async fn remove(calls: &Calls, function: &str, qualifier: &str) -> Result<(), aws::Error> {
    gone_is_fine(calls.lambda(Method::DELETE, &path(function, qualifier), None).await)
}
