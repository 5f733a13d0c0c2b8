//! How items are stored, and how to look into one without rebuilding it.
//!
//! An item is a format byte, its size as DynamoDB counts it (varint), the number of attributes (varint), then
//! each attribute's name (varint length, bytes) and value, sorted by name. A value is a tag; scalars and sets'
//! members follow as varint length and bytes, numbers in their ordered encoding; lists, maps and sets as a
//! 4-byte length, a varint count and the elements. Any value can be stepped over, and scalars compare as bytes.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{AttributeValue, Attributes, Kind, Number};

/// The format that this code writes.
const FORMAT: u8 = 1;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const S: u8 = 3;
const N: u8 = 4;
const B: u8 = 5;
const SS: u8 = 6;
const NS: u8 = 7;
const BS: u8 = 8;
const L: u8 = 9;
const M: u8 = 10;

/// The bytes are not an item in a format that this code reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

impl From<Corrupt> for store::Error {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt { table: "ddb_items", reason: "it is not an item, or has a newer format".into() }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint<'a>(bytes: &mut &'a [u8]) -> Option<usize> {
    let (mut value, mut shift) = (0usize, 0);
    loop {
        let (&byte, rest): (_, &'a [u8]) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(bytes)?;
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// Room for a 4-byte length, filled in by [`close`].
fn open(out: &mut Vec<u8>, tag: u8, count: usize) -> usize {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put_varint(out, count);
    at
}

fn close(out: &mut [u8], at: usize) {
    let len = u32::try_from(out.len() - at - 4).expect("requests, and so values, are far below 4 GiB");
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_number(out: &mut Vec<u8>, number: Number) {
    // An encoded number has at most 22 bytes, so its length is one.
    let at = out.len();
    out.push(0);
    number.encode(out);
    out[at] = (out.len() - at - 1) as u8;
}

/// Appends a value.
pub(crate) fn encode_value(value: &AttributeValue, out: &mut Vec<u8>) {
    match value {
        AttributeValue::Null => out.push(NULL),
        AttributeValue::Bool(false) => out.push(FALSE),
        AttributeValue::Bool(true) => out.push(TRUE),
        AttributeValue::S(text) => {
            out.push(S);
            put_bytes(out, text.as_bytes());
        }
        AttributeValue::N(number) => {
            out.push(N);
            put_number(out, *number);
        }
        AttributeValue::B(bytes) => {
            out.push(B);
            put_bytes(out, bytes);
        }
        AttributeValue::Ss(set) => {
            let at = open(out, SS, set.len());
            set.iter().for_each(|text| put_bytes(out, text.as_bytes()));
            close(out, at);
        }
        AttributeValue::Ns(set) => {
            let at = open(out, NS, set.len());
            set.iter().for_each(|number| put_number(out, *number));
            close(out, at);
        }
        AttributeValue::Bs(set) => {
            let at = open(out, BS, set.len());
            set.iter().for_each(|bytes| put_bytes(out, bytes));
            close(out, at);
        }
        AttributeValue::L(list) => {
            let at = open(out, L, list.len());
            list.iter().for_each(|value| encode_value(value, out));
            close(out, at);
        }
        AttributeValue::M(map) => {
            let at = open(out, M, map.len());
            encode_attributes(map, out);
            close(out, at);
        }
    }
}

fn encode_attributes(attributes: &Attributes, out: &mut Vec<u8>) {
    for (name, value) in attributes {
        put_bytes(out, name.as_bytes());
        encode_value(value, out);
    }
}

/// An item as it is stored; `size_bytes` is its size as DynamoDB counts it.
pub(crate) fn encode_item(item: &Attributes, size_bytes: usize) -> Bytes {
    let mut out = Vec::with_capacity(size_bytes + item.len() * 4 + 8);
    out.push(FORMAT);
    put_varint(&mut out, size_bytes);
    put_varint(&mut out, item.len());
    encode_attributes(item, &mut out);
    out.into()
}

/// The part of an item that has the attributes which `keep` wants, as it is stored. Nothing is rebuilt.
pub(crate) fn project_item(item: ItemView<'_>, mut keep: impl FnMut(&[u8]) -> bool) -> Bytes {
    let kept: SmallVec<[_; 16]> = item.attributes().filter(|(name, _)| keep(name)).collect();
    let size_bytes = kept.iter().map(|(name, value)| name.len() + value.size_bytes()).sum();
    let mut out = Vec::with_capacity(size_bytes + kept.len() * 4 + 8);
    out.push(FORMAT);
    put_varint(&mut out, size_bytes);
    put_varint(&mut out, kept.len());
    for (name, value) in kept {
        put_bytes(&mut out, name);
        value.put(&mut out);
    }
    out.into()
}

/// The size of a stored item as DynamoDB counts it, from its head alone; 0 if it is none.
pub(crate) fn item_size(bytes: &[u8]) -> usize {
    ItemView::unchecked(bytes).map_or(0, ItemView::size_bytes)
}

/// The item, rebuilt.
pub(crate) fn decode_item(bytes: &[u8]) -> Result<Attributes, Corrupt> {
    let view = ItemView::new(bytes)?;
    let mut attributes = Attributes::new();
    for (name, value) in view.attributes() {
        let name = str::from_utf8(name).map_err(|_| Corrupt)?;
        attributes.insert(name.to_owned(), value.decode().ok_or(Corrupt)?);
    }
    Ok(attributes)
}

/// An encoded item, looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ItemView<'a> {
    size_bytes: usize,
    count: usize,
    body: &'a [u8],
}

impl<'a> ItemView<'a> {
    /// An item that is not there: it has no attributes.
    pub(crate) const ABSENT: ItemView<'static> = ItemView { size_bytes: 0, count: 0, body: &[] };

    /// Looks into `bytes`, having stepped over every attribute once to see that they are whole.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let view = Self::unchecked(bytes).ok_or(Corrupt)?;
        let mut attributes = view.attributes();
        let found = attributes.by_ref().count();
        if found == view.count && attributes.rest.is_empty() { Ok(view) } else { Err(Corrupt) }
    }

    fn unchecked(bytes: &'a [u8]) -> Option<Self> {
        let (&format, mut body) = bytes.split_first()?;
        if format != FORMAT {
            return None;
        }
        let size_bytes = take_varint(&mut body)?;
        let count = take_varint(&mut body)?;
        Some(Self { size_bytes, count, body })
    }

    /// Its size as DynamoDB counts it.
    pub(crate) fn size_bytes(self) -> usize {
        self.size_bytes
    }

    /// Its attributes, by name.
    pub(crate) fn attributes(self) -> Named<'a> {
        Named { left: self.count, rest: self.body }
    }

    /// One attribute.
    pub(crate) fn get(self, name: &str) -> Option<ValueView<'a>> {
        self.attributes().find(name)
    }
}

