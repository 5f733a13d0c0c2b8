//! How an image in a registry is named: `HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.

use super::is_digest;

/// A name that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// As it was given.
    pub(crate) uri: String,
    /// The host, with its port.
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// A tag, or `sha256:` and a digest.
    pub(crate) version: String,
}

impl Reference {
    /// Reads a name. `None` if it is none: without a registry's host nobody could say where to ask.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        if uri.len() > 1024 {
            return None;
        }
        let (named, digest) = match uri.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (uri, None),
        };
        let (registry, path) = named.split_once('/')?;
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return None;
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !repository.split('/').all(is_component) || repository.len() > 255 {
            return None;
        }
        if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !is_digest(digest)) {
            return None;
        }
        // The official images of Docker's registry have one component where they are named and two where they are.
        let repository = match registry {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        Some(Self {
            uri: uri.to_owned(),
            registry: registry.to_owned(),
            repository,
            version: digest.or(tag).unwrap_or("latest").to_owned(),
        })
    }

    /// The same image for ever.
    pub(crate) fn pinned(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

/// Part of a repository's name (OCI distribution specification, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(word)
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '_' | '-'))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(word)
        && text.len() <= 128
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_registry_repository_and_version() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let cases = [
            ("registry.example.com/team/app:1.2", ("registry.example.com", "team/app", "1.2")),
            ("localhost:5000/app", ("localhost:5000", "app", "latest")),
            ("localhost/app", ("localhost", "app", "latest")),
            ("docker.io/python:3.12", ("docker.io", "library/python", "3.12")),
            ("docker.io/team/app", ("docker.io", "team/app", "latest")),
            (&format!("a.example/app@{digest}"), ("a.example", "app", &digest)),
            (&format!("a.example/app:1@{digest}"), ("a.example", "app", &digest)),
        ];
        for (uri, (registry, repository, version)) in cases {
            let read = Reference::parse(uri).unwrap();
            assert_eq!((&*read.registry, &*read.repository, &*read.version), (registry, repository, version));
        }
        for uri in [
            "python:3.12",
            "team/app:1",
            "a.example/",
            "a.example/App",
            "a.example/a//b",
            "a.example/../b",
            "a.example/a..b",
            "a.example/app:",
            "a.example/app:-x",
            "a.example/app:a/b",
            "a.example/app@sha256:12",
            "a.example/app@md5:00",
            "a.example/app?x=y",
            "http://a.example/app",
            "",
        ] {
            assert_eq!(Reference::parse(uri), None, "{uri}");
        }
    }
}
