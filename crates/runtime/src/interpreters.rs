//! Which interpreters this host has, and which of them runs what.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The oldest Python that the bootstrap runs on.
const OLDEST_PYTHON: u32 = 8;
const NEWEST_PYTHON: u32 = 99;

/// An interpreter on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// The minor version of a Python, the major version of a Node.
    pub(crate) version: u32,
    /// The program itself, no link.
    pub(crate) program: PathBuf,
    /// Its installation, if that is not in /usr: it is shown as /var/lang.
    pub(crate) prefix: Option<PathBuf>,
}

impl Interpreter {
    fn at(path: &Path, version: u32) -> Option<Self> {
        let program = path.canonicalize().ok()?;
        // Version managers put shell scripts in the way; those do not work where their files are not.
        let mut magic = [0; 4];
        std::fs::File::open(&program).ok()?.read_exact(&mut magic).ok()?;
        if &magic != b"\x7fELF" {
            return None;
        }
        let prefix =
            if program.starts_with("/usr") { None } else { Some(program.parent()?.parent()?.to_owned()) };
        Some(Self { version, program, prefix })
    }

    /// The program as it is called inside a sandbox.
    pub(crate) fn inside(&self) -> String {
        match &self.prefix {
            None => self.program.to_string_lossy().into_owned(),
            Some(prefix) => {
                let below = self.program.strip_prefix(prefix).unwrap_or(&self.program);
                format!("/var/lang/{}", below.display())
            }
        }
    }
}

/// What a function's runtime needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `python3.N`, on that or (by substitution) another minor version.
    Python(Interpreter),
    /// `nodejsN.x`.
    Node(Interpreter),
    /// `provided*`: the package brings its program.
    Provided,
}

/// The host's interpreters by version.
#[derive(Debug, Default)]
pub(crate) struct Interpreters {
    python: BTreeMap<u32, Interpreter>,
    node: BTreeMap<u32, Interpreter>,
    substitute: bool,
}

impl Interpreters {
    /// Looks for interpreters in the system's directories, in PATH and where version managers keep them. Blocks.
    pub(crate) fn find(substitute: bool) -> Self {
        let mut found = Self { substitute, ..Self::default() };
        for directory in directories() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if let Some(minor) = name.strip_prefix("python3.").and_then(|minor| minor.parse().ok()) {
                    if (OLDEST_PYTHON..=NEWEST_PYTHON).contains(&minor)
                        && !found.python.contains_key(&minor)
                        && let Some(interpreter) = Interpreter::at(&entry.path(), minor)
                    {
                        found.python.insert(minor, interpreter);
                    }
                } else if name == "node" || name == "nodejs" {
                    found.add_node(&entry.path());
                }
            }
        }
        found
    }

    fn add_node(&mut self, path: &Path) {
        if self.node.values().any(|known| path.canonicalize().is_ok_and(|path| path == known.program)) {
            return;
        }
        let Some(mut interpreter) = Interpreter::at(path, 0) else { return };
        let Ok(output) = std::process::Command::new(&interpreter.program).arg("--version").output() else {
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let major = text.trim().strip_prefix('v').and_then(|text| text.split('.').next()?.parse().ok());
        if let Some(major) = major {
            interpreter.version = major;
            self.node.entry(major).or_insert(interpreter);
        }
    }

    /// What runs `runtime`; the error says what is there and how to get what is not.
    pub(crate) fn resolve(&self, runtime: &str) -> Result<Target, String> {
        if matches!(runtime, "provided" | "provided.al2" | "provided.al2023") {
            return Ok(Target::Provided);
        }
        if let Some(minor) = runtime.strip_prefix("python3.").and_then(|minor| minor.parse().ok()) {
            return self.pick(runtime, "python3.", "Python 3.", "", &self.python, minor).map(Target::Python);
        }
        let node = runtime.strip_prefix("nodejs").and_then(|rest| rest.strip_suffix(".x")?.parse().ok());
        if let Some(major) = node {
            return self.pick(runtime, "nodejs", "Node.js ", ".x", &self.node, major).map(Target::Node);
        }
        Err(format!(
            "the runtime `{runtime}` is not supported; use python3.N, nodejsN.x, provided.al2 or provided.al2023"
        ))
    }

    fn pick(
        &self,
        runtime: &str,
        before: &str,
        language: &str,
        after: &str,
        have: &BTreeMap<u32, Interpreter>,
        wanted: u32,
    ) -> Result<Interpreter, String> {
        if let Some(interpreter) = have.get(&wanted) {
            return Ok(interpreter.clone());
        }
        if self.substitute
            // The nearest, the newer one of two.
            && let Some(nearest) =
                have.values().min_by_key(|there| (there.version.abs_diff(wanted), u32::MAX - there.version))
        {
            return Ok(nearest.clone());
        }
        let there: Vec<_> = have.keys().map(|version| format!("{before}{version}{after}")).collect();
        let there = if there.is_empty() {
            format!("no {} at all", language.trim_end_matches([' ', '.', '3']))
        } else {
            there.join(", ")
        };
        let get = if before == "python3." {
            format!(
                "install it (`apt-get install python3.{wanted}`, `uv python install 3.{wanted}` or `pyenv install 3.{wanted}`)"
            )
        } else {
            format!("install it (your distribution's `nodejs`, or `nvm install {wanted}`)")
        };
        Err(format!(
            "the runtime `{runtime}` needs {language}{wanted}, which is not on this host (there is: {there}); \
             {get}, deploy the function with one that is there, or let the nearest version stand in \
             (`substitute_runtimes = true`)"
        ))
    }

    /// All Pythons, the newest first: any of them may have a pip.
    pub(crate) fn pythons(&self) -> impl Iterator<Item = &Interpreter> {
        self.python.values().rev()
    }
}

