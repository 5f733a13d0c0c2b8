//! The service's parts, and how the rest of the platform reaches them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws::{Api, Caller, Dispatch, Operation, Protocol, Request, RoleSource};
use blobs::Blobs;
use store::{Store, tables};
use telemetry::Telemetry;
use tokio_util::sync::CancellationToken;
use types::{AccountId, Region, SharedEnv};

use crate::invoke::{Machine, Once, Pools};
use crate::name::FunctionName;
use crate::permission::allows;
use crate::pull::Pulls;
use crate::registry::Registries;
use crate::tables::PROVISIONED;
use crate::url::Targets;
use crate::{Config, Error, Invocation, Outcome, Runtime};

/// How often idle instances and unused packages are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Functions of every account of a node.
#[derive(Debug)]
pub struct Functions {
    pub(crate) inner: Arc<Inner>,
}

/// What operations and invocations share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) env: SharedEnv,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) roles: Arc<dyn RoleSource>,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) telemetry: Telemetry,
    pub(crate) region: Region,
    pub(crate) pools: Pools,
    pub(crate) machine: Machine,
    pub(crate) once: Once,
    pub(crate) urls: Targets,
    pub(crate) registries: Arc<Registries>,
    pub(crate) pulls: Pulls,
    /// Accounts that may have unused packages.
    pub(crate) sweep: Mutex<HashSet<AccountId>>,
    /// Functions that are kept ready, whatever their traffic.
    pub(crate) provisioned: Mutex<HashSet<(AccountId, String)>>,
    draining: AtomicBool,
}

/// What asynchronous delivery has to know of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncSettings {
    /// Its unqualified ARN.
    pub arn: String,
    /// Its ARN with the version or alias that the event is for; `$LATEST` if it is for none.
    pub qualified_arn: String,
    /// Its role's ARN.
    pub role: String,
    /// Its log group.
    pub log_group: String,
    /// Its reserved concurrency.
    pub reserved_concurrency: Option<u32>,
    /// How often a failed event is tried again.
    pub max_retries: u32,
    /// How old an event may get.
    pub max_age: Duration,
    /// ARN of the function or queue that hears of successes.
    pub on_success: Option<String>,
    /// ARN of the queue that gets events that failed.
    pub dead_letters: Option<String>,
    /// ARN of the function, queue or bucket that hears of failures.
    pub on_failure: Option<String>,
    /// Whether the service and source that were asked about may invoke it.
    pub permitted: bool,
}

impl Functions {
    /// The service over its seams.
    // Ten parts are what it is made of; each is named once, in the node's wiring.
    #[expect(clippy::too_many_arguments)]
    pub fn new(
        config: Config,
        store: Store,
        blobs: Arc<dyn Blobs>,
        env: SharedEnv,
        runtime: Arc<dyn Runtime>,
        roles: Arc<dyn RoleSource>,
        dispatch: Arc<dyn Dispatch>,
        telemetry: Telemetry,
        region: Region,
    ) -> Arc<Self> {
        let registries = Arc::new(Registries::new(&config));
        let machine = Machine::new(config.memory_budget_mb(), config.concurrent_starts());
        let inner = Inner {
            config,
            store,
            blobs,
            env,
            runtime,
            roles,
            dispatch,
            telemetry,
            region,
            pools: Pools::default(),
            machine,
            once: Once::default(),
            urls: Targets::default(),
            registries,
            pulls: Pulls::default(),
            sweep: Mutex::default(),
            provisioned: Mutex::default(),
            draining: AtomicBool::new(false),
        };
        Arc::new(Self { inner: Arc::new(inner) })
    }

