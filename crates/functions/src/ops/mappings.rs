//! Event source mappings: which streams and queues wake which functions (AWS Lambda developer guide, "Using AWS Lambda
//! with Amazon DynamoDB", "Using Lambda with Amazon SQS").

use aws::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Range, Read, Write};
use types::{Arn, ErrorKind};

use super::Cx;
use crate::Error;
use crate::filter::{self, Filter};
use crate::name::FunctionName;
use crate::queue;
use crate::source::{MAPPINGS, POSITIONS, SourceMapping, by_id};
use crate::wire::input::{EventSourceMapping, FilterCriteria};
use crate::wire::marker;
use crate::wire::members::{self, Faults};

/// Most mappings of one function and of one stream that a search looks at.
const MOST: usize = 1000;

fn within(value: i64, at: &str, least: i64, most: i64) -> Result<u32, Error> {
    let fits = u32::try_from(value).ok().filter(|_| (least..=most).contains(&value));
    fits.ok_or_else(|| {
        Error::rule(format!(
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

/// Refuses what only streams have.
fn check_of_queue(input: &EventSourceMapping) -> Result<(), Error> {
    let of_streams = [
        ("StartingPosition", input.starting_position.is_some()),
        ("ParallelizationFactor", input.parallelization_factor.is_some()),
        ("TumblingWindowInSeconds", input.tumbling_window_in_seconds.is_some_and(|window| window != 0)),
        ("MaximumRecordAgeInSeconds", input.maximum_record_age_in_seconds.is_some()),
        ("BisectBatchOnFunctionError", input.bisect_batch_on_function_error.is_some_and(|bisect| bisect)),
        ("MaximumRetryAttempts", input.maximum_retry_attempts.is_some()),
        (
            "DestinationConfig",
            input.destination_config.as_ref().is_some_and(|to| {
                [&to.on_success, &to.on_failure].into_iter().flatten().any(|to| to.destination.is_some())
            }),
        ),
    ];
    match of_streams.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            Err(Error::InvalidParameter(format!("{name} is not supported for event sources of Amazon SQS.")))
        }
        None => Ok(()),
    }
}

/// Puts what a request says into a mapping.
fn apply(input: &EventSourceMapping, mapping: &mut SourceMapping) -> Result<(), Error> {
    let mut faults = Faults::default();
    let of_queue = mapping.is_of_queue();
    if of_queue {
        faults.see(check_of_queue(input));
    }
    if let Some(scaling) = &input.scaling_config {
        if !of_queue {
            let message = "ScalingConfig is for event sources of Amazon SQS alone.";
            faults.see(Err::<(), _>(Error::InvalidParameter(message.into())));
        }
        let most = scaling.maximum_concurrency.map(|most| within(most, "maximumConcurrency", 2, 1000));
        mapping.max_concurrency = faults.see(most.transpose());
    }
    let mut set = |to: &mut u32, value: Option<i64>, at: &str, least: i64, most: i64| {
        if let Some(value) = value {
            *to = faults.see(within(value, at, least, most));
        }
    };
    set(&mut mapping.batch_size, input.batch_size, "batchSize", 1, 10_000);
    let window = input.maximum_batching_window_in_seconds;
    set(&mut mapping.window_s, window, "maximumBatchingWindowInSeconds", 0, 300);
    let window = input.tumbling_window_in_seconds;
    set(&mut mapping.tumbling_s, window, "tumblingWindowInSeconds", 0, 900);
    let factor = input.parallelization_factor;
    set(&mut mapping.parallelization, factor, "parallelizationFactor", 1, 10);
    if let Some(age) = input.maximum_record_age_in_seconds {
        mapping.max_age_s = faults.see(unbounded(age, "maximumRecordAgeInSeconds", 60, 604_800));
    }
    if let Some(retries) = input.maximum_retry_attempts {
        mapping.max_retries = faults.see(unbounded(retries, "maximumRetryAttempts", 0, 10_000));
    }
    for kind in input.function_response_types.iter().flatten() {
        faults.see(members::one_of(kind, "functionResponseTypes", &["ReportBatchItemFailures"]));
    }
    faults.finish()?;
    if let Some(enabled) = input.enabled {
        mapping.enabled = enabled;
    }
    if let Some(bisect) = input.bisect_batch_on_function_error {
        mapping.bisect = bisect;
    }
    if let Some(kinds) = &input.function_response_types {
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
            if arn.as_ref().is_some_and(|arn| matches!(arn.service.as_str(), "sqs" | "sns")) {
                queue::queue_arn(to, "destination config DestinationConfig")?;
            } else if !arn.is_some_and(|arn| arn.service == "s3" && !arn.resource.contains('/')) {
                return Err(Error::Unsupported(format!(
                    "Destination {to} is not supported by this node; records that were given up go to a queue or a bucket."
                )));
            }
        }
        mapping.on_failure = to;
    }
    if mapping.tumbling_s > 0 && mapping.parallelization > 1 {
        return Err(Error::Unsupported(
            "TumblingWindowInSeconds with a ParallelizationFactor of more than 1 is not supported by this node.".into(),
        ));
    }
    if mapping.is_of_queue() && mapping.batch_size > 10 && mapping.window_s == 0 {
        return Err(Error::InvalidParameter(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
                .into(),
        ));
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
        let kinds = if mapping.report_failures { vec!["ReportBatchItemFailures"] } else { vec![] };
        let filters: Vec<_> = mapping.filters.iter().map(|text| json!({ "Pattern": text })).collect();
        if mapping.is_of_queue() {
            let mut shown = json!({
                "UUID": mapping.id,
                "EventSourceMappingArn": self.inner.mapping_arn(self.account, &mapping.id),
                "EventSourceArn": mapping.source,
                "FunctionArn": self.inner.mapped_arn(self.account, mapping),
                "BatchSize": mapping.batch_size,
                "MaximumBatchingWindowInSeconds": mapping.window_s,
                "FunctionResponseTypes": kinds,
                "LastModified": mapping.modified.as_millisecond() as f64 / 1000.0,
                "State": state.unwrap_or(own),
                "StateTransitionReason": "USER_INITIATED",
            });
            if let Some(most) = mapping.max_concurrency {
                shown["ScalingConfig"] = json!({ "MaximumConcurrency": most });
            }
            if let Some(result) = result {
                shown["LastProcessingResult"] = json!(result);
            }
            if !filters.is_empty() {
                shown["FilterCriteria"] = json!({ "Filters": filters });
            }
            return Ok(shown);
        }
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
            "TumblingWindowInSeconds": mapping.tumbling_s,
            "FunctionResponseTypes": kinds,
            "DestinationConfig": { "OnFailure": destination },
            "LastModified": mapping.modified.as_millisecond() as f64 / 1000.0,
            "LastProcessingResult": result.unwrap_or("No records processed"),
            "State": state.unwrap_or(own),
            "StateTransitionReason": "User action",
        });
        if !filters.is_empty() {
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
        let caller = self.role_caller(&row.role, &row.name).await?;
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

    /// Sees that the function's role may receive from the queue and delete from it, and that its messages stay hidden
    /// for as long as the function may take. What asks for the rights changes nothing.
    async fn check_queue_source(&self, function: &FunctionName, source: &str) -> Result<(), aws::Error> {
        let arn = queue::queue_arn(source, "event source")?;
        let (_, row) = self.resolve(function).await?;
        let caller = self.role_caller(&row.role, &row.name).await?;
        let mut hidden_s = None;
        for (operation, body, expected) in [
            ("ReceiveMessage", json!({ "MaxNumberOfMessages": 0 }), Some("InvalidParameterValueException")),
            ("DeleteMessageBatch", json!({ "Entries": [] }), Some("EmptyBatchRequest")),
            ("GetQueueAttributes", json!({ "AttributeNames": ["VisibilityTimeout"] }), None),
        ] {
            let request = queue::queue_request(&arn, operation, body)?;
            match self.inner.dispatch.call(&caller, &self.context.trace, "sqs", request).await {
                Ok(answer) => {
                    let answer: Value = serde_json::from_slice(answer.body())
                        .map_err(|error| aws::Error::internal(&error))?;
                    let text = answer["Attributes"]["VisibilityTimeout"].as_str();
                    hidden_s = text.and_then(|text| text.parse::<u32>().ok());
                }
                Err(error) if expected.is_some_and(|expected| error.code == expected) => {}
                Err(error) if error.kind == ErrorKind::Denied => {
                    return Err(Error::InvalidParameter(format!(
                        "The provided execution role does not have permissions to call {} on SQS",
                        operation.trim_end_matches("Batch")
                    ))
                    .into());
                }
                Err(error) if error.kind == ErrorKind::NotFound => {
                    return Err(Error::InvalidParameter(format!(
                        "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS \
                         Error Message: {}",
                        error.message
                    ))
                    .into());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(hidden_s) = hidden_s.filter(|hidden_s| *hidden_s < row.timeout_s) {
            return Err(Error::InvalidParameter(format!(
                "Queue visibility timeout: {hidden_s} seconds is less than Function timeout: {} seconds",
                row.timeout_s
            ))
            .into());
        }
        Ok(())
    }

    /// Sees that the function's role may tell of what was given up, where that goes to a queue.
    async fn check_told(&self, function: &FunctionName, mapping: &SourceMapping) -> Result<(), aws::Error> {
        match mapping.on_failure.as_deref().filter(|arn| queue::is_queue(arn)) {
            None => Ok(()),
            Some(arn) => {
                let (_, row) = self.resolve(function).await?;
                self.check_queue(&row.role, &row.name, arn).await
            }
        }
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
        let of_queue = queue::is_queue(&source);
        if !of_queue && !arn.as_ref().is_some_and(of_table) {
            let message = format!(
                "Event source {source} is not supported by this node; queues and streams of DynamoDB tables are."
            );
            return Err(Error::Unsupported(message).into());
        }
        let starting_position = match input.starting_position.as_deref() {
            None if of_queue => String::new(),
            Some(position @ ("TRIM_HORIZON" | "LATEST")) => position.to_owned(),
            Some("AT_TIMESTAMP") => {
                return Err(invalid("AT_TIMESTAMP is not a starting position of DynamoDB streams.".into()));
            }
            Some(other) => {
                let rule = "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]";
                return Err(Error::constraint(other, "startingPosition", rule).into());
            }
            // Lambda says it under this code.
            None => {
                let null = aws::document::rules(&[aws::document::missing("startingPosition")]);
                return Err(invalid(format!("{null}.")));
            }
        };
        self.require_owner(&function).await?;
        let mut mapping = SourceMapping {
            id: self.fresh_id().to_string(),
            function: function.name.clone(),
            qualifier: function.owner().map(str::to_owned),
            source: source.clone(),
            enabled: true,
            batch_size: if of_queue { 10 } else { 100 },
            window_s: 0,
            tumbling_s: 0,
            parallelization: 1,
            max_concurrency: None,
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
        if of_queue {
            self.check_queue_source(&function, &source).await?;
        } else {
            let end = self.check_source(&function, &source).await?;
            mapping.starting_iterator = (mapping.starting_position == "LATEST").then_some(end);
        }
        self.check_told(&function, &mapping).await?;
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
            if before.is_of_queue() {
                self.check_queue_source(function, &before.source).await?;
            } else {
                self.check_source(function, &before.source).await?;
            }
        }
        // What is wrong with it is said before anything is written.
        let mut after = before.clone();
        apply(&input, &mut after)?;
        if input.destination_config.is_some() {
            let function = function.clone().unwrap_or_else(|| before.function_name());
            self.check_told(&function, &after).await?;
        }
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
            output["NextMarker"] = json!(marker::give("ListEventSourceMappings", &last.value.id));
        }
        Ok(aws::json::output(&output))
    }
}
