//! Reads the leases, and acts: finds what was lost and what was given, takes orphans, has surplus moved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, sleep};

use crate::change::{Change, after, write};
use crate::classify::CallError;
use crate::handle::CheckpointError;
use crate::held::{Held, MOVE};
use crate::ids::{LeaseCounter, LeaseKey, WorkerId};
use crate::lease::{Holder, Lease, LeaseRecord, Progress};
use crate::lease_table::{Listing, Outcome};
use crate::metrics;
use crate::plan::{Action, Wishes, plan_takes};
use crate::shared::Shared;
use crate::standing::{LeaseWatch, lease_views, owned, worker_views};
use crate::still::Reading;
use crate::view::{OrphanReason, Standing};
use crate::writer::change_held;

/// Conditional writes under way at once.
const CONCURRENCY: usize = 16;
/// Readings of the leases never follow each other closer than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The next reading after one that failed, and while leases are moving and have deadlines.
const SOON: Duration = Duration::from_secs(1);

pub(crate) async fn run(shared: &Arc<Shared>) {
    let mut watch = LeaseWatch::new(&shared.options);
    loop {
        let read = step(shared, &mut watch).await;
        if let Err(error) = &read {
            tracing::warn!(%error, "reading the leases failed");
            metrics::failed(error.operation);
        }
        sleep(SHORTEST_PAUSE).await;
        let moving = shared.roster.all().iter().any(|held| held.order().is_some());
        let soon = moving || read.is_err();
        let pause = if soon { SOON } else { shared.options.plan_interval };
        tokio::select! {
            biased;
            () = shared.plan_soon.notified() => {}
            () = sleep(shared.jittered(pause, 0.8)) => {}
        }
    }
}

async fn step(shared: &Arc<Shared>, watch: &mut LeaseWatch) -> Result<(), CallError> {
    give_up_abandoned(shared).await;
    let Some(me) = shared.me() else { return Ok(()) };
    fetch_given(shared, &me).await;
    let lapses = shared.validity.lapses();
    let started = Instant::now();
    let listing = shared.leases.list().await?;
    let reading = Reading { started, ended: Instant::now() };
    report_bad(&listing);
    let mine = |lease: &LeaseRecord| shared.options.stream_of_lease(lease).is_some();
    let leases: Vec<LeaseRecord> = listing.leases.into_iter().filter(mine).collect();
    find_lost(shared, &leases).await;
    shared.validity.verify(lapses);
    let standings = publish(shared, watch, reading, &leases);
    for lease in leases.iter().filter(|l| standings.get(&l.key) == Some(&Standing::Owned)) {
        adopt(shared, &me, lease, "given");
    }
    if shared.validity.holds() && shared.me().as_ref() == Some(&me) {
        act(shared, &me, &leases).await;
    }
    Ok(())
}

fn report_bad(listing: &Listing) {
    for error in &listing.bad {
        tracing::error!(%error, "a lease cannot be read; its shard is not consumed by this worker");
    }
}

fn publish(
    shared: &Shared,
    watch: &mut LeaseWatch,
    reading: Reading,
    leases: &[LeaseRecord],
) -> BTreeMap<LeaseKey, Standing> {
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let standings = watch.read(reading, leases, &snapshot);
    let views = lease_views(leases, &standings, &shared.options.lanes);
    shared.notes().given.clear();
    let now_ms = shared.now_ms();
    shared.update_view(|view| {
        view.leases = views;
        view.leases_read_at_ms = now_ms;
        view.workers = worker_views(&snapshot, &owned(&view.leases));
    });
    standings
}

/// A counter that rose, or a lease that is gone, proves a loss. A lower counter only shows that the reading is older.
async fn find_lost(shared: &Shared, leases: &[LeaseRecord]) {
    let by_key: BTreeMap<&LeaseKey, &LeaseRecord> = leases.iter().map(|l| (&l.key, l)).collect();
    for held in shared.roster.all() {
        let key = &held.lease.key;
        match by_key.get(key) {
            Some(lease) if lease.counter < held.lease.counter || held.is_mine(lease) => {}
            // A giving up of its own is under way; it says itself how it ended.
            Some(lease) if held.doubt().as_ref() == Some(*lease) => {}
            Some(_) => shared.roster.lose(&held, "owned by another"),
            None => match shared.leases.get(key).await {
                Ok(None) => shared.roster.lose(&held, "deleted"),
                Ok(Some(_)) => {}
                Err(error) => tracing::warn!(%error, "looking for a missing lease failed"),
            },
        }
    }
}

/// Leases that the mail says were given to this worker are fetched one by one, without waiting for the next reading.
async fn fetch_given(shared: &Arc<Shared>, me: &Holder) {
    let mail = std::mem::take(&mut shared.notes().mail);
    let fetch = |(key, counter): (LeaseKey, LeaseCounter)| async move {
        if shared.roster.get(&key).is_some_and(|held| held.lease.counter >= counter) {
            return;
        }
        match shared.leases.get(&key).await {
            Ok(Some(lease)) if shared.options.stream_of_lease(&lease).is_some() => {
                adopt(shared, me, &lease, "given");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a lease that was given is left to the next reading")
            }
        }
    };
    stream::iter(mail).for_each_concurrent(CONCURRENCY, fetch).await;
}

