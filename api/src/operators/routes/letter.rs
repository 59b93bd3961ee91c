//! A dead letter as it is shown: everything that is kept of it.

use data_encoding::BASE64;
use serde::Serialize;
use store::{DeadLetter, MessageId, SubscriptionId};
use utoipa::ToSchema;

use crate::timestamp;

/// What could not be processed, and everything that is kept of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
pub(super) struct LetterView<'a> {
    message: String,
    integration: &'a str,
    /// Why, as a code such as `not-json` or `delivery-exhausted`.
    reason: &'static str,
    /// Why, in words.
    detail: &'a str,
    /// For whom it was; null where it never became a delivery.
    subscription: Option<&'a str>,
    attempts: u32,
    /// The fencing token under which it was given up.
    fence: u64,
    stream: &'a str,
    shard: &'a str,
    sequence: &'a str,
    /// Its place within an aggregate of the producer library.
    index: u32,
    partition_key: &'a str,
    #[schema(format = DateTime)]
    arrived_at: String,
    #[schema(format = DateTime)]
    given_up_at: String,
    /// As it came; in base64 where it is no text.
    payload: String,
    /// `text` or `base64`.
    payload_encoding: &'static str,
}

impl<'a> LetterView<'a> {
    pub(super) fn of(letter: &'a DeadLetter) -> Self {
        let (payload, payload_encoding) = match std::str::from_utf8(&letter.payload) {
            Ok(text) => (text.to_owned(), "text"),
            Err(_) => (BASE64.encode(&letter.payload), "base64"),
        };
        let position = &letter.position;
        Self {
            message: MessageId::derive(position).to_string(),
            integration: letter.integration.as_str(),
            reason: letter.reason.code(),
            detail: &letter.detail,
            subscription: letter.subscription.as_ref().map(SubscriptionId::as_str),
            attempts: letter.attempts,
            fence: letter.fence,
            stream: &position.stream_arn,
            shard: &position.shard_id,
            sequence: &position.sequence,
            index: position.index,
            partition_key: &letter.partition_key,
            arrived_at: timestamp::format(letter.arrived_at_ms),
            given_up_at: timestamp::format(letter.at_ms),
            payload,
            payload_encoding,
        }
    }
}
