//! The node's own pages on usage, invocations and traces: JSON under `/_hawker/`, each for the caller's own
//! account.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws::{Access, Error as WireError, Operation, Request, Response};
use serde::Serialize;
use store::key;
use types::{AccountId, ErrorKind, Region, Timestamp};

use crate::packed::{TraceStart, window};
use crate::record::{Invocation, Span};
use crate::tables::{self, INVOCATIONS, SPANS, TRACES, USAGE, Usage, invocation_start, trace_key, usage_key};
use crate::{Error, Telemetry};

/// What is asked for.
#[derive(Debug, PartialEq)]
enum Question {
    /// Hours since the epoch, the first included, the last excluded.
    Usage {
        from: i64,
        to: i64,
        function: Option<String>,
    },
    Invocations {
        function: Option<String>,
        limit: usize,
    },
    Traces {
        limit: usize,
    },
    Trace {
        root: String,
    },
}

#[derive(Debug)]
struct Call {
    question: Question,
    telemetry: Telemetry,
    account: AccountId,
    region: Region,
}

impl Telemetry {
    /// Reads a request for `GET /_hawker/usage`, `/_hawker/invocations`, `/_hawker/traces` or
    /// `/_hawker/traces/<root>`; `None` if it is for something else.
    pub fn native(&self, request: &Request) -> Option<Result<Box<dyn Operation>, WireError>> {
        let path = request.head.uri.path().strip_prefix("/_hawker/")?;
        let first = path.split('/').next()?;
        if !matches!(first, "usage" | "invocations" | "traces") {
            return None;
        }
        if request.head.method != http::Method::GET {
            let message = format!("`{path}` can only be read: use GET.");
            return Some(Err(
                WireError::new(ErrorKind::Invalid, "MethodNotAllowedException", message).with_status(405)
            ));
        }
        let now = self.writer.env.now();
        let question = match question(path, request.head.uri.query().unwrap_or_default(), now) {
            Ok(question) => question,
            Err(message) => {
                return Some(Err(WireError::new(ErrorKind::Invalid, "ValidationException", message)));
            }
        };
        let context = &request.context;
        Some(Ok(Box::new(Call {
            question,
            telemetry: self.clone(),
            account: context.caller.account,
            region: context.region.clone(),
        })))
    }
}

fn question(path: &str, query: &str, now: Timestamp) -> Result<Question, String> {
    let mut parameters = aws::query::Form::parse(query.as_bytes());
    let text = |e: WireError| e.message;
    let mut limit = || -> Result<usize, String> {
        let limit = parameters.take_parsed("limit").map_err(text)?.unwrap_or(100);
        if (1..=1000).contains(&limit) { Ok(limit) } else { Err("limit must be from 1 to 1000".into()) }
    };
    let question = match path {
        "usage" => {
            let from = hour(parameters.take("from"), "from")?.unwrap_or(0);
            let to = hour(parameters.take("to"), "to")?;
            // The hour under way counts.
            let to = to.unwrap_or(now.as_second().div_euclid(3600) + 1);
            Question::Usage { from, to, function: parameters.take("function") }
        }
        "invocations" => Question::Invocations { limit: limit()?, function: parameters.take("function") },
        "traces" => Question::Traces { limit: limit()? },
        path => match path.strip_prefix("traces/") {
            Some(root) if !root.is_empty() && !root.contains('/') => {
                Question::Trace { root: root.to_owned() }
            }
            _ => return Err(format!("there is nothing at `{path}`")),
        },
    };
    parameters.finish().map_err(text)?;
    Ok(question)
}

/// The hour in which a moment lies: RFC 3339 or seconds since the epoch.
fn hour(text: Option<String>, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = text else { return Ok(None) };
    let seconds = text.parse::<i64>().ok().or_else(|| Some(text.parse::<Timestamp>().ok()?.as_second()));
    let seconds =
        seconds.ok_or_else(|| format!("`{text}` is not a time for {name}: use RFC 3339 or seconds"))?;
    Ok(Some(seconds.div_euclid(3600)))
}

/// `GET /_hawker/usage`.
#[derive(Debug, Serialize)]
struct UsagePage {
    from: Timestamp,
    to: Timestamp,
    currency: &'static str,
    functions: Vec<UsageLine>,
    total: UsageLine,
}

/// Amounts as decimal numbers in text, exact to the last digit; counts as numbers.
#[derive(Debug, Serialize)]
struct UsageLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(flatten)]
    usage: Usage,
    gb_seconds: String,
    cost_usd: String,
}

impl UsageLine {
    fn new(function: Option<String>, usage: Usage, price: crate::config::Price) -> Self {
        let cost = price.cost_e10(usage.mb_ms.into(), usage.invocations);
        // A GB is 1,024 MB, a second 1,000 ms.
        let gb_us = (u128::from(usage.mb_ms) * 1_000_000 + 512_000) / 1_024_000;
        Self { function, usage, gb_seconds: decimal(gb_us, 6), cost_usd: decimal(cost, 10) }
    }
}

