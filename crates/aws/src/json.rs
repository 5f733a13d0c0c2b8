//! JSON bodies of `Json10`, `Json11` and `RestJson`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Response, body, document};

/// Reads an input. An empty body is `{}`. Input types deny unknown fields: what we do not know we refuse.
pub fn input<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // To serde a list of members would do.
    if bytes.trim_ascii_start().first() == Some(&b'{')
        && let Ok(input) = serde_json::from_slice(bytes)
    {
        return Ok(input);
    }
    // Once more, slowly: for the words, and since a member that is null is none, which serde does not know of a member
    // that has to be there.
    document::read(bytes).map_err(Error::from)
}

/// An answer of status 200 with a JSON body; the pipeline sets the content type of the protocol.
pub fn output(value: &impl Serialize) -> Response {
    output_with_status(200, value)
}

/// An answer of that status with a JSON body.
pub fn output_with_status(status: u16, value: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(value).expect("outputs have string keys");
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("statuses are between 100 and 599");
    response
}

/// An answer of that status without a body.
pub fn empty(status: u16) -> Response {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("statuses are between 100 and 599");
    response
}
