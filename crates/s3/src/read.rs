//! Gives an object's bytes out, streamed.
//!
//! Invariant: the row and (for small objects) the bytes are read at one snapshot, or of a version whose bytes
//! never change; blobs being read are kept until the stream is dropped, even if the object is replaced meanwhile.

use std::ops::Range;
use std::sync::Arc;

use aws::Body;
use aws::BodyError;
use blobs::{BlobId, ByteStream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::{Read, Stored, Version};
use types::AccountId;

use crate::Error;
use crate::encryption::{DataKey, DoesNotOpen, sealed_range};
use crate::garbage::Reading;
use crate::pace::Paced;
use crate::service::Inner;
use crate::tables::{self, Data, NULLS, OBJECTS, Object, PARTS, Parts, VERSIONS, VersionRow};
use crate::versions::Which;

/// An object as it was at one moment.
pub(crate) struct Found {
    pub(crate) object: Object,
    pub(crate) version: Version,
    /// Its row, if it is not the current version.
    pub(crate) other: Option<Stored<VersionRow>>,
    /// The stored bytes, if they are in the store, and whether they are sealed.
    pub(crate) inline: Option<(Bytes, bool)>,
}

/// A key of a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) owner: AccountId,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) which: Which,
    /// Whether the bucket ever kept versions.
    pub(crate) versioned: bool,
}

impl Address<'_> {
    fn object_key(&self) -> store::Key {
        tables::object_key(self.owner, self.bucket, self.key)
    }

    fn no_such_version(&self) -> Error {
        Error::NoSuchVersion { key: self.key.to_owned(), version: self.name() }
    }

    fn name(&self) -> String {
        match self.which {
            Which::Current | Which::Null => "null".to_owned(),
            Which::Id(id) => id.to_string(),
        }
    }

    /// The row of the version that is meant, if it is not the current object.
    pub(crate) async fn other(&self, inner: &Inner) -> Result<Option<Stored<VersionRow>>, Error> {
        let order = match self.which {
            Which::Current => return Ok(None),
            Which::Id(id) => id.order,
            Which::Null => {
                let key = tables::null_key(self.owner, self.bucket, self.key);
                match NULLS.get(&inner.store, key).await? {
                    Some(row) => row.value.order,
                    None => return Ok(None),
                }
            }
        };
        let key = tables::version_key(self.owner, self.bucket, self.key, order);
        let row = VERSIONS.get(&inner.store, key).await?;
        Ok(row.filter(|row| match &row.value {
            VersionRow::Object { object, .. } => self.which.is(object.version),
            VersionRow::Marker(marker) => self.which.is(marker.version),
        }))
    }

    /// What is said of a key that has no current object.
    async fn absent(&self, inner: &Inner) -> Result<Error, Error> {
        if self.versioned {
            let range = VERSIONS.range(self.owner, 1, |k| {
                k.text(self.bucket).text(self.key);
            });
            let (rows, _) = VERSIONS.scan(&inner.store, range).await?;
            if let Some(Stored { value: VersionRow::Marker(marker), .. }) = rows.first() {
                let version = crate::versions::name(marker.version);
                return Ok(Error::Deleted { key: self.key.to_owned(), version });
            }
        }
        Ok(Error::NoSuchKey(self.key.to_owned()))
    }
}

/// Reads an object's row and, if `bytes`, what is inline of its bytes; the bucket is known to be the owner's.
pub(crate) async fn find(inner: &Inner, address: Address<'_>, bytes: bool) -> Result<Found, Error> {
    let Address { owner, bucket, key, which, .. } = address;
    // As often as a version goes, or becomes the current one, between two reads.
    for _ in 0..8 {
        let mut reads = vec![Read::Key(address.object_key())];
        if bytes {
            reads.push(Read::Key(tables::inline_key(owner, bucket, key, None)));
        }
        let pages = inner.store.read(reads).await?;
        let current = OBJECTS.first(&pages[0])?.filter(|row| which.is(row.value.version));
        let (object, version, other) = match current {
            Some(row) => (row.value, row.version, None),
            None if which == Which::Current => return Err(address.absent(inner).await?),
            None => match address.other(inner).await? {
                None => return Err(address.no_such_version()),
                Some(row) => match &row.value {
                    VersionRow::Object { object, .. } => ((**object).clone(), row.version, Some(row)),
                    VersionRow::Marker(marker) => {
                        let version = address.name();
                        return Err(Error::IsMarker { version, modified: marker.modified, method: "GET" });
                    }
                },
            },
        };
        let inline = match (bytes, object.data) {
            (true, Data::Inline) => {
                let entry = match object.version {
                    None => pages[1].first().cloned(),
                    Some(_) => {
                        let key = tables::inline_key(owner, bucket, key, object.version);
                        inner.store.get(key).await?
                    }
                };
                let Some(entry) = entry else { continue };
                Some(tables::inline_bytes(&entry)?)
            }
            (true | false, Data::Inline | Data::Blob(_) | Data::Parts(_)) => None,
        };
        return Ok(Found { object, version, other, inline });
    }
    let reason = "an object's bytes are missing".to_owned();
    Err(store::Error::Corrupt { table: "object_data", reason }.into())
}

