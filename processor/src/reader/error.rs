//! Why a shard cannot be read on.

/// Why a shard cannot be read on. None of them is the shard's end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// The stream, the consumer or the shard is not there: look again, later or never.
    #[error("{operation}: the stream, its consumer or the shard does not exist: {detail}")]
    NotFound { operation: &'static str, detail: String },
    /// Subscriptions are accepted and stay dead: another worker may have a better connection.
    #[error(
        "SubscribeToShard: {subscriptions} subscriptions in a row were accepted and stayed silent"
    )]
    Inactive { subscriptions: u32 },
    /// The service refuses, and will go on doing so until somebody changes something.
    #[error("{operation}: refused {times} times in a row: {code}: {detail}")]
    Refused { operation: &'static str, code: String, detail: String, times: u32 },
    /// The shard's end was handed out already: there is nothing behind it.
    #[error("the shard was read to its end, and there is nothing behind that")]
    BehindShardEnd,
}
