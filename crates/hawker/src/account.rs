//! `hawker account`.

use http::Method;
use serde_json::Value as Json;

use crate::cli::{AccountCommand, Remote};
use crate::ui::{self, Colour};

/// Makes or lists accounts.
pub(crate) async fn run(command: AccountCommand) -> anyhow::Result<()> {
    match command {
        AccountCommand::Create { remote } => create(&remote).await,
        AccountCommand::List { remote } => list(&remote).await,
    }
}

async fn create(remote: &Remote) -> anyhow::Result<()> {
    let client = crate::settings::client(remote)?;
    let headers = [("content-type", "application/json")];
    let answer = client.send("hawker", Method::POST, "/_hawker/accounts", &headers, "{}").await?;
    let made: Json = serde_json::from_slice(&answer.body)?;
    if remote.json {
        ui::json(&made);
        return Ok(());
    }
    let text = |name: &str| made[name].as_str().unwrap_or_default();
    ui::line(&format!("account {}", ui::paint(Colour::Bold, text("accountId"))));
    ui::line(&format!("export AWS_ACCESS_KEY_ID={}", text("accessKeyId")));
    ui::line(&format!("export AWS_SECRET_ACCESS_KEY={}", text("secretAccessKey")));
    ui::note("this is the only time that the secret is shown");
    Ok(())
}

async fn list(remote: &Remote) -> anyhow::Result<()> {
    let client = crate::settings::client(remote)?;
    let page = client.native("/_hawker/accounts").await?;
    if remote.json {
        ui::json(&page);
        return Ok(());
    }
    let rows: Vec<_> = page["accounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|account| {
            let text = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
            vec![(text("accountId"), Colour::Bold), (text("createdAt"), Colour::Dim)]
        })
        .collect();
    ui::table(&rows, &[]).iter().for_each(|line| ui::line(line));
    Ok(())
}
