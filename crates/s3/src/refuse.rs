//! Headers that ask for what is not offered: refused by name, never ignored.

use http::HeaderMap;

use crate::Error;

/// Headers (or beginnings of headers) that are refused whatever they say.
const REFUSED: &[&str] = &[
    "x-amz-write-offset-bytes",
    "x-amz-mfa",
    "x-amz-if-match-",
    "x-amz-rename-source",
    "x-amz-checksum-md5",
    "x-amz-checksum-sha512",
    "x-amz-checksum-xxhash",
];

/// Headers that are fine if they say what is so anyway.
const ACCEPTED: &[(&str, &[&str])] = &[("x-amz-storage-class", &["STANDARD"])];

/// Refuses a request that asks for what is not offered.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Error> {
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with("x-amz-") {
            continue;
        }
        if REFUSED.iter().any(|refused| name.starts_with(refused)) {
            return Err(Error::NotImplemented(format!("The header {name}")));
        }
        let value = value.to_str().unwrap_or_default();
        if let Some((_, fine)) = ACCEPTED.iter().find(|(accepted, _)| *accepted == name)
            && !fine.contains(&value)
        {
            return Err(Error::NotImplemented(format!("The header {name} with the value `{value}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_offered_is_named() {
        let check = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            check(&headers).map_err(|e| e.to_string())
        };
        assert_eq!(check("x-amz-meta-grant-x", "1"), Ok(()));
        assert!(check("x-amz-storage-class", "GLACIER").unwrap_err().contains("x-amz-storage-class"));
        assert!(check("x-amz-write-offset-bytes", "1").is_err());
        assert!(check("x-amz-checksum-xxhash64", "1").is_err());
        assert_eq!(check("x-amz-checksum-sha256", "1"), Ok(()));
    }
}
