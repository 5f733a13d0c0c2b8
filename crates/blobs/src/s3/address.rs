//! Where a bucket is: `s3://<bucket>[/<prefix>][?endpoint=<URL>&region=<name>&virtual_hosted=true]`.
//!
//! Credentials are not part of it: they come from the environment, as AWS's clients take them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A bucket, what the names of its objects begin with, and whom to ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BucketAddress {
    /// The bucket.
    pub bucket: String,
    /// What is before the names of all blobs; may be empty. Neither begins nor ends with a slash.
    pub prefix: String,
    /// Whom to ask; AWS if `None`.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; that of the environment if `None`.
    pub region: Option<String>,
    /// Whether the bucket's name is part of the host's.
    pub virtual_hosted: bool,
}

/// It is not the address of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{address}` is not where blobs can be kept: {why}; write it like s3://bucket/prefix?endpoint=https://storage.example.com"
)]
pub struct BucketAddressError {
    address: String,
    why: String,
}

impl FromStr for BucketAddress {
    type Err = BucketAddressError;

    fn from_str(text: &str) -> Result<Self, BucketAddressError> {
        parse(text).map_err(|why| BucketAddressError { address: text.to_owned(), why })
    }
}

impl TryFrom<String> for BucketAddress {
    type Error = BucketAddressError;

    fn try_from(text: String) -> Result<Self, BucketAddressError> {
        text.parse()
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<BucketAddress, String> {
    let rest = text.strip_prefix("s3://").ok_or("it does not begin with s3://")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(named) {
        return Err(format!("`{bucket}` is not the name of a bucket"));
    }
    let prefix = prefix.trim_matches('/');
    let steps = prefix.is_empty()
        || prefix.split('/').all(|step| {
            !step.is_empty() && step != "." && step != ".." && step.chars().all(|c| named(c) || c == '=')
        });
    if !steps {
        return Err(format!("`{prefix}` is not a prefix of letters, digits and -._= between slashes"));
    }
    let mut address = BucketAddress {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: None,
        region: None,
        virtual_hosted: false,
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "endpoint" => {
                let url = value.trim_end_matches('/');
                let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
                if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
                    return Err(format!(
                        "the endpoint `{value}` is not a URL of http or https and a host alone"
                    ));
                }
                address.endpoint = Some(url.to_owned());
            }
            "region" => address.region = Some(value.into_owned()),
            "virtual_hosted" => {
                address.virtual_hosted =
                    value.parse().map_err(|_| format!("virtual_hosted is true or false, not `{value}`"))?;
            }
            other => {
                return Err(format!(
                    "there is no setting `{other}` (there are endpoint, region, virtual_hosted)"
                ));
            }
        }
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address: BucketAddress = "s3://blobs".parse().unwrap();
        assert_eq!((&*address.bucket, &*address.prefix), ("blobs", ""));
        assert_eq!(address.to_string(), "s3://blobs");
        let address: BucketAddress =
            "s3://blobs/a/b/?endpoint=http%3A%2F%2F127.0.0.1%3A8333&region=eu-north-1&virtual_hosted=true"
                .parse()
                .unwrap();
        assert_eq!(address.prefix, "a/b");
        assert_eq!(address.endpoint.as_deref(), Some("http://127.0.0.1:8333"));
        assert_eq!(address.region.as_deref(), Some("eu-north-1"));
        assert!(address.virtual_hosted);
        let address: BucketAddress = "s3://b?endpoint=https://storage.example.com/".parse().unwrap();
        assert_eq!(address.endpoint.as_deref(), Some("https://storage.example.com"));
        assert_eq!(address.to_string(), "s3://b");
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (text, why) in [
            ("gs://blobs", "does not begin with s3://"),
            ("s3://", "is not the name of a bucket"),
            ("s3://a b", "is not the name of a bucket"),
            ("s3://b/a//c", "is not a prefix"),
            ("s3://b/../c", "is not a prefix"),
            ("s3://b?endpoint=ftp://x", "not a URL of http"),
            ("s3://b?endpoint=http://x/path", "not a URL of http"),
            ("s3://b?endpoint=http://key:secret@x", "not a URL of http"),
            ("s3://b?virtual_hosted=yes", "true or false"),
            ("s3://b?retries=9", "no setting `retries`"),
        ] {
            let error = text.parse::<BucketAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
