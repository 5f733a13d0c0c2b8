//! Lifecycle rules (Amazon S3 user guide, "Managing the lifecycle of objects"): what is to go, and when.
//!
//! A day ends at midnight UTC: what a rule lets live for a number of days goes at the first midnight after them.

use serde::{Deserialize, Serialize};

use crate::tables::Object;

const DAY_SECONDS: i64 = 86_400;

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) enabled: bool,
    pub(crate) filter: Filter,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expire: Option<Expire>,
    /// Days that a version may live after it was the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noncurrent_days: Option<i32>,
    /// How many of those stay whatever their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noncurrent_kept: Option<i32>,
    /// Days that an upload in parts may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) abort_days: Option<i32>,
}

/// What a rule is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    pub(crate) prefix: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) greater_than: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) less_than: Option<i64>,
    /// How it was written, so that it is shown so.
    pub(crate) form: Form,
}

/// The ways in which a rule says what it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// `Filter` with one thing, or nothing.
    #[default]
    Filter,
    /// `Filter` with `And`.
    And,
    /// `Prefix`, as before there were filters.
    Prefix,
}

/// When a current object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Expire {
    /// So many days after it was made.
    Days(i32),
    /// At a time, in seconds since the epoch.
    At(i64),
    /// It does not; a delete marker with nothing behind it does.
    Marker,
}

/// The midnight at which what happened at `at` is `days` old.
fn due(at: i64, days: i32) -> i64 {
    let end = at + i64::from(days) * DAY_SECONDS;
    end.div_euclid(DAY_SECONDS) * DAY_SECONDS + if end.rem_euclid(DAY_SECONDS) == 0 { 0 } else { DAY_SECONDS }
}

impl Filter {
    fn takes_key(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }

    fn takes(&self, key: &str, object: &Object) -> bool {
        let size = i64::try_from(object.size).unwrap_or(i64::MAX);
        self.takes_key(key)
            && self.tags.iter().all(|tag| object.tags.contains(tag))
            && self.greater_than.is_none_or(|least| size > least)
            && self.less_than.is_none_or(|most| size < most)
    }
}

/// Whether a current object is to go.
pub(crate) fn expires(rules: &[Rule], key: &str, object: &Object, now: i64) -> bool {
    expiration(rules, key, object).is_some_and(|(at, _)| at <= now)
}

/// When a current object is to go, and the rule that says so first.
pub(crate) fn expiration<'a>(rules: &'a [Rule], key: &str, object: &Object) -> Option<(i64, &'a Rule)> {
    let about = rules.iter().filter(|rule| rule.enabled && rule.filter.takes(key, object));
    let due = about.filter_map(|rule| match rule.expire {
        Some(Expire::Days(days)) => Some((due(object.modified, days), rule)),
        Some(Expire::At(at)) => Some((at, rule)),
        Some(Expire::Marker) | None => None,
    });
    due.min_by_key(|(at, _)| *at)
}

/// Whether a version is to go that stopped being current at `since`, when `newer` others that are not current
/// are newer. `object` is `None` for a delete marker.
pub(crate) fn expires_noncurrent(
    rules: &[Rule],
    key: &str,
    object: Option<&Object>,
    since: i64,
    newer: usize,
    now: i64,
) -> bool {
    let takes = |rule: &&Rule| match object {
        Some(object) => rule.filter.takes(key, object),
        None => rule.filter.takes_key(key) && rule.filter.tags.is_empty(),
    };
    rules.iter().filter(|rule| rule.enabled).filter(takes).any(|rule| {
        let kept = usize::try_from(rule.noncurrent_kept.unwrap_or(0)).unwrap_or(0);
        rule.noncurrent_days.is_some_and(|days| newer >= kept && due(since, days) <= now)
    })
}

/// Whether a delete marker goes that nothing is behind.
pub(crate) fn expires_marker(rules: &[Rule], key: &str, modified: i64, now: i64) -> bool {
    let about = |rule: &&Rule| {
        let filter = &rule.filter;
        let by_key = filter.tags.is_empty() && filter.greater_than.is_none() && filter.less_than.is_none();
        rule.enabled && by_key && filter.takes_key(key)
    };
    rules.iter().filter(about).any(|rule| match rule.expire {
        Some(Expire::Marker) => true,
        // As AWS does it, what expires objects removes what is left of them.
        Some(Expire::Days(days)) => due(modified, days) <= now,
        Some(Expire::At(at)) => at <= now,
        None => false,
    })
}

/// Whether an upload in parts has taken too long.
pub(crate) fn aborts(rules: &[Rule], key: &str, initiated: i64, now: i64) -> bool {
    rules
        .iter()
        .filter(|rule| rule.enabled && rule.filter.takes_key(key))
        .any(|rule| rule.abort_days.is_some_and(|days| due(initiated, days) <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_end_at_midnight() {
        let noon = 10 * DAY_SECONDS + DAY_SECONDS / 2;
        assert_eq!(due(noon, 1), 12 * DAY_SECONDS);
        assert_eq!(due(10 * DAY_SECONDS, 1), 11 * DAY_SECONDS);
        let rule = Rule { enabled: true, abort_days: Some(2), ..Rule::default() };
        assert!(!aborts(std::slice::from_ref(&rule), "k", noon, 13 * DAY_SECONDS - 1));
        assert!(aborts(&[rule], "k", noon, 13 * DAY_SECONDS));
    }

    #[test]
    fn some_versions_stay() {
        let rule = Rule {
            enabled: true,
            noncurrent_days: Some(1),
            noncurrent_kept: Some(2),
            filter: Filter { prefix: "a/".into(), ..Filter::default() },
            ..Rule::default()
        };
        let gone = |key: &str, newer| {
            expires_noncurrent(std::slice::from_ref(&rule), key, None, 0, newer, 5 * DAY_SECONDS)
        };
        assert!(gone("a/b", 2) && !gone("a/b", 1) && !gone("b", 2));
    }
}
