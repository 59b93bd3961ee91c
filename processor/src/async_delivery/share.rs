//! Which due buckets a worker looks into: each is one live worker's, so that looking costs the same however many there are.
//!
//! Workers may disagree for a while about who lives; then a bucket has two lookers, which the claims make safe, or none, until
//! the next round over all buckets. Pure, but for asking who lives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use store::DUE_BUCKETS;
use tokio::time::Instant;

/// So often a worker looks into every bucket, whosever it is.
const ALL_EVERY: Duration = Duration::from_secs(15);

/// Tells who lives, as this worker sees it: the names of workers.
#[derive(Clone)]
pub(crate) struct Peers(Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl Peers {
    /// Asked before each round; it must not wait.
    pub(crate) fn new(live: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Peers {
        Peers(Arc::new(live))
    }

    /// Nobody else.
    pub(crate) fn none() -> Peers {
        Peers::new(Vec::new)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.0)()).finish()
    }
}

/// A worker's share of the buckets.
#[derive(Debug)]
pub(super) struct Share {
    me: String,
    peers: Peers,
    all_at: Instant,
}

impl Share {
    /// The first round is over all buckets.
    pub(super) fn new(me: String, peers: Peers) -> Share {
        Share { me, peers, all_at: Instant::now() }
    }

    /// The buckets of the round that begins now, rising.
    pub(super) fn round(&mut self, now: Instant) -> Vec<u16> {
        let all = 0..DUE_BUCKETS;
        if now >= self.all_at {
            self.all_at = now + ALL_EVERY;
            return all.collect();
        }
        let live = (self.peers.0)();
        all.filter(|bucket| owner(*bucket, &self.me, &live) == self.me).collect()
    }
}

/// The worker whose bucket it is: when one leaves, its buckets alone change hands.
fn owner<'a>(bucket: u16, me: &'a str, live: &'a [String]) -> &'a str {
    let all = live.iter().map(String::as_str).chain([me]);
    all.max_by_key(|worker| (weight(bucket, worker), *worker)).unwrap_or(me)
}

fn weight(bucket: u16, worker: &str) -> [u8; 16] {
    let mut hash = Md5::new();
    hash.update(bucket.to_be_bytes());
    hash.update(worker.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn owners(live: &[String]) -> Vec<String> {
        (0..DUE_BUCKETS).map(|bucket| owner(bucket, &live[0], live).to_owned()).collect()
    }

    #[test]
    fn every_bucket_has_one_worker_and_a_departure_moves_its_buckets_alone() {
        let live: Vec<String> = (0..5).map(|n| format!("worker-{n}")).collect();
        let before = owners(&live);
        for me in &live {
            let seen: Vec<&str> = (0..DUE_BUCKETS).map(|b| owner(b, me, &live)).collect();
            assert_eq!(seen, before, "all see the same");
        }
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        before.iter().for_each(|worker| *counts.entry(worker).or_default() += 1);
        assert!(counts.len() >= 4, "{counts:?}");
        let fewer: Vec<String> = live.iter().filter(|w| *w != "worker-3").cloned().collect();
        for (was, is) in before.iter().zip(owners(&fewer)) {
            assert!(*was == is || was == "worker-3", "{was} -> {is}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_missed_is_seen_to_in_a_round_over_all() {
        let live = || vec!["a".to_owned(), "gone".to_owned()];
        let mut share = Share::new("a".to_owned(), Peers::new(live));
        let all: Vec<u16> = (0..DUE_BUCKETS).collect();
        assert_eq!(share.round(Instant::now()), all, "at the start");
        let mine = share.round(Instant::now());
        assert!(!mine.is_empty() && mine.len() < all.len(), "{mine:?}");
        tokio::time::advance(ALL_EVERY).await;
        assert_eq!(share.round(Instant::now()), all);
        let mut alone = Share::new("a".to_owned(), Peers::none());
        alone.round(Instant::now());
        assert_eq!(alone.round(Instant::now()), all);
    }
}
