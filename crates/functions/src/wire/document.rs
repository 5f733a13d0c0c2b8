//! The JSON documents that requests carry, read so that what is wrong with one is told as Lambda tells it: by the
//! member's path, never in the terms of the types that hold it here.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use crate::Error;

/// Reads the members of a request. An empty body is `{}`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let body = if body.is_empty() { b"{}" } else { body };
    let value = serde_json::from_slice(body)
        .map_err(|_| Error::Serialization("The request's body is not a JSON document".into()))?;
    T::deserialize(Part(value)).map_err(Fault::into_error)
}

/// What is wrong, and where.
#[derive(Debug)]
struct Fault {
    /// The innermost name comes last.
    path: Vec<String>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Missing,
    Unknown,
    Negative(i64),
    Type(String),
}

impl Fault {
    fn new(path: Vec<String>, problem: Problem) -> Self {
        Self { path, problem }
    }

    fn under(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }

    fn into_error(self) -> Error {
        let at = self.path.iter().map(|name| lower_first(name)).collect::<Vec<_>>().join(".");
        match self.problem {
            Problem::Missing => Error::missing(&at),
            Problem::Unknown => {
                Error::Unsupported(format!("{} is not supported by this node.", self.path.join(".")))
            }
            Problem::Negative(value) => {
                Error::constraint(value, &at, "Member must have value greater than or equal to 0")
            }
            Problem::Type(message) => Error::Serialization(message),
        }
    }
}

/// A member's name as messages write it.
fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.problem, self.path.join("."))
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Vec::new(), Problem::Type(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::custom(match found {
            Unexpected::Str(_) => "Unexpected value type in payload: STRING_VALUE",
            Unexpected::Bool(true) => "Unexpected value type in payload: TRUE_VALUE",
            Unexpected::Bool(false) => "Unexpected value type in payload: FALSE_VALUE",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => {
                "Unexpected value type in payload: NUMBER_VALUE"
            }
            Unexpected::Seq => "Start of list found where not expected",
            Unexpected::Map => "Start of structure or map found where not expected.",
            _ => "Unexpected value type in payload",
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Signed(value) if value < 0 => Self::new(Vec::new(), Problem::Negative(value)),
            found => Self::invalid_type(found, expected),
        }
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(vec![field.to_owned()], Problem::Unknown)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(vec![field.to_owned()], Problem::Missing)
    }
}

/// A part of a document.
struct Part(Value);

impl<'de> Deserializer<'de> for Part {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(members) => visitor.visit_map(Members { rest: members.into_iter(), next: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A member that is null is not there; a list is no structure.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Object(mut members) => {
                members.retain(|_, value| !value.is_null());
                Self(Value::Object(members)).deserialize_any(visitor)
            }
            Value::Array(_) => Err(Fault::invalid_type(Unexpected::Seq, &visitor)),
            other => Self(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|item| seed.deserialize(Part(item))).transpose()
    }
}

struct Members {
    rest: serde_json::map::IntoIter,
    next: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        let key = seed.deserialize(Part(Value::String(name.clone())))?;
        self.next = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (name, value) = self.next.take().expect("a value is asked for after its key");
        seed.deserialize(Part(value)).map_err(|fault| fault.under(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::input::{CreateFunction, FunctionUrlConfig};

    fn fault<T: DeserializeOwned + fmt::Debug>(body: &str) -> (String, String) {
        let error = aws::Error::from(read::<T>(body.as_bytes()).unwrap_err());
        (error.code.into_owned(), error.message)
    }

    #[test]
    fn faults_name_members_and_not_types() {
        let null = "1 validation error detected: Value null at 'role' failed to satisfy constraint: Member must not \
                    be null";
        for body in [r#"{"FunctionName":"f","Code":{}}"#, r#"{"FunctionName":"f","Code":{},"Role":null}"#] {
            assert_eq!(fault::<CreateFunction>(body), ("ValidationException".into(), null.into()), "{body}");
        }
        for (body, message) in [
            ("[1]", "Start of list found where not expected"),
            (r#"{"FunctionName":5}"#, "Unexpected value type in payload: NUMBER_VALUE"),
            (r#"{"Timeout":"5"}"#, "Unexpected value type in payload: STRING_VALUE"),
            (r#"{"Role":{}}"#, "Start of structure or map found where not expected."),
            ("{", "The request's body is not a JSON document"),
        ] {
            let expected = ("SerializationException".to_owned(), message.to_owned());
            assert_eq!(fault::<CreateFunction>(body), expected, "{body}");
        }
        let (code, message) = fault::<CreateFunction>(r#"{"Code":{"Zip":""}}"#);
        assert_eq!(code, "InvalidParameterValueException");
        assert_eq!(message, "Code.Zip is not supported by this node.");
        let (code, message) = fault::<FunctionUrlConfig>(r#"{"Cors":{"MaxAge":-1}}"#);
        assert!(code == "ValidationException" && message.contains("'-1' at 'cors.maxAge'"), "{message}");
    }
}
