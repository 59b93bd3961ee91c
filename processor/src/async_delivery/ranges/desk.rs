//! What all ranges of a worker share: the table that they are written to, the clock, and what is under way.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use store::{IntegrationName, OpenRange, RANGE_BUCKETS, SubscriptionId};

use super::Event;
use super::parts::RangesParts;
use super::shard::Shard;
use super::writes::{self, Wrote};
use crate::async_delivery::ledger::Job;
use crate::async_delivery::router::Scratch;
use crate::clock::wall_ms;

/// What work on one shard needs, and where it leaves what follows.
pub(super) struct Desk {
    pub(super) parts: RangesParts,
    pub(super) default_name: IntegrationName,
    pub(super) under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    /// How many ranges stand for each subscription.
    pub(super) standing: BTreeMap<SubscriptionId, usize>,
    /// Deliveries to be parked.
    pub(super) jobs: Vec<Job>,
    /// What routing writes into.
    pub(super) scratch: Scratch,
    rng: fastrand::Rng,
    pub(super) serial: u64,
}

impl Desk {
    /// For a courier's ranges.
    pub(super) fn new(parts: RangesParts) -> Desk {
        Desk {
            default_name: parts.integrations.default_integration().name().clone(),
            rng: fastrand::Rng::with_seed(parts.seed),
            under_way: FuturesUnordered::new(),
            standing: BTreeMap::new(),
            jobs: Vec::new(),
            scratch: Scratch::default(),
            serial: 0,
            parts,
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        wall_ms(&self.parts.time)
    }

    /// What no other holder has.
    pub(super) fn token(&mut self) -> String {
        self.serial += 1;
        format!("{}#{:016x}#{}", self.parts.worker, self.rng.u64(..), self.serial)
    }

    pub(super) fn claim_ms(&self) -> i64 {
        i64::try_from(self.parts.policy.claim.as_millis()).unwrap_or(i64::MAX)
    }

    /// How long the owner of a shard alone may take its ranges that nobody holds: it has looked into every bucket by then.
    pub(super) fn grace_ms(&self) -> i64 {
        let every_bucket = self.parts.policy.sweep.saturating_mul(u32::from(RANGE_BUCKETS) + 1);
        let every_bucket_ms = i64::try_from(every_bucket.as_millis()).unwrap_or(i64::MAX);
        every_bucket_ms.max(self.claim_ms() / 4)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.parts.closed.load(Ordering::Acquire)
    }

    pub(super) fn write(&mut self, shard: &Shard, range: Option<&OpenRange>, write: writes::Write) {
        let (store, key) = (self.parts.deliveries.clone(), shard.key.clone());
        let (tenure, subscription) = (shard.tenure, range.map(|range| range.subscription.clone()));
        self.under_way.push(Box::pin(async move {
            let outcome = writes::write(store, key.clone(), write).await;
            Event::Wrote(Wrote { shard: key, tenure, subscription, outcome })
        }));
    }
}
