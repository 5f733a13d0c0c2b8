//! How fast a function may grow (AWS Lambda developer guide, "Understanding Lambda function scaling").

use std::sync::Mutex;
use std::time::Duration;

use super::lock;

/// A bucket of permits to start instances, filled evenly. The versions of a function share one.
#[derive(Debug)]
pub(crate) struct Scaling {
    most: u32,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    permits: f64,
    filled_at: Duration,
}

impl Scaling {
    /// At most `most` starts in `every`.
    pub(crate) fn new(most: u32, every: Duration, now: Duration) -> Self {
        Self { most, every, state: Mutex::new(State { permits: f64::from(most), filled_at: now }) }
    }

    /// Takes up to `wanted` permits; how many there were.
    pub(crate) fn take(&self, wanted: u32, now: Duration) -> u32 {
        let mut state = lock(&self.state);
        let since = now.saturating_sub(state.filled_at).as_secs_f64();
        let filled = state.permits + since / self.every.as_secs_f64() * f64::from(self.most);
        state.permits = filled.min(f64::from(self.most));
        state.filled_at = now;
        let taken = f64::from(wanted).min(state.permits.floor());
        state.permits -= taken;
        // It is a whole number from 0 to `wanted`.
        taken as u32
    }

    /// Gives back permits that were not used.
    pub(crate) fn give(&self, permits: u32) {
        let mut state = lock(&self.state);
        state.permits = (state.permits + f64::from(permits)).min(f64::from(self.most));
    }

    /// How long until there is another permit, when there is none.
    pub(crate) fn pause(&self) -> Duration {
        self.every / self.most.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back_evenly() {
        let second = Duration::from_secs(1);
        let scaling = Scaling::new(1000, 10 * second, Duration::ZERO);
        assert_eq!(scaling.take(800, Duration::ZERO), 800);
        assert_eq!(scaling.take(800, Duration::ZERO), 200);
        assert_eq!(scaling.take(1, Duration::ZERO), 0);
        assert_eq!(scaling.pause(), Duration::from_millis(10));
        assert_eq!(scaling.take(500, second), 100);
        scaling.give(50);
        assert_eq!(scaling.take(500, second), 50);
        assert_eq!(scaling.take(5000, 100 * second), 1000);
    }
}
