//! Log events: writing, reading a stream, searching a group.

use std::collections::HashSet;

use aws::Response;
use serde::{Deserialize, Serialize};
use types::Timestamp;

use super::pattern::Pattern;
use super::{Input, Scope, check_limit, group_name, invalid};
use crate::Error;
use crate::plan::Missing;
use crate::reader::{Found, Position, Query, Source};
use crate::record::{LogEvent, LogLines};
use crate::writer::Batch;

/// Sequence tokens are ignored since 2023; answers still hold one.
pub(super) const SEQUENCE_TOKEN: &str = "49600000000000000000000000000000000000000000000000000000";

const DAY_MS: i64 = 86_400_000;
/// The most an answer holds.
const PAGE_BYTES: usize = 1 << 20;
/// How many rows a search looks at before it hands out a token.
const PAGE_CHUNKS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PutLogEvents {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputLogEvent>,
    // AWS takes and ignores it, as its documentation says.
    #[expect(dead_code)]
    sequence_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputLogEvent {
    timestamp: i64,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Put {
    next_sequence_token: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_log_events_info: Option<Rejected>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected {
    #[serde(skip_serializing_if = "Option::is_none")]
    too_new_log_event_start_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    too_old_log_event_end_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_log_event_end_index: Option<usize>,
}

impl Input for PutLogEvents {
    const NAME: &'static str = "PutLogEvents";

    fn resource(&self, scope: &Scope) -> String {
        scope.stream_resource(&self.log_group_name, &self.log_stream_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let events = self.log_events;
        if events.is_empty() || events.len() > 10_000 {
            return Err(invalid("Log events in a single PutLogEvents request must number 1 to 10,000."));
        }
        let size: usize = events.iter().map(|event| event.message.len() + 26).sum();
        if size > PAGE_BYTES {
            return Err(invalid(format!("Upload too large: {size} bytes exceeds limit of {PAGE_BYTES}")));
        }
        if events.iter().any(|event| event.message.is_empty() || event.timestamp < 0) {
            return Err(invalid("Log events need a message, and a timestamp that is not negative."));
        }
        if !events.is_sorted_by_key(|event| event.timestamp) {
            let message = "Log events in a single PutLogEvents request must be in chronological order.";
            return Err(invalid(message));
        }
        if events.last().zip(events.first()).is_some_and(|(l, f)| l.timestamp - f.timestamp > DAY_MS) {
            let message =
                "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.";
            return Err(invalid(message));
        }
        let group = scope.group(&self.log_group_name).await?;
        scope.stream(&group, &self.log_stream_name).await?;
        let now = scope.now_ms();
        let too_old = events.iter().take_while(|e| e.timestamp < now - 14 * DAY_MS).count();
        let expired = events.iter().take_while(|e| e.timestamp < group.cutoff_ms(now)).count();
        let too_new = events.iter().position(|e| e.timestamp > now + 2 * 3_600_000);
        let rejected = Rejected {
            too_new_log_event_start_index: too_new,
            too_old_log_event_end_index: (too_old > 0).then_some(too_old),
            expired_log_event_end_index: (expired > 0).then_some(expired),
        };
        let end = too_new.unwrap_or(events.len());
        let accepted = events.into_iter().take(end).skip(too_old.max(expired)).map(|event| {
            let timestamp = Timestamp::from_millisecond(event.timestamp);
            timestamp.map(|timestamp| LogEvent { timestamp, message: event.message })
        });
        let accepted: Vec<_> =
            accepted.collect::<Result<_, _>>().map_err(|_| invalid("A timestamp is out of range."))?;
        if !accepted.is_empty() {
            let mut batch = Batch::default();
            batch.log(LogLines {
                account: scope.account,
                group: self.log_group_name,
                stream: self.log_stream_name,
                events: accepted,
            });
            let writer = &scope.telemetry.writer;
            writer.write_logs(&writer.prepare(scope.account, batch), Missing::Refuse).await?;
        }
        let info = (rejected != Rejected::default()).then_some(rejected);
        Ok(aws::json::output(&Put { next_sequence_token: SEQUENCE_TOKEN, rejected_log_events_info: info }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GetLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    start_from_head: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Got {
    events: Vec<OutputLogEvent>,
    next_forward_token: String,
    next_backward_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputLogEvent {
    timestamp: i64,
    message: String,
    ingestion_time: i64,
}

impl Input for GetLogEvents {
    const NAME: &'static str = "GetLogEvents";

    fn resource(&self, scope: &Scope) -> String {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref());
        scope.stream_resource(&name.unwrap_or_default(), &self.log_stream_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())?;
        let limit = check_limit(self.limit, 10_000)?;
        let group = scope.group(&name).await?;
        let stream = scope.stream(&group, &self.log_stream_name).await?;
        let (forward, at) = match self.next_token.as_deref() {
            None => (self.start_from_head, None),
            Some(token) => {
                let (forward, id) = match token.split_once('/') {
                    Some(("f", id)) => (true, id),
                    Some(("b", id)) => (false, id),
                    _ => return Err(invalid("The specified nextToken is invalid.")),
                };
                let position = Position::parse(id);
                (forward, Some(position.ok_or_else(|| invalid("The specified nextToken is invalid."))?))
            }
        };
        let from_ms = self.start_time.unwrap_or(0).max(group.cutoff_ms(scope.now_ms()));
        let to_ms = self.end_time.unwrap_or(i64::MAX);
        let query = Query {
            account: scope.account,
            source: Source::Stream(group.number, stream.number),
            from_ms,
            to_ms,
            beyond: at,
            reverse: !forward,
            limit,
            limit_bytes: PAGE_BYTES,
            limit_chunks: usize::MAX,
        };
        let mut events = query.run(scope.store(), |_| true).await?.events;
        if !forward {
            events.reverse();
        }
        // At the end of the stream one gets back the token that one came with.
        let edge = at.unwrap_or_else(|| {
            let end = stream.last_event_ms.map_or(from_ms, |ms| ms.saturating_add(1).min(to_ms));
            Position::before(if forward { from_ms } else { end })
        });
        let first = events.first().map_or(edge, |found| found.position);
        let last = events.last().map_or(edge, |found| found.position);
        let output = Got {
            events: events.into_iter().map(output).collect(),
            next_forward_token: format!("f/{}", last.id()),
            next_backward_token: format!("b/{}", first.id()),
        };
        Ok(aws::json::output(&output))
    }
}

fn output(found: Found) -> OutputLogEvent {
    OutputLogEvent { timestamp: found.position.ms, message: found.message, ingestion_time: found.ingested_ms }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FilterLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    // Answers are interleaved whatever it says, as on AWS since 2019.
    #[expect(dead_code)]
    interleaved: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filtered {
    events: Vec<FilteredLogEvent>,
    searched_log_streams: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FilteredLogEvent {
    log_stream_name: String,
    timestamp: i64,
    message: String,
    ingestion_time: i64,
    event_id: String,
}

impl Input for FilterLogEvents {
    const NAME: &'static str = "FilterLogEvents";

    fn resource(&self, scope: &Scope) -> String {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref());
        scope.group_resource(&name.unwrap_or_default())
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())?;
        let limit = check_limit(self.limit, 10_000)?;
        let pattern = Pattern::parse(self.filter_pattern.as_deref().unwrap_or_default())?;
        if self.log_stream_names.is_some() && self.log_stream_name_prefix.is_some() {
            return Err(invalid("logStreamNames and logStreamNamePrefix are mutually exclusive."));
        }
        let beyond = match self.next_token.as_deref() {
            None => None,
            Some(token) => {
                let position = Position::parse(token);
                Some(position.ok_or_else(|| invalid("The specified nextToken is invalid."))?)
            }
        };
        let group = scope.group(&name).await?;
        let names = self.log_stream_names;
        let source = match names.as_deref() {
            Some([]) => return Err(invalid("logStreamNames must name 1 to 100 streams.")),
            Some(names) if names.len() > 100 => {
                return Err(invalid("logStreamNames must name 1 to 100 streams."));
            }
            Some([one]) => Source::Stream(group.number, scope.stream(&group, one).await?.number),
            Some(names) => {
                for name in names {
                    scope.stream(&group, name).await?;
                }
                Source::Group(group.number)
            }
            None => Source::Group(group.number),
        };
        let names: Option<HashSet<String>> = names.map(|names| names.into_iter().collect());
        let prefix = self.log_stream_name_prefix;
        let query = Query {
            account: scope.account,
            source,
            from_ms: self.start_time.unwrap_or(0).max(group.cutoff_ms(scope.now_ms())),
            // Unlike in GetLogEvents, events at the end time are included.
            to_ms: self.end_time.map_or(i64::MAX, |ms| ms.saturating_add(1)),
            beyond,
            reverse: false,
            limit,
            limit_bytes: PAGE_BYTES,
            limit_chunks: PAGE_CHUNKS,
        };
        let keep = |found: &Found| {
            names.as_ref().is_none_or(|names| names.contains(&found.stream))
                && prefix.as_ref().is_none_or(|prefix| found.stream.starts_with(prefix))
                && pattern.matches(&found.message)
        };
        let page = query.run(scope.store(), keep).await?;
        let events = page.events.into_iter().map(|found| FilteredLogEvent {
            event_id: found.position.id(),
            log_stream_name: found.stream,
            timestamp: found.position.ms,
            message: found.message,
            ingestion_time: found.ingested_ms,
        });
        let next_token = page.next.map(Position::id);
        Ok(aws::json::output(&Filtered { events: events.collect(), searched_log_streams: [], next_token }))
    }
}