/// `units` of 10^-`digits`.
fn decimal(units: u128, digits: usize) -> String {
    let text = format!("{units:0width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    format!("{whole}.{fraction}")
}

#[derive(Debug, Serialize)]
struct InvocationsPage {
    invocations: Vec<Invocation>,
}

#[derive(Debug, Serialize)]
struct TracesPage {
    traces: Vec<TraceLine>,
}

#[derive(Debug, Serialize)]
struct TraceLine {
    root: String,
    name: String,
    started_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct TracePage {
    root: String,
    spans: Vec<Span>,
}

#[async_trait]
impl Operation for Call {
    fn name(&self) -> &'static str {
        match self.question {
            Question::Usage { .. } => "GetUsage",
            Question::Invocations { .. } => "ListInvocations",
            Question::Traces { .. } => "ListTraces",
            Question::Trace { .. } => "GetTrace",
        }
    }

    fn access(&self) -> Vec<Access> {
        let resource = match &self.question {
            Question::Usage { function: Some(name), .. }
            | Question::Invocations { function: Some(name), .. } => format!("usage/{name}"),
            Question::Usage { .. } | Question::Invocations { .. } => "usage/*".to_owned(),
            Question::Traces { .. } => "trace/*".to_owned(),
            Question::Trace { root } => format!("trace/{root}"),
        };
        let arn = format!("arn:aws:hawker:{}:{}:{resource}", self.region, self.account);
        vec![Access::new(format!("hawker:{}", self.name()), arn)]
    }

    async fn handle(self: Box<Self>) -> Result<Response, WireError> {
        let Self { question, telemetry, account, .. } = *self;
        Ok(match question {
            Question::Usage { from, to, function } => {
                aws::json::output(&usage(&telemetry, account, from, to, function.as_deref()).await?)
            }
            Question::Invocations { function, limit } => {
                let invocations = invocations(&telemetry, account, function.as_deref(), limit).await?;
                aws::json::output(&InvocationsPage { invocations })
            }
            Question::Traces { limit } => aws::json::output(&traces(&telemetry, account, limit).await?),
            Question::Trace { root } => aws::json::output(&trace(&telemetry, account, root).await?),
        })
    }
}

async fn usage(
    telemetry: &Telemetry,
    account: AccountId,
    from: i64,
    to: i64,
    function: Option<&str>,
) -> Result<UsagePage, Error> {
    let mut sums: BTreeMap<String, Usage> = BTreeMap::new();
    let start = tables::usage(account, from, "");
    let end = tables::usage(account, to, "").max(start.clone());
    let mut range = store::Range { start, end, limit: 1000, limit_bytes: 4 << 20, reverse: false };
    loop {
        let (rows, more) = USAGE.scan(telemetry.store(), range.clone()).await?;
        for row in &rows {
            let (_, name) = usage_key(&row.key)?;
            if function.is_none_or(|function| function == name) {
                sums.entry(name).or_default().add(&row.value);
            }
        }
        match rows.last() {
            Some(last) if more => range.start = key::after(&last.key),
            _ => break,
        }
    }
    let mut total = Usage::default();
    sums.values().for_each(|usage| total.add(usage));
    let price = telemetry.config.price;
    let at = |hour: i64| Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or(Timestamp::MAX);
    Ok(UsagePage {
        from: at(from),
        to: at(to),
        currency: "USD",
        functions: sums.into_iter().map(|(name, usage)| UsageLine::new(Some(name), usage, price)).collect(),
        total: UsageLine::new(None, total, price),
    })
}

impl Usage {
    fn add(&mut self, other: &Self) {
        let Self { invocations, errors, cold_starts, billed_ms, mb_ms } = other;
        self.invocations += invocations;
        self.errors += errors;
        self.cold_starts += cold_starts;
        self.billed_ms += billed_ms;
        self.mb_ms += mb_ms;
    }
}

/// The latest first: of one function, or of all that ran in the latest hours.
async fn invocations(
    telemetry: &Telemetry,
    account: AccountId,
    function: Option<&str>,
    limit: usize,
) -> Result<Vec<Invocation>, Error> {
    if let Some(function) = function {
        let range = INVOCATIONS.range(account, limit, |k| {
            k.u8(0).text(function);
        });
        return latest_of(telemetry, range, limit).await;
    }
    let mut found: Vec<Invocation> = Vec::new();
    let mut hours = USAGE.range(account, 200, |k| {
        k.u8(0);
    });
    hours.reverse = true;
    let mut hour_done = i64::MAX;
    loop {
        let page = telemetry.store().scan(hours.clone()).await?;
        for entry in &page.entries {
            let (hour, function) = usage_key(&entry.key)?;
            if hour != hour_done && found.len() >= limit {
                // Whatever is left ran in earlier hours.
                return Ok(latest(found, limit));
            }
            hour_done = hour;
            let bound = |hour: i64| {
                INVOCATIONS.key(account, |k| {
                    k.u8(0).text(&function).i64(hour * 3_600_000_000);
                })
            };
            let (start, end) = (bound(hour), bound(hour + 1));
            let range = store::Range { start, end, limit, limit_bytes: 4 << 20, reverse: true };
            found.extend(latest_of(telemetry, range, limit).await?);
            if found.len() > 4 * limit {
                found = latest(found, limit);
            }
        }
        match page.entries.last() {
            Some(last) if page.more => hours.end = last.key.clone(),
            _ => return Ok(latest(found, limit)),
        }
    }
}

/// The latest of a function's invocations in a range, the latest first.
async fn latest_of(
    telemetry: &Telemetry,
    mut range: store::Range,
    limit: usize,
) -> Result<Vec<Invocation>, Error> {
    range.reverse = true;
    let mut found: Vec<Invocation> = Vec::new();
    loop {
        let (rows, more) = INVOCATIONS.scan(telemetry.store(), range.clone()).await?;
        let Some(last) = rows.last() else { return Ok(latest(found, limit)) };
        let read_to = window(invocation_start(&last.key)?);
        range.end = last.key.clone();
        found.extend(rows.into_iter().flat_map(|row| row.value.0));
        // What follows may have begun in the second that was read last, and not later.
        let is_settled = |row: &&Invocation| window(row.started_at.as_microsecond()) > read_to;
        if !more || found.iter().filter(is_settled).count() >= limit {
            return Ok(latest(found, limit));
        }
    }
}

fn latest(mut found: Vec<Invocation>, limit: usize) -> Vec<Invocation> {
    found.sort_by_key(|row| std::cmp::Reverse(row.started_at));
    found.truncate(limit);
    found
}

/// The traces that began last, the latest first.
async fn traces(telemetry: &Telemetry, account: AccountId, limit: usize) -> Result<TracesPage, Error> {
    let mut range = TRACES.range(account, limit, |k| {
        k.u8(1);
    });
    range.reverse = true;
    let mut found: Vec<TraceStart> = Vec::new();
    loop {
        let (rows, more) = TRACES.scan(telemetry.store(), range.clone()).await?;
        let Some(last) = rows.last() else { break };
        let read_to = window(trace_key(&last.key)?.0);
        range.end = last.key.clone();
        for row in rows {
            found.extend(row.value.starts(&row.key)?);
        }
        let is_settled = |trace: &&TraceStart| window(trace.started_us) > read_to;
        if !more || found.iter().filter(is_settled).count() >= limit {
            break;
        }
    }
    found.sort_by_key(|trace| std::cmp::Reverse(trace.started_us));
    let mut traces: Vec<TraceLine> = Vec::new();
    for TraceStart { root, started_us, name } in found {
        if traces.len() == limit {
            break;
        }
        // After a restart a trace that goes on is listed a second time.
        if traces.iter().any(|trace| trace.root == root) {
            continue;
        }
        let started_at =
            Timestamp::from_microsecond(started_us).map_err(|_| Error::Corrupt("the time of a trace"))?;
        traces.push(TraceLine { root, name, started_at });
    }
    Ok(TracesPage { traces })
}

async fn trace(telemetry: &Telemetry, account: AccountId, root: String) -> Result<TracePage, Error> {
    let range = SPANS.range(account, 10_000, |k| {
        k.u8(0).text(&root);
    });
    let (rows, _) = SPANS.scan(telemetry.store(), range).await?;
    if rows.is_empty() {
        return Err(Error::NotFound(format!("There is no trace `{root}`; list them with /_hawker/traces")));
    }
    let mut spans: Vec<Span> = rows.into_iter().flat_map(|row| row.value.0).collect();
    spans.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
    Ok(TracePage { root, spans })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal(0, 10), "0.0000000000");
        assert_eq!(decimal(168_667_000_000, 10), "16.8667000000");
        assert_eq!(decimal(7, 6), "0.000007");
    }

    #[test]
    fn questions_are_read() {
        let now = Timestamp::from_second(7200).unwrap();
        assert_eq!(question("usage", "", now), Ok(Question::Usage { from: 0, to: 3, function: None }));
        assert_eq!(
            question("invocations", "function=f&limit=7", now),
            Ok(Question::Invocations { function: Some("f".into()), limit: 7 })
        );
        assert_eq!(question("traces/1-a-b", "", now), Ok(Question::Trace { root: "1-a-b".into() }));
        for (path, query) in
            [("usage", "x=1"), ("traces/", ""), ("traces", "limit=0"), ("usage", "from=soon")]
        {
            assert!(question(path, query, now).is_err(), "{path}?{query}");
        }
    }
}
