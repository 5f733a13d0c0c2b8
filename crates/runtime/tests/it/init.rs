//! The init phase: its limit, and what comes after.

use std::time::Duration;

use functions::{Initialization, LogFormat, LogLevel, Runtime, StartError, StartRequest};
use serde_json::Value;

use crate::support::{House, ask, lines, request};

/// Loads slowly: each line that it writes is a start.
fn slow(seconds: f64) -> String {
    format!(
        "import os, time\nprint('loading')\ntime.sleep({seconds})\ndef handler(e, c): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"
    )
}

fn start(text: &str) -> StartRequest {
    request("python3.11", "app.handler", &[("app.py", text.as_bytes())])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_too_long_is_started_again_with_its_own_timeout() {
    let house = House::with(|config| config.init_timeout_ms = 300).await;
    let started = house.runtime.start(start(&slow(0.7))).await.unwrap();
    let logs = lines(&started.logs);
    assert_eq!((logs[0], logs[2]), ("loading", "loading"), "{logs:?}");
    let (before, after) = logs[1].split_once(" ms\t").unwrap();
    let took: f64 = before.strip_prefix("INIT_REPORT Init Duration: ").unwrap().parse().unwrap();
    assert!(took >= 300.0, "{took}");
    assert_eq!(after, "Phase: init\tStatus: timeout");
    let mut f = started.instance;
    assert_eq!(ask(&mut f, "{}").await, "on-demand");

    let as_json = |system: LogLevel| StartRequest {
        log_format: LogFormat::Json { application: LogLevel::Info, system },
        ..start(&slow(0.7))
    };
    let started = house.runtime.start(as_json(LogLevel::Info)).await.unwrap();
    let report: Value = serde_json::from_str(lines(&started.logs)[1]).unwrap();
    assert_eq!(
        (&report["type"], &report["record"]["status"]),
        (&"platform.initReport".into(), &"timeout".into())
    );
    let started = house.runtime.start(as_json(LogLevel::Warn)).await.unwrap();
    assert_eq!(lines(&started.logs), ["loading", "loading"]);

    let short = StartRequest { timeout: Duration::from_millis(400), ..start(&slow(10.0)) };
    let Err(StartError::Init { payload, logs, .. }) = house.runtime.start(short).await else { panic!() };
    let error: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    assert_eq!(error["errorMessage"], "Task timed out after 0.40 seconds");
    assert_eq!(lines(&logs).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_made_before_it_is_needed_has_more_time() {
    let house = House::with(|config| {
        config.init_timeout_ms = 100;
        config.provisioned_init_timeout_ms = 20_000;
    })
    .await;
    let provisioned = |text: &str| StartRequest {
        initialization: Initialization::ProvisionedConcurrency,
        timeout: Duration::from_millis(100),
        ..start(text)
    };
    let started = house.runtime.start(provisioned(&slow(0.5))).await.unwrap();
    assert_eq!(lines(&started.logs), ["loading"]);
    let mut f = started.instance;
    assert_eq!(ask(&mut f, "{}").await, "provisioned-concurrency");

    let house = House::with(|config| config.provisioned_init_timeout_ms = 200).await;
    let Err(StartError::Init { payload, .. }) = house.runtime.start(provisioned(&slow(10.0))).await else {
        panic!()
    };
    assert!(String::from_utf8_lossy(&payload).contains("Task timed out after 0.20 seconds"));
}
