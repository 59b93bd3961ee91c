//! Eventually consistent reads that show an older state: what the same request showed a while ago.
//!
//! Start at [`is_eventual`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use crate::dispatch::{Call, Service};

/// An answer is shown again for so long.
const SHOWN_AGAIN_MS: i64 = 10_000;
/// Requests that are remembered; further ones are answered afresh.
const MAX_ANSWERS: usize = 1_000;

/// Whether a call is a read that need not see the newest writes.
pub(crate) fn is_eventual(call: &Call) -> bool {
    let reads = ["Query", "Scan", "GetItem", "BatchGetItem"];
    let consistent = || call.body.windows(CONSISTENT.len()).any(|part| part == CONSISTENT);
    call.service == Service::Dynamodb && reads.contains(&call.operation.as_str()) && !consistent()
}

const CONSISTENT: &[u8] = br#""ConsistentRead":true"#;

/// What eventually consistent reads showed, and when.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    // Short looks by calls under a fault only; never held while waiting.
    answers: Mutex<BTreeMap<(String, String), (i64, Bytes)>>,
}

impl Shown {
    /// What the same request showed lately.
    pub(crate) fn again(&self, call: &Call, now_ms: i64) -> Option<Bytes> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at_ms, answer) = answers.get(&key(call)?)?;
        (now_ms - at_ms <= SHOWN_AGAIN_MS).then(|| answer.clone())
    }

    /// Remembers what a request shows.
    pub(crate) fn remember(&self, call: &Call, now_ms: i64, answer: Bytes) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) =
            key(call).filter(|key| answers.contains_key(key) || answers.len() < MAX_ANSWERS)
        {
            answers.insert(key, (now_ms, answer));
        }
    }
}

/// The request in a form that does not depend on the order in which its members were written.
fn key(call: &Call) -> Option<(String, String)> {
    let request: Value = serde_json::from_slice(&call.body).ok()?;
    Some((call.operation.clone(), request.to_string()))
}
