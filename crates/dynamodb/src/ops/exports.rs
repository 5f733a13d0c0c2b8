//! ExportTableToPointInTime, DescribeExport, ListExports.
//!
//! Whoever asks shows their right to the bucket by the first object of the export, which is written in their name; the
//! rest is written in the background.

use async_trait::async_trait;
use aws::{Access, Caller};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::key::after;
use store::{Range, Read};
use types::{AccountId, RequestId, Timestamp};

use super::describe_table::seconds;
use super::recovery::earliest;
use super::restore::commit_at;
use super::table_arn::TableArn;
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{TABLES, table_key};
use crate::transfer::{
    Bucket, EXPORTS, ExportRecord, Kind, Span, Sse, Status, Step, TRANSFERS, Transfer, export_key,
};
use crate::wire::{self, Constraints};

/// The most exports or imports of one answer.
pub(super) const MAX_LISTED: i64 = 25;

/// How many of a table's latest exports or imports are looked at for a token.
pub(super) const REMEMBERED: usize = 100;

/// An export's or import's ARN, taken apart.
#[derive(Debug, Clone)]
pub(super) struct TransferName {
    pub(super) arn: String,
    pub(super) table: String,
    pub(super) id: String,
}

impl TransferName {
    /// Reads `arn:...:table/<name>/<kind>/<id>`; `at` is the parameter.
    pub(super) fn parse(arn: Option<String>, at: &str, kind: &str, scope: &Scope) -> Result<Self, Error> {
        let TableArn { arn, table, id } = TableArn::parse(arn, at, kind, "ARN", scope)?;
        if arn != format!("{}/{kind}/{id}", scope.table_arn(&table)) {
            return Err(Error::Validation(format!("Invalid ARN: {arn}")));
        }
        Ok(Self { arn, table, id })
    }
}

/// An id that orders by time.
pub(super) fn new_id(node: &Node, now: Timestamp) -> String {
    let random = RequestId::new(&*node.env).to_string();
    format!("{:014}-{}", now.as_millisecond(), &random[..8])
}

/// A page's beginning, from where the last one ended, and the end.
pub(super) fn to_page_token(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&key[store::key::PREFIX_LEN..])
}

/// The range after a token.
pub(super) fn from_page_token(range: &mut Range, token: Option<&str>) -> Result<(), Error> {
    let Some(token) = token else { return Ok(()) };
    let rest = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::validation("Invalid NextToken"))?;
    let start = [&range.start[..store::key::PREFIX_LEN], &rest].concat();
    range.start = range.start.clone().max(after(&start));
    Ok(())
}

/// What S3 said, in the words of the operation.
pub(super) fn bucket_error(error: &aws::Error) -> Error {
    let message = format!("S3 answered {}: {}", error.code, error.message);
    if error.kind == types::ErrorKind::Denied {
        Error::AccessDenied(message)
    } else {
        Error::Validation(message)
    }
}

/// A bucket has to be the account's own.
pub(super) fn check_owner(owner: Option<&str>, account: AccountId) -> Result<(), Error> {
    match owner {
        Some(owner) if owner != account.to_string() => Err(Error::Validation(format!(
            "S3BucketOwner {owner} is another account: only buckets of one's own account are supported"
        ))),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ExportInput {
    table_arn: Option<String>,
    export_time: Option<f64>,
    client_token: Option<String>,
    s3_bucket: Option<String>,
    s3_bucket_owner: Option<String>,
    s3_prefix: Option<String>,
    s3_sse_algorithm: Option<String>,
    s3_sse_kms_key_id: Option<String>,
    export_format: Option<String>,
    export_type: Option<String>,
    incremental_export_specification: Option<Incremental>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Incremental {
    export_from_time: Option<f64>,
    export_to_time: Option<f64>,
    export_view_type: Option<String>,
}

/// How long the changes of an incremental export may go back from its end.
const LEAST_SPAN_MS: i64 = 15 * 60 * 1000;
const MOST_SPAN_MS: i64 = 24 * 60 * 60 * 1000;

/// What an incremental export is asked for.
struct Asked {
    from: Timestamp,
    with_old: bool,
}

fn time(seconds: f64, name: &str) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond((seconds * 1000.0) as i64)
        .map_err(|_| Error::InvalidExportTime(format!("Invalid {name}")))
}

/// Begins to write a table as it was at a time into a bucket.
pub(crate) struct ExportTable {
    table: String,
    at: Option<Timestamp>,
    incremental: Option<Asked>,
    bucket: String,
    bucket_owner: Option<String>,
    prefix: Option<String>,
    sse: Sse,
    client_token: Option<String>,
    fingerprint: String,
    caller: Option<Caller>,
}

impl ExportTable {
    /// In whose name the bucket is tried.
    pub(crate) fn by(self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self }
    }
}

fn kind(export: &ExportRecord) -> &'static str {
    if export.span.is_some() { "INCREMENTAL_EXPORT" } else { "FULL_EXPORT" }
}

