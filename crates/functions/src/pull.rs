//! Bringing functions the images that they wait for.
//!
//! Invariants: a function that waits has a row in [`PULLS`] from the commit that made it wait to the one that ends
//! that, so a restart goes on with it. What it runs on changes in one commit, once the image is on disk; what it gets
//! is the digest that its name stood for when it was deployed.

use std::sync::Arc;
use std::time::Duration;

use store::{Read, Write, tables};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{AccountId, RequestId};

use crate::Error;
use crate::code::{Uploaded, Uses};
use crate::registry::{PullError, Reference};
use crate::service::Inner;
use crate::tables::{
    FUNCTIONS, FunctionRow, ImageRow, PULLS, PullFailure, PullRow, TOTALS, VERSIONS, by_name, by_number,
    totals_key,
};

/// Images that are taken at the same time: more would only share the same line.
const AT_ONCE: usize = 4;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// How long to wait before trying again what failed in passing.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];

/// What is under way.
#[derive(Debug)]
pub(crate) struct Pulls {
    permits: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Default for Pulls {
    fn default() -> Self {
        let permits = Semaphore::new(AT_ONCE);
        Self { permits, stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }
}

impl Pulls {
    /// Leaves what is under way to the next start.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Why a function did not get its image.
enum Trouble {
    /// Its own, or its registry's.
    Image(PullError),
    /// The node's.
    Node(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Node(error)
    }
}

impl From<PullError> for Trouble {
    fn from(error: PullError) -> Self {
        Self::Image(error)
    }
}

/// What a commit has come to.
enum Step {
    /// The function has it.
    Done(Box<FunctionRow>),
    /// Nobody waits for it any more.
    Unwanted,
    /// Something changed: look again.
    Again,
    /// The package is not there any more: get it again.
    Lost,
}

impl Inner {
    /// Goes on with what a stopped node has left.
    pub(crate) async fn find_pulls(self: &Arc<Self>) {
        let mut from = Some(AccountId::DEFAULT);
        while let Some(account) = from {
            let found = async {
                let Some(found) = self.store.next_account(tables::FUNCTION_PULLS, account).await? else {
                    return Ok(None);
                };
                let page = self.store.scan(PULLS.range(found, 10_000, |_| {})).await?;
                for entry in &page.entries {
                    let name = store::key::KeyReader::new(&entry.key).and_then(|mut key| key.text());
                    if let Ok(name) = name {
                        self.pull(found, &name);
                    }
                }
                Ok::<_, store::Error>(Some(found))
            };
            match found.await {
                Ok(found) => from = found.and_then(|found| AccountId::from_number(found.number() + 1)),
                Err(error) => {
                    tracing::warn!(%error, "images that functions wait for could not be looked for");
                    return;
                }
            }
        }
    }

    /// Begins to bring a function its image.
    pub(crate) fn pull(self: &Arc<Self>, account: AccountId, name: &str) {
        let (inner, name) = (self.clone(), name.to_owned());
        let stop = self.pulls.stop.clone();
        self.pulls.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                brought = inner.bring(account, &name) => {
                    if let Err(error) = brought {
                        tracing::error!(function = name, %error, "an image could not be brought; the next start tries again");
                    }
                }
            }
        });
    }

    async fn bring(self: &Arc<Self>, account: AccountId, name: &str) -> Result<(), Error> {
        let _permit = self.pulls.permits.acquire().await;
        let row = FUNCTIONS.get(&self.store, by_name(&FUNCTIONS, account, name)).await?;
        let Some(pull) = row.and_then(|row| row.value.pulling().cloned()) else {
            return self.forget(account, name).await;
        };
        let mut waits = WAITS.iter();
        loop {
            let error = match self.take(account, name, &pull).await {
                Ok(Some(row)) => {
                    self.code_may_be_unused(account);
                    self.changed(account, name, true);
                    self.prepare(account, &row);
                    return Ok(());
                }
                Ok(None) => {
                    self.code_may_be_unused(account);
                    return self.forget(account, name).await;
                }
                Err(Trouble::Node(error)) => return Err(error),
                Err(Trouble::Image(error)) => error,
            };
            tracing::warn!(function = name, image = pull.uri, %error, "an image could not be taken");
            match waits.next().filter(|_| error.is_passing()) {
                Some(wait) => self.env.sleep(*wait).await,
                None => {
                    self.fail(account, name, pull.id, &error).await?;
                    self.changed(account, name, false);
                    return Ok(());
                }
            }
        }
    }

    /// The function, once it has its image; `None` if it does not want it any more.
    async fn take(
        &self,
        account: AccountId,
        name: &str,
        pull: &PullRow,
    ) -> Result<Option<FunctionRow>, Trouble> {
        loop {
            let uploaded = match self.made_of(account, &pull.digest).await? {
                Some(uploaded) => uploaded,
                None => self.fetch(account, pull).await?,
            };
            loop {
                match self.deliver(account, name, pull.id, &uploaded).await? {
                    Step::Done(row) => return Ok(Some(*row)),
                    Step::Unwanted => return Ok(None),
                    Step::Again => {}
                    Step::Lost => break,
                }
            }
        }
    }

