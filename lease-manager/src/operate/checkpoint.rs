//! Setting where a shard's lanes go on: what it would mean is shown first, and then it is one conditional write.

use std::collections::BTreeMap;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use serde::Serialize;

use super::say;
use super::survey::{Pulse, State, Survey};
use super::{Operator, TableError};
use crate::change::{Change, ChangeError, after, write};
use crate::checkpoint::{Checkpoint, SequenceNumber};
use crate::ids::{LaneName, LeaseCounter, LeaseKey, WorkerId};
use crate::lease::LeaseRecord;
use crate::lease_table::Outcome;

/// The write is planned afresh at most this often when the owner checkpoints in between.
const ROUNDS: u32 = 8;

/// Where an operator can set a checkpoint to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// At the oldest record that the stream keeps.
    TrimHorizon,
    /// At the first record that arrives from now on.
    Latest,
    /// At the first record that arrived at or after a time, in milliseconds since 1970.
    AtTimestamp(i64),
    /// Behind a record, which counts as settled.
    After(Checkpoint),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = "a sequence number, trim-horizon, latest or at-timestamp:TIME, where TIME is like 2026-01-31T00:00:00Z or milliseconds since 1970";
        if let Some(time) = text.strip_prefix("at-timestamp:") {
            let ms = time.parse().ok().or_else(|| {
                let at = DateTime::from_str(time, DateTimeFormat::DateTimeWithOffset).ok()?;
                at.to_millis().ok()
            });
            let ms = ms.filter(|ms| *ms >= 0);
            return ms
                .map(Self::AtTimestamp)
                .ok_or_else(|| format!("{time:?} is no time; allowed is {allowed}"));
        }
        match text {
            "trim-horizon" | "TRIM_HORIZON" => Ok(Self::TrimHorizon),
            "latest" | "LATEST" => Ok(Self::Latest),
            "shard-end" | "SHARD_END" => {
                Err(format!("a shard's end cannot be set; allowed is {allowed}"))
            }
            number => {
                let (sequence, sub) = number.split_once(':').unwrap_or((number, "0"));
                let wrong = || format!("allowed is {allowed}");
                let sequence = SequenceNumber::parse(sequence).map_err(|_| wrong())?;
                let sub_sequence = sub.parse().map_err(|_| wrong())?;
                Ok(Self::After(Checkpoint::At { sequence, sub_sequence }))
            }
        }
    }
}

impl Position {
    /// The checkpoint, and the lease's start time that belongs to it.
    fn to_checkpoint(&self, now_ms: i64) -> (Checkpoint, Option<i64>) {
        match self {
            Self::TrimHorizon => (Checkpoint::TrimHorizon, None),
            // As a stream that starts at its tip: the time is kept, so that a restart does not move it.
            Self::Latest => (Checkpoint::Latest, Some(now_ms)),
            Self::AtTimestamp(ms) => (Checkpoint::AtTimestamp, Some(*ms)),
            Self::After(checkpoint) => (checkpoint.clone(), None),
        }
    }
}

/// What a change means for the records of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Nothing.
    Unchanged,
    /// Records come again.
    ReadAgain,
    /// Records are never read.
    Skipped,
    /// One of the two; the tables alone do not tell which.
    Unknown,
}

/// What a change means for one lane.
#[derive(Debug, Clone, Serialize)]
pub struct LaneStep {
    /// The lane.
    pub lane: LaneName,
    /// Where it is.
    pub from: Checkpoint,
    /// Where it will be.
    pub to: Checkpoint,
    /// What that means.
    pub kind: StepKind,
    /// The same in words.
    pub words: String,
}

/// A change that was thought through and not yet made.
#[derive(Debug, Clone, Serialize)]
pub struct SetPlan {
    /// The lease.
    pub key: LeaseKey,
    /// The owner that will be fenced.
    pub fences: Option<WorkerId>,
    /// The counter as it is now; the change raises it.
    pub counter: LeaseCounter,
    /// What it means for each lane.
    pub steps: Vec<LaneStep>,
    #[serde(skip)]
    seen: LeaseRecord,
    #[serde(skip)]
    change: Change,
}

/// Why a checkpoint is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such lease.
    #[error("there is no lease {0} any more")]
    Gone(LeaseKey),
    /// A worker owns it, and may be at work.
    #[error(
        "{answer} Stop its reader first (`sluicegate leases release` only moves it), or use --force: it raises the counter and takes the lease from {owner}, whose later writes are then refused"
    )]
    Owned {
        /// How it stands.
        answer: String,
        /// The owner.
        owner: WorkerId,
    },
    /// It is not its turn.
    #[error("{0} Set its checkpoint once they have ended: no lane of a child may start before")]
    Waits(String),
    /// It contradicts the lease.
    #[error("{0}")]
    Contradicts(String),
}

/// Why a checkpoint was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// Somebody else changed the lease in between.
    #[error("{key} changed hands in between: it is now {now}; look again")]
    Changed {
        /// The lease.
        key: LeaseKey,
        /// How it is now.
        now: String,
    },
    /// It contradicts the lease as it has become.
    #[error("{0}")]
    Contradicts(String),
    /// The table; the write may have happened.
    #[error("{0}; whether it was written is not known, look again")]
    Table(#[from] TableError),
}

