//! Gives an object's bytes out, streamed.
//!
//! Invariant: the row and (for small objects) the bytes are read at one snapshot; blobs being read are kept until
//! the stream is dropped, even if the object is replaced meanwhile.

use std::ops::Range;
use std::sync::Arc;

use aws::Body;
use aws::BodyError;
use blobs::BlobId;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::{Read, Version};
use types::AccountId;

use crate::Error;
use crate::garbage::Reading;
use crate::service::Inner;
use crate::tables::{self, Data, OBJECTS, Object, PARTS, Parts};

/// An object as it was at one moment.
pub(crate) struct Found {
    pub(crate) object: Object,
    pub(crate) version: Version,
    /// The bytes, if they are in the store.
    pub(crate) inline: Option<Bytes>,
}

/// Reads an object's row and, if `bytes`, what is inline of its bytes; the bucket is known to be `owner`'s.
pub(crate) async fn find(
    inner: &Inner,
    owner: AccountId,
    bucket: &str,
    key: &str,
    bytes: bool,
) -> Result<Found, Error> {
    let mut reads = vec![Read::Key(tables::object_key(owner, bucket, key))];
    if bytes {
        reads.push(Read::Key(tables::inline_key(owner, bucket, key)));
    }
    let pages = inner.store.read(reads).await?;
    let row = OBJECTS.first(&pages[0])?.ok_or_else(|| Error::NoSuchKey(key.to_owned()))?;
    let inline = match (bytes, row.value.data) {
        (true, Data::Inline) => {
            let entry = pages[1].first().ok_or_else(|| store::Error::Corrupt {
                table: "object_data",
                reason: "an object's bytes are missing".into(),
            })?;
            Some(tables::inline_bytes(entry)?)
        }
        (true | false, Data::Inline | Data::Blob(_) | Data::Parts(_)) => None,
    };
    Ok(Found { object: row.value, version: row.version, inline })
}

/// The list of an object's parts.
pub(crate) async fn parts(inner: &Inner, owner: AccountId, id: BlobId) -> Result<Parts, Error> {
    let row = PARTS.get(&inner.store, tables::parts_key(owner, id)).await?;
    let missing =
        || store::Error::Corrupt { table: "object_data", reason: "a list of parts is missing".into() };
    Ok(row.ok_or_else(missing)?.value)
}

/// The bytes `range` of what was found.
pub(crate) async fn body(
    inner: &Arc<Inner>,
    owner: AccountId,
    found: &Found,
    range: Range<u64>,
) -> Result<Body, Error> {
    let segments = match found.object.data {
        Data::Inline => {
            let bytes = found.inline.clone().unwrap_or_default();
            let at = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |o| o.min(bytes.len()));
            return Ok(aws::body::full(bytes.slice(at(range.start)..at(range.end))));
        }
        Data::Blob(id) => vec![(id, range)],
        Data::Parts(id) => cut(&parts(inner, owner, id).await?, range),
    };
    let reading = Reading::new(inner, segments.iter().map(|(id, _)| *id).collect());
    let mut segments = segments.into_iter();
    let Some((id, range)) = segments.next() else { return Ok(aws::body::full("")) };
    // The first blob is opened before the answer begins, so that a failure is still an error answer.
    let first = inner.blobs.get(id, range).await?;
    let blobs = inner.blobs.clone();
    let rest = stream::iter(segments)
        .then(move |(id, range)| {
            let blobs = blobs.clone();
            async move { blobs.get(id, range).await }
        })
        .try_flatten();
    let frames = first.chain(rest).map(move |piece| {
        let _kept = &reading;
        piece.map(Frame::data).map_err(|error| Box::new(error) as BodyError)
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

/// The pieces of blobs that make up bytes `range`.
fn cut(parts: &Parts, range: Range<u64>) -> Vec<(BlobId, Range<u64>)> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for segment in &parts.0 {
        let end = begin + segment.size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if let Some(id) = segment.blob
            && from < to
        {
            pieces.push((id, from - begin..to - begin));
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
                .flat_map(|(id, range)| range.map(move |offset| (id.0[0], offset)))
                .collect();
            let at = |n: u64| usize::try_from(n).unwrap();
            prop_assert_eq!(&got[..], &whole[at(a)..at(b)]);
        }
    }
}
