//! What wakes functions by being read: mappings of event sources, and how far each was read.
//!
//! Who reads sources is the `events` crate; what is stored of mappings is this one's.

use serde::{Deserialize, Serialize};
use store::{JsonRecord, Read, Table, tables};
use types::{AccountId, Timestamp};

use crate::name::{FunctionName, function_arn};
use crate::service::Inner;
use crate::{Error, Filter, Functions};

/// Mappings. Key: id.
pub(crate) const MAPPINGS: Table<SourceMapping> =
    Table::new(tables::EVENT_SOURCE_MAPPINGS, "event_source_mappings");
/// How far they are. Key: id.
pub(crate) const POSITIONS: Table<SourcePosition> =
    Table::new(tables::EVENT_SOURCE_POSITIONS, "event_source_positions");

/// A source whose records a function gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMapping {
    /// Its id.
    pub id: String,
    /// The function's name.
    pub function: String,
    /// Its version or alias.
    pub qualifier: Option<String>,
    /// The ARN of the stream or queue.
    pub source: String,
    /// Whether it is read.
    pub enabled: bool,
    /// Most records of one invocation.
    pub batch_size: u32,
    /// How long a batch is waited for to be full, in seconds.
    pub window_s: u32,
    /// How long the windows are over which the function aggregates a stream, in seconds; 0: it does not.
    #[serde(default, skip_serializing_if = "types::is_default")]
    pub tumbling_s: u32,
    /// How many invocations there may be at a time; records of one item stay in their order.
    pub parallelization: u32,
    /// Most invocations at a time that a queue causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// `TRIM_HORIZON` or `LATEST`; empty for a queue.
    pub starting_position: String,
    /// Where `LATEST` was when the mapping was made.
    pub starting_iterator: Option<String>,
    /// Records that are older are given up; `None`: never.
    pub max_age_s: Option<u32>,
    /// Whether a batch that failed is halved.
    pub bisect: bool,
    /// How often a batch that failed is tried again; `None`: for as long as its records live.
    pub max_retries: Option<u32>,
    /// Whether the function says from which record on a batch has failed (`ReportBatchItemFailures`).
    pub report_failures: bool,
    /// Patterns, one of which a record has to match if there are any.
    pub filters: Vec<String>,
    /// ARN of the bucket or queue that hears of what was given up.
    pub on_failure: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed last.
    pub modified: Timestamp,
}

impl JsonRecord for SourceMapping {}

/// A window of time over which a function aggregates the records of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceWindow {
    /// When it begins, in seconds since the epoch.
    pub start: i64,
    /// When it ends, likewise: the first second that is not in it.
    pub end: i64,
    /// What the function has made of its records up to the position.
    pub state: serde_json::Value,
}

/// How far a source was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// The sequence number of the last record that is done.
    pub sequence_number: Option<String>,
    /// What became of the last batch, in the words of the API.
    pub result: String,
    /// What was to come next is not there any more: the oldest record comes next.
    #[serde(default)]
    pub from_oldest: bool,
    /// The window that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<SourceWindow>,
}

impl JsonRecord for SourcePosition {}

impl SourceMapping {
    /// The function, as invocations name it.
    pub fn function_name(&self) -> FunctionName {
        FunctionName { name: self.function.clone(), qualifier: self.qualifier.clone() }
    }

    /// Whether its source is a queue.
    pub fn is_of_queue(&self) -> bool {
        crate::queue::is_queue(&self.source)
    }

    /// The patterns. They were checked when they were stored.
    pub fn patterns(&self) -> Vec<Filter> {
        self.filters.iter().filter_map(|text| Filter::parse(text).ok()).collect()
    }
}

pub(crate) fn by_id<V: store::Record>(table: &Table<V>, account: AccountId, id: &str) -> store::Key {
    table.key(account, |k| {
        k.text(id);
    })
}

impl Inner {
    /// The ARN of a mapping.
    pub(crate) fn mapping_arn(&self, account: AccountId, id: &str) -> String {
        format!("arn:aws:lambda:{}:{account}:event-source-mapping:{id}", self.region)
    }

    /// The ARN of the function that a mapping is for.
    pub(crate) fn mapped_arn(&self, account: AccountId, mapping: &SourceMapping) -> String {
        let arn = function_arn(account, &self.region, &mapping.function);
        match &mapping.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }

    pub(crate) async fn mapping(&self, account: AccountId, id: &str) -> Result<Option<SourceMapping>, Error> {
        Ok(MAPPINGS.get(&self.store, by_id(&MAPPINGS, account, id)).await?.map(|row| row.value))
    }
}

impl Functions {
    /// A mapping as it is now.
    pub async fn source_mapping(&self, account: AccountId, id: &str) -> Result<Option<SourceMapping>, Error> {
        self.inner.mapping(account, id).await
    }

    /// The ids of all mappings.
    pub async fn source_mappings(&self) -> Result<Vec<(AccountId, String)>, Error> {
        let store = &self.inner.store;
        let mut all = Vec::new();
        let mut from = Some(AccountId::DEFAULT);
        while let Some(account) = from {
            let Some(found) = store.next_account(tables::EVENT_SOURCE_MAPPINGS, account).await? else {
                break;
            };
            let mut range = MAPPINGS.range(found, 1000, |_| {});
            loop {
                let (rows, more) = MAPPINGS.scan(store, range.clone()).await?;
                if let Some(last) = rows.last() {
                    range.start = store::key::after(&last.key);
                }
                all.extend(rows.into_iter().map(|row| (found, row.value.id)));
                if !more {
                    break;
                }
            }
            from = AccountId::from_number(found.number() + 1);
        }
        Ok(all)
    }

    /// How far a mapping is.
    pub async fn source_position(&self, account: AccountId, id: &str) -> Result<SourcePosition, Error> {
        let key = by_id(&POSITIONS, account, id);
        Ok(POSITIONS.get(&self.inner.store, key).await?.map(|row| row.value).unwrap_or_default())
    }

    /// Notes how far a mapping is, unless it is gone.
    pub async fn save_source_position(
        &self,
        account: AccountId,
        id: &str,
        position: SourcePosition,
    ) -> Result<(), Error> {
        let key = by_id(&POSITIONS, account, id);
        let reads = vec![Read::Key(by_id(&MAPPINGS, account, id))];
        let saved = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let there = pages[0].first().is_some();
            Ok((if there { vec![POSITIONS.put(key.clone(), &position)] } else { Vec::new() }, ()))
        });
        saved.await
    }

    /// The ARN of the function that a mapping is for.
    pub fn mapped_arn(&self, account: AccountId, mapping: &SourceMapping) -> String {
        self.inner.mapped_arn(account, mapping)
    }
}
