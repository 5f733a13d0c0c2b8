//! AWS Key Management Service: symmetric keys, what they seal and open, and who may use them.
//!
//! The map: `service` is the API and the seam for other services ([`aws::DataKeys`]), `ops` has one type for each
//! operation, `find` tells keys by id, alias or ARN and says what rights their use needs, `material` is all the
//! cryptography, `tables` is what is stored, `deletions` destroys keys whose time has come.
//!
//! Invariants: the material of a key leaves this crate under no name, and is stored only under the node's own key,
//! which is kept apart; what is sealed opens with the same key and the same encryption context or not at all; a key
//! that is disabled or waits for its deletion seals and opens nothing.

mod deletions;
mod error;
mod find;
mod material;
mod ops;
mod service;
mod tables;

pub use deletions::Deletions;
pub use error::Error;
pub use material::NodeKey;
pub use service::Kms;
