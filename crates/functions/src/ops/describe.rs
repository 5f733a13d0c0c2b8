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
use crate::name::{FunctionName, Version};
use crate::registry::Reference;
use crate::tables::{CodeRef, FUNCTIONS, FunctionRow, TOTALS, VERSIONS, all_of, by_name, totals_key};
use crate::wire::marker;
use crate::wire::output::FunctionConfiguration;

/// What AWS stores for one account at most, in bytes.
const STORAGE_LIMIT: u64 = 75 << 30;

impl Cx {
    pub(super) async fn get_function(&self, function: FunctionName) -> Result<Response, Error> {
        let latest = self.row(&function.name).await?;
        let (version, row) = self.resolve(&function).await?;
        let qualifier = function.qualifier.as_deref();
        let configuration =
            FunctionConfiguration::new(&row, self.account, &self.inner.region, version, qualifier);
        let query = qualifier.map_or_else(String::new, |qualifier| format!("?Qualifier={qualifier}"));
        let image = row.image.as_ref();
        let pulled = row.pulling().map(|pull| (&pull.uri, &pull.digest));
        let pulled = pulled.or_else(|| image.and_then(|image| Some((&image.uri, image.digest.as_ref()?))));
        let location = format!("{}/2015-03-31/functions/{}/code{query}", self.context.endpoint, row.name);
        let code = match (pulled, image) {
            (Some((uri, digest)), _) => json!({
                "RepositoryType": "ECR",
                "ImageUri": uri,
                "ResolvedImageUri": Reference::parse(uri).map(|reference| reference.pinned(digest)),
            }),
            (None, Some(image)) => {
                json!({"RepositoryType": "S3", "Location": location, "ImageUri": image.uri})
            }
            (None, None) => json!({"RepositoryType": "S3", "Location": location}),
        };
        let mut output = json!({ "Configuration": configuration, "Code": code });
        if !latest.tags.is_empty() {
            output["Tags"] = json!(latest.tags);
        }
        if let Some(reserved) = latest.reserved_concurrency {
            output["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
        }
        Ok(aws::json::output(&output))
    }

    pub(super) async fn get_function_configuration(&self, function: FunctionName) -> Result<Response, Error> {
        let (version, row) = self.resolve(&function).await?;
        let qualifier = function.qualifier.as_deref();
        let output = FunctionConfiguration::new(&row, self.account, &self.inner.region, version, qualifier);
        Ok(aws::json::output(&output))
    }

    /// The package: where `GetFunction` points to. Needs the same right, and a signature.
    pub(super) async fn download_code(&self, function: FunctionName) -> Result<Response, Error> {
        let (_, row) = self.resolve(&function).await?;
        self.package_body(&row.code).await
    }

    /// A package, as the answer to a request for it.
    pub(super) async fn package_body(&self, code: &CodeRef) -> Result<Response, Error> {
        let pieces = self.inner.download(code).await?;
        let frames = pieces.map_ok(Frame::data).map_err(|error| -> aws::BodyError { Box::new(error) });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/zip"));
        headers.insert(http::header::CONTENT_LENGTH, code.size_bytes.into());
        Ok(response)
    }

    pub(super) async fn list_functions(
        &self,
        every_version: bool,
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
        let mut functions = Vec::new();
        for stored in &rows {
            if !every_version {
                functions.push(json!(self.latest_configuration(&stored.value)));
                continue;
            }
            let (region, qualifier) = (&self.inner.region, Some(crate::LATEST));
            let latest = Version::Latest;
            functions.push(json!(FunctionConfiguration::new(
                &stored.value,
                self.account,
                region,
                latest,
                qualifier
            )));
            let versions = all_of(&VERSIONS, self.account, &stored.value.name, 10_000);
            let (versions, _) = VERSIONS.scan(&self.inner.store, versions).await?;
            functions.extend(versions.iter().map(|version| json!(self.configuration_of(&version.value))));
        }
        let mut output = json!({ "Functions": functions });
        if let Some(last) = last {
            output["NextMarker"] = json!(marker::give("ListFunctions", &last));
        }
        Ok(aws::json::output(&output))
    }

    /// The configuration of the function as it is now, by its unqualified ARN.
    pub(super) fn latest_configuration<'a>(&self, row: &'a FunctionRow) -> FunctionConfiguration<'a> {
        FunctionConfiguration::new(row, self.account, &self.inner.region, Version::Latest, None)
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
