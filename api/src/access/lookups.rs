//! What the access table says of some name, remembered for as long as the epoch is the one that it was
//! read under.
//!
//! Names that do not exist are remembered apart, so that no flood of them can push out the others, and
//! are looked up at a limited rate.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use store::StoreError;
use tokio::sync::OnceCell;

use super::budget::{Limiter, limiter};
use super::generations::Generations;

/// What was read of a name under one epoch; requests for the same name wait for one look-up.
struct Slot<V> {
    epoch: u64,
    found: OnceCell<Option<Arc<V>>>,
}

/// Why nothing is known of a name.
#[derive(Debug)]
pub(crate) enum LookupError {
    /// Too many names that nobody knew were asked for.
    Limited,
    /// The store does not answer.
    Store(StoreError),
}

/// See the module.
pub(crate) struct Lookups<K, V> {
    /// Names that exist or existed. Every request takes it for a copy of one `Arc`; never held over
    /// an await.
    known: Mutex<Generations<K, Arc<Slot<V>>>>,
    /// Names that did not exist under an epoch. Same rule.
    unknown: Mutex<Generations<K, u64>>,
    limiter: Limiter,
}

impl<K: Eq + Hash + Clone, V> Lookups<K, V> {
    /// Remembers up to `capacity` names of each kind, and looks up `per_second` new ones.
    pub(crate) fn new(capacity: usize, per_second: u32) -> Self {
        Self {
            known: Mutex::new(Generations::new(capacity)),
            unknown: Mutex::new(Generations::new(capacity)),
            limiter: limiter(per_second, per_second),
        }
    }

    /// What is known of a name under this epoch; `None`: there is nothing of that name.
    pub(crate) async fn get<F>(
        &self,
        name: &K,
        epoch: u64,
        look_up: impl FnOnce() -> F,
    ) -> Result<Option<Arc<V>>, LookupError>
    where
        F: Future<Output = Result<Option<Arc<V>>, StoreError>>,
    {
        if let Some(slot) = self.slot(name, epoch) {
            let found = slot.found.get_or_try_init(look_up).await;
            return found.cloned().map_err(LookupError::Store);
        }
        if self.unknown.lock().is_ok_and(|mut unknown| unknown.get(name) == Some(epoch)) {
            return Ok(None);
        }
        if self.limiter.check().is_err() {
            return Err(LookupError::Limited);
        }
        let found = look_up().await.map_err(LookupError::Store)?;
        if found.is_none() {
            if let Ok(mut unknown) = self.unknown.lock() {
                unknown.insert(name.clone(), epoch);
            }
        } else if let Ok(mut known) = self.known.lock() {
            let slot = Slot { epoch, found: OnceCell::new_with(Some(found.clone())) };
            known.insert(name.clone(), Arc::new(slot));
        }
        Ok(found)
    }

    /// The slot of a name that was seen before, a fresh one if the epoch has moved on.
    fn slot(&self, name: &K, epoch: u64) -> Option<Arc<Slot<V>>> {
        let mut known = self.known.lock().ok()?;
        let slot = known.get(name)?;
        if slot.epoch == epoch {
            return Some(slot);
        }
        let fresh = Arc::new(Slot { epoch, found: OnceCell::new() });
        known.insert(name.clone(), Arc::clone(&fresh));
        Some(fresh)
    }
}
