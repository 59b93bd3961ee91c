//! Replays: messages that a subscription is to get again, or for the first time although they are old.
//!
//! A replay is a resource with progress. Whoever asks for one creates it and may cancel it; a processor claims it,
//! does it part by part, and writes how far it got under that claim, so that another one goes on from there when
//! it dies. Nothing here reads a stream or parks a delivery. Start at [`ReplayStore`].

mod change;
mod dynamodb;
mod item;
mod owned;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use dynamodb::ReplayStore;

use crate::identity::{IdentityError, IntegrationName, MessageId, is_plain_id, shown, text_type};
use crate::subscriptions::SubscriptionId;

/// How long a replay is kept after it ended.
pub const REPLAY_RETENTION: Duration = Duration::from_secs(14 * 24 * 3_600);
/// Messages a second that a replay parks unless it says otherwise.
pub const DEFAULT_REPLAY_RATE: u32 = 500;
/// Most message ids that one replay may name.
pub const MAX_REPLAY_MESSAGES: usize = 100;
/// Longest id of a replay, in characters.
const MAX_ID: usize = 64;
const PREFIX: &str = "rpl_";

/// Id of a replay: `rpl_` and letters, digits, `_` and `-`, at most 64 in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId(Arc<str>);
text_type!(ReplayId);

impl ReplayId {
    /// Checks and takes an id.
    pub fn parse(text: &str) -> Result<ReplayId, IdentityError> {
        if text.starts_with(PREFIX) && is_plain_id(text, MAX_ID) {
            Ok(ReplayId(Arc::from(text)))
        } else {
            Err(IdentityError::Id { kind: "replay id (rpl_...)", found: shown(text), max: MAX_ID })
        }
    }

    /// A new id: `rpl_` and 20 characters of base62.
    pub fn generate(random: crate::RandomBytes<'_>) -> ReplayId {
        ReplayId(Arc::from(format!("{PREFIX}{}", crate::access::base62(20, random))))
    }
}

/// Which messages a replay is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum ReplayOf {
    /// What arrived in the streams from `from_ms` up to, but not at, `to_ms` (ms since 1970) and is still there.
    Range {
        /// From when on.
        from_ms: i64,
        /// Until when.
        to_ms: i64,
        /// Only these messages; empty means all. The replay ends once all are found.
        only: Vec<MessageId>,
    },
    /// What is parked for the subscription becomes due now.
    Parked,
    /// What was given up for the subscription is delivered again, with its attempts at zero.
    DeadLettered {
        /// Only these messages; empty means all.
        only: Vec<MessageId>,
    },
}

impl ReplayOf {
    /// The messages that it is about alone; none means all.
    pub fn only(&self) -> &[MessageId] {
        match self {
            ReplayOf::Range { only, .. } | ReplayOf::DeadLettered { only } => only,
            ReplayOf::Parked => &[],
        }
    }
}

/// How a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayState {
    /// Nobody has begun it.
    Queued,
    /// A processor works on it, or did until it died.
    Running,
    /// All that was asked for is parked, due at once; destinations' lanes deliver it.
    Done,
    /// It cannot be done; its detail says why.
    Failed,
    /// Somebody cancelled it; what was parked until then is delivered.
    Cancelled,
}

impl ReplayState {
    const ALL: [ReplayState; 5] = [
        ReplayState::Queued,
        ReplayState::Running,
        ReplayState::Done,
        ReplayState::Failed,
        ReplayState::Cancelled,
    ];

    /// The code for items and lists.
    pub fn code(self) -> &'static str {
        match self {
            ReplayState::Queued => "queued",
            ReplayState::Running => "running",
            ReplayState::Done => "done",
            ReplayState::Failed => "failed",
            ReplayState::Cancelled => "cancelled",
        }
    }

    /// The state of a code.
    pub fn from_code(code: &str) -> Option<ReplayState> {
        ReplayState::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Nothing more will be done.
    pub fn is_over(self) -> bool {
        matches!(self, ReplayState::Done | ReplayState::Failed | ReplayState::Cancelled)
    }
}

impl fmt::Display for ReplayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// How much was done. After a takeover what lay behind the last progress is counted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCounts {
    /// Records of the range, or rows, that were looked at.
    pub read: u64,
    /// Those that the subscription is to get.
    pub matched: u64,
    /// Deliveries that are due now because of the replay and were not before. One that was parked already when its
    /// message was read from the stream is not counted.
    pub parked: u64,
}

impl std::ops::AddAssign for ReplayCounts {
    fn add_assign(&mut self, more: ReplayCounts) {
        self.read += more.read;
        self.matched += more.matched;
        self.parked += more.parked;
    }
}

