//! Where commands find the node and their credentials.
//!
//! The order: flags; `HAWKER_*`; `AWS_*`; the file `AWS_SHARED_CREDENTIALS_FILE` names; the credentials that a
//! node wrote to its data directory (`HAWKER_DATA`, else `.hawker`); `~/.aws/credentials`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws::sigv4::Credentials;

use crate::cli::Remote;
use crate::client::Client;
use crate::failure::Failure;

/// Where a node is if nobody says.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4566";

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// A client for the node that `remote` and the environment name.
pub(crate) fn client(remote: &Remote) -> anyhow::Result<Client> {
    let endpoint = remote.endpoint.clone().or_else(|| variable(&["HAWKER_ENDPOINT", "AWS_ENDPOINT_URL"]));
    let endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let region = remote.region.clone();
    let region = region.or_else(|| variable(&["HAWKER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]));
    let region = region.unwrap_or_else(|| types::Region::default().to_string());
    Client::new(&endpoint, credentials(remote.profile.as_deref())?, region)
}

fn credentials(profile: Option<&str>) -> anyhow::Result<Credentials> {
    if profile.is_none() {
        for prefix in ["HAWKER", "AWS"] {
            let get = |name: &str| variable(&[&format!("{prefix}_{name}")]);
            if let (Some(access_key_id), Some(secret_access_key)) =
                (get("ACCESS_KEY_ID"), get("SECRET_ACCESS_KEY"))
            {
                let session_token = get("SESSION_TOKEN");
                return Ok(Credentials { access_key_id, secret_access_key, session_token });
            }
        }
    }
    let profile = profile.map(str::to_owned).or_else(|| variable(&["AWS_PROFILE"]));
    let profile = profile.unwrap_or_else(|| "default".to_owned());
    let data = PathBuf::from(variable(&["HAWKER_DATA"]).unwrap_or_else(|| ".hawker".to_owned()));
    let home = variable(&["HOME"]).map(|home| PathBuf::from(home).join(".aws/credentials"));
    let named = variable(&["AWS_SHARED_CREDENTIALS_FILE"]).map(PathBuf::from);
    let files: Vec<PathBuf> = named.into_iter().chain([data.join("credentials")]).chain(home).collect();
    for file in &files {
        if let Ok(text) = std::fs::read_to_string(file)
            && let Some(credentials) = read_profile(&text, &profile)
        {
            return Ok(credentials);
        }
    }
    let looked: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Err(Failure::new("there are no credentials")
        .why(format!("neither AWS_ACCESS_KEY_ID nor the profile `{profile}` of {}", looked.join(", ")))
        .next("set AWS_SHARED_CREDENTIALS_FILE to the file `credentials` in the node's data directory")
        .into())
}

/// A profile of an AWS credentials file.
fn read_profile(text: &str, profile: &str) -> Option<Credentials> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    Some(Credentials {
        access_key_id: found.remove("aws_access_key_id")?,
        secret_access_key: found.remove("aws_secret_access_key")?,
        session_token: found.remove("aws_session_token"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let text = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key= s=\n[other]\naws_access_key_id=B\n";
        let found = read_profile(text, "default").unwrap();
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("A", "s="));
        assert!(read_profile(text, "other").is_none());
    }
}
