//! Versions of objects (Amazon S3 user guide, "Using versioning in S3 buckets"): how a key's rows change as
//! versions come and go.
//!
//! The current version is the `OBJECTS` row, if it is an object; all others, and every delete marker, are in
//! `OBJECT_VERSIONS`, newest first. So listings of objects see only what is current, and where there is no
//! `OBJECTS` row the newest of the others is a delete marker.
//!
//! Invariants: a key has at most one null version; the bytes of a small object never move, since those of the null
//! version have a row of their own and those of others are named by their version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::{Stored, Version, Write};
use types::AccountId;

use crate::Error;
use crate::tables::{self, Data, Dead, Marker, NULLS, NullRow, OBJECTS, Object, VERSIONS, VersionRow};

/// A version's id: 32 characters that mean nothing to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionId {
    /// The commit that made it: greater is newer.
    pub(crate) order: u64,
    /// So that an id is not met again in a bucket that was made anew.
    pub(crate) noise: u64,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.order, self.noise)
    }
}

/// It is not a version's id.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not a version's id")]
pub(crate) struct NotAVersion;

impl FromStr for VersionId {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(digits) {
            return Err(NotAVersion);
        }
        let (order, noise) = text.split_at(16);
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| NotAVersion);
        Ok(Self { order: number(order)?, noise: number(noise)? })
    }
}

impl Serialize for VersionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a version is named to clients.
pub(crate) fn name(version: Option<VersionId>) -> String {
    version.map_or_else(|| "null".to_owned(), |version| version.to_string())
}

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Versioning {
    /// It never has.
    #[default]
    Unset,
    Enabled,
    Suspended,
}

impl Versioning {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(crate) fn is_unset(&self) -> bool {
        *self == Self::Unset
    }
}

/// Which version of an object is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that is there.
    Current,
    /// The one without an id.
    Null,
    Id(VersionId),
}

impl Which {
    /// From a `versionId` as clients give it.
    pub(crate) fn read(version: Option<&str>) -> Result<Self, Error> {
        match version {
            None => Ok(Self::Current),
            Some("null") => Ok(Self::Null),
            Some(id) => id
                .parse()
                .map(Self::Id)
                .map_err(|NotAVersion| Error::argument("versionId", id, "Invalid version id specified")),
        }
    }

    /// Whether it is a version of that id.
    pub(crate) fn is(self, version: Option<VersionId>) -> bool {
        match self {
            Self::Current => true,
            Self::Null => version.is_none(),
            Self::Id(id) => version == Some(id),
        }
    }
}

/// The place of an object that is (still) current among its versions.
pub(crate) fn order(current: &Stored<Object>) -> u64 {
    // Nothing of the key is newer than the row of its current object.
    current.value.version.map_or(current.version.0, |version| version.order)
}

/// What the current transaction has to read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeedsNull;

/// One key in a transaction: the writes that change its versions.
pub(crate) struct Slot<'a> {
    pub(crate) owner: AccountId,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// The commit's.
    pub(crate) version: Version,
    /// For ids.
    pub(crate) noise: u64,
    /// Seconds since the epoch.
    pub(crate) now: i64,
    pub(crate) writes: &'a mut Vec<Write>,
    pub(crate) dead: &'a mut Vec<Dead>,
}