    /// Runs a function: the path of every trigger. The run goes on to its end, and is recorded, even if this
    /// future is dropped.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Outcome, Error> {
        self.inner.invoke(invocation).await
    }

    /// What asynchronous delivery to a function has to know; `asker` is the service that delivers and the ARN
    /// of its source, `None` for direct invocations.
    pub async fn async_settings(
        &self,
        account: AccountId,
        function: &FunctionName,
        asker: Option<(&str, &str)>,
    ) -> Result<AsyncSettings, Error> {
        let inner = &self.inner;
        let qualifier = function.qualifier.as_deref();
        let live = inner.function(account, &function.name).await?;
        let known = inner.known(&live).await?;
        let version = known.version(qualifier, || 1.0)?;
        let (_, deployed) = inner.deployed(&live, &known, version).await?;
        let events = known.events(qualifier);
        let permitted = asker.is_none_or(|(service, source)| {
            known.policy(qualifier).is_some_and(|policy| allows(policy, service, source, account))
        });
        Ok(AsyncSettings {
            arn: deployed.arn.as_ref().to_owned(),
            qualified_arn: format!("{}:{}", deployed.arn, qualifier.unwrap_or(crate::LATEST)),
            role: deployed.row.role.clone(),
            log_group: deployed.row.log_group.clone(),
            reserved_concurrency: deployed.reserved_concurrency,
            max_retries: events.and_then(|events| events.max_retries).unwrap_or(2),
            max_age: Duration::from_secs(u64::from(events.and_then(|e| e.max_age_s).unwrap_or(21_600))),
            dead_letters: deployed.row.dead_letters.clone(),
            on_success: events.and_then(|events| events.on_success.clone()),
            on_failure: events.and_then(|events| events.on_failure.clone()),
            permitted,
        })
    }

    /// The function's role, for what the platform does in its name (writing to a destination).
    pub async fn role_caller(
        &self,
        account: AccountId,
        settings: &AsyncSettings,
    ) -> Result<Caller, aws::Error> {
        let shortest = Duration::from_secs(900);
        let session = settings.arn.rsplit(':').next().unwrap_or_default();
        let roles = &self.inner.roles;
        let assumed =
            roles.assume(account, &settings.role, session, "lambda.amazonaws.com", shortest).await?;
        Ok(Caller { principal: assumed.principal, ..Caller::platform(account) })
    }

    /// The node's region.
    pub fn region(&self) -> &Region {
        &self.inner.region
    }

    /// How many instances there are now.
    pub fn instances(&self) -> usize {
        self.inner.machine.instances()
    }

    /// How many functions take memory: those that have instances or requests.
    pub fn functions_in_memory(&self) -> usize {
        self.inner.pools.functions().len()
    }

    /// The background work: ends idle instances, removes unused packages, follows changes that other nodes
    /// make. When `shutdown` is cancelled it turns new invocations away, gives running ones time to end, and
    /// stops every instance.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let inner = &self.inner;
        let mut changes = [
            tables::FUNCTIONS,
            tables::FUNCTION_POLICIES,
            tables::FUNCTION_EVENT_CONFIGS,
            tables::FUNCTION_ALIASES,
            tables::FUNCTION_URLS,
            tables::FUNCTION_PROVISIONED,
        ]
        .map(|table| inner.store.watch(table));
        let [functions, policies, configs, aliases, urls, provisioned] = &mut changes;
        inner.find_unused_code().await;
        inner.find_provisioned().await;
        inner.find_pulls().await;
        let mut sweep = inner.env.sleep(Duration::ZERO);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = &mut sweep => {
                    inner.reap(false);
                    inner.relieve();
                    inner.keep_ready().await;
                    inner.sweep_outcomes().await;
                    inner.sweep_unused_code().await;
                    sweep = inner.env.sleep(SWEEP_EVERY);
                }
                key = functions.next() => inner.noticed(key.as_deref()),
                key = policies.next() => inner.noticed(key.as_deref()),
                key = configs.next() => inner.noticed(key.as_deref()),
                key = aliases.next() => inner.noticed(key.as_deref()),
                key = urls.next() => inner.noticed(key.as_deref()),
                key = provisioned.next() => inner.noticed(key.as_deref()),
            }
        }
        inner.draining.store(true, Ordering::SeqCst);
        inner.reap(true);
        inner.pulls.end().await;
        tokio::select! {
            () = inner.machine.emptied() => {}
            () = inner.env.sleep(Duration::from_millis(inner.config.drain_ms)) => {
                tracing::warn!(instances = inner.machine.instances(), "shutting down before every invocation ended");
            }
        }
    }
}

impl Inner {
    /// True once the node shuts down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// A row of a function was written, here or by another node. Operations of this node have told the pool
    /// already; telling it twice costs one read.
    fn noticed(&self, key: Option<&[u8]>) {
        let Some(key) = key else {
            for function in self.pools.functions() {
                function.changed(false);
            }
            return;
        };
        let name = store::key::KeyReader::new(key).and_then(|mut key| key.text());
        if let (Ok(account), Ok(name)) = (store::key::account_of(key), name) {
            self.changed(account, &name, false);
        }
    }

    /// Finds what is to be kept ready.
    async fn find_provisioned(self: &Arc<Self>) {
        let mut from = Some(AccountId::DEFAULT);
        while let Some(account) = from {
            match self.store.next_account(tables::FUNCTION_PROVISIONED, account).await {
                Ok(Some(found)) => {
                    let range = PROVISIONED.range(found, 10_000, |_| {});
                    let page = self.store.scan(range).await;
                    for entry in page.iter().flat_map(|page| &page.entries) {
                        let name = store::key::KeyReader::new(&entry.key).and_then(|mut key| key.text());
                        if let Ok(name) = name {
                            self.provision(found, &name).await;
                        }
                    }
                    from = AccountId::from_number(found.number() + 1);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "functions to be kept ready could not be looked for");
                    return;
                }
            }
        }
    }

    /// Replaces instances that ended of functions that are kept ready.
    async fn keep_ready(self: &Arc<Self>) {
        let functions: Vec<_> =
            self.provisioned.lock().expect("no holder of this lock panics").iter().cloned().collect();
        for (account, name) in functions {
            self.provision(account, &name).await;
        }
    }

    /// Finds what a node that stopped in the middle of something has left.
    async fn find_unused_code(&self) {
        let mut from = Some(AccountId::DEFAULT);
        while let Some(account) = from {
            match self.store.next_account(tables::FUNCTION_CODE_UNUSED, account).await {
                Ok(Some(found)) => {
                    self.code_may_be_unused(found);
                    from = AccountId::from_number(found.number() + 1);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "unused packages could not be looked for");
                    return;
                }
            }
        }
    }

    async fn sweep_unused_code(&self) {
        let accounts: Vec<_> =
            self.sweep.lock().expect("no holder of this lock panics").iter().copied().collect();
        for account in accounts {
            match self.sweep_code(account).await {
                Ok(true) => {}
                Ok(false) => {
                    self.sweep.lock().expect("no holder of this lock panics").remove(&account);
                }
                Err(error) => tracing::warn!(%account, %error, "unused packages could not be removed"),
            }
        }
    }
}

#[async_trait]
impl Api for Functions {
    fn signing_name(&self) -> &'static str {
        "lambda"
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson
    }

    fn has_path(&self, path: &str) -> bool {
        crate::wire::has_path(path)
    }

    /// Packages come within requests.
    fn max_signed_body_bytes(&self) -> usize {
        crate::wire::DEPLOY_LIMIT
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        crate::wire::parse(&self.inner, request).await
    }
}
