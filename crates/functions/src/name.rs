//! Names of functions: `thumb`, `000000000000:function:thumb`, or an ARN, each perhaps with a qualifier.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use types::{AccountId, Region};

use crate::Error;

/// The version that changes: what was deployed last.
pub const LATEST: &str = "$LATEST";

/// What runs: the function as it is now, or as it once was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Version {
    /// As it is now.
    Latest,
    /// As it was published under this number, from 1.
    Number(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            LATEST => Ok(Self::Latest),
            _ if text.starts_with(|c: char| c.is_ascii_digit() && c != '0') => {
                text.parse().map(Self::Number).map_err(|_| "it is not the number of a version")
            }
            _ => Err("a version is $LATEST or a number from 1"),
        }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A function as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// The function's name.
    pub name: String,
    /// A version or an alias.
    pub qualifier: Option<String>,
}

impl FunctionName {
    /// Reads a name in any of its forms, of a function of `account` in `region`.
    pub fn parse(text: &str, account: AccountId, region: &Region) -> Result<Self, Error> {
        let invalid = || {
            Error::rule(format!(
                "Value '{text}' at 'functionName' failed to satisfy constraint: \
                 Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?\
                 ([a-z]{{2}}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{{1}}:)?(\\d{{12}}:)?(function:)?\
                 ([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"
            ))
        };
        let elsewhere = || Error::NotFound(format!("Function not found: {text}"));
        let mut rest = text;
        if let Some(arn) = rest.strip_prefix("arn:aws:lambda:") {
            let (named, tail) = arn.split_once(':').ok_or_else(invalid)?;
            if named != region.as_str() {
                return Err(elsewhere());
            }
            rest = tail;
        }
        if let Some((owner, tail)) = rest.split_once(':')
            && owner.len() == 12
            && owner.bytes().all(|b| b.is_ascii_digit())
        {
            if owner.parse() != Ok(account) {
                return Err(elsewhere());
            }
            rest = tail;
        }
        rest = rest.strip_prefix("function:").unwrap_or(rest);
        let (name, qualifier) = match rest.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (rest, None),
        };
        let word =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !word(name) || name.len() > 64 || !qualifier.is_none_or(|q| q == LATEST || word(q)) {
            return Err(invalid());
        }
        Ok(Self { name: name.to_owned(), qualifier: qualifier.map(str::to_owned) })
    }

    /// With the qualifier of a query parameter, which must not contradict the name's own.
    pub fn qualified(mut self, qualifier: Option<String>) -> Result<Self, Error> {
        match (&self.qualifier, qualifier) {
            (Some(own), Some(other)) if *own != other => Err(Error::InvalidParameter(
                "The derived qualifier from the function name does not match the specified qualifier.".into(),
            )),
            (None, Some(other)) => {
                self.qualifier = Some(other);
                Ok(self)
            }
            _ => Ok(self),
        }
    }

    /// Refuses a name with any qualifier, for what there is of the function as a whole alone.
    pub(crate) fn unqualified(self) -> Result<Self, Error> {
        match self.qualifier {
            None => Ok(self),
            Some(_) => Err(Error::InvalidParameter(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this \
                 operation. Please specify either a function name or an unqualified function ARN."
                    .into(),
            )),
        }
    }

    /// The ARN, with the qualifier if there is one.
    pub fn arn(&self, account: AccountId, region: &Region) -> String {
        let arn = function_arn(account, region, &self.name);
        match &self.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }

    /// Refuses versions and aliases, for what changes the function itself.
    pub(crate) fn require_latest(&self, account: AccountId, region: &Region) -> Result<(), Error> {
        match self.qualifier.as_deref() {
            None | Some(LATEST) => Ok(()),
            Some(_) => Err(Error::InvalidParameter(format!(
                "Qualifiers are not supported by this operation, which acts on the function as a whole: {}",
                self.arn(account, region)
            ))),
        }
    }

    /// The qualifier of something that may belong to the function as a whole: `$LATEST` is the same as none.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.qualifier.as_deref().filter(|qualifier| *qualifier != LATEST)
    }
}

/// The unqualified ARN of a function.
pub fn function_arn(account: AccountId, region: &Region, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{account}:function:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_names_the_same_function() {
        let parse = |text: &str| FunctionName::parse(text, AccountId::DEFAULT, &Region::default());
        for text in [
            "thumb",
            "function:thumb",
            "000000000000:function:thumb",
            "arn:aws:lambda:us-east-1:000000000000:function:thumb",
        ] {
            assert_eq!(
                parse(text).unwrap(),
                FunctionName { name: "thumb".into(), qualifier: None },
                "{text}"
            );
            let qualified = parse(&format!("{text}:$LATEST")).unwrap();
            assert_eq!(qualified.qualifier.as_deref(), Some("$LATEST"), "{text}");
        }
        for text in ["", "a b", "thumb:", "thumb:a:b", "arn:aws:lambda:", "../x"] {
            assert!(matches!(parse(text), Err(Error::Validation(_))), "{text}");
        }
        for text in ["", "0", "01", "live", "-1", "1x"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!("12".parse(), Ok(Version::Number(12)));
        for text in ["arn:aws:lambda:eu-west-1:000000000000:function:thumb", "000000000001:function:thumb"] {
            assert!(matches!(parse(text), Err(Error::NotFound(_))), "{text}");
        }
    }
}