impl Slot<'_> {
    fn id(&self) -> VersionId {
        VersionId { order: self.version.0, noise: self.noise }
    }

    fn version_key(&self, order: u64) -> store::Key {
        tables::version_key(self.owner, self.bucket, self.key, order)
    }

    fn null_key(&self) -> store::Key {
        tables::null_key(self.owner, self.bucket, self.key)
    }

    fn object_key(&self) -> store::Key {
        tables::object_key(self.owner, self.bucket, self.key)
    }

    /// Makes room for a new current version and says what its id is. `rewritten`: its bytes are those of the
    /// null version's row, which is written over. `null` is the page of [`tables::null_key`], if it was read.
    pub(crate) fn make_room(
        &mut self,
        versioning: Versioning,
        current: Option<&Stored<Object>>,
        null: Option<Option<NullRow>>,
        rewritten: Rewritten,
    ) -> Result<Option<VersionId>, NeedsNull> {
        match (versioning, current) {
            (Versioning::Enabled, current) => {
                if let Some(current) = current {
                    self.retire(current);
                }
                Ok(Some(self.id()))
            }
            (Versioning::Unset | Versioning::Suspended, Some(current)) if current.value.version.is_none() => {
                self.drop_bytes(current.value.data, None, rewritten);
                Ok(None)
            }
            (Versioning::Unset, None) => Ok(None),
            (Versioning::Unset | Versioning::Suspended, current) => {
                let null = null.ok_or(NeedsNull)?;
                if let Some(current) = current {
                    self.retire(current);
                }
                if let Some(null) = null {
                    self.writes.push(Write::Delete(self.version_key(null.order)));
                    self.writes.push(Write::Delete(self.null_key()));
                    if let Some(data) = null.data {
                        self.drop_bytes(data, None, rewritten);
                    }
                }
                Ok(None)
            }
        }
    }

    /// Moves the current object to where the other versions are.
    fn retire(&mut self, current: &Stored<Object>) {
        let order = order(current);
        let object = Box::new(current.value.clone());
        let row = VersionRow::Object { object, since: self.now };
        self.writes.push(VERSIONS.put(self.version_key(order), &row));
        if current.value.version.is_none() {
            let row = NullRow { order, data: Some(current.value.data) };
            self.writes.push(NULLS.put(self.null_key(), &row));
        }
    }

    /// Puts a delete marker in the place of what is there, and says what its id is.
    pub(crate) fn mark(
        &mut self,
        versioning: Versioning,
        current: Option<&Stored<Object>>,
        null: Option<Option<NullRow>>,
    ) -> Result<Option<VersionId>, NeedsNull> {
        let version = self.make_room(versioning, current, null, Rewritten::No)?;
        if current.is_some() {
            self.writes.push(Write::Delete(self.object_key()));
        }
        let row = VersionRow::Marker(Marker { version, modified: self.now });
        let order = self.version.0;
        self.writes.push(VERSIONS.put(self.version_key(order), &row));
        if version.is_none() {
            // Written over the one that made room.
            let null_key = self.null_key();
            self.writes.retain(|write| !matches!(write, Write::Delete(key) if *key == null_key));
            self.writes.push(NULLS.put(null_key, &NullRow { order, data: None }));
        }
        Ok(version)
    }

    /// Removes the current object for good; `others` are the newest of the other versions.
    pub(crate) fn remove_current(
        &mut self,
        current: &Stored<Object>,
        others: &[Stored<VersionRow>],
    ) -> Result<(), Error> {
        self.drop_bytes(current.value.data, current.value.version, Rewritten::No);
        if !self.promote(others.first())? {
            self.writes.push(Write::Delete(self.object_key()));
        }
        Ok(())
    }

    /// Removes a version for good that is not the current object; `others` are the newest two of them all, and
    /// `has_current` says whether there is a current object.
    pub(crate) fn remove_other(
        &mut self,
        row: &Stored<VersionRow>,
        others: &[Stored<VersionRow>],
        has_current: bool,
    ) -> Result<(), Error> {
        self.writes.push(Write::Delete(row.key.clone()));
        let version = match &row.value {
            VersionRow::Object { object, .. } => {
                self.drop_bytes(object.data, object.version, Rewritten::No);
                object.version
            }
            VersionRow::Marker(marker) => marker.version,
        };
        if version.is_none() {
            self.writes.push(Write::Delete(self.null_key()));
        }
        let newest = others.first().is_some_and(|first| first.key == row.key);
        if newest && !has_current {
            self.promote(others.get(1))?;
        }
        Ok(())
    }

    /// Makes a version the current one, if it is an object.
    fn promote(&mut self, row: Option<&Stored<VersionRow>>) -> Result<bool, Error> {
        let Some(row) = row else { return Ok(false) };
        let VersionRow::Object { object, .. } = &row.value else { return Ok(false) };
        self.writes.push(Write::Delete(row.key.clone()));
        if object.version.is_none() {
            self.writes.push(Write::Delete(self.null_key()));
        }
        self.writes.push(OBJECTS.put(self.object_key(), object));
        Ok(true)
    }

    fn drop_bytes(&mut self, data: Data, version: Option<VersionId>, rewritten: Rewritten) {
        match (data, rewritten) {
            (_, Rewritten::Kept) | (Data::Inline, Rewritten::Row) => {}
            (Data::Inline, Rewritten::No) => {
                let key = tables::inline_key(self.owner, self.bucket, self.key, version);
                self.writes.push(Write::Delete(key));
            }
            (Data::Blob(id), Rewritten::Row | Rewritten::No) => self.dead.push(Dead::Blob(id)),
            (Data::Parts(id), Rewritten::Row | Rewritten::No) => {
                self.dead.push(Dead::Parts { account: self.owner, id });
            }
        }
    }
}

/// What happens to the bytes of the null version when a new one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewritten {
    /// They go.
    No,
    /// Their row, if they are one, is written over.
    Row,
    /// They stay: the new version has them.
    Kept,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = VersionId { order: 77, noise: u64::MAX };
        assert_eq!(id.to_string().parse::<VersionId>().unwrap(), id);
        assert_eq!(id.to_string().len(), 32);
        for bad in ["", "null", "00", &id.to_string().to_uppercase(), &format!("{id}0")] {
            assert!(bad.parse::<VersionId>().is_err(), "{bad}");
        }
    }
}
