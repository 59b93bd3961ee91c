//! Joining the fleet, and the heartbeat. Delivery never blocks it: it is a task of its own and shares no loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::classify::CallError;
use crate::fleet_table::{Beat, MAX_CLEARED, News};
use crate::ids::{Incarnation, LeaseKey};
use crate::lease::Holder;
use crate::manager::LeaseManagerError;
use crate::metrics;
use crate::shared::Shared;
use crate::worker::{Ask, Figures, WorkerRecord, WorkerState};

/// How long a stopped or dead worker's item stays, in seconds.
pub(crate) const REMEMBERED_S: i64 = 24 * 3600;

const JOIN_PAUSE: Duration = Duration::from_millis(250);

/// Begins a new life: this worker's item is replaced, whatever it said. Tries until it is done or refused for good.
pub(crate) async fn join(shared: &Shared) -> Result<(), LeaseManagerError> {
    loop {
        match try_join(shared).await {
            Ok(true) => return Ok(()),
            // Somebody else joined under this name at the same moment.
            Ok(false) => {}
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "joining the fleet failed; trying again");
                metrics::failed(error.operation);
            }
        }
        sleep(shared.jittered(JOIN_PAUSE, 0.5)).await;
    }
}

async fn try_join(shared: &Shared) -> Result<bool, CallError> {
    let options = &shared.options;
    let previous = shared.fleet.get(&options.worker_id).await?;
    let now_ms = shared.now_ms();
    let incarnation = next_incarnation(previous.as_ref(), now_ms, shared.random_bits(11));
    let worker = WorkerRecord {
        version: options.version.clone(),
        max_leases: options.max_leases as u64,
        load: shared.notes().load,
        ..WorkerRecord::joining(options.worker_id.clone(), incarnation, now_ms)
    };
    let started = Instant::now();
    let joined = match shared.fleet.join(&worker, previous.as_ref()).await? {
        Beat::Alive(_) => true,
        // The reply to a write that did happen was lost.
        Beat::Refused(Some(is)) => is.incarnation == worker.incarnation,
        Beat::Refused(None) => false,
    };
    if joined {
        shared.validity.begin(worker.incarnation, started);
        let (id, incarnation) = (&worker.id, worker.incarnation);
        tracing::info!(worker = %id, %incarnation, "joined the fleet");
    }
    Ok(joined)
}

/// Larger than the last one, and different for two processes that start under one name in the same millisecond.
fn next_incarnation(previous: Option<&WorkerRecord>, now_ms: i64, random: u64) -> Incarnation {
    let now = u64::try_from(now_ms).unwrap_or(0) << 11 | random;
    Incarnation(previous.map_or(1, |worker| worker.incarnation.0 + 1).max(now))
}

/// What a refused heartbeat means.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// Others declared this worker dead, or removed it.
    DeclaredDead,
    /// A later life took this one's place.
    Replaced,
    /// The note of this worker's own stop had arrived before.
    Stopped,
}

fn judge(mine: Incarnation, actual: Option<&WorkerRecord>) -> Refusal {
    match actual {
        Some(is) if is.incarnation > mine => Refusal::Replaced,
        Some(is) if is.incarnation == mine && is.state == WorkerState::Stopped => Refusal::Stopped,
        _ => Refusal::DeclaredDead,
    }
}

/// Beats until the worker's stop is noted, or a later life took its place.
pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), LeaseManagerError> {
    let interval = shared.options.heartbeat_interval;
    let patience = interval.min(shared.options.call_timeout);
    let mut wanted = shared.wanted.subscribe();
    let mut said: Option<WorkerState> = None;
    let mut done: Vec<LeaseKey> = Vec::new();
    loop {
        let want = *wanted.borrow_and_update();
        let started = Instant::now();
        let Some(me) = shared.me() else {
            return Err(LeaseManagerError::HeartbeatEnded("this worker has no life".to_owned()));
        };
        let news = news(&shared, want, said, &done);
        let beat = timeout(patience, shared.fleet.beat(&me, &news)).await;
        let beat = beat.unwrap_or_else(|_| Err(CallError::timeout("heartbeat")));
        metrics::heartbeat(outcome(&beat), started.elapsed());
        match beat {
            Ok(Beat::Alive(is)) => {
                if said != Some(is.state) {
                    // What this worker is now decides what it and others do next: it should not see itself as it was.
                    shared.look_now.notify_one();
                }
                said = Some(is.state);
                if is.state == WorkerState::Stopped {
                    return Ok(());
                }
                accept(&shared, &is, started);
                done = dealt_with(&shared, is.asks);
            }
            Ok(Beat::Refused(actual)) => match judge(me.incarnation, actual.as_deref()) {
                Refusal::Stopped => return Ok(()),
                Refusal::Replaced => {
                    end_life(&shared, &me, "replaced");
                    return Err(LeaseManagerError::Replaced(me.worker));
                }
                Refusal::DeclaredDead => {
                    end_life(&shared, &me, "declared dead");
                    if want == WorkerState::Stopped {
                        return Ok(());
                    }
                    join(&shared).await?;
                    (said, done) = (None, Vec::new());
                    shared.read_soon.notify_one();
                    continue;
                }
            },
            Err(error) => tracing::warn!(%error, "heartbeat failed"),
        }
        let rest = shared.jittered(interval, 0.9).saturating_sub(started.elapsed());
        tokio::select! {
            biased;
            _ = wanted.changed() => {}
            () = sleep(rest) => {}
        }
    }
}

