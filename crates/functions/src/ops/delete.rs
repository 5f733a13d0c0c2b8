//! `DeleteFunction`: a version, or the function with all that belongs to it.

use aws::Response;
use store::{Page, Range, Read, Write};
use types::AccountId;

use super::Cx;
use crate::Error;
use crate::code::Uses;
use crate::name::FunctionName;
use crate::tables::{
    ALIASES, EVENT_CONFIGS, FUNCTIONS, POLICIES, PROVISIONED, TOTALS, URLS, VERSIONS, all_of, by_name,
    by_number, totals_key,
};

/// How many versions go in one commit.
const AT_ONCE: usize = 100;

/// Where a function's belongings are, besides its row and its versions.
fn belongings(account: AccountId, name: &str) -> [Range; 5] {
    let most = crate::invoke::MOST_QUALIFIERS + 1;
    [
        all_of(&ALIASES, account, name, most),
        all_of(&POLICIES, account, name, 2 * most),
        all_of(&EVENT_CONFIGS, account, name, 2 * most),
        all_of(&PROVISIONED, account, name, 2 * most),
        all_of(&URLS, account, name, most),
    ]
}

/// What one step has done.
enum Step {
    /// Nothing: what was read has changed.
    Again,
    /// Versions went; there are more.
    More,
    /// Everything is gone.
    Done,
}

impl Cx {
    pub(super) async fn delete_function(&self, function: FunctionName) -> Result<Response, Error> {
        match function.qualifier.as_deref().map(str::parse::<u64>) {
            None => {}
            Some(Ok(number)) => {
                self.delete_version(&function.name, number).await?;
                return Ok(aws::json::empty(204));
            }
            Some(Err(_)) if function.qualifier.as_deref() == Some(crate::LATEST) => {
                return Err(Error::InvalidParameter(
                    "$LATEST version cannot be deleted without deleting the function.".into(),
                ));
            }
            Some(Err(_)) => {
                return Err(Error::InvalidParameter(
                    "Deletion of aliases is not currently supported by this operation; use DeleteAlias."
                        .into(),
                ));
            }
        }
        loop {
            match self.delete_some(&function.name).await? {
                Step::Done => break,
                Step::Again | Step::More => {}
            }
        }
        self.inner.code_may_be_unused(self.account);
        self.inner.gone(self.account, &function.name, None);
        self.refresh_room().await?;
        Ok(aws::json::empty(204))
    }

    async fn delete_some(&self, name: &str) -> Result<Step, Error> {
        let account = self.account;
        let now = self.inner.env.now();
        let function = self.row(name).await?;
        let versions = all_of(&VERSIONS, account, name, AT_ONCE);
        let before: Page = self.inner.store.scan(versions.clone()).await?;
        let last = !before.more;
        let mut uses = Uses::of(account);
        let mut bytes = 0;
        let mut keys = Vec::new();
        for entry in &before.entries {
            let version = VERSIONS.decode(entry)?.value;
            version.function.packages().for_each(|code| uses.release(code));
            bytes += version.function.code.size_bytes;
            keys.push(by_number(&VERSIONS, account, name, version.number));
        }
        if last {
            function.packages().for_each(|code| uses.release(code));
            bytes += function.code.size_bytes;
        }
        let key = by_name(&FUNCTIONS, account, name);
        let mut reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account)), Read::Range(versions)];
        reads.extend(belongings(account, name).map(Read::Range));
        reads.extend(uses.reads());
        let removed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let unchanged = pages[2] == before
                && FUNCTIONS.first(&pages[0])?.is_some_and(|stored| {
                    stored.value.revision == function.revision && stored.value.layers == function.layers
                });
            if !unchanged {
                return Ok((Vec::new(), Step::Again));
            }
            let (belongings, packages) = pages[3..].split_at(5);
            let Some((mut writes, _)) = uses.decide(packages, now)? else {
                return Ok((Vec::new(), Step::Again));
            };
            writes.extend(keys.iter().cloned().map(Write::Delete));
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            totals.code_bytes = totals.code_bytes.saturating_sub(bytes);
            if last {
                totals.functions = totals.functions.saturating_sub(1);
                totals.reserved = totals.reserved.saturating_sub(function.reserved_concurrency.unwrap_or(0));
                for entry in belongings.iter().flat_map(|page| &page.entries) {
                    writes.push(Write::Delete(entry.key.clone()));
                }
                for entry in &belongings[4].entries {
                    let url = URLS.decode(entry)?.value;
                    writes.push(Write::Delete(super::urls::id_key(account, &url.id)));
                }
                writes.push(Write::Delete(key.clone()));
            }
            writes.push(TOTALS.put(totals_key(account), &totals));
            Ok((writes, if last { Step::Done } else { Step::More }))
        });
        removed.await
    }
}
