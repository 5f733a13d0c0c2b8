//! Where the next page of a list begins, as clients carry it: a token that nobody has to understand, and that is known
//! again. What was not given out for the same list is refused, and not taken for a place in it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::Error;

/// How much of the digest is in a marker, in bytes.
const DIGEST_BYTES: usize = 6;

fn digest(list: &str, place: &[u8]) -> [u8; DIGEST_BYTES] {
    let whole = Sha256::new().chain_update(list).chain_update([0]).chain_update(place).finalize();
    std::array::from_fn(|i| whole[i])
}

/// The marker of a place in a list, which has the name of the operation that lists.
pub(crate) fn give(list: &str, place: &str) -> String {
    let mut bytes = digest(list, place.as_bytes()).to_vec();
    bytes.extend_from_slice(place.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place of a marker. An empty one is none.
pub(super) fn take(list: &str, marker: Option<String>) -> Result<Option<String>, Error> {
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else { return Ok(None) };
    let place = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| {
        let (known, place) = bytes.split_at_checked(DIGEST_BYTES)?;
        (digest(list, place) == known).then(|| String::from_utf8(place.to_vec()).ok())?
    });
    let refused = || Error::InvalidParameter("Marker is not one that was given out.".into());
    place.map(Some).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_known_again_by_their_list_alone() {
        let marker = give("ListFunctions", "thumb");
        let taken = |list: &str, marker: &str| take(list, Some(marker.to_owned()));
        assert_eq!(taken("ListFunctions", &marker).unwrap().as_deref(), Some("thumb"));
        assert_eq!((taken("ListFunctions", "").unwrap(), take("ListFunctions", None).unwrap()), (None, None));
        for wrong in ["thumb", "x", "%", &marker[1..], &give("ListLayers", "thumb")] {
            assert!(matches!(taken("ListFunctions", wrong), Err(Error::InvalidParameter(_))), "{wrong}");
        }
    }
}
