//! What publishing measures of the stream; what became of messages the API counts.

use api::Refusal;
use metrics::counter;

/// A call was answered, or not.
pub(super) fn called(answer: &'static str) {
    counter!("sluicegate.api.publish_calls", "answer" => answer).increment(1);
}

/// A message is sent again.
pub(super) fn again(why: Refusal) {
    counter!("sluicegate.api.messages_sent_again", "why" => why.code()).increment(1);
}
