//! EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, RotateKeyOnDemand.
//!
//! A key whose turn has come gets new material when it is next used to seal something: nothing runs for keys that
//! nobody uses. What was sealed before opens with the generation that sealed it.

use std::borrow::Cow;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};

use super::{Input, change, one_key, seconds};
use crate::Error;
use crate::find::Found;
use crate::material::{self, Which};
use crate::service::Scope;
use crate::tables::{KeyRow, Material};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// On-demand rotations that a key may have (developer guide, "Resource quotas").
const MAX_ON_DEMAND: usize = 25;

/// When the calendar asks for new material.
fn next_ms(key: &KeyRow) -> Option<i64> {
    let days = key.rotation_days?;
    let by_calendar = key.material.iter().rev().find(|material| !material.on_demand);
    let last = by_calendar.map_or(key.created_ms, |material| material.made_ms).max(key.rotation_since_ms);
    Some(last.saturating_add(i64::from(days) * DAY_MS))
}

/// Gives a key one more generation.
fn add(scope: &Scope, found: &Found, key: &mut KeyRow, on_demand: bool) {
    let generation = u32::try_from(key.material.len()).expect("a key has few generations");
    let which = Which { account: found.account, id: &key.id, generation };
    let wrapped = material::make(&scope.inner.node_key, which, &*scope.inner.env);
    key.material.push(Material { made_ms: scope.now_ms(), on_demand, wrapped });
}

/// The generations of a key, with the one that the calendar asks for.
pub(super) async fn up_to_date<'a>(scope: &Scope, found: &'a Found) -> Result<Cow<'a, [Material]>, Error> {
    let is_due = |key: &KeyRow, now_ms| next_ms(key).is_some_and(|at| at <= now_ms);
    if !is_due(found.key(), scope.now_ms()) {
        return Ok(Cow::Borrowed(&found.key().material));
    }
    let (inner_scope, inner_found) = (scope.clone(), found.clone());
    let material = change(scope, found, move |key| {
        if is_due(key, inner_scope.now_ms()) {
            add(&inner_scope, &inner_found, key, false);
        }
        Ok((Vec::new(), key.material.clone()))
    })
    .await?;
    Ok(Cow::Owned(material))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct EnableKeyRotation {
    key_id: String,
    rotation_period_in_days: Option<i64>,
}

impl Input<Scope> for EnableKeyRotation {
    const NAME: &'static str = "EnableKeyRotation";
    type Found = (Found, u32);

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        let asked = self.rotation_period_in_days.unwrap_or(365);
        let days = u32::try_from(asked).ok().filter(|days| (90..=2560).contains(days));
        let days = days.ok_or_else(|| {
            Error::validation(format!(
                "1 validation error detected: Value '{asked}' at 'rotationPeriodInDays' failed to satisfy constraint: Member must be between 90 and 2560"
            ))
        })?;
        let (needs, found) = one_key(scope, &self.key_id, Self::NAME).await?;
        Ok((needs, (found, days)))
    }

    async fn run(self, scope: Scope, (found, days): Self::Found) -> Result<Response, Error> {
        found.check_changeable()?;
        found.check_usable()?;
        let now_ms = scope.now_ms();
        change(&scope, &found, move |key| {
            if key.rotation_days.is_none() {
                key.rotation_since_ms = now_ms;
            }
            key.rotation_days = Some(days);
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DisableKeyRotation {
    key_id: String,
}

impl Input<Scope> for DisableKeyRotation {
    const NAME: &'static str = "DisableKeyRotation";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        found.check_usable()?;
        change(&scope, &found, |key| {
            key.rotation_days = None;
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GetKeyRotationStatus {
    key_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    key_rotation_enabled: bool,
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_period_in_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<f64>,
}

impl Input<Scope> for GetKeyRotationStatus {
    const NAME: &'static str = "GetKeyRotationStatus";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, _scope: Scope, found: Found) -> Result<Response, Error> {
        let key = found.key();
        Ok(aws::json::output(&Status {
            key_rotation_enabled: key.rotation_days.is_some(),
            key_id: key.id.clone(),
            rotation_period_in_days: key.rotation_days,
            next_rotation_date: next_ms(key).map(seconds),
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RotateKeyOnDemand {
    key_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rotated {
    key_id: String,
}

impl Input<Scope> for RotateKeyOnDemand {
    const NAME: &'static str = "RotateKeyOnDemand";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        found.check_usable()?;
        let (inner_scope, inner_found) = (scope.clone(), found.clone());
        change(&scope, &found, move |key| {
            if key.material.iter().filter(|material| material.on_demand).count() >= MAX_ON_DEMAND {
                return Err(Error::LimitExceeded(format!(
                    "A key can be rotated on demand {MAX_ON_DEMAND} times"
                )));
            }
            add(&inner_scope, &inner_found, key, true);
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::output(&Rotated { key_id: found.key().id.clone() }))
    }
}
