//! Client request tokens of transactions, whose time is over.

use std::sync::atomic::Ordering;

use store::{Error, Read, Write};
use types::AccountId;

use super::{BATCH, CLOCK_SKEW_MS, Sweeper};
use crate::tables::TOKENS;

impl Sweeper {
    /// Removes the tokens of transactions whose time is over.
    pub(super) async fn remove_tokens(&self) -> Result<(), Error> {
        let at = |ms: i64| {
            TOKENS.key(AccountId::NODE, |k| {
                k.i64(ms);
            })
        };
        let now_ms = self.node.env.now().as_millisecond();
        let mut range = TOKENS.range(AccountId::NODE, BATCH, |_| {});
        range.start = at(self.tokens_from_ms.load(Ordering::Relaxed));
        range.end = at(now_ms);
        loop {
            let (tokens, more) = TOKENS.scan(&self.node.store, range.clone()).await?;
            let Some(last) = tokens.last() else { break };
            range.start = store::key::after(&last.key);
            let reads = tokens.iter().map(|row| Read::Key(row.value.key())).collect();
            self.node
                .store
                .transact(reads, move |pages, _| {
                    let mut writes = Vec::with_capacity(2 * tokens.len());
                    for (row, page) in tokens.iter().zip(pages) {
                        writes.push(Write::Delete(row.key.clone()));
                        // The token may have been used again since: then it lives on.
                        let current = TOKENS.first(page)?;
                        if current.is_some_and(|current| current.value == row.value) {
                            writes.push(Write::Delete(row.value.key()));
                        }
                    }
                    Ok::<_, Error>((writes, ()))
                })
                .await?;
            if !more {
                break;
            }
        }
        // Clocks of nodes differ a little, and go back a little.
        self.tokens_from_ms.store(now_ms - CLOCK_SKEW_MS, Ordering::Relaxed);
        Ok(())
    }
}
