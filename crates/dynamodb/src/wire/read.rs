//! Inputs: serde types, with attribute values read in one pass and without an intermediate tree.
//!
//! A value that breaks a rule does not end the reading: the first such fault is kept beside the map, since
//! DynamoDB reports it in its turn among other rules and in words that depend on the parameter.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use indexmap::IndexMap;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Error;
use crate::value::{AttributeValue, Attributes, Kind, MAX_DEPTH, Number};

const EMPTY_VALUE: &str =
    "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";

/// The longest name of an attribute, in bytes.
const MAX_NAME_BYTES: usize = 65_535;

/// The rule that an attribute's name breaks.
pub(crate) fn valid_name(name: &str) -> Result<(), &'static str> {
    match name.len() {
        0 => Err("One or more parameter values were invalid: Empty attribute name"),
        1..=MAX_NAME_BYTES => Ok(()),
        _ => Err(
            "One or more parameter values were invalid: Attribute name is too large, must be less than 65536 bytes",
        ),
    }
}

/// Attributes by name as they came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AttributeMap {
    pub(crate) attributes: Attributes,
    /// The first value that breaks a rule: its name, and the rule.
    fault: Option<(String, String)>,
}

impl AttributeMap {
    /// The attributes, if every value keeps the rules.
    pub(crate) fn valid(&self) -> Result<&Attributes, Error> {
        match &self.fault {
            None => Ok(&self.attributes),
            Some((_, rule)) => Err(Error::validation(rule)),
        }
    }

    /// The same, taken out.
    pub(crate) fn into_valid(self) -> Result<Attributes, Error> {
        self.valid()?;
        Ok(self.attributes)
    }

    /// The first broken rule and the name of its value.
    pub(crate) fn fault(&self) -> Option<(&str, &str)> {
        self.fault.as_ref().map(|(name, rule)| (name.as_str(), rule.as_str()))
    }
}

impl From<Attributes> for AttributeMap {
    fn from(attributes: Attributes) -> Self {
        Self { attributes, fault: None }
    }
}

impl<'de> Deserialize<'de> for AttributeMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = AttributeMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of attribute values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeMap, A::Error> {
                let rule = RefCell::new(None);
                let mut out = AttributeMap::default();
                while let Some(name) = map.next_key::<String>()? {
                    let seed = ValueSeed { rule: &rule, depth: 0 };
                    seed.name(&name);
                    let value = map.next_value_seed(seed)?;
                    if let (None, Some(rule)) = (&out.fault, rule.take()) {
                        out.fault = Some((name.clone(), rule));
                    }
                    out.attributes.insert(name, value);
                }
                Ok(out)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// One value as it came in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SingleValue {
    value: AttributeValue,
    fault: Option<String>,
}

impl SingleValue {
    /// The value, if it keeps the rules.
    pub(crate) fn valid(&self) -> Result<&AttributeValue, Error> {
        match &self.fault {
            None => Ok(&self.value),
            Some(rule) => Err(Error::validation(rule)),
        }
    }
}

impl<'de> Deserialize<'de> for SingleValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = RefCell::new(None);
        let value = ValueSeed { rule: &rule, depth: 0 }.deserialize(deserializer)?;
        Ok(Self { value, fault: rule.into_inner() })
    }
}

/// Reads one value; notes the first rule it breaks.
#[derive(Clone, Copy)]
struct ValueSeed<'r> {
    rule: &'r RefCell<Option<String>>,
    depth: usize,
}

impl ValueSeed<'_> {
    fn broken(&self, rule: impl fmt::Display) {
        self.rule.borrow_mut().get_or_insert_with(|| rule.to_string());
    }

    fn invalid_parameter(&self, rule: impl fmt::Display) {
        self.broken(format_args!("One or more parameter values were invalid: {rule}"));
    }

    fn name(&self, name: &str) {
        if let Err(rule) = valid_name(name) {
            self.broken(rule);
        }
    }

    fn number(&self, text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|error| {
            self.broken(error);
            Number::ZERO
        })
    }

    /// A set, sorted; it may be neither empty nor have duplicates.
    fn set<T: Ord>(&self, mut members: Vec<T>, empty: &str, duplicates: impl FnOnce() -> String) -> Vec<T> {
        if members.is_empty() {
            self.invalid_parameter(empty);
        }
        members.sort_unstable();
        if members.windows(2).any(|pair| pair[0] == pair[1]) {
            self.broken(duplicates());
            members.dedup();
        }
        members
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = AttributeValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AttributeValue, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = AttributeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeValue, A::Error> {
        let mut value = None;
        while let Some(KindName(kind)) = map.next_key()? {
            let Some(kind) = kind else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // A member that is null is none.
            let Some(next) = self.value_of(kind, &mut map)? else { continue };
            if value.replace(next).is_some() {
                self.broken(
                    "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
                );
            }
        }
        Ok(value.unwrap_or_else(|| {
            self.broken(EMPTY_VALUE);
            AttributeValue::Null
        }))
    }
}

