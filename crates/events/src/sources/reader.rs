//! Reads one stream for one function.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aws::Caller;
use bytes::Bytes;
use functions::{Filter, SourceMapping, SourcePosition, SourceWindow};
use serde_json::{Value, json};
use tokio::sync::Notify;
use types::{AccountId, TraceHeader};

use super::batch::{Batch, Ended};
use super::mapping;
use super::windows::{End, left_of, window_of};
use crate::service::Shared;

/// A stream without new records is looked at this often, and at once when there may be some.
const IDLE: Duration = Duration::from_secs(10);
/// Between two looks at least.
const LEAST: Duration = Duration::from_millis(20);
/// Most records that GetRecords gives.
const MOST_RECORDS: usize = 1000;
/// Records that wait for a batch to be full, in bytes: what a synchronous invocation may hold.
pub(super) const MOST_BYTES: usize = 6_000_000;

/// A record, as the streams' API gives it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) value: Value,
    pub(super) size_bytes: usize,
}

impl Record {
    fn new(value: Value) -> Self {
        let size_bytes = value.to_string().len();
        Self { value, size_bytes }
    }

    /// Its place in the stream.
    pub(super) fn sequence_number(&self) -> &str {
        self.value["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default()
    }

    /// When it was written, in seconds since the epoch.
    pub(super) fn written_at(&self) -> f64 {
        self.value["dynamodb"]["ApproximateCreationDateTime"].as_f64().unwrap_or_default()
    }

    fn lane(&self, lanes: u32) -> usize {
        let mut hasher = DefaultHasher::new();
        self.value["dynamodb"]["Keys"].to_string().hash(&mut hasher);
        (hasher.finish() % u64::from(lanes)) as usize
    }
}

/// Why reading has to begin anew.
enum Trouble {
    /// The place is not there any more: from the oldest record on.
    Trimmed,
    /// The iterator is too old.
    Expired,
    /// Something else; the mapping shows it.
    Other(String),
}

impl From<aws::Error> for Trouble {
    fn from(error: aws::Error) -> Self {
        match error.code.as_ref() {
            "TrimmedDataAccessException" => Self::Trimmed,
            "ExpiredIteratorException" => Self::Expired,
            _ => Self::Other(format!("PROBLEM: {}", error.message)),
        }
    }
}

/// See the module.
pub(super) struct Reader {
    shared: Arc<Shared>,
    account: AccountId,
    id: String,
    wake: Arc<Notify>,
    position: SourcePosition,
    iterator: Option<String>,
    shard: String,
    /// Records that are older are not new to the mapping, in seconds since the epoch.
    not_before: Option<f64>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, (account, id): (AccountId, String), wake: Arc<Notify>) -> Self {
        let position = SourcePosition::default();
        Self { shared, account, id, wake, position, iterator: None, shard: String::new(), not_before: None }
    }

