//! A dead letter looked into again, as the reader looks into a record: what would become of it today.
//!
//! The configuration may have changed since, or the program. Its place in the stream stays what it was, so
//! what is sent again is the same message under the same id. It sends nothing itself.

use std::sync::Arc;
use std::time::Duration;

use store::{DeadLetter, DeadReason, Message};
use tokio::time::Instant;

use crate::arena::{RawRecord, Records, append};
use crate::batch::{Batch, RawBatch, ShardContext};
use crate::decode::{DecodeOptions, decode, decode_user_record};
use crate::integration::Integrations;

/// What a dead letter is today. Several messages only if it is an aggregate that can now be taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reread {
    /// The messages in it.
    pub messages: Vec<RereadMessage>,
    /// Why it, or a part of it, is no message: a code, and words.
    pub malformed: Vec<(DeadReason, String)>,
}

/// A message of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RereadMessage {
    /// It, as the pipelines take it.
    pub message: Message,
    /// How long it is kept, from its arrival; `None` if its integration keeps no messages.
    pub retention: Option<Duration>,
}

/// Looks into a dead letter with the integrations of today.
pub fn reread(letter: &DeadLetter, integrations: &Integrations, options: &DecodeOptions) -> Reread {
    let raw = raw_batch(letter);
    let batch = match letter.reason {
        DeadReason::BrokenAggregate => decode(raw, integrations, options),
        _ => decode_user_record(raw, letter.position.index, integrations, options),
    };
    Reread {
        messages: messages(&batch, integrations),
        malformed: batch.malformed.into_iter().map(|m| (m.reason, m.detail)).collect(),
    }
}

fn messages(batch: &Batch, integrations: &Integrations) -> Vec<RereadMessage> {
    let message = |entry| {
        let route = batch.route(entry).ok()?;
        let integration = integrations.get(route.integration);
        let retention = integration.keeps_messages().then(|| integration.retention());
        Some(RereadMessage { message: batch.message(entry, integrations)?, retention })
    };
    batch.entries.iter().filter_map(message).collect()
}

/// The letter as the one record of an event. Nothing of the shard but its name matters any more.
fn raw_batch(letter: &DeadLetter) -> RawBatch {
    let position = &letter.position;
    let mut arena = Vec::new();
    let record = RawRecord {
        sequence: append(&mut arena, position.sequence.as_bytes()),
        partition_key: append(&mut arena, letter.partition_key.as_bytes()),
        arrived_at_ms: letter.arrived_at_ms,
        data: append(&mut arena, &letter.payload),
    };
    RawBatch {
        shard: Arc::new(ShardContext {
            stream_arn: Arc::clone(&position.stream_arn),
            shard_id: Arc::clone(&position.shard_id),
            fence: letter.fence,
            starting_hash_key: 0,
            ending_hash_key: u128::MAX,
        }),
        wire_bytes: letter.payload.len(),
        received_at: Instant::now(),
        records: Records { arena, spans: vec![record] },
        upto: None,
        millis_behind_latest: 0,
        children: Vec::new(),
        shard_ended: false,
        permit: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::{IntegrationName, MessageId, Position};

    use super::*;
    use crate::integration::Integration;

    fn letter(payload: &'static [u8], reason: DeadReason) -> DeadLetter {
        DeadLetter {
            integration: IntegrationName::parse("default").unwrap(),
            reason,
            detail: String::new(),
            position: Position {
                stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
                shard_id: Arc::from("shardId-000000000001"),
                sequence: Arc::from("4959"),
                index: 7,
            },
            partition_key: Arc::from("key"),
            arrived_at_ms: 1_000,
            fence: 3,
            attempts: 0,
            payload: Bytes::from_static(payload),
            subscription: None,
            at_ms: 2_000,
        }
    }

    fn again(letter: &DeadLetter, max_message_bytes: usize) -> Reread {
        let mut default = Integration::named(IntegrationName::parse("default").unwrap());
        default.max_message_bytes = max_message_bytes;
        let integrations = Integrations::compile(vec![default]).unwrap();
        reread(letter, &integrations, &DecodeOptions::default())
    }

    #[test]
    fn what_was_too_large_is_a_message_under_its_old_id_once_more_is_allowed() {
        let letter = letter(b"{\"n\":1}", DeadReason::TooLarge);
        let still = again(&letter, 3);
        assert!(still.messages.is_empty());
        assert_eq!(still.malformed[0].0, DeadReason::TooLarge, "{still:?}");
        let now = again(&letter, 100);
        let [RereadMessage { message, retention }] = now.messages.as_slice() else {
            panic!("{now:?}")
        };
        assert_eq!((&message.position, message.arrived_at_ms), (&letter.position, 1_000));
        assert_eq!(message.id, MessageId::derive(&letter.position));
        assert_eq!((message.entity.as_str(), retention.is_some()), ("key", true));
        assert!(message.payload == letter.payload && now.malformed.is_empty());
    }

    #[test]
    fn what_is_broken_stays_broken_and_says_so_anew() {
        let not_json = again(&letter(b"{\"n\":", DeadReason::NotJson), 100);
        assert!(not_json.messages.is_empty());
        assert_eq!(not_json.malformed[0].0, DeadReason::NotJson);
        let magic = b"\xf3\x89\x9a\xc2 and nothing that follows";
        let aggregate = again(&letter(magic, DeadReason::BrokenAggregate), 100);
        assert_eq!(aggregate.malformed[0].0, DeadReason::BrokenAggregate);
        let inside = again(&letter(magic, DeadReason::InvalidUtf8), 100);
        assert_eq!(inside.malformed[0].0, DeadReason::InvalidUtf8, "it was taken apart before");
    }
}
