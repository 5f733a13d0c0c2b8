//! The API, and the seam for other services.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{
    Access, Api, Authorizer, Caller, DataKey, DataKeys, Error as WireError, KeyUse, Operation, PolicyCheck,
    Protocol, Request, RequestContext,
};
use store::{Read, Store};
use types::{AccountId, Region, SharedEnv};

use crate::deletions::Deletions;
use crate::material::{Context, NodeKey};
use crate::ops;
use crate::tables::{self, MASTERS, MasterRow};
use crate::{Error, material};

/// Requests are at most a policy of 32 KiB, in JSON, beside short texts.
const BODY_LIMIT: usize = 1 << 20;

/// AWS KMS, as the pipeline sees it.
#[derive(Clone)]
pub struct Kms {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kms").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

/// What operations share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    pub(crate) node_key: NodeKey,
    pub(crate) policies: Arc<dyn PolicyCheck>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) wake: tokio::sync::Notify,
}

/// Who asks, from where.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) inner: Arc<Inner>,
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    /// The service that asks on the caller's behalf.
    pub(crate) via: Option<&'static str>,
}

impl aws::input::Scoped for Scope {
    type Error = crate::Error;
}

impl Scope {
    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.env.now().as_millisecond()
    }

    /// Asks for rights that are only known while an operation runs.
    pub(crate) async fn authorize(&self, needs: &[Access]) -> Result<(), Error> {
        self.inner.authorizer.authorize(&self.caller, needs).await.map_err(Error::Denied)
    }
}

impl Kms {
    /// Opens the service over its part of the store; fails if the node's key is not the one that is in use there.
    /// [`Kms::deletions`] must run beside it.
    pub async fn open(
        store: Store,
        env: SharedEnv,
        region: Region,
        node_key: NodeKey,
        policies: Arc<dyn PolicyCheck>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, Error> {
        let row = MasterRow { fingerprint: node_key.fingerprint() };
        let is_ours = store
            .transact(vec![Read::Key(tables::master_row())], move |pages, _| {
                match MASTERS.first(&pages[0])? {
                    Some(known) => Ok((Vec::new(), known.value.fingerprint == row.fingerprint)),
                    None => Ok::<_, store::Error>((vec![MASTERS.put(tables::master_row(), &row)], true)),
                }
            })
            .await?;
        if !is_ours {
            return Err(Error::Damaged("material of all keys".to_owned()));
        }
        let wake = tokio::sync::Notify::new();
        let inner = Inner { store, env, region, node_key, policies, authorizer, wake };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The background work: destroys keys whose time has come. One runs on a node.
    pub fn deletions(&self) -> Deletions {
        Deletions::new(self.inner.clone())
    }

    fn scope(&self, caller: &Caller, via: Option<&'static str>) -> Scope {
        Scope {
            inner: self.inner.clone(),
            caller: caller.clone(),
            account: caller.account,
            region: self.inner.region.clone(),
            via,
        }
    }
}

#[async_trait]
impl Api for Kms {
    fn signing_name(&self) -> &'static str {
        "kms"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json11
    }

    fn target_prefix(&self) -> &'static str {
        "TrentService"
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, WireError> {
        let target = request.head.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
        let name = target.and_then(|target| target.strip_prefix("TrentService.")).unwrap_or_default();
        let name = name.to_owned();
        let RequestContext { caller, .. } = request.context;
        let scope = self.scope(&caller, None);
        let body = aws::body::collect(request.body, BODY_LIMIT).await?;
        aws::dispatch!("AWS KMS", name.as_str(), &body, scope: Scope, {
            ops::aliases::CreateAlias,
            ops::aliases::DeleteAlias,
            ops::aliases::ListAliases,
            ops::aliases::UpdateAlias,
            ops::data::Decrypt,
            ops::data::Encrypt,
            ops::data::GenerateDataKey,
            ops::data::GenerateDataKeyWithoutPlaintext,
            ops::data::GenerateRandom,
            ops::data::ReEncrypt,
            ops::keys::CancelKeyDeletion,
            ops::keys::CreateKey,
            ops::keys::DescribeKey,
            ops::keys::DisableKey,
            ops::keys::EnableKey,
            ops::keys::ListKeys,
            ops::keys::ScheduleKeyDeletion,
            ops::keys::UpdateKeyDescription,
            ops::policies::GetKeyPolicy,
            ops::policies::ListKeyPolicies,
            ops::policies::PutKeyPolicy,
            ops::rotation::DisableKeyRotation,
            ops::rotation::EnableKeyRotation,
            ops::rotation::GetKeyRotationStatus,
            ops::rotation::RotateKeyOnDemand,
            ops::tags::ListResourceTags,
            ops::tags::TagResource,
            ops::tags::UntagResource,
        })
    }
}

fn pairs(usage: &KeyUse<'_>) -> Context {
    usage.context.iter().cloned().collect::<BTreeMap<_, _>>()
}

#[async_trait]
impl DataKeys for Kms {
    async fn generate(&self, usage: &KeyUse<'_>, key: Option<&str>) -> Result<DataKey, WireError> {
        let scope = self.scope(usage.caller, Some(usage.service));
        let found = match key {
            Some(name) => scope.key_or_alias(name).await?,
            None => scope.key_or_alias(&format!("alias/aws/{}", usage.service)).await?,
        };
        let context = pairs(usage);
        scope.authorize(&[found.access_with(&scope, "GenerateDataKey", &context)]).await?;
        found.check_usable()?;
        let mut plaintext = [0; 32];
        self.inner.env.fill(&mut plaintext);
        let sealed = ops::data::seal(&scope, &found, &context, &plaintext).await?;
        Ok(DataKey { key_arn: found.arn, plaintext, sealed })
    }

    async fn open(&self, usage: &KeyUse<'_>, sealed: &[u8]) -> Result<[u8; 32], WireError> {
        let scope = self.scope(usage.caller, Some(usage.service));
        let head = material::read_head(sealed)?;
        let found = scope.by_id(head.account, &head.id).await?;
        let context = pairs(usage);
        scope.authorize(&[found.access_with(&scope, "Decrypt", &context)]).await?;
        found.check_usable()?;
        let opened = ops::data::open(&scope, &found, head.generation, &context, sealed)?;
        Ok(opened.try_into().map_err(|_| Error::InvalidCiphertext)?)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("region", &self.region).finish_non_exhaustive()
    }
}
