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
    /// The minor version of a Python 3 or a Ruby 3, the major version of a Node or a Java.
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
    /// `javaN`.
    Java(Interpreter),
    /// `ruby3.N`.
    Ruby(Interpreter),
    /// `provided*`: the package brings its program.
    Provided,
    /// A container image: it brings everything.
    Image,
}

impl Target {
    /// What runs it, if that is the host's.
    pub(crate) fn interpreter(&self) -> Option<&Interpreter> {
        match self {
            Self::Python(found) | Self::Node(found) | Self::Java(found) | Self::Ruby(found) => Some(found),
            Self::Provided | Self::Image => None,
        }
    }

    /// The runtime that it is.
    pub(crate) fn runtime(&self) -> Option<String> {
        match self {
            Self::Python(python) => Some(format!("python3.{}", python.version)),
            Self::Node(node) => Some(format!("nodejs{}.x", node.version)),
            Self::Java(java) => Some(format!("java{}", java.version)),
            Self::Ruby(ruby) => Some(format!("ruby3.{}", ruby.version)),
            Self::Provided | Self::Image => None,
        }
    }
}

/// The host's interpreters by version.
#[derive(Debug, Default)]
pub(crate) struct Interpreters {
    python: BTreeMap<u32, Interpreter>,
    node: BTreeMap<u32, Interpreter>,
    java: BTreeMap<u32, Interpreter>,
    ruby: BTreeMap<u32, Interpreter>,
    substitute: bool,
}

/// How a language's runtimes are named, and how to get one.
struct Language {
    name: &'static str,
    /// Before and after the version, in the name of a runtime,
    before: &'static str,
    after: &'static str,
    /// and before it in the language's own.
    version: &'static str,
    get: fn(u32) -> String,
}

const PYTHON: Language = Language {
    name: "Python",
    before: "python3.",
    after: "",
    version: "Python 3.",
    get: |minor| {
        format!(
            "`apt-get install python3.{minor}`, `uv python install 3.{minor}` or `pyenv install 3.{minor}`"
        )
    },
};
const NODE: Language = Language {
    name: "Node.js",
    before: "nodejs",
    after: ".x",
    version: "Node.js ",
    get: |major| format!("your distribution's `nodejs`, or `nvm install {major}`"),
};
const JAVA: Language = Language {
    name: "Java",
    before: "java",
    after: "",
    version: "Java ",
    get: |major| {
        format!("`apt-get install openjdk-{major}-jdk-headless`, or unpack a JDK below /usr/lib/jvm")
    },
};
const RUBY: Language = Language {
    name: "Ruby",
    before: "ruby3.",
    after: "",
    version: "Ruby 3.",
    get: |minor| format!("`apt-get install ruby3.{minor}`, or `rbenv install 3.{minor}`"),
};

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
                } else if name == "java" {
                    found.add_java(&entry.path());
                } else if let Some(minor) = name.strip_prefix("ruby3.").and_then(|minor| minor.parse().ok()) {
                    if let Some(interpreter) = Interpreter::at(&entry.path(), minor) {
                        found.ruby.entry(minor).or_insert(interpreter);
                    }
                } else if name == "ruby" {
                    found.add_ruby(&entry.path());
                }
            }
        }
        found
    }

    fn add_node(&mut self, path: &Path) {
        if is_known(&self.node, path) {
            return;
        }
        let Some(mut interpreter) = Interpreter::at(path, 0) else { return };
        let Some(text) = version_of(&interpreter) else { return };
        let major = text.trim().strip_prefix('v').and_then(|text| text.split('.').next()?.parse().ok());
        if let Some(major) = major {
            interpreter.version = major;
            self.node.entry(major).or_insert(interpreter);
        }
    }

    fn add_ruby(&mut self, path: &Path) {
        if is_known(&self.ruby, path) {
            return;
        }
        let Some(mut interpreter) = Interpreter::at(path, 0) else { return };
        let Some(text) = version_of(&interpreter) else { return };
        let minor = text.strip_prefix("ruby 3.").and_then(|text| text.split('.').next()?.parse().ok());
        if let Some(minor) = minor {
            interpreter.version = minor;
            self.ruby.entry(minor).or_insert(interpreter);
        }
    }

    /// A Java says what it is in a file beside its programs: asking itself takes long.
    fn add_java(&mut self, path: &Path) {
        let Some(mut interpreter) = Interpreter::at(path, 0) else { return };
        let release = interpreter.program.parent().and_then(Path::parent).map(|home| home.join("release"));
        let text = release.and_then(|release| std::fs::read_to_string(release).ok()).unwrap_or_default();
        let version = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\"")).unwrap_or_default();
        let version = version.strip_prefix("1.").unwrap_or(version);
        let major: Option<u32> =
            version.split(['.', '"', '-', '+']).next().and_then(|text| text.parse().ok());
        // The bootstrap is written for this one and later.
        if let Some(major) = major.filter(|major| *major >= 11) {
            interpreter.version = major;
            self.java.entry(major).or_insert(interpreter);
        }
    }

    /// What runs `runtime`; the error says what is there and how to get what is not.
    pub(crate) fn resolve(&self, runtime: &str) -> Result<Target, String> {
        if matches!(runtime, "provided" | "provided.al2" | "provided.al2023") {
            return Ok(Target::Provided);
        }
        let version = |language: &Language| -> Option<u32> {
            runtime.strip_prefix(language.before)?.strip_suffix(language.after)?.parse().ok()
        };
        if let Some(minor) = version(&PYTHON) {
            return self.pick(runtime, &PYTHON, &self.python, minor).map(Target::Python);
        }
        if let Some(major) = version(&NODE) {
            return self.pick(runtime, &NODE, &self.node, major).map(Target::Node);
        }
        if let Some(major) = version(&JAVA) {
            return self.pick(runtime, &JAVA, &self.java, major).map(Target::Java);
        }
        if let Some(minor) = version(&RUBY) {
            return self.pick(runtime, &RUBY, &self.ruby, minor).map(Target::Ruby);
        }
        Err(format!(
            "the runtime `{runtime}` is not supported; use python3.N, nodejsN.x, javaN, ruby3.N, provided.al2 or \
             provided.al2023"
        ))
    }

    fn pick(
        &self,
        runtime: &str,
        language: &Language,
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
        let Language { name, before, after, version, get } = language;
        let there: Vec<_> = have.keys().map(|version| format!("{before}{version}{after}")).collect();
        let there = if there.is_empty() { format!("no {name} at all") } else { there.join(", ") };
        let get = get(wanted);
        Err(format!(
            "the runtime `{runtime}` needs {version}{wanted}, which is not on this host (there is: {there}); install \
             it ({get}), deploy the function with one that is there, or let the nearest version stand in \
             (`substitute_runtimes = true`)"
        ))
    }

    /// All Pythons, the newest first: any of them may have a pip.
    pub(crate) fn pythons(&self) -> impl Iterator<Item = &Interpreter> {
        self.python.values().rev()
    }
}

