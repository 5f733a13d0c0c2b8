//! Event source mappings: which streams wake which functions (AWS Lambda developer guide, "Using AWS Lambda with Amazon
//! DynamoDB").

use aws::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Range, Read, Write};
use types::{Arn, ErrorKind};

use super::Cx;
use crate::Error;
use crate::filter::{self, Filter};
use crate::name::FunctionName;
use crate::source::{MAPPINGS, POSITIONS, SourceMapping, by_id};
use crate::wire::input::{EventSourceMapping, FilterCriteria};

/// Most mappings of one function and of one stream that a search looks at.
const MOST: usize = 1000;

fn within(value: i64, at: &str, least: i64, most: i64) -> Result<u32, Error> {
    let fits = u32::try_from(value).ok().filter(|_| (least..=most).contains(&value));
    fits.ok_or_else(|| {
        Error::Validation(format!(
            "Value '{value}' at '{at}' failed to satisfy constraint: Member must have value between {least} and {most}"
        ))
    })
}

/// A number for which -1 stands for none.
fn unbounded(value: i64, at: &str, least: i64, most: i64) -> Result<Option<u32>, Error> {
    if value == -1 { Ok(None) } else { within(value, at, least, most).map(Some) }
}

fn patterns(criteria: FilterCriteria) -> Result<Vec<String>, Error> {
    let texts: Vec<String> = criteria.filters.into_iter().filter_map(|filter| filter.pattern).collect();
    if texts.len() > filter::MOST {
        return Err(Error::InvalidParameter(format!("FilterCriteria has at most {} filters.", filter::MOST)));
    }
    for text in &texts {
        Filter::parse(text).map_err(|why| {
            Error::InvalidParameter(format!("Invalid filter pattern definition. {why}: {text}"))
        })?;
    }
    Ok(texts)
}

/// Puts what a request says into a mapping.
fn apply(input: &EventSourceMapping, mapping: &mut SourceMapping) -> Result<(), Error> {
    if let Some(enabled) = input.enabled {
        mapping.enabled = enabled;
    }
    if let Some(size) = input.batch_size {
        mapping.batch_size = within(size, "batchSize", 1, 10_000)?;
    }
    if let Some(window) = input.maximum_batching_window_in_seconds {
        mapping.window_s = within(window, "maximumBatchingWindowInSeconds", 0, 300)?;
    }
    if let Some(factor) = input.parallelization_factor {
        mapping.parallelization = within(factor, "parallelizationFactor", 1, 10)?;
    }
    if let Some(age) = input.maximum_record_age_in_seconds {
        mapping.max_age_s = unbounded(age, "maximumRecordAgeInSeconds", 60, 604_800)?;
    }
    if let Some(retries) = input.maximum_retry_attempts {
        mapping.max_retries = unbounded(retries, "maximumRetryAttempts", 0, 10_000)?;
    }
    if let Some(bisect) = input.bisect_batch_on_function_error {
        mapping.bisect = bisect;
    }
    if let Some(kinds) = &input.function_response_types {
        if let Some(other) = kinds.iter().find(|kind| *kind != "ReportBatchItemFailures") {
            return Err(Error::Validation(format!(
                "Value '{other}' at 'functionResponseTypes' failed to satisfy constraint: Member must satisfy enum \
                 value set: [ReportBatchItemFailures]"
            )));
        }
        mapping.report_failures = !kinds.is_empty();
    }
    if let Some(criteria) = &input.filter_criteria {
        mapping.filters = patterns(criteria.clone())?;
    }
    if let Some(destinations) = &input.destination_config {
        if destinations.on_success.as_ref().is_some_and(|to| to.destination.is_some()) {
            return Err(Error::InvalidParameter(
                "Mappings of streams have no destination for successes.".into(),
            ));
        }
        let to = destinations.on_failure.as_ref().and_then(|to| to.destination.clone());
        let to = to.filter(|to| !to.is_empty());
        if let Some(to) = &to {
            let arn: Option<Arn> = to.parse().ok();
            if !arn.is_some_and(|arn| arn.service == "s3" && !arn.resource.contains('/')) {
                return Err(Error::Unsupported(format!(
                    "Destination {to} is not supported by this node; records that were given up go to a bucket."
                )));
            }
        }
        mapping.on_failure = to;
    }
    Ok(())
}

