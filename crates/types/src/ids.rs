//! Account, region, request and trace identifiers, each a type of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Env;

/// A twelve-digit account number, the boundary of tenancy and of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

/// The text is not twelve decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an account id: twelve decimal digits are needed")]
pub struct AccountIdError(String);

impl AccountId {
    /// The account of a node's root user where no other is configured.
    pub const DEFAULT: Self = Self(0);
    /// Not an account: the owner of a node's own rows. It can not be parsed, so no caller can be it.
    pub const NODE: Self = Self(0xFF_FFFF_FFFF);

    /// The number, below 10^12 (or that of [`Self::NODE`]); it fits in five bytes.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The account of that number; `None` at 10^12 and above, [`Self::NODE`] excepted.
    pub fn from_number(number: u64) -> Option<Self> {
        (number < 1_000_000_000_000 || number == Self::NODE.0).then_some(Self(number))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let valid = s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| s.parse().ok()).flatten().map(Self).ok_or_else(|| AccountIdError(s.to_owned()))
    }
}

impl Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A region's name, such as `us-east-1`. A node is one region.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Region(Arc<str>);

impl Region {
    /// The region of that name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Region {
    fn default() -> Self {
        Self::new("us-east-1")
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one request or invocation: a version 4 UUID, as `x-amzn-RequestId` carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A fresh id.
    pub fn new(env: &dyn Env) -> Self {
        let mut bytes = [0; 16];
        env.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Self(bytes)
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: it is written several times for each request.
        let mut text = [b'-'; 36];
        let (mut from, mut to) = (0, 0);
        for bytes in [4, 2, 2, 2, 6] {
            let digits = &mut text[to..to + 2 * bytes];
            hex::encode_to_slice(&self.0[from..from + bytes], digits)
                .expect("there is room for two digits a byte");
            (from, to) = (from + bytes, to + 2 * bytes + 1);
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal is ASCII"))
    }
}

impl FromStr for RequestId {
    type Err = hex::FromHexError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(s.replace('-', ""), &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The `X-Amzn-Trace-Id` of a request: one root for everything that follows from one cause, and the span
/// that caused this hop (AWS X-Ray developer guide, "Tracing header").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceHeader {
    /// `1-<8 hex: seconds>-<24 hex>`.
    pub root: String,
    /// The causing span, 16 hex digits.
    pub parent: Option<String>,
    /// Whether the node keeps the trace.
    pub sampled: bool,
    /// Nobody has decided that it is to be sampled: the node keeps it of its own accord. A function that is not to trace
    /// actively is told that it is not sampled.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub undecided: bool,
    /// Which functions the chain of causes went through, and how often: `<8 hex>:<times>`, joined by `|`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
}

/// How many functions a lineage names.
const LINEAGE_LIMIT: usize = 32;

impl TraceHeader {
    /// A fresh root.
    pub fn new(env: &dyn Env) -> Self {
        let mut bytes = [0; 12];
        env.fill(&mut bytes);
        let root = format!("1-{:08x}-{}", env.now().as_second(), hex::encode(bytes));
        Self { root, parent: None, sampled: true, undecided: true, lineage: None }
    }

    /// Reads the header; `None` if it has no well-formed `Root`.
    pub fn parse(header: &str) -> Option<Self> {
        let mut trace =
            Self { root: String::new(), parent: None, sampled: true, undecided: true, lineage: None };
        let mut kept = false;
        for part in header.split(';') {
            match part.trim().split_once('=') {
                Some(("Root", root)) if is_root(root) => trace.root = root.to_owned(),
                Some(("Parent", id)) if is_hex(id, 16) => trace.parent = Some(id.to_owned()),
                Some(("Sampled", flag @ ("0" | "1"))) => {
                    (trace.sampled, trace.undecided) = (flag == "1", false);
                }
                Some(("Kept", "1")) => kept = true,
                Some(("Lineage", lineage)) if is_lineage(lineage) => trace.lineage = Some(lineage.to_owned()),
                _ => {}
            }
        }
        if kept && !trace.sampled {
            (trace.sampled, trace.undecided) = (true, true);
        }
        (!trace.root.is_empty()).then_some(trace)
    }

    /// The same for those who trace actively: it is decided that it is sampled, if the node keeps it.
    #[must_use]
    pub fn decided(self) -> Self {
        Self { undecided: false, ..self }
    }

    /// The trace that a request names: by X-Ray's header, else by W3C's `traceparent`.
    pub fn of_request(x_amzn_trace_id: Option<&str>, traceparent: Option<&str>) -> Option<Self> {
        x_amzn_trace_id.and_then(Self::parse).or_else(|| traceparent.and_then(Self::from_w3c))
    }

    /// Reads a `traceparent` (W3C Trace Context, "traceparent Header"), whose ids X-Ray's are another way to write.
    pub fn from_w3c(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_id = |text: &str, len| is_lower_hex(text, len) && text.bytes().any(|b| b != b'0');
        // A later version may have more parts; `ff` is none.
        let known =
            is_lower_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        if !known || !is_id(trace, 32) || !is_id(parent, 16) || !is_lower_hex(flags, 2) {
            return None;
        }
        let (seconds, rest) = trace.split_at(8);
        Some(Self {
            root: format!("1-{seconds}-{rest}"),
            parent: Some(parent.to_owned()),
            sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
            undecided: false,
            lineage: None,
        })
    }

    /// As a `traceparent`, whose flag says whether the node keeps the trace; `None` if no span is named.
    pub fn to_w3c(&self) -> Option<String> {
        let parent = self.parent.as_ref()?.to_ascii_lowercase();
        let trace: String = self.root.split('-').skip(1).collect();
        Some(format!("00-{}-{parent}-{:02x}", trace.to_ascii_lowercase(), u8::from(self.sampled)))
    }

    /// The same trace, seen from below the span `parent` (16 hex digits).
    pub fn child(&self, parent: String) -> Self {
        Self { parent: Some(parent), ..self.clone() }
    }

    /// The same trace after it went through the function `arn` once more, and how often it has.
    pub fn through(&self, arn: &str) -> (Self, u32) {
        // Which of a handful of functions it is: no more than that depends on it.
        let hash = arn
            .bytes()
            .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let name = format!("{hash:08x}");
        let mut times = 1;
        let mut entries: Vec<String> = Vec::new();
        for entry in self.lineage.as_deref().into_iter().flat_map(|lineage| lineage.split('|')) {
            match entry.split_once(':') {
                Some((known, count)) if known == name => {
                    times = count.parse::<u32>().unwrap_or(u32::MAX).saturating_add(1);
                }
                _ => entries.push(entry.to_owned()),
            }
        }
        entries.push(format!("{name}:{times}"));
        let first = entries.len().saturating_sub(LINEAGE_LIMIT);
        (Self { lineage: Some(entries[first..].join("|")), ..self.clone() }, times)
    }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_lower_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_lineage(text: &str) -> bool {
    let is_entry = |entry: &str| {
        entry.split_once(':').is_some_and(|(name, times)| is_hex(name, 8) && times.parse::<u32>().is_ok())
    };
    text.len() <= LINEAGE_LIMIT * 20 && text.split('|').all(is_entry)
}

fn is_root(text: &str) -> bool {
    let mut parts = text.split('-');
    parts.next() == Some("1")
        && parts.next().is_some_and(|p| is_hex(p, 8))
        && parts.next().is_some_and(|p| is_hex(p, 24))
        && parts.next().is_none()
}

impl fmt::Display for TraceHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root={}", self.root)?;
        if let Some(parent) = &self.parent {
            write!(f, ";Parent={parent}")?;
        }
        write!(f, ";Sampled={}", u8::from(self.sampled && !self.undecided))?;
        if self.sampled && self.undecided {
            // So that the node knows its own trace again when it comes back with a function's calls.
            f.write_str(";Kept=1")?;
        }
        match &self.lineage {
            Some(lineage) => write!(f, ";Lineage={lineage}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEnv;

    #[test]
    fn what_nobody_decided_is_told_as_not_sampled_and_known_again() {
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        for (given, told, kept) in [
            ("", ";Sampled=0;Kept=1", true),
            (";Sampled=?", ";Sampled=0;Kept=1", true),
            (";Sampled=0;Kept=1", ";Sampled=0;Kept=1", true),
            (";Sampled=1", ";Sampled=1", true),
            (";Kept=1;Sampled=1", ";Sampled=1", true),
            (";Sampled=0", ";Sampled=0", false),
        ] {
            let trace = TraceHeader::parse(&format!("{root}{given}")).unwrap();
            assert_eq!((trace.to_string(), trace.sampled), (format!("{root}{told}"), kept), "{given}");
            let active = trace.decided().to_string();
            assert_eq!(active, format!("{root};Sampled={}", u8::from(kept)), "{given}");
        }
        let fresh = TraceHeader::new(&*SystemEnv::new());
        assert_eq!(TraceHeader::parse(&fresh.to_string()), Some(fresh));
    }

    #[test]
    fn traces_are_written_as_w3c_does_too() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceHeader::from_w3c(given).unwrap();
        assert_eq!(
            trace.to_string(),
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
        );
        assert_eq!(trace.to_w3c().as_deref(), Some(given));
        assert_eq!(TraceHeader::parse(&trace.to_string()), Some(trace.clone()));
        let unsampled = TraceHeader::from_w3c(&given.replace("-01", "-00")).unwrap();
        assert!(!unsampled.sampled);
        assert!(TraceHeader::from_w3c(&format!("cc{}-what-comes", &given[2..])).is_some());
        assert_eq!(TraceHeader::new(&*SystemEnv::new()).to_w3c(), None);
        for wrong in [
            "",
            "00",
            &given[1..],
            &format!("ff{}", &given[2..]),
            &format!("{given}-more"),
            &given.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(TraceHeader::from_w3c(wrong), None, "{wrong}");
        }
        let x_ray = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let of = TraceHeader::of_request(Some(x_ray), Some(given)).unwrap();
        assert_eq!(of.root, "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(TraceHeader::of_request(Some("nonsense"), Some(given)), Some(trace));
    }

    #[test]
    fn account_ids_are_twelve_digits() {
        assert_eq!("000000000042".parse::<AccountId>().unwrap().to_string(), "000000000042");
        for bad in ["", "42", "0000000000420", "00000000004x", "+00000000042"] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn request_ids_round_trip_and_differ() {
        let env = SystemEnv::new();
        let (a, b) = (RequestId::new(&*env), RequestId::new(&*env));
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse::<RequestId>().unwrap(), a);
        assert_eq!(&a.to_string()[14..15], "4");
        let bytes = std::array::from_fn(|n| u8::try_from(n * 17).unwrap());
        assert_eq!(RequestId::from_bytes(bytes).to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_trace_knows_how_often_it_went_through_a_function() {
        let mut trace = TraceHeader::new(&*SystemEnv::new());
        for times in 1..=3 {
            let (through_a, a) = trace.through("arn:a");
            let (through_b, b) = through_a.through("arn:b");
            trace = TraceHeader::parse(&through_b.to_string()).unwrap();
            assert_eq!((a, b), (times, times));
        }
        for number in 0..100 {
            trace = trace.through(&number.to_string()).0;
        }
        assert!(TraceHeader::parse(&trace.to_string()).unwrap().lineage.is_some(), "it stays short");
        let spoiled = format!("Root={};Lineage=zz", trace.root);
        assert_eq!(TraceHeader::parse(&spoiled).unwrap().lineage, None);
    }

    #[test]
    fn trace_headers_round_trip() {
        let trace = TraceHeader::new(&*SystemEnv::new()).child("00f067aa0ba902b7".into());
        assert_eq!(TraceHeader::parse(&trace.to_string()), Some(trace));
        assert_eq!(TraceHeader::parse("Root=1-zz-1;Sampled=1"), None);
        assert_eq!(TraceHeader::parse(""), None);
    }
}
