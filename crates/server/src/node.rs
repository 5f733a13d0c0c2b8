//! A node: made of its parts in one place, started, and stopped in the order that loses nothing.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use aws::Origin;
use dynamodb::DynamoDb;
use events::Events;
use functions::{FunctionUrls, Functions};
use gateway::Gateway;
use identity::{IamApi, Identity, KeyPair, StsApi};
use kms::{Kms, NodeKey};
use runtime::{Platform, ProcessRuntime, Runtimes, WasmRuntime};
use s3::{MasterKey, Rights, S3};
use sqs::Sqs;
use stacks::Stacks;
use store::{FjallConfig, FjallEngine, Store};
use telemetry::{LogsApi, Telemetry};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Env, SystemEnv};

use crate::native::Native;
use crate::{Config, blob_place, credentials};

/// A node that serves.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    root_key: KeyPair,
    gateway: Arc<Gateway>,
    runtime: Arc<ProcessRuntime>,
    telemetry: Telemetry,
    queues: Sqs,
    store: Store,
    /// The listener: ends first.
    front: Stage,
    /// What runs functions and delivers events: ends when no more requests come.
    work: Stage,
    /// What records: ends last.
    records: Stage,
}

impl Node {
    /// Opens the data directory, wires the parts and begins to serve; returns once health answers 200.
    pub async fn start(mut config: Config) -> anyhow::Result<Self> {
        let env = SystemEnv::new();
        config.functions.check().map_err(anyhow::Error::msg)?;
        make_private(&config.data)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}; choose another with --listen", config.listen))?;
        let address = listener.local_addr()?;

        // Opening files and trying a sandbox out take about as long: they go side by side.
        let platform = Arc::new(Endpoint { address, gateway: OnceLock::new() });
        config.runtime.cache_dir = config.cache_dir();
        config.runtime.wasm.key_file = Some(config.data.join("wasm.key"));
        let sandboxes =
            tokio::spawn(ProcessRuntime::open(config.runtime.clone(), platform.clone(), env.clone()));
        let (data, cache_bytes) = (config.data.clone(), config.store_cache_bytes);
        let random = env.clone();
        let (engine, object_key) =
            tokio::task::spawn_blocking(move || open(&data, cache_bytes, &*random)).await??;
        let store = Store::new(engine);
        object_key.claim(&store).await?;
        let blobs = blob_place::open(&config, &store, &*env).await?;

        let identity = Identity::open(
            store.clone(),
            env.clone(),
            identity::Config {
                root_account: identity::RootAccount(config.account_id),
                root_key: config.root_key.take(),
                region: config.region.clone(),
            },
        )
        .await?;
        let root_key = identity.root_key().clone();
        credentials::write(&config.data, &root_key).context("cannot write the credentials file")?;

        let (telemetry, recorder) = Telemetry::new(store.clone(), env.clone(), config.telemetry.clone());
        let gateway = Gateway::new(gateway::Options {
            config: config.gateway.clone(),
            region: config.region.clone(),
            account: config.account_id,
            credentials: identity.clone(),
            authorizer: identity.clone(),
            env: env.clone(),
            spans: Some(Arc::new(telemetry.clone())),
        });

        platform.gateway.set(gateway.clone()).expect("it is set once, here");
        let runtime = sandboxes.await??;
        let wasm = Arc::new(WasmRuntime::new(config.runtime.clone(), platform, gateway.clone(), env.clone()));
        let runtimes = Arc::new(Runtimes::new(runtime.clone(), wasm));

        let region = config.region.clone();
        let kms = Kms::open(
            store.clone(),
            env.clone(),
            region.clone(),
            NodeKey::new(object_key.derived("kms")),
            identity.clone(),
            identity.clone(),
        )
        .await?;
        let functions = Functions::new(
            config.functions.clone(),
            store.clone(),
            blobs.clone(),
            env.clone(),
            runtimes,
            identity.clone(),
            gateway.clone(),
            telemetry.clone(),
            region.clone(),
        );
        let (event_targets, events) = Events::new(
            config.events.clone(),
            store.clone(),
            env.clone(),
            functions.clone(),
            gateway.clone(),
            telemetry.clone(),
        );
        let s3 = S3::new(
            config.s3.clone(),
            store.clone(),
            blobs,
            env.clone(),
            region.clone(),
            object_key,
            Rights {
                policies: identity.clone(),
                roles: identity.clone(),
                authorizer: identity.clone(),
                credentials: identity.clone(),
                keys: Arc::new(kms.clone()),
                targets: Arc::new(event_targets),
            },
        );
        let queues = Sqs::new(store.clone(), env.clone(), region.clone(), identity.clone());
        let table_rights = dynamodb::Rights { policies: identity.clone(), authorizer: identity.clone() };
        let dynamodb =
            DynamoDb::new(store.clone(), env.clone(), region.clone(), table_rights, gateway.clone());
        let stacks = Stacks::new(store.clone(), env.clone(), gateway.clone(), region.clone());