impl Cx {
    fn no_mapping(&self) -> Error {
        Error::NotFound("The resource you requested does not exist.".into())
    }

    async fn shown_mapping(&self, mapping: &SourceMapping, state: Option<&str>) -> Result<Value, Error> {
        let key = by_id(&POSITIONS, self.account, &mapping.id);
        let position = POSITIONS.get(&self.inner.store, key).await?.map(|row| row.value).unwrap_or_default();
        let result = Some(position.result.as_str()).filter(|result| !result.is_empty());
        let own = if mapping.enabled { "Enabled" } else { "Disabled" };
        let destination = mapping.on_failure.as_ref().map_or(json!({}), |arn| json!({ "Destination": arn }));
        let unbounded = |value: Option<u32>| value.map_or(-1, i64::from);
        let mut shown = json!({
            "UUID": mapping.id,
            "EventSourceMappingArn": self.inner.mapping_arn(self.account, &mapping.id),
            "EventSourceArn": mapping.source,
            "FunctionArn": self.inner.mapped_arn(self.account, mapping),
            "StartingPosition": mapping.starting_position,
            "BatchSize": mapping.batch_size,
            "MaximumBatchingWindowInSeconds": mapping.window_s,
            "ParallelizationFactor": mapping.parallelization,
            "MaximumRecordAgeInSeconds": unbounded(mapping.max_age_s),
            "MaximumRetryAttempts": unbounded(mapping.max_retries),
            "BisectBatchOnFunctionError": mapping.bisect,
            "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": if mapping.report_failures { vec!["ReportBatchItemFailures"] } else { vec![] },
            "DestinationConfig": { "OnFailure": destination },
            "LastModified": mapping.modified.as_millisecond() as f64 / 1000.0,
            "LastProcessingResult": result.unwrap_or("No records processed"),
            "State": state.unwrap_or(own),
            "StateTransitionReason": "User action",
        });
        if !mapping.filters.is_empty() {
            let filters: Vec<_> = mapping.filters.iter().map(|text| json!({ "Pattern": text })).collect();
            shown["FilterCriteria"] = json!({ "Filters": filters });
        }
        Ok(shown)
    }

    /// A call of the streams' API with the rights of the function's role.
    async fn ask_stream(
        &self,
        caller: &aws::Caller,
        operation: &str,
        body: &Value,
    ) -> Result<Value, aws::Error> {
        let request = http::Request::post("/")
            .header("x-amz-target", format!("DynamoDBStreams_20120810.{operation}"))
            .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.0")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| aws::Error::internal(&error))?;
        let answer = self.inner.dispatch.call(caller, &self.context.trace, "dynamodb", request).await?;
        serde_json::from_slice(answer.body()).map_err(|error| aws::Error::internal(&error))
    }

