//! What may become of a lease, and the one conditional write that makes it so. Pure: nothing here talks to DynamoDB.
//!
//! [`after`] computes the record that a change leads to; [`write()`] is the difference of two records as an update whose
//! condition is that `rev`, owner and counter are still the ones that were seen. A write that lands late therefore undoes
//! nothing, and the owner's own writes are fenced by the counter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::checkpoint::Checkpoint;
use crate::ids::{LaneName, LeaseKey, ShardId};
use crate::item::{CHECKPOINT, COUNTER, LEASE_KEY, OWNER, PENDING, REV, number};
use crate::lease::{Grant, Holder, LanePosition, LeaseRecord, Progress};

/// The reason that marks a lease whose records fell out of the stream's retention unread.
pub(crate) const TRIMMED: &str = "trimmed";
/// What the reason begins with after an operator's own change.
pub(crate) const BY_OPERATOR: &str = "operator:";
/// The reason after an operator set the checkpoint.
const CHECKPOINT_SET: &str = "operator:set-checkpoint";

/// One change of a lease.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Give an orphan to a worker.
    Take { to: Holder, reason: String },
    /// The owner notes how far it has got.
    Checkpoint { progress: Progress },
    /// The owner notes how far it has got and gives the lease to another worker. `declined`: nobody asked it to, so it
    /// should not get the lease back.
    HandOver { progress: Progress, to: Holder, reason: String, declined: bool },
    /// The owner notes how far it has got and gives the lease to nobody.
    Release { progress: Progress, reason: String, declined: bool },
    /// The owner has settled the shard to its end in every lane.
    Finish { progress: Progress },
    /// The reader saw the shard's end, and the children's leases exist.
    ReaderEnded { children: BTreeSet<ShardId> },
    /// The stream no longer keeps the shard, whose records were not all read.
    Trim,
    /// An operator says where the lanes go on. The one change after which a checkpoint may stand further back (L3 is a
    /// promise about workers): it raises the counter and leaves no owner, so whoever read the shard is fenced, and it says
    /// in `reason` who did it.
    SetCheckpoint { lanes: BTreeMap<LaneName, Checkpoint>, start_at_ms: Option<i64> },
    /// A lease of the Kinesis Client Library gets the start time that it never kept. Nothing else of it changes.
    Adopt { start_at_ms: i64 },
}

impl Change {
    /// True if the owner is no longer the owner afterwards.
    pub(crate) fn gives_up(&self) -> bool {
        !matches!(self, Self::Checkpoint { .. } | Self::ReaderEnded { .. } | Self::Adopt { .. })
    }
}

/// A change that contradicts the lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("lane `{lane}` would go back from {from} to {to}")]
    LaneGoesBack { lane: LaneName, from: Checkpoint, to: Checkpoint },
    #[error("there is no lane `{0}`")]
    UnknownLane(LaneName),
    #[error("lane `{0}` is not at the shard's end")]
    NotEnded(LaneName),
    #[error("the shard's end was not read: its children may have no leases")]
    EndNotRead,
    #[error(
        "lane `{0}` has settled the whole shard: its children are being read, and records of both would be mixed"
    )]
    AlreadyEnded(LaneName),
    #[error(
        "lane `{lane}` at {at} has no sequence number to compare with: set every lane at once, without naming one"
    )]
    NotComparable { lane: LaneName, at: Checkpoint },
    #[error("an operator does not end a shard: the end is what a reader found")]
    EndIsNotSet,
}

