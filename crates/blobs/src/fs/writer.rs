//! Writes one blob. On blocking threads only.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::Digest;
use rustix::fs::RenameFlags;

use super::{Shared, failure, format, sync_dir};
use crate::{BlobId, Error};

/// Pieces smaller than this are put together before they go to the kernel.
const BUFFER_BYTES: usize = 64 << 10;

/// So much may wait in the page cache: the sync at the end of a large blob then has little left to do.
const UNSYNCED_BYTES: u64 = 32 << 20;

/// A blob on its way to disk. Unless it is finished, it removes what it wrote.
pub(super) struct Writer {
    shared: Arc<Shared>,
    id: BlobId,
    file: Option<(BufWriter<File>, Temporary)>,
    size: u64,
    synced: u64,
    /// The checksum of the block under way.
    digest: Digest,
    sums: Vec<u8>,
}

impl Writer {
    /// Touches no disk yet.
    pub(super) fn new(shared: Arc<Shared>, id: BlobId) -> Self {
        Self { shared, id, file: None, size: 0, synced: 0, digest: format::begin(id, 0), sums: Vec::new() }
    }

    /// Adds pieces to the blob.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Error> {
        self.shared.check_room()?;
        for piece in pieces {
            self.file()?.write_all(piece).map_err(failure)?;
            self.add(piece);
        }
        if self.size - self.synced >= UNSYNCED_BYTES {
            self.file()?.get_ref().sync_data().map_err(failure)?;
            self.synced = self.size;
        }
        Ok(())
    }

    /// Makes the blob durable and gives it its name.
    pub(super) fn finish(mut self) -> Result<u64, Error> {
        if !self.size.is_multiple_of(format::BLOCK_BYTES) {
            self.end_block();
        }
        let sums = std::mem::take(&mut self.sums);
        let trailer = format::trailer(self.id, self.size);
        let file = self.file()?;
        file.write_all(&sums)
            .and_then(|()| file.write_all(&trailer))
            .and_then(|()| file.flush())
            .map_err(failure)?;
        file.get_ref().sync_data().map_err(failure)?;
        let (_, mut temporary) = self.file.take().expect("the trailer was written to it");
        self.name(&mut temporary)?;
        Ok(self.size)
    }

    /// Gives the file its name, durably.
    fn name(&self, temporary: &mut Temporary) -> Result<(), Error> {
        let folder = self.shared.folder(self.id.0[0]);
        let path = self.shared.path(self.id);
        match temporary.rename(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::create_dir(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failure(error)),
                    _ => sync_dir(&self.shared.dir)?,
                }
                temporary.rename(&path).map_err(failure)?;
            }
            outcome => outcome.map_err(failure)?,
        }
        sync_dir(&folder)
    }

    fn file(&mut self) -> Result<&mut BufWriter<File>, Error> {
        if self.file.is_none() {
            let path = self.shared.temporary(self.id);
            let file = File::create_new(&path).map_err(failure)?;
            self.file = Some((BufWriter::with_capacity(BUFFER_BYTES, file), Temporary { path: Some(path) }));
        }
        let (file, _) = self.file.as_mut().expect("it was just made");
        Ok(file)
    }

    fn add(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = format::BLOCK_BYTES - self.size % format::BLOCK_BYTES;
            let (head, rest) = piece.split_at(piece.len().min(room as usize));
            self.digest.update(head);
            self.size += head.len() as u64;
            if self.size.is_multiple_of(format::BLOCK_BYTES) {
                self.end_block();
            }
            piece = rest;
        }
    }

    fn end_block(&mut self) {
        self.sums.extend_from_slice(&self.digest.finalize().to_be_bytes());
        self.digest = format::begin(self.id, self.sums.len() as u64 / format::SUM_BYTES);
    }
}

/// A file that is removed unless it gets its name.
struct Temporary {
    path: Option<PathBuf>,
}

impl Temporary {
    fn rename(&mut self, to: &Path) -> io::Result<()> {
        let Some(from) = &self.path else { return Ok(()) };
        // A blob never changes: one that is there is not replaced.
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags) {
            // A file system that can not promise it.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(from, to)?,
            outcome => outcome?,
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a file half written stays until the next start");
        }
    }
}
