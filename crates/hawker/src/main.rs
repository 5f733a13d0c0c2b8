//! The command line: runs a node, and talks to one.
//!
//! The map: `cli` defines every command and flag; `serve` and `dev` run a node; the other commands are clients
//! of one, through `client`; `settings` finds the node and the credentials; `failure` and `ui` are what a
//! person sees. Exit codes: 0 done, 1 failed, 2 called wrongly.

mod account;
mod cli;
mod client;
mod deploy;
mod dev;
mod failure;
mod invoke;
mod logs;
mod serve;
mod settings;
mod status;
mod trace;
mod ui;
mod xml;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// Every request makes and drops some hundred small values, on whichever thread it is by then. It is built so as not to ask
/// for huge pages: of those, each that a few bytes are left in stays whole, which doubled what slow clients cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many threads may block at one time: more are no faster, and the allocator keeps memory for each that there is. What
/// blocks for long has narrower limits of its own.
const BLOCKING_THREADS: usize = 32;

fn main() -> ExitCode {
    // A sandbox's helper is this same binary: it must come before anything else, threads above all.
    runtime::sandbox_main_if_asked();
    let cli = Cli::parse();
    let json = cli.command.json();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Box::pin(run(cli.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::print(&error, json);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Dev(args) => Box::pin(dev::run(args)).await,
        Command::Deploy(args) => Box::pin(deploy::deploy(args)).await,
        Command::Delete(args) => deploy::delete(args).await,
        Command::Invoke(args) => invoke::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Account(args) => account::run(args.command).await,
    }
}