fn is_known(found: &BTreeMap<u32, Interpreter>, path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| found.values().any(|known| path == known.program))
}

/// What an interpreter says that it is.
fn version_of(interpreter: &Interpreter) -> Option<String> {
    let output = std::process::Command::new(&interpreter.program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where to look, the best first: what the distribution looks after, then PATH, then version managers.
fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from).into();
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        for versions in [".pyenv/versions", ".local/share/uv/python", ".nvm/versions/node", ".rbenv/versions"]
        {
            directories.extend(below(&home.join(versions)));
        }
    }
    directories.extend(below(Path::new("/usr/lib/jvm")));
    directories.retain(|directory| directory.is_absolute());
    directories
}

/// The programs of all versions in a directory, the newest first by their names.
fn below(versions: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    found.reverse();
    found
}

/// The Python on this host that functions of `runtime` (`python3.N`) run on, and its minor version: for building
/// their dependencies. Blocks for as long as looking takes.
pub fn python_for(runtime: &str, substitute: bool) -> Option<(u32, PathBuf)> {
    match Interpreters::find(substitute).resolve(runtime) {
        Ok(Target::Python(found)) => Some((found.version, found.program)),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(python: &[u32], substitute: bool) -> Interpreters {
        let one =
            |version| Interpreter { version, program: format!("/usr/bin/p{version}").into(), prefix: None };
        let python = python.iter().map(|minor| (*minor, one(*minor))).collect();
        Interpreters { python, substitute, ..Interpreters::default() }
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
        assert!(none.resolve("java21").unwrap_err().contains("openjdk-21-jdk-headless"));
        assert!(none.resolve("ruby3.3").unwrap_err().contains("no Ruby at all"));
        for unknown in ["python2.7", "java", "", "nodejs", "python3.", "dotnet8"] {
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
