//! `hawker dev`: a node in this process, the app on it, its logs here, and a new deployment on every save.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws::sigv4::Credentials;
use server::Node;
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::client::Client;
use crate::deploy::{Deployed, Deployment, Show, TemplateFile, show_outputs};
use crate::failure;
use crate::logs::{self, Tail};
use crate::serve::{config, log_to_stderr, on_signal};
use crate::ui::{self, Colour};

/// How often files are looked at.
const WATCH: Duration = Duration::from_millis(300);
/// How often logs are looked at.
const LOGS: Duration = Duration::from_millis(300);

/// Runs it until Ctrl-C.
pub(crate) async fn run(args: cli::Dev) -> anyhow::Result<()> {
    log_to_stderr(args.node.log_format, "warn,s3s=off");
    // What is wrong with the template shows before anything is started.
    let file = TemplateFile::find(&args.source.source)?;
    let shutdown = on_signal()?;
    let mut config = config(&args.node)?;
    if args.node.substitute_runtimes.is_none() {
        config.runtime.substitute_runtimes = true;
    }
    let substitute = config.runtime.substitute_runtimes;
    let (region, data) = (config.region.to_string(), config.data.clone());
    let spinner = ui::spinner("starting the node");
    let node = Node::start(config).await;
    spinner.finish_and_clear();
    let node = node?;
    let endpoint = format!("http://{}", node.address());
    let key = node.root_key();
    let credentials = Credentials {
        access_key_id: key.access_key_id.clone(),
        secret_access_key: key.secret_access_key.clone(),
        session_token: None,
    };
    let client = Client::new(&endpoint, credentials, region.clone())?;
    let result = session(&args, &file, &node, client, substitute, &region, &data, &shutdown).await;
    let spinner = ui::spinner("stopping");
    shutdown.cancel();
    let stopped = node.run_until(shutdown).await;
    spinner.finish_and_clear();
    result.and(stopped)
}

#[expect(clippy::too_many_arguments, reason = "what a session is made of, each used once")]
async fn session(
    args: &cli::Dev,
    file: &TemplateFile,
    node: &Node,
    client: Client,
    substitute: bool,
    region: &str,
    data: &Path,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    prepare(node, file).await;
    let deployment = Deployment {
        client: client.clone(),
        source: args.source.source.clone(),
        stack_name: args.source.stack_name.clone(),
        parameters: args.source.parameters.clone(),
        substitute,
        show: Show::Tell,
    };
    let mut files = watched(file);
    let first = tokio::select! {
        done = deployment.run() => done,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut deployed = show(first);
    if let Some(deployed) = &deployed {
        welcome(&client, deployed, region, data)?;
    }
    let started = types::Timestamp::now().as_millisecond();
    let mut tails: BTreeMap<String, Tail> = BTreeMap::new();
    add_tails(&client, deployed.as_ref(), &mut tails, started).await;
    let mut watch = tokio::time::interval(WATCH);
    let mut look = tokio::time::interval(LOGS);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = look.tick() => {
                let several = tails.len() > 1;
                for (name, tail) in &mut tails {
                    show_log(&client, name, tail, several).await;
                }
            }
            _ = watch.tick() => {
                let Ok(file) = TemplateFile::find(&args.source.source) else { continue };
                let now = watched(&file);
                if now == files {
                    continue;
                }
                let changed = changes(&files, &now);
                files = now;
                ui::line(&ui::paint(Colour::Cyan, &format!("{changed} changed; deploying")));
                let done = tokio::select! {
                    done = deployment.run() => done,
                    () = shutdown.cancelled() => return Ok(()),
                };
                let again = show(done);
                if again.is_some() && deployed.is_none() {
                    deployed = again;
                    if let Some(deployed) = &deployed {
                        welcome(&client, deployed, region, data)?;
                    }
                }
                add_tails(&client, deployed.as_ref(), &mut tails, started).await;
            }
        }
    }
}

