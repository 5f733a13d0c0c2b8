//! The id in a URL's host name.

use std::fmt;
use std::str::FromStr;

use types::{AccountId, Env, Region};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// How many digits are random.
const RANDOM: usize = 24;
/// How many say whose it is: 36 to the eighth is more than there are accounts.
const ACCOUNT: usize = 8;

/// 32 digits of base 36: some that nobody can guess, and the account, so that the URL's row is found among those
/// of its account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UrlId {
    text: String,
    account: AccountId,
}

impl UrlId {
    /// A fresh id.
    pub(crate) fn new(env: &dyn Env, account: AccountId) -> Self {
        let mut bytes = [0; 2 * RANDOM];
        env.fill(&mut bytes);
        let digit = |value: u64| char::from(DIGITS[usize::try_from(value % 36).expect("it is below 36")]);
        // Two bytes for each digit leave it all but even.
        let pairs = bytes.chunks_exact(2);
        let mut text: String =
            pairs.map(|pair| digit(u64::from(u16::from_le_bytes([pair[0], pair[1]])))).collect();
        let mut rest = account.number();
        for _ in 0..ACCOUNT {
            text.push(digit(rest));
            rest /= 36;
        }
        Self { text, account }
    }

    /// Its digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose it is.
    pub(crate) fn account(&self) -> AccountId {
        self.account
    }
}

impl fmt::Display for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for UrlId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let value = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
        if text.len() != RANDOM + ACCOUNT || !text.bytes().all(|byte| value(byte).is_some()) {
            return Err(());
        }
        let number = text.as_bytes()[RANDOM..]
            .iter()
            .rev()
            .try_fold(0u64, |number, byte| number.checked_mul(36)?.checked_add(value(*byte)? as u64));
        let account = number.and_then(AccountId::from_number).ok_or(())?;
        Ok(Self { text: text.to_owned(), account })
    }
}

/// The URL of an id, for a client that reached the node at `endpoint`.
pub(crate) fn address(endpoint: &str, region: &Region, id: &str) -> String {
    let (scheme, authority) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => format!(":{port}"),
        _ => String::new(),
    };
    format!("{scheme}://{id}.lambda-url.{region}.localhost{port}/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SystemEnv;

    #[test]
    fn ids_say_whose_they_are() {
        let env = SystemEnv::new();
        for account in [AccountId::DEFAULT, "123456789012".parse().unwrap(), "999999999999".parse().unwrap()]
        {
            let id = UrlId::new(&*env, account);
            let read: UrlId = id.to_string().parse().unwrap();
            assert_eq!((read.account(), read.to_string().len()), (account, 32));
            assert_eq!(read, id);
        }
        for wrong in ["", "abc", &"z".repeat(32), &"A".repeat(32), "../../../../../../../../../../aa"] {
            assert!(wrong.parse::<UrlId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_keep_the_port() {
        let region = Region::default();
        assert_eq!(
            address("http://127.0.0.1:4566", &region, "x"),
            "http://x.lambda-url.us-east-1.localhost:4566/"
        );
        assert_eq!(address("http://[::1]:80", &region, "x"), "http://x.lambda-url.us-east-1.localhost:80/");
        assert_eq!(address("http://cloud.example", &region, "x"), "http://x.lambda-url.us-east-1.localhost/");
    }
}
