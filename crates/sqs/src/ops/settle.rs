//! DeleteMessage, ChangeMessageVisibility, and their batches: what becomes of messages that were received.

use std::collections::HashSet;

use aws::{Access, Response};
use serde::Deserialize;
use store::{Read, Write};
use subtle::ConstantTimeEq;

use super::{BatchAnswer, Failed, Input, Succeeded, check_batch, one_queue};
use crate::Error;
use crate::find::{Found, Queue};
use crate::receipt::Handle;
use crate::service::Scope;
use crate::tables::{
    BAGS, PLACES, Place, PlaceRow, RECEIPTS, ReceiptRow, bag_key, message_key, place_key, receipt_key,
};

/// How long a message can be hidden, from its receive on, in seconds.
const LONGEST_S: i64 = 43_200;

/// Whether a handle is that of the last receive of its message.
fn is_last(receipt: &ReceiptRow, handle: &Handle) -> bool {
    receipt.nonce.ct_eq(&handle.nonce).into()
}

/// Deletes messages, all in one commit. Those that are gone already, or have been received again, are passed over.
async fn delete(scope: &Scope, queue: &Queue, handles: Vec<Handle>) -> Result<(), Error> {
    let (account, bag) = (queue.account, queue.row.bag);
    let handles: Vec<_> = handles.into_iter().filter(|handle| handle.bag == bag).collect();
    if handles.is_empty() {
        return Ok(());
    }
    let low_ms = scope.desk(queue).low_ms();
    let mut reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
    reads.extend(handles.iter().map(|handle| Read::Key(receipt_key(account, bag, handle.number))));
    let known = queue.clone();
    let deleted = scope.inner.store.transact(reads, move |pages, _| {
        if known.is_still(&pages[0])?.is_none() {
            return Ok((Vec::new(), ()));
        }
        let mut of_bag = BAGS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
        let (mut writes, mut seen) = (Vec::new(), HashSet::new());
        for (handle, page) in handles.iter().zip(&pages[2..]) {
            let Some(receipt) = RECEIPTS.first(page)?.map(|stored| stored.value) else { continue };
            if !is_last(&receipt, handle) || !seen.insert(handle.number) {
                continue;
            }
            let place = Place { due_ms: receipt.due_ms, number: handle.number };
            writes.push(Write::Delete(place_key(account, bag, place)));
            writes.push(Write::Delete(message_key(account, bag, handle.number)));
            writes.push(Write::Delete(receipt_key(account, bag, handle.number)));
            of_bag.messages = of_bag.messages.saturating_sub(1);
        }
        if !writes.is_empty() {
            if let Some(low_ms) = low_ms {
                of_bag.head_ms = of_bag.head_ms.max(low_ms);
            }
            writes.push(BAGS.put(bag_key(account, bag), &of_bag));
        }
        Ok::<_, Error>((writes, ()))
    });
    deleted.await
}

