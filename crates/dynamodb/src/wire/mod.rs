//! JSON in and out: inputs are read straight into values, items are written straight from their stored form.
//!
//! Nothing here knows the store or a table.

pub(crate) mod encoding;
pub(crate) mod read;
pub(crate) mod validate;
pub(crate) mod write;

pub(crate) use read::{AttributeMap, Long, MapOf, Modelled, SingleValue, input, valid_name};
pub(crate) use validate::{Constraints, counted};
