//! The records (AWS Lambda developer guide, "Lambda Telemetry API Event schema reference" and "Lambda Logs API").

use std::time::Duration;

use functions::{Initialization, InvokeRequest, LogFormat};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use types::Timestamp;

use super::{Api, Record, Source, Telemetry};

/// What records tell of the function.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) function_name: String,
    pub(crate) version: String,
    pub(crate) runtime: String,
    pub(crate) region: String,
    pub(crate) memory_mb: u32,
    pub(crate) initialization: Initialization,
    pub(crate) log_format: LogFormat,
}

/// How an invocation ended, as records say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvokeStatus {
    Success,
    /// The function said that it failed.
    Error,
    /// It ended, or something of it did.
    Failure,
    Timeout,
}

impl InvokeStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
        }
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// The time as records have it.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn init_report(initialization: Initialization, status: InvokeStatus, duration: Duration) -> Value {
    json!({
        "initializationType": initialization.as_str(),
        "phase": "init",
        "status": status.as_str(),
        "metrics": { "durationMs": millis(duration) },
    })
}

/// The record as a line of a log in JSON.
pub(crate) fn init_report_line(
    at: Timestamp,
    initialization: Initialization,
    status: InvokeStatus,
    duration: Duration,
) -> String {
    let record = init_report(initialization, status, duration);
    json!({ "time": time(at), "type": "platform.initReport", "record": record }).to_string()
}

fn text(at: &str, kind: &str, record: &Value) -> bytes::Bytes {
    json!({ "time": at, "type": kind, "record": record }).to_string().into()
}

impl Telemetry {
    /// A record of the platform, for both APIs where `logs` has it.
    fn platform(&self, kind: &str, record: &Value, logs: Option<(&str, &Value)>) {
        if self.is_silent() {
            return;
        }
        let at = time(self.env.now());
        self.tell(Record {
            source: Source::Platform,
            telemetry: Some(text(&at, kind, record)),
            logs: logs.map(|(kind, record)| text(&at, kind, record)),
        });
    }

    pub(crate) fn init_start(&self) {
        let About { function_name, version, runtime, region, memory_mb, initialization, .. } = &self.about;
        let record = json!({
            "initializationType": initialization.as_str(),
            "phase": "init",
            "runtimeVersion": runtime,
            "runtimeVersionArn": format!("arn:aws:lambda:{region}::runtime:{runtime}"),
            "functionName": function_name,
            "functionVersion": version,
            "instanceMaxMemory": u64::from(*memory_mb) << 20,
        });
        self.platform("platform.initStart", &record, None);
    }

    pub(crate) fn init_runtime_done(&self, status: InvokeStatus) {
        let record = json!({
            "initializationType": self.about.initialization.as_str(),
            "phase": "init",
            "status": status.as_str(),
        });
        self.platform("platform.initRuntimeDone", &record, None);
    }

    pub(crate) fn init_report(&self, status: InvokeStatus, duration: Duration) {
        let record = init_report(self.about.initialization, status, duration);
        self.platform("platform.initReport", &record, None);
    }

    pub(crate) fn start(&self, request: &InvokeRequest) {
        if self.is_silent() {
            return;
        }
        let record = json!({
            "requestId": request.request_id.to_string(),
            "version": self.about.version,
            "tracing": { "type": "X-Amzn-Trace-Id", "value": request.trace.to_string() },
        });
        let logs = json!({ "requestId": request.request_id.to_string(), "version": self.about.version });
        self.platform("platform.start", &record, Some(("platform.start", &logs)));
    }