fn description(export: &ExportRecord, scope: &Scope) -> Value {
    let table_arn = scope.table_arn(&export.table);
    let mut out = json!({
        "ExportArn": format!("{table_arn}/export/{}", export.id),
        "ExportStatus": export.status.word(),
        "StartTime": seconds(export.started_at),
        "TableArn": table_arn,
        "TableId": export.table_uuid,
        "ExportTime": seconds(export.at),
        "S3Bucket": export.bucket,
        "ExportFormat": "DYNAMODB_JSON",
        "ExportType": kind(export),
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[name] = value;
        }
    };
    if let Some(span) = &export.span {
        let view = if span.with_old { "NEW_AND_OLD_IMAGES" } else { "NEW_IMAGE" };
        let specification = json!({
            "ExportFromTime": seconds(span.from),
            "ExportToTime": seconds(export.at),
            "ExportViewType": view,
        });
        set("IncrementalExportSpecification", Some(specification));
    }
    set("EndTime", export.ended_at.map(|at| json!(seconds(at))));
    set("ClientToken", export.client_token.clone().map(Value::from));
    set("S3BucketOwner", export.bucket_owner.clone().map(Value::from));
    set("S3Prefix", export.prefix.clone().map(Value::from));
    let (algorithm, kms_key) = export.sse.words();
    set("S3SseAlgorithm", algorithm.map(Value::from));
    set("S3SseKmsKeyId", kms_key.map(Value::from));
    match &export.status {
        Status::InProgress if export.items == 0 => {}
        Status::InProgress => {
            set("ItemCount", Some(export.items.into()));
            set("BilledSizeBytes", Some(export.size_bytes.into()));
        }
        Status::Completed => {
            set("ItemCount", Some(export.items.into()));
            set("BilledSizeBytes", Some(export.size_bytes.into()));
            set("ExportManifest", Some(format!("{}/manifest-summary.json", export.folder()).into()));
        }
        Status::Failed { code, message } => {
            set("FailureCode", Some(code.as_str().into()));
            set("FailureMessage", Some(message.as_str().into()));
        }
    }
    out
}

/// As of when, and since when if it is to be of changes.
fn times(input: &ExportInput) -> Result<(Option<Timestamp>, Option<Asked>), Error> {
    let at = input.export_time.map(|seconds| time(seconds, "ExportTime")).transpose()?;
    let is_incremental = input.export_type.as_deref() == Some("INCREMENTAL_EXPORT");
    match &input.incremental_export_specification {
        None if !is_incremental => Ok((at, None)),
        None => {
            let message = "ExportType INCREMENTAL_EXPORT needs an IncrementalExportSpecification";
            Err(Error::validation(message))
        }
        Some(_) if !is_incremental => {
            Err(Error::validation("IncrementalExportSpecification goes with ExportType INCREMENTAL_EXPORT"))
        }
        Some(_) if at.is_some() => Err(Error::validation("ExportTime goes with ExportType FULL_EXPORT")),
        Some(specification) => {
            let from = specification.export_from_time;
            let from = from.ok_or_else(|| Error::validation("ExportFromTime must be given"))?;
            let from = time(from, "ExportFromTime")?;
            let to = specification.export_to_time.map(|to| time(to, "ExportToTime")).transpose()?;
            if to.is_some_and(|to| to <= from) {
                let message = "ExportFromTime must be before ExportToTime";
                return Err(Error::InvalidExportTime(message.into()));
            }
            let with_old = specification.export_view_type.as_deref() != Some("NEW_IMAGE");
            Ok((to, Some(Asked { from, with_old })))
        }
    }
}