/// One replay, without its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its name.
    pub id: ReplayId,
    /// For whom.
    pub subscription: SubscriptionId,
    /// What.
    pub what: ReplayOf,
    /// Most deliveries that are made due in a second, 1 to 10,000.
    pub rate_per_second: u32,
    /// How it stands.
    pub state: ReplayState,
    /// Why it failed or what is to be known of its end, in words; empty if nothing is.
    pub detail: String,
    /// The worker that claimed it last.
    pub runner: Option<String>,
    /// How often it was claimed.
    pub claims: u32,
    /// Its parts are written down.
    pub is_planned: bool,
    /// Over all parts.
    pub counts: ReplayCounts,
    /// When it was asked for, in ms since 1970.
    pub created_at_ms: i64,
    /// When it was claimed first.
    pub started_at_ms: Option<i64>,
    /// When anything of it was written last.
    pub updated_at_ms: i64,
    /// When it ended.
    pub ended_at_ms: Option<i64>,
}

impl Replay {
    /// A replay that nobody has begun.
    pub fn new(
        id: ReplayId,
        subscription: SubscriptionId,
        what: ReplayOf,
        rate_per_second: u32,
        now_ms: i64,
    ) -> Replay {
        Replay {
            id,
            subscription,
            what,
            rate_per_second,
            state: ReplayState::Queued,
            detail: String::new(),
            runner: None,
            claims: 0,
            is_planned: false,
            counts: ReplayCounts::default(),
            created_at_ms: now_ms,
            started_at_ms: None,
            updated_at_ms: now_ms,
            ended_at_ms: None,
        }
    }

    /// Refuses what has no sensible meaning, naming the field.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=10_000).contains(&self.rate_per_second) {
            return Err(format!(
                "rate_per_second is {}: 1 to 10000 is allowed",
                self.rate_per_second
            ));
        }
        if let ReplayOf::Range { from_ms, to_ms, .. } = &self.what {
            if from_ms >= to_ms {
                return Err(format!(
                    "the range is from {from_ms} to {to_ms} ms: it must end after it begins"
                ));
            }
            if *to_ms > self.created_at_ms {
                return Err(
                    "the range ends in the future: what comes is delivered as it comes".to_owned()
                );
            }
        }
        let named = self.what.only().len();
        if named > MAX_REPLAY_MESSAGES {
            return Err(format!("{named} messages: up to {MAX_REPLAY_MESSAGES} are allowed"));
        }
        Ok(())
    }

    /// How much of it is done, 0 to 1: by the time that each shard has reached, by parts otherwise.
    pub fn share_done(&self, parts: &[ReplayPart]) -> f64 {
        let begin = match &self.what {
            ReplayOf::Range { from_ms, to_ms, .. } => Some((*from_ms, *to_ms)),
            ReplayOf::Parked | ReplayOf::DeadLettered { .. } => None,
        };
        let one = |part: &ReplayPart| match (part.is_done, part.reached_ms, begin) {
            (true, ..) => 1.0,
            // From the horizon nobody knows where it began.
            (false, Some(reached), Some((from, to))) if from > 0 => {
                ((reached - from) as f64 / (to - from) as f64).clamp(0.0, 1.0)
            }
            _ => 0.0,
        };
        // Not `sum`, which is -0 of nothing.
        parts.iter().map(one).fold(0.0, |sum, share| sum + share) / (parts.len().max(1) as f64)
    }
}

/// What a part of a replay goes through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplaySource {
    /// A shard of a stream.
    Shard {
        /// ARN of the stream.
        stream_arn: Arc<str>,
        /// Id of the shard within the stream.
        shard_id: Arc<str>,
    },
    /// The subscription's parked deliveries.
    Parked,
    /// The dead letters of an integration.
    DeadLetters(IntegrationName),
}

impl fmt::Display for ReplaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplaySource::Shard { stream_arn, shard_id } => {
                let name = stream_arn.rsplit('/').next().unwrap_or(stream_arn);
                write!(f, "{name} {shard_id}")
            }
            ReplaySource::Parked => f.write_str("parked deliveries"),
            ReplaySource::DeadLetters(name) => write!(f, "dead letters of {name}"),
        }
    }
}

/// How far one part of a replay got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayPart {
    /// What it goes through.
    pub source: ReplaySource,
    /// Where it goes on: behind this place. `None` at the beginning.
    pub at: Option<ReplayPlace>,
    /// Arrival of the newest record that was read, in ms since 1970; of a shard only.
    pub reached_ms: Option<i64>,
    /// There is nothing more in it.
    pub is_done: bool,
    /// What was done in it.
    pub counts: ReplayCounts,
}

impl ReplayPart {
    /// A part that nobody has begun.
    pub fn new(source: ReplaySource) -> ReplayPart {
        let counts = ReplayCounts::default();
        ReplayPart { source, at: None, reached_ms: None, is_done: false, counts }
    }
}

/// A place within a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayPlace {
    /// A record of a shard: its sequence number, and the index of the user record in its aggregate (0 if none).
    Record(String, u32),
    /// The cursor of a list.
    Cursor(String),
}

/// The right to work on a replay until it ends. Lost when another worker claims it, or somebody cancels it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayClaim {
    /// Which replay.
    pub id: ReplayId,
    /// What no other claim has: proves this one.
    pub(crate) token: String,
}
