//! Layers put together into one directory, where they can not be mounted so: by hard links, which take no room.

use std::fs;
use std::io;
use std::path::Path;

use super::Package;

/// Puts `layers` into the new directory `target`: what a later one has takes the place of what an earlier one has.
pub(super) fn merge(layers: &[Package], target: &Path) -> io::Result<()> {
    fs::create_dir(target)?;
    layers.iter().try_for_each(|layer| add(layer, target))
}

fn add(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        let there = fs::symlink_metadata(&place).ok();
        if entry.file_type()?.is_dir() {
            match there {
                Some(there) if there.is_dir() => {}
                Some(_) => {
                    fs::remove_file(&place)?;
                    fs::create_dir(&place)?;
                }
                None => fs::create_dir(&place)?,
            }
            add(&entry.path(), &place)?;
            continue;
        }
        match there {
            Some(there) if there.is_dir() => fs::remove_dir_all(&place)?,
            Some(_) => fs::remove_file(&place)?,
            None => {}
        }
        // A link itself, not what it leads to.
        fs::hard_link(entry.path(), &place)?;
    }
    Ok(())
}
