//! What is stored.
//!
//! The messages of a queue are in a bag: deleting and purging a queue takes its bag away in one commit, and what was in
//! it is removed afterwards. A message has a number in its bag, which grows in the order of commits, and a place: the
//! time from which it can be received, and its number. One that is received moves to a later place.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::key::{KeyError, KeyReader};
use store::{JsonRecord, Key, Record, Table, Version, tables};
use types::AccountId;

use crate::attributes::Settings;

/// Key: name of the queue.
pub(crate) const QUEUES: Table<QueueRow> = Table::new(tables::SQS_QUEUES, "sqs_queues");
/// Key: bag.
pub(crate) const BAGS: Table<BagRow> = Table::new(tables::SQS_BAGS, "sqs_bags");
/// Key: bag, time in milliseconds since the epoch, number.
pub(crate) const PLACES: Table<PlaceRow> = Table::new(tables::SQS_PLACES, "sqs_places");
/// Key: bag, number.
pub(crate) const MESSAGES: Table<MessageRow> = Table::new(tables::SQS_MESSAGES, "sqs_messages");
/// Key: bag, number.
pub(crate) const RECEIPTS: Table<ReceiptRow> = Table::new(tables::SQS_RECEIPTS, "sqs_receipts");
/// Key: name of the dead-letter queue, name of the queue.
pub(crate) const SOURCES: Table<SourceRow> = Table::new(tables::SQS_SOURCES, "sqs_sources");
/// Rows of the node. Key: when, in milliseconds since the epoch; account; bag.
pub(crate) const EXPIRY: Table<ExpiryRow> = Table::new(tables::SQS_EXPIRY, "sqs_expiry");
/// Rows of the node. Key: account, bag.
pub(crate) const DROPPED: Table<DroppedRow> = Table::new(tables::SQS_DROPPED, "sqs_dropped");

/// A queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueueRow {
    /// Which queue of that name it is: one that is made anew is another.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Where its messages are.
    pub(crate) bag: u64,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) purged_ms: Option<i64>,
    pub(crate) settings: Settings,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
}

/// What is known of the messages of a bag together; every commit that changes their number or moves them writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BagRow {
    /// How many there are.
    pub(crate) messages: u64,
    /// No place is before this time.
    pub(crate) head_ms: i64,
    /// No message has a lower number.
    pub(crate) oldest: u64,
    /// When the sweeper looks at it; 0: never.
    pub(crate) sweep_ms: i64,
}

impl Default for BagRow {
    fn default() -> Self {
        Self { messages: 0, head_ms: i64::MAX, oldest: 0, sweep_ms: 0 }
    }
}

impl Record for BagRow {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.messages.to_be_bytes());
        out.extend_from_slice(&self.head_ms.to_be_bytes());
        out.extend_from_slice(&self.oldest.to_be_bytes());
        out.extend_from_slice(&self.sweep_ms.to_be_bytes());
    }

    fn decode(_format: u8, mut bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {
            messages: u64::from_be_bytes(take(&mut bytes)?),
            head_ms: i64::from_be_bytes(take(&mut bytes)?),
            oldest: u64::from_be_bytes(take(&mut bytes)?),
            sweep_ms: i64::from_be_bytes(take(&mut bytes)?),
        })
    }
}

/// Why a message is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceRow {
    /// It was sent so, or delayed.
    Sent,
    /// It was received.
    Received,
}

impl Record for PlaceRow {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Sent => 0,
            Self::Received => 1,
        });
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        match bytes {
            [0] => Ok(Self::Sent),
            [1] => Ok(Self::Received),
            _ => Err("a place is neither of a message that was sent nor of one that was received".to_owned()),
        }
    }
}

/// What a message says; it does not change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MessageRow {
    pub(crate) head: MessageHead,
    pub(crate) body: Bytes,
}

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageHead {
    pub(crate) id: String,
    pub(crate) sender: String,
    pub(crate) sent_ms: i64,
    /// From when on it could first be received.
    pub(crate) due_ms: i64,
    pub(crate) md5: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, crate::message::Attribute>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// ARN of the queue that gave it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up_by: Option<String>,
    /// How often it was received, and first when, before it was given up.
    #[serde(default)]
    pub(crate) receives_before: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_received_before_ms: Option<i64>,
}

