//! The seam for policies that hang on resources. Services that have them tell this crate where they are.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Identity;
use crate::policy::Policy;

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
}