/// Where to look, the best first: what the distribution looks after, then PATH, then version managers.
fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from).into();
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        for versions in [".pyenv/versions", ".local/share/uv/python", ".nvm/versions/node"] {
            let mut found: Vec<_> = std::fs::read_dir(home.join(versions))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path().join("bin"))
                .collect();
            found.sort();
            directories.extend(found.into_iter().rev());
        }
    }
    directories.retain(|directory| directory.is_absolute());
    directories
}

/// The Python on this host that functions of `runtime` (`python3.N`) run on, and its minor version: for building
/// their dependencies. Blocks for as long as looking takes.
pub fn python_for(runtime: &str, substitute: bool) -> Option<(u32, PathBuf)> {
    match Interpreters::find(substitute).resolve(runtime) {
        Ok(Target::Python(found)) => Some((found.version, found.program)),
        Ok(Target::Node(_) | Target::Provided) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(python: &[u32], substitute: bool) -> Interpreters {
        let one =
            |version| Interpreter { version, program: format!("/usr/bin/p{version}").into(), prefix: None };
        let python = python.iter().map(|minor| (*minor, one(*minor))).collect();
        Interpreters { python, node: BTreeMap::new(), substitute }
    }

    #[test]
    fn the_exact_version_is_needed_unless_substitution_is_allowed() {
        let refused = with(&[11, 13], false).resolve("python3.12").unwrap_err();
        assert!(refused.contains("python3.11, python3.13"), "{refused}");
        let Ok(Target::Python(exact)) = with(&[11, 13], true).resolve("python3.11") else { panic!() };
        assert_eq!(exact.version, 11);
        let Ok(Target::Python(nearest)) = with(&[11, 13], true).resolve("python3.12") else { panic!() };
        assert_eq!(nearest.version, 13);
        assert!(with(&[], true).resolve("python3.12").unwrap_err().contains("no Python at all"));
    }

    #[test]
    fn runtimes_are_named_as_on_lambda() {
        let none = with(&[], false);
        assert_eq!(none.resolve("provided.al2023"), Ok(Target::Provided));
        assert!(none.resolve("nodejs20.x").unwrap_err().contains("Node.js 20"));
        for unknown in ["python2.7", "java21", "", "nodejs", "python3."] {
            assert!(none.resolve(unknown).unwrap_err().contains("not supported"), "{unknown}");
        }
    }

    #[test]
    fn an_installation_outside_of_usr_is_shown_as_var_lang() {
        let python = Interpreter {
            version: 12,
            program: "/root/.pyenv/versions/3.12.1/bin/python3.12".into(),
            prefix: Some("/root/.pyenv/versions/3.12.1".into()),
        };
        assert_eq!(python.inside(), "/var/lang/bin/python3.12");
    }
}