impl Record for MessageRow {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        let head = serde_json::to_vec(&self.head).expect("records have string keys and memory does not fail");
        let length = u32::try_from(head.len()).expect("what a message says is less than 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.body);
    }

    fn decode(_format: u8, mut bytes: &[u8]) -> Result<Self, String> {
        let length = u32::from_be_bytes(take(&mut bytes)?) as usize;
        let (head, body) = bytes.split_at_checked(length).ok_or("it ends early")?;
        let head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
        Ok(Self { head, body: Bytes::copy_from_slice(body) })
    }
}

/// A message that has been received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiptRow {
    /// Where it is.
    pub(crate) due_ms: i64,
    /// What the handle of its last receive has to say.
    pub(crate) nonce: [u8; 16],
    pub(crate) receives: u32,
    pub(crate) first_ms: i64,
    /// When that receive was.
    pub(crate) last_ms: i64,
}

impl Record for ReceiptRow {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.due_ms.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.receives.to_be_bytes());
        out.extend_from_slice(&self.first_ms.to_be_bytes());
        out.extend_from_slice(&self.last_ms.to_be_bytes());
    }

    fn decode(_format: u8, mut bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {
            due_ms: i64::from_be_bytes(take(&mut bytes)?),
            nonce: take(&mut bytes)?,
            receives: u32::from_be_bytes(take(&mut bytes)?),
            first_ms: i64::from_be_bytes(take(&mut bytes)?),
            last_ms: i64::from_be_bytes(take(&mut bytes)?),
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = bytes.split_first_chunk().ok_or("it ends early")?;
    *bytes = rest;
    Ok(*head)
}

/// A queue with a dead-letter queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SourceRow {}

/// A bag whose messages may expire.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExpiryRow {
    /// The queue's name.
    pub(crate) queue: String,
}

/// A bag that belongs to no queue any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DroppedRow {}

impl JsonRecord for QueueRow {}
impl JsonRecord for SourceRow {}
impl JsonRecord for ExpiryRow {}
impl JsonRecord for DroppedRow {}

/// Where a message is: the time from which it can be received, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) due_ms: i64,
    pub(crate) number: u64,
}

impl Place {
    /// Before every message that can be received at that time or later.
    pub(crate) fn at(due_ms: i64) -> Self {
        Self { due_ms, number: 0 }
    }

    /// The place after this one.
    pub(crate) fn next(self) -> Self {
        Self { due_ms: self.due_ms, number: self.number.saturating_add(1) }
    }

    pub(crate) fn read(key: &Key) -> Result<Self, KeyError> {
        let mut key = KeyReader::new(key)?;
        key.u64()?;
        Ok(Self { due_ms: key.i64()?, number: key.u64()? })
    }
}

/// The number of the message that a commit adds at that place in its list.
pub(crate) fn number(version: Version, index: usize) -> u64 {
    // A commit adds ten messages at most.
    version.0 << 8 | index as u64 & 0xFF
}

pub(crate) fn queue_key(account: AccountId, name: &str) -> Key {
    QUEUES.key(account, |k| {
        k.text(name);
    })
}

pub(crate) fn bag_key(account: AccountId, bag: u64) -> Key {
    BAGS.key(account, |k| {
        k.u64(bag);
    })
}

pub(crate) fn place_key(account: AccountId, bag: u64, place: Place) -> Key {
    PLACES.key(account, |k| {
        k.u64(bag).i64(place.due_ms).u64(place.number);
    })
}

pub(crate) fn message_key(account: AccountId, bag: u64, number: u64) -> Key {
    MESSAGES.key(account, |k| {
        k.u64(bag).u64(number);
    })
}

pub(crate) fn receipt_key(account: AccountId, bag: u64, number: u64) -> Key {
    RECEIPTS.key(account, |k| {
        k.u64(bag).u64(number);
    })
}

pub(crate) fn source_key(account: AccountId, dead_letters: &str, source: &str) -> Key {
    SOURCES.key(account, |k| {
        k.text(dead_letters).text(source);
    })
}

pub(crate) fn expiry_key(at_ms: i64, account: AccountId, bag: u64) -> Key {
    EXPIRY.key(AccountId::NODE, |k| {
        k.i64(at_ms).u64(account.number()).u64(bag);
    })
}

pub(crate) fn dropped_key(account: AccountId, bag: u64) -> Key {
    DROPPED.key(AccountId::NODE, |k| {
        k.u64(account.number()).u64(bag);
    })
}
