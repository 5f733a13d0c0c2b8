//! The lines that Lambda adds to a function's log (AWS Lambda developer guide, "Using CloudWatch Logs" and
//! "Lambda Telemetry API Event schema reference": functions that log JSON get the events of the latter).

use std::time::Duration;

use serde_json::{Value, json};
use telemetry::{LogEvent, Outcome};
use types::{RequestId, Timestamp, TraceHeader};

use crate::name::Version;
use crate::{Initialization, LogFormat, LogLevel};

/// Milliseconds with two decimals, as `REPORT` shows durations.
fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// The time as Lambda writes it: milliseconds, UTC.
pub(crate) fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// An event of the platform's as a line, if the function's format and level want it.
fn event(format: LogFormat, level: LogLevel, at: Timestamp, kind: &str, record: &Value) -> Option<String> {
    match format {
        LogFormat::Text => None,
        LogFormat::Json { system, .. } => (level >= system).then(|| {
            json!({ "time": iso(at), "type": format!("platform.{kind}"), "record": record }).to_string()
        }),
    }
}

/// A duration as JSON lines show it: milliseconds with three decimals.
fn json_millis(duration: Duration) -> Value {
    // Small enough to be exact.
    json!(duration.as_micros() as f64 / 1000.0)
}

/// A log stream's name: a day, a version, and the instance.
pub(crate) fn stream(at: Timestamp, version: Version, instance: [u8; 16]) -> String {
    let day = at.strftime("%Y/%m/%d").to_string();
    format!("{day}/[{version}]{}", hex::encode(instance))
}

/// The first line of an instance.
#[derive(Debug)]
pub(crate) struct InitStart<'a> {
    pub(crate) function: &'a str,
    pub(crate) version: Version,
    pub(crate) runtime: &'a str,
    pub(crate) region: &'a str,
    pub(crate) initialization: Initialization,
}

impl InitStart<'_> {
    /// The line.
    pub(crate) fn line(&self, format: LogFormat, at: Timestamp) -> Option<String> {
        let Self { runtime, region, .. } = self;
        let version = format!("{}.hawker", versioned(runtime));
        let arn = format!("arn:aws:lambda:{region}::runtime:{runtime}");
        match format {
            LogFormat::Text => {
                Some(format!("INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}"))
            }
            LogFormat::Json { .. } => {
                let record = json!({
                    "initializationType": self.initialization.as_str(),
                    "phase": "init",
                    "functionName": self.function,
                    "functionVersion": self.version.to_string(),
                    "runtimeVersion": version,
                    "runtimeVersionArn": arn,
                });
                event(format, LogLevel::Info, at, "initStart", &record)
            }
        }
    }
}

/// The first line of an invocation.
pub(crate) fn start(format: LogFormat, at: Timestamp, id: RequestId, version: Version) -> Option<String> {
    match format {
        LogFormat::Text => Some(format!("START RequestId: {id} Version: {version}")),
        LogFormat::Json { .. } => {
            let record = json!({ "requestId": id, "version": version.to_string() });
            event(format, LogLevel::Info, at, "start", &record)
        }
    }
}

/// The line of a request that was answered with the outcome of an earlier one.
pub(crate) fn repeated(
    format: LogFormat,
    at: Timestamp,
    id: RequestId,
    key: &str,
    first: RequestId,
) -> Option<String> {
    match format {
        LogFormat::Text => {
            Some(format!("REPEATED RequestId: {id}\tIdempotency Key: {key}\tAnswered As: {first}"))
        }
        LogFormat::Json { .. } => {
            let record = json!({ "requestId": id, "idempotency": key, "answeredAs": first });
            event(format, LogLevel::Info, at, "repeated", &record)
        }
    }
}

/// The last but one line of an invocation.
pub(crate) fn end(format: LogFormat, id: RequestId) -> Option<String> {
    matches!(format, LogFormat::Text).then(|| format!("END RequestId: {id}"))
}

/// `python3.12` as `python:3.12`.
fn versioned(runtime: &str) -> String {
    match runtime.find(|c: char| c.is_ascii_digit()) {
        Some(at) => format!("{}:{}", runtime[..at].trim_end_matches('.'), &runtime[at..]),
        None => runtime.to_owned(),
    }
}

/// The line of a failed init.
pub(crate) fn init_report(
    format: LogFormat,
    at: Timestamp,
    duration: Duration,
    error_type: &str,
) -> Option<String> {
    let timed_out = error_type == "Sandbox.Timedout";
    match format {
        LogFormat::Text => {
            let status =
                if timed_out { "timeout".to_owned() } else { format!("error\tError Type: {error_type}") };
            Some(format!("INIT_REPORT Init Duration: {}\tPhase: init\tStatus: {status}", millis(duration)))
        }
        LogFormat::Json { .. } => {
            let mut record = json!({
                "phase": "init",
                "status": if timed_out { "timeout" } else { "error" },
                "metrics": { "durationMs": json_millis(duration) },
            });
            if !timed_out {
                record["errorType"] = json!(error_type);
            }
            event(format, LogLevel::Warn, at, "initReport", &record)
        }
    }
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
    /// The key under which it ran once.
    pub(crate) idempotency: Option<&'a str>,
}

