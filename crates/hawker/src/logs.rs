//! `hawker logs`: what a function wrote, from the CloudWatch Logs API.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Value as Json, json};
use types::Timestamp;

use crate::cli;
use crate::client::{Client, service_error};
use crate::ui::{self, Colour};

/// How often to look for more.
const INTERVAL: Duration = Duration::from_millis(400);
/// Events may become visible in another order than their times; how far back to look again.
const OVERLAP_MS: i64 = 5_000;

/// Shows a function's log.
pub(crate) async fn run(args: cli::Logs) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let function = client.function(&args.function).await?;
    let since = i64::try_from(args.since.as_millis()).unwrap_or(i64::MAX);
    let start = Timestamp::now().as_millisecond().saturating_sub(since).max(0);
    let mut tail = Tail::new(&function, start, args.filter);
    let mut any = false;
    loop {
        for event in tail.more(&client).await? {
            any = true;
            if args.remote.json {
                ui::line(&event.to_string());
            } else {
                ui::line(&show(&event));
            }
        }
        if !args.follow {
            break;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    if !any && !args.remote.json {
        ui::note(&format!("{function} logged nothing in that time; look further back with --since 7d"));
    }
    Ok(())
}

/// A log group, read as it grows.
#[derive(Debug)]
pub(crate) struct Tail {
    group: String,
    from_ms: i64,
    filter: Option<String>,
    seen: HashSet<String>,
    order: VecDeque<String>,
}

impl Tail {
    pub(crate) fn new(function: &str, from_ms: i64, filter: Option<String>) -> Self {
        let group = format!("/aws/lambda/{function}");
        Self { group, from_ms, filter, seen: HashSet::new(), order: VecDeque::new() }
    }

    /// What was not there before; nothing if there is no log yet.
    pub(crate) async fn more(&mut self, client: &Client) -> anyhow::Result<Vec<Json>> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        let mut newest = self.from_ms;
        loop {
            let mut body = json!({"logGroupName": self.group, "startTime": self.from_ms});
            if let Some(filter) = &self.filter {
                body["filterPattern"] = json!(filter);
            }
            if let Some(token) = &next {
                body["nextToken"] = json!(token);
            }
            let page = match client.logs("FilterLogEvents", &body).await {
                Ok(page) => page,
                Err(error)
                    if service_error(&error).is_some_and(|e| e.code == "ResourceNotFoundException") =>
                {
                    return Ok(found);
                }
                Err(error) => return Err(error),
            };
            for event in page["events"].as_array().into_iter().flatten() {
                let id = event["eventId"].as_str().unwrap_or_default().to_owned();
                newest = newest.max(event["timestamp"].as_i64().unwrap_or_default());
                if self.seen.insert(id.clone()) {
                    self.order.push_back(id);
                    found.push(event.clone());
                }
            }
            match page["nextToken"].as_str() {
                Some(token) => next = Some(token.to_owned()),
                None => break,
            }
        }
        self.from_ms = self.from_ms.max(newest - OVERLAP_MS);
        // Enough to cover what the overlap can hold.
        while self.order.len() > 50_000 {
            if let Some(old) = self.order.pop_front() {
                self.seen.remove(&old);
            }
        }
        Ok(found)
    }
}

/// An event as a line: its time, then what was written.
pub(crate) fn show(event: &Json) -> String {
    let ms = event["timestamp"].as_i64().unwrap_or_default();
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    let message = event["message"].as_str().unwrap_or_default().trim_end();
    format!("{} {}", ui::paint(Colour::Dim, &time), rendered(message))
}

/// What was written, in the colour of what it is.
pub(crate) fn rendered(message: &str) -> String {
    let platform = ["START RequestId", "END RequestId", "REPORT RequestId", "INIT_START", "INIT_REPORT"];
    let failed = ["[ERROR]", "ERROR", "Traceback", "Task timed out", "Runtime exited"];
    let colour = if platform.iter().any(|p| message.starts_with(p)) {
        Colour::Dim
    } else if failed.iter().any(|p| message.contains(p)) {
        Colour::Red
    } else if message.contains("WARN") {
        Colour::Yellow
    } else {
        Colour::Plain
    };
    // A tab between two parts of a report is wide enough as two spaces.
    ui::paint(colour, &message.replace('\t', "  "))
}
