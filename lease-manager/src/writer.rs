//! The owner's writes of a lease: one at a time, each fenced, and none after an unknown outcome before a look.

use std::sync::Arc;

use crate::change::{Change, ChangeError, after, write};
use crate::classify::CallError;
use crate::handle::CheckpointError;
use crate::held::Held;
use crate::lease::LeaseRecord;
use crate::lease_table::Outcome;
use crate::metrics;
use crate::shared::Shared;

/// A write is planned afresh at most this often when somebody else wrote the lease without taking it.
const ROUNDS: u32 = 4;

/// What an item says to the owner of a lease.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The write that was in doubt did happen.
    Happened(Box<LeaseRecord>),
    /// It did not; the lease is still this worker's.
    StillMine(Box<LeaseRecord>),
    /// The lease is somebody else's, or gone.
    Lost,
}

pub(crate) fn judge(
    held: &Held,
    actual: Option<LeaseRecord>,
    attempt: Option<&LeaseRecord>,
) -> Verdict {
    match actual {
        Some(actual) if Some(&actual) == attempt => Verdict::Happened(Box::new(actual)),
        Some(actual) if held.is_mine(&actual) => Verdict::StillMine(Box::new(actual)),
        _ => Verdict::Lost,
    }
}

/// Makes one change of an owned lease. Returns the lease as it is then.
pub(crate) async fn change_held(
    shared: &Shared,
    held: &Arc<Held>,
    change: &Change,
) -> Result<LeaseRecord, CheckpointError> {
    // The semaphore is never closed; if it were, nothing could be written any more.
    let _turn = held.turn.acquire().await.map_err(|_| CheckpointError::Lost)?;
    if held.is_lost() {
        return Err(CheckpointError::Lost);
    }
    let result = rounds(shared, held, change).await;
    if result == Err(CheckpointError::Lost) {
        shared.roster.lose(held, "owned by another");
    }
    metrics::write(match &result {
        Ok(_) => "done",
        Err(CheckpointError::Lost) => "lost",
        Err(CheckpointError::Unknown(_)) => "unknown",
        Err(CheckpointError::Refused(_)) => "refused",
    });
    result
}

async fn rounds(
    shared: &Shared,
    held: &Held,
    change: &Change,
) -> Result<LeaseRecord, CheckpointError> {
    for _ in 0..ROUNDS {
        if let Some(given_up) = settle_doubt(shared, held).await? {
            return if change.gives_up() { Ok(given_up) } else { Err(CheckpointError::Lost) };
        }
        let seen = held.seen();
        let next = after(&seen, change, &shared.options.lanes)?;
        let write = write(&seen, next);
        held.attempt(write.after.clone());
        match shared.leases.apply(&write).await? {
            Outcome::Done => {
                held.know(write.after.clone());
                return Ok(write.after);
            }
            Outcome::Refused(actual) => match judge(held, actual.map(|a| *a), Some(&write.after)) {
                Verdict::Happened(is) => {
                    held.know(*is);
                    return Ok(write.after);
                }
                Verdict::StillMine(is) => held.know(*is),
                Verdict::Lost => return Err(CheckpointError::Lost),
            },
        }
    }
    Err(CheckpointError::Unknown(format!("the lease changed {ROUNDS} times during one write")))
}

/// Looks at the lease if the outcome of the last write is not known. `Some` if that write gave the lease up: a repeated
/// giving up has then succeeded, and anything else comes too late.
async fn settle_doubt(
    shared: &Shared,
    held: &Held,
) -> Result<Option<LeaseRecord>, CheckpointError> {
    let Some(attempt) = held.doubt() else { return Ok(None) };
    let actual = shared.leases.get(&held.lease.key).await?;
    match judge(held, actual, Some(&attempt)) {
        Verdict::Happened(is) => {
            held.know((*is).clone());
            Ok((!held.is_mine(&is)).then_some(*is))
        }
        Verdict::StillMine(is) => {
            held.know(*is);
            Ok(None)
        }
        Verdict::Lost => Err(CheckpointError::Lost),
    }
}

impl From<CallError> for CheckpointError {
    fn from(error: CallError) -> Self {
        if error.is_fatal() {
            Self::Refused(error.to_string())
        } else {
            Self::Unknown(error.to_string())
        }
    }
}

impl From<ChangeError> for CheckpointError {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error.to_string())
    }
}
