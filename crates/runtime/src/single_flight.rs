//! One at a time by name: what many starts need at once is made once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Gate = tokio::sync::Mutex<()>;

/// Locks by name; a name that nobody holds takes no memory for long.
#[derive(Debug, Default)]
pub(crate) struct SingleFlight {
    gates: Mutex<HashMap<String, Weak<Gate>>>,
}

impl SingleFlight {
    /// True while somebody holds `name` or waits for it.
    pub(crate) fn is_under_way(&self, name: &str) -> bool {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.get(name).is_some_and(|gate| gate.strong_count() > 0)
    }

    /// Waits until nobody else holds `name`.
    pub(crate) async fn enter(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.retain(|_, gate| gate.strong_count() > 0);
            match gates.get(name).and_then(Weak::upgrade) {
                Some(gate) => gate,
                None => {
                    let gate = Arc::new(Gate::new(()));
                    gates.insert(name.to_owned(), Arc::downgrade(&gate));
                    gate
                }
            }
        };
        gate.lock_owned().await
    }
}