    async fn fetch(&self, account: AccountId, pull: &PullRow) -> Result<Uploaded, Trouble> {
        let reference = Reference::parse(&pull.uri);
        let reference =
            reference.ok_or_else(|| PullError::Invalid(format!("{} names no image.", pull.uri)))?;
        // Whatever the tag means by now.
        let image = self.registries.find(Reference { version: pull.digest.clone(), ..reference }).await?;
        let archive = self.registries.archive(image);
        let received = self.receive(account, archive.bytes, &pull.digest, PATIENCE).await;
        received.map_err(|error| match archive.failure.get() {
            Some(failure) => Trouble::Image(failure.clone()),
            None => Trouble::Node(error),
        })
    }

    async fn deliver(
        &self,
        account: AccountId,
        name: &str,
        id: RequestId,
        uploaded: &Uploaded,
    ) -> Result<Step, Error> {
        let key = by_name(&FUNCTIONS, account, name);
        let Some(before) = FUNCTIONS.get(&self.store, key.clone()).await? else { return Ok(Step::Unwanted) };
        let before = before.value;
        let Some(pull) = before.pulling().filter(|pull| pull.id == id).cloned() else {
            return Ok(Step::Unwanted);
        };
        let version_key = by_number(&VERSIONS, account, name, pull.version.unwrap_or(0));
        let has_version = VERSIONS.get(&self.store, version_key.clone()).await?.is_some();
        let mut uses = Uses::of(account);
        uses.upload(uploaded.clone());
        if has_version {
            uses.retain(uploaded.code());
        }
        if !before.code.is_missing() {
            uses.release(&before.code);
        }
        let mark = by_name(&PULLS, account, name);
        let mut reads =
            vec![Read::Key(key.clone()), Read::Key(totals_key(account)), Read::Key(version_key.clone())];
        reads.extend(uses.reads());
        let now = self.env.now();
        let [revision, deployment] = [(); 2].map(|()| RequestId::new(&*self.env));
        let delivered = self.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let version = VERSIONS.first(&pages[2])?.map(|stored| stored.value);
            let row = FUNCTIONS.first(&pages[0])?.map(|stored| stored.value);
            let row = row.filter(|row| row.revision == before.revision && row.code == before.code);
            let (Some(row), true) = (row, version.is_some() == has_version) else {
                return Ok((Vec::new(), Step::Again));
            };
            let Some((mut writes, Some(code))) = uses.decide(&pages[3..], now)? else {
                return Ok((Vec::new(), Step::Lost));
            };
            let image = |row: &FunctionRow| {
                let own = row.image.clone().unwrap_or_default();
                Some(ImageRow { uri: pull.uri.clone(), digest: Some(pull.digest.clone()), ..own })
            };
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            let users = 1 + u64::from(has_version);
            totals.code_bytes =
                (totals.code_bytes + users * code.size_bytes).saturating_sub(row.code.size_bytes);
            if let Some(mut version) = version {
                version.function.image = image(&version.function);
                version.function.code = code.clone();
                version.function.pull = None;
                writes.push(VERSIONS.put(version_key.clone(), &version));
            }
            let row = FunctionRow { image: image(&row), code, pull: None, revision, deployment, ..row };
            writes.push(FUNCTIONS.put(key.clone(), &row));
            writes.push(TOTALS.put(totals_key(account), &totals));
            writes.push(Write::Delete(mark.clone()));
            Ok((writes, Step::Done(Box::new(row))))
        });
        delivered.await
    }

    /// Lets a function have what it had.
    async fn fail(
        &self,
        account: AccountId,
        name: &str,
        id: RequestId,
        error: &PullError,
    ) -> Result<(), Error> {
        let (key, mark) = (by_name(&FUNCTIONS, account, name), by_name(&PULLS, account, name));
        let Some(before) = FUNCTIONS.get(&self.store, key.clone()).await? else {
            return self.forget(account, name).await;
        };
        let number = before.value.pull.as_ref().and_then(|pull| pull.version).unwrap_or(0);
        let version_key = by_number(&VERSIONS, account, name, number);
        let failure = PullFailure { code: error.reason_code().to_owned(), reason: error.to_string() };
        let revision = RequestId::new(&*self.env);
        let reads = vec![Read::Key(key.clone()), Read::Key(version_key.clone())];
        let failed = self.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(mut row) = FUNCTIONS.first(&pages[0])?.map(|stored| stored.value) else {
                return Ok((Vec::new(), ()));
            };
            let Some(pull) = row.pull.as_mut().filter(|pull| pull.id == id) else {
                return Ok((Vec::new(), ()));
            };
            pull.failure = Some(failure.clone());
            row.revision = revision;
            let mut writes = vec![FUNCTIONS.put(key.clone(), &row), Write::Delete(mark.clone())];
            if let Some(mut version) = VERSIONS.first(&pages[1])?.map(|stored| stored.value)
                && let Some(pull) = version.function.pull.as_mut().filter(|pull| pull.id == id)
            {
                pull.failure = Some(failure.clone());
                writes.push(VERSIONS.put(version_key.clone(), &version));
            }
            Ok((writes, ()))
        });
        failed.await
    }

    /// Nothing is waited for, unless it is by now.
    async fn forget(&self, account: AccountId, name: &str) -> Result<(), Error> {
        let (key, mark) = (by_name(&FUNCTIONS, account, name), by_name(&PULLS, account, name));
        let forgotten = self.store.transact(vec![Read::Key(key)], move |pages, _| -> Result<_, Error> {
            let waits = FUNCTIONS.first(&pages[0])?.is_some_and(|stored| stored.value.pulling().is_some());
            Ok((if waits { Vec::new() } else { vec![Write::Delete(mark.clone())] }, ()))
        });
        forgotten.await
    }
}
