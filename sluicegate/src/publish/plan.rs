//! What is sent in which call, what an answer means for each message, and when it is sent again. Pure.

use std::time::Duration;

use api::{Outcome, Outgoing, Refusal, Taken};
use store::{MessageId, Position};
use tokio::time::Instant;

/// Records of one call.
const CALL_RECORDS: usize = 500;
/// Data and partition keys of one call, in bytes, unless one record alone has more: half of what the service takes, so
/// that a call without an answer leaves less in doubt.
const CALL_BYTES: usize = 5 * 1024 * 1024;
/// The first pause before messages are sent again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest: a shard that throttled takes as much again after a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Less time than this is none for a call.
const LEAST_TIME: Duration = Duration::from_millis(50);

/// Where one record went, or why it did not.
pub(super) type Placed = Result<(String, String), Refusal>;

/// What a call was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// One result for each record.
    Each(Vec<Placed>),
    /// The same for all of them.
    All(Refusal),
}

impl Answer {
    /// In a word, for the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Answer::Each(placed) if placed.iter().all(Result::is_ok) => "whole",
            Answer::Each(_) => "partial",
            Answer::All(refusal) => refusal.code(),
        }
    }
}

/// All messages of a request, with what is known of each.
pub(super) struct Ledger {
    messages: Vec<Entry>,
}

struct Entry {
    message: Outgoing,
    /// A call that had this message got no answer.
    in_doubt: bool,
    state: State,
}

enum State {
    /// Not taken as far as is known; why not.
    Open(Refusal),
    Placed {
        shard_id: String,
        sequence: String,
    },
}

impl Ledger {
    pub(super) fn new(messages: Vec<Outgoing>) -> Ledger {
        let entry =
            |message| Entry { message, in_doubt: false, state: State::Open(Refusal::NotSent) };
        Ledger { messages: messages.into_iter().map(entry).collect() }
    }

    pub(super) fn message(&self, index: usize) -> &Outgoing {
        &self.messages[index].message
    }

    /// The calls in which all messages are sent, one after the other, each with the places of its messages.
    pub(super) fn calls(&self) -> Vec<Vec<usize>> {
        let mut calls: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for (index, entry) in self.messages.iter().enumerate() {
            let size = entry.message.payload.len() + entry.message.partition_key.len();
            match calls.last_mut() {
                Some(call) if call.len() < CALL_RECORDS && bytes + size <= CALL_BYTES => {
                    call.push(index);
                    bytes += size;
                }
                _ => {
                    calls.push(vec![index]);
                    bytes = size;
                }
            }
        }
        calls
    }

    /// Notes what a call with these messages was answered; those that are to be sent again remain, in their order.
    pub(super) fn note(&mut self, call: Vec<usize>, answer: Answer) -> Vec<usize> {
        let placed: Vec<Placed> = match answer {
            // Which of them were taken cannot be told.
            Answer::Each(placed) if placed.len() != call.len() => {
                vec![Err(Refusal::Unknown); call.len()]
            }
            Answer::Each(placed) => placed,
            Answer::All(refusal) => vec![Err(refusal); call.len()],
        };
        let mut again = Vec::new();
        for (index, placed) in call.into_iter().zip(placed) {
            let entry = &mut self.messages[index];
            entry.state = match placed {
                Ok((shard_id, sequence)) => State::Placed { shard_id, sequence },
                Err(refusal) => {
                    entry.in_doubt |= refusal.may_have_been_taken();
                    if refusal.is_retryable() {
                        again.push(index);
                    }
                    State::Open(refusal)
                }
            };
        }
        again
    }

    /// Why a message was not taken, so far.
    pub(super) fn refusal(&self, index: usize) -> Refusal {
        match self.messages[index].state {
            State::Open(refusal) => refusal,
            State::Placed { .. } => Refusal::NotSent,
        }
    }

    /// What became of each message. Ids are those that the reader will give, so `arn` is the stream's as it has it.
    pub(super) fn outcomes(self, arn: &std::sync::Arc<str>) -> Vec<Outcome> {
        let outcome = |Entry { in_doubt, state, .. }: Entry| match state {
            State::Placed { shard_id, sequence } => {
                let position = Position {
                    stream_arn: std::sync::Arc::clone(arn),
                    shard_id: shard_id.as_str().into(),
                    sequence: sequence.as_str().into(),
                    index: 0,
                };
                Outcome::Taken(Taken {
                    id: MessageId::derive(&position),
                    shard_id,
                    sequence_number: sequence,
                    may_be_duplicate: in_doubt,
                })
            }
            State::Open(_) if in_doubt => Outcome::Refused(Refusal::Unknown),
            State::Open(refusal) => Outcome::Refused(refusal),
        };
        self.messages.into_iter().map(outcome).collect()
    }
}

/// The time that a call may take now; `None` when there is none left.
pub(super) fn call_time(now: Instant, deadline: Instant, longest: Duration) -> Option<Duration> {
    let left = deadline.saturating_duration_since(now);
    (left >= LEAST_TIME).then(|| left.min(longest))
}

/// How long to wait after try `attempt` (from 1): doubling, half of it drawn.
pub(super) fn pause(attempt: u32, rng: &mut fastrand::Rng) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_PAUSE);
    ceiling / 2 + (ceiling / 2).mul_f64(rng.f64())
}

/// What the error code of one record says: the service did not take it.
pub(super) fn of_record(code: &str) -> Refusal {
    match code {
        "ProvisionedThroughputExceededException" => Refusal::Throttled,
        code if is_final(code) => Refusal::Rejected,
        _ => Refusal::Unavailable,
    }
}

/// What the error code of a whole call says. Behind a failure of the service itself it may have taken the records.
pub(super) fn of_call(code: &str, status: u16) -> Refusal {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "KMSThrottlingException" => Refusal::Throttled,
        code if is_final(code) => Refusal::Rejected,
        _ if status >= 500 => Refusal::Unknown,
        _ => Refusal::Unavailable,
    }
}

/// Errors that no further try changes. Credentials that expired are renewed, so they are none.
fn is_final(code: &str) -> bool {
    const FINAL: [&str; 13] = [
        "AccessDeniedException",
        "IncompleteSignature",
        "InvalidArgumentException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "KMSOptInRequired",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    ];
    FINAL.contains(&code)
}
