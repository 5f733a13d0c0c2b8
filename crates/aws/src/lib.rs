//! What AWS's protocols have in common: signatures, codecs, errors, and the seams between the pipeline and
//! the services.
//!
//! The map: [`Api`] and [`Operation`] are what a service gives the pipeline (`gateway`); [`Caller`],
//! [`Access`] and [`Authorizer`] are how rights are asked for; [`Dispatch`] is how one part of the platform
//! calls another, through the same pipeline; [`DataKeys`] is how one seals what it stores under its users' keys, [`EventTargets`] how it sees
//! that whom it is to tell of events would take them; [`sigv4`] verifies and makes signatures, [`sigv2`]
//! verifies old presigned URLs, [`chunked`] decodes `aws-chunked` bodies, [`checked`] checks those whose hash
//! was signed; [`json`], [`query`], [`xml`] read and write the protocols; [`input`] is operations of one JSON document; [`live`] is answers that go on; [`departure`] tells of clients that have left; [`Error`] is an error
//! as it goes over the wire, to which [`render`] gives its shape.
//!
//! Invariant: nothing here knows a particular service, stores anything, or opens a socket.

mod access;
mod api;
pub mod body;
pub mod checked;
pub mod chunked;
mod data_keys;
pub mod departure;
pub mod document;
mod error;
pub mod event_stream;
mod event_targets;
pub mod input;
pub mod json;
pub mod live;
pub mod query;
pub mod render;
pub mod sigv2;
pub mod sigv4;
pub mod xml;

pub use access::{
    Access, Authorizer, Caller, Credential, CredentialSource, Guard, Origin, PolicyCheck, PolicyFacts,
    RoleSource, TemporaryCredentials,
};
pub use api::{Api, Dispatch, Operation, Place, Protocol, Request, RequestContext, Response, Signed, Traced};
pub use body::{Body, BodyError};
pub use data_keys::{DataKey, DataKeys, KeyUse};
pub use error::Error;
pub use event_targets::{EventTargets, ServiceMessage};
