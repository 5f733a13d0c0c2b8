//! Where a function may send requests: what its `HAWKER_OUTGOING_HOSTS` names, and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The environment variable.
pub(super) const VARIABLE: &str = "HAWKER_OUTGOING_HOSTS";

/// The hosts of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Destinations(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    host: Host,
    /// Without one: the port that goes with the request's scheme.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// `*`
    Any,
    /// `*.example.com`: with its leading dot.
    Below(String),
    /// `example.com`
    Name(String),
    /// `192.0.2.1`, `[2001:db8::1]`
    Address(IpAddr),
}

/// What a function may do with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Denied,
    /// Reach it, wherever on the network it is.
    Allowed,
    /// Reach it even on this node itself: it was named by its address, or as `localhost`.
    Named,
}

impl Destinations {
    /// Reads the value of the environment variable. The error says which word is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split_whitespace()
            .map(|word| {
                Rule::parse(word).ok_or_else(|| {
                    format!(
                        "`{word}` in {VARIABLE} is not a host; it takes words such as `example.com`, \
                         `*.example.com`, `example.com:8443` or `[2001:db8::1]`"
                    )
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `host` (a name or an address, without brackets) may be reached on `port`.
    pub(super) fn judge(&self, host: &str, port: u16, default_port: u16) -> Verdict {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let mut verdict = Verdict::Denied;
        for rule in self.0.iter().filter(|rule| rule.port.unwrap_or(default_port) == port) {
            match &rule.host {
                Host::Any => verdict = Verdict::Allowed,
                Host::Below(suffix) if address.is_none() && host.ends_with(suffix.as_str()) => {
                    verdict = Verdict::Allowed;
                }
                Host::Name(name) if *name == host && name == "localhost" => return Verdict::Named,
                Host::Name(name) if *name == host => verdict = Verdict::Allowed,
                Host::Address(named) if address == Some(*named) => return Verdict::Named,
                Host::Below(_) | Host::Name(_) | Host::Address(_) => {}
            }
        }
        verdict
    }
}

impl Rule {
    fn parse(word: &str) -> Option<Self> {
        if let Ok(address) = word.parse::<Ipv6Addr>() {
            return Some(Self { host: Host::Address(address.into()), port: None });
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (word, None),
        };
        Some(Self { host: Host::parse(host)?, port })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !name.split('.').all(is_label) {
            return None;
        }
        Some(if below { Self::Below(format!(".{name}")) } else { Self::Name(name) })
    }
}

/// Whether an address is this node's own or its link's: its other services, and where clouds serve the credentials
/// of a virtual machine.
pub(super) fn is_of_the_node(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.octets()[0] == 0
                // Metadata services elsewhere than on the link: Alibaba's, Oracle's.
                || address == Ipv4Addr::new(100, 100, 100, 200)
                || address == Ipv4Addr::new(192, 0, 0, 192)
        }
        IpAddr::V6(address) => {
            if let Some(embedded) = embedded(address) {
                return is_of_the_node(embedded.into());
            }
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                // AWS's metadata service.
                || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, or by NAT64.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let last = |[.., high, low]: [u16; 8]| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let is_loopback_or_any = address.is_loopback() || address.is_unspecified();
    match segments {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(last(segments)),
        [0, 0, 0, 0, 0, 0, _, _] if !is_loopback_or_any => Some(last(segments)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_reached() {
        let hosts = Destinations::parse(
            " example.com  *.api.test localhost:8080 10.0.0.7:81 [2001:db8::1] 2001:db8::2 Deep.Example.ORG:8443 ",
        )
        .unwrap();
        let cases = [
            ("example.com", 443, Verdict::Allowed),
            ("EXAMPLE.com.", 443, Verdict::Allowed),
            ("example.com", 8443, Verdict::Denied),
            ("www.example.com", 443, Verdict::Denied),
            ("a.api.test", 443, Verdict::Allowed),
            ("a.b.api.test", 443, Verdict::Allowed),
            ("api.test", 443, Verdict::Denied),
            ("notapi.test", 443, Verdict::Denied),
            ("localhost", 8080, Verdict::Named),
            ("localhost", 443, Verdict::Denied),
            ("127.0.0.1", 8080, Verdict::Denied),
            ("10.0.0.7", 81, Verdict::Named),
            ("2001:db8::1", 443, Verdict::Named),
            ("2001:db8::2", 443, Verdict::Named),
            ("deep.example.org", 8443, Verdict::Allowed),
        ];
        for (host, port, verdict) in cases {
            assert_eq!(hosts.judge(host, port, 443), verdict, "{host}:{port}");
        }
        assert_eq!(Destinations::parse("").unwrap().judge("example.com", 443, 443), Verdict::Denied);
        let any = Destinations::parse("* *:8080").unwrap();
        assert_eq!(any.judge("127.0.0.1", 8080, 80), Verdict::Allowed);
        assert_eq!(any.judge("anything.test", 81, 80), Verdict::Denied);
    }

    #[test]
    fn what_is_not_a_host_is_named_in_the_error() {
        for word in
            ["https://example.com", "example.com:", "example.com:99999", "a..b", "*.", "a*.b", "[::1", "a/b"]
        {
            let error = Destinations::parse(&format!("fine.test {word}")).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_node_and_its_link_are_known_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(is_of_the_node(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "10.0.0.1", "192.168.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "fd00::1"]
        {
            assert!(!is_of_the_node(address.parse().unwrap()), "{address}");
        }
    }
}
