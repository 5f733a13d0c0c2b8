//! Manifests and indexes, of OCI's and of Docker's kind (OCI image format specification, "Image Manifest").

use serde::Deserialize;

use super::{PullError, is_digest};
use crate::code::IMAGE_LIMIT;

/// The kinds of manifest that are asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// Docker's own limit is 127.
const MOST_LAYERS: usize = 256;
/// The largest configuration, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Something that is known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    /// `sha256:` and 64 digits, once it was checked.
    pub(super) digest: String,
    pub(super) size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// What a manifest's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manifest {
    /// An index: the manifest for this host.
    Index(Descriptor),
    /// An image.
    Image {
        /// Its kind, to be written down.
        media_type: String,
        /// What it says of itself.
        config: Descriptor,
        /// From the lowest.
        layers: Vec<Descriptor>,
    },
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// The host's architecture, by its name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads a manifest; `uri` is for messages.
pub(super) fn read(uri: &str, bytes: &[u8]) -> Result<Manifest, PullError> {
    let unsupported = |why: String| {
        PullError::Invalid(format!(
            "The image manifest, config or layer media type for the source image {uri} is not supported: {why}."
        ))
    };
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| unsupported(format!("its manifest is not one ({error})")))?;
    if document.schema_version != Some(2) {
        return Err(unsupported("its manifest is not of version 2".into()));
    }
    if let Some(manifests) = document.manifests {
        return choose(uri, manifests).map(Manifest::Index);
    }
    let (Some(config), Some(layers)) = (document.config, document.layers) else {
        return Err(unsupported("its manifest has neither layers nor manifests".into()));
    };
    if layers.len() > MOST_LAYERS {
        return Err(unsupported(format!("it has more than {MOST_LAYERS} layers")));
    }
    for part in layers.iter().chain([&config]) {
        if !is_digest(&part.digest) {
            return Err(unsupported("a digest in its manifest is not a SHA-256".into()));
        }
    }
    if !config.media_type.contains("image.config") && !config.media_type.contains("container.image") {
        return Err(unsupported(format!("{} is not the configuration of an image", config.media_type)));
    }
    if config.size > MAX_CONFIG_BYTES {
        return Err(unsupported(format!("its configuration is larger than {MAX_CONFIG_BYTES} bytes")));
    }
    for layer in &layers {
        let kind = layer.media_type.as_str();
        let is_tar =
            ["tar", "tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd"].iter().any(|end| kind.ends_with(end));
        if !is_tar || kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(unsupported(format!("{kind} is not a layer of it")));
        }
    }
    let size = layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
    if size.is_none_or(|size| size > IMAGE_LIMIT) {
        return Err(PullError::Invalid(format!("The image must be smaller than {IMAGE_LIMIT} bytes")));
    }
    let media_type =
        document.media_type.unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned());
    Ok(Manifest::Image { media_type, config, layers })
}

fn choose(uri: &str, manifests: Vec<Descriptor>) -> Result<Descriptor, PullError> {
    let fits = |found: &Descriptor| {
        found.platform.as_ref().is_some_and(|is| is.os == "linux" && is.architecture == architecture())
            && is_digest(&found.digest)
    };
    manifests.into_iter().find(fits).ok_or_else(|| {
        PullError::Invalid(format!("Source image {uri} has no image for linux/{}.", architecture()))
    })
}

/// Refuses an image that is for other hosts.
pub(super) fn check_configuration(uri: &str, bytes: &[u8]) -> Result<(), PullError> {
    let configuration: Configuration = serde_json::from_slice(bytes).map_err(|error| {
        PullError::Invalid(format!("The configuration of source image {uri} is not one: {error}"))
    })?;
    let (os, own) = (configuration.os.as_str(), configuration.architecture.as_str());
    if (os.is_empty() || os == "linux") && (own.is_empty() || own == architecture()) {
        return Ok(());
    }
    Err(PullError::Invalid(format!(
        "Source image {uri} is for {os}/{own}, this host is linux/{}; build it with --platform linux/{}.",
        architecture(),
        architecture()
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn part(kind: &str, size: u64) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", "ab".repeat(32)), "size": size})
    }

    fn image(config: Value, layers: Value) -> Vec<u8> {
        json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string().into_bytes()
    }

    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    #[test]
    fn an_image_is_read() {
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        let bytes = image(part(CONFIG, 10), json!([part(LAYER, 1), part(zstd, 2)]));
        let Ok(Manifest::Image { layers, config, .. }) = read("u", &bytes) else { panic!("it is an image") };
        assert_eq!((layers.len(), config.size), (2, 10));
    }

    #[test]
    fn the_hosts_own_image_is_chosen() {
        let of = |os: &str, architecture: &str, digest: &str| json!({"digest": format!("sha256:{}", digest.repeat(64)), "size": 1, "platform": {"os": os, "architecture": architecture}});
        let index =
            |manifests: Value| json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
        let all = json!([
            of("unknown", "unknown", "0"),
            of("windows", architecture(), "1"),
            of("linux", "s390x", "2"),
            of("linux", architecture(), "3")
        ]);
        let Ok(Manifest::Index(chosen)) = read("u", &index(all)) else { panic!("it is an index") };
        assert_eq!(chosen.digest, format!("sha256:{}", "3".repeat(64)));
        let error = read("u", &index(json!([of("linux", "s390x", "2")]))).unwrap_err().to_string();
        assert!(error.contains(&format!("no image for linux/{}", architecture())), "{error}");
    }

    #[test]
    fn what_can_not_be_run_is_refused() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let many = Value::Array(vec![part(LAYER, 1); MOST_LAYERS + 1]);
        let mut odd = part(LAYER, 1);
        odd["digest"] = json!("sha256:../../etc");
        for (bytes, why) in [
            (b"<html>".to_vec(), "is not one"),
            (b"{}".to_vec(), "not of version 2"),
            (br#"{"schemaVersion":1}"#.to_vec(), "not of version 2"),
            (br#"{"schemaVersion":2}"#.to_vec(), "neither layers nor manifests"),
            (image(part("application/vnd.cncf.helm.config.v1+json", 1), json!([])), "not the configuration"),
            (image(part(CONFIG, 1), json!([part(foreign, 1)])), "not a layer"),
            (image(part(CONFIG, 1), json!([part("text/plain", 1)])), "not a layer"),
            (image(part(CONFIG, 1), json!([odd])), "not a SHA-256"),
            (image(part(CONFIG, 1), many), "more than"),
            (image(part(CONFIG, 1 << 30), json!([])), "configuration is larger"),
            (image(part(CONFIG, 1), json!([part(LAYER, u64::MAX), part(LAYER, 2)])), "must be smaller"),
            (image(part(CONFIG, 1), json!([part(LAYER, IMAGE_LIMIT), part(LAYER, 1)])), "must be smaller"),
        ] {
            let error = read("u", &bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(check_configuration("u", br#"{"os":"linux","architecture":"s390x"}"#).is_err());
        assert!(check_configuration("u", br#"{"os":"windows"}"#).is_err());
        assert!(check_configuration("u", b"[").is_err());
        assert_eq!(check_configuration("u", b"{}"), Ok(()));
    }
}
