//! Operations that only read.

use aws::Response;
use futures_util::TryStreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use store::Range;
use store::key::{after, prefix_end};

use super::Cx;
use crate::Error;
use crate::code::{UNZIPPED_LIMIT, ZIPPED_LIMIT};
use crate::name::FunctionName;
use crate::tables::{FUNCTIONS, TOTALS, by_name, totals_key};
use crate::wire::output::FunctionConfiguration;

/// What AWS stores for one account at most, in bytes.
const STORAGE_LIMIT: u64 = 75 << 30;

impl Cx {
    pub(super) async fn get_function(&self, function: FunctionName) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let row = self.row(&function.name).await?;
        let qualified = function.qualifier.is_some();
        let configuration = FunctionConfiguration::new(&row, self.account, &self.inner.region, qualified);
        let mut output = json!({
            "Configuration": configuration,
            "Code": {
                "RepositoryType": "S3",
                "Location": format!("{}/2015-03-31/functions/{}/code", self.context.endpoint, row.name),
            },
        });
        if !row.tags.is_empty() {
            output["Tags"] = json!(row.tags);
        }
        if let Some(reserved) = row.reserved_concurrency {
            output["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
        }
        Ok(aws::json::output(&output))
    }

    pub(super) async fn get_function_configuration(&self, function: FunctionName) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let row = self.row(&function.name).await?;
        let qualified = function.qualifier.is_some();
        let output = FunctionConfiguration::new(&row, self.account, &self.inner.region, qualified);
        Ok(aws::json::output(&output))
    }

    /// The package: where `GetFunction` points to. Needs the same right, and a signature.
    pub(super) async fn download_code(&self, function: FunctionName) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let row = self.row(&function.name).await?;
        let pieces = self.inner.download(&row.code).await?;
        let frames = pieces.map_ok(Frame::data).map_err(|error| -> aws::BodyError { Box::new(error) });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/zip"));
        headers.insert(http::header::CONTENT_LENGTH, row.code.size_bytes.into());
        Ok(response)
    }

    pub(super) async fn list_functions(
        &self,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        let all = FUNCTIONS.key(self.account, |_| {});
        let start = match &marker {
            Some(name) => after(&by_name(&FUNCTIONS, self.account, name)),
            None => all.clone(),
        };
        let range = Range { start, end: prefix_end(&all), limit, limit_bytes: 4 << 20, reverse: false };
        let (rows, more) = FUNCTIONS.scan(&self.inner.store, range).await?;
        let last = rows.last().filter(|_| more).map(|stored| stored.value.name.clone());
        let functions: Vec<_> = rows
            .iter()
            .map(|stored| FunctionConfiguration::new(&stored.value, self.account, &self.inner.region, false))
            .collect();
        let mut output = json!({ "Functions": functions });
        if let Some(last) = last {
            output["NextMarker"] = json!(last);
        }
        Ok(aws::json::output(&output))
    }

    pub(super) async fn list_versions(
        &self,
        function: FunctionName,
        marker: Option<String>,
        _limit: usize,
    ) -> Result<Response, Error> {
        let row = self.row(&function.name).await?;
        let latest = FunctionConfiguration::new(&row, self.account, &self.inner.region, true);
        // One version, one page: nothing follows a marker.
        let versions = if marker.is_none() { vec![latest] } else { Vec::new() };
        Ok(aws::json::output(&json!({ "Versions": versions })))
    }

    pub(super) async fn list_aliases(&self, function: FunctionName) -> Result<Response, Error> {
        self.row(&function.name).await?;
        Ok(aws::json::output(&json!({ "Aliases": [] })))
    }

    pub(super) async fn get_code_signing_config(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.row(&function.name).await?;
        Ok(aws::json::output(&json!({ "CodeSigningConfigArn": "", "FunctionName": row.name })))
    }

    pub(super) async fn get_account_settings(&self) -> Result<Response, Error> {
        let totals = TOTALS.get(&self.inner.store, totals_key(self.account)).await?;
        let totals = totals.map(|stored| stored.value).unwrap_or_default();
        let concurrency = self.inner.config.account_concurrency;
        Ok(aws::json::output(&json!({
            "AccountLimit": {
                "TotalCodeSize": STORAGE_LIMIT,
                "CodeSizeUnzipped": UNZIPPED_LIMIT,
                "CodeSizeZipped": ZIPPED_LIMIT,
                "ConcurrentExecutions": concurrency,
                "UnreservedConcurrentExecutions": concurrency.saturating_sub(totals.reserved),
            },
            "AccountUsage": { "TotalCodeSize": totals.code_bytes, "FunctionCount": totals.functions },
        })))
    }
}
