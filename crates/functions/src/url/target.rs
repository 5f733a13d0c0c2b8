//! Which function a URL leads to.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::{UrlId, forbidden};
use crate::Error;
use crate::invoke::Known;
use crate::name::FunctionName;
use crate::service::Inner;
use crate::tables::{URL_IDS, UrlRow};

/// Of how many URLs it is remembered.
const REMEMBERED: usize = 10_000;
const LOCK: &str = "no holder of this lock panics";

/// Where URLs led lately. Hints: what counts is what a function says of its own URL.
#[derive(Debug, Default)]
pub(crate) struct Targets(RwLock<HashMap<UrlId, FunctionName>>);

/// What a URL leads to.
pub(super) struct Target {
    pub(super) function: FunctionName,
    pub(super) known: Arc<Known>,
    pub(super) url: Arc<UrlRow>,
}

impl Targets {
    fn find(&self, id: &UrlId) -> Option<FunctionName> {
        self.0.read().expect(LOCK).get(id).cloned()
    }

    fn remember(&self, id: &UrlId, function: &FunctionName) {
        let mut targets = self.0.write().expect(LOCK);
        if targets.len() >= REMEMBERED {
            targets.clear();
        }
        targets.insert(id.clone(), function.clone());
    }
}

impl Inner {
    /// What the URL of that id leads to.
    pub(super) async fn target(self: &Arc<Self>, id: &UrlId) -> Result<Target, aws::Error> {
        if let Some(function) = self.urls.find(id)
            && let Ok(Some(target)) = self.look_at(id, function).await
        {
            return Ok(target);
        }
        let key = URL_IDS.key(id.account(), |k| {
            k.text(id.as_str());
        });
        let row = URL_IDS.get(&self.store, key).await.map_err(Error::from)?.ok_or_else(forbidden)?;
        let function = FunctionName { name: row.value.function, qualifier: row.value.alias };
        let target = self.look_at(id, function).await?.ok_or_else(forbidden)?;
        self.urls.remember(id, &target.function);
        Ok(target)
    }

    /// The function, if its URL is that one.
    async fn look_at(self: &Arc<Self>, id: &UrlId, function: FunctionName) -> Result<Option<Target>, Error> {
        let live = self.function(id.account(), &function.name).await?;
        let known = self.known(&live).await?;
        let url = known.url(function.qualifier.as_deref()).filter(|url| url.id == id.as_str()).cloned();
        Ok(url.map(|url| Target { function, known, url }))
    }
}
