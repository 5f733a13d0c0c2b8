//! The lines that Lambda adds to a function's log (AWS Lambda developer guide, "Using CloudWatch Logs").

use std::time::Duration;

use telemetry::{LogEvent, Outcome};
use types::{RequestId, Timestamp, TraceHeader};

/// Milliseconds with two decimals, as `REPORT` shows durations.
fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// The time as Lambda writes it: milliseconds, UTC.
pub(crate) fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A log stream's name: a day, a version, and the instance.
pub(crate) fn stream(at: Timestamp, version: &str, instance: [u8; 16]) -> String {
    let day = at.strftime("%Y/%m/%d").to_string();
    format!("{day}/[{version}]{}", hex::encode(instance))
}

/// The first line of an instance.
pub(crate) fn init_start(runtime: &str, region: &str) -> String {
    format!(
        "INIT_START Runtime Version: {}.hawker\tRuntime Version ARN: arn:aws:lambda:{region}::runtime:{runtime}",
        versioned(runtime)
    )
}

/// `python3.12` as `python:3.12`.
fn versioned(runtime: &str) -> String {
    match runtime.find(|c: char| c.is_ascii_digit()) {
        Some(at) => format!("{}:{}", runtime[..at].trim_end_matches('.'), &runtime[at..]),
        None => runtime.to_owned(),
    }
}

/// The line of a failed init.
pub(crate) fn init_report(duration: Duration, error_type: &str) -> String {
    format!(
        "INIT_REPORT Init Duration: {}\tPhase: init\tStatus: error\tError Type: {error_type}",
        millis(duration)
    )
}

/// What the last line of an invocation tells.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) request_id: RequestId,
    pub(crate) duration: Duration,
    pub(crate) billed_ms: u64,
    pub(crate) memory_mb: u32,
    pub(crate) max_memory_mb: u32,
    pub(crate) init: Option<Duration>,
    pub(crate) outcome: Outcome,
    /// Set where the platform, and not the function, says that it failed.
    pub(crate) error_type: Option<&'a str>,
    /// Trace and segment, if the function is traced actively.
    pub(crate) trace: Option<(&'a TraceHeader, &'a str)>,
}

impl Report<'_> {
    /// The line.
    pub(crate) fn line(&self) -> String {
        use std::fmt::Write as _;
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {}\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.request_id,
            millis(self.duration),
            self.billed_ms,
            self.memory_mb,
            self.max_memory_mb
        );
        if let Some(init) = self.init {
            let _ = write!(line, "Init Duration: {}\t", millis(init));
        }
        if let Some((trace, segment)) = self.trace {
            let _ = write!(
                line,
                "\nXRAY TraceId: {}\tSegmentId: {segment}\tSampled: {}\t",
                trace.root, trace.sampled
            );
        }
        match (self.outcome, self.error_type) {
            (Outcome::Timeout, _) => line.push_str("Status: timeout"),
            (_, Some(error_type)) => {
                let _ = write!(line, "Status: error\tError Type: {error_type}");
            }
            (Outcome::Success | Outcome::Error | Outcome::OutOfMemory, None) => {}
        }
        line
    }
}

/// The last 4 KB of an invocation's log, as `X-Amz-Log-Result` carries it before base64.
pub(crate) fn tail(events: &[LogEvent]) -> Vec<u8> {
    const LIMIT: usize = 4096;
    let mut text = Vec::new();
    for event in events {
        text.extend_from_slice(event.message.as_bytes());
        text.push(b'\n');
    }
    let from = text.len().saturating_sub(LIMIT);
    text.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_lambda_writes_them() {
        let request_id: RequestId = "8f507cfc-30a5-4e1a-8b2f-000000000000".parse().unwrap();
        let mut report = Report {
            request_id,
            duration: Duration::from_micros(1234),
            billed_ms: 14,
            memory_mb: 128,
            max_memory_mb: 40,
            init: Some(Duration::from_micros(12_340)),
            outcome: Outcome::Success,
            error_type: None,
            trace: None,
        };
        assert_eq!(
            report.line(),
            "REPORT RequestId: 8f507cfc-30a5-4e1a-8b2f-000000000000\tDuration: 1.23 ms\tBilled Duration: 14 ms\t\
             Memory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 12.34 ms\t"
        );
        report.outcome = Outcome::Timeout;
        assert!(report.line().ends_with("\tStatus: timeout"));
        report.outcome = Outcome::OutOfMemory;
        report.error_type = Some("Runtime.OutOfMemory");
        assert!(report.line().ends_with("\tStatus: error\tError Type: Runtime.OutOfMemory"));
        assert_eq!(versioned("python3.12"), "python:3.12");
        assert_eq!(versioned("provided.al2023"), "provided.al:2023");
        let at: Timestamp = "2026-11-23T09:08:07.0056Z".parse().unwrap();
        assert_eq!(iso(at), "2026-11-23T09:08:07.005Z");
        assert_eq!(stream(at, "$LATEST", [0xAB; 16]), format!("2026/11/23/[$LATEST]{}", "ab".repeat(16)));
    }
}
