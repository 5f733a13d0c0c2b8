//! Takes a torn last batch off the journal.
//!
//! When the power fails during a sync, any of the pages being synced may be on disk and any may not. fjall
//! takes off a batch whose end or whose structure is missing, but refuses to open over one that is only
//! missing bytes of a value. Since each batch is synced before the next is written, only the last can be
//! torn, and it was never acknowledged; a batch that is damaged before it is another matter, and is refused.
//!
//! The format (fjall 3): a batch is `1`, its number of items (4 bytes), its sequence number (8 bytes); items,
//! each `2`, kind, compression, keyspace (8 bytes), length of key (2), of value (4), of value as stored (4),
//! key, value, or `4`, keyspace (8 bytes); then `3`, checksum (8 bytes), `FJL\x03`. Numbers are little-endian.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const END: &[u8; 4] = b"FJL\x03";

/// What was taken off, so that it can be put back.
#[derive(Debug)]
pub(super) struct Removed {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

/// Takes the last batch that has an end off the newest journal in a directory; `None` if there is none.
pub(super) fn remove_last_batch(tree: &Path) -> io::Result<Option<Removed>> {
    let Some(path) = newest(tree)? else { return Ok(None) };
    let mut rest = fs::read(&path)?;
    let Some(at) = last_batch(&rest) else { return Ok(None) };
    rest.drain(..at);
    let at = at as u64;
    let file = File::options().write(true).open(&path)?;
    file.set_len(at)?;
    file.sync_all()?;
    Ok(Some(Removed { path, at, rest }))
}

impl Removed {
    /// Puts it back.
    pub(super) fn restore(&self) -> io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        file.write_all_at(&self.rest, self.at)?;
        file.sync_all()
    }
}

fn newest(tree: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the last batch begins of those that can be walked through.
fn last_batch(bytes: &[u8]) -> Option<usize> {
    let mut last = None;
    let mut at = 0;
    while let Some(len) = batch_len(&bytes[at..]) {
        last = Some(at);
        at += len;
    }
    last
}

/// The length of the batch that the bytes begin with.
fn batch_len(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != 1 {
        return None;
    }
    let mut at = 13;
    loop {
        let rest = bytes.get(at..)?;
        at += match *rest.first()? {
            2 => {
                let key = u16::from_le_bytes(rest.get(11..13)?.try_into().ok()?);
                let value = u32::from_le_bytes(rest.get(17..21)?.try_into().ok()?);
                21 + usize::from(key) + usize::try_from(value).ok()?
            }
            4 => 9,
            3 => return (rest.get(9..13)? == END).then_some(at + 13),
            _ => return None,
        };
    }
}
