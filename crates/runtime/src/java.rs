//! What Java functions are given: a bootstrap of our own, compiled once for each Java, unless their package brings
//! AWS's runtime interface client.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use functions::StartRequest;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::Error;
use crate::environment::Places;
use crate::interpreters::Interpreter;
use crate::single_flight::SingleFlight;

const SOURCE: &str = include_str!("../bootstrap/Bootstrap.java");

/// Where its classes are, inside a sandbox.
pub(crate) const INSIDE: &str = "/var/runtime/java";

/// The main class of AWS's client.
const CLIENT: &str = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";

/// The compiled bootstraps of a node.
#[derive(Debug)]
pub(crate) struct JavaBootstrap {
    directory: PathBuf,
    flights: SingleFlight,
}

impl JavaBootstrap {
    pub(crate) fn new(cache: &Path) -> Self {
        let hash = hex::encode(Sha256::digest(SOURCE));
        Self { directory: cache.join("java").join(&hash[..16]), flights: SingleFlight::default() }
    }

    /// The directory with the classes for `java`, made if it is not there.
    pub(crate) async fn prepare(&self, java: &Interpreter) -> Result<PathBuf, Error> {
        let version = java.version.to_string();
        let finished = self.directory.join(&version);
        if finished.is_dir() {
            return Ok(finished);
        }
        let _alone = self.flights.enter(&version).await;
        if finished.is_dir() {
            return Ok(finished);
        }
        let compiler = java.program.with_file_name("javac");
        if !compiler.is_file() {
            return Err(Error::Install(format!(
                "Java {version} is here as a JRE only, and functions need a compiler once: install a JDK (`apt-get \
                 install openjdk-{version}-jdk-headless`)"
            )));
        }
        let scratch = self.directory.join(format!(".new-{version}-{}", std::process::id()));
        let _ = tokio::fs::remove_dir_all(&scratch).await;
        tokio::fs::create_dir_all(&scratch).await.map_err(Error::cache(&scratch))?;
        let source = scratch.join("Bootstrap.java");
        tokio::fs::write(&source, SOURCE).await.map_err(Error::cache(&source))?;
        let mut command = Command::new(&compiler);
        command
            .args(["-nowarn", "-proc:none", "-g:none", "-encoding", "UTF-8", "-d"])
            .arg(&scratch)
            .arg(&source);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.env_remove("JAVA_TOOL_OPTIONS").env_remove("JDK_JAVAC_OPTIONS").env_remove("CLASSPATH");
        let output = command.output().await.map_err(Error::cache(&compiler))?;
        if !output.status.success() {
            let _ = tokio::fs::remove_dir_all(&scratch).await;
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Install(format!(
                "the bootstrap could not be compiled for Java {version}: {text}"
            )));
        }
        tokio::fs::rename(&scratch, &finished).await.map_err(Error::cache(&finished))?;
        Ok(finished)
    }
}

/// Directories of /etc that a distribution's Java has its configuration in.
pub(crate) fn configuration(java: &Interpreter) -> impl Iterator<Item = PathBuf> {
    let own = format!("/etc/java-{}-openjdk", java.version);
    [own].into_iter().map(PathBuf::from).filter(|path| path.is_dir())
}

/// What is executed: with a heap of 85 % of the memory, as on Lambda.
pub(crate) fn argv(
    program: String,
    classes: &str,
    places: &Places,
    code: &Path,
    request: &StartRequest,
) -> Vec<String> {
    let Places { task, opt, .. } = places;
    let heap_kb = u64::from(request.memory_mb) * 1024 * 85 / 100;
    let mut argv = vec![
        program,
        format!("-Xmx{heap_kb}k"),
        "-XX:+UseSerialGC".to_owned(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        "-XX:-UsePerfData".to_owned(),
        "-Xshare:auto".to_owned(),
        "-Djava.net.preferIPv4Stack=true".to_owned(),
        "-cp".to_owned(),
    ];
    let own = format!("{task}:{task}/lib/*:{opt}/java/lib/*");
    if brings_client(code) {
        argv.extend([own, CLIENT.to_owned(), request.handler.clone()]);
    } else {
        argv.extend([format!("{classes}:{own}"), "hawker.Bootstrap".to_owned()]);
    }
    argv
}

/// True if a package has AWS's runtime interface client in it.
fn brings_client(code: &Path) -> bool {
    let class = format!("{}.class", CLIENT.replace('.', "/"));
    let jars = std::fs::read_dir(code.join("lib")).into_iter().flatten().flatten();
    code.join(class).is_file()
        || jars
            .map(|jar| jar.file_name())
            .any(|name| name.to_string_lossy().starts_with("aws-lambda-java-runtime-interface-client"))
}
