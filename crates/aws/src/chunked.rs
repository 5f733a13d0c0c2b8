//! `aws-chunked` bodies (Amazon S3 API reference, "Signature Calculations: Transferring Payload in Multiple
//! Chunks").

use std::sync::{Arc, Mutex};

/// Headers that came after a body; filled when it has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Trailers(Arc<Mutex<http::HeaderMap>>);

impl Trailers {
    /// The trailing header of that name, once the body has been read to its end.
    pub fn get(&self, name: &str) -> Option<http::HeaderValue> {
        self.0.lock().expect("no holder of this lock panics").get(name).cloned()
    }

    /// Adds a header.
    pub fn insert(&self, name: http::HeaderName, value: http::HeaderValue) {
        self.0.lock().expect("no holder of this lock panics").insert(name, value);
    }
}
