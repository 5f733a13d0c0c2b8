//! Provisioned throughput: who may read and write, and what it uses up (Developer Guide, "DynamoDB burst and
//! adaptive capacity").
//!
//! A table, and each global index, has a bucket of read and one of write units, filled by what is provisioned
//! and holding at most 300 seconds of it. A request is let in while there is anything in the bucket, and then
//! charged with what it cost, which may leave it below nothing; so one large request is possible and the next
//! has to wait. On-demand tables have no buckets. Buckets live in memory and begin full.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::{AccountId, Region};

use crate::Error;
use crate::ops::capacity::Consumed;
use crate::place::Place;
use crate::table::Table;
use crate::tables::{Billing, IndexScope};

/// How long unused units are kept.
const BURST: Duration = Duration::from_secs(300);

/// Beyond so many buckets, those that are full are forgotten: they would begin full again.
const MAX_BUCKETS: usize = 16_384;

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owner {
    account: AccountId,
    table: u64,
    index: Option<u16>,
    side: Side,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    units: f64,
    rate: f64,
    at: Duration,
}

impl Bucket {
    fn refill(&mut self, rate: f64, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        // What was saved is kept when the rate changes, up to what the new one lets it hold.
        self.units = (self.units + elapsed * rate).min(rate * BURST.as_secs_f64());
        self.rate = rate;
        self.at = now;
    }

    fn is_full(&self, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        self.units + elapsed * self.rate >= self.rate * BURST.as_secs_f64()
    }
}

/// The buckets of a node.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    buckets: Mutex<HashMap<Owner, Bucket>>,
}

/// The units per second of a table, if it is provisioned.
fn table_rate(table: &Table, side: Side) -> Option<f64> {
    match (table.record.billing, side) {
        (Billing::PayPerRequest { .. }, _) => None,
        (Billing::Provisioned { read_units, .. }, Side::Read) => Some(read_units as f64),
        (Billing::Provisioned { write_units, .. }, Side::Write) => Some(write_units as f64),
    }
}

fn index_rate((read_units, write_units): (u64, u64), side: Side) -> f64 {
    match side {
        Side::Read => read_units as f64,
        Side::Write => write_units as f64,
    }
}

fn arn(table: &Table, region: &Region) -> String {
    format!("arn:aws:dynamodb:{region}:{}:table/{}", table.account, table.record.name)
}

