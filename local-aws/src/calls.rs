//! How often each operation was called, so that a test can count what its subject costs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::dispatch::{Call, Service};

/// Different (operation, resource) pairs that are told apart; further ones are counted without their resource.
const MAX_COUNTERS: usize = 10_000;

/// The calls of one operation on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallCount {
    /// The service that was called.
    pub service: Service,
    /// The operation, e.g. `UpdateItem`.
    pub operation: String,
    /// The table or stream; `None` when the call named none or several.
    pub resource: Option<String>,
    /// Calls since the start, refused and faulted ones included.
    pub calls: u64,
}

type Key = (Service, String, Option<String>);

#[derive(Debug, Default)]
pub(crate) struct Calls {
    // Counted by every call of every task, read by tests; held for one map entry.
    counters: Mutex<BTreeMap<Key, u64>>,
}

impl Calls {
    pub(crate) fn count(&self, call: &Call) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = match call.resources.as_slice() {
            [one] if counters.len() < MAX_COUNTERS => Some(one.clone()),
            _ => None,
        };
        let key = (call.service, call.operation.clone(), resource);
        *counters.entry(key).or_default() += 1;
    }

    pub(crate) fn snapshot(&self) -> Vec<CallCount> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = counters.iter();
        entries
            .map(|((service, operation, resource), calls)| CallCount {
                service: *service,
                operation: operation.clone(),
                resource: resource.clone(),
                calls: *calls,
            })
            .collect()
    }
}
