//! Condition operators (IAM user guide, "IAM JSON policy elements: Condition operators").

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::Timestamp;

use super::context::Context;
use super::pattern::{ArnPattern, Pattern, Syntax};

/// One operator applied to one key.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    test: Test,
    negated: bool,
    set: Option<Set>,
    if_exists: bool,
    /// In lower case.
    key: Box<str>,
}

/// How several values of the request are tested.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Set {
    Any,
    All,
}

/// What a value is compared with; any of the listed values will do.
#[derive(Debug, Clone)]
enum Test {
    Text {
        patterns: Vec<Pattern>,
        fold: bool,
    },
    Arn(Vec<ArnPattern>),
    Numbers(Comparison, Vec<f64>),
    Dates(Comparison, Vec<Timestamp>),
    Bools(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Networks(Vec<Network>),
    /// True if the key must be absent.
    Null(Vec<bool>),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, value: &T, limit: &T) -> bool {
        match self {
            Self::Equals => value == limit,
            Self::Less => value < limit,
            Self::LessEquals => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterEquals => value >= limit,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let wrong = || format!("`{text}` is not an address or a CIDR block");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if prefix > most { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - self.prefix;
                net.to_bits().checked_shr(shift).unwrap_or(0) == ip.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - self.prefix;
                net.to_bits().checked_shr(shift).unwrap_or(0) == ip.to_bits().checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

fn date(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    // A day is its beginning.
    format!("{text}T00:00:00Z").parse().ok()
}

fn bool(text: &str) -> Option<bool> {
    match text {
        t if t.eq_ignore_ascii_case("true") => Some(true),
        t if t.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_all<T>(values: &[String], what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    values.iter().map(|v| parse(v).ok_or_else(|| format!("`{v}` is not {what}"))).collect()
}

impl Condition {
    /// Compiles `operator: { key: values }`; the error says what is wrong.
    pub(crate) fn compile(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Self, String> {
        let (set, rest) = match operator.split_once(':') {
            None => (None, operator),
            Some(("ForAnyValue", rest)) => (Some(Set::Any), rest),
            Some(("ForAllValues", rest)) => (Some(Set::All), rest),
            Some(_) => return Err(format!("Invalid condition operator: {operator}")),
        };
        let (base, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |base| (base, true));
        let (base, negated) =
            positive(base).ok_or_else(|| format!("Invalid condition operator: {operator}"))?;
        if base == "Null" && (if_exists || set.is_some()) {
            return Err(format!("Invalid condition operator: {operator}"));
        }
        let test = Self::test(base, values, variables)?;
        Ok(Self { test, negated, set, if_exists, key: key.to_ascii_lowercase().into() })
    }

    fn test(base: &str, values: &[String], variables: bool) -> Result<Test, String> {
        let texts = |wildcards, fold| -> Result<Test, String> {
            let syntax = Syntax { wildcards, variables, fold };
            let patterns = values.iter().map(|v| Pattern::compile(v, syntax)).collect::<Result<_, _>>()?;
            Ok(Test::Text { patterns, fold })
        };
        let number = |c| parse_all(values, "a number", |v| v.parse().ok()).map(|n| Test::Numbers(c, n));
        let dates = |c| parse_all(values, "a date", date).map(|d| Test::Dates(c, d));
        match base {
            "StringEquals" => texts(false, false),
            "StringEqualsIgnoreCase" => texts(false, true),
            "StringLike" => texts(true, false),
            "ArnEquals" | "ArnLike" => {
                let patterns = values.iter().map(|v| ArnPattern::compile(v, variables));
                patterns.collect::<Result<_, _>>().map(Test::Arn)
            }
            "NumericEquals" => number(Comparison::Equals),
            "NumericLessThan" => number(Comparison::Less),
            "NumericLessThanEquals" => number(Comparison::LessEquals),
            "NumericGreaterThan" => number(Comparison::Greater),
            "NumericGreaterThanEquals" => number(Comparison::GreaterEquals),
            "DateEquals" => dates(Comparison::Equals),
            "DateLessThan" => dates(Comparison::Less),
            "DateLessThanEquals" => dates(Comparison::LessEquals),
            "DateGreaterThan" => dates(Comparison::Greater),
            "DateGreaterThanEquals" => dates(Comparison::GreaterEquals),
            "Bool" => parse_all(values, "true or false", bool).map(Test::Bools),
            "BinaryEquals" => parse_all(values, "base64", |v| STANDARD.decode(v).ok()).map(Test::Binary),
            "IpAddress" => {
                values.iter().map(|v| Network::parse(v)).collect::<Result<_, _>>().map(Test::Networks)
            }
            "Null" => parse_all(values, "true or false", bool).map(Test::Null),
            other => Err(format!("Invalid condition operator: {other}")),
        }
    }

    /// Whether it lets in only fixed principals, accounts or networks.
    pub(crate) fn narrows(&self) -> bool {
        const KEYS: [&str; 13] = [
            "aws:principalaccount",
            "aws:principalarn",
            "aws:principalorgid",
            "aws:principalorgpaths",
            "aws:sourceaccount",
            "aws:sourcearn",
            "aws:sourceip",
            "aws:sourceowner",
            "aws:sourcevpc",
            "aws:sourcevpce",
            "aws:userid",
            "aws:username",
            "s3:dataaccesspointaccount",
        ];
        if self.negated || self.if_exists || self.set == Some(Set::All) || !KEYS.contains(&&*self.key) {
            return false;
        }
        match &self.test {
            Test::Text { patterns, .. } => patterns.iter().all(|p| matches!(p, Pattern::Exact(_))),
            Test::Arn(_) | Test::Binary(_) => true,
            Test::Networks(networks) => networks.iter().all(|network| match network.address {
                IpAddr::V4(_) => network.prefix >= 8,
                IpAddr::V6(_) => network.prefix >= 32,
            }),
            Test::Numbers(..) | Test::Dates(..) | Test::Bools(_) | Test::Null(_) => false,
        }
    }

    /// Whether the request fulfils it.
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let values = context.values(&self.key);
        if let Test::Null(wanted) = &self.test {
            let absent = values.is_none_or(|v| v.is_empty());
            return wanted.contains(&absent);
        }
        let values = match values {
            Some(values) if !values.is_empty() => values,
            _ if self.if_exists => return true,
            _ => {
                return match self.set {
                    Some(Set::All) => true,
                    Some(Set::Any) => false,
                    None => self.negated,
                };
            }
        };
        let one = |value: &Cow<'_, str>| self.matches(value, context) != self.negated;
        match self.set {
            Some(Set::Any) => values.iter().any(one),
            Some(Set::All) => values.iter().all(one),
            // Several values without a set operator: a match of any is a match.
            None if self.negated => values.iter().all(one),
            None => values.iter().any(one),
        }
    }

    /// Whether one value of the request matches one of the listed, negation aside. A value of the wrong
    /// type, and a variable without a value, match nothing.
    fn matches(&self, value: &str, context: &Context<'_>) -> bool {
        match &self.test {
            Test::Text { patterns, fold: false } => {
                patterns.iter().any(|p| p.matches(value, context) == Some(true))
            }
            Test::Text { patterns, fold: true } => {
                patterns.iter().any(|p| p.text(context).is_some_and(|t| t.eq_ignore_ascii_case(value)))
            }
            Test::Arn(patterns) => patterns.iter().any(|p| p.matches(value, context) == Some(true)),
            Test::Numbers(comparison, limits) => value
                .parse::<f64>()
                .is_ok_and(|value| limits.iter().any(|limit| comparison.holds(&value, limit))),
            Test::Dates(comparison, limits) => {
                date(value).is_some_and(|value| limits.iter().any(|limit| comparison.holds(&value, limit)))
            }
            Test::Bools(wanted) => bool(value).is_some_and(|value| wanted.contains(&value)),
            Test::Binary(wanted) => STANDARD.decode(value).is_ok_and(|value| wanted.contains(&value)),
            Test::Networks(networks) => {
                value.parse().is_ok_and(|address: IpAddr| networks.iter().any(|n| n.contains(address)))
            }
            Test::Null(_) => false,
        }
    }
}

/// The operator that this one negates, or itself.
fn positive(operator: &str) -> Option<(&str, bool)> {
    Some(match operator {
        "StringNotEquals" => ("StringEquals", true),
        "StringNotEqualsIgnoreCase" => ("StringEqualsIgnoreCase", true),
        "StringNotLike" => ("StringLike", true),
        "NumericNotEquals" => ("NumericEquals", true),
        "DateNotEquals" => ("DateEquals", true),
        "NotIpAddress" => ("IpAddress", true),
        "ArnNotEquals" => ("ArnEquals", true),
        "ArnNotLike" => ("ArnLike", true),
        "" => return None,
        other => (other, false),
    })
}
