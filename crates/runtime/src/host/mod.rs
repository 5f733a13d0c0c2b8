//! The host's side of a sandbox: helper processes made ready, and each sandbox watched until it is gone.

mod launcher;
mod supervisor;

pub(crate) use launcher::{Helper, Launcher};
pub(crate) use supervisor::{End, Joints, Sandbox};
