//! Stacks: from a template to what it asks for, and back (AWS CloudFormation, with the SAM transform).
//!
//! The map: [`template`] reads templates and keeps the line of everything; `sam` expands SAM resources;
//! `resources` knows each resource type; `evaluate` says what values come to; `plan` finds the steps between a stack and a template; `ops` is the
//! API; `operate` carries steps out and [`service`] runs that in the background; `tables` is what is stored.
//!
//! Invariants: nothing is made before the whole template is understood and planned; a stack's row always says
//! what was made, so that an operation goes on after a crash and a failed one is undone; other services are
//! called only through [`aws::Dispatch`], as the caller who deploys.

mod error;
mod evaluate;
mod operate;
mod ops;
mod plan;
mod resources;
mod sam;
pub mod service;
mod tables;
pub mod template;

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Api, Dispatch, Operation, Protocol, Request};
use indexmap::IndexMap;
use store::Store;
use tokio::sync::Notify;
use types::{Region, SharedEnv};

pub use error::Error;
use operate::Machinery;
pub use plan::{Change, ChangeAction};
use template::{Code, Problem, Pseudo, Template};

/// The CloudFormation API.
#[derive(Debug)]
pub struct Stacks {
    shared: Arc<Shared>,
}

/// What operations share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) machinery: Arc<Machinery>,
    pub(crate) wake: Arc<Notify>,
}

impl Stacks {
    /// The API over `store`; stacks are made through `dispatch`.
    pub fn new(store: Store, env: SharedEnv, dispatch: Arc<dyn Dispatch>, region: Region) -> Arc<Self> {
        let machinery = Arc::new(Machinery { store, env, dispatch, region });
        Arc::new(Self { shared: Arc::new(Shared { machinery, wake: Arc::new(Notify::new()) }) })
    }

    /// The background work that belongs to it; exactly one must run.
    pub fn service(&self) -> service::Service {
        service::Service { machinery: self.shared.machinery.clone(), wake: self.shared.wake.clone() }
    }
}

#[async_trait]
impl Api for Stacks {
    fn signing_name(&self) -> &'static str {
        "cloudformation"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn namespace(&self) -> &'static str {
        ops::NAMESPACE
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        ops::parse(self.shared.clone(), request).await
    }
}

/// Checks a template, code still on the machine, as far as that is possible without deploying it: everything
/// that a deployment with these parameters would refuse before making anything.
pub fn check(text: &str, parameters: &IndexMap<String, String>, pseudo: &Pseudo) -> Result<(), Vec<Problem>> {
    let template = Template::read_for(text, Code::Local, parameters, pseudo)?;
    let now = types::Timestamp::UNIX_EPOCH;
    plan::plan(&template, parameters, pseudo, &IndexMap::new(), now).map(drop)
}
