//! What can be said in a message, and the checksums by which clients see that it arrived so (Amazon SQS developer guide,
//! "Message metadata", "Calculating the MD5 message digest for message attributes").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most attributes of a message.
const MAX_ATTRIBUTES: usize = 10;

/// An attribute as a client writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GivenAttribute {
    data_type: Option<String>,
    string_value: Option<String>,
    binary_value: Option<String>,
    #[serde(default)]
    string_list_values: Vec<String>,
    #[serde(default)]
    binary_list_values: Vec<String>,
}

/// An attribute of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attribute {
    #[serde(rename = "t")]
    pub(crate) data_type: String,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// Its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    #[serde(rename = "s")]
    Text(String),
    /// In base64.
    #[serde(rename = "b")]
    Binary(String),
}

/// Attributes by name.
pub(crate) type Attributes = BTreeMap<String, Attribute>;

/// An attribute as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownAttribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<&'a str>,
    data_type: &'a str,
}

impl Attribute {
    pub(crate) fn shown(&self) -> ShownAttribute<'_> {
        let (string_value, binary_value) = match &self.value {
            Value::Text(text) => (Some(text.as_str()), None),
            Value::Binary(bytes) => (None, Some(bytes.as_str())),
        };
        ShownAttribute { string_value, binary_value, data_type: &self.data_type }
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.value {
            Value::Text(text) => text.as_bytes().to_vec(),
            // It was checked when it came.
            Value::Binary(bytes) => BASE64.decode(bytes).unwrap_or_default(),
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let invalid = |reason: &str| Err(Error::InvalidParameterValue(format!("{reason} ({name})")));
    if name.is_empty() || name.len() > 256 {
        return invalid("Message attribute names must be between 1 and 256 characters long.");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.chars().all(plain) || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return invalid(
            "Message attribute names consist of letters, digits, hyphens, underscores and periods; periods stand neither \
             first nor last nor next to each other.",
        );
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return invalid(
            "Message attribute names starting with 'AWS.' or 'Amazon.' are reserved for use by Amazon.",
        );
    }
    Ok(())
}

/// Reads the attributes of a message.
pub(crate) fn attributes(given: BTreeMap<String, GivenAttribute>) -> Result<Attributes, Error> {
    if given.len() > MAX_ATTRIBUTES {
        let count = given.len();
        return Err(Error::InvalidParameterValue(format!(
            "Number of message attributes [{count}] exceeds the allowed maximum [{MAX_ATTRIBUTES}]."
        )));
    }
    given
        .into_iter()
        .map(|(name, attribute)| {
            check_name(&name)?;
            let attribute = read(&name, attribute)?;
            Ok((name, attribute))
        })
        .collect()
}

fn read(name: &str, given: GivenAttribute) -> Result<Attribute, Error> {
    let invalid = |reason: String| Error::InvalidParameterValue(reason);
    let data_type = given.data_type.filter(|kind| !kind.is_empty()).ok_or_else(|| {
        invalid(format!("The message attribute '{name}' must contain a non-empty message attribute type."))
    })?;
    if !given.string_list_values.is_empty() || !given.binary_list_values.is_empty() {
        return Err(Error::Unsupported(
            "Message attribute list values in SendMessage operation are not supported.".into(),
        ));
    }
    let kind = data_type.split('.').next().unwrap_or_default();
    if data_type.len() > 256 || !matches!(kind, "String" | "Number" | "Binary") {
        return Err(invalid(format!(
            "The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is \
             Binary, Number, and String."
        )));
    }
    let empty = || {
        invalid(format!(
            "The message attribute '{name}' must contain a non-empty message attribute value for message attribute type \
             '{data_type}'."
        ))
    };
    let value = match (kind, given.string_value, given.binary_value) {
        ("Binary", None, Some(bytes)) => {
            let decoded = BASE64.decode(&bytes).map_err(|_| {
                invalid(format!("The message attribute '{name}' has a value that is not base64."))
            })?;
            if decoded.is_empty() {
                return Err(empty());
            }
            Value::Binary(bytes)
        }
        ("String" | "Number", Some(text), None) => {
            if text.is_empty() {
                return Err(empty());
            }
            if !is_allowed(&text) {
                return Err(Error::InvalidMessageContents);
            }
            if kind == "Number" && text.trim().parse::<f64>().is_err() {
                return Err(invalid(format!(
                    "Can't cast the value of message attribute '{name}' to a number."
                )));
            }
            Value::Text(text)
        }
        _ => return Err(empty()),
    };
    Ok(Attribute { data_type, value })
}

/// Whether a text holds nothing that XML 1.0 does not let through.
pub(crate) fn is_allowed(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..))
}