        gateway.register(Arc::new(IamApi::new(identity.clone())))?;
        gateway.register(Arc::new(StsApi::new(identity.clone())))?;
        gateway.register(Arc::new(LogsApi::new(telemetry.clone())))?;
        let key_deletions = kms.deletions();
        gateway.register(Arc::new(kms))?;
        gateway.register(s3.clone())?;
        gateway.register(Arc::new(queues.clone()))?;
        gateway.register(dynamodb.clone())?;
        gateway.register(FunctionUrls::new(&functions))?;
        gateway.register(functions.clone())?;
        gateway.register(stacks.clone())?;
        gateway.register(Arc::new(Native::new(identity, telemetry.clone(), dynamodb.clone())))?;

        let node = Self {
            address,
            root_key,
            gateway: gateway.clone(),
            runtime,
            telemetry,
            queues: queues.clone(),
            store,
            front: Stage::default(),
            work: Stage::default(),
            records: Stage::default(),
        };
        node.records.spawn(|stop| recorder.run(stop));
        node.work.spawn(|stop| functions.run(stop));
        node.work.spawn(|stop| events.run(stop));
        node.work.spawn(|stop| async move {
            if let Err(error) = stacks.service().run(stop).await {
                tracing::error!(%error, "stacks are no longer carried out; restart the node");
            }
        });
        let (expiry, scrubber, access_logs) = (s3.lifecycle(), s3.scrubber(), s3.access_logs());
        node.work.spawn(|stop| async move {
            if let Err(error) = s3.sweeper().run(stop).await {
                tracing::error!(%error, "unused objects are no longer removed; restart the node");
            }
        });
        node.work.spawn(|stop| expiry.run(stop));
        node.work.spawn(|stop| scrubber.run(stop));
        node.work.spawn(|stop| key_deletions.run(stop));
        node.work.spawn(|stop| queues.sweeper().run(stop));
        node.work.spawn(|stop| access_logs.run(stop));
        node.work.spawn(|stop| dynamodb.sweeper().run(stop));
        node.work.spawn(|stop| dynamodb.feeds().run(stop));
        node.work.spawn(|stop| dynamodb.transfers().run(stop));
        gateway.set_ready(true);
        node.front.spawn(|stop| gateway.run(listener, stop));
        tracing::info!(%address, data = %config.data.display(), "ready");
        Ok(node)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root user's key.
    pub fn root_key(&self) -> &KeyPair {
        &self.root_key
    }

    /// Where functions run: to prepare a language before its first use.
    pub fn runtime(&self) -> &Arc<ProcessRuntime> {
        &self.runtime
    }

    /// Serves until `shutdown`, then stops.
    pub async fn run_until(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        shutdown.cancelled().await;
        self.stop().await
    }

    /// Stops: no new requests; running ones, and the invocations and events under way, end; what they
    /// recorded is written; the store closes.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping: finishing what runs");
        self.queues.end_waits();
        self.front.end().await;
        self.work.end().await;
        self.telemetry.flush().await;
        self.records.end().await;
        self.store.close().await?;
        // With its last handle the store leaves its files as the next start reads them fastest.
        self.gateway.unregister_all();
        drop(self);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Background work that ends together.
#[derive(Debug, Default)]
struct Stage {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    fn spawn<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(work(self.stop.clone()));
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The platform's endpoint, as sandboxes reach it.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    /// Set before any function runs.
    gateway: OnceLock<Arc<Gateway>>,
}

impl Platform for Endpoint {
    fn serve(&self, stream: TcpStream, function_arn: Arc<str>) {
        let gateway = self.gateway.get().expect("functions run once the node is wired").clone();
        let origin = Origin::Function(function_arn.as_ref().to_owned());
        tokio::spawn(gateway.serve_connection(stream, origin));
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Opens what is on disk.
fn open(data: &Path, cache_bytes: u64, env: &dyn Env) -> anyhow::Result<(Arc<FjallEngine>, MasterKey)> {
    let engine = FjallEngine::open(FjallConfig { cache_bytes, ..FjallConfig::new(data.join("store")) })?;
    let object_key = MasterKey::open(data.join("keys").join("objects.key"), env)?;
    Ok((engine, object_key))
}

/// Makes the data directory if it is not there, for the node's user alone.
fn make_private(data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)
        .and_then(|()| std::fs::set_permissions(data, Permissions::from_mode(0o700)))
        .with_context(|| {
            format!("cannot use the data directory `{}`; choose another with --data", data.display())
        })
}