impl ValueSeed<'_> {
    fn value_of<'de, A: MapAccess<'de>>(
        self,
        kind: Kind,
        map: &mut A,
    ) -> Result<Option<AttributeValue>, A::Error> {
        Ok(match kind {
            Kind::S => map.next_value::<Option<String>>()?.map(AttributeValue::S),
            Kind::N => {
                map.next_value::<Option<Text<'_>>>()?.map(|text| AttributeValue::N(self.number(&text.0)))
            }
            Kind::B => map.next_value::<Option<Blob>>()?.map(|blob| AttributeValue::B(blob.0)),
            Kind::Bool => map.next_value::<Option<Truth>>()?.map(|truth| AttributeValue::Bool(truth.0)),
            Kind::Null => map.next_value::<Option<Truth>>()?.map(|truth| {
                if !truth.0 {
                    self.invalid_parameter("Null attribute value types must have the value of true");
                }
                AttributeValue::Null
            }),
            Kind::Ss => self.members::<String, _>(map)?.map(|members| {
                let listed = format!("[{}]", members.join(", "));
                AttributeValue::Ss(self.set(members, "An string set  may not be empty", || {
                    format!("One or more parameter values were invalid: Input collection {listed} contains duplicates.")
                }))
            }),
            Kind::Ns => self.members::<Text<'_>, _>(map)?.map(|members| {
                let members = members.iter().map(|text| self.number(&text.0)).collect();
                AttributeValue::Ns(self.set(members, "An number set  may not be empty", || {
                    "Input collection contains duplicates".into()
                }))
            }),
            Kind::Bs => self.members::<Blob, _>(map)?.map(|members| {
                let listed: Vec<_> = members.iter().map(|blob| STANDARD.encode(&blob.0)).collect();
                let members = members.into_iter().map(|blob| blob.0).collect();
                AttributeValue::Bs(self.set(members, "Binary sets should not be empty", || {
                    let listed = listed.join(", ");
                    format!("One or more parameter values were invalid: Input collection [{listed}]of type BS contains duplicates.")
                }))
            }),
            Kind::L | Kind::M if self.depth >= MAX_DEPTH => {
                self.broken("Nesting Levels have exceeded supported limits");
                map.next_value::<IgnoredAny>()?;
                Some(AttributeValue::Null)
            }
            Kind::L => map.next_value_seed(Optional(ListSeed(self.deeper())))?.map(AttributeValue::L),
            Kind::M => map.next_value_seed(Optional(MapSeed(self.deeper())))?.map(AttributeValue::M),
        })
    }

    /// The members of a set, none of which may be null.
    fn members<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
        &self,
        map: &mut A,
    ) -> Result<Option<Vec<T>>, A::Error> {
        let Some(members) = map.next_value::<Option<Vec<Option<T>>>>()? else { return Ok(None) };
        if members.iter().any(Option::is_none) {
            self.broken(EMPTY_VALUE);
        }
        Ok(Some(members.into_iter().flatten().collect()))
    }

    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// What may be null instead.
struct Optional<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attribute values")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

struct ListSeed<'r>(ValueSeed<'r>);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<AttributeValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<AttributeValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of attribute values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(self.0)? {
            out.push(value);
        }
        Ok(out)
    }
}

struct MapSeed<'r>(ValueSeed<'r>);

impl<'de> DeserializeSeed<'de> for MapSeed<'_> {
    type Value = Attributes;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MapSeed<'_> {
    type Value = Attributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
        let mut out = Attributes::new();
        while let Some(name) = map.next_key::<String>()? {
            self.0.name(&name);
            out.insert(name, map.next_value_seed(self.0)?);
        }
        Ok(out)
    }
}

/// The name of a type; `None` if there is no such type.
struct KindName(Option<Kind>);

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(Kind::from_name(&text.0)))
    }
}

/// Text, borrowed from the body where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A boolean, which as text DynamoDB takes, too.
struct Truth(bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Truth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean")
            }

            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Truth, E> {
                Ok(Truth(truth))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Truth, E> {
                match text.to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" => Ok(Truth(true)),
                    "false" | "0" | "no" => Ok(Truth(false)),
                    _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// Bytes, as base64.
struct Blob(Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl Visitor<'_> for Base64 {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
                match STANDARD.decode(text) {
                    Ok(bytes) => Ok(Blob(bytes.into())),
                    Err(_) if !text.len().is_multiple_of(4) => Err(E::custom(format_args!(
                        "Base64 encoded length is expected a multiple of 4 bytes but found: {}",
                        text.len()
                    ))),
                    Err(_) => Err(E::custom("Invalid last non-pad Base64 character dectected")),
                }
            }
        }
        deserializer.deserialize_str(Base64)
    }
}

/// A number of 64 bits, which messages call otherwise than one of 32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Long(pub(crate) i64);

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Long;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a long")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Long, E> {
                Ok(Long(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Long, E> {
                let unexpected = || E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                i64::try_from(number).map(Long).map_err(|_| unexpected())
            }
        }
        deserializer.deserialize_i64(Digits)
    }
}

/// A structure of the service's model, or a list of them, by the name that messages have for it.
pub(crate) trait Modelled {
    /// The name of its class.
    const CLASS: &'static str;
}