    /// Reads until the mapping is gone, or the service ends.
    pub(super) async fn run(mut self) {
        match self.shared.functions.source_position(self.account, &self.id).await {
            Ok(position) => self.position = position,
            Err(error) => {
                tracing::error!(%error, mapping = self.id, "how far a source was read could not be found");
                return self.wait(IDLE).await;
            }
        }
        let mut failures = 0_u32;
        while let Some(mapping) = mapping(&self.shared, self.account, &self.id).await {
            if !mapping.enabled {
                self.iterator = None;
                self.wait(Duration::from_secs(3600)).await;
                continue;
            }
            match self.round(&mapping).await {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    let over = self.position.window.as_ref().map(|w| left_of(w, self.shared.env.now()));
                    self.wait(over.map_or(IDLE, |over| over.min(IDLE))).await;
                    self.shared.pause(LEAST).await;
                }
                Err(Trouble::Trimmed) => {
                    self.iterator = None;
                    self.position.sequence_number = None;
                    self.position.from_oldest = true;
                    self.save("PROBLEM: records were trimmed before they could be read").await;
                    failures += 1;
                    self.shared.pause(self.pause(failures)).await;
                }
                Err(Trouble::Expired) => {
                    self.iterator = None;
                    failures += 1;
                    self.shared.pause(self.pause(failures)).await;
                }
                Err(Trouble::Other(why)) => {
                    self.iterator = None;
                    if self.position.result != why {
                        tracing::warn!(mapping = self.id, source = mapping.source, %why, "a source can not be read");
                        self.save(&why).await;
                    }
                    failures += 1;
                    let pause = self.pause(failures);
                    self.wait(pause).await;
                }
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let config = &self.shared.config;
        let base = Duration::from_millis(config.throttle_base_ms);
        base.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(Duration::from_millis(config.throttle_limit_ms))
    }

    /// Waits until something may have changed.
    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.shared.env.sleep(pause) => {}
            () = self.shared.shutdown.cancelled() => {}
        }
    }

    async fn is_still(&self, mapping: &SourceMapping) -> bool {
        let found = self.shared.functions.source_mapping(self.account, &self.id).await;
        matches!(found, Ok(Some(found)) if found == *mapping)
    }

    async fn save(&mut self, result: &str) {
        result.clone_into(&mut self.position.result);
        let saved = self.shared.functions.save_source_position(self.account, &self.id, self.position.clone());
        if let Err(error) = saved.await {
            tracing::error!(%error, mapping = self.id, "how far a source was read could not be noted");
        }
    }

    /// Reads what there is and brings it to its end; false if there was nothing.
    async fn round(&mut self, mapping: &SourceMapping) -> Result<bool, Trouble> {
        let caller = self.caller(mapping).await?;
        let filters = mapping.patterns();
        let wanted = (mapping.batch_size * mapping.parallelization) as usize;
        // Before it is looked whether there is more of it.
        let is_over = self.window_is_over(mapping);
        let (mut records, mut last) = self.fetch(mapping, &caller, &filters, wanted).await?;
        if last.is_none() {
            if is_over {
                self.close_window(mapping, &caller).await;
            }
            return Ok(is_over);
        }
        if mapping.window_s > 0 {
            // A batch may become fuller while it waits.
            let deadline = self.shared.env.monotonic() + Duration::from_secs(u64::from(mapping.window_s));
            let size = |records: &[Record]| records.iter().map(|record| record.size_bytes).sum::<usize>();
            while records.len() < wanted
                && size(&records) < MOST_BYTES
                && !self.shared.shutdown.is_cancelled()
            {
                let now = self.shared.env.monotonic();
                if now >= deadline {
                    break;
                }
                let (more, at) = self.fetch(mapping, &caller, &filters, wanted - records.len()).await?;
                if at.is_none() {
                    self.wait((deadline - now).min(IDLE)).await;
                    self.shared.pause(LEAST).await;
                    if !self.is_still(mapping).await {
                        // Nothing of it is done: it is read again, if it is to be.
                        self.iterator = None;
                        return Ok(true);
                    }
                    continue;
                }
                records.extend(more);
                last = at;
            }
        }
        if records.is_empty() {
            // None that the function wants.
            self.position.sequence_number = last;
            let result = self.position.result.clone();
            self.save(&result).await;
            return Ok(true);
        }
        let ended = match mapping.tumbling_s {
            0 => {
                // They were aggregated, and are not any more.
                if self.position.window.is_some() && !self.close_window(mapping, &caller).await {
                    return Ok(true);
                }
                self.carry_out(mapping, caller, records).await
            }
            _ => self.aggregate(mapping, &caller, records).await,
        };
        match ended {
            Ended::Done(result) => {
                self.position.sequence_number = last;
                self.save(result).await;
                Ok(true)
            }
            // The mapping changed, or the node stops: what is not done comes again.
            Ended::Interrupted => {
                self.iterator = None;
                Ok(true)
            }
        }
    }

    /// Has the function take records: those of one item one after another.
    async fn carry_out(&self, mapping: &SourceMapping, caller: Caller, records: Vec<Record>) -> Ended {
        let mut lanes: Vec<Vec<Record>> = vec![Vec::new(); mapping.parallelization as usize];
        for record in records {
            let lane = record.lane(mapping.parallelization);
            lanes[lane].push(record);
        }
        let carried = lanes.into_iter().filter(|lane| !lane.is_empty()).map(|lane| {
            let mut batch = self.batch(mapping, &caller, None);
            async move { batch.carry_out(lane).await }
        });
        let mut ended = Ended::Done("OK");
        for lane in futures_util::future::join_all(carried).await {
            match (&ended, lane) {
                (Ended::Interrupted, _) | (_, Ended::Interrupted) => ended = Ended::Interrupted,
                (Ended::Done(_), Ended::Done("OK")) => {}
                (Ended::Done(_), Ended::Done(result)) => ended = Ended::Done(result),
            }
        }
        ended
    }

    fn batch<'a>(
        &'a self,
        mapping: &'a SourceMapping,
        caller: &'a Caller,
        window: Option<SourceWindow>,
    ) -> Batch<'a> {
        let (shared, account, shard, wake) = (&self.shared, self.account, self.shard.as_str(), &*self.wake);
        Batch { shared, account, mapping, shard, caller, wake, window }
    }

    /// Has the function aggregate records: those of each window with its state, which is noted with their place.
    async fn aggregate(&mut self, mapping: &SourceMapping, caller: &Caller, records: Vec<Record>) -> Ended {
        let mut result = "OK";
        let mut records = records.into_iter().peekable();
        while let Some(first) = records.peek() {
            if self.position.window.as_ref().is_some_and(|open| first.written_at() >= open.end as f64)
                && !self.close_window(mapping, caller).await
            {
                return Ended::Interrupted;
            }
            let window = self.position.window.clone().unwrap_or_else(|| window_of(mapping, first));
            let mut run = Vec::new();
            while let Some(record) = records.next_if(|next| next.written_at() < window.end as f64) {
                run.push(record);
            }
            let last = run.last().map(|record| record.sequence_number().to_owned());
            let mut batch = self.batch(mapping, caller, Some(window));
            let ended = batch.carry_out(run).await;
            let window = batch.window.take();
            match ended {
                Ended::Done(done) => result = done,
                Ended::Interrupted => return Ended::Interrupted,
            }
            (self.position.window, self.position.sequence_number) = (window, last);
            self.save(result).await;
        }
        Ended::Done(result)
    }

    /// Whether there is a window that gets nothing any more.
    fn window_is_over(&self, mapping: &SourceMapping) -> bool {
        let now = self.shared.env.now();
        let is_over = |window| mapping.tumbling_s == 0 || left_of(window, now).is_zero();
        self.position.window.as_ref().is_some_and(is_over)
    }

    /// Closes the window; false if that was interrupted.
    async fn close_window(&mut self, mapping: &SourceMapping, caller: &Caller) -> bool {
        let closed = self.batch(mapping, caller, self.position.window.clone()).close(End::Over).await;
        if closed {
            self.position.window = None;
            self.save("OK").await;
        } else {
            // What was read is read again.
            self.iterator = None;
        }
        closed
    }

    /// The function's role.
    async fn caller(&self, mapping: &SourceMapping) -> Result<Caller, Trouble> {
        let settings =
            self.shared.functions.async_settings(self.account, &mapping.function_name(), None).await;
        let settings = settings.map_err(|error| Trouble::Other(format!("PROBLEM: {error}")))?;
        Ok(self.shared.functions.role_caller(self.account, &settings).await?)
    }

    async fn ask(&self, caller: &Caller, operation: &str, body: &Value) -> Result<Value, aws::Error> {
        let request = http::Request::post("/")
            .header("x-amz-target", format!("DynamoDBStreams_20120810.{operation}"))
            .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.0")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| aws::Error::internal(&error))?;
        let trace = TraceHeader::new(&*self.shared.env);
        let answer = self.shared.dispatch.call(caller, &trace, "dynamodb", request).await?;
        serde_json::from_slice(answer.body()).map_err(|error| aws::Error::internal(&error))
    }

    /// Where reading goes on.
    async fn iterator(&mut self, mapping: &SourceMapping, caller: &Caller) -> Result<String, Trouble> {
        if let Some(iterator) = &self.iterator {
            return Ok(iterator.clone());
        }
        let source = &mapping.source;
        let described = self.ask(caller, "DescribeStream", &json!({ "StreamArn": source })).await?;
        let shard = described["StreamDescription"]["Shards"][0]["ShardId"].as_str().unwrap_or_default();
        shard.clone_into(&mut self.shard);
        let mut body = json!({ "StreamArn": source, "ShardId": shard });
        match &self.position.sequence_number {
            Some(number) => {
                body["ShardIteratorType"] = json!("AFTER_SEQUENCE_NUMBER");
                body["SequenceNumber"] = json!(number);
            }
            None => body["ShardIteratorType"] = json!("TRIM_HORIZON"),
        }
        // What is new is what came after the mapping was made, also if nobody has read since.
        if let (None, Some(first)) = (&self.position.sequence_number, &mapping.starting_iterator)
            && !self.position.from_oldest
        {
            match self.ask(caller, "GetRecords", &json!({ "ShardIterator": first, "Limit": 1 })).await {
                Ok(_) => return Ok(first.clone()),
                // Iterators end, times do not.
                Err(error) if error.code == "ExpiredIteratorException" => {
                    self.not_before = Some(mapping.created.as_second() as f64);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let answer = self.ask(caller, "GetShardIterator", &body).await?;
        Ok(answer["ShardIterator"].as_str().unwrap_or_default().to_owned())
    }

    /// The next records that the function wants, and the place of the last one that was looked at.
    async fn fetch(
        &mut self,
        mapping: &SourceMapping,
        caller: &Caller,
        filters: &[Filter],
        most: usize,
    ) -> Result<(Vec<Record>, Option<String>), Trouble> {
        let iterator = self.iterator(mapping, caller).await?;
        let body = json!({ "ShardIterator": iterator, "Limit": most.clamp(1, MOST_RECORDS) });
        let mut answer = self.ask(caller, "GetRecords", &body).await?;
        // A stream that has ended gives no next one: it stays at its end.
        self.iterator = Some(answer["NextShardIterator"].as_str().map_or(iterator, str::to_owned));
        let Value::Array(all) = answer["Records"].take() else { return Ok((Vec::new(), None)) };
        let last = all.last().and_then(|last| last["dynamodb"]["SequenceNumber"].as_str()).map(str::to_owned);
        let records = all.into_iter().map(|mut record| {
            record["eventSourceARN"] = json!(mapping.source);
            Record::new(record)
        });
        let not_before = self.not_before;
        let is_new = |record: &Record| not_before.is_none_or(|since| record.written_at() >= since);
        let wanted = |record: &Record| filters.is_empty() || filters.iter().any(|f| f.matches(&record.value));
        Ok((records.filter(is_new).filter(wanted).collect(), last))
    }
}
