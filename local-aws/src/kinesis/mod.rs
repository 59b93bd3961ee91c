//! The embedded Kinesis.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::wire::Answer;

/// How the embedded Kinesis behaves.
#[derive(Debug, Clone)]
pub struct KinesisOptions {
    /// Whether the per-shard limits of the service are enforced.
    pub enforce_limits: bool,
    /// How long a `SubscribeToShard` stream lives.
    pub subscription_lifetime: Duration,
    /// How long a subscription is silent before an empty event is sent.
    pub idle_event_interval: Duration,
}

impl Default for KinesisOptions {
    fn default() -> Self {
        Self {
            enforce_limits: true,
            subscription_lifetime: Duration::from_secs(300),
            idle_event_interval: Duration::from_secs(5),
        }
    }
}

/// The embedded Kinesis; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Kinesis {}

impl Kinesis {
    pub(crate) fn new(
        _options: KinesisOptions,
        _account: &str,
        _region: &str,
        _seed: u64,
        _clock: Clock,
    ) -> Self {
        Self {}
    }

    pub(crate) async fn handle(&self, operation: &str, _body: Bytes) -> Answer {
        Answer::error(400, "UnknownOperationException", operation)
    }
}
