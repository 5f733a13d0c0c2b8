//! What a registry that answers 401 asks for (RFC 9110, "WWW-Authenticate").

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a user and a password.
    Basic,
    /// With a token from there.
    Bearer {
        /// The URL of who gives tokens.
        realm: String,
        /// For whom the token is.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first challenge that can be met; a token is better than a password.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<_> = values.filter_map(Self::parse).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// `name="value"` after `name="value"`; commas and backslashes may be within quotation marks.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| *c == ',' || c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && *c != ',') {
            name.push(c);
        }
        if chars.next_if_eq(&'=').is_none() {
            return found;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        found.push((name.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, http::HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        assert_eq!(of(&["Basic realm=\"a, b\""]), Some(Challenge::Basic));
        let docker = "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a:pull,push\"";
        assert_eq!(
            of(&["Basic realm=x", docker]),
            bearer("https://auth.example/token", Some("registry.example"))
        );
        assert_eq!(of(&["bearer  realm=https://a/t"]), bearer("https://a/t", None));
        assert_eq!(of(&["Bearer service=\"x\""]), None);
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Bearer realm=\"a\\\"b"]), bearer("a\"b", None));
    }
}
