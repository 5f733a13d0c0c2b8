//! The root key in a file that AWS's clients read (`AWS_SHARED_CREDENTIALS_FILE`), for its owner alone.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use identity::KeyPair;

/// Writes `<data>/credentials`, mode 0600, whole or not at all.
pub(crate) fn write(data: &Path, key: &KeyPair) -> io::Result<()> {
    let (path, new) = (data.join("credentials"), data.join("credentials.new"));
    let text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.access_key_id, key.secret_access_key
    );
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600));
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = |secret: &str| KeyPair {
            access_key_id: "AKIAEXAMPLEEXAMPLE00".into(),
            secret_access_key: secret.into(),
        };
        for secret in ["first-secret", "second-secret"] {
            write(dir.path(), &key(secret)).unwrap();
            let path = dir.path().join("credentials");
            assert!(std::fs::read_to_string(&path).unwrap().contains(secret));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