impl Report<'_> {
    /// The line, as the function's format wants it.
    pub(crate) fn line(&self, format: LogFormat, at: Timestamp) -> Option<String> {
        match format {
            LogFormat::Text => Some(self.text()),
            LogFormat::Json { .. } => {
                let (level, record) = self.record();
                event(format, level, at, "report", &record)
            }
        }
    }

    fn record(&self) -> (LogLevel, Value) {
        let status = match (self.outcome, self.error_type) {
            (Outcome::Timeout, _) => "timeout",
            (Outcome::Success, None) => "success",
            (Outcome::Error | Outcome::OutOfMemory, _) | (Outcome::Success, Some(_)) => "error",
        };
        let mut record = json!({
            "requestId": self.request_id,
            "metrics": {
                "durationMs": json_millis(self.duration),
                "billedDurationMs": self.billed_ms,
                "memorySizeMB": self.memory_mb,
                "maxMemoryUsedMB": self.max_memory_mb,
            },
            "status": status,
        });
        if let Some(init) = self.init {
            record["metrics"]["initDurationMs"] = json_millis(init);
        }
        if let Some(error_type) = self.error_type {
            record["errorType"] = json!(error_type);
        }
        if let Some((trace, segment)) = self.trace {
            record["tracing"] =
                json!({ "spanId": segment, "type": "X-Amzn-Trace-Id", "value": trace.to_string() });
        }
        if let Some(key) = self.idempotency {
            record["idempotency"] = json!(key);
        }
        (if status == "success" { LogLevel::Info } else { LogLevel::Warn }, record)
    }

    fn text(&self) -> String {
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
        if let Some(key) = self.idempotency {
            let _ = write!(line, "Idempotency Key: {key}\t");
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

/// How much of a log an answer has, in bytes.
const TAIL_LIMIT: usize = 4096;

/// The events that the last 4 KB of a log are of.
pub(crate) fn last(events: &[LogEvent]) -> &[LogEvent] {
    let mut size = 0;
    let count = events.iter().rev().take_while(|event| {
        let wanted = size < TAIL_LIMIT;
        size += event.message.len() + 1;
        wanted
    });
    &events[events.len() - count.count()..]
}

/// The last 4 KB of an invocation's log, as `X-Amz-Log-Result` carries it before base64.
pub(crate) fn tail<'a>(events: impl Iterator<Item = &'a LogEvent>) -> Vec<u8> {
    let mut text = Vec::new();
    for event in events {
        text.extend_from_slice(event.message.as_bytes());
        text.push(b'\n');
    }
    let from = text.len().saturating_sub(TAIL_LIMIT);
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
            idempotency: None,
        };
        let at: Timestamp = "2026-11-23T09:08:07.0056Z".parse().unwrap();
        assert_eq!(
            report.text(),
            "REPORT RequestId: 8f507cfc-30a5-4e1a-8b2f-000000000000\tDuration: 1.23 ms\tBilled Duration: 14 ms\t\
             Memory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 12.34 ms\t"
        );
        report.outcome = Outcome::Timeout;
        assert!(report.text().ends_with("\tStatus: timeout"));
        report.outcome = Outcome::OutOfMemory;
        report.error_type = Some("Runtime.OutOfMemory");
        assert!(report.text().ends_with("\tStatus: error\tError Type: Runtime.OutOfMemory"));
        let (application, system) = (LogLevel::Info, LogLevel::Warn);
        let json = LogFormat::Json { application, system };
        let line: Value = serde_json::from_str(&report.line(json, at).unwrap()).unwrap();
        assert_eq!(
            (&line["type"], &line["time"]),
            (&json!("platform.report"), &json!("2026-11-23T09:08:07.005Z"))
        );
        assert_eq!(line["record"]["status"], "error");
        assert_eq!(line["record"]["metrics"]["initDurationMs"], 12.34);
        assert_eq!(start(json, at, request_id, Version::Latest), None, "it is below the level");
        assert!(start(LogFormat::Text, at, request_id, Version::Number(3)).unwrap().ends_with("Version: 3"));
        assert_eq!(versioned("python3.12"), "python:3.12");
        assert_eq!(versioned("provided.al2023"), "provided.al:2023");
        assert_eq!(iso(at), "2026-11-23T09:08:07.005Z");
        let events = ["a".repeat(9), "b".repeat(4000), "c".repeat(95)];
        let events = events.map(|message| LogEvent { timestamp: at, message });
        assert_eq!(last(&events), &events[1..]);
        assert_eq!((last(&events[..1]), last(&[])), (&events[..1], &[][..]));
        assert_eq!(tail(events.iter()), tail(last(&events).iter()));
        assert_eq!(
            stream(at, Version::Latest, [0xAB; 16]),
            format!("2026/11/23/[$LATEST]{}", "ab".repeat(16))
        );
    }
}
