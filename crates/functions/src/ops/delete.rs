//! `DeleteFunction`.

use aws::Response;
use store::{Read, Write};

use super::Cx;
use crate::Error;
use crate::code::release;
use crate::name::FunctionName;
use crate::tables::{EVENT_CONFIGS, FUNCTIONS, FunctionRow, POLICIES, TOTALS, by_name, code_key, totals_key};

impl Cx {
    pub(super) async fn delete_function(&self, function: FunctionName) -> Result<Response, Error> {
        if function.qualifier.as_deref() == Some(crate::LATEST) {
            return Err(Error::InvalidParameter(
                "$LATEST version cannot be deleted without deleting the function.".into(),
            ));
        }
        self.require_latest(&function)?;
        loop {
            let row = self.row(&function.name).await?;
            if self.remove(row).await? {
                break;
            }
        }
        self.inner.sweep.lock().expect("no holder of this lock panics").insert(self.account);
        self.inner.changed(self.account, &function.name, true);
        self.refresh_room().await?;
        Ok(aws::json::empty(204))
    }

    /// False if its package changed since `row` was read.
    async fn remove(&self, row: FunctionRow) -> Result<bool, Error> {
        let (account, name) = (self.account, row.name);
        let now = self.inner.env.now();
        let not_found = self.not_found(&name);
        let reads = vec![
            Read::Key(by_name(&FUNCTIONS, account, &name)),
            Read::Key(totals_key(account)),
            Read::Key(code_key(account, &row.code.sha256)),
        ];
        let removed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            let function = stored.value;
            if function.code != row.code {
                return Ok((Vec::new(), false));
            }
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            totals.functions = totals.functions.saturating_sub(1);
            totals.code_bytes = totals.code_bytes.saturating_sub(function.code.size_bytes);
            let reserved = function.reserved_concurrency.unwrap_or(0);
            totals.reserved = totals.reserved.saturating_sub(reserved);
            let mut writes = release(account, &function.code, &pages[2], now)?;
            writes.push(TOTALS.put(totals_key(account), &totals));
            writes.push(Write::Delete(by_name(&FUNCTIONS, account, &name)));
            writes.push(Write::Delete(by_name(&POLICIES, account, &name)));
            writes.push(Write::Delete(by_name(&EVENT_CONFIGS, account, &name)));
            Ok((writes, true))
        });
        removed.await
    }
}
