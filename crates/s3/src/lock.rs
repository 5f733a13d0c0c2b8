//! Object lock (Amazon S3 user guide, "Locking objects with Object Lock"): versions that can not be removed before a
//! time, or while they are held.

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::Error;
use crate::tables::Bucket;
use crate::versions::Versioning;

pub(crate) const MODE: &str = "x-amz-object-lock-mode";
pub(crate) const UNTIL: &str = "x-amz-object-lock-retain-until-date";
pub(crate) const HOLD: &str = "x-amz-object-lock-legal-hold";

/// How strict a retention is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// Those with the right to may bypass it.
    #[serde(rename = "g")]
    Governance,
    /// Nobody may.
    #[serde(rename = "c")]
    Compliance,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.name() == name)
    }
}

/// Until when a version stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retention {
    #[serde(rename = "m")]
    pub(crate) mode: Mode,
    /// Seconds since the epoch.
    #[serde(rename = "u")]
    pub(crate) until: i64,
}

/// What keeps a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<Retention>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<bool>,
}

/// How a bucket locks what does not say how it is to be locked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketLock {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<DefaultRetention>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DefaultRetention {
    pub(crate) mode: Mode,
    pub(crate) period: Period,
}

/// A length of time, in the unit in which it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Period {
    Days(i32),
    Years(i32),
}

impl Period {
    fn seconds(self) -> i64 {
        match self {
            Self::Days(days) => i64::from(days) * 86_400,
            Self::Years(years) => i64::from(years) * 365 * 86_400,
        }
    }
}

impl Lock {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the version may be removed.
    pub(crate) fn admits_removal(&self, now: i64, bypass: bool) -> Result<(), Error> {
        let kept = self.hold == Some(true)
            || self.retention.is_some_and(|retention| {
                retention.until > now && !(bypass && retention.mode == Mode::Governance)
            });
        if kept {
            return Err(Error::Denied("Access Denied because object protected by object lock.".into()));
        }
        Ok(())
    }

    /// Whether another retention may take the place of this one.
    pub(crate) fn admits_retention(
        &self,
        new: Option<Retention>,
        now: i64,
        bypass: bool,
    ) -> Result<(), Error> {
        let Some(old) = self.retention.filter(|old| old.until > now) else { return Ok(()) };
        // A stronger mode is another setting too: it would take the bypass away from those who have it.
        let longer = new.is_some_and(|new| new.until >= old.until && new.mode == old.mode);
        if longer || (bypass && old.mode == Mode::Governance) {
            return Ok(());
        }
        Err(Error::Denied("Access Denied because object protected by object lock.".into()))
    }
}

fn retention(
    mode: Option<&str>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Retention>, Error> {
    let (mode, until) = match (mode, until) {
        (None, None) => return Ok(None),
        (Some(mode), Some(until)) => (mode, until),
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::argument(
                MODE,
                "",
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    let mode =
        Mode::of_name(mode).ok_or_else(|| Error::argument(MODE, mode, "Unknown wormMode directive."))?;
    if until <= now {
        return Err(Error::argument(
            UNTIL,
            until.to_string(),
            "The retain until date must be in the future!",
        ));
    }
    Ok(Some(Retention { mode, until: until.as_second() }))
}

/// The lock that a request asks for in its headers.
pub(crate) fn of_headers(headers: &HeaderMap, now: Timestamp) -> Result<Lock, Error> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let until = text(UNTIL).map(|text| {
        text.parse::<Timestamp>().map_err(|_| {
            Error::argument(UNTIL, text, "The retain until date must be provided in ISO 8601 format")
        })
    });
    let hold = match text(HOLD) {
        None => None,
        Some("ON") => Some(true),
        Some("OFF") => Some(false),
        Some(other) => {
            return Err(Error::argument(HOLD, other, "Legal Hold must be either of 'ON' or 'OFF'"));
        }
    };
    Ok(Lock { retention: retention(text(MODE), until.transpose()?, now)?, hold })
}

/// The retention that a body gives.
pub(crate) fn of_body(
    mode: Option<&str>,
    until: Option<i64>,
    now: Timestamp,
) -> Result<Option<Retention>, Error> {
    if mode.is_some() != until.is_some() {
        return Err(Error::MalformedXml);
    }
    let until = until.and_then(|until| Timestamp::from_second(until).ok());
    if mode.is_some_and(|mode| Mode::of_name(mode).is_none()) {
        return Err(Error::MalformedXml);
    }
    retention(mode, until, now)
}

impl Bucket {
    /// The lock of a new version that asks for `asked`.
    pub(crate) fn lock_of_new(&self, asked: Lock, now: i64) -> Result<Lock, Error> {
        let Some(lock) = &self.lock else {
            return if asked.is_empty() { Ok(asked) } else { Err(missing()) };
        };
        let default = lock
            .default
            .map(|default| Retention { mode: default.mode, until: now + default.period.seconds() });
        Ok(Lock { retention: asked.retention.or(default), ..asked })
    }

    /// Whether versioning may be set to this.
    pub(crate) fn admits_versioning(&self, versioning: Versioning) -> Result<(), Error> {
        if self.lock.is_some() && versioning != Versioning::Enabled {
            return Err(Error::InvalidBucketState(
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            ));
        }
        Ok(())
    }
}

/// The bucket does not lock objects.
pub(crate) fn missing() -> Error {
    Error::invalid_request("Bucket is missing Object Lock Configuration")
}

/// What an answer says of a lock.
pub(crate) fn show(lock: &Lock, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if let Some(retention) = lock.retention {
        put(MODE, retention.mode.name());
        if let Ok(until) = Timestamp::from_second(retention.until) {
            put(UNTIL, &until.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string());
        }
    }
    if let Some(hold) = lock.hold {
        put(HOLD, if hold { "ON" } else { "OFF" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_hold() {
        let lock = |mode, until, hold| Lock { retention: Some(Retention { mode, until }), hold };
        assert!(Lock::default().admits_removal(0, false).is_ok());
        assert!(lock(Mode::Governance, 10, None).admits_removal(9, false).is_err());
        assert!(lock(Mode::Governance, 10, None).admits_removal(10, false).is_ok());
        assert!(lock(Mode::Governance, 10, None).admits_removal(9, true).is_ok());
        assert!(lock(Mode::Compliance, 10, None).admits_removal(9, true).is_err());
        assert!(lock(Mode::Governance, 10, Some(true)).admits_removal(11, true).is_err());
        let new = |mode, until| Some(Retention { mode, until });
        let old = lock(Mode::Compliance, 10, None);
        assert!(old.admits_retention(new(Mode::Compliance, 11), 0, false).is_ok());
        assert!(old.admits_retention(new(Mode::Compliance, 9), 0, true).is_err());
        assert!(old.admits_retention(new(Mode::Governance, 11), 0, true).is_err());
        assert!(old.admits_retention(None, 0, true).is_err());
        let old = lock(Mode::Governance, 10, None);
        assert!(old.admits_retention(None, 0, false).is_err() && old.admits_retention(None, 0, true).is_ok());
        assert!(old.admits_retention(new(Mode::Governance, 11), 0, false).is_ok());
        assert!(old.admits_retention(new(Mode::Compliance, 11), 0, false).is_err());
        assert!(old.admits_retention(new(Mode::Compliance, 11), 0, true).is_ok());
    }
}