/// Whose throughput is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exceeded {
    /// The index, if it is not the table.
    index: Option<String>,
    side: Side,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Bucket>> {
        // Nothing under this lock can leave the map half changed.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, owner: Owner, rate: f64, now: Duration, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = self.lock();
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&owner) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let full = Bucket { units: rate * BURST.as_secs_f64(), rate, at: now };
        let bucket = buckets.entry(owner).or_insert(full);
        bucket.refill(rate, now);
        work(bucket)
    }

    fn has_units(&self, owner: Owner, rate: f64, now: Duration) -> bool {
        self.with(owner, rate, now, |bucket| bucket.units > 0.0)
    }

    /// Lets a write of a table in, or not.
    pub(crate) fn admit_write(&self, table: &Table, region: &Region, now: Duration) -> Result<(), Error> {
        self.write_side(table, now).map_err(|exceeded| exceeded.error(&arn(table, region)))
    }

    fn write_side(&self, table: &Table, now: Duration) -> Result<(), Exceeded> {
        let Some(rate) = table_rate(table, Side::Write) else { return Ok(()) };
        let (account, id) = (table.account, table.record.id);
        let owner = Owner { account, table: id, index: None, side: Side::Write };
        if !self.has_units(owner, rate, now) {
            return Err(Exceeded { index: None, side: Side::Write });
        }
        for index in &table.record.indexes {
            let Some(units) = index.throughput else { continue };
            let owner = Owner { index: Some(index.number), ..owner };
            if !self.has_units(owner, index_rate(units, Side::Write), now) {
                return Err(Exceeded { index: Some(index.name.clone()), side: Side::Write });
            }
        }
        Ok(())
    }

    /// Lets a read of a table or an index in, or not.
    pub(crate) fn admit_read(&self, place: Place<'_>, region: &Region, now: Duration) -> Result<(), Error> {
        self.read_side(place, now).map_err(|exceeded| exceeded.error(&arn(place.table, region)))
    }

    fn read_side(&self, place: Place<'_>, now: Duration) -> Result<(), Exceeded> {
        let table = place.table;
        let Some(table_rate) = table_rate(table, Side::Read) else { return Ok(()) };
        let global = place.index.filter(|index| index.is_global());
        let owner = Owner {
            account: table.account,
            table: table.record.id,
            index: global.map(|index| index.record.number),
            side: Side::Read,
        };
        let rate = match global {
            None => table_rate,
            Some(index) => index_rate(index.record.throughput.unwrap_or_default(), Side::Read),
        };
        if self.has_units(owner, rate, now) {
            return Ok(());
        }
        Err(Exceeded { index: global.map(|index| index.record.name.clone()), side: Side::Read })
    }

    /// Charges what something cost. Local indexes are paid for by their table.
    pub(crate) fn charge(&self, table: &Table, cost: &Consumed, side: Side, now: Duration) {
        let Some(rate) = table_rate(table, side) else { return };
        let owner = Owner { account: table.account, table: table.record.id, index: None, side };
        let mut own = cost.table;
        for used in &cost.indexes {
            let index = table.record.index(&used.name);
            match index.and_then(|index| Some((index.number, index.throughput?))) {
                Some((number, units)) if used.scope == IndexScope::Global => {
                    let owner = Owner { index: Some(number), ..owner };
                    self.with(owner, index_rate(units, side), now, |bucket| bucket.units -= used.units);
                }
                _ => own += used.units,
            }
        }
        self.with(owner, rate, now, |bucket| bucket.units -= own);
    }
}

impl Exceeded {
    /// The error that tells of it.
    fn error(self, table_arn: &str) -> Error {
        let (owner, message, resource) = match self.index {
            None => ("Table", OF_TABLE, table_arn.to_owned()),
            Some(index) => ("Index", OF_INDEX, format!("{table_arn}/index/{index}")),
        };
        let side = match self.side {
            Side::Read => "Read",
            Side::Write => "Write",
        };
        Error::ProvisionedThroughputExceeded {
            message: message.to_owned(),
            reason: format!("{owner}{side}ProvisionedThroughputExceeded"),
            resource,
        }
    }
}

const OF_TABLE: &str = "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.";

const OF_INDEX: &str = "The level of configured provisioned throughput for one or more global secondary indexes of the table was exceeded. Consider increasing your provisioning level for the under-provisioned global secondary indexes with the UpdateTable API";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let throttle = Throttle::default();
        let owner = Owner { account: AccountId::DEFAULT, table: 1, index: None, side: Side::Write };
        let at = Duration::from_secs;
        let take = |now, units| throttle.with(owner, 2.0, now, |bucket| bucket.units -= units);
        // 300 seconds of 2 units, and one more request that goes over.
        take(at(0), 599.0);
        assert!(throttle.has_units(owner, 2.0, at(0)));
        take(at(0), 10.0);
        assert!(!throttle.has_units(owner, 2.0, at(0)));
        assert!(!throttle.has_units(owner, 2.0, at(4)));
        assert!(throttle.has_units(owner, 2.0, at(5)));
        // It never holds more than the burst.
        take(at(10_000), 600.0);
        assert!(!throttle.has_units(owner, 2.0, at(10_000)));
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let throttle = Throttle::default();
        for table in 0..=MAX_BUCKETS as u64 {
            let owner = Owner { account: AccountId::DEFAULT, table, index: None, side: Side::Read };
            throttle
                .with(owner, 1.0, Duration::ZERO, |bucket| bucket.units -= f64::from(u8::from(table == 3)));
        }
        assert_eq!(throttle.lock().len(), 2);
    }
}
