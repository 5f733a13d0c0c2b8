//! Log streams.

use aws::Response;
use serde::{Deserialize, Serialize};
use store::{Range, Read, Write, key};

use super::{Input, Scope, check_limit, check_name, group_name, invalid, no_group, no_stream};
use crate::Error;
use crate::tables::{self, GARBAGE, GROUPS, Garbage, STREAMS, Stream};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CreateLogStream {
    log_group_name: String,
    log_stream_name: String,
}

impl Input for CreateLogStream {
    const NAME: &'static str = "CreateLogStream";

    fn resource(&self, scope: &Scope) -> String {
        scope.stream_resource(&self.log_group_name, &self.log_stream_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let name = self.log_stream_name;
        check_name("logStreamName", &name, |b| b != b':' && b != b'*')?;
        let group = scope.group(&self.log_group_name).await?;
        let (account, number, created_ms) = (scope.account, group.number, scope.now_ms());
        let stream_key = tables::stream(account, number, &name);
        let reads =
            vec![Read::Key(tables::group(account, &self.log_group_name)), Read::Key(stream_key.clone())];
        let decide = move |pages: &[store::Page], version: store::Version| {
            let group = GROUPS.first(&pages[0])?.ok_or_else(no_group)?.value;
            if group.number != number {
                return Err(no_group());
            }
            if STREAMS.first(&pages[1])?.is_some() {
                return Err(Error::AlreadyExists("The specified log stream already exists".into()));
            }
            let stream = Stream {
                name: name.clone(),
                number: version.0 << 16,
                created_ms,
                first_event_ms: None,
                last_event_ms: None,
                last_ingestion_ms: None,
            };
            Ok((vec![STREAMS.put(stream_key.clone(), &stream)], ()))
        };
        scope.store().transact(reads, decide).await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeleteLogStream {
    log_group_name: String,
    log_stream_name: String,
}

impl Input for DeleteLogStream {
    const NAME: &'static str = "DeleteLogStream";

    fn resource(&self, scope: &Scope) -> String {
        scope.stream_resource(&self.log_group_name, &self.log_stream_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let group = scope.group(&self.log_group_name).await?.number;
        let account = scope.account;
        let stream_key = tables::stream(account, group, &self.log_stream_name);
        let reads = vec![Read::Key(stream_key.clone())];
        let decide = move |pages: &[store::Page], _| {
            let stream = STREAMS.first(&pages[0])?.ok_or_else(no_stream)?.value;
            let garbage = Garbage { account, group, stream: Some(stream.number) };
            let writes =
                vec![Write::Delete(stream_key.clone()), GARBAGE.put(tables::garbage(&garbage), &garbage)];
            Ok::<_, Error>((writes, ()))
        };
        scope.store().transact(reads, decide).await?;
        scope.telemetry.writer.garbage.notify_one();
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DescribeLogStreams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    #[serde(default)]
    order_by: OrderBy,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
enum OrderBy {
    #[default]
    LogStreamName,
    LastEventTime,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogStreams {
    log_streams: Vec<LogStream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogStream {
    log_stream_name: String,
    creation_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_event_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_ingestion_time: Option<i64>,
    upload_sequence_token: &'static str,
    arn: String,
    stored_bytes: u64,
}

impl Input for DescribeLogStreams {
    const NAME: &'static str = "DescribeLogStreams";

    fn resource(&self, scope: &Scope) -> String {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref());
        scope.group_resource(&name.unwrap_or_default())
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let name = group_name(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())?;
        let limit = check_limit(self.limit, 50)?;
        let group = scope.group(&name).await?;
        if self.order_by == OrderBy::LastEventTime && self.log_stream_name_prefix.is_some() {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        let prefix = self.log_stream_name_prefix.unwrap_or_default();
        let mut range = STREAMS.range(scope.account, limit + 1, |k| {
            k.u64(group.number).raw(prefix.as_bytes());
        });
        let (mut streams, more) = match self.order_by {
            OrderBy::LogStreamName => {
                range.reverse = self.descending;
                if let Some(after) = &self.next_token {
                    let at = tables::stream(scope.account, group.number, after);
                    if self.descending {
                        range.end = range.end.min(at);
                    } else {
                        range.start = range.start.max(key::after(&at));
                    }
                }
                let (rows, _) = STREAMS.scan(scope.store(), range).await?;
                let more = rows.len() > limit;
                (rows.into_iter().map(|row| row.value).collect::<Vec<_>>(), more)
            }
            OrderBy::LastEventTime => {
                by_time(&scope, range, self.descending, self.next_token.as_deref(), limit).await?
            }
        };
        streams.truncate(limit);
        let next_token = streams.last().filter(|_| more).map(|last| match self.order_by {
            OrderBy::LogStreamName => last.name.clone(),
            OrderBy::LastEventTime => format!("{}/{}", last.last_event_ms.unwrap_or(0), last.name),
        });
        let arn = scope.group_arn(&name);
        let log_streams = streams.into_iter().map(|stream| describe(&arn, stream)).collect();
        Ok(aws::json::output(&LogStreams { log_streams, next_token }))
    }
}

/// All streams are looked at and the `limit + 1` next ones kept: memory stays small, and nothing has to be
/// written each time a stream gets an event.
async fn by_time(
    scope: &Scope,
    mut range: Range,
    descending: bool,
    token: Option<&str>,
    limit: usize,
) -> Result<(Vec<Stream>, bool), Error> {
    let after = match token.map(|token| token.split_once('/')) {
        None => None,
        Some(Some((ms, name))) => {
            let ms: i64 = ms.parse().map_err(|_| invalid("The specified nextToken is invalid."))?;
            Some((ms, name.to_owned()))
        }
        Some(None) => return Err(invalid("The specified nextToken is invalid.")),
    };
    range.limit = 1000;
    let mut best: Vec<((i64, String), Stream)> = Vec::new();
    loop {
        let (rows, more) = STREAMS.scan(scope.store(), range.clone()).await?;
        let Some(last) = rows.last() else { break };
        range.start = key::after(&last.key);
        for row in rows {
            let place = (row.value.last_event_ms.unwrap_or(0), row.value.name.clone());
            let beyond = after.as_ref().is_none_or(|a| if descending { place < *a } else { place > *a });
            if beyond {
                best.push((place, row.value));
            }
        }
        best.sort_by(|a, b| if descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
        best.truncate(limit + 1);
        if !more {
            break;
        }
    }
    let more = best.len() > limit;
    Ok((best.into_iter().map(|(_, stream)| stream).collect(), more))
}

fn describe(group_arn: &str, stream: Stream) -> LogStream {
    LogStream {
        arn: format!("{group_arn}:log-stream:{}", stream.name),
        log_stream_name: stream.name,
        creation_time: stream.created_ms,
        first_event_timestamp: stream.first_event_ms,
        last_event_timestamp: stream.last_event_ms,
        last_ingestion_time: stream.last_ingestion_ms,
        upload_sequence_token: super::events::SEQUENCE_TOKEN,
        // As AWS answers since 2019.
        stored_bytes: 0,
    }
}