#[async_trait]
impl Run for ExportTable {
    const NAME: &'static str = "ExportTableToPointInTime";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ExportInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_arn.as_deref(), "tableArn")
            .required(input.s3_bucket.as_ref(), "s3Bucket")
            .one_of(input.s3_sse_algorithm.as_deref(), "s3SseAlgorithm", &["AES256", "KMS"])
            .one_of(input.export_format.as_deref(), "exportFormat", &["DYNAMODB_JSON", "ION"])
            .one_of(input.export_type.as_deref(), "exportType", &["FULL_EXPORT", "INCREMENTAL_EXPORT"]);
        if let Some(specification) = &input.incremental_export_specification {
            let at = "incrementalExportSpecification.exportViewType";
            let views = ["NEW_IMAGE", "NEW_AND_OLD_IMAGES"];
            constraints.one_of(specification.export_view_type.as_deref(), at, &views);
        }
        if let Some(prefix) = &input.s3_prefix {
            constraints.text_len(prefix, "s3Prefix", 0, 1024);
        }
        constraints.finish()?;
        let refused = |what: &str| Err(Error::Validation(format!("{what} is not supported")));
        if input.export_format.as_deref() == Some("ION") {
            return refused("ExportFormat ION");
        }
        let sse = match (input.s3_sse_algorithm.as_deref(), input.s3_sse_kms_key_id.clone()) {
            (Some("KMS"), key) => Sse::Kms(key),
            (_, Some(_)) => return Err(Error::validation("S3SseKmsKeyId goes with S3SseAlgorithm KMS")),
            (Some(_), None) => Sse::Aes256,
            (None, None) => Sse::Default,
        };
        check_owner(input.s3_bucket_owner.as_deref(), scope.account)?;
        let (at, incremental) = times(&input)?;
        let table = scope.table_name(&input.table_arn.unwrap_or_default())?;
        let bucket = input.s3_bucket.unwrap_or_default();
        let span = incremental.as_ref().map(|asked| (asked.from, asked.with_old));
        let asked = json!([table, at, span, bucket, input.s3_prefix, input.s3_bucket_owner, sse]);
        Ok(Self {
            table,
            at,
            incremental,
            bucket,
            bucket_owner: input.s3_bucket_owner,
            prefix: input.s3_prefix,
            sse,
            client_token: input.client_token,
            fingerprint: URL_SAFE_NO_PAD.encode(Sha256::digest(asked.to_string())),
            caller: None,
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ExportTableToPointInTime", scope.table_arn(&self.table))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        if let Some(known) = self.known(node, account).await? {
            return Ok(document(&json!({"ExportDescription": description(&known, scope)})));
        }
        let row = TABLES.get(&node.store, table_key(account, &self.table)).await?;
        let row = row.filter(|row| !row.value.is_filling());
        let table = row
            .ok_or_else(|| {
                Error::TableNotFound(format!("Table not found: {}", scope.table_arn(&self.table)))
            })?
            .value;
        let recovery = table.recovery.ok_or_else(|| Error::RecoveryUnavailable(self.table.clone()))?;
        let commit = async |at: Timestamp| {
            let from = earliest(recovery, now);
            // Clients round to seconds.
            if at > now || at.as_second() < from.as_second() {
                let message = format!("Times of an export must be between {from} and {now}");
                return Err(Error::InvalidExportTime(message));
            }
            commit_at(node, account, table.id, recovery.version, at).await
        };
        let version = match self.at {
            None => None,
            Some(at) => commit(at).await?,
        };
        if let Some(asked) = &self.incremental {
            let length_ms = self.at.unwrap_or(now).as_millisecond() - asked.from.as_millisecond();
            if !(LEAST_SPAN_MS..=MOST_SPAN_MS).contains(&length_ms) {
                let message = "ExportFromTime and ExportToTime must be from 15 minutes to 24 hours apart";
                return Err(Error::InvalidExportTime(message.into()));
            }
        }
        let span = match &self.incremental {
            None => None,
            Some(asked) => Some(Span {
                from: asked.from,
                // If nothing has changed since, nothing did in the span.
                from_version: commit(asked.from).await?.unwrap_or(u64::MAX),
                with_old: asked.with_old,
                step: Step::Gather,
                settled: None,
            }),
        };
        let record = ExportRecord {
            id: new_id(node, now),
            table: self.table,
            table_id: table.id,
            table_uuid: table.uuid,
            recovery: recovery.version,
            version: version.unwrap_or(0),
            at: self.at.unwrap_or(now),
            bucket: self.bucket,
            bucket_owner: self.bucket_owner,
            prefix: self.prefix,
            sse: self.sse,
            client_token: self.client_token,
            fingerprint: self.fingerprint,
            started_at: now,
            ended_at: None,
            status: Status::InProgress,
            items: 0,
            size_bytes: 0,
            in_history: false,
            from: None,
            next_file: 0,
            span,
        };
        let (dispatch, env) = (node.dispatch.clone(), node.env.clone());
        let caller = self.caller.unwrap_or_else(|| Caller::platform(account));
        let bucket = Bucket { dispatch, env, caller, name: record.bucket.clone(), sse: record.sse.clone() };
        let begun = bucket.put(&format!("{}/_started", record.folder()), bytes::Bytes::new()).await;
        begun.map_err(|error| bucket_error(&error))?;
        let record = node
            .store
            .transact(Vec::<Read>::new(), move |_, commit| {
                // Every commit up to this one is in it, unless a time was given.
                let record = ExportRecord { version: version.unwrap_or(commit.0), ..record.clone() };
                let (table, id) = (record.table.clone(), record.id.clone());
                let transfer = Transfer { account, table, id, kind: Kind::Export };
                let writes =
                    vec![EXPORTS.put(record.key(account), &record), TRANSFERS.put(transfer.key(), &transfer)];
                Ok::<_, Error>((writes, record))
            })
            .await?;
        node.transfers.notify_one();
        Ok(document(&json!({"ExportDescription": description(&record, scope)})))
    }
}

