//! Shards x leases: which leases are missing, which shards are lost, which leases have had their time. Pure.
//!
//! The rule that keeps records from being read twice: no lease is made for a shard any descendant of which has one. The
//! rule that keeps records from being missed: the child of a shard that was read to its end starts at its oldest record,
//! and a shard that nobody's reading leads to starts where the stream's reading began.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::ids::{LeaseKey, ShardId};
use crate::lease::{HashRange, LeaseRecord};
use crate::options::{InitialPosition, StreamConfig};
use crate::sync::{Filter, ListedShard};

/// One stream's shards and leases, and how the two are related.
pub(crate) struct Stream<'a> {
    pub(crate) config: &'a StreamConfig,
    pub(crate) listed: &'a [ListedShard],
    pub(crate) leases: BTreeMap<&'a ShardId, &'a LeaseRecord>,
    lineage: Lineage,
}

/// Who descends from whom, by the listing and by the leases together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lineage {
    parents: BTreeMap<ShardId, BTreeSet<ShardId>>,
    children: BTreeMap<ShardId, BTreeSet<ShardId>>,
}

impl Lineage {
    pub(crate) fn new(
        listed: impl IntoIterator<Item = (ShardId, Vec<ShardId>)>,
        leases: &BTreeMap<&ShardId, &LeaseRecord>,
    ) -> Self {
        let mut lineage = Self::default();
        for (child, parents) in listed {
            parents.iter().for_each(|parent| lineage.relate(parent, &child));
        }
        for (shard, lease) in leases {
            lease.parents.iter().for_each(|parent| lineage.relate(parent, shard));
            lease.children.iter().for_each(|child| lineage.relate(shard, child));
        }
        lineage
    }

    fn relate(&mut self, parent: &ShardId, child: &ShardId) {
        self.parents.entry(child.clone()).or_default().insert(parent.clone());
        self.children.entry(parent.clone()).or_default().insert(child.clone());
    }

    fn parents(&self, shard: &ShardId) -> impl Iterator<Item = &ShardId> {
        self.parents.get(shard).into_iter().flatten()
    }

    fn children(&self, shard: &ShardId) -> impl Iterator<Item = &ShardId> {
        self.children.get(shard).into_iter().flatten()
    }

    /// True if a shard reached over `next` from `shard`, not `shard` itself, is wanted.
    fn reaches(
        next: &BTreeMap<ShardId, BTreeSet<ShardId>>,
        shard: &ShardId,
        wanted: impl Fn(&ShardId) -> bool,
    ) -> bool {
        let mut seen = BTreeSet::from([shard]);
        let mut open = vec![shard];
        while let Some(shard) = open.pop() {
            for relative in next.get(shard).into_iter().flatten() {
                if wanted(relative) {
                    return true;
                }
                if seen.insert(relative) {
                    open.push(relative);
                }
            }
        }
        false
    }

    /// What is to be done about a shard without a lease. `ended` are the shards that were read to their end.
    pub(crate) fn call_for(
        &self,
        shard: &ShardId,
        leases: &BTreeMap<&ShardId, &LeaseRecord>,
        ended: impl Fn(&ShardId) -> bool,
    ) -> Call {
        // A lease at the oldest record was made by the end of a parent, which says nothing of another parent, and nothing of
        // that one if its own lease is lost; every other lease says that its ancestors need none.
        let speaks = |id: &ShardId| {
            leases.get(id).is_some_and(|lease| lease.checkpoint != Checkpoint::TrimHorizon)
        };
        let will_be_read = |id: &ShardId| {
            if leases.contains_key(id) {
                !ended(id)
            } else {
                self.parents(id).any(&ended) && !self.any_descendant(id, speaks)
            }
        };
        if self.any_descendant(shard, speaks) {
            Call::Settled
        } else if self.parents(shard).any(&ended) {
            Call::FromTheStart
        } else if self.any_ancestor(shard, will_be_read) {
            Call::AncestorWill
        } else {
            Call::Initial
        }
    }

    fn any_descendant(&self, of: &ShardId, wanted: impl Fn(&ShardId) -> bool) -> bool {
        Self::reaches(&self.children, of, wanted)
    }

    pub(crate) fn any_ancestor(&self, of: &ShardId, wanted: impl Fn(&ShardId) -> bool) -> bool {
        Self::reaches(&self.parents, of, wanted)
    }
}

/// What the relatives of a shard without a lease say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// A descendant's lease shows that the shard was read, or was never to be read.
    Settled,
    /// An ancestor is still to be read; its end makes the lease.
    AncestorWill,
    /// A parent was read to its end, so the shard is to be read from its oldest record on.
    FromTheStart,
    /// No relative answers for it: the stream's initial position decides.
    Initial,
}