/// Takes in a lease that the table says is this worker's in its present life.
fn adopt(shared: &Arc<Shared>, me: &Holder, record: &LeaseRecord, how: &'static str) {
    let mine = record.owner.as_ref() == Some(&me.worker)
        && record.granted_to() == Some(me.incarnation)
        && !record.is_finished();
    let known = shared.roster.get(&record.key);
    let newer = known.is_none_or(|held| held.lease.counter < record.counter);
    // Between the reading and now this worker's life may have ended: then nothing of it is taken in.
    if !mine || !newer || shared.me().as_ref() != Some(me) {
        return;
    }
    let Some(stream) = shared.options.stream_of_lease(record) else { return };
    let lease = Lease {
        key: record.key.clone(),
        shard_id: record.shard_id.clone(),
        stream_arn: stream.arn.clone(),
        counter: record.counter,
        checkpoint: record.checkpoint.clone(),
        lanes: record.believed_lanes(&shared.options.lanes),
        start_at_ms: record.start_at_ms,
        read_to: record.read_to.clone(),
        parents: record.parents.clone(),
        hash_range: record.hash_range,
    };
    let (shard, counter) = (lease.shard_id.clone(), lease.counter);
    if shared.roster.add(Held::new(lease, me.clone(), record.clone())) {
        let reason = record.reason.as_deref().unwrap_or_default();
        tracing::info!(%shard, owner = %me.worker, %counter, how, reason, "lease acquired");
        metrics::acquired(how);
    }
}

async fn act(shared: &Arc<Shared>, me: &Holder, leases: &[LeaseRecord]) {
    let view = Arc::clone(&shared.view.borrow());
    let actions = plan_takes(&view, &me.worker, &wishes(shared));
    let by_key: BTreeMap<&LeaseKey, &LeaseRecord> = leases.iter().map(|l| (&l.key, l)).collect();
    let mut takes = Vec::new();
    for action in &actions {
        match action {
            Action::Take { key, why } => takes.extend(by_key.get(key).map(|lease| (*lease, *why))),
            Action::HandOver { key, to } => ask_move(shared, key, to),
        }
    }
    let room = shared.options.max_leases.saturating_sub(shared.roster.len());
    let take = |(lease, why)| take(shared, me, lease, why);
    stream::iter(takes.into_iter().take(room)).for_each_concurrent(CONCURRENCY, take).await;
}

fn wishes(shared: &Shared) -> Wishes {
    let forget_after = shared.options.foreign_detection;
    let three_periods = shared.options.failure_detection.as_millis() * 3;
    let ordered = |held: Arc<Held>| held.order().map(|order| (held.lease.key.clone(), order.to));
    let mut notes = shared.notes();
    notes.refuse.retain(|_, since| since.elapsed() < forget_after);
    Wishes {
        prefer: std::mem::take(&mut notes.prefer),
        refuse: notes.refuse.keys().cloned().collect(),
        moving: shared.roster.all().into_iter().filter_map(ordered).collect(),
        anybody_after_ms: u64::try_from(three_periods).unwrap_or(u64::MAX),
    }
}

fn ask_move(shared: &Shared, key: &LeaseKey, to: &WorkerId) {
    if let Some(held) = shared.roster.get(key) {
        tracing::info!(shard = %held.lease.shard_id, owner = %held.holder.worker, %to, counter = %held.lease.counter, "lease is to move");
        held.ask_release(Some(to.clone()), MOVE);
    }
}

async fn take(shared: &Arc<Shared>, me: &Holder, seen: &LeaseRecord, why: OrphanReason) {
    let change = Change::Take { to: me.clone(), reason: why.code().to_owned() };
    let Ok(next) = after(seen, &change, &shared.options.lanes) else { return };
    let write = write(seen, next);
    match shared.leases.apply(&write).await {
        Ok(Outcome::Done) => adopt(shared, me, &write.after, why.code()),
        Ok(Outcome::Refused(Some(is))) if *is == write.after => {
            adopt(shared, me, &write.after, why.code());
        }
        Ok(Outcome::Refused(is)) => {
            let by = is.and_then(|is| is.owner).map_or("nobody".to_owned(), |o| o.to_string());
            tracing::debug!(shard = %seen.shard_id, %by, "an orphan was taken by another");
        }
        // If it did happen, the next reading shows it.
        Err(error) => {
            tracing::warn!(%error, shard = %seen.shard_id, "taking a lease failed");
            metrics::failed(error.operation);
            shared.plan_soon.notify_one();
        }
    }
}

/// Leases whose consumer broke down, or did not drain by the deadline of its move, are given up at their last checkpoint.
/// A stop has a deadline of its own.
pub(crate) async fn give_up_abandoned(shared: &Arc<Shared>) {
    let deadline = shared.options.handoff_deadline;
    for held in shared.roster.all() {
        let order = held.order();
        let overdue = order
            .as_ref()
            .is_some_and(|order| order.reason == MOVE && order.since.elapsed() >= deadline);
        if !overdue && !held.is_abandoned() {
            continue;
        }
        let why = if held.is_abandoned() {
            "its consumer broke down"
        } else {
            "it did not drain in time"
        };
        tracing::warn!(shard = %held.lease.shard_id, counter = %held.lease.counter, reason = why, "lease given up at its last checkpoint");
        if order.is_none() {
            shared.notes().refuse.insert(held.lease.key.clone(), Instant::now());
        }
        let change = Change::Release { progress: Progress::default(), reason: why.to_owned() };
        match change_held(shared, &held, &change).await {
            Ok(_) => {
                metrics::given_up("at-last-checkpoint");
                shared.roster.lose(&held, why);
            }
            Err(CheckpointError::Lost) => {}
            Err(error) => tracing::warn!(%error, "giving a lease up failed"),
        }
    }
}
