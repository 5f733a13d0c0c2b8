//! Attribute values: what they are, what they count for, how they are stored and ordered.
//!
//! Invariant: sets are sorted and without duplicates, maps are sorted by name; so equal values have equal
//! encodings.

mod codec;
pub(crate) mod number;

use std::collections::BTreeMap;

use bytes::Bytes;

pub(crate) use codec::{
    ItemView, Sequence, ValueView, decode_item, encode_item, encode_value, item_size, project_item,
};
pub(crate) use number::{Number, NumberError};

/// The deepest that lists and maps may nest (Developer Guide, "Service, account, and table quotas").
pub(crate) const MAX_DEPTH: usize = 32;

/// The largest item, names included.
pub(crate) const MAX_ITEM_BYTES: usize = 400 * 1024;

/// Attributes by name: an item, or a map within one.
pub(crate) type Attributes = BTreeMap<String, AttributeValue>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttributeValue {
    S(String),
    N(Number),
    B(Bytes),
    Bool(bool),
    Null,
    Ss(Vec<String>),
    Ns(Vec<Number>),
    Bs(Vec<Bytes>),
    L(Vec<AttributeValue>),
    M(Attributes),
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    S,
    N,
    B,
    Bool,
    Null,
    Ss,
    Ns,
    Bs,
    L,
    M,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] =
        [Self::S, Self::N, Self::B, Self::Bool, Self::Null, Self::Ss, Self::Ns, Self::Bs, Self::L, Self::M];

    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
            Self::Bool => "BOOL",
            Self::Null => "NULL",
            Self::Ss => "SS",
            Self::Ns => "NS",
            Self::Bs => "BS",
            Self::L => "L",
            Self::M => "M",
        }
    }

    /// The name as some messages of update expressions have it.
    pub(crate) fn long_name(self) -> &'static str {
        match self {
            Self::S => "STRING",
            Self::N => "NUMBER",
            Self::B => "BINARY",
            Self::Bool => "BOOLEAN",
            Self::Null => "NULL",
            Self::Ss => "STRING_SET",
            Self::Ns => "NUMBER_SET",
            Self::Bs => "BINARY_SET",
            Self::L => "LIST",
            Self::M => "MAP",
        }
    }

    /// The type of that wire name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl AttributeValue {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::S(_) => Kind::S,
            Self::N(_) => Kind::N,
            Self::B(_) => Kind::B,
            Self::Bool(_) => Kind::Bool,
            Self::Null => Kind::Null,
            Self::Ss(_) => Kind::Ss,
            Self::Ns(_) => Kind::Ns,
            Self::Bs(_) => Kind::Bs,
            Self::L(_) => Kind::L,
            Self::M(_) => Kind::M,
        }
    }

    /// What it counts for in an item's size (Developer Guide, "DynamoDB item sizes and formats").
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(number) => number.size_bytes(),
            Self::B(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::Ss(set) => set.iter().map(String::len).sum(),
            Self::Ns(set) => set.iter().map(|number| number.size_bytes()).sum(),
            Self::Bs(set) => set.iter().map(Bytes::len).sum(),
            Self::L(list) => 3 + list.iter().map(|value| 1 + value.size_bytes()).sum::<usize>(),
            Self::M(map) => 3 + map.len() + size_bytes(map),
        }
    }

    /// How deep lists and maps nest in it: 0 for a scalar.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::L(list) => 1 + list.iter().map(Self::depth).max().unwrap_or(0),
            Self::M(map) => 1 + map.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The size of an item: names and values.
pub(crate) fn size_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value.size_bytes()).sum()
}
