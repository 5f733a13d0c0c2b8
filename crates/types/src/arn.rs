//! Amazon Resource Names (AWS General Reference, "Amazon Resource Names").

use std::fmt;
use std::str::FromStr;

/// `arn:partition:service:region:account:resource`, borrowed from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    /// `aws` here; others are parsed, and match nothing.
    pub partition: String,
    /// The service's namespace, such as `lambda`.
    pub service: String,
    /// Empty for global services.
    pub region: String,
    /// Empty where names are global (S3 buckets).
    pub account: String,
    /// The rest, which may itself contain `:` and `/`.
    pub resource: String,
}

/// The text is not an ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ARN (arn:partition:service:region:account:resource)")]
pub struct ArnError(String);

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(6, ':');
        let mut next = || parts.next().map(str::to_owned);
        match (next(), next(), next(), next(), next(), next()) {
            (Some(arn), Some(partition), Some(service), Some(region), Some(account), Some(resource))
                if arn == "arn" && !partition.is_empty() && !service.is_empty() && !resource.is_empty() =>
            {
                Ok(Self { partition, service, region, account, resource })
            }
            _ => Err(ArnError(s.to_owned())),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_keep_their_colons() {
        let text = "arn:aws:lambda:us-east-1:000000000000:function:thumb:live";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.resource, "function:thumb:live");
        assert_eq!(arn.to_string(), text);
        for bad in ["", "arn:aws:s3", "arn:aws:s3:::", "urn:aws:s3:::b", "arn::s3:::b"] {
            assert!(bad.parse::<Arn>().is_err(), "{bad}");
        }
    }
}