/// The record that `change` makes of `seen`. `lanes` are the lanes that are configured.
pub(crate) fn after(
    seen: &LeaseRecord,
    change: &Change,
    lanes: &[LaneName],
) -> Result<LeaseRecord, ChangeError> {
    let mut next = seen.clone();
    next.rev = Some(seen.rev.unwrap_or(0).saturating_add(1));
    match change {
        Change::Take { to, reason } => give(&mut next, to, reason),
        Change::Checkpoint { progress } => advance(&mut next, progress, lanes)?,
        Change::HandOver { progress, to, reason, declined } => {
            advance(&mut next, progress, lanes)?;
            next.declined_by = owner_if(seen, *declined);
            give(&mut next, to, reason);
        }
        Change::Release { progress, reason, declined } => {
            advance(&mut next, progress, lanes)?;
            next.declined_by = owner_if(seen, *declined);
            next.counter = seen.counter.next();
            next.owner = None;
            next.grant = None;
            next.reason = Some(reason.clone());
        }
        Change::Finish { progress } => {
            advance(&mut next, progress, lanes)?;
            let open = next.lanes.iter().find(|(_, at)| at.checkpoint != Checkpoint::ShardEnd);
            if let Some((lane, _)) = open {
                return Err(ChangeError::NotEnded(lane.clone()));
            }
            next.counter = seen.counter.next();
            next.grant = None;
            next.reason = Some("finished".to_owned());
        }
        Change::ReaderEnded { children } => {
            next.children.extend(children.iter().cloned());
            next.read_to = Some(Checkpoint::ShardEnd);
        }
        Change::Trim => {
            next.checkpoint = Checkpoint::ShardEnd;
            next.lanes.values_mut().for_each(|at| at.checkpoint = Checkpoint::ShardEnd);
            next.read_to = Some(Checkpoint::ShardEnd);
            next.counter = seen.counter.next();
            next.owner = None;
            next.grant = None;
            next.reason = Some(TRIMMED.to_owned());
        }
        Change::SetCheckpoint { lanes: to, start_at_ms } => {
            set_checkpoint(&mut next, to, *start_at_ms, lanes)?;
        }
        Change::Adopt { start_at_ms } => next.start_at_ms = seen.start_at_ms.or(Some(*start_at_ms)),
    }
    Ok(next)
}

/// Lanes that are left out stay where they are. One lane alone can only be set while all of them have sequence numbers: a
/// lease has one start time for all its lanes, and "the newest record" is neither before nor behind a number.
fn set_checkpoint(
    next: &mut LeaseRecord,
    to: &BTreeMap<LaneName, Checkpoint>,
    start_at_ms: Option<i64>,
    lanes: &[LaneName],
) -> Result<(), ChangeError> {
    let mut positions = next.believed_lanes(lanes);
    for (lane, checkpoint) in to {
        let Some(at) = positions.get_mut(lane) else {
            return Err(ChangeError::UnknownLane(lane.clone()));
        };
        if at.checkpoint == Checkpoint::ShardEnd {
            return Err(ChangeError::AlreadyEnded(lane.clone()));
        }
        if *checkpoint == Checkpoint::ShardEnd {
            return Err(ChangeError::EndIsNotSet);
        }
        *at = LanePosition::at(checkpoint.clone());
    }
    let comparable = |at: &Checkpoint| at.has_moved() || *at == Checkpoint::TrimHorizon;
    let odd = |(lane, at): &(&LaneName, &LanePosition)| {
        let left_out = !to.contains_key(*lane) && !at.checkpoint.has_moved();
        left_out || !comparable(&at.checkpoint)
    };
    let some_left_out = positions.keys().any(|lane| !to.contains_key(lane));
    if let Some((lane, at)) = positions.iter().find(odd).filter(|_| some_left_out) {
        return Err(ChangeError::NotComparable { lane: lane.clone(), at: at.checkpoint.clone() });
    }
    next.checkpoint = smallest(&positions, &next.checkpoint);
    next.lanes = positions;
    next.start_at_ms = start_at_ms.or(next.start_at_ms);
    // Whether the children have leases stays true; how far the reader was does not.
    next.read_to = next.read_to.take().filter(|at| *at == Checkpoint::ShardEnd);
    next.counter = next.counter.next();
    next.owner = None;
    next.grant = None;
    next.owner_switches = 0;
    next.checkpoint_owner = None;
    next.reason = Some(CHECKPOINT_SET.to_owned());
    for name in PENDING {
        next.rest.remove(name);
    }
    Ok(())
}

fn owner_if(seen: &LeaseRecord, declined: bool) -> Option<Holder> {
    let worker = seen.owner.clone().filter(|_| declined)?;
    Some(Holder { worker, incarnation: seen.granted_to()? })
}

fn give(next: &mut LeaseRecord, to: &Holder, reason: &str) {
    next.counter = next.counter.next();
    next.owner = Some(to.worker.clone());
    next.grant = Some(Grant { counter: next.counter, incarnation: to.incarnation });
    next.owner_switches = next.owner_switches.saturating_add(1);
    next.checkpoint_owner = None;
    next.reason = Some(reason.to_owned());
    for name in PENDING {
        next.rest.remove(name);
    }
}

