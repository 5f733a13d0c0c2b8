//! One node: its configuration, and the one function that wires its parts together.
//!
//! Invariant: this crate wires and never decides; what a part does is the part's own.

mod blob_place;
mod config;
mod credentials;
mod native;
mod node;

pub use blobs::BucketAddress;
pub use config::Config;
pub use functions::RegistryHost;
pub use identity::KeyPair;
pub use node::Node;
