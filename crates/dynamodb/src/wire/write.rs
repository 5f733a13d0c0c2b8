//! Answers, written straight from the stored form of items.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::value::{AttributeValue, Attributes, ItemView, Kind, Number, Sequence, ValueView, encode_value};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Where the first byte is that a JSON string has to escape: eight bytes at a time, since answers are long.
fn escaped_at(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    // The high bit of each byte that is zero. A borrow can only reach bytes after the first such one.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, tail) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = control | zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES);
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let in_tail = tail.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
    in_tail.map(|at| words.len() * 8 + at)
}

/// Appends a JSON string; `text` is UTF-8.
pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = escaped_at(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let (high, low) = (control >> 4, control & 0xF);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(high)], HEX[usize::from(low)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends a key of an object and its colon.
pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    string(out, name.as_bytes());
    out.push(b':');
}

fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[at..]).expect("the slice has the length of the encoding");
    out.push(b'"');
}

fn scalar(out: &mut Vec<u8>, kind: Kind, bytes: &[u8]) {
    match kind {
        Kind::N | Kind::Ns => {
            let number = Number::decode(bytes).unwrap_or(Number::ZERO);
            out.push(b'"');
            let _ = std::io::Write::write_fmt(out, format_args!("{number}"));
            out.push(b'"');
        }
        Kind::B | Kind::Bs => blob(out, bytes),
        _ => string(out, bytes),
    }
}

/// Writes the elements that `each` writes, separated by commas.
pub(crate) fn list<T>(
    out: &mut Vec<u8>,
    brackets: [u8; 2],
    elements: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(out, element);
    }
    out.push(brackets[1]);
}

/// Appends a value as `{"S":"..."}`.
pub(crate) fn value(out: &mut Vec<u8>, view: ValueView<'_>) {
    out.push(b'{');
    let kind = view.kind();
    key(out, kind.name());
    match view.sequence() {
        Some(Sequence::Members(members)) => {
            list(out, *b"[]", members, |out, member| scalar(out, kind, member));
        }
        Some(Sequence::Elements(elements)) => list(out, *b"[]", elements, value),
        Some(Sequence::Named(named)) => list(out, *b"{}", named, attribute),
        None => match kind {
            Kind::Null => out.extend_from_slice(b"true"),
            Kind::Bool => out.extend_from_slice(if view.is_true() { b"true" } else { b"false" }),
            _ => scalar(out, kind, view.scalar()),
        },
    }
    out.push(b'}');
}

/// Appends a name and a value.
pub(crate) fn attribute(out: &mut Vec<u8>, (name, view): (&[u8], ValueView<'_>)) {
    string(out, name);
    out.push(b':');
    value(out, view);
}

/// Appends an item.
pub(crate) fn item(out: &mut Vec<u8>, view: ItemView<'_>) {
    list(out, *b"{}", view.attributes(), attribute);
}

/// Appends attributes that are not encoded.
pub(crate) fn attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    list(out, *b"{}", attributes.iter(), |out, (name, av): (&String, &AttributeValue)| {
        let mut encoded = Vec::new();
        encode_value(av, &mut encoded);
        attribute(out, (name.as_bytes(), ValueView::of(&encoded)));
    });
}

/// An item as a JSON value, for the members of errors.
pub(crate) fn item_json(view: ItemView<'_>) -> serde_json::Value {
    let mut out = Vec::new();
    item(&mut out, view);
    serde_json::from_slice(&out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_read_as_they_were(text in "[ -~\u{0}-\u{1f}\"\\\\é漢🎈\u{80}]{0,40}") {
            let mut out = Vec::new();
            string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn the_first_byte_to_escape_is_found(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(0x1F), Just(0x20)], 0..40)) {
            let plain = text.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(escaped_at(&text), plain);
        }
    }
}
