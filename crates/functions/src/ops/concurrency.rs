//! Reserved concurrency.

use aws::Response;
use serde_json::json;
use store::Read;

use super::Cx;
use crate::Error;
use crate::invoke::MOST_QUALIFIERS;
use crate::name::FunctionName;
use crate::tables::{FUNCTIONS, PROVISIONED, TOTALS, all_of, by_name, totals_key};

impl Cx {
    pub(super) async fn put_function_concurrency(
        &self,
        function: FunctionName,
        reserved: i64,
    ) -> Result<Response, Error> {
        let value = u32::try_from(reserved).map_err(|_| {
            Error::rule(format!(
                "Value '{reserved}' at 'reservedConcurrentExecutions' failed to \
                 satisfy constraint: Member must have value greater than or equal to 0"
            ))
        })?;
        self.reserve(&function, Some(value)).await?;
        Ok(aws::json::output(&json!({ "ReservedConcurrentExecutions": value })))
    }

    pub(super) async fn delete_function_concurrency(
        &self,
        function: FunctionName,
    ) -> Result<Response, Error> {
        self.reserve(&function, None).await?;
        Ok(aws::json::empty(204))
    }

    pub(super) async fn get_function_concurrency(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.row(&function.name).await?;
        Ok(aws::json::output(&match row.reserved_concurrency {
            Some(reserved) => json!({ "ReservedConcurrentExecutions": reserved }),
            None => json!({}),
        }))
    }

    async fn reserve(&self, function: &FunctionName, reserved: Option<u32>) -> Result<(), Error> {
        let account = self.account;
        let key = by_name(&FUNCTIONS, account, &function.name);
        let not_found = self.not_found(&function.name);
        let fresh = self.fresh_id();
        let config = &self.inner.config;
        let (limit, least) = (config.account_concurrency, config.unreserved_concurrency);
        let provisioned = all_of(&PROVISIONED, account, &function.name, MOST_QUALIFIERS);
        let reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account)), Read::Range(provisioned)];
        let changed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            let mut row = stored.value;
            if let Some(reserved) = reserved {
                let mut provisioned = 0u32;
                for entry in &pages[2].entries {
                    provisioned = provisioned.saturating_add(PROVISIONED.decode(entry)?.value.requested);
                }
                if reserved < provisioned {
                    return Err(Error::InvalidParameter(format!(
                        "ReservedConcurrentExecutions {reserved} should not be lower than function's total \
                         provisioned concurrency [{provisioned}]."
                    )));
                }
            }
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            let others = totals.reserved.saturating_sub(row.reserved_concurrency.unwrap_or(0));
            let sum = others.saturating_add(reserved.unwrap_or(0));
            if reserved > row.reserved_concurrency && sum > limit.saturating_sub(least) {
                return Err(Error::InvalidParameter(format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's \
                     UnreservedConcurrentExecution below its minimum value of [{least}]."
                )));
            }
            totals.reserved = sum;
            row.reserved_concurrency = reserved;
            row.revision = fresh;
            let writes = vec![FUNCTIONS.put(key.clone(), &row), TOTALS.put(totals_key(account), &totals)];
            Ok((writes, ()))
        });
        changed.await?;
        self.inner.changed(account, &function.name, false);
        self.refresh_room().await
    }

    /// Tells what runs now of the account's reservations.
    pub(super) async fn refresh_room(&self) -> Result<(), Error> {
        if let Some(room) = self.inner.pools.room(self.account) {
            let totals = TOTALS.get(&self.inner.store, totals_key(self.account)).await?;
            room.set_reserved(totals.map_or(0, |stored| stored.value.reserved));
            room.wake(&self.inner);
        }
        // Requests that waited for the old reservation may have room now.
        for function in self.inner.pools.functions() {
            if function.account == self.account {
                match self.inner.known(&function).await {
                    Ok(_) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
                for pool in function.pools() {
                    pool.pump(&self.inner);
                }
            }
        }
        Ok(())
    }
}
