//! Tags of functions.

use std::collections::BTreeMap;

use aws::Response;
use serde_json::json;
use store::Read;

use super::{Cx, settings};
use crate::Error;
use crate::name::FunctionName;
use crate::tables::{FUNCTIONS, by_name};

impl Cx {
    /// Tags do not change the function's revision.
    async fn retag(
        &self,
        function: &FunctionName,
        mut change: impl FnMut(&mut BTreeMap<String, String>) + Send + 'static,
    ) -> Result<(), Error> {
        self.require_latest(function)?;
        let key = by_name(&FUNCTIONS, self.account, &function.name);
        let not_found = self.not_found(&function.name);
        let changed = self.inner.store.transact(vec![Read::Key(key.clone())], move |pages, _| {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            let mut row = stored.value;
            change(&mut row.tags);
            settings::tags(&row.tags)?;
            Ok((vec![FUNCTIONS.put(key.clone(), &row)], ()))
        });
        changed.await
    }

    pub(super) async fn tag(
        &self,
        function: FunctionName,
        tags: BTreeMap<String, String>,
    ) -> Result<Response, Error> {
        if tags.is_empty() {
            return Err(Error::InvalidParameter(
                "An error occurred and the request cannot be processed.".into(),
            ));
        }
        self.retag(&function, move |row| row.extend(tags.clone())).await?;
        Ok(aws::json::empty(204))
    }

    pub(super) async fn untag(&self, function: FunctionName, keys: Vec<String>) -> Result<Response, Error> {
        if keys.is_empty() {
            return Err(Error::missing("tagKeys"));
        }
        self.retag(&function, move |row| row.retain(|key, _| !keys.contains(key))).await?;
        Ok(aws::json::empty(204))
    }

    pub(super) async fn list_tags(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.row(&function.name).await?;
        Ok(aws::json::output(&json!({ "Tags": row.tags })))
    }
}