/// What an audit found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct AuditPlan {
    /// Leases to be made.
    pub(crate) create: Vec<LeaseRecord>,
    /// Leases whose shards fell out of the stream with records unread.
    pub(crate) trim: Vec<LeaseKey>,
    /// Finished leases that nothing needs any more.
    pub(crate) delete: Vec<LeaseKey>,
    /// Shards with a lease that this listing does not show. Those that the next one does not show either are gone.
    pub(crate) absent: BTreeSet<ShardId>,
    /// Shards that nobody answers for and that were closed before the stream's reading began: nothing of them is owed.
    pub(crate) passed: BTreeSet<ShardId>,
    /// True if shards have no lease and no relative that answers for them: the listing of the initial position says which to read.
    pub(crate) needs_initial: bool,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(
        config: &'a StreamConfig,
        listed: &'a [ListedShard],
        leases: impl IntoIterator<Item = &'a LeaseRecord>,
    ) -> Self {
        let leases: BTreeMap<_, _> = leases.into_iter().map(|l| (&l.shard_id, l)).collect();
        let by_listing = listed.iter().map(|shard| (shard.id.clone(), shard.parents.clone()));
        let lineage = Lineage::new(by_listing, &leases);
        Self { config, listed, leases, lineage }
    }

    fn has_lease(&self, shard: &ShardId) -> bool {
        self.leases.contains_key(shard)
    }

    fn has_ended(&self, shard: &ShardId) -> bool {
        let ended = |l: &&LeaseRecord| l.is_finished() || l.read_to == Some(Checkpoint::ShardEnd);
        self.leases.get(shard).is_some_and(ended)
    }

    /// The stream's reading began here, in milliseconds since 1970; `None` before the first lease.
    fn began_at_ms(&self) -> Option<i64> {
        self.leases.values().filter_map(|lease| lease.start_at_ms).min()
    }

    /// The listing that names the shards to be read from the initial position on.
    pub(crate) fn initial_filter(&self) -> Filter {
        match (self.config.initial, self.began_at_ms()) {
            (InitialPosition::TrimHorizon, _) => Filter::AtTrimHorizon,
            (InitialPosition::AtTimestamp(ms), _) => Filter::AtTimestamp(ms),
            // The first start was interrupted, or a lease was deleted: as of then, not as of now.
            (InitialPosition::Latest, Some(began)) => Filter::AtTimestamp(began),
            (InitialPosition::Latest, None) => Filter::AtLatest,
        }
    }

    fn lease(
        &self,
        shard: &ListedShard,
        key: LeaseKey,
        checkpoint: Checkpoint,
        start_at_ms: i64,
    ) -> LeaseRecord {
        let mut lease = LeaseRecord::new(key, checkpoint, start_at_ms);
        lease.stream_created_at_s = self.config.created_at_s();
        lease.parents.extend(shard.parents.iter().cloned());
        lease.hash_range = Some(shard.range);
        lease
    }
}

/// Compares a full listing with the leases. `absent_before` are the shards that the listing before did not show.
pub(crate) fn plan_audit(
    stream: &Stream<'_>,
    key_of: impl Fn(&ShardId) -> LeaseKey,
    absent_before: &BTreeSet<ShardId>,
    now_ms: i64,
) -> AuditPlan {
    let mut plan = AuditPlan::default();
    if stream.listed.is_empty() {
        // Every stream has a shard: this says something of the service, and nothing of the leases.
        return plan;
    }
    let listed: BTreeSet<&ShardId> = stream.listed.iter().map(|shard| &shard.id).collect();
    let mut trimmed = BTreeSet::new();
    for (shard, lease) in &stream.leases {
        let unlisted = !listed.contains(*shard);
        if unlisted {
            plan.absent.insert((*shard).clone());
        }
        let gone = unlisted && absent_before.contains(*shard);
        if gone && !lease.is_finished() {
            plan.trim.push(lease.key.clone());
            trimmed.insert(*shard);
        } else if gone && moved_on(stream, lease, &listed) {
            plan.delete.push(lease.key.clone());
        }
    }
    let ended = |id: &ShardId| stream.has_ended(id) || trimmed.contains(id);
    for shard in stream.listed.iter().filter(|shard| !stream.has_lease(&shard.id)) {
        match stream.lineage.call_for(&shard.id, &stream.leases, ended) {
            Call::Settled | Call::AncestorWill => {}
            Call::FromTheStart => {
                let (key, from) = (key_of(&shard.id), Checkpoint::TrimHorizon);
                plan.create.push(stream.lease(shard, key, from, now_ms));
            }
            Call::Initial => plan.needs_initial = true,
        }
    }
    plan
}