fn outcome(beat: &Result<Beat, CallError>) -> &'static str {
    match beat {
        Ok(Beat::Alive(_)) => "done",
        Ok(Beat::Refused(_)) => "refused",
        Err(_) => "failed",
    }
}

fn news(shared: &Shared, want: WorkerState, said: Option<WorkerState>, done: &[LeaseKey]) -> News {
    let throughput_kbps = shared.roster.throughput_kbps();
    let notes = shared.notes();
    let health = notes.health.iter().chain(&notes.own_health);
    let figures = Figures {
        leases: shared.roster.len() as u64,
        throughput_kbps,
        load: notes.load,
        health: health.map(|(name, why)| (name.clone(), why.clone())).collect(),
        plans: notes.plans,
    };
    drop(notes);
    let stops = want == WorkerState::Stopped;
    News {
        figures,
        enters: (said != Some(want)).then_some(want),
        done: done.to_vec(),
        expires_at_s: stops.then(|| shared.now_ms() / 1000 + REMEMBERED_S),
    }
}

/// The fleet counts on this worker for another period. Its mail goes to whom it concerns.
fn accept(shared: &Shared, is: &WorkerRecord, started: Instant) {
    if shared.validity.renew(started) {
        tracing::warn!("the leases had lapsed: reading them again before going on");
        shared.read_soon.notify_one();
    }
    if !is.asks.is_empty() {
        shared.notes().mail.extend(is.asks.clone());
        shared.own_soon.notify_one();
    }
}

/// Mail that the next heartbeat clears. An ask to move stays in the table until the lease is gone: so everybody sees that it
/// is on its way.
fn dealt_with(shared: &Shared, asks: BTreeMap<LeaseKey, Ask>) -> Vec<LeaseKey> {
    let open = |key: &LeaseKey, ask: &Ask| match ask {
        Ask::Assigned { .. } => false,
        Ask::Move { counter, .. } => {
            shared.roster.get(key).is_some_and(|held| held.lease.counter == *counter)
        }
    };
    let done = asks.into_iter().filter(|(key, ask)| !open(key, ask)).map(|(key, _)| key);
    done.take(MAX_CLEARED).collect()
}

fn end_life(shared: &Shared, me: &Holder, why: &'static str) {
    tracing::warn!(worker = %me.worker, incarnation = %me.incarnation, reason = why, "this life of the worker is over");
    shared.validity.end();
    shared.roster.lose_all(why);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WorkerId;

    fn worker(incarnation: u64, state: WorkerState) -> WorkerRecord {
        let id = WorkerId::parse("w").unwrap();
        WorkerRecord { state, ..WorkerRecord::joining(id, Incarnation(incarnation), 0) }
    }

    #[test]
    fn a_refused_heartbeat_says_why() {
        let mine = Incarnation(5);
        let judge = |is: Option<WorkerRecord>| judge(mine, is.as_ref());
        assert_eq!(judge(Some(worker(5, WorkerState::Dead))), Refusal::DeclaredDead);
        assert_eq!(judge(None), Refusal::DeclaredDead);
        assert_eq!(judge(Some(worker(5, WorkerState::Stopped))), Refusal::Stopped);
        assert_eq!(judge(Some(worker(6, WorkerState::Active))), Refusal::Replaced);
    }

    #[test]
    fn each_life_is_later_than_the_one_before() {
        let first = next_incarnation(None, 1_000, 3);
        assert!(next_incarnation(Some(&worker(first.0, WorkerState::Dead)), 1_000, 1) > first);
        // A clock that was set back makes no difference.
        assert!(next_incarnation(Some(&worker(first.0, WorkerState::Dead)), 10, 1) > first);
        assert_ne!(next_incarnation(None, 1_000, 3), next_incarnation(None, 1_000, 4));
    }
}
