//! What an invocation has to know of a function, read once and kept while the function has traffic.

use std::sync::Arc;

use store::Read;
use types::AccountId;

use super::pool::Pool;
use crate::Error;
use crate::name::function_arn;
use crate::service::Inner;
use crate::tables::{EVENT_CONFIGS, EventConfigRow, FUNCTIONS, FunctionRow, POLICIES, PolicyRow, by_name};

/// A function as it was at one moment.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) account: AccountId,
    pub(crate) row: FunctionRow,
    pub(crate) policy: Option<PolicyRow>,
    pub(crate) events: Option<EventConfigRow>,
    /// The unqualified ARN.
    pub(crate) arn: String,
    /// How often its pool had been told of changes before this was read: greater is newer.
    pub(crate) epoch: u64,
}

impl Inner {
    /// The function of `pool` as it is now, from memory if nothing changed since it was last read.
    pub(crate) async fn deployed(&self, pool: &Pool) -> Result<Arc<Deployed>, Error> {
        loop {
            let epoch = match pool.known() {
                Ok(known) => return Ok(known),
                Err(epoch) => epoch,
            };
            let (account, name) = (pool.account, &*pool.name);
            let reads = vec![
                Read::Key(by_name(&FUNCTIONS, account, name)),
                Read::Key(by_name(&POLICIES, account, name)),
                Read::Key(by_name(&EVENT_CONFIGS, account, name)),
            ];
            let pages = self.store.read(reads).await?;
            let arn = function_arn(account, &self.region, name);
            let Some(row) = FUNCTIONS.first(&pages[0])? else {
                return Err(Error::NotFound(format!("Function not found: {arn}")));
            };
            let deployed = Arc::new(Deployed {
                account,
                row: row.value,
                policy: POLICIES.first(&pages[1])?.map(|stored| stored.value),
                events: EVENT_CONFIGS.first(&pages[2])?.map(|stored| stored.value),
                arn,
                epoch,
            });
            if pool.learn(&deployed) {
                return Ok(deployed);
            }
            // It changed while it was read: read again, so that nothing older than the change is used.
        }
    }
}