/// The list of an object's parts.
pub(crate) async fn parts(inner: &Inner, owner: AccountId, id: BlobId) -> Result<Parts, Error> {
    let row = PARTS.get(&inner.store, tables::parts_key(owner, id)).await?;
    let missing =
        || store::Error::Corrupt { table: "object_data", reason: "a list of parts is missing".into() };
    Ok(row.ok_or_else(missing)?.value)
}

/// Bytes of one blob, and how long all of it is once opened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    blob: BlobId,
    length: u64,
    range: Range<u64>,
}

/// The bytes `range` of what was found, opened with `key` if they are sealed.
pub(crate) async fn body(
    inner: &Arc<Inner>,
    owner: AccountId,
    found: &Found,
    key: Option<DataKey>,
    range: Range<u64>,
) -> Result<Body, Error> {
    let size = found.object.size;
    let pieces = match found.object.data {
        Data::Inline => return inline_body(found, key, &range),
        Data::Blob(blob) => vec![Piece { blob, length: size, range }],
        Data::Parts(id) => cut(&parts(inner, owner, id).await?, range),
    };
    let reading = Reading::new(inner, pieces.iter().map(|piece| piece.blob).collect());
    let mut pieces = pieces.into_iter().filter(|piece| !piece.range.is_empty());
    let Some(first) = pieces.next() else { return Ok(aws::body::full("")) };
    // The first blob is opened before the answer begins, so that a failure is still an error answer.
    let first = opened(inner, first, key).await?;
    let shared = inner.clone();
    let rest = stream::iter(pieces)
        .then(move |piece| {
            let inner = shared.clone();
            async move { opened(&inner, piece, key).await }
        })
        .try_flatten();
    let frames = Paced::new(first.chain(rest).boxed(), inner.ahead.clone()).map(move |piece| {
        let _kept = &reading;
        piece.map(Frame::data).map_err(|error| Box::new(error) as BodyError)
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

fn inline_body(found: &Found, key: Option<DataKey>, range: &Range<u64>) -> Result<Body, Error> {
    let corrupt = |reason: String| store::Error::Corrupt { table: "object_data", reason };
    let bytes = match (&found.inline, key) {
        (None, _) => Bytes::new(),
        (Some((bytes, false)), _) => bytes.clone(),
        (Some((sealed, true)), Some(key)) => key
            .of_row(found.object.size)
            .open_whole(sealed)
            .map_err(|error @ DoesNotOpen| corrupt(error.to_string()))?,
        (Some((_, true)), None) => {
            return Err(corrupt("sealed bytes of an object without a key".into()).into());
        }
    };
    let at = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |o| o.min(bytes.len()));
    Ok(aws::body::full(bytes.slice(at(range.start)..at(range.end))))
}

async fn opened(inner: &Inner, piece: Piece, key: Option<DataKey>) -> Result<ByteStream, blobs::Error> {
    let Piece { blob, length, range } = piece;
    match key {
        None => inner.blobs.get(blob, range).await,
        Some(key) => {
            let sealed = inner.blobs.get(blob, sealed_range(&range, length)).await?;
            Ok(key.of_blob(blob, length).open_stream(sealed, range))
        }
    }
}

/// The pieces of blobs that make up bytes `range`.
fn cut(parts: &Parts, range: Range<u64>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for segment in &parts.0 {
        let end = begin + segment.size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if let Some(blob) = segment.blob
            && from < to
        {
            pieces.push(Piece { blob, length: segment.size, range: from - begin..to - begin });
        }
        begin = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Segment;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_range(sizes in proptest::collection::vec(0_u64..5, 1..8), a in 0_u64..40, b in 0_u64..40) {
            let total: u64 = sizes.iter().sum();
            let (a, b) = (a.min(b).min(total), a.max(b).min(total));
            let mut whole = Vec::new();
            let mut segments = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                let i = u8::try_from(i).unwrap();
                whole.extend((0..size).map(|offset| (i, offset)));
                let blob = (size > 0).then_some(BlobId([i; 16]));
                segments.push(Segment { blob, size, number: u32::from(i) + 1, checksum: Vec::new() });
            }
            let got: Vec<_> = cut(&Parts(segments), a..b)
                .into_iter()
                .flat_map(|piece| piece.range.map(move |offset| (piece.blob.0[0], offset)))
                .collect();
            let at = |n: u64| usize::try_from(n).unwrap();
            prop_assert_eq!(&got[..], &whole[at(a)..at(b)]);
        }
    }
}
