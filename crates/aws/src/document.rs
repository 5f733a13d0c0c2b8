//! The JSON documents that requests carry, read so that what is wrong with one is told as AWS tells it: by the members'
//! paths, never in the terms of the types that hold it here, and all rules that it breaks at once.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};
use types::ErrorKind;

use crate::Error;

/// How many rules of one document are told to be broken.
const MOST_TOLD: usize = 32;

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is no JSON, or a member is of another type than the service's model says; the message for a person.
    Form(String),
    /// Rules of the service's model are broken: `Value ... at '...' failed to satisfy constraint: ...`, each.
    Rules(Vec<String>),
    /// The path of a member that is not known here.
    Unknown(String),
}

/// A member that has to be there and is not, by its path as messages write it.
#[must_use]
pub fn missing(member: &str) -> String {
    format!("Value null at '{member}' failed to satisfy constraint: Member must not be null")
}

/// A value that breaks a rule of the service's model: "Member must ...".
#[must_use]
pub fn constraint(value: impl fmt::Display, member: &str, rule: &str) -> String {
    format!("Value '{value}' at '{member}' failed to satisfy constraint: {rule}")
}

/// All that breaks rules, in one message.
#[must_use]
pub fn rules(broken: &[String]) -> String {
    let errors = if broken.len() == 1 { "error" } else { "errors" };
    format!("{} validation {errors} detected: {}", broken.len(), broken.join("; "))
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        let (code, message) = match wrong {
            Wrong::Form(message) => ("SerializationException", message),
            Wrong::Rules(broken) => ("ValidationException", rules(&broken)),
            Wrong::Unknown(path) => ("ValidationException", format!("{path} is not supported by this node.")),
        };
        Self::new(ErrorKind::Invalid, code, message)
    }
}

/// Reads the members of a request. An empty body is `{}`.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    let body = if body.is_empty() { b"{}" } else { body };
    let parse = || {
        serde_json::from_slice::<Distinct>(body)
            .map(|document| document.0)
            .map_err(|_| Wrong::Form("The request's body is not a JSON document".into()))
    };
    let fault = match T::deserialize(Part(parse()?)) {
        Ok(value) => return Ok(value),
        Err(fault) => fault,
    };
    let at = fault.at();
    let (rule, in_its_place) = match fault.problem {
        Problem::Missing => (missing(&at), FILLERS),
        Problem::Broken(value, rule) => (constraint(value, &at, &rule), GONE),
        Problem::Unknown => return Err(Wrong::Unknown(fault.path.join("."))),
        Problem::Type(message) => return Err(Wrong::Form(message)),
    };
    Err(more_than::<T>(parse()?, rule, fault.path, in_its_place))
}

/// A document in which no member is there twice: which of them counted, nobody could say.
struct Distinct(Value);

