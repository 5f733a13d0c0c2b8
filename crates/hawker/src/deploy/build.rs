//! Building a function: its dependencies beside its files.
//!
//! Dependencies are kept in `.hawker/build` under the hash of what asked for them, whole or not at all.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::Command;

use super::package::{Files, collect, sha256};
use crate::failure::Failure;
use crate::ui;

/// How functions are built.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    /// Where dependencies are kept.
    pub(crate) cache: PathBuf,
    /// The node runs `python3.12` on the nearest Python it has, so that is what to build for.
    pub(crate) substitute: bool,
}

impl Builder {
    /// The files of the package of `name`, whose code is at `source`.
    pub(crate) async fn build(
        &self,
        name: &str,
        source: &Path,
        runtime: Option<&str>,
    ) -> anyhow::Result<Files> {
        let mut files = Files::new();
        let runtime = runtime.unwrap_or_default();
        let requirements = source.join("requirements.txt");
        let package = source.join("package.json");
        if runtime.starts_with("python") && requirements.is_file() {
            let site = self.python(name, &requirements, runtime).await?;
            collect(&site, &mut files)?;
        } else if runtime.starts_with("nodejs") && package.is_file() {
            let modules = self.node(name, source).await?;
            collect(&modules, &mut files)?;
            // Those beside the source may be of another machine, or hold what only development needs.
            let mut own = Files::new();
            collect(source, &mut own)?;
            own.retain(|path, _| !path.starts_with("node_modules/"));
            files.extend(own);
            return Ok(files);
        }
        collect(source, &mut files)?;
        Ok(files)
    }

    async fn python(&self, name: &str, requirements: &Path, runtime: &str) -> anyhow::Result<PathBuf> {
        let text = std::fs::read(requirements)?;
        let found = runtime::python_for(runtime, self.substitute);
        let minor = runtime.strip_prefix("python3.").and_then(|m| m.parse::<u32>().ok());
        let (version, program) = match (found, minor) {
            (Some((version, program)), _) => (version, Some(program)),
            (None, Some(minor)) => (minor, None),
            (None, None) => return Err(Failure::new(format!("`{runtime}` is not a Python runtime")).into()),
        };
        let hash = sha256(&[text.as_slice(), format!("python3.{version}").as_bytes()].concat());
        let target = self.cache.join(format!("{name}-{}", &hash[..16]));
        if target.is_dir() {
            return Ok(target);
        }
        let (python, elsewhere) = match program {
            Some(program) => (program, false),
            // Another Python can fetch what is built already for that one.
            None => (PathBuf::from("python3"), true),
        };
        let mut command = Command::new(&python);
        let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
        command.args(quiet).args(["--no-compile", "--requirement"]).arg(requirements);
        if elsewhere {
            let wanted = format!("3.{version}");
            command.args(["--only-binary", ":all:", "--implementation", "cp", "--python-version", &wanted]);
            for platform in platforms() {
                command.args(["--platform", platform]);
            }
        }
        let what = format!("dependencies of {name}");
        self.install(&target, &what, |directory| {
            command.arg("--target").arg(directory);
            command
        })
        .await
    }

    async fn node(&self, name: &str, source: &Path) -> anyhow::Result<PathBuf> {
        let package = std::fs::read(source.join("package.json"))?;
        let lock = std::fs::read(source.join("package-lock.json")).ok();
        let hash = sha256(&[package.as_slice(), lock.as_deref().unwrap_or_default()].concat());
        let target = self.cache.join(format!("{name}-{}", &hash[..16]));
        if target.is_dir() {
            return Ok(target);
        }
        let what = format!("dependencies of {name}");
        let copied = lock.is_some();
        self.install(&target, &what, |directory| {
            // What can not be written shows when npm does not find it.
            let _ = std::fs::write(directory.join("package.json"), &package);
            if let Some(lock) = &lock {
                let _ = std::fs::write(directory.join("package-lock.json"), lock);
            }
            let mut command = Command::new("npm");
            command.arg(if copied { "ci" } else { "install" });
            command.args(["--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]);
            command.current_dir(directory);
            command
        })
        .await
    }

    /// Runs an installer into a directory that takes its place when it is complete.
    async fn install(
        &self,
        target: &Path,
        what: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(&self.cache)
            .with_context(|| format!("`{}` can not be made", self.cache.display()))?;
        let half = target.with_extension("new");
        let _ = std::fs::remove_dir_all(&half);
        std::fs::create_dir_all(&half)?;
        let spinner = ui::spinner(format!("installing {what}"));
        let mut command = command(&half);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let output = command.output().await;
        spinner.finish_and_clear();
        let output = output.map_err(|error| {
            Failure::new(format!("`{program}` can not be run: {error}"))
                .why(format!("it installs the {what}"))
                .next("install it, or put the dependencies beside the code yourself")
        })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let why =
                text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
            let full: Vec<_> = text.lines().collect();
            ui::note(&full[full.len().saturating_sub(15)..].join("\n"));
            return Err(Failure::new(format!("the {what} could not be installed"))
                .why(why.trim().to_owned())
                .next("correct requirements.txt or package.json and deploy again")
                .into());
        }
        std::fs::rename(&half, target)?;
        Ok(target.to_owned())
    }
}

/// The platforms whose wheels run on this machine's architecture.
fn platforms() -> &'static [&'static str] {
    if cfg!(target_arch = "aarch64") {
        &["manylinux2014_aarch64", "manylinux_2_28_aarch64", "linux_aarch64"]
    } else {
        &["manylinux2014_x86_64", "manylinux_2_28_x86_64", "linux_x86_64"]
    }
}
