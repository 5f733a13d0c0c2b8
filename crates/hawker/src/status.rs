//! `hawker status`: the node, its stacks, its functions and what they cost.

use serde_json::{Map, Value as Json, json};

use crate::cli;
use crate::client::{Client, escape};
use crate::ui::{self, Colour};

/// Functions whose durations are looked up; more would take long.
const MOST_DURATIONS: usize = 50;

/// Shows it.
pub(crate) async fn run(args: cli::Status) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let account = client.account().await?;
    let stacks = stacks(&client).await?;
    let functions = functions(&client).await?;
    if args.remote.json {
        ui::json(&json!({
            "node": {"endpoint": client.endpoint(), "region": client.region, "account": account},
            "stacks": stacks,
            "functions": functions,
        }));
        return Ok(());
    }
    let bold = |text: &str| ui::paint(Colour::Bold, text);
    ui::line(&format!("{}  {}  account {account}", bold(&client.endpoint()), client.region));
    ui::line("");
    if stacks.is_empty() {
        ui::line("no stacks yet: deploy one with `hawker deploy`");
        return Ok(());
    }
    let rows: Vec<_> = stacks.iter().map(stack_row).collect();
    ui::line(&bold("stacks"));
    ui::table(&rows, &[]).iter().for_each(|line| ui::line(line));
    if functions.is_empty() {
        return Ok(());
    }
    ui::line("");
    let heads = ["functions", "runs", "errors", "cold", "p50", "billed", "cost (USD)"];
    let head = heads.iter().map(|h| ((*h).to_owned(), Colour::Bold)).collect();
    let rows: Vec<_> = [head].into_iter().chain(functions.iter().map(function_row)).collect();
    ui::table(&rows, &[1, 2, 3, 4, 5, 6]).iter().for_each(|line| ui::line(line));
    Ok(())
}

async fn stacks(client: &Client) -> anyhow::Result<Vec<Json>> {
    let mut found = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let form: Vec<_> = next.iter().map(|token| ("NextToken".to_owned(), token.clone())).collect();
        let page = client.query("cloudformation", "DescribeStacks", &form).await?;
        for stack in page.members("Stacks") {
            let outputs: Map<String, Json> = stack
                .members("Outputs")
                .iter()
                .filter_map(|o| Some((o.text("OutputKey")?.to_owned(), json!(o.text("OutputValue")?))))
                .collect();
            found.push(json!({
                "name": stack.text("StackName"),
                "status": stack.text("StackStatus"),
                "reason": stack.text("StackStatusReason"),
                "created_at": stack.text("CreationTime"),
                "updated_at": stack.text("LastUpdatedTime"),
                "outputs": outputs,
            }));
        }
        match page.text("NextToken") {
            Some(token) => next = Some(token.to_owned()),
            None => return Ok(found),
        }
    }
}

/// Every function, with what it used; functions that are gone, but were used, too.
async fn functions(client: &Client) -> anyhow::Result<Vec<Json>> {
    let usage = client.native("/_hawker/usage").await?;
    let mut lines: Vec<Json> = usage["functions"].as_array().cloned().unwrap_or_default();
    for function in client.functions().await? {
        let name = function["FunctionName"].as_str().unwrap_or_default();
        if !lines.iter().any(|line| line["function"] == name) {
            lines.push(json!({
                "function": name, "invocations": 0, "errors": 0, "cold_starts": 0, "billed_ms": 0,
                "gb_seconds": "0", "cost_usd": "0.0000000000",
            }));
        }
    }
    for line in lines.iter_mut().take(MOST_DURATIONS) {
        let name = escape(line["function"].as_str().unwrap_or_default());
        if line["invocations"].as_u64() == Some(0) {
            continue;
        }
        let page = client.native(&format!("/_hawker/invocations?function={name}&limit=1000")).await?;
        let runs = page["invocations"].as_array().into_iter().flatten();
        let mut durations: Vec<u64> = runs.filter_map(|run| run["duration_us"].as_u64()).collect();
        durations.sort_unstable();
        line["p50_us"] = durations.get(durations.len() / 2).copied().map_or(Json::Null, Json::from);
    }
    Ok(lines)
}

fn stack_row(stack: &Json) -> Vec<(String, Colour)> {
    let text = |name: &str| stack[name].as_str().unwrap_or_default().to_owned();
    let status = text("status");
    let colour = if status.contains("FAILED") || status.contains("ROLLBACK") {
        Colour::Red
    } else if status.ends_with("_IN_PROGRESS") {
        Colour::Yellow
    } else {
        Colour::Green
    };
    let when = if text("updated_at").is_empty() { text("created_at") } else { text("updated_at") };
    let reason = if colour == Colour::Red { text("reason") } else { String::new() };
    vec![
        (format!("  {}", text("name")), Colour::Plain),
        (status, colour),
        (when, Colour::Dim),
        (reason, Colour::Plain),
    ]
}

fn function_row(line: &Json) -> Vec<(String, Colour)> {
    let number = |name: &str| line[name].as_u64().unwrap_or_default();
    let errors = number("errors");
    let p50 = line["p50_us"].as_u64().map_or_else(|| "-".to_owned(), ui::duration);
    vec![
        (format!("  {}", line["function"].as_str().unwrap_or_default()), Colour::Plain),
        (number("invocations").to_string(), Colour::Plain),
        (errors.to_string(), if errors > 0 { Colour::Red } else { Colour::Dim }),
        (number("cold_starts").to_string(), Colour::Dim),
        (p50, Colour::Plain),
        (ui::duration(number("billed_ms") * 1_000), Colour::Plain),
        (line["cost_usd"].as_str().unwrap_or("0").to_owned(), Colour::Plain),
    ]
}
