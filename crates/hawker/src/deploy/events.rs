//! Following a stack's events until its operation ends.

use std::time::Duration;

use crate::client::Client;
use crate::ui::{self, Colour};
use crate::xml::Element;

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(150);

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: String,
    /// What went wrong first, and with what.
    pub(crate) first_failure: Option<String>,
    /// The bucket that this was about, if it was one.
    pub(crate) failed_bucket: Option<String>,
}

async fn page(
    client: &Client,
    stack: &str,
    next: Option<&str>,
) -> anyhow::Result<(Vec<Element>, Option<String>)> {
    let mut form = vec![("StackName".to_owned(), stack.to_owned())];
    form.extend(next.map(|token| ("NextToken".to_owned(), token.to_owned())));
    let result = client.query("cloudformation", "DescribeStackEvents", &form).await?;
    let token = result.text("NextToken").map(str::to_owned);
    Ok((result.members("StackEvents").to_vec(), token))
}

/// The id of the newest event.
pub(crate) async fn latest(client: &Client, stack: &str) -> anyhow::Result<Option<String>> {
    let (events, _) = page(client, stack, None).await?;
    Ok(events.first().and_then(|event| event.text("EventId")).map(str::to_owned))
}

/// Events newer than `last`, oldest first.
async fn newer(client: &Client, stack: &str, last: Option<&str>) -> anyhow::Result<Vec<Element>> {
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let (events, token) = page(client, stack, next.as_deref()).await?;
        for event in events {
            if last.is_some() && event.text("EventId") == last {
                found.reverse();
                return Ok(found);
            }
            found.push(event);
        }
        match token {
            Some(token) => next = Some(token),
            None => {
                found.reverse();
                return Ok(found);
            }
        }
    }
}

/// Shows events newer than `last` until the stack's operation ends.
pub(crate) async fn follow(
    client: &Client,
    stack: &str,
    last: Option<&str>,
    show: bool,
) -> anyhow::Result<End> {
    let spinner = show.then(|| ui::spinner("starting"));
    let mut last = last.map(str::to_owned);
    let mut first_failure = None;
    let mut failed_bucket = None;
    loop {
        for event in newer(client, stack, last.as_deref()).await? {
            let text = |name: &str| event.text(name).unwrap_or_default();
            last = Some(text("EventId").to_owned());
            let (status, logical_id) = (text("ResourceStatus"), text("LogicalResourceId"));
            let reason = event.text("ResourceStatusReason");
            if status.ends_with("_FAILED") && first_failure.is_none() {
                first_failure = Some(format!("{logical_id}: {}", reason.unwrap_or("no reason was given")));
                let is_bucket = text("ResourceType") == "AWS::S3::Bucket";
                failed_bucket = is_bucket.then(|| text("PhysicalResourceId").to_owned());
            }
            let of_stack = text("PhysicalResourceId") == text("StackId");
            if let Some(spinner) = &spinner {
                if status.ends_with("_IN_PROGRESS") {
                    spinner.set_message(format!("{} {logical_id}", verb(status)));
                } else {
                    let lines = rendered(status, logical_id, text("ResourceType"), reason);
                    spinner.suspend(|| ui::line(&lines));
                }
            }
            if of_stack && !status.ends_with("_IN_PROGRESS") {
                if let Some(spinner) = &spinner {
                    spinner.finish_and_clear();
                }
                return Ok(End { status: status.to_owned(), first_failure, failed_bucket });
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn verb(status: &str) -> &'static str {
    if status.contains("ROLLBACK") {
        "rolling back"
    } else if status.contains("CLEANUP") {
        "cleaning up"
    } else if status.starts_with("CREATE") {
        "creating"
    } else if status.starts_with("DELETE") {
        "deleting"
    } else {
        "updating"
    }
}

fn rendered(status: &str, logical_id: &str, type_name: &str, reason: Option<&str>) -> String {
    let (sign, colour) = match status {
        s if s.ends_with("_FAILED") => ("✗", Colour::Red),
        s if s.contains("ROLLBACK") => ("↶", Colour::Yellow),
        s if s.starts_with("DELETE") => ("-", Colour::Dim),
        _ => ("✓", Colour::Green),
    };
    let sign = ui::paint(colour, sign);
    let mut line = format!("  {sign} {logical_id:<34} {:<26}", status.to_ascii_lowercase().replace('_', " "));
    line.push_str(&ui::paint(Colour::Dim, type_name));
    if let Some(reason) = reason {
        line.push_str(&format!("\n      {}", ui::paint(colour, reason)));
    }
    line
}