    /// The function is done with an event; `latency` is until its answer began.
    pub(crate) fn runtime_done(
        &self,
        request_id: &str,
        status: InvokeStatus,
        duration: Duration,
        latency: Duration,
        bytes: u64,
    ) {
        if self.is_silent() {
            return;
        }
        let end = self.env.now();
        let began = end.checked_sub(duration).unwrap_or(end);
        let answered = began.checked_add(latency).unwrap_or(end);
        let record = json!({
            "requestId": request_id,
            "status": status.as_str(),
            "metrics": { "durationMs": millis(duration), "producedBytes": bytes },
            "spans": [
                { "name": "responseLatency", "start": time(began), "durationMs": millis(latency) },
                {
                    "name": "responseDuration",
                    "start": time(answered),
                    "durationMs": millis(duration.saturating_sub(latency)),
                },
            ],
        });
        let logs = json!({ "requestId": request_id, "status": status.as_str() });
        self.platform("platform.runtimeDone", &record, Some(("platform.runtimeDone", &logs)));
    }

    /// Everything is done with an event.
    pub(crate) fn report(
        &self,
        request_id: &str,
        status: InvokeStatus,
        duration: Duration,
        init: Option<Duration>,
        max_memory_bytes: u64,
    ) {
        if self.is_silent() {
            return;
        }
        let billed = (duration + init.unwrap_or_default()).as_secs_f64() * 1000.0;
        let mut metrics = json!({
            "durationMs": millis(duration),
            "billedDurationMs": billed.ceil(),
            "memorySizeMB": self.about.memory_mb,
            "maxMemoryUsedMB": max_memory_bytes.div_ceil(1 << 20),
        });
        if let Some(init) = init {
            metrics["initDurationMs"] = millis(init).into();
        }
        let record = json!({ "requestId": request_id, "status": status.as_str(), "metrics": metrics });
        let logs = json!({ "requestId": request_id, "metrics": metrics });
        self.platform("platform.report", &record, Some(("platform.report", &logs)));
        // The Logs API has one record more.
        let at = time(self.env.now());
        let end = text(&at, "platform.end", &json!({ "requestId": request_id }));
        self.tell(Record { source: Source::Platform, telemetry: None, logs: Some(end) });
    }

    pub(crate) fn extension(&self, name: &str, state: &str, events: &[String], error_type: Option<&str>) {
        let mut record = json!({ "name": name, "state": state, "events": events });
        if let Some(error_type) = error_type {
            record["errorType"] = error_type.into();
        }
        self.platform("platform.extension", &record, Some(("platform.extension", &record)));
    }

    pub(super) fn subscribed(&self, api: Api, name: &str, sources: &[Source]) -> Record {
        let types: Vec<_> = sources.iter().map(|source| source.as_str()).collect();
        let record = json!({ "name": name, "state": "Subscribed", "types": types });
        let at = time(self.env.now());
        let (telemetry, logs) = match api {
            Api::Telemetry => (Some(text(&at, "platform.telemetrySubscription", &record)), None),
            Api::Logs => (None, Some(text(&at, "platform.logsSubscription", &record))),
        };
        Record { source: Source::Platform, telemetry, logs }
    }

    /// A line of the function or of an extension.
    pub(crate) fn line(&self, source: Source, at: Timestamp, line: &str) {
        if self.is_silent() {
            return;
        }
        let (at, kind) = (time(at), source.as_str());
        let plain = text(&at, kind, &Value::from(line));
        // Where logs are JSON, a record is what the line says.
        let object = match self.about.log_format {
            LogFormat::Json { .. } if line.starts_with('{') => serde_json::from_str::<&RawValue>(line).ok(),
            LogFormat::Json { .. } | LogFormat::Text => None,
        };
        let telemetry = match object {
            Some(object) => format!(r#"{{"time":"{at}","type":"{kind}","record":{}}}"#, object.get()).into(),
            None => plain.clone(),
        };
        self.tell(Record { source, telemetry: Some(telemetry), logs: Some(plain) });
    }
}

/// What a subscriber is told when something was dropped.
pub(super) fn dropped(at: Timestamp, records: u64, bytes: u64) -> bytes::Bytes {
    let record = json!({
        "reason": "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
        "droppedRecords": records,
        "droppedBytes": bytes,
    });
    // Both APIs have it by the same name.
    text(&time(at), "platform.logsDropped", &record)
}
