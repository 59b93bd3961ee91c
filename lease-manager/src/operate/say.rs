//! Figures in words: durations, moments, checkpoints, and the reasons for which leases change hands.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};

use crate::change::TRIMMED;
use crate::checkpoint::Checkpoint;
use crate::ids::Incarnation;

/// A duration as people say it.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..172_800_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// A moment in UTC, to the second.
pub(super) fn moment(ms: i64) -> String {
    let at = DateTime::from_secs(ms.div_euclid(1_000));
    at.fmt(DateTimeFormat::DateTime).unwrap_or_else(|_| format!("{ms} ms since 1970"))
}

/// When a life of a worker began, by its own clock: the number carries it.
pub(super) fn began(life: Incarnation) -> String {
    moment(i64::try_from(life.0 >> 11).unwrap_or(i64::MAX))
}

/// A checkpoint as people say it. `start_at_ms` is the lease's start time.
pub(super) fn position(checkpoint: &Checkpoint, start_at_ms: Option<i64>) -> String {
    match (checkpoint, start_at_ms) {
        (Checkpoint::TrimHorizon, _) => "the oldest record that the stream keeps".to_owned(),
        (Checkpoint::Latest | Checkpoint::AtTimestamp, Some(ms)) => {
            format!("the first record that arrived at or after {}", moment(ms))
        }
        (Checkpoint::Latest, None) => "the newest record".to_owned(),
        (Checkpoint::AtTimestamp, None) => {
            "a time that the lease does not keep, so the oldest record".to_owned()
        }
        (Checkpoint::At { .. }, _) => checkpoint.to_string(),
        (Checkpoint::ShardEnd, _) => "the shard's end".to_owned(),
    }
}

/// What the attribute `reason` means.
pub(super) fn reason(code: &str) -> String {
    let words = match code {
        "unowned" => "nobody owned it",
        "owner-stopped" => "its owner stopped in good order",
        "owner-dead" => "its owner was declared dead",
        "owner-restarted" => "its owner was started again under the same name",
        "owner-unknown" => "its owner was in no fleet table",
        "foreign-owner-silent" => "an owner of another library stood still long enough",
        "move" => "the fleet was made more even, or an operator asked for it",
        "asked" => "an operator asked its owner to hand it over",
        "shutdown" => "its owner was stopping",
        "finished" => "the shard was settled to its end",
        TRIMMED => "the stream no longer kept the shard's records",
        "operator:set-checkpoint" => "an operator set its checkpoint",
        _ => return format!("`{code}`"),
    };
    format!("`{code}`: {words}")
}

/// "a", "a and b", "a, b and c".
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_moments_are_said_as_people_say_them() {
        let said = [0, 850, 1_250, 61_000, 3_600_000, 200_000_000].map(span);
        assert_eq!(said, ["0 ms", "850 ms", "1.2 s", "1 min 1 s", "1 h 0 min", "2 days"]);
        assert_eq!(moment(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(began(Incarnation(1_700_000_000_000 << 11 | 7)), "2023-11-14T22:13:20Z");
        assert_eq!(list(&["a", "b", "c"].map(str::to_owned)), "a, b and c");
    }
}
