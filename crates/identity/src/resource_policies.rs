//! Policies that hang on resources: a service tells this crate where they are, or hands one over with the right
//! that it asks for ([`aws::Guard`]).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{PolicyCheck, PolicyFacts};

use crate::policy::{Kind, Policy};
use crate::{Error, Identity};

/// Where the policies of resources are kept. Implementations cache: this is asked on hot paths.
#[async_trait]
pub trait ResourcePolicies: Send + Sync + fmt::Debug {
    /// The policy of the resource with that ARN (parsed with [`crate::Kind::Resource`]), if it has one.
    async fn policy(&self, resource: &str) -> Result<Option<Arc<Policy>>, aws::Error>;
}

impl Identity {
    /// Takes account of the policies of resources from now on. Only the first call counts.
    pub fn set_resource_policies(&self, source: Arc<dyn ResourcePolicies>) {
        let _ = self.resource_policies.set(source);
    }

    /// The policy of a guard, compiled.
    pub(crate) fn guard(&self, text: &Arc<str>) -> Result<Arc<Policy>, Error> {
        if let Some(policy) = self.guards.get(text) {
            return Ok(policy);
        }
        let ticket = self.guards.ticket();
        let policy = Arc::new(Policy::parse(text, Kind::Resource)?);
        self.guards.insert(ticket, text.clone(), policy.clone());
        Ok(policy)
    }
}

impl PolicyCheck for Identity {
    fn check(&self, policy: &str) -> Result<PolicyFacts, aws::Error> {
        let policy = Policy::parse(policy, Kind::Resource)?;
        Ok(PolicyFacts { public: policy.is_public() })
    }
}
