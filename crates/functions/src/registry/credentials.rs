//! The node's credentials for registries, in a file of Docker's form: `{"auths": {"HOST": {"auth": "..."}}}`.
//!
//! Invariants: secrets are in no message and in no log. The file is read for each image anew, since what some
//! registries give out holds for hours only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

/// What is sent as `Authorization: Basic`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Basic(HeaderValue);

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic(..)")
    }
}

impl Basic {
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credentials by registry. The error says what is wrong, without what is secret.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Basic>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    // The error of the parser could quote a secret.
    let file: File = serde_json::from_slice(&text).map_err(|error| {
        format!("line {}, column {} is not as it should be", error.line(), error.column())
    })?;
    if file.creds_store.is_some() || !file.cred_helpers.is_empty() {
        return Err(
            "credsStore and credHelpers name programs, which this node does not run; put the credentials \
                    under auths"
                .into(),
        );
    }
    let mut found = BTreeMap::new();
    for (host, auth) in file.auths {
        if auth.identitytoken.is_some() || auth.registrytoken.is_some() {
            return Err(format!("{host} has a token where this node takes a user and a password (auth)"));
        }
        let pair = match (auth.auth, auth.username, auth.password) {
            (Some(auth), _, _) if !auth.is_empty() => {
                let pair = STANDARD.decode(auth.trim_end_matches('\0')).ok();
                pair.filter(|pair| pair.contains(&b':'))
                    .ok_or_else(|| format!("auth of {host} is not base64 of user:password"))?
            }
            (_, Some(user), Some(password)) => format!("{user}:{password}").into_bytes(),
            (_, None, None) => continue,
            (_, _, _) => return Err(format!("{host} has a username or a password, and not both")),
        };
        let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
        let mut value = value.map_err(|_| format!("auth of {host} can not be sent"))?;
        value.set_sensitive(true);
        found.insert(name_of(&host), Basic(value));
    }
    Ok(found)
}

/// The registry that an entry is for: tools write hosts, and URLs of older ones.
fn name_of(entry: &str) -> String {
    let host = entry.split_once("://").map_or(entry, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<BTreeMap<String, Basic>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn users_and_passwords_are_read_and_never_shown() {
        let found = file(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"}, "A.example:5000": {"username": "you",
                "password": "hidden"}, "empty.example": {}}, "HttpHeaders": {}}"#,
        )
        .unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a.example:5000", "docker.io"]);
        assert_eq!(found["docker.io"].header().to_str().unwrap(), "Basic bWU6c2VjcmV0");
        let shown = format!("{found:?} {:?}", found["docker.io"].header());
        assert!(!shown.contains("bWU6") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn what_can_not_be_used_is_said_without_the_secret() {
        for (text, why) in [
            (r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#, "base64 of user:password"),
            (r#"{"auths": {"a": {"auth": "secret"}}}"#, "base64 of user:password"),
            (r#"{"auths": {"a": {"identitytoken": "secret"}}}"#, "token"),
            (r#"{"auths": {"a": {"username": "secret"}}}"#, "not both"),
            (r#"{"auths": "secret"}"#, "line 1"),
            (r#"{"credsStore": "secret"}"#, "credsStore"),
            (r#"{"credHelpers": {"a": "secret"}}"#, "credHelpers"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret\""), "{text}: {error}");
        }
        assert!(read(Path::new("/nowhere/config.json")).is_err());
    }
}
