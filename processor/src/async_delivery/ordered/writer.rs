//! Reading and writing chains: one call at a time for each shard, in the order in which it was decided.
//!
//! What fails is tried again, for ever, until the shard is another's: what is not written is not settled, which is backpressure.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use store::{
    CHAIN_WRITES, Chain, ChainHead, ChainKey, ChainPage, ChainWrite, ChainedDelivery, DeadLetter,
    DeliveryStore, MessageId, PutOutcome, StoreError, SubscriptionId, Tenure, write_target,
};
use tokio::time::{sleep, timeout};

use super::{OpenShard, Standing};
use crate::async_delivery::delivery::{Live, Turn};
use crate::async_delivery::metrics;

/// A call that takes longer has an unknown outcome and is made again; every write here may be.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest pause before a call is made again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Messages of a chain that are read at once.
const PAGE: usize = 16;

/// Something to be written, in its turn.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub(in crate::async_delivery) enum Op {
    /// A write of a chain; `live` is settled by it.
    Write { key: ChainKey, write: ChainWrite, live: Option<Live>, in_front: bool },
    /// A dead letter.
    Letter(Box<Letter>),
}

/// A dead letter, and what it is of.
#[derive(Debug)]
pub(in crate::async_delivery) struct Letter {
    pub(in crate::async_delivery) key: ChainKey,
    pub(in crate::async_delivery) letter: DeadLetter,
    pub(in crate::async_delivery) then: Then,
}

/// What follows once a dead letter is written.
#[derive(Debug)]
pub(in crate::async_delivery) enum Then {
    /// The message, which came from the stream, is settled, and the next of its group goes on.
    Release(Live),
    /// The message is taken from its chain, which goes on.
    Next(Box<ChainedDelivery>, Turn),
    /// The chain stops.
    Stay,
}

impl Op {
    pub(in crate::async_delivery) fn write(
        key: &ChainKey,
        write: ChainWrite,
        live: Option<Live>,
        in_front: bool,
    ) -> Op {
        Op::Write { key: key.clone(), write, live, in_front }
    }

    pub(super) fn key(&self) -> &ChainKey {
        match self {
            Op::Write { key, .. } => key,
            Op::Letter(letter) => &letter.key,
        }
    }

    pub(super) fn is_append(&self) -> bool {
        matches!(self, Op::Write { write: ChainWrite::Append(_), .. })
    }

    /// The chain must not be read before it is written.
    pub(super) fn is_in_front(&self) -> bool {
        matches!(self, Op::Write { in_front: true, .. } | Op::Letter(_))
    }
}

/// What may be written by one call: a dead letter alone, or writes that do not touch the same item.
pub(super) fn next_batch(ops: &mut VecDeque<Op>) -> Vec<Op> {
    let mut targets: HashSet<(ChainKey, Option<MessageId>)> = HashSet::new();
    let mut batch = Vec::new();
    while batch.len() < CHAIN_WRITES {
        match ops.front() {
            Some(Op::Letter(_)) if batch.is_empty() => {
                batch.extend(ops.pop_front());
                return batch;
            }
            Some(Op::Write { key, write, .. }) => {
                let (key, message) = write_target(key, write);
                if !targets.insert((key.clone(), message.cloned())) {
                    return batch;
                }
                batch.extend(ops.pop_front());
            }
            _ => return batch,
        }
    }
    batch
}

/// A call that ended.
pub(in crate::async_delivery) enum Chore {
    /// A shard's chains; `None` if the shard is another worker's.
    Loaded { open: Arc<OpenShard>, found: Option<(Tenure, Standing)> },
    /// `done` is false if the shard is another worker's: nothing was, or will be, written.
    Wrote { open: Arc<OpenShard>, ops: Vec<Op>, done: bool },
    /// The first messages of a chain, or what was met.
    Read { key: ChainKey, turn: Turn, page: Result<ChainPage, String> },
    /// Where a chain stands that somebody else changes.
    Looked { key: ChainKey, head: Result<Option<ChainHead>, String> },
}

