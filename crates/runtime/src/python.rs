//! What Python functions are given: boto3, installed once for each minor version with pip, and compiled
//! bootstraps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;

use crate::Error;
use crate::interpreters::{Interpreter, Interpreters};
use crate::single_flight::SingleFlight;

/// How long an installation may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// After a failed installation, starts go without boto3 for this long before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(120);

/// The libraries of a node's Pythons.
#[derive(Debug)]
pub(crate) struct PythonLibraries {
    directory: PathBuf,
    bootstraps: PathBuf,
    enabled: bool,
    flights: SingleFlight,
    failed: Mutex<HashMap<u32, (std::time::Instant, String)>>,
}

impl PythonLibraries {
    pub(crate) fn new(cache: &Path, bootstraps: PathBuf, enabled: bool) -> Self {
        let directory = cache.join("python");
        Self { directory, bootstraps, enabled, flights: SingleFlight::default(), failed: Mutex::default() }
    }

    /// The directory with boto3 for `python`, made if it is not there; `None` if functions get none.
    pub(crate) async fn prepare(
        &self,
        python: &Interpreter,
        all: &Interpreters,
    ) -> Result<Option<PathBuf>, Error> {
        let version = format!("3.{}", python.version);
        let finished = self.directory.join(&version).join("boto3");
        if self.compiled(python) && (!self.enabled || finished.is_dir()) {
            return Ok(self.enabled.then_some(finished));
        }
        let _alone = self.flights.enter(&version).await;
        self.compile_bootstraps(python).await;
        if !self.enabled {
            return Ok(None);
        }
        if finished.is_dir() {
            return Ok(Some(finished));
        }
        if let Some((when, message)) = self.failures().get(&python.version)
            && when.elapsed() < RETRY_AFTER
        {
            return Err(Error::Install(message.clone()));
        }
        tracing::info!(python = version, "installing boto3 for Python functions (once)");
        let parent = self.directory.join(&version);
        let scratch = parent.join(format!(".new-{}", std::process::id()));
        let _ = tokio::fs::remove_dir_all(&scratch).await;
        tokio::fs::create_dir_all(&parent).await.map_err(Error::cache(&parent))?;
        let installed = tokio::time::timeout(PATIENCE, install(python, all, &scratch)).await;
        let late = |_| Err(format!("boto3 was not installed within {} s", PATIENCE.as_secs()));
        match installed.unwrap_or_else(late) {
            Ok(()) => {
                tokio::fs::rename(&scratch, &finished).await.map_err(Error::cache(&finished))?;
                tracing::info!(python = version, "boto3 is ready");
                Ok(Some(finished))
            }
            Err(message) => {
                let _ = tokio::fs::remove_dir_all(&scratch).await;
                self.failures().insert(python.version, (std::time::Instant::now(), message.clone()));
                Err(Error::Install(message))
            }
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<u32, (std::time::Instant, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while somebody makes what functions of `python` are given.
    pub(crate) fn is_under_way(&self, python: &Interpreter) -> bool {
        self.flights.is_under_way(&format!("3.{}", python.version))
    }

    fn compiled(&self, python: &Interpreter) -> bool {
        self.bootstraps.join(format!("__pycache__/hawker_runtime.cpython-3{}.pyc", python.version)).exists()
    }

    /// Compiles the bootstrap once, since the function can not: its file system is read-only.
    async fn compile_bootstraps(&self, python: &Interpreter) {
        if self.compiled(python) {
            return;
        }
        let mut command = quiet(python);
        command.args(["-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
        command.arg(self.bootstraps.join("hawker_runtime.py"));
        // Without it every start compiles for itself: slower, no different.
        let _ = command.status().await;
    }
}

/// A command that neither talks to the terminal nor outlives the node's interest in it.
fn quiet(python: &Interpreter) -> Command {
    let mut command = Command::new(&python.program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    command
}

/// Installs boto3, which is pure Python, into `target`: with the version's own pip, or any other's.
async fn install(python: &Interpreter, all: &Interpreters, target: &Path) -> Result<(), String> {
    let others = all.pythons().filter(|other| other.version != python.version);
    let mut reasons = Vec::new();
    for pip in std::iter::once(python).chain(others) {
        let mut command = quiet(pip);
        command.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        command.args(["--root-user-action=ignore", "--only-binary=:all:"]);
        command.args(["--python-version", &format!("3.{}", python.version)]);
        command.arg("--target").arg(target).arg("boto3");
        match command.output().await {
            Ok(output) if output.status.success() && target.join("boto3").is_dir() => {
                compile(python, target).await;
                return Ok(());
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let last = text.trim().lines().next_back().unwrap_or("no reason given");
                reasons.push(format!("{}: {last}", pip.program.display()));
            }
            Err(error) => reasons.push(format!("{}: {error}", pip.program.display())),
        }
    }
    Err(format!(
        "boto3 could not be installed for Python 3.{} with pip ({}); install pip (`apt-get install python3-pip`), \
         or package boto3 with the functions that need it",
        python.version,
        reasons.join("; ")
    ))
}

async fn compile(python: &Interpreter, target: &Path) {
    let mut command = quiet(python);
    command.args(["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]).arg(target);
    // Only a matter of speed.
    let _ = command.status().await;
}
