//! Which registries images are taken from: those that the operator names, and nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A registry that the operator allows: `HOST`, `HOST:PORT`, or either with `http://` or `https://` before it.
///
/// Without a scheme it is spoken to by TLS, but for this machine itself (`localhost`, `127.0.0.1`), as Docker does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost {
    /// In lower case, an IPv6 address in brackets.
    host: String,
    port: Option<u16>,
    tls: bool,
}

/// It does not name a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a registry; write its host, and its port if that is not 443, such as registry.example.com or \
     localhost:5000, and http:// before it if it has no TLS"
)]
pub struct RegistryHostError(String);

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    fn from_str(text: &str) -> Result<Self, RegistryHostError> {
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some(_) => return Err(RegistryHostError(text.to_owned())),
            None => (None, text),
        };
        let (host, port) = split(rest).ok_or_else(|| RegistryHostError(text.to_owned()))?;
        let tls = tls.unwrap_or_else(|| !is_this_machine(&host));
        Ok(Self { host, port, tls })
    }
}

impl TryFrom<String> for RegistryHost {
    type Error = RegistryHostError;

    fn try_from(text: String) -> Result<Self, RegistryHostError> {
        text.parse()
    }
}

impl From<RegistryHost> for String {
    fn from(host: RegistryHost) -> Self {
        format!("{}://{}", host.scheme(), host.authority())
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

impl RegistryHost {
    /// How it is spoken to.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Its host, and its port if one was given.
    pub(super) fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// Whether a reference that begins with `name` means it.
    pub(super) fn is_named(&self, name: &str) -> bool {
        split(name).is_some_and(|(host, port)| host == self.host && port == self.port)
    }

    /// Whether this is where a request goes.
    pub(super) fn is_at(&self, tls: bool, host: &str, port: u16) -> bool {
        let own = self.port.unwrap_or(if self.tls { 443 } else { 80 });
        self.tls == tls && self.host == host.to_ascii_lowercase() && own == port
    }
}

/// A host and a port.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, Some(port.parse().ok().filter(|port| *port > 0)?))
        }
        Some(_) | None => (text, None),
    };
    let host = host.to_ascii_lowercase();
    let valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        }),
    };
    valid.then_some((host, port))
}

/// The address that a host is, if it is one.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || literal(host).is_some_and(|address| address.is_loopback())
}

/// Whether an address is for everybody. This node itself, its link (where clouds serve the credentials of a virtual
/// machine) and private networks are not, so that no registry can send the node there.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let shared = a == 100 && (64..128).contains(&b);
            // Addresses of protocols (a metadata service is among them), and for measurements.
            let special =
                (a, b, c) == (192, 0, 0) || (a == 198 && (b == 18 || b == 19)) || a == 0 || a >= 240;
            !(address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation()
                || shared
                || special)
        }
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => is_public(embedded.into()),
            // What is routed is below 2000::/3.
            None => address.segments()[0] & 0xe000 == 0x2000,
        },
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, by NAT64, or by 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_by_their_hosts() {
        for (text, scheme, authority) in [
            ("Registry.Example.com", "https", "registry.example.com"),
            ("registry.example.com:5000", "https", "registry.example.com:5000"),
            ("http://10.0.0.7:5000", "http", "10.0.0.7:5000"),
            ("localhost:5000", "http", "localhost:5000"),
            ("127.0.0.1:5000", "http", "127.0.0.1:5000"),
            ("[::1]:5000", "http", "[::1]:5000"),
            ("https://localhost:5000", "https", "localhost:5000"),
        ] {
            let host: RegistryHost = text.parse().unwrap();
            assert_eq!((host.scheme(), &*host.authority()), (scheme, authority), "{text}");
            let text: String = host.clone().into();
            assert_eq!(text.parse(), Ok(host));
        }
        for text in ["", "ftp://a", "a/b", "a b", "a:0", "a:x", "a..b", "http://", "u:p@a", "*"] {
            assert!(text.parse::<RegistryHost>().is_err(), "{text}");
        }
        let host: RegistryHost = "registry.example.com".parse().unwrap();
        assert!(host.is_named("registry.example.com") && !host.is_named("registry.example.com:443"));
        assert!(
            host.is_at(true, "REGISTRY.example.com", 443) && !host.is_at(false, "registry.example.com", 80)
        );
    }

    #[test]
    fn only_what_is_for_everybody_is_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "100.63.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
