//! Compares the streams' shards with the leases, on the one worker that every worker takes for the first of the fleet.
//! Two that do it at the same moment do no harm: every write is conditional.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::change::{Change, TRIMMED, after, write};
use crate::classify::CallError;
use crate::ids::{LeaseKey, ShardId};
use crate::invariants::uncovered;
use crate::lease::LeaseRecord;
use crate::lease_table::Outcome;
use crate::metrics;
use crate::options::StreamConfig;
use crate::shared::Shared;
use crate::sync::{AuditPlan, Filter, Incomplete, ListedShard, Stream, plan_audit, plan_initial};

/// How soon an audit that failed is tried again.
const SOON: Duration = Duration::from_secs(1);

pub(crate) async fn run(shared: &Arc<Shared>) {
    let mut absent: BTreeMap<String, BTreeSet<ShardId>> = BTreeMap::new();
    let mut snapshots = shared.snapshot.subscribe();
    loop {
        if !shared.is_leader() {
            // The fleet as read next may show that it is this worker's turn.
            absent.clear();
            let _ = snapshots.changed().await;
            continue;
        }
        let mut pause = shared.jittered(shared.options.sync_interval, 0.8);
        for stream in &shared.options.streams {
            let before = absent.get(&stream.arn).cloned().unwrap_or_default();
            match audit(shared, stream, &before).await {
                Ok(unlisted) => {
                    absent.insert(stream.arn.clone(), unlisted);
                }
                Err(error) => {
                    tracing::warn!(%error, stream = %stream.name, "auditing the shards failed");
                    metrics::failed(error.operation);
                    pause = shared.jittered(SOON, 0.5);
                }
            }
        }
        sleep(pause).await;
    }
}

/// One audit of one stream. Returns the shards with a lease that the listing did not show.
async fn audit(
    shared: &Shared,
    stream: &StreamConfig,
    absent_before: &BTreeSet<ShardId>,
) -> Result<BTreeSet<ShardId>, CallError> {
    let listed = shared.shards.list(stream, Filter::All).await?;
    let mut leases = shared.leases.list().await?.leases;
    leases.retain(|lease| shared.options.stream_of(&lease.key) == Some(stream));
    let (leases, stale): (Vec<_>, Vec<_>) =
        leases.into_iter().partition(|lease| shared.options.stream_of_lease(lease).is_some());
    clear(shared, &stale).await?;
    let view = Stream::new(stream, &listed, &leases);
    let now_ms = shared.now_ms();
    let key_of = |shard: &ShardId| lease_key(shared, stream, shard);
    let mut plan = plan_audit(&view, key_of, absent_before, now_ms);
    if plan.needs_initial {
        let initial = shared.shards.list(stream, view.initial_filter()).await?;
        let first = plan_initial(&view, &initial, key_of, now_ms).map_err(unbelievable)?;
        plan.create.extend(first.create);
        plan.passed = first.passed;
    }
    let uncovered = act(shared, &listed, &view, &plan).await?;
    let deleted = plan.delete.len() + stale.len();
    metrics::audited(plan.create.len(), plan.trim.len(), deleted, uncovered);
    Ok(plan.absent)
}

/// Deletes leases of an earlier stream of the same name, so that there is room for those of this one. The listing before
/// has shown that the configured stream is the one that exists, so whoever still writes the old leases reads nothing.
async fn clear(shared: &Shared, stale: &[LeaseRecord]) -> Result<(), CallError> {
    for lease in stale {
        let (shard, read_to) = (&lease.shard_id, &lease.checkpoint);
        if !shared.leases.delete_unfinished(lease).await? {
            let detail = format!("the lease of {shard}, of an earlier stream, changed meanwhile");
            let kind = crate::classify::Kind::Retry;
            return Err(CallError { operation: "delete lease", kind, detail });
        }
        let made_for = lease.stream_created_at_s;
        tracing::warn!(%shard, %read_to, ?made_for, "the stream was made again: a lease of the earlier one is deleted");
    }
    Ok(())
}

fn unbelievable(error: Incomplete) -> CallError {
    let kind = crate::classify::Kind::Retry;
    CallError { operation: "list shards", kind, detail: error.to_string() }
}

fn lease_key(shared: &Shared, stream: &StreamConfig, shard: &ShardId) -> LeaseKey {
    // The stream's identity was validated with the options.
    let key = shared.options.lease_key(stream, shard);
    key.unwrap_or_else(|_| LeaseKey::of_shard(shard))
}

async fn act(
    shared: &Shared,
    listed: &[ListedShard],
    view: &Stream<'_>,
    plan: &AuditPlan,
) -> Result<usize, CallError> {
    for lease in &plan.create {
        let created = shared.leases.create(lease).await?;
        let (shard, from) = (&lease.shard_id, &lease.checkpoint);
        tracing::info!(%shard, %from, created, "a shard without a lease was given one");
    }
    let by_key: BTreeMap<&LeaseKey, &LeaseRecord> =
        view.leases.values().map(|lease| (&lease.key, *lease)).collect();
    for lease in plan.trim.iter().filter_map(|key| by_key.get(key)) {
        trim(shared, lease).await?;
    }
    for lease in plan.delete.iter().filter_map(|key| by_key.get(key)) {
        let deleted = shared.leases.delete(lease).await?;
        tracing::info!(shard = %lease.shard_id, deleted, "a finished lease had had its time");
    }
    if !plan.create.is_empty() || !plan.trim.is_empty() {
        shared.read_soon.notify_one();
    }
    let parents = listed.iter().map(|s| (s.id.clone(), s.parents.iter().cloned().collect()));
    let now: Vec<LeaseRecord> =
        view.leases.values().map(|lease| (*lease).clone()).chain(plan.create.clone()).collect();
    let mut holes = uncovered(&parents.collect(), &now);
    holes.retain(|shard| !plan.passed.contains(shard));
    if !holes.is_empty() {
        tracing::error!(shards = ?holes, "no lease answers for these shards");
    }
    Ok(holes.len())
}

async fn trim(shared: &Shared, lease: &LeaseRecord) -> Result<(), CallError> {
    let Ok(next) = after(lease, &Change::Trim, &shared.options.lanes) else { return Ok(()) };
    let (shard, read_to) = (&lease.shard_id, &lease.checkpoint);
    match shared.leases.apply(&write(lease, next)).await? {
        Outcome::Done => {
            tracing::error!(%shard, %read_to, reason = TRIMMED, "the stream lost a shard's records before they were read");
        }
        Outcome::Refused(_) => tracing::info!(%shard, "a lease changed while it was looked at"),
    }
    Ok(())
}