/// The children of a finished shard have begun, or are gone themselves.
fn moved_on(stream: &Stream<'_>, lease: &LeaseRecord, listed: &BTreeSet<&ShardId>) -> bool {
    let begun = |child: &ShardId| match stream.leases.get(child) {
        Some(child) => child.checkpoint.has_moved(),
        None => !listed.contains(child),
    };
    stream.lineage.children(&lease.shard_id).all(begun)
}

/// What the listing of the initial position says.
#[derive(Debug, PartialEq)]
pub(crate) struct InitialPlan {
    /// Leases to be made.
    pub(crate) create: Vec<LeaseRecord>,
    /// Shards without a lease that closed before the initial position: nothing of them is owed.
    pub(crate) passed: BTreeSet<ShardId>,
}

/// The leases that are missing at the initial position. `initial` is the listing by [`Stream::initial_filter`]; it lies in
/// the service's answer, not in ours, which shards were open at a moment.
pub(crate) fn plan_initial(
    stream: &Stream<'_>,
    initial: &[ListedShard],
    key_of: impl Fn(&ShardId) -> LeaseKey,
    now_ms: i64,
) -> Result<InitialPlan, Incomplete> {
    if stream.leases.is_empty() && !tiles(initial.iter().map(|shard| shard.range).collect()) {
        return Err(Incomplete);
    }
    let (from, start_at_ms) = match stream.config.initial {
        InitialPosition::TrimHorizon => (Checkpoint::TrimHorizon, now_ms),
        InitialPosition::AtTimestamp(ms) => (Checkpoint::AtTimestamp, ms),
        InitialPosition::Latest => (Checkpoint::Latest, stream.began_at_ms().unwrap_or(now_ms)),
    };
    // The second listing may show children that the first one does not know of.
    let both = stream.listed.iter().chain(initial).map(|s| (s.id.clone(), s.parents.clone()));
    let lineage = Lineage::new(both, &stream.leases);
    let unanswered = |shard: &&ListedShard| {
        let call = || lineage.call_for(&shard.id, &stream.leases, |id| stream.has_ended(id));
        !stream.has_lease(&shard.id) && call() == Call::Initial
    };
    let then: BTreeSet<&ShardId> = initial.iter().map(|shard| &shard.id).collect();
    let first: Vec<&ListedShard> = initial.iter().filter(unanswered).collect();
    let others = stream.listed.iter().filter(unanswered).filter(|s| !then.contains(&s.id));
    let (later, earlier): (Vec<_>, Vec<_>) =
        others.partition(|shard| lineage.any_ancestor(&shard.id, |id| then.contains(id)));
    let forgotten = forgotten(&lineage, &first, &later);
    let start = |shard: &&ListedShard, from: &Checkpoint, at_ms| {
        stream.lease(shard, key_of(&shard.id), from.clone(), at_ms)
    };
    let first = first.iter().map(|shard| start(shard, &from, start_at_ms));
    let forgotten = forgotten.iter().map(|shard| start(shard, &Checkpoint::TrimHorizon, now_ms));
    Ok(InitialPlan {
        create: first.chain(forgotten).collect(),
        passed: earlier.into_iter().map(|shard| shard.id.clone()).collect(),
    })
}

/// Of the shards that came after the initial position: those whose ancestors need no reading any more, as the leases of other
/// descendants show, and that have lost their own lease. All that they hold is owed. Of shards that descend from each other
/// it is the oldest; its end makes the others' leases.
fn forgotten<'a>(
    lineage: &Lineage,
    first: &[&ListedShard],
    later: &[&'a ListedShard],
) -> Vec<&'a ListedShard> {
    let first: BTreeSet<&ShardId> = first.iter().map(|shard| &shard.id).collect();
    let open: BTreeSet<&ShardId> =
        later.iter().map(|shard| &shard.id).chain(first.iter().copied()).collect();
    let is_oldest = |shard: &&&ListedShard| {
        !lineage.any_ancestor(&shard.id, |id| open.contains(id))
            && !lineage.any_descendant(&shard.id, |id| first.contains(id))
    };
    later.iter().filter(is_oldest).copied().collect()
}

/// A first listing that cannot be the whole stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the first listing has holes or overlaps")]
pub(crate) struct Incomplete;

/// True if the ranges cover the whole hash space without a hole or an overlap.
fn tiles(mut ranges: Vec<HashRange>) -> bool {
    ranges.sort_unstable();
    let mut next = Some(0_u128);
    for range in ranges {
        if next != Some(range.start) {
            return false;
        }
        next = range.end.checked_add(1);
    }
    // Only a range that ends with the last hash key leaves nothing to start at.
    next.is_none()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
