//! Looks after the leases that this worker owns, is given or should take by itself: its mail, its orders, the children of the
//! shards that it read to their ends, and what was lost without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::change::{Change, after, write};
use crate::classify::CallError;
use crate::gate::Gates;
use crate::give_up;
use crate::handle::sibling_key;
use crate::held::{ASKED, Held, MOVE};
use crate::ids::{LaneName, LeaseKey};
use crate::lease::{Holder, Lease, LeaseRecord};
use crate::lease_table::Outcome;
use crate::metrics;
use crate::shared::Shared;
use crate::worker::Ask;

/// Calls under way at once.
pub(super) const CONCURRENCY: usize = 32;

/// Does what there is to do. `false`: something is left for the next time.
pub(super) async fn look_after(shared: &Arc<Shared>) -> bool {
    give_up_overdue(shared).await;
    let Some(me) = shared.me() else { return true };
    let mail = std::mem::take(&mut shared.notes().mail);
    let children = std::mem::take(&mut shared.notes().children);
    let mut given = Vec::new();
    for (key, ask) in mail {
        match ask {
            Ask::Assigned { .. } => given.push(fetch_given(shared, &me, key, ask)),
            Ask::Move { counter, to } => {
                let held = shared.roster.get(&key).filter(|held| held.lease.counter == counter);
                if let Some(held) = held {
                    held.ask_release(to.clone(), if to.is_some() { MOVE } else { ASKED });
                }
            }
        }
    }
    let fetched = stream::iter(given).buffer_unordered(CONCURRENCY).collect::<Vec<bool>>();
    let (fetched, taken) = tokio::join!(fetched, take_children(shared, &me, children));
    open_gates(shared).await;
    fetched.into_iter().all(|done| done)
        && taken
        && !shared.roster.all().iter().any(|held| held.is_gated())
}

/// Leases that the mail says were given to this worker are fetched one by one, without waiting for the next reading.
async fn fetch_given(shared: &Arc<Shared>, me: &Holder, key: LeaseKey, ask: Ask) -> bool {
    if shared.roster.get(&key).is_some_and(|held| held.lease.counter >= ask.counter()) {
        return true;
    }
    match adopt_from_table(shared, me, &key).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "a lease that was given could not be fetched yet");
            shared.notes().mail.entry(key).or_insert(ask);
            false
        }
    }
}

async fn adopt_from_table(
    shared: &Arc<Shared>,
    me: &Holder,
    key: &LeaseKey,
) -> Result<(), CallError> {
    if let Some(record) = shared.leases.get(key).await?
        && is_new_to(shared, me, &record)
    {
        let open = open_lanes_of(shared, &record).await?;
        adopt(shared, me, &record, open, "given");
    }
    Ok(())
}

/// The lanes that may read the shard, by the parents' leases. Where a parent has none, every lease is looked at.
async fn open_lanes_of(
    shared: &Shared,
    record: &LeaseRecord,
) -> Result<BTreeSet<LaneName>, CallError> {
    let mut known = Vec::new();
    for parent in &record.parents {
        known.extend(shared.leases.get(&sibling_key(&record.key, parent)).await?);
    }
    let gates = Gates::new(&known);
    let lanes = &shared.options.lanes;
    if gates.knows_parents(record) || gates.open_lanes(record, lanes).is_empty() {
        return Ok(gates.open_lanes(record, lanes));
    }
    let all = shared.leases.list().await?.leases;
    Ok(Gates::new(&all).open_lanes(record, lanes))
}

/// True if the table says that the lease is this worker's in its present life, and this worker does not know yet.
fn is_new_to(shared: &Shared, me: &Holder, record: &LeaseRecord) -> bool {
    let mine = record.owner.as_ref() == Some(&me.worker)
        && record.granted_to() == Some(me.incarnation)
        && !record.is_finished();
    let known = shared.roster.get(&record.key);
    mine && known.is_none_or(|held| held.lease.counter < record.counter)
}

