//! The node's master key: a file of its own, for the node's user alone, apart from the data that it protects.
//!
//! Invariant: a key that has sealed anything is never replaced. The store knows the fingerprint of its key, and a
//! node whose key file is missing or another one does not start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Read, Store, Table, tables};
use types::{AccountId, Env};

use super::{Bits, DataKey, derive};

const HEADER: &str = "hawker-object-key-1";

const MASTERS: Table<MasterRow> = Table::new(tables::OBJECT_KEYS, "object_keys");

/// What the store knows of its master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MasterRow {
    fingerprint: String,
}

impl JsonRecord for MasterRow {}

fn row_key() -> Key {
    MASTERS.key(AccountId::NODE, |_| {})
}

/// The key from which those of all objects are derived.
pub struct MasterKey {
    key: Bits<32>,
    /// For messages.
    path: PathBuf,
    made_now: bool,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The key file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can not be read or made.
    #[error("cannot use the key file `{path}`: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others than the node's user can read it.
    #[error(
        "the key file `{0}` can be read by other users; make it private with `chmod 600` (and consider that the key may be known)"
    )]
    Exposed(PathBuf),
    /// It does not hold a key.
    #[error("the key file `{0}` does not hold a key; put the right file there")]
    Malformed(PathBuf),
    /// The objects in the store were sealed with another key.
    #[error(
        "the key file `{0}` does not hold the key with which the objects in this data directory are encrypted; put that file back"
    )]
    Another(PathBuf),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl MasterKey {
    /// Reads the key file, or makes it where there is none. Blocks.
    pub fn open(path: impl Into<PathBuf>, env: &dyn Env) -> Result<Self, KeyFileError> {
        let path = path.into();
        match fs::read_to_string(&path) {
            Ok(text) => {
                let failed = |error| KeyFileError::Io { path: path.clone(), error };
                if fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
                    return Err(KeyFileError::Exposed(path));
                }
                match parse(&text) {
                    Some(key) => Ok(Self { key, path, made_now: false }),
                    None => Err(KeyFileError::Malformed(path)),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = Bits([0; 32]);
                env.fill(&mut key.0);
                write(&path, &key).map_err(|error| KeyFileError::Io { path: path.clone(), error })?;
                Ok(Self { key, path, made_now: true })
            }
            Err(error) => Err(KeyFileError::Io { path, error }),
        }
    }

    /// Makes sure that this is the key of what is in the store.
    pub async fn claim(&self, store: &Store) -> Result<(), KeyFileError> {
        let fingerprint = hex::encode(&derive(&self.key.0, b"fingerprint", b"").0[..8]);
        let row = MasterRow { fingerprint };
        let known = store
            .transact(vec![Read::Key(row_key())], move |pages, _| match MASTERS.first(&pages[0])? {
                Some(known) => Ok((Vec::new(), known.value.fingerprint == row.fingerprint)),
                None => Ok::<_, store::Error>((vec![MASTERS.put(row_key(), &row)], true)),
            })
            .await?;
        if known {
            return Ok(());
        }
        if self.made_now {
            // It has sealed nothing, and would be taken for the right one at the next look.
            let _ = fs::remove_file(&self.path);
        }
        Err(KeyFileError::Another(self.path.clone()))
    }

    /// A key for something else on the node than objects, so that one file has to be kept apart.
    pub fn derived(&self, purpose: &str) -> [u8; 32] {
        derive(&self.key.0, b"derived", purpose.as_bytes()).0
    }

    pub(super) fn data_key(&self, salt: &Bits<16>) -> DataKey {
        DataKey(derive(&self.key.0, b"object", &salt.0))
    }
}

fn parse(text: &str) -> Option<Bits<32>> {
    let (header, key) = text.trim().split_once(' ')?;
    let mut bits = Bits([0; 32]);
    hex::decode_to_slice(key.trim(), &mut bits.0).ok()?;
    (header == HEADER).then_some(bits)
}

/// Whole and on disk under its name, or not there.
fn write(path: &Path, key: &Bits<32>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let temporary = path.with_extension("new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(format!("{HEADER} {}\n", hex::encode(key.0)).as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::MemoryEngine;
    use types::SystemEnv;

    #[tokio::test]
    async fn a_key_stays_with_its_store() {
        let (dir, env) = (tempfile::tempdir().unwrap(), SystemEnv::new());
        let path = dir.path().join("keys/objects.key");
        let store = Store::new(MemoryEngine::new());
        MasterKey::open(&path, &*env).unwrap().claim(&store).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = MasterKey::open(&path, &*env).unwrap();
        again.claim(&store).await.unwrap();

        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        for _ in 0..2 {
            let another = MasterKey::open(&path, &*env).unwrap();
            assert!(matches!(another.claim(&store).await, Err(KeyFileError::Another(_))));
        }
        fs::rename(dir.path().join("elsewhere"), &path).unwrap();
        MasterKey::open(&path, &*env).unwrap().claim(&store).await.unwrap();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKey::open(&path, &*env), Err(KeyFileError::Exposed(_))));
        fs::write(&path, "nothing").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(MasterKey::open(&path, &*env), Err(KeyFileError::Malformed(_))));
    }
}