impl<'de> serde::Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Distinct;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Distinct, E> {
                Ok(Distinct(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Distinct, E> {
                Ok(Distinct(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Distinct, A::Error> {
                let mut all = Vec::new();
                while let Some(Distinct(item)) = items.next_element()? {
                    all.push(item);
                }
                Ok(Distinct(all.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Distinct, A::Error> {
                let mut all = serde_json::Map::new();
                while let Some((name, Distinct(value))) = members.next_entry::<String, Distinct>()? {
                    if all.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Distinct(all.into()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What may stand in the place of a member until all others are looked at.
const FILLERS: &[fn() -> Value] = &[|| json!(""), || json!({}), || json!(0), || json!([]), || json!(false)];
/// In the place of a value that breaks a rule: the least number, or none at all.
const GONE: &[fn() -> Value] = &[|| json!(0), || Value::Null];

/// The other rules that a document breaks, beside the one of the member at `path`: reading goes on with something in its
/// place.
fn more_than<T: DeserializeOwned>(
    mut document: Value,
    rule: String,
    mut path: Vec<String>,
    mut fillers: &'static [fn() -> Value],
) -> Wrong {
    let mut broken = vec![rule];
    let mut filled = vec![path.clone()];
    let mut next = 0;
    while let Some(filler) = fillers.get(next)
        && put(&mut document, &path, filler())
        && let Err(fault) = T::deserialize(Part(document.clone()))
    {
        // What is within a member that is not there is not missing for itself.
        let at = fault.at();
        let within = filled.iter().any(|filled| fault.path.starts_with(filled));
        match fault.problem {
            Problem::Type(_) if fault.path == path => next += 1,
            Problem::Type(message) if !within => return Wrong::Form(message),
            Problem::Unknown if !within => return Wrong::Unknown(fault.path.join(".")),
            Problem::Type(_) | Problem::Unknown => break,
            Problem::Missing | Problem::Broken(..) if filled.len() >= MOST_TOLD => break,
            Problem::Missing => {
                if !within {
                    broken.push(missing(&at));
                }
                (path, fillers, next) = (fault.path, FILLERS, 0);
                filled.push(path.clone());
            }
            Problem::Broken(value, rule) => {
                broken.push(constraint(value, &at, &rule));
                (path, fillers, next) = (fault.path, GONE, 0);
                filled.push(path.clone());
            }
        }
    }
    Wrong::Rules(broken)
}

/// Puts a member into a document; false if there is no place for it.
fn put(document: &mut Value, path: &[String], value: Value) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let parent = parents.iter().try_fold(document, |value, name| value.get_mut(name));
    let Some(Value::Object(members)) = parent else { return false };
    members.insert(last.clone(), value);
    true
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
    /// A value, and the rule that it breaks.
    Broken(String, String),
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

    /// Where, as messages write it.
    fn at(&self) -> String {
        self.path.iter().map(|name| lower_first(name)).collect::<Vec<_>>().join(".")
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
            Unexpected::Signed(value) if value < 0 => {
                let rule = "Member must have value greater than or equal to 0";
                Self::new(Vec::new(), Problem::Broken(value.to_string(), rule.to_owned()))
            }
            found => Self::invalid_type(found, expected),
        }
    }

    fn unknown_variant(word: &str, words: &'static [&'static str]) -> Self {
        let rule = format!("Member must satisfy enum value set: [{}]", words.join(", "));
        Self::new(Vec::new(), Problem::Broken(word.to_owned(), rule))
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

    /// One of several words.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            other => Self(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read, and not looked at")]
    struct Outer {
        name: String,
        inner: Inner,
        list: Vec<Inner>,
        flag: bool,
        small: Option<u32>,
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Word {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read, and not looked at")]
    struct Inner {
        count: u32,
    }

    fn wrong(body: &str) -> Wrong {
        read::<Outer>(body.as_bytes()).unwrap_err()
    }

    fn broken(body: &str, members: &[&str]) {
        let rules = members.iter().map(|member| missing(member)).collect();
        assert_eq!(wrong(body), Wrong::Rules(rules), "{body}");
    }

    #[test]
    fn all_that_is_missing_is_told() {
        broken("", &["name", "inner", "list", "flag"]);
        broken(r#"{"Inner":null,"Name":"n"}"#, &["inner", "list", "flag"]);
        broken(r#"{"Inner":{},"Name":"n","List":[],"Flag":true}"#, &["inner.count"]);
        broken(r#"{"Inner":{},"Name":"n","Flag":true}"#, &["inner.count", "list"]);
        // What is in a list has no path of its own.
        broken(r#"{"Inner":{"Count":1},"Name":"n","Flag":true,"List":[{}]}"#, &["list.count"]);
        let negative = wrong(r#"{"Inner":{"Count":-1},"Small":-2,"Name":"n","List":[]}"#);
        let rule = "Member must have value greater than or equal to 0";
        let rules = [constraint(-1, "inner.count", rule), constraint(-2, "small", rule), missing("flag")];
        assert_eq!(negative, Wrong::Rules(rules.into()));
    }

    #[test]
    fn words_are_some_of_several() {
        broken(r#"{"Word":"ONE","Inner":{"Count":1},"List":[],"Flag":true}"#, &["name"]);
        let wrong = wrong(r#"{"Word":"THREE","Inner":{"Count":1},"List":[],"Flag":true}"#);
        let rule = constraint("THREE", "word", "Member must satisfy enum value set: [ONE, TWO]");
        let Wrong::Rules(mut rules) = wrong else { panic!("{wrong:?}") };
        rules.sort_unstable();
        assert_eq!(rules, [rule, missing("name")]);
        let fine = r#"{"Name":"a","Word":"TWO","Inner":{"Count":1},"List":[],"Flag":true}"#;
        assert!(read::<Outer>(fine.as_bytes()).is_ok());
        let twice = read::<Outer>(br#"{"Name":"a","Name":"b"}"#).unwrap_err();
        assert!(matches!(twice, Wrong::Form(_)), "{twice:?}");
    }

    #[test]
    fn forms_and_unknown_members_come_first() {
        for (body, message) in [
            ("[1]", "Start of list found where not expected"),
            (r#"{"Name":5}"#, "Unexpected value type in payload: NUMBER_VALUE"),
            (r#"{"Inner":{},"Small":"x"}"#, "Unexpected value type in payload: STRING_VALUE"),
            ("{", "The request's body is not a JSON document"),
        ] {
            assert_eq!(wrong(body), Wrong::Form(message.into()), "{body}");
        }
        assert_eq!(wrong(r#"{"Inner":{"Size":1}}"#), Wrong::Unknown("Inner.Size".into()));
        let error = Error::from(Wrong::Rules(vec![missing("a"), missing("b")]));
        assert_eq!(error.code, "ValidationException");
        assert_eq!(
            error.message,
            "2 validation errors detected: Value null at 'a' failed to satisfy constraint: Member must not be null; \
             Value null at 'b' failed to satisfy constraint: Member must not be null"
        );
    }
}
