//! What a form may upload: a policy document, signed by who lets it (Amazon S3 API reference, "POST policy").
//!
//! Invariant: every field of the form is one that the policy names, or one that carries the policy itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use types::Timestamp;

use crate::Error;

/// A condition on a field, or on the size of the file.
enum Condition {
    Equals(String, String),
    StartsWith(String, String),
    Length(u64, u64),
}

/// A policy that was read and has not ended.
pub(crate) struct PostPolicy {
    conditions: Vec<Condition>,
}

fn invalid(message: impl AsRef<str>) -> Error {
    Error::InvalidPolicyDocument(format!("Invalid Policy: {}", message.as_ref()))
}

fn denied(message: impl AsRef<str>) -> Error {
    Error::Denied(format!("Invalid according to Policy: {}", message.as_ref()))
}

/// Fields that need no condition.
fn is_exempt(name: &str) -> bool {
    ["policy", "x-amz-signature", "signature", "awsaccesskeyid", "file", "submit"].contains(&name)
        || name.starts_with("x-ignore-")
}

impl PostPolicy {
    /// Reads a policy as a form has it.
    pub(crate) fn read(encoded: &str, now: Timestamp) -> Result<Self, Error> {
        let compact: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(compact).map_err(|_| invalid("Invalid Base64."))?;
        let document: Value = serde_json::from_slice(&bytes).map_err(|_| invalid("Invalid JSON."))?;
        let expiration =
            document["expiration"].as_str().ok_or_else(|| invalid("Policy missing expiration."))?;
        let ends: Timestamp = expiration
            .parse()
            .ok()
            .filter(|_| expiration.contains('T'))
            .ok_or_else(|| invalid(format!("Invalid 'expiration' value: '{expiration}'")))?;
        if ends <= now {
            return Err(denied("Policy expired."));
        }
        let list = document["conditions"].as_array().ok_or_else(|| invalid("Policy missing conditions."))?;
        let conditions = list.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { conditions: conditions.into_iter().flatten().collect() })
    }

    /// Whether a form may be carried out. `fields` holds the bucket, too.
    pub(crate) fn check(&self, fields: &[(String, String)]) -> Result<(), Error> {
        let value = |name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, v)| &**v).unwrap_or_default()
        };
        for condition in &self.conditions {
            let (operator, name, wanted, holds) = match condition {
                Condition::Equals(name, wanted) => ("eq", name, wanted, value(name) == wanted),
                // What a browser sends as several values must fit in each.
                Condition::StartsWith(name, wanted) if name == "content-type" => {
                    let fits = value(name).split(',').all(|part| part.trim().starts_with(&**wanted));
                    ("starts-with", name, wanted, fits)
                }
                Condition::StartsWith(name, wanted) => {
                    ("starts-with", name, wanted, value(name).starts_with(&**wanted))
                }
                Condition::Length(..) => continue,
            };
            if !holds {
                return Err(denied(format!(
                    "Policy Condition failed: [\"{operator}\", \"${name}\", \"{wanted}\"]"
                )));
            }
        }
        for (name, _) in fields {
            let named = self.conditions.iter().any(|condition| match condition {
                Condition::Equals(field, _) | Condition::StartsWith(field, _) => field == name,
                Condition::Length(..) => false,
            });
            if !named && !is_exempt(name) && name != "bucket" {
                return Err(denied(format!("Extra input fields: {name}")));
            }
        }
        Ok(())
    }

    /// The sizes that a file may have.
    pub(crate) fn lengths(&self) -> (u64, u64) {
        self.conditions.iter().fold((0, u64::MAX), |(least, most), condition| match condition {
            Condition::Length(from, to) => (least.max(*from), most.min(*to)),
            Condition::Equals(..) | Condition::StartsWith(..) => (least, most),
        })
    }
}

fn condition(value: &Value) -> Result<Vec<Condition>, Error> {
    let wrong = || invalid(format!("Invalid Condition: {value}"));
    match value {
        Value::Object(pairs) if !pairs.is_empty() => pairs
            .iter()
            .map(|(name, value)| {
                let value = value.as_str().ok_or_else(wrong)?;
                Ok(Condition::Equals(name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect(),
        Value::Array(parts) => {
            let [operator, first, second] = &parts[..] else { return Err(wrong()) };
            let field = || {
                let name = first.as_str().and_then(|name| name.strip_prefix('$')).ok_or_else(wrong)?;
                Ok::<_, Error>((name.to_ascii_lowercase(), second.as_str().ok_or_else(wrong)?.to_owned()))
            };
            let number = |value: &Value| match value {
                Value::Number(number) => number.as_u64(),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            match operator.as_str().map(str::to_ascii_lowercase).as_deref() {
                Some("eq") => field().map(|(name, value)| vec![Condition::Equals(name, value)]),
                Some("starts-with") => field().map(|(name, value)| vec![Condition::StartsWith(name, value)]),
                Some("content-length-range") => {
                    let range = number(first).zip(number(second)).ok_or_else(wrong)?;
                    Ok(vec![Condition::Length(range.0, range.1)])
                }
                _ => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<PostPolicy, Error> {
        PostPolicy::read(&STANDARD.encode(text), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn fields_must_be_named_and_fit() {
        let policy = policy(
            r#"{"expiration":"2026-01-02T00:00:00Z","conditions":[{"bucket":"b"},["starts-with","$key","user/"],["eq","$Content-Type","text/plain"],["content-length-range",1,"10"],["starts-with","$x-amz-meta-tag",""]]}"#,
        )
        .unwrap();
        let check = |fields: &[(&str, &str)]| {
            let fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            policy.check(&fields).map_err(|error| error.to_string())
        };
        let fine = [("bucket", "b"), ("key", "user/x"), ("content-type", "text/plain"), ("policy", "x")];
        assert_eq!(check(&fine), Ok(()));
        assert_eq!(policy.lengths(), (1, 10));
        let more = [&fine[..], &[("acl", "public-read")]].concat();
        assert!(check(&more).unwrap_err().contains("Extra input fields: acl"));
        let wrong = [("bucket", "b"), ("key", "other/x"), ("content-type", "text/plain")];
        assert!(check(&wrong).unwrap_err().contains("[\"starts-with\", \"$key\", \"user/\"]"));
    }

    #[test]
    fn policies_end_and_are_well_formed() {
        assert!(matches!(
            policy(r#"{"expiration":"2025-01-01T00:00:00Z","conditions":[]}"#),
            Err(Error::Denied(_))
        ));
        for bad in [
            "",
            "{}",
            r#"{"expiration":"x","conditions":[]}"#,
            r#"{"expiration":"2027-01-01 00:00:00+00:00","conditions":[]}"#,
            r#"{"expiration":"2027-01-01T00:00:00Z","conditions":[{}]}"#,
            r#"{"expiration":"2027-01-01T00:00:00Z"}"#,
            r#"{"expiration":"2027-01-01T00:00:00Z","conditions":[["like","$key","x"]]}"#,
        ] {
            assert!(matches!(policy(bad), Err(Error::InvalidPolicyDocument(_))), "{bad}");
        }
    }
}