    /// Sees that the function's role may read the stream; where its end is now.
    async fn check_source(&self, function: &FunctionName, source: &str) -> Result<String, aws::Error> {
        let (_, row) = self.resolve(function).await?;
        let shortest = std::time::Duration::from_secs(900);
        let roles = &self.inner.roles;
        let assumed =
            roles.assume(self.account, &row.role, &row.name, "lambda.amazonaws.com", shortest).await?;
        let caller = aws::Caller { principal: assumed.principal, ..aws::Caller::platform(self.account) };
        let asked = async {
            let described =
                self.ask_stream(&caller, "DescribeStream", &json!({ "StreamArn": source })).await?;
            let shard = &described["StreamDescription"]["Shards"][0]["ShardId"];
            let body = json!({ "StreamArn": source, "ShardId": shard, "ShardIteratorType": "LATEST" });
            let iterator =
                self.ask_stream(&caller, "GetShardIterator", &body).await?["ShardIterator"].clone();
            let got = self
                .ask_stream(&caller, "GetRecords", &json!({ "ShardIterator": iterator, "Limit": 1 }))
                .await?;
            drop(got);
            Ok::<_, aws::Error>(iterator.as_str().unwrap_or_default().to_owned())
        };
        asked.await.map_err(|error| match error.kind {
            ErrorKind::Denied => Error::InvalidParameter(format!(
                "Cannot access stream {source}. Please ensure the role can perform the GetRecords, GetShardIterator, \
                 DescribeStream, and ListStreams Actions on your stream in DynamoDB."
            ))
            .into(),
            ErrorKind::NotFound | ErrorKind::Invalid => {
                Error::InvalidParameter(format!("Stream not found: {source}")).into()
            }
            ErrorKind::Conflict
            | ErrorKind::PreconditionFailed
            | ErrorKind::Unauthenticated
            | ErrorKind::Throttled
            | ErrorKind::TooLarge
            | ErrorKind::Timeout
            | ErrorKind::Unsupported
            | ErrorKind::Unavailable
            | ErrorKind::Internal => error,
        })
    }

    pub(super) async fn create_mapping(
        &self,
        function: FunctionName,
        input: EventSourceMapping,
    ) -> Result<Response, aws::Error> {
        let invalid = |message: String| -> aws::Error { Error::InvalidParameter(message).into() };
        let Some(source) = input.event_source_arn.clone() else {
            return Err(invalid("EventSourceArn is mandatory.".into()));
        };
        let arn: Option<Arn> = source.parse().ok();
        let of_table = |arn: &Arn| arn.service == "dynamodb" && arn.resource.contains("/stream/");
        if !arn.as_ref().is_some_and(of_table) {
            let message = format!(
                "Event source {source} is not supported by this node; streams of DynamoDB tables are."
            );
            return Err(Error::Unsupported(message).into());
        }
        let starting_position = match input.starting_position.as_deref() {
            Some(position @ ("TRIM_HORIZON" | "LATEST")) => position.to_owned(),
            Some("AT_TIMESTAMP") => {
                return Err(invalid("AT_TIMESTAMP is not a starting position of DynamoDB streams.".into()));
            }
            Some(other) => {
                let message = format!(
                    "Value '{other}' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value \
                     set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]"
                );
                return Err(Error::Validation(message).into());
            }
            None => {
                return Err(invalid(
                    "1 validation error detected: StartingPosition is mandatory for streams.".into(),
                ));
            }
        };
        self.require_owner(&function).await?;
        let mut mapping = SourceMapping {
            id: self.fresh_id().to_string(),
            function: function.name.clone(),
            qualifier: function.owner().map(str::to_owned),
            source: source.clone(),
            enabled: true,
            batch_size: 100,
            window_s: 0,
            parallelization: 1,
            starting_iterator: None,
            starting_position,
            max_age_s: None,
            bisect: false,
            max_retries: None,
            report_failures: false,
            filters: Vec::new(),
            on_failure: None,
            created: self.inner.env.now(),
            modified: self.inner.env.now(),
        };
        apply(&input, &mut mapping)?;
        let end = self.check_source(&function, &source).await?;
        mapping.starting_iterator = (mapping.starting_position == "LATEST").then_some(end);
        let account = self.account;
        let all = MAPPINGS.range(account, MOST, |_| {});
        let key = by_id(&MAPPINGS, account, &mapping.id);
        let named = function.name.clone();
        let new = mapping.clone();
        let created = self.inner.store.transact(vec![Read::Range(all)], move |pages, _| -> Result<_, Error> {
            for entry in &pages[0].entries {
                let other = MAPPINGS.decode(entry)?.value;
                if other.source == new.source && other.function == new.function && other.qualifier == new.qualifier {
                    return Err(Error::Conflict(format!(
                        "The event source arn (\" {} \") and function (\" {named} \") provided mapping already exists. \
                         Please update or delete the existing mapping with UUID {}",
                        new.source, other.id
                    )));
                }
            }
            Ok((vec![MAPPINGS.put(key.clone(), &new)], ()))
        });
        created.await?;
        Ok(aws::json::output_with_status(202, &self.shown_mapping(&mapping, Some("Creating")).await?))
    }