fn advance(
    next: &mut LeaseRecord,
    progress: &Progress,
    lanes: &[LaneName],
) -> Result<(), ChangeError> {
    let mut positions = next.believed_lanes(lanes);
    for (lane, to) in &progress.lanes {
        let Some(at) = positions.get_mut(lane) else {
            return Err(ChangeError::UnknownLane(lane.clone()));
        };
        if to.checkpoint < at.checkpoint {
            let (from, to) = (at.checkpoint.clone(), to.checkpoint.clone());
            return Err(ChangeError::LaneGoesBack { lane: lane.clone(), from, to });
        }
        *at = to.clone();
    }
    if next.read_to != Some(Checkpoint::ShardEnd) {
        // The end is noted by `ReaderEnded` only, because the children's leases must exist before.
        let read_to = progress.read_to.clone().filter(|to| *to != Checkpoint::ShardEnd);
        next.read_to = read_to.or(next.read_to.take());
    }
    next.checkpoint = smallest(&positions, &next.checkpoint);
    if next.checkpoint == Checkpoint::ShardEnd && next.read_to != Some(Checkpoint::ShardEnd) {
        return Err(ChangeError::EndNotRead);
    }
    next.lanes = positions;
    next.owner_switches = 0;
    if let Some(kbps) = progress.throughput_kbps.filter(|kbps| kbps.is_finite()) {
        // Six digits, as the Kinesis Client Library writes it; what is read back is then what was written.
        let rounded = (kbps.max(0.0) * 1e6).round() / 1e6;
        next.throughput_kbps = Some(rounded);
    }
    Ok(())
}

fn smallest(lanes: &BTreeMap<LaneName, LanePosition>, otherwise: &Checkpoint) -> Checkpoint {
    lanes.values().map(|at| &at.checkpoint).min().unwrap_or(otherwise).clone()
}

/// A conditional update of one lease.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) key: LeaseKey,
    pub(crate) update: String,
    pub(crate) condition: String,
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
    /// What the item is once the write happened: a refusal that shows exactly this was a success whose reply was lost.
    pub(crate) after: LeaseRecord,
}

/// A condition on what was seen, and the names and values that it uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Condition {
    pub(crate) text: String,
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
}

impl Condition {
    fn equals(&mut self, placeholder: &str, attribute: &str, seen: Option<AttributeValue>) {
        let name = format!("#{placeholder}");
        let term = match seen {
            None => format!("attribute_not_exists({name})"),
            Some(value) => {
                self.values.insert(format!(":{placeholder}"), value);
                format!("{name} = :{placeholder}")
            }
        };
        let joint = if self.text.is_empty() { "" } else { " AND " };
        self.text.push_str(&format!("{joint}{term}"));
        self.names.insert(name, attribute.to_owned());
    }

    /// The lease is still as it was seen: nobody wrote it (`rev`), and nobody else owns it.
    pub(crate) fn unchanged(seen: &LeaseRecord) -> Self {
        let mut condition = Self::default();
        condition.equals("seenCounter", COUNTER, Some(number(seen.counter)));
        let owner = seen.owner.as_ref().map(|o| AttributeValue::S(o.as_str().to_owned()));
        condition.equals("seenOwner", OWNER, owner);
        condition.equals("seenRev", REV, seen.rev.map(number));
        condition
    }

    /// As [`Condition::unchanged`], and the shard is finished.
    pub(crate) fn finished(seen: &LeaseRecord) -> Self {
        let mut condition = Self::unchanged(seen);
        let end = AttributeValue::S(Checkpoint::ShardEnd.text().to_owned());
        condition.equals("seenCheckpoint", CHECKPOINT, Some(end));
        condition
    }
}

/// The update that makes `after` of `seen`, if nobody wrote the lease in between.
pub(crate) fn write(seen: &LeaseRecord, after: LeaseRecord) -> Write {
    let Condition { text: condition, mut names, mut values } = Condition::unchanged(seen);
    let (old, new) = (seen.to_item(), after.to_item());
    let (mut sets, mut removes) = (Vec::new(), Vec::new());
    let attributes: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for (n, attribute) in attributes.into_iter().enumerate() {
        let (was, is) = (old.get(attribute), new.get(attribute));
        if was == is || attribute == LEASE_KEY {
            continue;
        }
        names.insert(format!("#a{n}"), attribute.clone());
        match is {
            Some(value) => {
                values.insert(format!(":a{n}"), value.clone());
                sets.push(format!("#a{n} = :a{n}"));
            }
            None => removes.push(format!("#a{n}")),
        }
    }
    let mut update = format!("SET {}", sets.join(", "));
    if !removes.is_empty() {
        update.push_str(&format!(" REMOVE {}", removes.join(", ")));
    }
    Write { key: seen.key.clone(), update, condition, names, values, after }
}

#[cfg(test)]
mod tests;