/// How many bytes of a message's size attributes take.
pub(crate) fn size(attributes: &Attributes) -> usize {
    attributes
        .iter()
        .map(|(name, attribute)| name.len() + attribute.data_type.len() + attribute.bytes().len())
        .sum()
}

/// MD5 of a text, in hexadecimal.
pub(crate) fn md5(text: &[u8]) -> String {
    hex::encode(Md5::digest(text))
}

/// MD5 of attributes, in hexadecimal; `None` if there are none.
pub(crate) fn md5_of_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a Attribute)>,
) -> Option<String> {
    let mut hash = Md5::new();
    let mut some = false;
    // In the order of their names, as the map has them.
    for (name, attribute) in attributes {
        some = true;
        let bytes = attribute.bytes();
        let transport = match &attribute.value {
            Value::Text(_) => 1,
            Value::Binary(_) => 2,
        };
        for part in [name.as_bytes(), attribute.data_type.as_bytes()] {
            hash.update(length(part));
            hash.update(part);
        }
        hash.update([transport]);
        hash.update(length(&bytes));
        hash.update(&bytes);
    }
    some.then(|| hex::encode(hash.finalize()))
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).expect("a message is less than 4 GiB").to_be_bytes()
}

/// Which of a message's attributes a receiver asks for: by name, by the beginning of the name (`price.*`), or all.
pub(crate) fn chosen<'a>(
    attributes: &'a Attributes,
    asked: &'a [String],
) -> impl Iterator<Item = (&'a str, &'a Attribute)> {
    attributes.iter().map(|(name, attribute)| (name.as_str(), attribute)).filter(|(name, _)| {
        asked.iter().any(|asked| match asked.as_str() {
            "All" | ".*" => true,
            asked => match asked.strip_suffix(".*") {
                Some(prefix) => name.starts_with(prefix),
                None => asked == *name,
            },
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: serde_json::Value) -> Result<Attributes, Error> {
        attributes(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn checksums_are_those_that_clients_calculate() {
        assert_eq!(md5(b"hello"), "5d41402abc4b2a76b9719d911017c592");
        let attributes = given(json!({
            "b": {"DataType": "Binary", "BinaryValue": "AAEC"},
            "a": {"DataType": "String", "StringValue": "x"},
        }))
        .unwrap();
        let mut expected = Vec::new();
        for (name, kind, transport, value) in [("a", "String", 1, &b"x"[..]), ("b", "Binary", 2, &[0, 1, 2])]
        {
            for part in [name.as_bytes(), kind.as_bytes()] {
                expected.extend_from_slice(&(part.len() as u32).to_be_bytes());
                expected.extend_from_slice(part);
            }
            expected.push(transport);
            expected.extend_from_slice(&(value.len() as u32).to_be_bytes());
            expected.extend_from_slice(value);
        }
        let all = attributes.iter().map(|(name, attribute)| (name.as_str(), attribute));
        assert_eq!(md5_of_attributes(all), Some(md5(&expected)));
        assert_eq!(md5_of_attributes([]), None);
        assert_eq!(size(&attributes), 1 + 6 + 1 + 1 + 6 + 3);
    }

    #[test]
    fn attributes_are_checked() {
        for (name, attribute) in [
            ("AWS.x", json!({"DataType": "String", "StringValue": "x"})),
            (".x", json!({"DataType": "String", "StringValue": "x"})),
            ("x..y", json!({"DataType": "String", "StringValue": "x"})),
            ("x", json!({"DataType": "String", "StringValue": ""})),
            ("x", json!({"DataType": "String", "BinaryValue": "AA=="})),
            ("x", json!({"DataType": "Binary", "BinaryValue": "?"})),
            ("x", json!({"DataType": "Date", "StringValue": "x"})),
            ("x", json!({"DataType": "Number", "StringValue": "x"})),
            ("x", json!({"StringValue": "x"})),
        ] {
            assert!(given(json!({ name: attribute })).is_err(), "{name} {attribute}");
        }
        assert!(given(json!({"x.y-z_1": {"DataType": "Number.float", "StringValue": "1.5"}})).is_ok());
        assert!(!is_allowed("a\u{0}") && !is_allowed("\u{FFFE}") && is_allowed("a\n\u{1F600}"));
    }

    #[test]
    fn receivers_choose() {
        let text = json!({"DataType": "String", "StringValue": "x"});
        let all = given(json!({"a.b": text, "a.c": text, "d": text})).unwrap();
        let names = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|&name| name.to_owned()).collect();
            chosen(&all, &asked).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["a.*"]), ["a.b", "a.c"]);
        assert_eq!(names(&["d", "none"]), ["d"]);
        assert_eq!(names(&["All"]).len(), 3);
        assert!(names(&[]).is_empty());
    }
}
