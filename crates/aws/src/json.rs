//! JSON bodies of `Json10`, `Json11` and `RestJson`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use types::ErrorKind;

use crate::{Error, Response, body};

/// Reads an input. An empty body is `{}`. Input types deny unknown fields: what we do not know we refuse.
pub fn input<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let code = match error.classify() {
            serde_json::error::Category::Data => "ValidationException",
            _ => "SerializationException",
        };
        Error::new(ErrorKind::Invalid, code, error.to_string())
    })
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