impl ExportTable {
    /// The export that this request began already.
    async fn known(&self, node: &Node, account: AccountId) -> Result<Option<ExportRecord>, Error> {
        let Some(token) = &self.client_token else { return Ok(None) };
        let mut range = EXPORTS.range(account, REMEMBERED, |k| {
            k.text(&self.table);
        });
        range.reverse = true;
        let (rows, _) = EXPORTS.scan(&node.store, range).await?;
        let known =
            rows.into_iter().map(|row| row.value).find(|export| export.client_token.as_ref() == Some(token));
        match known {
            Some(known) if known.fingerprint != self.fingerprint => {
                Err(Error::ExportConflict("The ClientToken was used with other parameters".into()))
            }
            known => Ok(known),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeInput {
    export_arn: Option<String>,
}

/// Describes an export.
pub(crate) struct DescribeExport {
    name: TransferName,
}

#[async_trait]
impl Run for DescribeExport {
    const NAME: &'static str = "DescribeExport";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: DescribeInput = wire::input(body)?;
        Ok(Self { name: TransferName::parse(input.export_arn, "exportArn", "export", scope)? })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeExport", self.name.arn.clone())]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let key = export_key(scope.account, &self.name.table, &self.name.id);
        let row = EXPORTS.get(&node.store, key).await?;
        let row = row.ok_or_else(|| Error::ExportNotFound(format!("Export not found: {}", self.name.arn)))?;
        Ok(document(&json!({"ExportDescription": description(&row.value, scope)})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListInput {
    table_arn: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

/// Lists exports, of one table or all.
pub(crate) struct ListExports {
    table: Option<String>,
    limit: usize,
    token: Option<String>,
}

#[async_trait]
impl Run for ListExports {
    const NAME: &'static str = "ListExports";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ListInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.range(input.max_results, "maxResults", 1, MAX_LISTED).finish()?;
        let table = input.table_arn.map(|arn| scope.table_name(&arn)).transpose()?;
        let limit = usize::try_from(input.max_results.unwrap_or(MAX_LISTED)).unwrap_or(25);
        Ok(Self { table, limit, token: input.next_token })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ListExports", "*")]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut range = EXPORTS.range(scope.account, self.limit, |k| {
            if let Some(table) = &self.table {
                k.text(table);
            }
        });
        from_page_token(&mut range, self.token.as_deref())?;
        let (rows, more) = EXPORTS.scan(&node.store, range).await?;
        let summaries: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "ExportArn": format!("{}/export/{}", scope.table_arn(&row.value.table), row.value.id),
                    "ExportStatus": row.value.status.word(),
                    "ExportType": kind(&row.value),
                })
            })
            .collect();
        let mut out = json!({"ExportSummaries": summaries});
        if let Some(last) = rows.last().filter(|_| more) {
            out["NextToken"] = to_page_token(&last.key).into();
        }
        Ok(document(&out))
    }
}