impl Operator {
    /// What setting `lane` (or every lane) of a lease to `position` would mean.
    pub fn plan_set(
        &self,
        survey: &Survey,
        key: &LeaseKey,
        position: &Position,
        lane: Option<&LaneName>,
        force: bool,
    ) -> Result<SetPlan, Refusal> {
        plan(survey, key, position, lane, force, self.now_ms())
    }

    /// Sets the checkpoint: one conditional write. An owner that only checkpointed in between is no reason to give up.
    pub async fn set(&self, plan: &SetPlan) -> Result<SetPlan, SetError> {
        let mut seen = plan.seen.clone();
        for _ in 0..ROUNDS {
            let next = after(&seen, &plan.change, &self.options.lanes);
            let next = next.map_err(|error| SetError::Contradicts(error.to_string()))?;
            let steps = steps(&seen, &next, &self.options.lanes);
            let write = write(&seen, next);
            let is = match self.leases.apply(&write).await {
                Ok(Outcome::Done) => return Ok(SetPlan { steps, seen, ..plan.clone() }),
                Ok(Outcome::Refused(is)) => is.map(|is| *is),
                // It may have happened: the table tells.
                Err(error) if !error.is_fatal() => self.lease(&plan.key).await?,
                Err(error) => return Err(TableError::of(self.lease_table(), &error).into()),
            };
            match is {
                Some(is) if is == write.after => {
                    return Ok(SetPlan { steps, seen, ..plan.clone() });
                }
                Some(is) if (is.counter, &is.owner) == (seen.counter, &seen.owner) => seen = is,
                other => {
                    let now = other.map_or("gone".to_owned(), |is| {
                        let owner = is.owner.as_ref().map_or("nobody", WorkerId::as_str);
                        format!("owned by {owner} at counter {}", is.counter)
                    });
                    return Err(SetError::Changed { key: plan.key.clone(), now });
                }
            }
        }
        let now = format!("written by its owner {ROUNDS} times during the attempt");
        Err(SetError::Changed { key: plan.key.clone(), now })
    }
}

pub(super) fn plan(
    survey: &Survey,
    key: &LeaseKey,
    position: &Position,
    lane: Option<&LaneName>,
    force: bool,
    now_ms: i64,
) -> Result<SetPlan, Refusal> {
    let why = survey.why(key).ok_or_else(|| Refusal::Gone(key.clone()))?;
    let seen = survey.records.get(key).ok_or_else(|| Refusal::Gone(key.clone()))?;
    if why.state == State::Waiting {
        return Err(Refusal::Waits(why.answer));
    }
    let lives = match why.state {
        State::Owned | State::Moving | State::Draining | State::Silent | State::Foreign => true,
        State::NotConfigured => {
            seen.owner.as_ref().is_some_and(|owner| survey.pulse(owner) != Pulse::Ended)
        }
        State::Orphan | State::Waiting | State::Finished | State::Trimmed => false,
    };
    if let Some(owner) = seen.owner.clone().filter(|_| lives && !force) {
        return Err(Refusal::Owned { answer: why.answer, owner });
    }
    let lanes = &survey.options.lanes;
    let (to, start_at_ms) = position.to_checkpoint(now_ms);
    let named = lanes.iter().filter(|name| lane.is_none_or(|lane| lane == *name));
    let mut wanted: BTreeMap<_, _> = named.map(|name| (name.clone(), to.clone())).collect();
    if let Some(lane) = lane {
        wanted.entry(lane.clone()).or_insert(to);
    }
    let change = Change::SetCheckpoint { lanes: wanted, start_at_ms };
    let next = after(seen, &change, lanes).map_err(|error| contradicts(&error, lanes))?;
    Ok(SetPlan {
        key: key.clone(),
        fences: seen.owner.clone().filter(|_| lives),
        counter: seen.counter,
        steps: steps(seen, &next, lanes),
        seen: seen.clone(),
        change,
    })
}

fn contradicts(error: &ChangeError, lanes: &[LaneName]) -> Refusal {
    let names: Vec<&str> = lanes.iter().map(LaneName::as_str).collect();
    Refusal::Contradicts(match error {
        ChangeError::UnknownLane(_) => format!("{error}; the lanes are {}", names.join(", ")),
        other => other.to_string(),
    })
}

fn steps(seen: &LeaseRecord, next: &LeaseRecord, lanes: &[LaneName]) -> Vec<LaneStep> {
    let (before, after) = (seen.believed_lanes(lanes), next.believed_lanes(lanes));
    let step = |(lane, from): (LaneName, crate::lease::LanePosition)| {
        let to = after.get(&lane)?.checkpoint.clone();
        let from = from.checkpoint;
        let (kind, words) = compare((&from, seen.start_at_ms), (&to, next.start_at_ms));
        Some(LaneStep { lane, from, to, kind, words })
    };
    before.into_iter().filter_map(step).collect()
}