/// Names and values, in order of names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Named<'a> {
    /// The value of that name.
    pub(crate) fn find(mut self, name: &str) -> Option<ValueView<'a>> {
        Iterator::find(&mut self, |(candidate, _)| *candidate == name.as_bytes()).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Named<'a> {
    type Item = (&'a [u8], ValueView<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = take_bytes(&mut self.rest)?;
        let value = ValueView::take(&mut self.rest)?;
        Some((name, value))
    }
}

/// The elements of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = ValueView<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        ValueView::take(&mut self.rest)
    }
}

/// The members of a set: text, encoded numbers or bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        take_bytes(&mut self.rest)
    }
}

/// What a value holds if it is not a scalar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sequence<'a> {
    Members(Members<'a>),
    Elements(Elements<'a>),
    Named(Named<'a>),
}

/// An encoded value, looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueView<'a> {
    tag: u8,
    body: &'a [u8],
}

impl<'a> ValueView<'a> {
    /// Takes a value from the front of `bytes`.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        *bytes = rest;
        let body = match tag {
            NULL | FALSE | TRUE => &[],
            S | N | B => take_bytes(bytes)?,
            SS | NS | BS | L | M => {
                let (len, rest) = bytes.split_first_chunk()?;
                let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
                let (body, rest) = rest.split_at_checked(len)?;
                *bytes = rest;
                body
            }
            _ => return None,
        };
        Some(Self { tag, body })
    }

    /// Appends it as it was encoded.
    fn put(self, out: &mut Vec<u8>) {
        out.push(self.tag);
        match self.tag {
            NULL | FALSE | TRUE => {}
            S | N | B => put_bytes(out, self.body),
            _ => {
                let len = u32::try_from(self.body.len()).expect("it was read with a length of 4 bytes");
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(self.body);
            }
        }
    }

    /// What it counts for in an item's size: as [`AttributeValue::size_bytes`].
    pub(crate) fn size_bytes(self) -> usize {
        let number = |bytes: &[u8]| Number::decode(bytes).map_or(0, Number::size_bytes);
        match self.sequence() {
            None if self.tag == N => number(self.body),
            None if matches!(self.tag, S | B) => self.body.len(),
            None => 1,
            Some(Sequence::Members(members)) if self.tag == NS => members.map(number).sum(),
            Some(Sequence::Members(members)) => members.map(<[u8]>::len).sum(),
            Some(Sequence::Elements(elements)) => {
                3 + elements.map(|element| 1 + element.size_bytes()).sum::<usize>()
            }
            Some(Sequence::Named(named)) => {
                3 + named.map(|(name, value)| 1 + name.len() + value.size_bytes()).sum::<usize>()
            }
        }
    }

    /// A value encoded by [`encode_value`].
    pub(crate) fn of(mut encoded: &'a [u8]) -> Self {
        Self::take(&mut encoded).expect("`encode_value` writes whole values")
    }

    pub(crate) fn kind(self) -> Kind {
        match self.tag {
            NULL => Kind::Null,
            FALSE | TRUE => Kind::Bool,
            S => Kind::S,
            N => Kind::N,
            B => Kind::B,
            SS => Kind::Ss,
            NS => Kind::Ns,
            BS => Kind::Bs,
            L => Kind::L,
            M => Kind::M,
            _ => unreachable!("`take` lets no other tag through"),
        }
    }

    /// The bytes of a scalar: text, an encoded number, or bytes. Scalars of one kind compare as these.
    pub(crate) fn scalar(self) -> &'a [u8] {
        self.body
    }

    /// Whether it is `true`.
    pub(crate) fn is_true(self) -> bool {
        self.tag == TRUE
    }

    /// What is in it, if it is a set, list or map.
    pub(crate) fn sequence(self) -> Option<Sequence<'a>> {
        let mut rest = self.body;
        match self.tag {
            SS | NS | BS => Some(Sequence::Members(Members { left: take_varint(&mut rest)?, rest })),
            L => Some(Sequence::Elements(Elements { left: take_varint(&mut rest)?, rest })),
            M => Some(Sequence::Named(Named { left: take_varint(&mut rest)?, rest })),
            _ => None,
        }
    }

    /// How many elements it has, if it is a set, list or map.
    pub(crate) fn count(self) -> Option<usize> {
        self.sequence().map(|sequence| match sequence {
            Sequence::Members(members) => members.left,
            Sequence::Elements(elements) => elements.left,
            Sequence::Named(named) => named.left,
        })
    }

    /// Equal as DynamoDB has it: same type, same value. Sets and maps are sorted, so equal bytes say it all.
    pub(crate) fn equals(self, other: Self) -> bool {
        self.tag == other.tag && self.body == other.body
    }

    /// The value, rebuilt.
    pub(crate) fn decode(self) -> Option<AttributeValue> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
        Some(match (self.tag, self.sequence()) {
            (NULL, _) => AttributeValue::Null,
            (FALSE, _) => AttributeValue::Bool(false),
            (TRUE, _) => AttributeValue::Bool(true),
            (S, _) => AttributeValue::S(text(self.body)?),
            (N, _) => AttributeValue::N(Number::decode(self.body)?),
            (B, _) => AttributeValue::B(Bytes::copy_from_slice(self.body)),
            (SS, Some(Sequence::Members(members))) => {
                AttributeValue::Ss(members.map(text).collect::<Option<_>>()?)
            }
            (NS, Some(Sequence::Members(members))) => {
                AttributeValue::Ns(members.map(Number::decode).collect::<Option<_>>()?)
            }
            (BS, Some(Sequence::Members(members))) => {
                AttributeValue::Bs(members.map(Bytes::copy_from_slice).collect())
            }
            (L, Some(Sequence::Elements(elements))) => {
                AttributeValue::L(elements.map(Self::decode).collect::<Option<_>>()?)
            }
            (M, Some(Sequence::Named(named))) => AttributeValue::M(
                named.map(|(name, value)| Some((text(name)?, value.decode()?))).collect::<Option<_>>()?,
            ),
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
