//! GetQueueAttributes, SetQueueAttributes.

use std::collections::BTreeMap;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};
use store::key::{after, prefix_end};
use store::{Range, Read, Write};

use super::queues::{check_policy, check_redrive};
use super::{Input, one_queue};
use crate::Error;
use crate::attributes::is_known;
use crate::find::{Found, Queue};
use crate::service::Scope;
use crate::tables::{
    BAGS, EXPIRY, ExpiryRow, PLACES, Place, PlaceRow, QUEUES, QueueRow, SOURCES, SourceRow, bag_key,
    expiry_key, place_key, queue_key, source_key,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GetQueueAttributes {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
}

/// How many messages there are of each kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    visible: u64,
    received: u64,
    delayed: u64,
}

/// Counts what can not be received now, and takes it from all there are.
async fn count(scope: &Scope, queue: &Queue) -> Result<Counts, Error> {
    let (account, bag, store) = (queue.account, queue.row.bag, &scope.inner.store);
    let all = BAGS.get(store, bag_key(account, bag)).await?.map_or(0, |row| row.value.messages);
    let mut counts = Counts::default();
    let prefix = PLACES.key(account, |k| {
        k.u64(bag);
    });
    let start = place_key(account, bag, Place::at(scope.now_ms().saturating_add(1)));
    let mut range =
        Range { start, end: prefix_end(&prefix), limit: 1000, limit_bytes: 1 << 20, reverse: false };
    loop {
        let (rows, more) = PLACES.scan(store, range.clone()).await?;
        for row in &rows {
            match row.value {
                PlaceRow::Sent => counts.delayed += 1,
                PlaceRow::Received => counts.received += 1,
            }
        }
        match rows.last() {
            Some(last) if more => range.start = after(&last.key),
            _ => break,
        }
    }
    counts.visible = all.saturating_sub(counts.delayed + counts.received);
    Ok(counts)
}

impl Input<Scope> for GetQueueAttributes {
    const NAME: &'static str = "GetQueueAttributes";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let names = self.attribute_names.unwrap_or_default();
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            return Err(Error::InvalidAttributeName(unknown.clone()));
        }
        let asked = |name: &str| names.iter().any(|asked| asked == "All" || asked == name);
        let mut shown = queue.row.settings.shown();
        shown.insert("QueueArn", queue.arn.clone());
        shown.insert("CreatedTimestamp", (queue.row.created_ms / 1000).to_string());
        shown.insert("LastModifiedTimestamp", (queue.row.modified_ms / 1000).to_string());
        let numbers = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        if numbers.iter().any(|name| asked(name)) {
            let counts = count(&scope, &queue).await?;
            for (name, number) in numbers.into_iter().zip([counts.visible, counts.received, counts.delayed]) {
                shown.insert(name, number.to_string());
            }
        }
        shown.retain(|name, _| asked(name));
        Ok(aws::json::output(&Attributes { attributes: shown }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct SetQueueAttributes {
    queue_url: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
}

impl Input<Scope> for SetQueueAttributes {
    const NAME: &'static str = "SetQueueAttributes";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let given = self.attributes.ok_or(Error::MissingParameter("Attributes"))?;
        change(&scope, queue, move |row, scope, owner| {
            row.settings.apply(&given, owner)?;
            check_policy(scope, &row.settings)
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

/// Changes what is set of a queue, in one commit. `change` sees it as it is then, and may see it again.
pub(super) async fn change(
    scope: &Scope,
    queue: Queue,
    change: impl Fn(&mut QueueRow, &Scope, crate::attributes::Owner<'_>) -> Result<(), Error>
    + Send
    + Sync
    + 'static,
) -> Result<(), Error> {
    let (account, name, now) = (queue.account, queue.row.name.clone(), scope.now_ms());
    let change = std::sync::Arc::new(change);
    loop {
        let found = scope.named(account, &name).await?.there()?;
        let mut row = QueueRow::clone(&found.row);
        let owner = crate::attributes::Owner { account, region: &scope.inner.region };
        // What is wrong with it is found here, where nobody waits for it.
        change(&mut row, scope, owner)?;
        row.modified_ms = now;
        let target = row.settings.redrive.as_ref().map_or("", |redrive| &redrive.queue);
        let bag = found.row.bag;
        let reads = vec![
            Read::Key(queue_key(account, &name)),
            Read::Key(queue_key(account, target)),
            Read::Key(bag_key(account, bag)),
        ];
        let (before, arn) = (found.row.clone(), found.arn.clone());
        let name = name.clone();
        let changed = scope.inner.store.transact(reads, move |pages, _| {
            let stored = QUEUES.first(&pages[0])?.ok_or(Error::QueueDoesNotExist)?.value;
            if stored.id != before.id {
                return Err(Error::QueueDoesNotExist);
            }
            let same = stored.settings == before.settings && stored.tags == before.tags && stored.bag == bag;
            if !same {
                return Ok((Vec::new(), false));
            }
            if before.settings.redrive != row.settings.redrive {
                check_redrive(&row.settings, &arn, &pages[1])?;
            }
            let mut writes = vec![QUEUES.put(queue_key(account, &name), &row)];
            let target = |row: &QueueRow| row.settings.redrive.as_ref().map(|redrive| redrive.queue.clone());
            if target(&before) != target(&row) {
                writes.extend(target(&before).map(|to| Write::Delete(source_key(account, &to, &name))));
                writes.extend(
                    target(&row).map(|to| SOURCES.put(source_key(account, &to, &name), &SourceRow {})),
                );
            }
            if before.settings.retention_s != row.settings.retention_s
                && let Some(stored) = BAGS.first(&pages[2])?.filter(|stored| stored.value.sweep_ms != 0)
            {
                // Some messages may have expired just now.
                let mut of_bag = stored.value;
                writes.push(Write::Delete(expiry_key(of_bag.sweep_ms, account, bag)));
                of_bag.sweep_ms = now;
                writes.push(BAGS.put(stored.key, &of_bag));
                writes.push(EXPIRY.put(expiry_key(now, account, bag), &ExpiryRow { queue: name.clone() }));
            }
            Ok::<_, Error>((writes, true))
        });
        if changed.await? {
            scope.inner.sweep.notify_one();
            return Ok(());
        }
    }
}
