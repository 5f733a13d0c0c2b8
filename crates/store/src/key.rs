//! Ordered tuple keys: account, table, then the table's own elements, such that comparing bytes compares
//! tuples element by element.
//!
//! Layout: account number (5 bytes, big-endian), table id (2 bytes, big-endian), elements. A byte string or
//! text is its bytes with each `00` as `00 FF`, then `00 00`; integers are big-endian of fixed width, signed
//! ones with the sign bit flipped.

use bytes::Bytes;
use types::AccountId;

/// A whole key.
pub type Key = Bytes;

/// The number of a table, from [`crate::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// Length of the account and table prefix, in bytes.
pub const PREFIX_LEN: usize = 7;

/// Writes the elements of a key.
#[derive(Debug, Clone)]
pub struct KeyWriter {
    bytes: Vec<u8>,
}

impl KeyWriter {
    /// Begins a key of `account` in `table`.
    pub fn new(account: AccountId, table: TableId) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&account.number().to_be_bytes()[3..]);
        bytes.extend_from_slice(&table.0.to_be_bytes());
        Self { bytes }
    }

    /// Adds a byte string of any length, any bytes.
    pub fn bytes(&mut self, element: &[u8]) -> &mut Self {
        let mut rest = element;
        while let Some(at) = rest.iter().position(|&b| b == 0) {
            self.bytes.extend_from_slice(&rest[..=at]);
            self.bytes.push(0xFF);
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(&[0, 0]);
        self
    }

    /// Adds text, ordered by its UTF-8 bytes.
    pub fn text(&mut self, element: &str) -> &mut Self {
        self.bytes(element.as_bytes())
    }

    /// Adds an unsigned integer.
    pub fn u64(&mut self, element: u64) -> &mut Self {
        self.raw(&element.to_be_bytes())
    }

    /// Adds a signed integer.
    pub fn i64(&mut self, element: i64) -> &mut Self {
        self.raw(&(element.cast_unsigned() ^ 1 << 63).to_be_bytes())
    }

    /// Adds one byte.
    pub fn u8(&mut self, element: u8) -> &mut Self {
        self.raw(&[element])
    }

    /// Adds bytes as they are: for elements of fixed width, encodings that are ordered and delimited
    /// already, and the beginning of a text for a prefix scan.
    pub fn raw(&mut self, element: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(element);
        self
    }

    /// The key.
    pub fn finish(self) -> Key {
        self.bytes.into()
    }
}

/// Reads the elements of a key, in the order in which they were written.
#[derive(Debug, Clone)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

/// The bytes are not a key of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored key does not have the shape of its table")]
pub struct KeyError;

impl<'a> KeyReader<'a> {
    /// Begins after the account and table prefix.
    pub fn new(key: &'a [u8]) -> Result<Self, KeyError> {
        Ok(Self { rest: key.get(PREFIX_LEN..).ok_or(KeyError)? })
    }

    /// Takes a byte string.
    pub fn bytes(&mut self) -> Result<Vec<u8>, KeyError> {
        let mut out = Vec::new();
        loop {
            let at = self.rest.iter().position(|&b| b == 0).ok_or(KeyError)?;
            out.extend_from_slice(&self.rest[..at]);
            match self.rest.get(at + 1) {
                Some(0xFF) => out.push(0),
                Some(0) => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(out);
                }
                _ => return Err(KeyError),
            }
            self.rest = &self.rest[at + 2..];
        }
    }

    /// Takes text.
    pub fn text(&mut self) -> Result<String, KeyError> {
        String::from_utf8(self.bytes()?).map_err(|_| KeyError)
    }

    /// Takes an unsigned integer.
    pub fn u64(&mut self) -> Result<u64, KeyError> {
        self.raw().map(u64::from_be_bytes)
    }

    /// Takes a signed integer.
    pub fn i64(&mut self) -> Result<i64, KeyError> {
        self.u64().map(|bits| (bits ^ 1 << 63).cast_signed())
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, KeyError> {
        self.raw::<1>().map(|[byte]| byte)
    }

    /// Takes `N` bytes as they are.
    pub fn raw<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(KeyError)?;
        self.rest = rest;
        Ok(*head)
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// The length of the byte string, as [`KeyWriter::bytes`] writes it, with which `elements` begins.
pub fn bytes_len(elements: &[u8]) -> Result<usize, KeyError> {
    let mut from = 0;
    loop {
        let at = from + elements[from..].iter().position(|&b| b == 0).ok_or(KeyError)?;
        from = at + 2;
        match elements.get(at + 1) {
            Some(0) => return Ok(from),
            Some(0xFF) => {}
            _ => return Err(KeyError),
        }
    }
}

/// The account that a key belongs to.
pub fn account_of(key: &[u8]) -> Result<AccountId, KeyError> {
    let head: &[u8; 5] = key.first_chunk().ok_or(KeyError)?;
    let mut number = [0; 8];
    number[3..].copy_from_slice(head);
    AccountId::from_number(u64::from_be_bytes(number)).ok_or(KeyError)
}

/// The table that a key belongs to.
pub fn table_of(key: &[u8]) -> Result<TableId, KeyError> {
    let bytes: &[u8; PREFIX_LEN] = key.first_chunk().ok_or(KeyError)?;
    Ok(TableId(u16::from_be_bytes([bytes[5], bytes[6]])))
}

/// The least key that is greater than every key beginning with `prefix`: the end of a prefix scan.
pub fn prefix_end(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            return end.into();
        }
    }
    // Keys begin with an account number, which is never all ones in its table bytes.
    vec![0xFF; PREFIX_LEN + 1].into()
}

/// The least key that is greater than `key`.
pub fn after(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(parts: &(Vec<u8>, i64, Vec<u8>)) -> Key {
        let mut writer = KeyWriter::new(AccountId::DEFAULT, TableId(7));
        writer.bytes(&parts.0).i64(parts.1).bytes(&parts.2);
        writer.finish()
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0xFF), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_order_of_tuples(a in (bytes(), any::<i64>(), bytes()), b in (bytes(), any::<i64>(), bytes())) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_round_trip(a in (bytes(), any::<i64>(), bytes())) {
            let key = key(&a);
            let mut reader = KeyReader::new(&key).unwrap();
            let after_first = PREFIX_LEN + bytes_len(&key[PREFIX_LEN..]).unwrap();
            let read = (reader.bytes().unwrap(), reader.i64().unwrap(), reader.bytes().unwrap());
            prop_assert_eq!(&read, &a);
            let mut second = KeyReader { rest: &key[after_first..] };
            prop_assert_eq!((second.i64().unwrap(), second.bytes().unwrap()), (a.1, a.2));
            prop_assert!(reader.rest().is_empty());
            prop_assert_eq!(account_of(&key).unwrap(), AccountId::DEFAULT);
            prop_assert_eq!(table_of(&key).unwrap(), TableId(7));
        }

        #[test]
        fn prefix_end_bounds_exactly(prefix in bytes(), tail in bytes()) {
            let full = [&*key(&(prefix.clone(), 0, vec![])), &tail].concat();
            let prefix = key(&(prefix, 0, vec![]));
            prop_assert!(full[..] < prefix_end(&prefix)[..]);
            prop_assert!(prefix < prefix_end(&prefix));
        }
    }
}
