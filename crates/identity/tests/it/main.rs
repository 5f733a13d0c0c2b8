//! Identity over a store in memory: keys, sessions, rights, and the APIs, as the pipeline uses them.

mod accounts;
mod authorization;
mod iam;
mod node;
mod sts;
