//! Container images: an archive of one (an OCI image layout, or what `docker save` writes) becomes a directory that is
//! a sandbox's root, and what the image says is to be run.

mod archive;
mod layer;
mod zstd;

use std::fs;
use std::path::{Path, PathBuf};

use functions::{ImageConfig, StartError};
use serde::{Deserialize, Serialize};

use super::unpack::platform;
use archive::Archive;
use layer::Root;

/// The unpacked files, and what the image says, below the directory of a package.
const ROOT: &str = "rootfs";
const CONFIG: &str = "image.json";

fn broken(error: impl std::fmt::Display) -> StartError {
    StartError::Code(format!("the container image can not be unpacked: {error}"))
}

/// What an image says of itself (OCI image format specification, "Image Configuration").
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ContainerImage {
    #[serde(rename = "Entrypoint", default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(rename = "Cmd", default, deserialize_with = "or_default")]
    command: Vec<String>,
    #[serde(rename = "Env", default, deserialize_with = "or_default")]
    environment: Vec<String>,
    #[serde(rename = "WorkingDir", default, deserialize_with = "or_default")]
    working_directory: String,
}

/// `null` is as good as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ContainerImage {
    /// The image of an unpacked package.
    pub(crate) fn of(package: &Path) -> Result<Self, StartError> {
        let text = fs::read(package.join(CONFIG)).map_err(platform("reading the container image"))?;
        serde_json::from_slice(&text).map_err(broken)
    }

    /// Its root directory.
    pub(crate) fn root(package: &Path) -> PathBuf {
        package.join(ROOT)
    }

    /// What is executed, and with it the part that Lambda takes for the handler.
    pub(crate) fn argv(&self, config: &ImageConfig) -> (Vec<String>, Option<String>) {
        let or =
            |own: &Vec<String>, image: &Vec<String>| if own.is_empty() { image.clone() } else { own.clone() };
        let mut argv = or(&config.entry_point, &self.entrypoint);
        let command = or(&config.command, &self.command);
        let handler = if argv.is_empty() { None } else { command.first().cloned() };
        argv.extend(command);
        (argv, handler)
    }

    /// Where it starts.
    pub(crate) fn working_directory(&self, config: &ImageConfig) -> String {
        let own = config.working_directory.as_deref().unwrap_or(&self.working_directory);
        if own.is_empty() { "/".to_owned() } else { own.to_owned() }
    }

    /// Its environment variables.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().filter_map(|variable| variable.split_once('='))
    }
}

/// Unpacks an archive into the new directory `target`. Blocks.
pub(super) fn unpack(file: &Path, target: &Path, max_bytes: u64) -> Result<(), StartError> {
    let mut archive = Archive::open(file)?;
    let (config, layers) = archive.image()?;
    fs::create_dir(target).map_err(platform("unpacking the container image"))?;
    let mut root = Root::make(&target.join(ROOT), max_bytes)?;
    for layer in layers {
        archive.read(&layer, |reader| root.apply(reader))?;
    }
    root.finish()?;
    let text = serde_json::to_vec(&config).map_err(broken)?;
    fs::write(target.join(CONFIG), text).map_err(platform("unpacking the container image"))
}

#[cfg(test)]
mod tests;
