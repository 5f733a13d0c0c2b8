//! `hawker trace`: one request across every hop, as a tree over time.

use serde_json::Value as Json;
use types::{Timestamp, TraceHeader};

use crate::cli;
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::ui::{self, Colour};

/// How wide the bars are, in characters.
const WIDTH: usize = 32;

struct Span {
    id: String,
    parent: Option<String>,
    name: String,
    start_us: i64,
    duration_us: u64,
    error: Option<String>,
}

/// Shows the trace.
pub(crate) async fn run(args: cli::Trace) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let root = root(&client, &args.id).await?;
    let page = client.native(&format!("/_hawker/traces/{}", escape(&root))).await?;
    if args.remote.json {
        ui::json(&page);
        return Ok(());
    }
    let spans: Vec<Span> = page["spans"].as_array().into_iter().flatten().filter_map(span).collect();
    if spans.is_empty() {
        return Err(Failure::new(format!("there is no trace `{root}`"))
            .why("traces are kept for some days, and belong to one account")
            .next("hawker trace latest")
            .into());
    }
    let start = spans.iter().map(|s| s.start_us).min().unwrap_or_default();
    let end = spans.iter().map(end_us).max().unwrap_or_default();
    let whole = u64::try_from(end - start).unwrap_or_default().max(1);
    ui::line(&format!("{}  {}", ui::paint(Colour::Bold, &root), ui::duration(whole)));
    let mut order: Vec<(usize, &Span)> = Vec::new();
    let known = |id: &str| spans.iter().any(|s| s.id == id);
    let mut tops: Vec<&Span> =
        spans.iter().filter(|s| s.parent.as_deref().is_none_or(|p| !known(p))).collect();
    tops.sort_by_key(|s| s.start_us);
    for top in tops {
        descend(top, 0, &spans, &mut order);
    }
    let rows: Vec<_> = order
        .iter()
        .map(|(depth, span)| {
            let colour = if span.error.is_some() { Colour::Red } else { Colour::Plain };
            vec![
                (format!("{}{}", "  ".repeat(*depth), span.name), colour),
                (ui::duration(u64::try_from(span.start_us - start).unwrap_or_default()), Colour::Dim),
                (ui::duration(span.duration_us), colour),
                (bar(span, start, whole), if span.error.is_some() { Colour::Red } else { Colour::Cyan }),
                (span.error.clone().unwrap_or_default(), Colour::Red),
            ]
        })
        .collect();
    ui::table(&rows, &[1, 2]).iter().for_each(|line| ui::line(line));
    Ok(())
}

async fn root(client: &Client, id: &str) -> anyhow::Result<String> {
    if id == "latest" {
        let page = client.native("/_hawker/traces?limit=50").await?;
        let traces = page["traces"].as_array().cloned().unwrap_or_default();
        // Looking is traced too; what somebody did is more interesting than the last look.
        let looks = ["hawker ", "sts ", "logs ", "cloudformation Describe", "lambda List", "lambda Get"];
        let worth = |trace: &&Json| {
            let name = trace["name"].as_str().unwrap_or_default();
            !looks.iter().any(|look| name.starts_with(look))
        };
        let found = traces.iter().find(worth).or(traces.first()).and_then(|t| t["root"].as_str());
        return found.map(str::to_owned).ok_or_else(|| Failure::new("there are no traces yet").into());
    }
    match TraceHeader::parse(id) {
        Some(header) => Ok(header.root),
        None => Ok(id.trim_start_matches("Root=").to_owned()),
    }
}

fn span(value: &Json) -> Option<Span> {
    let started: Timestamp = value["started_at"].as_str()?.parse().ok()?;
    Some(Span {
        id: value["id"].as_str()?.to_owned(),
        parent: value["trace"]["parent"].as_str().map(str::to_owned),
        name: value["name"].as_str()?.to_owned(),
        start_us: started.as_microsecond(),
        duration_us: value["duration_us"].as_u64()?,
        error: value["error"].as_str().map(str::to_owned),
    })
}

fn end_us(span: &Span) -> i64 {
    span.start_us.saturating_add_unsigned(span.duration_us)
}

fn descend<'a>(span: &'a Span, depth: usize, spans: &'a [Span], order: &mut Vec<(usize, &'a Span)>) {
    // A circle can only come from damaged rows; it must not hang the terminal.
    if order.len() >= spans.len() {
        return;
    }
    order.push((depth, span));
    let mut children: Vec<&Span> =
        spans.iter().filter(|s| s.parent.as_deref() == Some(&span.id) && s.id != span.id).collect();
    children.sort_by_key(|s| s.start_us);
    for child in children {
        descend(child, depth + 1, spans, order);
    }
}

fn bar(span: &Span, start: i64, whole: u64) -> String {
    let place = |us: u64| usize::try_from(us * WIDTH as u64 / whole).unwrap_or_default().min(WIDTH);
    let from = place(u64::try_from(span.start_us - start).unwrap_or_default()).min(WIDTH - 1);
    let length = place(span.duration_us).clamp(1, WIDTH - from);
    format!("{}{}", " ".repeat(from), "█".repeat(length))
}