/// Takes in a lease that the table says is this worker's in its present life.
pub(super) fn adopt(
    shared: &Arc<Shared>,
    me: &Holder,
    record: &LeaseRecord,
    open: BTreeSet<LaneName>,
    how: &'static str,
) {
    // Between the reading and now this worker's life may have ended: then nothing of it is taken in.
    if !is_new_to(shared, me, record) || shared.me().as_ref() != Some(me) {
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
    if shared.roster.add(Held::new(lease, me.clone(), record.clone(), open)) {
        let reason = record.reason.as_deref().unwrap_or_default();
        tracing::info!(%shard, owner = %me.worker, %counter, how, reason, "lease acquired");
        metrics::acquired(how);
    }
}

/// Gives an orphan to this worker.
pub(super) async fn take(
    shared: &Arc<Shared>,
    me: &Holder,
    seen: &LeaseRecord,
    open: BTreeSet<LaneName>,
    why: &'static str,
) -> Result<(), CallError> {
    let change = Change::Take { to: me.clone(), reason: why.to_owned() };
    let Ok(next) = after(seen, &change, &shared.options.lanes) else { return Ok(()) };
    let write = write(seen, next);
    match shared.leases.apply(&write).await? {
        Outcome::Done => adopt(shared, me, &write.after, open, why),
        Outcome::Refused(Some(is)) if *is == write.after => {
            adopt(shared, me, &write.after, open, why);
        }
        Outcome::Refused(is) => {
            let by = is.and_then(|is| is.owner).map_or("nobody".to_owned(), |o| o.to_string());
            tracing::debug!(shard = %seen.shard_id, %by, "an orphan was taken by another");
        }
    }
    Ok(())
}

/// Whoever ends the last parent of a shard that nobody owns takes it: a reshard leaves no gap, and parents with different
/// owners wait for nobody.
async fn take_children(shared: &Arc<Shared>, me: &Holder, children: BTreeSet<LeaseKey>) -> bool {
    let mut done = true;
    for key in children {
        if let Err(error) = take_child(shared, me, &key).await {
            tracing::warn!(%error, lease = %key, "taking a child failed; it is tried again");
            metrics::failed(error.operation);
            shared.notes().children.insert(key);
            done = false;
        }
    }
    done
}

async fn take_child(shared: &Arc<Shared>, me: &Holder, key: &LeaseKey) -> Result<(), CallError> {
    let room = shared.roster.len() < shared.options.max_leases && shared.validity.holds();
    let Some(child) = shared.leases.get(key).await? else { return Ok(()) };
    if !room || child.owner.is_some() || child.is_finished() {
        return Ok(());
    }
    let open = open_lanes_of(shared, &child).await?;
    if open.is_empty() {
        return Ok(());
    }
    take(shared, me, &child, open, "child").await
}

/// Lanes that waited for a parent may start once the parent is settled to its end in that lane.
async fn open_gates(shared: &Arc<Shared>) {
    for held in shared.roster.all().into_iter().filter(|held| held.is_gated()) {
        match open_lanes_of(shared, &held.seen()).await {
            Ok(open) => {
                // What was let in once stays in.
                held.open_lanes.send_if_modified(|now| {
                    let before = now.len();
                    now.extend(open);
                    now.len() > before
                });
            }
            Err(error) => {
                tracing::debug!(%error, shard = %held.lease.shard_id, "looking at a shard's parents failed");
            }
        }
    }
}

/// Leases whose consumer broke down, or did not drain by the deadline of its move, are given up at their last checkpoint.
/// A stop has a deadline of its own.
pub(crate) async fn give_up_overdue(shared: &Arc<Shared>) {
    let deadline = shared.options.handoff_deadline;
    for held in shared.roster.all() {
        let overdue = held.order().is_some_and(|order| {
            matches!(order.reason, MOVE | ASKED) && order.since.elapsed() >= deadline
        });
        let why = match (held.is_abandoned(), overdue) {
            (true, _) => "its consumer broke down",
            (_, true) => "it did not drain in time",
            _ => continue,
        };
        give_up::at_last_checkpoint(shared, &held, why).await;
    }
}

/// The way by which nothing stays lost: the index says which leases are this worker's. It may lag behind, so that every
/// difference is looked at in the table.
pub(super) async fn discover(shared: &Arc<Shared>) -> Result<(), CallError> {
    let Some(me) = shared.me() else { return Ok(()) };
    let indexed = shared.leases.keys_of(&me.worker).await?;
    let held: BTreeMap<LeaseKey, Arc<Held>> =
        shared.roster.all().into_iter().map(|held| (held.lease.key.clone(), held)).collect();
    for key in indexed.iter().filter(|key| !held.contains_key(*key)) {
        if shared.options.stream_of(key).is_some() {
            adopt_from_table(shared, &me, key).await?;
        }
    }
    for (key, held) in held.iter().filter(|(key, _)| !indexed.contains(*key)) {
        look_at_lost(shared, key, held).await?;
    }
    Ok(())
}

/// A lease that may be lost is read before anybody is told.
pub(super) async fn look_at_lost(
    shared: &Shared,
    key: &LeaseKey,
    held: &Arc<Held>,
) -> Result<(), CallError> {
    match shared.leases.get(key).await? {
        None => shared.roster.lose(held, "deleted"),
        Some(is) => judge_lost(shared, held, &is),
    }
    Ok(())
}

/// A counter that rose proves a loss. A lower counter only shows that the reading is older.
pub(super) fn judge_lost(shared: &Shared, held: &Arc<Held>, is: &LeaseRecord) {
    let older = is.counter < held.lease.counter;
    // A giving up of its own is under way; it says itself how it ended.
    let own = held.doubt().as_ref() == Some(is);
    if !older && !held.is_mine(is) && !own {
        shared.roster.lose(held, "owned by another");
    }
}
