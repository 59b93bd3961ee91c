//! What the synthetic stream is like.

use std::net::SocketAddr;
use std::time::Duration;

use super::message::{MAX_RECORD_BYTES, MIN_RECORD_BYTES};

/// Shards at most.
const MAX_SHARDS: u32 = 10_000;
/// Decoded bytes of an event at most, but for one record that is larger: what the service sends.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// What the synthetic stream is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS with a certificate of its own, and with it HTTP/2; plain HTTP/1.1 otherwise.
    pub tls: bool,
    /// The stream's name.
    pub stream: String,
    /// Shards, all open, for ever.
    pub shards: u32,
    /// Bytes of each record's data: one JSON message.
    pub record_bytes: usize,
    /// Decoded bytes of a full event.
    pub event_bytes: usize,
    /// Bytes of record data that are written to each shard in a second. Without it a record exists once somebody
    /// asks for it: as fast as the connections take them.
    pub bytes_per_second: Option<u64>,
    /// Each shard ends growing after so many records.
    pub records_per_shard: Option<u64>,
    /// ... and all of them after so long.
    pub duration: Option<Duration>,
    /// With a rate: how long records wait for others before an event is sent that is not full.
    pub linger: Duration,
    /// A subscription that has nothing to say says so this often.
    pub idle_interval: Duration,
    /// How long a subscription lives: 5 minutes at the service.
    pub subscription_lifetime: Duration,
    /// Nothing is written before [`super::Handle::go`] or `POST /loadtest/go`.
    pub hold: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: false,
            stream: "load".to_owned(),
            shards: 1,
            record_bytes: 1_000,
            event_bytes: 400_000,
            bytes_per_second: None,
            records_per_shard: None,
            duration: None,
            linger: Duration::from_millis(200),
            idle_interval: Duration::from_secs(5),
            subscription_lifetime: Duration::from_secs(300),
            hold: false,
        }
    }
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: found {found}; allowed is {allowed}")]
pub struct InvalidSource {
    option: &'static str,
    found: String,
    allowed: String,
}

impl Options {
    /// Records of a full event.
    pub(super) fn records_per_event(&self) -> usize {
        (self.event_bytes / self.record_bytes).max(1)
    }

    /// # Errors
    /// The first option that is outside of what is allowed.
    pub(super) fn validate(&self) -> Result<(), InvalidSource> {
        within("shards", self.shards as usize, 1, MAX_SHARDS as usize)?;
        within("record-bytes", self.record_bytes, MIN_RECORD_BYTES, MAX_RECORD_BYTES)?;
        within("event-bytes", self.event_bytes, 1, MAX_EVENT_BYTES)?;
        let name_is_valid = (1..=128).contains(&self.stream.len())
            && self.stream.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        match name_is_valid {
            true => Ok(()),
            false => Err(InvalidSource {
                option: "stream",
                found: format!("{:?}", self.stream),
                allowed: "a name of 1 to 128 of a-z A-Z 0-9 _ . -".to_owned(),
            }),
        }
    }
}

fn within(
    option: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), InvalidSource> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(InvalidSource { option, found: found.to_string(), allowed: format!("{least} to {most}") })
}
