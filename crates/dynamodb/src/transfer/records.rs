//! Records of what is imported: lines of JSON, or CSV (RFC 4180, with a delimiter of one's choice).
//!
//! Bytes come as they are read; a record comes out when it is whole. Invariant: what is kept is at most one record,
//! whose size is limited.

use serde::Deserialize;

use super::rows::InputFormat;
use crate::Error;
use crate::tables::{KeyAttribute, KeyKind};
use crate::value::{AttributeValue, Attributes, Number};
use crate::wire::AttributeMap;

/// The longest record: an item of 400 KB, written as wastefully as JSON can.
const MAX_RECORD_BYTES: usize = 8 << 20;

/// Finds records.
#[derive(Debug)]
pub(crate) struct Splitter {
    csv: bool,
    pending: Vec<u8>,
    /// How much of it has been looked at.
    seen: usize,
    in_quotes: bool,
}

/// A record is longer than any item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Splitter {
    pub(crate) fn new(format: &InputFormat) -> Self {
        let csv = matches!(format, InputFormat::Csv { .. });
        Self { csv, pending: Vec::new(), seen: 0, in_quotes: false }
    }

    /// Takes bytes; answers with the records that are whole now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        let mut begin = 0;
        for at in self.seen..self.pending.len() {
            match self.pending[at] {
                // Two quotes within a quoted field leave it and enter it again.
                b'"' if self.csv => self.in_quotes = !self.in_quotes,
                b'\n' if !self.in_quotes => {
                    records.push(self.pending[begin..at].to_vec());
                    begin = at + 1;
                }
                _ => {}
            }
        }
        self.pending.drain(..begin);
        self.seen = self.pending.len();
        if self.pending.len() > MAX_RECORD_BYTES { Err(TooLong) } else { Ok(records) }
    }

    /// What is left, at the end.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        Some(self.pending).filter(|rest| !rest.is_empty())
    }
}

/// Makes items of the records of one object.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    format: &'a InputFormat,
    /// Attributes of keys have types; of CSV, all others are strings.
    keys: Vec<&'a KeyAttribute>,
    /// The names in the first record.
    header: Option<Vec<String>>,
    /// Nothing of the object has been read.
    is_first: bool,
}

/// What some programs begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> Reader<'a> {
    pub(crate) fn new(format: &'a InputFormat, keys: Vec<&'a KeyAttribute>) -> Self {
        let header = match format {
            InputFormat::Csv { header, .. } => header.clone(),
            InputFormat::DynamoDbJson => None,
        };
        Self { format, keys, header, is_first: true }
    }

    /// The item of a record; `None` if it has none.
    pub(crate) fn item(&mut self, record: &[u8]) -> Result<Option<Attributes>, Error> {
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let mark = std::mem::take(&mut self.is_first).then(|| record.strip_prefix(BYTE_ORDER_MARK));
        let record = mark.flatten().unwrap_or(record);
        if record.trim_ascii().is_empty() {
            return Ok(None);
        }
        match self.format {
            InputFormat::DynamoDbJson => json_item(record).map(Some),
            InputFormat::Csv { delimiter, .. } => {
                let text = std::str::from_utf8(record);
                let text = text.map_err(|_| Error::validation("a record is not UTF-8"))?;
                let fields = fields(text, *delimiter)?;
                match &self.header {
                    None => {
                        self.header = Some(fields);
                        Ok(None)
                    }
                    Some(header) => self.csv_item(header, fields).map(Some),
                }
            }
        }
    }

    fn csv_item(&self, header: &[String], fields: Vec<String>) -> Result<Attributes, Error> {
        if fields.len() > header.len() {
            return Err(Error::validation("a record has more fields than the header"));
        }
        let named = header.iter().zip(fields).filter(|(name, _)| !name.is_empty());
        named
            .map(|(name, text)| {
                let kind = self.keys.iter().find(|key| key.name == *name).map_or(KeyKind::S, |key| key.kind);
                Ok((name.clone(), typed(kind, text)?))
            })
            .collect()
    }
}

