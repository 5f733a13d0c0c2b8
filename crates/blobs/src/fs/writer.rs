//! Writes one blob. On blocking threads only.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::Digest;
use rustix::fs::RenameFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::{Shared, failure, format, sync_dir};
use crate::{BlobId, Error};

/// A blob on its way to disk. Unless it is finished, it removes what it wrote.
pub(super) struct Writer {
    shared: Arc<Shared>,
    id: BlobId,
    file: Option<(Arc<File>, Temporary)>,
    size: u64,
    /// Up to where it was sent on to the disk.
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
        write_all(self.file()?, pieces)?;
        for piece in pieces {
            self.add(piece);
        }
        Ok(())
    }

    /// How much was written since the last sync began.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.size - self.synced
    }

    /// The threads that sync while more is written.
    pub(super) fn sync_threads(&self) -> Arc<Semaphore> {
        self.shared.sync_threads.clone()
    }

    /// Begins to send what was written on to the disk.
    pub(super) fn sync(&mut self, thread: OwnedSemaphorePermit) -> Option<JoinHandle<Result<(), Error>>> {
        self.synced = self.size;
        let file = self.file.as_ref()?.0.clone();
        Some(tokio::task::spawn_blocking(move || {
            let _thread = thread;
            file.sync_data().map_err(failure)
        }))
    }

    /// Makes the blob durable and gives it its name.
    pub(super) fn finish(mut self) -> Result<u64, Error> {
        if !self.size.is_multiple_of(format::BLOCK_BYTES) {
            self.end_block();
        }
        let sums = std::mem::take(&mut self.sums);
        let trailer = format::trailer(self.id, self.size);
        let file = self.file()?;
        write_all(file, &[sums.into(), Bytes::copy_from_slice(&trailer)])?;
        file.sync_data().map_err(failure)?;
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

    fn file(&mut self) -> Result<&File, Error> {
        if self.file.is_none() {
            let path = self.shared.temporary(self.id);
            let file = File::create_new(&path).map_err(failure)?;
            self.file = Some((Arc::new(file), Temporary { path: Some(path) }));
        }
        let (file, _) = self.file.as_ref().expect("it was just made");
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

/// Writes pieces from where they are, many with each call.
fn write_all(mut file: &File, pieces: &[Bytes]) -> Result<(), Error> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = &mut slices[..];
    // Leaves out what is empty.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(failure(io::ErrorKind::WriteZero.into())),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failure(error)),
        }
    }
    Ok(())
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
