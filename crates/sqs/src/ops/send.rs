//! SendMessage, SendMessageBatch.

use std::collections::BTreeMap;

use aws::{Access, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Read, Write};
use types::RequestId;

use super::{BatchAnswer, Failed, Input, check_batch, one_queue};
use crate::Error;
use crate::attributes::MAX_MESSAGE_BYTES;
use crate::find::{Found, Queue};
use crate::message::{self, Attributes, GivenAttribute, md5, md5_of_attributes};
use crate::service::Scope;
use crate::tables::{
    BAGS, EXPIRY, ExpiryRow, MessageHead, MessageRow, PLACES, Place, PlaceRow, bag_key, expiry_key,
    message_key, number, place_key,
};

/// A message as a request writes it.
#[derive(Debug)]
struct Given {
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_system_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

/// A message that can be sent.
struct Ready {
    row: MessageRow,
    delay_ms: i64,
    size: usize,
    md5_of_attributes: Option<String>,
    md5_of_system_attributes: Option<String>,
}

impl Given {
    /// Checks everything.
    fn ready(self, scope: &Scope, queue: &Queue) -> Result<Ready, Error> {
        let settings = &queue.row.settings;
        let body = self.message_body.ok_or(Error::MissingParameter("MessageBody"))?;
        if body.is_empty() {
            return Err(Error::InvalidParameterValue("Message must be at least one character.".to_owned()));
        }
        if !message::is_allowed(&body) {
            return Err(Error::InvalidMessageContents);
        }
        let delay_s = match self.delay_seconds {
            None => i64::from(settings.delay_s),
            Some(delay) if (0..=900).contains(&delay) => delay,
            Some(delay) => {
                return Err(Error::value(delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900."));
            }
        };
        if self.message_deduplication_id.is_some() {
            return Err(Error::InvalidParameterValue(
                "The request include parameter MessageDeduplicationId which is not valid for this queue type"
                    .into(),
            ));
        }
        if let Some(group) = &self.message_group_id
            && (group.is_empty() || group.len() > 128 || !group.chars().all(|c| c.is_ascii_graphic()))
        {
            let reason =
                "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length";
            return Err(Error::value(group, "MessageGroupId", reason));
        }
        let attributes = message::attributes(self.message_attributes.unwrap_or_default())?;
        let (trace, md5_of_system_attributes) = system(self.message_system_attributes.unwrap_or_default())?;
        let size = body.len() + message::size(&attributes);
        if size > settings.max_bytes as usize {
            return Err(Error::InvalidParameterValue(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
                settings.max_bytes
            )));
        }
        let md5_of_attributes =
            md5_of_attributes(attributes.iter().map(|(name, value)| (name.as_str(), value)));
        let head = MessageHead {
            id: RequestId::new(&*scope.inner.env).to_string(),
            sender: scope.caller.principal.id().unwrap_or_default(),
            // Set when it is put into the queue.
            sent_ms: 0,
            due_ms: 0,
            md5: md5(body.as_bytes()),
            attributes,
            trace,
            group: self.message_group_id,
            given_up_by: None,
            receives_before: 0,
            first_received_before_ms: None,
        };
        let row = MessageRow { head, body: Bytes::from(body) };
        Ok(Ready { row, delay_ms: delay_s * 1000, size, md5_of_attributes, md5_of_system_attributes })
    }
}

/// Reads the one system attribute that a sender may set.
fn system(given: BTreeMap<String, GivenAttribute>) -> Result<(Option<String>, Option<String>), Error> {
    if let Some(other) = given.keys().find(|name| *name != "AWSTraceHeader") {
        return Err(Error::InvalidParameterValue(format!(
            "Message system attribute name '{other}' is invalid; only AWSTraceHeader can be sent."
        )));
    }
    // The name is one that users' attributes may not have, so it is checked under another.
    let given = given.into_values().map(|value| ("trace".to_owned(), value)).collect();
    let read: Attributes = message::attributes(given)?;
    let Some(attribute) = read.into_values().next() else { return Ok((None, None)) };
    let md5 = md5_of_attributes([("AWSTraceHeader", &attribute)]);
    match attribute.value {
        message::Value::Text(text) => Ok((Some(text), md5)),
        message::Value::Binary(_) => Err(Error::InvalidParameterValue(
            "The message system attribute 'AWSTraceHeader' must be a string.".to_owned(),
        )),
    }
}

/// Puts messages into a queue, all in one commit.
async fn put(scope: &Scope, mut queue: Queue, messages: &mut [Ready]) -> Result<(), Error> {
    let delays: Vec<_> = messages.iter().map(|message| message.delay_ms).collect();
    loop {
        let desk = scope.desk(&queue);
        let (now, pending) = desk.pending(&scope.inner.env, &delays);
        let mut encoded = Vec::with_capacity(messages.len());
        for message in messages.iter_mut() {
            message.row.head.sent_ms = now;
            message.row.head.due_ms = now.saturating_add(message.delay_ms);
            encoded.push((message.row.head.due_ms, store::Table::<MessageRow>::encode(&message.row)));
        }
        let (account, bag, name) = (queue.account, queue.row.bag, queue.row.name.clone());
        let reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
        let known = queue.clone();
        let sent = scope.inner.store.transact(reads, move |pages, version| {
            let Some(row) = known.is_still(&pages[0])? else { return Ok((Vec::new(), false)) };
            let mut of_bag = BAGS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            let mut writes = Vec::with_capacity(2 * encoded.len() + 2);
            for (index, (due_ms, value)) in encoded.iter().enumerate() {
                let number = number(version, index);
                let place = Place { due_ms: *due_ms, number };
                writes.push(PLACES.put(place_key(account, bag, place), &PlaceRow::Sent));
                writes.push(Write::Put(message_key(account, bag, number), value.clone()));
                of_bag.head_ms = of_bag.head_ms.min(*due_ms);
                of_bag.messages += 1;
            }
            if of_bag.sweep_ms == 0 {
                of_bag.sweep_ms = now.saturating_add(i64::from(row.settings.retention_s) * 1000);
                let key = expiry_key(of_bag.sweep_ms, account, bag);
                writes.push(EXPIRY.put(key, &ExpiryRow { queue: name.clone() }));
            }
            writes.push(BAGS.put(bag_key(account, bag), &of_bag));
            Ok::<_, Error>((writes, true))
        });
        let sent = sent.await;
        drop(pending);
        if sent? {
            return Ok(());
        }
        queue = scope.named(account, &queue.row.name).await?.there()?;
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct SendMessage {
    queue_url: Option<String>,
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_system_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

/// A message that was sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    message_id: String,
    #[serde(rename = "MD5OfMessageBody")]
    md5_of_body: String,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_attributes: Option<String>,
    #[serde(rename = "MD5OfMessageSystemAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_system_attributes: Option<String>,
}

impl Sent {
    fn new(id: Option<String>, message: Ready) -> Self {
        Self {
            id,
            message_id: message.row.head.id,
            md5_of_body: message.row.head.md5,
            md5_of_attributes: message.md5_of_attributes,
            md5_of_system_attributes: message.md5_of_system_attributes,
        }
    }
}

impl Input<Scope> for SendMessage {
    const NAME: &'static str = "SendMessage";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let given = Given {
            message_body: self.message_body,
            delay_seconds: self.delay_seconds,
            message_attributes: self.message_attributes,
            message_system_attributes: self.message_system_attributes,
            message_group_id: self.message_group_id,
            message_deduplication_id: self.message_deduplication_id,
        };
        let mut messages = [given.ready(&scope, &queue)?];
        put(&scope, queue, &mut messages).await?;
        let [message] = messages;
        Ok(aws::json::output(&Sent::new(None, message)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct SendMessageBatch {
    queue_url: Option<String>,
    entries: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Entry {
    id: String,
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_system_attributes: Option<BTreeMap<String, GivenAttribute>>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

impl Input<Scope> for SendMessageBatch {
    const NAME: &'static str = "SendMessageBatch";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), "SendMessage").await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let entries = self.entries.unwrap_or_default();
        check_batch(entries.iter().map(|entry| entry.id.as_str()), "SendMessageBatchRequestEntry")?;
        let (mut ids, mut messages, mut failed, mut found) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for entry in entries {
            let given = Given {
                message_body: entry.message_body,
                delay_seconds: entry.delay_seconds,
                message_attributes: entry.message_attributes,
                message_system_attributes: entry.message_system_attributes,
                message_group_id: entry.message_group_id,
                message_deduplication_id: entry.message_deduplication_id,
            };
            match given.ready(&scope, &queue) {
                Ok(message) => {
                    found += message.size;
                    ids.push(entry.id);
                    messages.push(message);
                }
                Err(error) => failed.push(Failed::new(entry.id, &error)),
            }
        }
        let limit = MAX_MESSAGE_BYTES as usize;
        if found > limit {
            return Err(Error::BatchRequestTooLong { found, limit });
        }
        if !messages.is_empty() {
            put(&scope, queue, &mut messages).await?;
        }
        let successful =
            ids.into_iter().zip(messages).map(|(id, message)| Sent::new(Some(id), message)).collect();
        Ok(aws::json::output(&BatchAnswer { successful, failed }))
    }
}
