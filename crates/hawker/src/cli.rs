//! The command line: every command, flag and environment variable, each defined once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use types::{AccountId, Region};

/// A serverless cloud that you own.
#[derive(Debug, Parser)]
#[command(name = "hawker", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Serve(Serve),
    /// Run a node here, deploy an app to it, show its logs, and deploy again on every save
    Dev(Dev),
    /// Build and deploy a SAM or CloudFormation template
    Deploy(Deploy),
    /// Delete a stack and everything in it
    Delete(Delete),
    /// Call a function
    Invoke(Invoke),
    /// Show what a function logged
    Logs(Logs),
    /// Show the node, its stacks, its functions and what they cost
    Status(Status),
    /// Show one request across every hop
    Trace(Trace),
    /// Make or list accounts
    Account(Account),
}

impl Command {
    /// True if output is for a machine.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Dev(_) => false,
            Self::Deploy(c) => c.remote.json,
            Self::Delete(c) => c.remote.json,
            Self::Invoke(c) => c.remote.json,
            Self::Logs(c) => c.remote.json,
            Self::Status(c) => c.remote.json,
            Self::Trace(c) => c.remote.json,
            Self::Account(c) => match &c.command {
                AccountCommand::Create { remote } | AccountCommand::List { remote } => remote.json,
            },
        }
    }
}

/// How functions are walled off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Namespaces, seccomp, Landlock and control groups
    Auto,
    /// Plain processes: for development alone
    None,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// A node's settings. What is not given comes from the configuration file, then from the default.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:4566]
    #[arg(long, env = "HAWKER_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Data directory [default: .hawker]
    #[arg(long, env = "HAWKER_DATA", value_name = "DIRECTORY")]
    pub(crate) data: Option<PathBuf>,
    /// A bucket of any S3 for large objects and code, instead of files in the data directory; credentials are those
    /// of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)
    #[arg(long, env = "HAWKER_BLOBS", value_name = "s3://BUCKET/PREFIX?endpoint=URL")]
    pub(crate) blobs: Option<server::BucketAddress>,
    /// Where what can be made again is kept; nodes may share one [default: <data>/cache]
    #[arg(long, env = "HAWKER_CACHE", value_name = "DIRECTORY")]
    pub(crate) cache: Option<PathBuf>,
    /// The region that the node is [default: us-east-1]
    #[arg(long, env = "HAWKER_REGION", value_parser = region)]
    pub(crate) region: Option<Region>,
    /// The account of the root key [default: 000000000000]
    #[arg(long, env = "HAWKER_ACCOUNT_ID")]
    pub(crate) account_id: Option<AccountId>,
    /// The root key's id; made at the first start if not given
    #[arg(long, env = "HAWKER_ACCESS_KEY_ID", requires = "secret_access_key")]
    pub(crate) access_key_id: Option<String>,
    /// The root key's secret
    #[arg(long, env = "HAWKER_SECRET_ACCESS_KEY", hide_env_values = true, requires = "access_key_id")]
    pub(crate) secret_access_key: Option<String>,
    /// How functions are walled off [default: auto]
    #[arg(long, env = "HAWKER_ISOLATION", value_enum)]
    pub(crate) isolation: Option<Isolation>,
    /// How long an idle instance is kept, such as 90s or 5m [default: 5m]
    #[arg(long, env = "HAWKER_KEEP_ALIVE", value_name = "DURATION", value_parser = duration)]
    pub(crate) keep_alive: Option<std::time::Duration>,
    /// Run python3.12 (say) on the nearest Python there is, if that very version is missing
    #[arg(long, env = "HAWKER_SUBSTITUTE_RUNTIMES", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) substitute_runtimes: Option<bool>,
    /// A registry that container images may be taken from; may be given again. Without it there is none. http:// is
    /// written before one that has no TLS, but for this machine's
    #[arg(long = "registry", env = "HAWKER_REGISTRIES", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub(crate) registries: Vec<server::RegistryHost>,
    /// Credentials for registries: a file as Docker's config.json, read again for each image
    #[arg(long, env = "HAWKER_REGISTRY_CREDENTIALS", value_name = "FILE")]
    pub(crate) registry_credentials: Option<PathBuf>,
    /// A configuration file (YAML or JSON) with these and the other settings
    #[arg(long, env = "HAWKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the log looks
    #[arg(long, env = "HAWKER_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// `hawker serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// Where the node is, and how to answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The node's address [env: HAWKER_ENDPOINT, AWS_ENDPOINT_URL] [default: http://127.0.0.1:4566]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The region [env: HAWKER_REGION, AWS_REGION] [default: us-east-1]
    #[arg(long = "region", global = true)]
    pub(crate) region: Option<String>,
    /// Profile of the credentials file [env: AWS_PROFILE] [default: default]
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// Answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What is built.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// A template, or a directory with a template.yaml, template.yml or template.json
    #[arg(default_value = ".", value_name = "DIRECTORY|TEMPLATE")]
    pub(crate) source: PathBuf,
    /// The stack's name [default: the directory's name]
    #[arg(long)]
    pub(crate) stack_name: Option<String>,
    /// A parameter of the template; may be given again
    #[arg(long = "parameter", short = 'p', value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) parameters: Vec<(String, String)>,
}

/// `hawker deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Carry the plan out without asking
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// `hawker delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The stack's name
    pub(crate) stack: String,
    /// Delete without asking
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker invoke`.
#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function's name, or its logical id
    pub(crate) function: String,
    /// The event: JSON, @FILE, or - for standard input
    #[arg(long, short, default_value = "{}")]
    pub(crate) payload: String,
    /// Do not wait for the answer
    #[arg(long = "async")]
    pub(crate) asynchronous: bool,
    /// Show what the function logged
    #[arg(long, conflicts_with = "asynchronous")]
    pub(crate) log: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function's name, or its logical id
    pub(crate) function: String,
    /// Go on as more is logged
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How far back, such as 10m, 2h or 7d
    #[arg(long, short, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    pub(crate) since: std::time::Duration,
    /// Only what matches this CloudWatch Logs filter pattern
    #[arg(long, value_name = "PATTERN")]
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker trace`.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The trace's id (1-...), an X-Amzn-Trace-Id header, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `hawker account`.
#[derive(Debug, Args)]
pub(crate) struct Account {
    #[command(subcommand)]
    pub(crate) command: AccountCommand,
}

/// The commands of `hawker account`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account, with a root key
    Create {
        /// Where the node is.
        #[command(flatten)]
        remote: Remote,
    },
    /// List the accounts
    List {
        /// Where the node is.
        #[command(flatten)]
        remote: Remote,
    },
}

fn region(text: &str) -> Result<Region, String> {
    let valid =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if valid { Ok(Region::new(text)) } else { Err("a region is named like us-east-1".to_owned()) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `90s`, `10m`, `2h`, `7d`, `500ms`; a number alone is seconds.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms)).filter(|_| ms > 0);
    total
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| "a duration is given like 90s, 10m, 2h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90").unwrap().as_secs(), 90);
        assert_eq!(duration("500ms").unwrap().as_millis(), 500);
        assert_eq!(duration("2h").unwrap().as_secs(), 7200);
        for bad in ["", "h", "1y", "-1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