    pub(super) async fn get_mapping(&self, id: String) -> Result<Response, Error> {
        let mapping = self.inner.mapping(self.account, &id).await?.ok_or_else(|| self.no_mapping())?;
        Ok(aws::json::output(&self.shown_mapping(&mapping, None).await?))
    }

    pub(super) async fn update_mapping(
        &self,
        id: String,
        function: Option<FunctionName>,
        input: EventSourceMapping,
    ) -> Result<Response, aws::Error> {
        let before = self.inner.mapping(self.account, &id).await?.ok_or_else(|| self.no_mapping())?;
        if let Some(function) = &function {
            self.require_owner(function).await?;
            self.check_source(function, &before.source).await?;
        }
        // What is wrong with it is said before anything is written.
        apply(&input, &mut before.clone())?;
        let key = by_id(&MAPPINGS, self.account, &id);
        let (absent, now) = (self.no_mapping(), self.inner.env.now());
        let updated =
            self.inner.store.transact(vec![Read::Key(key.clone())], move |pages, _| -> Result<_, Error> {
                let Some(stored) = MAPPINGS.first(&pages[0])? else { return Err(absent.clone()) };
                let mut mapping = SourceMapping { modified: now, ..stored.value };
                apply(&input, &mut mapping)?;
                if let Some(function) = &function {
                    mapping.function.clone_from(&function.name);
                    mapping.qualifier = function.owner().map(str::to_owned);
                }
                Ok((vec![MAPPINGS.put(key.clone(), &mapping)], mapping))
            });
        let mapping = updated.await?;
        Ok(aws::json::output_with_status(202, &self.shown_mapping(&mapping, Some("Updating")).await?))
    }

    pub(super) async fn delete_mapping(&self, id: String) -> Result<Response, Error> {
        let mapping = self.inner.mapping(self.account, &id).await?.ok_or_else(|| self.no_mapping())?;
        let shown = self.shown_mapping(&mapping, Some("Deleting")).await?;
        let gone = vec![
            Write::Delete(by_id(&MAPPINGS, self.account, &id)),
            Write::Delete(by_id(&POSITIONS, self.account, &id)),
        ];
        self.inner.store.write(gone).await?;
        Ok(aws::json::output_with_status(202, &shown))
    }

    pub(super) async fn list_mappings(
        &self,
        source: Option<String>,
        function: Option<FunctionName>,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        let mut range: Range = MAPPINGS.range(self.account, limit, |_| {});
        if let Some(marker) = &marker {
            range.start = store::key::after(&by_id(&MAPPINGS, self.account, marker));
        }
        let (rows, more) = MAPPINGS.scan(&self.inner.store, range).await?;
        let mut shown = Vec::new();
        for row in &rows {
            let mapping = &row.value;
            let of_source = source.as_ref().is_none_or(|source| *source == mapping.source);
            let of_function = function.as_ref().is_none_or(|function| {
                function.name == mapping.function && function.owner() == mapping.qualifier.as_deref()
            });
            if of_source && of_function {
                shown.push(self.shown_mapping(mapping, None).await?);
            }
        }
        let mut output = json!({ "EventSourceMappings": shown });
        if let Some(last) = rows.last().filter(|_| more) {
            output["NextMarker"] = json!(last.value.id);
        }
        Ok(aws::json::output(&output))
    }
}