/// What it means for a lane to go on at `to` instead of `from`. Each comes with its lease's start time.
fn compare(from: (&Checkpoint, Option<i64>), to: (&Checkpoint, Option<i64>)) -> (StepKind, String) {
    use Checkpoint::{At, AtTimestamp, Latest, ShardEnd, TrimHorizon};
    let (said_from, said_to) = (say::position(from.0, from.1), say::position(to.0, to.1));
    let again = |what: String| (StepKind::ReadAgain, format!("would be read again: {what}"));
    let skipped = |what: String| (StepKind::Skipped, format!("would be SKIPPED: {what}"));
    let unchanged = || (StepKind::Unchanged, format!("stays at {said_from}"));
    match (from.0, to.0) {
        (was, is) if was == is && (from.1 == to.1 || was.has_moved() || *was == TrimHorizon) => {
            unchanged()
        }
        (ShardEnd, _) | (_, ShardEnd) => unchanged(),
        (At { .. }, At { .. }) if to.0 < from.0 => {
            again(format!("records after {said_to} up to {said_from}"))
        }
        (At { .. }, At { .. }) => skipped(format!("records after {said_from} up to {said_to}")),
        (_, TrimHorizon) => again(format!("everything from {said_to} up to {said_from}")),
        (TrimHorizon, At { .. }) => {
            skipped(format!("everything that the stream keeps up to {said_to}"))
        }
        (TrimHorizon, _) => skipped(format!("everything that the stream keeps before {said_to}")),
        (At { .. }, Latest) => {
            skipped(format!("records after {said_from} that arrived before {}", moment(to.1)))
        }
        (At { .. }, AtTimestamp) => (
            StepKind::Unknown,
            format!(
                "goes on at {said_to}: if {said_from} arrived later, the records in between would be read again; if it arrived earlier, those in between would be SKIPPED"
            ),
        ),
        (Latest | AtTimestamp, Latest | AtTimestamp) if to.1 < from.1 => again(format!(
            "records that arrived from {} to {}, which were not to be read",
            moment(to.1),
            moment(from.1)
        )),
        (Latest | AtTimestamp, Latest | AtTimestamp) => {
            skipped(format!("records that arrived from {} to {}", moment(from.1), moment(to.1)))
        }
        (Latest | AtTimestamp, At { .. }) => (
            StepKind::Unknown,
            format!(
                "goes on behind {said_to} instead of at {said_from}; which of them is earlier the tables do not tell"
            ),
        ),
    }
}

fn moment(ms: Option<i64>) -> String {
    ms.map_or("an unknown time".to_owned(), say::moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_one_of_four_forms() {
        let read = |text: &str| text.parse::<Position>();
        assert_eq!(read("trim-horizon"), Ok(Position::TrimHorizon));
        assert_eq!(read("LATEST"), Ok(Position::Latest));
        assert_eq!(
            read("at-timestamp:1700000000000"),
            Ok(Position::AtTimestamp(1_700_000_000_000))
        );
        let with_offset = read("at-timestamp:2023-11-14T23:13:20+01:00");
        assert_eq!(with_offset, Ok(Position::AtTimestamp(1_700_000_000_000)));
        assert_eq!(read("17"), Ok(Position::After(Checkpoint::parse("17", 0).unwrap())));
        assert_eq!(read("17:4"), Ok(Position::After(Checkpoint::parse("17", 4).unwrap())));
        for bad in ["", "-1", "017", "shard-end", "at-timestamp:soon", "at-timestamp:-5", "1:x"] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("trim-horizon"), "{bad}: {error}");
        }
    }

    #[test]
    fn it_is_said_what_comes_again_and_what_is_skipped() {
        let at = |text: &str| Checkpoint::parse(text, 0).unwrap();
        let cases = [
            (("20", None), ("10", None), StepKind::ReadAgain, "after 10 up to 20"),
            (("10", None), ("20", None), StepKind::Skipped, "after 10 up to 20"),
            (("9", None), ("9", Some(7)), StepKind::Unchanged, "stays at 9"),
            (("20", None), ("TRIM_HORIZON", None), StepKind::ReadAgain, "oldest"),
            (("TRIM_HORIZON", None), ("20", None), StepKind::Skipped, "up to 20"),
            (("20", None), ("LATEST", Some(0)), StepKind::Skipped, "before 1970-01-01T00:00:00Z"),
            (("20", None), ("AT_TIMESTAMP", Some(0)), StepKind::Unknown, "SKIPPED"),
            (
                ("LATEST", Some(9_000)),
                ("AT_TIMESTAMP", Some(5_000)),
                StepKind::ReadAgain,
                "00:00:05Z",
            ),
            (("LATEST", Some(5_000)), ("LATEST", Some(9_000)), StepKind::Skipped, "00:00:09Z"),
            (("LATEST", Some(5_000)), ("20", Some(5_000)), StepKind::Unknown, "earlier"),
        ];
        for ((from, from_at), (to, to_at), kind, says) in cases {
            let (is, words) = compare((&at(from), from_at), (&at(to), to_at));
            assert_eq!(is, kind, "{from} to {to}: {words}");
            assert!(words.contains(says), "{from} to {to}: {words}");
        }
    }
}
