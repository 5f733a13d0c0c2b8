//! `hawker serve`: a node, until it is asked to stop.

use std::io::IsTerminal;

use anyhow::Context;
use server::{Config, Node};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{Isolation, LogFormat, NodeOptions, Serve};
use crate::failure::Failure;

/// Runs a node.
pub(crate) async fn run(args: Serve) -> anyhow::Result<()> {
    // The S3 protocol library logs as a fault of its own what a service answers with an error.
    log_to_stderr(args.node.log_format, "info,s3s=off");
    let config = config(&args.node)?;
    let shutdown = on_signal()?;
    let node = Node::start(config).await?;
    tracing::info!(address = %node.address(), "listening");
    node.run_until(shutdown).await
}

/// The node's settings: the file, then environment and flags over it.
pub(crate) fn config(options: &NodeOptions) -> anyhow::Result<Config> {
    let mut config = match &options.config {
        None => Config::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("the configuration `{}` can not be read", path.display()))?;
            let bad = |why: String| {
                Failure::new(format!("the configuration `{}` is not valid", path.display())).why(why)
            };
            let json = stacks::template::to_json(&text).map_err(|problem| bad(problem.to_string()))?;
            serde_json::from_value(json).map_err(|error| bad(error.to_string()))?
        }
    };
    fn set<T: Clone>(place: &mut T, value: &Option<T>) {
        if let Some(value) = value {
            place.clone_from(value);
        }
    }
    set(&mut config.listen, &options.listen);
    set(&mut config.data, &options.data);
    set(&mut config.region, &options.region);
    set(&mut config.account_id, &options.account_id);
    set(&mut config.runtime.substitute_runtimes, &options.substitute_runtimes);
    if options.blobs.is_some() {
        config.blobs.clone_from(&options.blobs);
    }
    if options.cache.is_some() {
        config.cache.clone_from(&options.cache);
    }
    if let (Some(access_key_id), Some(secret_access_key)) =
        (&options.access_key_id, &options.secret_access_key)
    {
        config.root_key = Some(server::KeyPair {
            access_key_id: access_key_id.clone(),
            secret_access_key: secret_access_key.clone(),
        });
    }
    match options.isolation {
        Some(Isolation::Auto) => config.runtime.isolation = runtime::Isolation::Auto,
        Some(Isolation::None) => config.runtime.isolation = runtime::Isolation::None,
        None => {}
    }
    if !options.registries.is_empty() {
        config.functions.registries.clone_from(&options.registries);
    }
    if options.registry_credentials.is_some() {
        config.functions.registry_credentials.clone_from(&options.registry_credentials);
    }
    if let Some(keep_alive) = options.keep_alive {
        config.functions.keep_alive_ms = u64::try_from(keep_alive.as_millis())?;
    }
    Ok(config)
}

/// Sends the log to stderr. `HAWKER_LOG`, else `RUST_LOG`, says how much.
pub(crate) fn log_to_stderr(format: LogFormat, default: &str) {
    let wanted = std::env::var("HAWKER_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = wanted.ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Cancelled at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
