//! How long an idle instance is kept: as long as this function's pauses usually are.
//!
//! After "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud
//! Provider" (Shahrad et al., USENIX ATC 2020): a histogram of the pauses between requests says for how long an
//! instance is likely to be of use. A function that is called every ten minutes keeps its instance that long; one
//! that was called every second and is not any more soon gives its memory back.

use std::time::Duration;

/// Buckets double: 1 s, 2 s, ... up to 2^14 s (about four and a half hours).
const BUCKETS: usize = 15;
/// So many pauses before the histogram is believed.
const ENOUGH: u32 = 8;
/// Counts are halved at this sum, so that a function that changes its ways is seen to.
const MOST: u32 = 1024;

/// The pauses between the requests of one function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pattern {
    pauses: [u16; BUCKETS],
    seen: u32,
    last: Option<Duration>,
}

impl Pattern {
    /// A request came.
    pub(crate) fn arrived(&mut self, now: Duration) {
        let last = self.last.replace(now);
        let Some(last) = last else { return };
        let pause = now.saturating_sub(last).as_secs();
        let bucket = (u64::BITS - pause.leading_zeros()) as usize;
        self.pauses[bucket.min(BUCKETS - 1)] += 1;
        self.seen += 1;
        if self.seen >= MOST {
            self.pauses.iter_mut().for_each(|count| *count /= 2);
            self.seen = self.pauses.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// How long to keep an instance: as long as 99 of 100 pauses are, within the bounds; `unknown` until enough
    /// was seen.
    pub(crate) fn keep_alive(&self, unknown: Duration, least: Duration, most: Duration) -> Duration {
        if self.seen < ENOUGH {
            return unknown;
        }
        let rare = self.seen / 100;
        let mut above = 0;
        for (bucket, count) in self.pauses.iter().enumerate().rev() {
            above += u32::from(*count);
            if above > rare {
                // A little more than the bucket's end: the sweep is not exact either.
                return (Duration::from_secs(1 << bucket) * 5 / 4).clamp(least, most);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pauses: &[u64]) -> u64 {
        let mut pattern = Pattern::default();
        let mut now = Duration::ZERO;
        pattern.arrived(now);
        for pause in pauses {
            now += Duration::from_secs(*pause);
            pattern.arrived(now);
        }
        let seconds = Duration::from_secs;
        pattern.keep_alive(seconds(300), seconds(60), seconds(1800)).as_secs()
    }

    #[test]
    fn instances_are_kept_as_long_as_pauses_last() {
        assert_eq!(kept(&[1; 3]), 300, "too little is known");
        assert_eq!(kept(&[0; 50]), 60, "a busy function");
        assert_eq!(kept(&[600; 20]), 1280, "one that is called every ten minutes");
        assert_eq!(kept(&[86_400; 20]), 1800, "one that is called every day");
        let mut mostly_busy = vec![1; 300];
        mostly_busy.push(600);
        assert_eq!(kept(&mostly_busy), 60, "one long pause is not the rule");
        assert_eq!(kept(&[1; 100_000]), 60, "counts do not overflow");
    }
}
