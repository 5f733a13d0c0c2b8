//! ImportTable, DescribeImport, ListImports.
//!
//! Whoever asks shows their right to the bucket by a listing and the first byte of the first object, which are read in
//! their name; the rest is read in the background. The table is `CREATING` until then.

use async_trait::async_trait;
use aws::{Access, Caller};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use types::AccountId;

use super::create_table::CreateTable;
use super::describe_table::seconds;
use super::exports::{
    MAX_LISTED, REMEMBERED, TransferName, bucket_error, check_owner, from_page_token, new_id, to_page_token,
};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::transfer::{
    Bucket, IMPORTS, ImportRecord, InputFormat, Kind, Sse, Status, TRANSFERS, Transfer, import_key,
};
use crate::wire::{self, Constraints};

/// What can stand between fields of CSV.
const DELIMITERS: [&str; 6] = [",", "\t", ":", ";", "|", " "];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ImportInput {
    client_token: Option<String>,
    s3_bucket_source: Option<Source>,
    input_format: Option<String>,
    input_format_options: Option<Value>,
    input_compression_type: Option<String>,
    table_creation_parameters: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Source {
    s3_bucket_owner: Option<String>,
    s3_bucket: Option<String>,
    s3_key_prefix: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FormatOptions {
    csv: Option<CsvOptions>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CsvOptions {
    delimiter: Option<String>,
    header_list: Option<Vec<String>>,
}

/// Begins to fill a new table from a bucket.
pub(crate) struct ImportTable {
    create: CreateTable,
    creation: Value,
    bucket: String,
    bucket_owner: Option<String>,
    prefix: Option<String>,
    format: InputFormat,
    format_options: Option<Value>,
    gzip: bool,
    compression: Option<String>,
    client_token: Option<String>,
    fingerprint: String,
    caller: Option<Caller>,
}

fn description(import: &ImportRecord, scope: &Scope) -> Value {
    let table_arn = scope.table_arn(&import.table);
    let mut source = json!({"S3Bucket": import.bucket});
    if let Some(owner) = &import.bucket_owner {
        source["S3BucketOwner"] = owner.as_str().into();
    }
    if let Some(prefix) = &import.prefix {
        source["S3KeyPrefix"] = prefix.as_str().into();
    }
    let mut out = json!({
        "ImportArn": format!("{table_arn}/import/{}", import.id),
        "ImportStatus": import.status.word(),
        "TableArn": table_arn,
        "TableId": import.table_uuid,
        "S3BucketSource": source,
        "ErrorCount": import.errors,
        "InputFormat": match import.format {
            InputFormat::DynamoDbJson => "DYNAMODB_JSON",
            InputFormat::Csv { .. } => "CSV",
        },
        "TableCreationParameters": import.creation,
        "StartTime": seconds(import.started_at),
        "ProcessedSizeBytes": import.size_bytes,
        "ProcessedItemCount": import.processed,
        "ImportedItemCount": import.imported,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[name] = value;
        }
    };
    set("EndTime", import.ended_at.map(|at| json!(seconds(at))));
    set("ClientToken", import.client_token.clone().map(Value::from));
    set("InputFormatOptions", import.format_options.clone());
    set("InputCompressionType", import.compression.clone().map(Value::from));
    if let Status::Failed { code, message } = &import.status {
        set("FailureCode", Some(code.as_str().into()));
        set("FailureMessage", Some(message.as_str().into()));
    }
    out
}

fn format(word: Option<&str>, options: Option<&Value>) -> Result<InputFormat, Error> {
    let given: Option<FormatOptions> =
        options.map(|options| wire::input(options.to_string().as_bytes())).transpose()?;
    let csv = given.and_then(|options| options.csv);
    if word != Some("CSV") {
        return match csv {
            Some(_) => Err(Error::validation("InputFormatOptions Csv goes with InputFormat CSV")),
            None => Ok(InputFormat::DynamoDbJson),
        };
    }
    let csv = csv.unwrap_or_default();
    let delimiter = csv.delimiter.as_deref().unwrap_or(",");
    if !DELIMITERS.contains(&delimiter) {
        return Err(Error::Validation(format!("{delimiter:?} is not a delimiter of CSV")));
    }
    if csv.header_list.as_ref().is_some_and(|names| names.is_empty() || names.len() > 255) {
        return Err(Error::validation("HeaderList must have from 1 to 255 names"));
    }
    Ok(InputFormat::Csv { delimiter: delimiter.chars().next().unwrap_or(','), header: csv.header_list })
}

impl ImportTable {
    /// In whose name the bucket is tried.
    pub(crate) fn by(self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// The import that this request began already.
    async fn known(&self, node: &Node, account: AccountId) -> Result<Option<ImportRecord>, Error> {
        let Some(token) = &self.client_token else { return Ok(None) };
        let mut range = IMPORTS.range(account, REMEMBERED, |k| {
            k.text(self.create.name());
        });
        range.reverse = true;
        let (rows, _) = IMPORTS.scan(&node.store, range).await?;
        let known =
            rows.into_iter().map(|row| row.value).find(|import| import.client_token.as_ref() == Some(token));
        match known {
            Some(known) if known.fingerprint != self.fingerprint => {
                Err(Error::ImportConflict("The ClientToken was used with other parameters".into()))
            }
            known => Ok(known),
        }
    }

    /// Reads what the caller must be able to read.
    async fn try_bucket(&self, node: &Node, account: AccountId) -> Result<(), Error> {
        let caller = self.caller.clone().unwrap_or_else(|| Caller::platform(account));
        let (dispatch, env) = (node.dispatch.clone(), node.env.clone());
        let bucket = Bucket { dispatch, env, caller, name: self.bucket.clone(), sse: Sse::Default };
        let listed = bucket.list(self.prefix.as_deref().unwrap_or_default(), None, 1).await;
        let listed = listed.map_err(|error| bucket_error(&error))?;
        if let Some(first) = listed.first().filter(|object| object.size_bytes > 0) {
            bucket.get(first, 0, 0).await.map_err(|error| bucket_error(&error))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Run for ImportTable {
    const NAME: &'static str = "ImportTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ImportInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .required(input.s3_bucket_source.as_ref(), "s3BucketSource")
            .required(input.input_format.as_ref(), "inputFormat")
            .one_of(input.input_format.as_deref(), "inputFormat", &["DYNAMODB_JSON", "ION", "CSV"])
            .one_of(
                input.input_compression_type.as_deref(),
                "inputCompressionType",
                &["GZIP", "ZSTD", "NONE"],
            )
            .required(input.table_creation_parameters.as_ref(), "tableCreationParameters");
        let source = input.s3_bucket_source;
        if let Some(source) = &source {
            constraints.required(source.s3_bucket.as_ref(), "s3BucketSource.s3Bucket");
        }
        constraints.finish()?;
        if input.input_format.as_deref() == Some("ION") {
            return Err(Error::validation("InputFormat ION is not supported"));
        }
        if input.input_compression_type.as_deref() == Some("ZSTD") {
            return Err(Error::validation("InputCompressionType ZSTD is not supported"));
        }
        let creation = input.table_creation_parameters.unwrap_or_default();
        let allowed = [
            "TableName",
            "AttributeDefinitions",
            "KeySchema",
            "BillingMode",
            "ProvisionedThroughput",
            "SSESpecification",
            "GlobalSecondaryIndexes",
        ];
        let members = creation.as_object().into_iter().flat_map(|members| members.keys());
        if let Some(name) = members.into_iter().find(|name| !allowed.contains(&name.as_str())) {
            return Err(Error::Validation(format!("The parameter {name} is not supported")));
        }
        let create = CreateTable::parse(creation.to_string().as_bytes(), scope)?;
        let format = format(input.input_format.as_deref(), input.input_format_options.as_ref())?;
        let source = source.unwrap_or(Source { s3_bucket_owner: None, s3_bucket: None, s3_key_prefix: None });
        check_owner(source.s3_bucket_owner.as_deref(), scope.account)?;
        let compression = input.input_compression_type;
        let asked = json!([
            creation,
            format,
            compression,
            source.s3_bucket,
            source.s3_bucket_owner,
            source.s3_key_prefix
        ]);
        Ok(Self {
            create,
            creation,
            bucket: source.s3_bucket.unwrap_or_default(),
            bucket_owner: source.s3_bucket_owner,
            prefix: source.s3_key_prefix,
            format,
            format_options: input.input_format_options,
            gzip: compression.as_deref() == Some("GZIP"),
            compression,
            client_token: input.client_token,
            fingerprint: URL_SAFE_NO_PAD.encode(Sha256::digest(asked.to_string())),
            caller: None,
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ImportTable", scope.table_arn(self.create.name()))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        if let Some(known) = self.known(node, account).await? {
            return Ok(document(&json!({"ImportTableDescription": description(&known, scope)})));
        }
        self.try_bucket(node, account).await?;
        let import = ImportRecord {
            id: new_id(node, now),
            table: self.create.name().to_owned(),
            table_id: 0,
            table_uuid: String::new(),
            bucket: self.bucket,
            bucket_owner: self.bucket_owner,
            prefix: self.prefix,
            format: self.format,
            format_options: self.format_options,
            gzip: self.gzip,
            compression: self.compression,
            creation: self.creation,
            client_token: self.client_token,
            fingerprint: self.fingerprint,
            started_at: now,
            ended_at: None,
            status: Status::InProgress,
            processed: 0,
            imported: 0,
            errors: 0,
            first_error: None,
            size_bytes: 0,
            after: None,
            records: 0,
        };
        let first = import.clone();
        let table = self
            .create
            .make(node, scope, move |record, writes| {
                record.importing = true;
                let import =
                    ImportRecord { table_id: record.id, table_uuid: record.uuid.clone(), ..first.clone() };
                let (table, id) = (import.table.clone(), import.id.clone());
                let transfer = Transfer { account, table, id, kind: Kind::Import };
                writes.push(IMPORTS.put(import.key(account), &import));
                writes.push(TRANSFERS.put(transfer.key(), &transfer));
            })
            .await?;
        node.transfers.notify_one();
        let import = ImportRecord { table_id: table.id, table_uuid: table.uuid, ..import };
        Ok(document(&json!({"ImportTableDescription": description(&import, scope)})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeInput {
    import_arn: Option<String>,
}

/// Describes an import.
pub(crate) struct DescribeImport {
    name: TransferName,
}

#[async_trait]
impl Run for DescribeImport {
    const NAME: &'static str = "DescribeImport";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: DescribeInput = wire::input(body)?;
        Ok(Self { name: TransferName::parse(input.import_arn, "importArn", "import", scope)? })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeImport", self.name.arn.clone())]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let key = import_key(scope.account, &self.name.table, &self.name.id);
        let row = IMPORTS.get(&node.store, key).await?;
        let row = row.ok_or_else(|| Error::ImportNotFound(format!("Import not found: {}", self.name.arn)))?;
        Ok(document(&json!({"ImportTableDescription": description(&row.value, scope)})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListInput {
    table_arn: Option<String>,
    page_size: Option<i64>,
    next_token: Option<String>,
}

/// Lists imports, of one table or all.
pub(crate) struct ListImports {
    table: Option<String>,
    limit: usize,
    token: Option<String>,
}

#[async_trait]
impl Run for ListImports {
    const NAME: &'static str = "ListImports";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ListInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.range(input.page_size, "pageSize", 1, MAX_LISTED).finish()?;
        let table = input.table_arn.map(|arn| scope.table_name(&arn)).transpose()?;
        let limit = usize::try_from(input.page_size.unwrap_or(MAX_LISTED)).unwrap_or(25);
        Ok(Self { table, limit, token: input.next_token })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ListImports", "*")]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut range = IMPORTS.range(scope.account, self.limit, |k| {
            if let Some(table) = &self.table {
                k.text(table);
            }
        });
        from_page_token(&mut range, self.token.as_deref())?;
        let (rows, more) = IMPORTS.scan(&node.store, range).await?;
        let summaries: Vec<_> = rows
            .iter()
            .map(|row| {
                let whole = description(&row.value, scope);
                let mut out = json!({});
                for name in [
                    "ImportArn",
                    "ImportStatus",
                    "TableArn",
                    "S3BucketSource",
                    "InputFormat",
                    "StartTime",
                    "EndTime",
                ] {
                    if !whole[name].is_null() {
                        out[name] = whole[name].clone();
                    }
                }
                out
            })
            .collect();
        let mut out = json!({"ImportSummaryList": summaries});
        if let Some(last) = rows.last().filter(|_| more) {
            out["NextToken"] = to_page_token(&last.key).into();
        }
        Ok(document(&out))
    }
}
