//! Container images from registries, without Docker (OCI distribution specification 1.1).
//!
//! The map: `hosts` says which registries may be asked, `reference` how an image is named, `credentials` what the node
//! shows; `client` sends requests, `challenge` and `session` follow the protocol, `manifest` says what an image is made
//! of, and `archive` makes it the one file that a function's package is.
//!
//! Invariants: asking a registry is a request that the node makes for its users, so only those that the operator names
//! are asked. What came over the network is used once its SHA-256 is what was asked for.

mod archive;
mod challenge;
mod client;
mod credentials;
mod error;
mod hosts;
mod manifest;
mod reference;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub(crate) use archive::Archive;
use client::{Http, whole};
pub(crate) use error::PullError;
pub use hosts::{RegistryHost, RegistryHostError};
use manifest::{Descriptor, Manifest};
pub(crate) use reference::Reference;
use session::Session;

use crate::Config;

/// Where Docker's registry really is.
const DOCKER_HUB: &str = "https://registry-1.docker.io";

/// Whether this is `sha256:` and 64 digits.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The registries of a node.
#[derive(Debug)]
pub(crate) struct Registries {
    http: Http,
    /// A file of Docker's form.
    credentials: Option<PathBuf>,
}

/// An image that was found, for this host.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    reference: Reference,
    /// The digest of its manifest.
    pub(crate) digest: String,
    manifest: Vec<u8>,
    media_type: String,
    config: Descriptor,
    configuration: Vec<u8>,
    layers: Vec<Descriptor>,
}

impl Image {
    /// Its name, as it was given.
    pub(crate) fn uri(&self) -> &str {
        &self.reference.uri
    }
}

impl Registries {
    pub(crate) fn new(config: &Config) -> Self {
        let mut hosts = config.registries.clone();
        // Who names Docker's registry means the host behind it.
        if hosts.iter().any(|host| host.is_named("docker.io")) {
            hosts.extend(DOCKER_HUB.parse());
        }
        Self { http: Http::new(hosts), credentials: config.registry_credentials.clone() }
    }

    /// Finds an image, which is in the registry now and can run here; nothing large is read.
    pub(crate) async fn find(&self, reference: Reference) -> Result<Image, PullError> {
        let session = self.session(&reference)?;
        let mut version = reference.version.clone();
        let mut found = None;
        // An index may lead to another, though not without end.
        for _ in 0..4 {
            let (bytes, digest) = session.manifest(&version, manifest::ACCEPT).await?;
            match manifest::read(&reference.uri, &bytes)? {
                Manifest::Index(chosen) => version = chosen.digest,
                Manifest::Image { media_type, config, layers } => {
                    found = Some((bytes, digest, media_type, config, layers));
                    break;
                }
            }
        }
        let Some((manifest, digest, media_type, config, layers)) = found else {
            let message = format!("Source image {} is an index of indexes of indexes.", reference.uri);
            return Err(PullError::Invalid(message));
        };
        let configuration = whole(session.blob(&config.digest).await?, config.size).await?;
        let own = format!("sha256:{}", hex::encode(Sha256::digest(&configuration)));
        if own != config.digest {
            return Err(session.damaged(&config.digest, &own));
        }
        manifest::check_configuration(&reference.uri, &configuration)?;
        drop(session);
        Ok(Image { reference, digest, manifest, media_type, config, configuration, layers })
    }

    /// Gets an image.
    pub(crate) fn archive(self: &Arc<Self>, image: Image) -> Archive {
        archive::archive(self.clone(), image)
    }

    fn session<'a>(&'a self, reference: &'a Reference) -> Result<Session<'a>, PullError> {
        let named = &reference.registry;
        let Some(host) = self.http.hosts().iter().find(|host| host.is_named(named)) else {
            return Err(PullError::Refused(format!(
                "Source image {} is not valid. Provide a valid source image. This node takes no images from the registry \
                 {named}: its operator allows that with `hawker serve --registry {named}`, or with \
                 `functions.registries` in the configuration. An archive of the image in a bucket works too: \
                 s3://bucket/key.",
                reference.uri
            )));
        };
        let credentials = match &self.credentials {
            None => None,
            Some(path) => {
                let all = credentials::read(path).map_err(|why| {
                    PullError::Unreachable(format!("The credentials for registries can not be read: {why}."))
                })?;
                all.get(&host.authority()).cloned()
            }
        };
        let origin = match host.is_named("docker.io") {
            true => DOCKER_HUB.to_owned(),
            false => format!("{}://{}", host.scheme(), host.authority()),
        };
        Ok(Session::new(&self.http, reference, &origin, credentials))
    }
}

/// Sees that a file of credentials can be used.
pub(crate) fn check_credentials(path: &std::path::Path) -> Result<(), String> {
    credentials::read(path).map(drop)
}