/// Hides messages for that many seconds from now on, all in one commit; what became of each.
async fn hide(
    scope: &Scope,
    queue: &Queue,
    handles: Vec<(Handle, i64)>,
) -> Result<Vec<Result<(), Error>>, Error> {
    let (account, bag) = (queue.account, queue.row.bag);
    let delays: Vec<_> = handles.iter().map(|(_, seconds)| seconds * 1000).collect();
    let (now, pending) = scope.desk(queue).pending(&scope.inner.env, &delays);
    let mut reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
    reads.extend(handles.iter().map(|(handle, _)| Read::Key(receipt_key(account, bag, handle.number))));
    let known = queue.clone();
    let hidden = scope.inner.store.transact(reads, move |pages, _| {
        let still = known.is_still(&pages[0])?.is_some();
        let mut of_bag = BAGS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
        let (mut writes, mut outcomes, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for ((handle, seconds), page) in handles.iter().zip(&pages[2..]) {
            let receipt = RECEIPTS.first(page)?.map(|stored| stored.value);
            let receipt = receipt.filter(|receipt| still && handle.bag == bag && is_last(receipt, handle));
            let Some(mut receipt) = receipt.filter(|_| seen.insert(handle.number)) else {
                outcomes.push(Err(Error::value(
                    handle.text(),
                    "ReceiptHandle",
                    "Message does not exist or is not available for visibility timeout change.",
                )));
                continue;
            };
            if receipt.due_ms <= now {
                outcomes.push(Err(Error::MessageNotInflight));
                continue;
            }
            let due_ms = now.saturating_add(seconds * 1000);
            if due_ms > receipt.last_ms.saturating_add(LONGEST_S * 1000) {
                outcomes.push(Err(Error::InvalidParameterValue(format!(
                    "Total VisibilityTimeout for the message is beyond the limit [{LONGEST_S} seconds]"
                ))));
                continue;
            }
            let before = Place { due_ms: receipt.due_ms, number: handle.number };
            writes.push(Write::Delete(place_key(account, bag, before)));
            receipt.due_ms = due_ms;
            let after = Place { due_ms, number: handle.number };
            writes.push(PLACES.put(place_key(account, bag, after), &PlaceRow::Received));
            writes.push(RECEIPTS.put(receipt_key(account, bag, handle.number), &receipt));
            of_bag.head_ms = of_bag.head_ms.min(due_ms);
            outcomes.push(Ok(()));
        }
        if !writes.is_empty() {
            writes.push(BAGS.put(bag_key(account, bag), &of_bag));
        }
        Ok::<_, Error>((writes, outcomes))
    });
    let hidden = hidden.await;
    drop(pending);
    hidden
}

fn check_timeout(seconds: Option<i64>) -> Result<i64, Error> {
    let seconds = seconds.ok_or(Error::MissingParameter("VisibilityTimeout"))?;
    if !(0..=LONGEST_S).contains(&seconds) {
        let reason = format!("VisibilityTimeout must be between 0 and {LONGEST_S} seconds.");
        return Err(Error::value(seconds, "VisibilityTimeout", &reason));
    }
    Ok(seconds)
}

fn handle(text: Option<&str>, queue: &Queue) -> Result<Handle, Error> {
    Handle::read(text.ok_or(Error::MissingParameter("ReceiptHandle"))?, queue.row.id)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DeleteMessage {
    queue_url: Option<String>,
    receipt_handle: Option<String>,
}

impl Input<Scope> for DeleteMessage {
    const NAME: &'static str = "DeleteMessage";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let handle = handle(self.receipt_handle.as_deref(), &queue)?;
        delete(&scope, &queue, vec![handle]).await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DeleteMessageBatch {
    queue_url: Option<String>,
    entries: Option<Vec<DeleteEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteEntry {
    id: String,
    receipt_handle: Option<String>,
}

impl Input<Scope> for DeleteMessageBatch {
    const NAME: &'static str = "DeleteMessageBatch";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), "DeleteMessage").await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let entries = self.entries.unwrap_or_default();
        check_batch(entries.iter().map(|entry| entry.id.as_str()), "DeleteMessageBatchRequestEntry")?;
        let (mut handles, mut successful, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            match handle(entry.receipt_handle.as_deref(), &queue) {
                Ok(handle) => {
                    handles.push(handle);
                    successful.push(Succeeded { id: entry.id });
                }
                Err(error) => failed.push(Failed::new(entry.id, &error)),
            }
        }
        delete(&scope, &queue, handles).await?;
        Ok(aws::json::output(&BatchAnswer { successful, failed }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ChangeMessageVisibility {
    queue_url: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

impl Input<Scope> for ChangeMessageVisibility {
    const NAME: &'static str = "ChangeMessageVisibility";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let seconds = check_timeout(self.visibility_timeout)?;
        let handle = handle(self.receipt_handle.as_deref(), &queue)?;
        for outcome in hide(&scope, &queue, vec![(handle, seconds)]).await? {
            outcome?;
        }
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ChangeMessageVisibilityBatch {
    queue_url: Option<String>,
    entries: Option<Vec<HideEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HideEntry {
    id: String,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

impl Input<Scope> for ChangeMessageVisibilityBatch {
    const NAME: &'static str = "ChangeMessageVisibilityBatch";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), "ChangeMessageVisibility").await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let entries = self.entries.unwrap_or_default();
        let kind = "ChangeMessageVisibilityBatchRequestEntry";
        check_batch(entries.iter().map(|entry| entry.id.as_str()), kind)?;
        let (mut ids, mut handles, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let read = check_timeout(entry.visibility_timeout)
                .and_then(|seconds| Ok((handle(entry.receipt_handle.as_deref(), &queue)?, seconds)));
            match read {
                Ok(read) => {
                    ids.push(entry.id);
                    handles.push(read);
                }
                Err(error) => failed.push(Failed::new(entry.id, &error)),
            }
        }
        let mut successful = Vec::new();
        for (id, outcome) in ids.into_iter().zip(hide(&scope, &queue, handles).await?) {
            match outcome {
                Ok(()) => successful.push(Succeeded { id }),
                Err(error) => failed.push(Failed::new(id, &error)),
            }
        }
        Ok(aws::json::output(&BatchAnswer { successful, failed }))
    }
}
