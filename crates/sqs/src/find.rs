//! Finds queues by their URLs, and says what rights their use needs.

use std::sync::Arc;

use aws::{Access, Guard};
use store::{Page, Read};
use types::AccountId;

use crate::Error;
use crate::desk::Desk;
use crate::service::Scope;
use crate::tables::{QUEUES, QueueRow, queue_key};

/// A queue that a request names.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) arn: String,
    row: Option<Arc<QueueRow>>,
}

/// A queue that is there.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) account: AccountId,
    pub(crate) arn: String,
    pub(crate) row: Arc<QueueRow>,
}

/// The account and the name in a queue's URL: the last two parts of its path, whatever host it has.
fn read_url(url: &str) -> Option<(AccountId, &str)> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let (rest, name) = path.rsplit_once('/')?;
    let account = rest.rsplit('/').next()?.parse().ok()?;
    (!name.is_empty()).then_some((account, name))
}

impl Scope {
    /// The queue that a URL names.
    pub(crate) async fn queue(&self, url: &str) -> Result<Found, Error> {
        let (account, name) = read_url(url).ok_or_else(|| Error::InvalidAddress(url.to_owned()))?;
        self.named(account, name).await
    }

    /// The queue of that name.
    pub(crate) async fn named(&self, account: AccountId, name: &str) -> Result<Found, Error> {
        let row = QUEUES.get(&self.inner.store, queue_key(account, name)).await?;
        Ok(Found {
            account,
            name: name.to_owned(),
            arn: self.inner.arn(account, name),
            row: row.map(|row| Arc::new(row.value)),
        })
    }

    pub(crate) fn desk(&self, queue: &Queue) -> Arc<Desk> {
        self.inner.desks.of(queue.account, queue.row.bag)
    }
}

impl Found {
    /// The right to do something with the queue, which its own policy may give to others.
    pub(crate) fn access(&self, scope: &Scope, action: &str) -> Access {
        let mut access = Access::new(format!("sqs:{action}"), self.arn.clone());
        for (key, value) in [("aws:SourceArn", &scope.cause.arn), ("aws:SourceAccount", &scope.cause.account)]
        {
            if let Some(value) = value {
                access = access.with(key, vec![value.clone()]);
            }
        }
        let Some(row) = &self.row else { return access };
        for (name, value) in &row.tags {
            access = access.with(format!("aws:ResourceTag/{name}"), vec![value.clone()]);
        }
        access.guard = Some(Arc::new(Guard {
            owner: self.account,
            policy: row.settings.policy.as_deref().map(Arc::from),
            restricted: false,
            granted: false,
            decisive: false,
        }));
        access
    }

    /// The queue, if it is there.
    pub(crate) fn there(self) -> Result<Queue, Error> {
        let row = self.row.ok_or(Error::QueueDoesNotExist)?;
        Ok(Queue { account: self.account, arn: self.arn, row })
    }
}

impl Queue {
    /// A read of its row, for [`Queue::is_still`].
    pub(crate) fn read(&self) -> Read {
        Read::Key(queue_key(self.account, &self.row.name))
    }

    /// The queue as it is now; an error if it is gone, `None` if its messages are in another bag by now.
    pub(crate) fn is_still(&self, page: &Page) -> Result<Option<QueueRow>, Error> {
        let row = QUEUES.first(page)?.map(|stored| stored.value).filter(|row| row.id == self.row.id);
        let row = row.ok_or(Error::QueueDoesNotExist)?;
        Ok((row.bag == self.row.bag).then_some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_queues_whatever_their_host() {
        for url in [
            "http://127.0.0.1:4566/000000000000/q",
            "https://sqs.us-east-1.amazonaws.com/000000000000/q",
            "http://localhost/queue/us-east-1/000000000000/q/",
            "000000000000/q",
        ] {
            assert_eq!(read_url(url), Some((AccountId::DEFAULT, "q")), "{url}");
        }
        for url in ["", "q", "http://127.0.0.1:4566/q", "http://h/x/q", "http://h/"] {
            assert_eq!(read_url(url), None, "{url}");
        }
    }
}