fn typed(kind: KeyKind, text: String) -> Result<AttributeValue, Error> {
    use base64::Engine;
    match kind {
        KeyKind::S => Ok(AttributeValue::S(text)),
        KeyKind::N => {
            let number = Number::parse(text.trim());
            number.map(AttributeValue::N).map_err(|_| Error::Validation(format!("{text} is no number")))
        }
        KeyKind::B => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
            let bytes = bytes.map_err(|_| Error::validation("a binary key is not Base64"))?;
            Ok(AttributeValue::B(bytes.into()))
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Item")]
    item: AttributeMap,
}

fn json_item(record: &[u8]) -> Result<Attributes, Error> {
    let line: Line = serde_json::from_slice(record)
        .map_err(|error| Error::Validation(format!("a line is no item: {error}")))?;
    line.item.into_valid()
}

/// The fields of a record of CSV.
fn fields(record: &str, delimiter: char) -> Result<Vec<String>, Error> {
    let mut fields = vec![String::new()];
    let mut characters = record.chars().peekable();
    let mut in_quotes = false;
    let mut begun = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is one");
        match character {
            '"' if in_quotes && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if in_quotes => in_quotes = false,
            '"' if !begun => (in_quotes, begun) = (true, true),
            other if other == delimiter && !in_quotes => {
                fields.push(String::new());
                begun = false;
            }
            other => {
                field.push(other);
                begun = true;
            }
        }
    }
    if in_quotes { Err(Error::validation("a quoted field has no end")) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(header: Option<&[&str]>) -> InputFormat {
        let header = header.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        InputFormat::Csv { delimiter: ';', header }
    }

    #[test]
    fn records_are_the_same_however_their_bytes_come() {
        let text = b"a;b\n\"x\ny\";\"say \"\"hi\"\";\"\nlast;one";
        for size in 1..text.len() {
            let mut splitter = Splitter::new(&csv(None));
            let mut records = Vec::new();
            for chunk in text.chunks(size) {
                records.extend(splitter.push(chunk).unwrap());
            }
            records.extend(splitter.finish());
            let records: Vec<_> = records.iter().map(|r| std::str::from_utf8(r).unwrap()).collect();
            assert_eq!(records, ["a;b", "\"x\ny\";\"say \"\"hi\"\";\"", "last;one"], "{size}");
            assert_eq!(fields(records[1], ';').unwrap(), ["x\ny", "say \"hi\";"]);
        }
        assert!(fields("\"a", ';').is_err());
        assert_eq!(fields("a;;", ';').unwrap(), ["a", "", ""]);
    }

    #[test]
    fn a_record_without_end_is_not_kept() {
        let mut splitter = Splitter::new(&InputFormat::DynamoDbJson);
        let block = vec![b'x'; 1 << 20];
        let taken = (0..20).take_while(|_| splitter.push(&block).is_ok()).count();
        assert_eq!(taken, MAX_RECORD_BYTES >> 20);
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_name() {
        let format = csv(None);
        let keys = [KeyAttribute { name: "n".into(), kind: KeyKind::N }];
        let mut reader = Reader::new(&format, keys.iter().collect());
        assert!(reader.item("\u{feff}n;v".as_bytes()).unwrap().is_none());
        let item = reader.item("7;\u{feff}".as_bytes()).unwrap().unwrap();
        assert_eq!(item["n"], AttributeValue::N(Number::parse("7").unwrap()));
        // Anywhere else it is a character.
        assert_eq!(item["v"], AttributeValue::S("\u{feff}".into()));
        let mut reader = Reader::new(&InputFormat::DynamoDbJson, Vec::new());
        let line = "\u{feff}{\"Item\":{\"n\":{\"S\":\"a\"}}}";
        assert!(reader.item(line.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn csv_has_types_for_keys_alone() {
        let keys = [("n", KeyKind::N), ("b", KeyKind::B)];
        let keys: Vec<_> = keys.map(|(name, kind)| KeyAttribute { name: name.into(), kind }).into();
        let format = csv(Some(&["n", "b", "v"]));
        let mut reader = Reader::new(&format, keys.iter().collect());
        let item = reader.item(b"7;AQI=;8\r").unwrap().unwrap();
        assert_eq!(item["n"], AttributeValue::N(Number::parse("7").unwrap()));
        assert_eq!(item["b"], AttributeValue::B(bytes::Bytes::from_static(&[1, 2])));
        assert_eq!(item["v"], AttributeValue::S("8".into()));
        assert!(reader.item(b"seven;AQI=;8").is_err());
        assert!(reader.item(b"7;AQI=;8;9").is_err());
        assert_eq!(reader.item(b"").unwrap(), None);
    }
}
