//! One commit for a batch of an account: log events, invocations and their usage, spans.
//!
//! Invariant: usage changes in the commit that adds the invocation's row, and only if there was none with the
//! same request id and attempt: nothing is billed twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use store::{Read, Store};
use tokio::sync::Notify;
use types::{AccountId, SharedEnv};

use crate::Error;
use crate::plan::{Missing, Plan, Prepared, Tried};
use crate::record::{Invocation, LogEvent, LogLines, Span};
use crate::tables::{self, GROUPS};

const LOCK: &str = "no holder of this lock panics";
/// How many traces and accounts are remembered as written.
const REMEMBERED: usize = 16_384;

/// The digits of a trace's root; `None` for a root of another form, which is not remembered.
fn trace_id(root: &str) -> Option<u128> {
    let mut parts = root.splitn(3, '-').skip(1);
    let (seconds, rest) = (parts.next()?, parts.next()?);
    let number = |digits: &str| u128::from_str_radix(digits, 16).ok();
    (seconds.len() == 8 && rest.len() == 24).then_some(number(seconds)? << 96 | number(rest)?)
}

/// What is written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// By group and stream.
    pub(crate) logs: BTreeMap<(String, String), Vec<LogEvent>>,
    pub(crate) invocations: Vec<Invocation>,
    pub(crate) spans: Vec<Span>,
}

impl Batch {
    pub(crate) fn log(&mut self, lines: LogLines) {
        self.logs.entry((lines.group, lines.stream)).or_default().extend(lines.events);
    }
}

/// Writes to the store.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    /// Rung when something was deleted whose events must be swept.
    pub(crate) garbage: Notify,
    /// Numbers of groups; a hint, checked in the commit.
    groups: Mutex<HashMap<(AccountId, String), u64>>,
    /// Traces that are in the list already.
    traces: Mutex<HashSet<(AccountId, u128)>>,
    /// Accounts that the sweeper knows.
    accounts: Mutex<HashSet<AccountId>>,
}

impl Writer {
    pub(crate) fn new(store: Store, env: SharedEnv) -> Self {
        Self {
            store,
            env,
            garbage: Notify::new(),
            groups: Mutex::default(),
            traces: Mutex::default(),
            accounts: Mutex::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.env.now().as_millisecond()
    }

    /// A batch, ready to be written as often as that has to be tried.
    pub(crate) fn prepare(&self, account: AccountId, batch: Batch) -> Arc<Prepared> {
        let is_new = {
            let known = self.traces.lock().expect(LOCK);
            let roots = batch.spans.iter().map(|span| trace_id(&span.trace.root));
            roots.map(|id| id.is_none_or(|id| !known.contains(&(account, id)))).collect::<Vec<_>>()
        };
        Arc::new(Prepared::new(account, batch, &is_new, self.now_ms()))
    }

    /// Writes a batch, making the groups and streams it needs.
    pub(crate) async fn write(&self, prepared: &Arc<Prepared>) -> Result<(), Error> {
        self.write_logs(prepared, Missing::Create).await
    }

    pub(crate) async fn write_logs(&self, prepared: &Arc<Prepared>, missing: Missing) -> Result<(), Error> {
        let account = prepared.account;
        self.learn_groups(account, &prepared.groups).await?;
        loop {
            match self.try_write(prepared, missing).await? {
                Tried::Done => return Ok(()),
                Tried::Stale(found) => {
                    let mut groups = self.groups.lock().expect(LOCK);
                    groups.extend(found.into_iter().map(|(name, number)| ((account, name), number)));
                }
            }
        }
    }

    async fn learn_groups(&self, account: AccountId, names: &[String]) -> Result<(), Error> {
        let unknown: Vec<_> = {
            let mut groups = self.groups.lock().expect(LOCK);
            if groups.len() > REMEMBERED {
                groups.clear();
            }
            names.iter().filter(|name| !groups.contains_key(&(account, (*name).clone()))).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let reads = unknown.iter().map(|name| Read::Key(tables::group(account, name))).collect();
        let pages = self.store.read(reads).await?;
        for (name, page) in unknown.into_iter().zip(pages) {
            if let Some(row) = GROUPS.first(&page)? {
                self.groups.lock().expect(LOCK).insert((account, name.clone()), row.value.number);
            }
        }
        Ok(())
    }

    async fn try_write(&self, prepared: &Arc<Prepared>, missing: Missing) -> Result<Tried, Error> {
        let account = prepared.account;
        let numbers: HashMap<String, u64> = {
            let groups = self.groups.lock().expect(LOCK);
            let known = prepared.groups.iter().filter_map(|name| {
                groups.get(&(account, name.clone())).map(|number| (name.clone(), *number))
            });
            known.collect()
        };
        let new_account = prepared.has_to_be_swept() && !self.accounts.lock().expect(LOCK).contains(&account);
        let mut plan = Plan::new(prepared.clone(), missing, numbers, new_account);
        let reads = plan.reads();
        let tried = self.store.transact(reads, move |pages, version| plan.decide(pages, version)).await?;
        if let Tried::Done = tried {
            let mut traces = self.traces.lock().expect(LOCK);
            if traces.len() > REMEMBERED {
                traces.clear();
            }
            traces.extend(prepared.new_roots().filter_map(trace_id).map(|id| (account, id)));
            drop(traces);
            if new_account {
                self.accounts.lock().expect(LOCK).insert(account);
            }
        }
        Ok(tried)
    }
}