/// The chains of one subscription.
#[derive(Debug, Clone)]
pub(in crate::async_delivery) struct Chains {
    pub(in crate::async_delivery) store: DeliveryStore,
    pub(in crate::async_delivery) subscription: SubscriptionId,
}

type Work = BoxFuture<'static, Chore>;

impl Chains {
    /// Takes the tenure of a shard's chains, then loads them: what an earlier owner writes after that is refused.
    pub(in crate::async_delivery) fn load(&self, open: Arc<OpenShard>) -> Work {
        let Chains { store, subscription } = self.clone();
        Box::pin(async move {
            let shard = &open.shard;
            let load = || async {
                let tenure = store
                    .take_tenure(&subscription, &shard.stream_arn, &shard.shard_id, shard.fence)
                    .await?;
                let range = (shard.starting_hash_key, shard.ending_hash_key);
                let found =
                    store.chains_and_before(&subscription, &shard.stream_arn, range).await?;
                Ok((tenure, found))
            };
            let found = persist(&open, "load", load).await;
            Chore::Loaded { open, found }
        })
    }

    /// Writes what was decided.
    pub(in crate::async_delivery) fn write(
        &self,
        open: Arc<OpenShard>,
        tenure: Tenure,
        ops: Vec<Op>,
    ) -> Work {
        let store = self.store.clone();
        Box::pin(async move {
            let done = match ops.first() {
                Some(Op::Letter(letter)) => {
                    let letters = std::slice::from_ref(&letter.letter);
                    persist(&open, "dead-letter", || async {
                        match store.dead_letter(letters).await.outcomes.pop() {
                            Some(PutOutcome::Stored) => Ok(()),
                            other => Err(StoreError::Unavailable {
                                operation: "put a dead letter",
                                detail: format!("{other:?}"),
                            }),
                        }
                    })
                    .await
                }
                _ => {
                    let write = |op: &Op| match op {
                        Op::Write { key, write, .. } => Some((key.clone(), write.clone())),
                        Op::Letter(_) => None,
                    };
                    let writes: Vec<_> = ops.iter().filter_map(write).collect();
                    persist(&open, "chain", || store.write_chains(&tenure, &writes)).await
                }
            };
            Chore::Wrote { open, ops, done: done.is_some() }
        })
    }

    /// Reads the first messages of a chain.
    pub(in crate::async_delivery) fn read(&self, chain: Chain, turn: Turn) -> Work {
        let store = self.store.clone();
        Box::pin(async move {
            let page = once(store.chain_page(&chain, PAGE)).await;
            Chore::Read { key: chain.key, turn, page }
        })
    }

    /// Looks where a chain stands.
    pub(in crate::async_delivery) fn look(&self, chain: Chain) -> Work {
        let store = self.store.clone();
        Box::pin(async move {
            let head = once(store.chain(&chain)).await;
            Chore::Looked { key: chain.key, head }
        })
    }
}

async fn once<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(String::from("no answer in time")),
    }
}

/// Makes a call until it is answered; `None` once the shard is another worker's.
async fn persist<T, F, C>(open: &OpenShard, name: &'static str, mut call: F) -> Option<T>
where
    F: FnMut() -> C,
    C: Future<Output = Result<T, StoreError>>,
{
    let mut pause = PAUSES.0;
    for failures in 1u32.. {
        let why = match timeout(CALL_TIMEOUT, call()).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) if error.is_conflict() => {
                tracing::info!(shard = %open.shard.shard_id, "another worker works off a shard's chains");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => String::from("no answer in time"),
        };
        if open.lease.is_lost() {
            return None;
        }
        metrics::ledger_retry(name);
        if failures % 10 == 1 {
            tracing::warn!(job = name, failures, why, "a delivery write failed and is tried again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    None
}