/// Structures by name.
#[derive(Debug)]
pub(crate) struct MapOf<T>(pub(crate) IndexMap<String, T>);

impl<T> std::ops::Deref for MapOf<T> {
    type Target = IndexMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'m, T> IntoIterator for &'m MapOf<T> {
    type Item = (&'m String, &'m T);
    type IntoIter = indexmap::map::Iter<'m, String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de> + Modelled> Deserialize<'de> for MapOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Modelled> Visitor<'de> for Members<T> {
            type Value = MapOf<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map of class {}", T::CLASS)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MapOf<T>, A::Error> {
                let mut out = IndexMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    out.insert(name, value);
                }
                Ok(MapOf(out))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Reads an input.
pub(crate) fn input<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        // To serde a list of members would do.
        return Err(Error::Serialization("Start of list found where not expected".into()));
    }
    serde_json::from_slice(bytes).map_err(|error: serde_json::Error| {
        // To what is no JSON, DynamoDB says nothing more.
        if error.is_syntax() || error.is_eof() {
            return Error::Serialization(String::new());
        }
        let text = error.to_string();
        // What serde_json adds helps nobody who did not write the JSON by hand.
        let text = text.split(" at line ").next().unwrap_or_default();
        if let Some(name) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
            return Error::Validation(format!("The parameter {name} is not supported"));
        }
        Error::Serialization(mismatch(text).unwrap_or_else(|| match text.split_once(' ') {
            Some(("duplicate", _)) => String::new(),
            Some(("invalid", _)) => "Unexpected value type in payload".to_owned(),
            // One of DynamoDB's own messages.
            _ => text.to_owned(),
        }))
    })
}

/// Structures that are elements of lists and maps, in the service's model.
const ELEMENTS: [&str; 10] = [
    "AttributeDefinition",
    "AttributeValueUpdate",
    "Condition",
    "ExpectedAttributeValue",
    "GlobalSecondaryIndex",
    "GlobalSecondaryIndexUpdate",
    "KeySchemaElement",
    "KeysAndAttributes",
    "Tag",
    "WriteRequest",
];

/// The words of DynamoDB's framework for a value of another type than wanted.
fn mismatch(text: &str) -> Option<String> {
    let (found, wanted) = text.strip_prefix("invalid ")?.rsplit_once(", expected ")?;
    let (problem, found) = found.split_once(' ')?;
    let is_list = found.starts_with("sequence") || problem == "length";
    if found.starts_with("map") {
        return Some("Start of structure or map found where not expected".into());
    }
    let class = |name: &str| format!("Unrecognized collection type class {name}");
    let of_the_service = |name: &str| format!("com.amazonaws.dynamodb.v20120810.{name}");
    let scalar = match wanted {
        "a string" => Some("String"),
        "a boolean" => Some("Boolean"),
        "i64" | "f64" => Some("Integer"),
        "a long" => Some("Long"),
        _ => None,
    };
    if let Some(name) = scalar {
        let token = [
            ("boolean `true`", "TRUE_VALUE"),
            ("boolean `false`", "FALSE_VALUE"),
            ("integer", "NUMBER_VALUE"),
            ("floating point", "DECIMAL_VALUE"),
            ("string", "STRING_VALUE"),
        ];
        return match token.iter().find(|(prefix, _)| found.starts_with(prefix)) {
            _ if is_list => Some(class(&format!("java.lang.{name}"))),
            Some((_, "STRING_VALUE")) if name == "Boolean" => {
                Some("Unexpected token received from parser".into())
            }
            Some((_, token)) => Some(format!("{token} cannot be converted to {name}")),
            None => None,
        };
    }
    if let Some(rest) = wanted.strip_prefix("struct ") {
        let name = rest.split(' ').next().unwrap_or_default();
        let name = name.strip_suffix("Input").unwrap_or(name);
        return Some(match name {
            _ if is_list => class(&of_the_service(name)),
            "" => "Unexpected value type in payload".into(),
            _ if ELEMENTS.contains(&name) => "Unexpected value type in payload".into(),
            // A member of another structure.
            _ => "Unexpected field type".into(),
        });
    }
    if let Some(name) = wanted.strip_prefix("a map of class ") {
        let found = format!("Unrecognized collection type java.util.Map<java.lang.String, {name}>");
        return Some(if is_list { found } else { "Unexpected field type".into() });
    }
    match wanted {
        "base64" if is_list => Some(class("java.nio.ByteBuffer")),
        "base64" => Some("only base-64-encoded strings are convertible to bytes".into()),
        "an attribute value" if is_list => Some(class(&of_the_service("AttributeValue"))),
        "an attribute value" => Some("Unexpected value type in payload".into()),
        "a map of attribute values" if is_list => Some(format!(
            "Unrecognized collection type java.util.Map<java.lang.String, {}>",
            of_the_service("AttributeValue")
        )),
        "a map" if is_list => {
            Some("Unrecognized collection type java.util.Map<java.lang.String, java.lang.String>".into())
        }
        "a map" | "a map of attribute values" | "a sequence" | "a list of attribute values" => {
            Some("Unexpected field type".into())
        }
        _ => None,
    }
}
