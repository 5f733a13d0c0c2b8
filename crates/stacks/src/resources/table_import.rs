//! Tables of a template that begin with what is in a bucket: `ImportSourceSpecification`.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::table::{call, invalid, settled, unchanged_is_fine, update_table};
use super::{Calls, CreateError, is_there};

/// What an import takes of a table.
const TAKEN: [&str; 6] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "ProvisionedThroughput",
    "TableName",
];

/// What is set once the items are there.
const LATER: [&str; 3] = ["DeletionProtectionEnabled", "StreamSpecification", "TableClass"];

/// Makes a table of what a bucket holds; `table` is what CreateTable would be told.
pub(super) async fn create(
    calls: &Calls,
    id: &str,
    source: &Json,
    table: Json,
    again: bool,
) -> Result<(), CreateError> {
    if !table["LocalSecondaryIndexes"].is_null() {
        let message = "LocalSecondaryIndexes can not be specified together with ImportSourceSpecification";
        return Err(CreateError::nothing_made(invalid(message.to_owned())));
    }
    let mut parameters = json!({});
    for name in TAKEN {
        if !table[name].is_null() {
            parameters[name] = table[name].clone();
        }
    }
    let mut body = source.clone();
    body["TableCreationParameters"] = parameters;
    match call(calls, "ImportTable", &body).await {
        Err(error) if again && is_there(&error) => {}
        Err(error) => return Err(CreateError::nothing_made(error)),
        Ok(_) => {}
    }
    finish(calls, id, &table).await.map_err(CreateError::half_made)
}

async fn finish(calls: &Calls, id: &str, table: &Json) -> Result<(), aws::Error> {
    settled(calls, id).await?;
    let failed = failure(calls, id).await?;
    if let Some(message) = failed {
        return Err(invalid(format!("The import of the table {id} failed: {message}")));
    }
    for name in LATER {
        if !table[name].is_null() {
            unchanged_is_fine(update_table(calls, id, json!({ name: table[name] })).await)?;
        }
    }
    if !table["Tags"].is_null() {
        let body = json!({"ResourceArn": arn(calls, id), "Tags": table["Tags"]});
        call(calls, "TagResource", &body).await?;
    }
    Ok(())
}

fn arn(calls: &Calls, id: &str) -> String {
    format!("arn:aws:dynamodb:{}:{}:table/{id}", calls.pseudo.region, calls.pseudo.account_id)
}

/// Why the table's import failed, if it did.
async fn failure(calls: &Calls, id: &str) -> Result<Option<String>, aws::Error> {
    let mut latest = Json::Null;
    let mut body = json!({"TableArn": arn(calls, id)});
    loop {
        let page = call(calls, "ListImports", &body).await?;
        if let Some(last) = page["ImportSummaryList"].as_array().and_then(|list| list.last()) {
            latest = last["ImportArn"].clone();
        }
        if page["NextToken"].is_null() {
            break;
        }
        body["NextToken"] = page["NextToken"].clone();
    }
    loop {
        let import = call(calls, "DescribeImport", &json!({"ImportArn": latest})).await?;
        let import = &import["ImportTableDescription"];
        match import["ImportStatus"].as_str() {
            Some("IN_PROGRESS") => calls.env.sleep(Duration::from_millis(50)).await,
            Some("COMPLETED") => return Ok(None),
            _ => return Ok(Some(import["FailureMessage"].as_str().unwrap_or("it ended early").to_owned())),
        }
    }
}