/// Makes what functions need that takes long once. What fails here fails again, with its reason, when it is
/// used.
async fn prepare(node: &Node, file: &TemplateFile) {
    let mut runtimes: Vec<_> =
        stacks::template::local_code(&file.text).into_iter().filter_map(|code| code.runtime).collect();
    runtimes.sort();
    runtimes.dedup();
    for runtime in runtimes {
        let spinner = ui::spinner(format!("preparing {runtime}"));
        let prepared = node.runtime().prepare(&runtime).await;
        spinner.finish_and_clear();
        if let Err(error) = prepared {
            ui::note(&format!("{runtime} is not ready: {error}"));
        }
    }
}

/// A deployment's result; an error is shown, and the session goes on.
fn show(result: anyhow::Result<Deployed>) -> Option<Deployed> {
    match result {
        Ok(deployed) => Some(deployed),
        Err(error) => {
            failure::print(&error, false);
            ui::note("waiting for a file to change");
            None
        }
    }
}

fn welcome(client: &Client, deployed: &Deployed, region: &str, data: &Path) -> anyhow::Result<()> {
    show_outputs(deployed);
    let credentials =
        std::path::absolute(data.join("credentials")).context("the data directory has a path")?;
    ui::line("");
    ui::line(&ui::paint(Colour::Dim, "in another terminal:"));
    ui::line(&format!(
        "  export AWS_ENDPOINT_URL={} AWS_REGION={region} AWS_DEFAULT_REGION={region}",
        client.endpoint()
    ));
    ui::line(&format!("  export AWS_SHARED_CREDENTIALS_FILE={}", credentials.display()));
    let bucket = deployed.outputs.iter().find(|(key, _, _)| key.to_ascii_lowercase().contains("bucket"));
    if let Some((_, bucket, _)) = bucket {
        ui::line(&format!("  aws s3 cp FILE s3://{bucket}/"));
    }
    ui::line("");
    ui::line(&ui::paint(Colour::Dim, "logs follow; a saved file is deployed; Ctrl-C ends it"));
    Ok(())
}

/// Follows the logs of the stack's functions that are not followed yet.
async fn add_tails(
    client: &Client,
    deployed: Option<&Deployed>,
    tails: &mut BTreeMap<String, Tail>,
    from_ms: i64,
) {
    let Some(deployed) = deployed else { return };
    let form = [("StackName".to_owned(), deployed.stack.clone())];
    let Ok(resources) = client.query("cloudformation", "ListStackResources", &form).await else { return };
    for resource in resources.members("StackResourceSummaries") {
        if resource.text("ResourceType") == Some("AWS::Lambda::Function")
            && let Some(name) = resource.text("PhysicalResourceId")
        {
            tails.entry(name.to_owned()).or_insert_with(|| Tail::new(name, from_ms, None));
        }
    }
}

async fn show_log(client: &Client, name: &str, tail: &mut Tail, several: bool) {
    let Ok(events) = tail.more(client).await else { return };
    for event in events {
        let line = logs::show(&event);
        if several {
            ui::line(&format!("{} {line}", ui::paint(Colour::Magenta, name)));
        } else {
            ui::line(&line);
        }
    }
}

type Watched = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The template and the files of its code, with when they changed.
fn watched(file: &TemplateFile) -> Watched {
    let mut found = Watched::new();
    let mut add = |path: &Path| {
        if let Ok(metadata) = std::fs::metadata(path) {
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.insert(path.to_owned(), (changed, metadata.len()));
        }
    };
    add(&file.path);
    for code in stacks::template::local_code(&file.text) {
        let root = file.directory.join(&code.path);
        let mut files = crate::deploy::Files::new();
        if root.is_file() {
            add(&root);
        } else if crate::deploy::collect(&root, &mut files).is_ok() {
            files.values().for_each(|path| add(path));
        }
    }
    found
}

fn changes(before: &Watched, after: &Watched) -> String {
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).collect();
    changed.sort();
    changed.dedup();
    match changed.as_slice() {
        [one] => one.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        several => format!("{} files", several.len()),
    }
}
