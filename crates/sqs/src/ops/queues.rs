//! CreateQueue, DeleteQueue, PurgeQueue, GetQueueUrl, ListQueues, ListDeadLetterSourceQueues.

use std::collections::BTreeMap;

use aws::{Access, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use store::key::{KeyReader, after};
use store::{Key, Page, Range, Read, Write};
use types::AccountId;

use super::{Input, one_queue, tags};
use crate::Error;
use crate::attributes::{Settings, fifo};
use crate::find::Found;
use crate::service::Scope;
use crate::tables::{
    BAGS, DROPPED, DroppedRow, QUEUES, QueueRow, SOURCES, SourceRow, bag_key, dropped_key, expiry_key,
    queue_key, source_key,
};

/// How long after a purge a queue is not purged again.
const PURGE_MS: i64 = 60_000;

fn check_name(name: &str) -> Result<(), Error> {
    if name.ends_with(".fifo") {
        return Err(fifo());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 80 || !name.chars().all(plain) {
        return Err(Error::value(
            name,
            "QueueName",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    Ok(())
}

/// Checks the policy of a queue before it is kept.
pub(super) fn check_policy(scope: &Scope, settings: &Settings) -> Result<(), Error> {
    let Some(policy) = &settings.policy else { return Ok(()) };
    let checked = scope.inner.policies.check(policy);
    checked.map(drop).map_err(|_| Error::InvalidAttributeValue("Policy".to_owned()))
}

/// Whether the dead-letter queue that is set is there and allows it; `page` is its row.
pub(super) fn check_redrive(settings: &Settings, arn: &str, page: &Page) -> Result<(), Error> {
    let Some(redrive) = &settings.redrive else { return Ok(()) };
    let invalid = |reason: &str| Error::value(&redrive.text, "RedrivePolicy", reason);
    let Some(target) = QUEUES.first(page)? else {
        return Err(invalid("Dead letter target does not exist."));
    };
    let allow = target.value.settings.redrive_allow;
    if allow.is_some_and(|allow| !allow.allows(arn)) {
        return Err(invalid("Queue does not have permission to redrive to the dead letter target."));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct CreateQueue {
    queue_name: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    #[serde(alias = "Tags", rename = "tags")]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueueUrl {
    queue_url: String,
}

impl Input<Scope> for CreateQueue {
    const NAME: &'static str = "CreateQueue";
    type Found = String;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, String), Error> {
        let name = self.queue_name.clone().ok_or(Error::MissingParameter("QueueName"))?;
        check_name(&name)?;
        let arn = scope.inner.arn(scope.account, &name);
        let mut needs = vec![Access::new("sqs:CreateQueue", arn.clone())];
        if let Some(given) = self.tags.as_ref().filter(|tags| !tags.is_empty()) {
            needs = vec![tags::with_request(Access::new("sqs:CreateQueue", arn.clone()), given)];
            needs.push(tags::with_request(Access::new("sqs:TagQueue", arn), given));
        }
        Ok((needs, name))
    }

    async fn run(self, scope: Scope, name: String) -> Result<Response, Error> {
        let given = self.attributes.unwrap_or_default();
        let tags = self.tags.unwrap_or_default();
        tags::check(&tags)?;
        let mut settings = Settings::default();
        settings.apply(&given, scope.owner())?;
        check_policy(&scope, &settings)?;
        let (account, now) = (scope.account, scope.now_ms());
        let target = settings.redrive.as_ref().map_or("", |redrive| &redrive.queue);
        let reads = vec![Read::Key(queue_key(account, &name)), Read::Key(queue_key(account, target))];
        let row = QueueRow {
            id: scope.inner.random(),
            name: name.clone(),
            bag: scope.inner.random(),
            created_ms: now,
            modified_ms: now,
            purged_ms: None,
            settings,
            tags,
        };
        let (arn, inner) = (scope.inner.arn(account, &name), scope.inner.clone());
        inner
            .store
            .transact(reads, {
                let scope = scope.clone();
                move |pages, _| {
                    if let Some(there) = QUEUES.first(&pages[0])? {
                        let difference = there.value.settings.difference(&given, scope.owner())?;
                        return match difference {
                            None => Ok((Vec::new(), ())),
                            Some(attribute) => Err(Error::QueueNameExists(attribute)),
                        };
                    }
                    check_redrive(&row.settings, &arn, &pages[1])?;
                    let mut writes = vec![QUEUES.put(queue_key(account, &row.name), &row)];
                    if let Some(redrive) = &row.settings.redrive {
                        let key = source_key(account, &redrive.queue, &row.name);
                        writes.push(SOURCES.put(key, &SourceRow {}));
                    }
                    Ok((writes, ()))
                }
            })
            .await?;
        Ok(aws::json::output(&QueueUrl { queue_url: scope.url(account, &name) }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GetQueueUrl {
    queue_name: Option<String>,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: Option<String>,
}

impl Input<Scope> for GetQueueUrl {
    const NAME: &'static str = "GetQueueUrl";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let name = self.queue_name.as_deref().ok_or(Error::MissingParameter("QueueName"))?;
        let account = match &self.owner {
            None => scope.account,
            Some(owner) => owner.parse().map_err(|_| Error::QueueDoesNotExist)?,
        };
        let found = scope.named(account, name).await?;
        Ok((vec![found.access(scope, Self::NAME)], found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        Ok(aws::json::output(&QueueUrl { queue_url: scope.url(queue.account, &queue.row.name) }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DeleteQueue {
    queue_url: Option<String>,
}

impl Input<Scope> for DeleteQueue {
    const NAME: &'static str = "DeleteQueue";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let mut found = found;
        loop {
            let queue = found.there()?;
            let (account, name, bag) = (queue.account, queue.row.name.clone(), queue.row.bag);
            let reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
            let known = queue.clone();
            let gone = scope.inner.store.transact(reads, move |pages, _| {
                let Some(row) = known.is_still(&pages[0])? else { return Ok((Vec::new(), false)) };
                let mut writes = vec![Write::Delete(queue_key(account, &name))];
                if let Some(redrive) = &row.settings.redrive {
                    writes.push(Write::Delete(source_key(account, &redrive.queue, &name)));
                }
                writes.extend(drop_bag(account, bag, &pages[1])?);
                Ok::<_, Error>((writes, true))
            });
            if gone.await? {
                scope.inner.desks.wake(account, bag);
                scope.inner.sweep.notify_one();
                return Ok(aws::json::empty(200));
            }
            // It was purged meanwhile: its messages are elsewhere.
            found = scope.named(account, &queue.row.name).await?;
        }
    }
}

/// Leaves a bag to the sweeper; `page` is its row.
fn drop_bag(account: AccountId, bag: u64, page: &Page) -> Result<Vec<Write>, Error> {
    let mut writes = vec![DROPPED.put(dropped_key(account, bag), &DroppedRow {})];
    if let Some(row) = BAGS.first(page)?.filter(|row| row.value.sweep_ms != 0) {
        writes.push(Write::Delete(expiry_key(row.value.sweep_ms, account, bag)));
    }
    Ok(writes)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct PurgeQueue {
    queue_url: Option<String>,
}

impl Input<Scope> for PurgeQueue {
    const NAME: &'static str = "PurgeQueue";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let (account, name, bag) = (queue.account, queue.row.name.clone(), queue.row.bag);
        let (now, next) = (scope.now_ms(), scope.inner.random());
        let reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
        let known = queue.clone();
        let purged = scope.inner.store.transact(reads, move |pages, _| {
            let in_progress = || Error::PurgeQueueInProgress(name.clone());
            // In another bag by now: somebody has just purged it.
            let mut row = known.is_still(&pages[0])?.ok_or_else(in_progress)?;
            if row.purged_ms.is_some_and(|at| (at..at.saturating_add(PURGE_MS)).contains(&now)) {
                return Err(in_progress());
            }
            row.purged_ms = Some(now);
            row.bag = next;
            let mut writes = vec![QUEUES.put(queue_key(account, &name), &row)];
            writes.extend(drop_bag(account, bag, &pages[1])?);
            Ok((writes, ()))
        });
        purged.await?;
        scope.inner.desks.wake(account, bag);
        scope.inner.sweep.notify_one();
        Ok(aws::json::empty(200))
    }
}

/// How many things a page has.
fn page_size(asked: Option<i64>) -> Result<usize, Error> {
    let Some(asked) = asked else { return Ok(1000) };
    usize::try_from(asked)
        .ok()
        .filter(|asked| (1..=1000).contains(asked))
        .ok_or_else(|| Error::value(asked, "MaxResults", "Must be between 1 and 1000, if provided."))
}

/// Where a page begins.
fn begin(token: Option<&str>, range: &mut Range) -> Result<(), Error> {
    let Some(token) = token else { return Ok(()) };
    let invalid = || Error::InvalidParameterValue("Invalid NextToken value.".to_owned());
    let key: Key = BASE64.decode(token).map_err(|_| invalid())?.into();
    if !(range.start <= key && key < range.end) {
        return Err(invalid());
    }
    range.start = after(&key);
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListQueues {
    queue_name_prefix: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Queues {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Input<Scope> for ListQueues {
    const NAME: &'static str = "ListQueues";
    type Found = ();

    async fn find(&self, _scope: &Scope) -> Result<(Vec<Access>, ()), Error> {
        Ok((vec![Access::new("sqs:ListQueues", "*")], ()))
    }

    async fn run(self, scope: Scope, (): ()) -> Result<Response, Error> {
        let limit = page_size(self.max_results)?;
        let prefix = self.queue_name_prefix.unwrap_or_default();
        let mut range = QUEUES.range(scope.account, limit, |k| {
            k.raw(prefix.as_bytes());
        });
        begin(self.next_token.as_deref(), &mut range)?;
        let (rows, more) = QUEUES.scan(&scope.inner.store, range).await?;
        // A page is only told of as one of several if pages were asked for.
        let paged = self.max_results.is_some();
        let next_token = rows.last().filter(|_| more && paged).map(|row| BASE64.encode(&row.key));
        let queue_urls = rows.iter().map(|row| scope.url(scope.account, &row.value.name)).collect();
        Ok(aws::json::output(&Queues { queue_urls, next_token }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListDeadLetterSourceQueues {
    queue_url: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sources {
    #[serde(rename = "queueUrls")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Input<Scope> for ListDeadLetterSourceQueues {
    const NAME: &'static str = "ListDeadLetterSourceQueues";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let limit = page_size(self.max_results)?;
        let mut range = SOURCES.range(queue.account, limit, |k| {
            k.text(&queue.row.name);
        });
        begin(self.next_token.as_deref(), &mut range)?;
        let page = scope.inner.store.scan(range).await?;
        let mut queue_urls = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            let mut key = KeyReader::new(&entry.key)?;
            key.text()?;
            queue_urls.push(scope.url(queue.account, &key.text()?));
        }
        let paged = self.max_results.is_some();
        let last = page.entries.last().filter(|_| page.more && paged);
        let next_token = last.map(|entry| BASE64.encode(&entry.key));
        Ok(aws::json::output(&Sources { queue_urls, next_token }))
    }
}
