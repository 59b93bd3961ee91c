//! What a lease manager is told by the application that makes it. Every figure has a default and a limit.

use std::time::Duration;

use crate::ids::{InvalidName, LaneName, LeaseKey, ShardId, StreamIdentity, WorkerId};
use crate::lease::LeaseRecord;

/// Where a stream that was never read before starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialPosition {
    /// At the oldest record that the stream keeps.
    TrimHorizon,
    /// At the moment of the first start.
    Latest,
    /// At a time, in milliseconds since 1970.
    AtTimestamp(i64),
}

/// One stream to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// The stream's ARN.
    pub arn: String,
    /// The stream's name.
    pub name: String,
    /// When the stream was created, in seconds since 1970; 0 where that is not known, then it is not checked.
    pub creation_epoch_s: i64,
    /// Where reading starts, the first time.
    pub initial: InitialPosition,
}

impl StreamConfig {
    /// The identity that multi-stream lease keys carry.
    pub fn identity(&self) -> Result<StreamIdentity, InvalidName> {
        // arn:partition:kinesis:region:account:stream/name
        let account = self.arn.split(':').nth(4).unwrap_or_default();
        StreamIdentity::new(account, &self.name, self.creation_epoch_s)
    }

    /// When the stream was created, where that is known.
    pub(crate) fn created_at_s(&self) -> Option<i64> {
        (self.creation_epoch_s != 0).then_some(self.creation_epoch_s)
    }
}

/// How one worker takes part in the fleet.
#[derive(Debug, Clone)]
pub struct Options {
    /// The application: the name of the lease table; the fleet table is `<app>-fleet`.
    pub app: String,
    /// This worker's name. A start under the same name takes the old leases back at once.
    pub worker_id: WorkerId,
    /// The lanes whose positions every lease keeps.
    pub lanes: Vec<LaneName>,
    /// The streams to read. More than one: the lease keys carry the stream.
    pub streams: Vec<StreamConfig>,
    /// How often the worker says that it lives. Default 1 s.
    pub heartbeat_interval: Duration,
    /// How long another worker's heartbeat must stand still before it is declared dead. Default 4 s.
    pub failure_detection: Duration,
    /// How long this worker trusts its leases after the start of its last good heartbeat. Default 3 s.
    pub lease_validity: Duration,
    /// How often shards, leases and hash ranges are compared, by one worker of the fleet. Default 60 s.
    pub sync_interval: Duration,
    /// How often leases are read and work is shared out when nothing happened. Default 5 s.
    pub plan_interval: Duration,
    /// How long a lease that was asked to move may drain before it is handed over at its last checkpoint. Default 5 s.
    pub handoff_deadline: Duration,
    /// How long an owner that is not of this fleet must stand still before its lease is taken. Default 30 s.
    pub foreign_detection: Duration,
    /// How long a stop may take. Default 25 s.
    pub shutdown_deadline: Duration,
    /// How long one call to DynamoDB or Kinesis may take, with all its retries. Default 2 s.
    pub call_timeout: Duration,
    /// How many leases this worker owns at most. Default 10,000.
    pub max_leases: usize,
    /// The product's version, shown to the fleet.
    pub version: String,
    /// The seed of everything random here: jitter and the tail of the incarnation.
    pub seed: u64,
}

impl Options {
    /// Options with the defaults named at each field.
    pub fn new(
        app: impl Into<String>,
        worker_id: WorkerId,
        lanes: Vec<LaneName>,
        streams: Vec<StreamConfig>,
    ) -> Self {
        Self {
            app: app.into(),
            worker_id,
            lanes,
            streams,
            heartbeat_interval: Duration::from_secs(1),
            failure_detection: Duration::from_secs(4),
            lease_validity: Duration::from_secs(3),
            sync_interval: Duration::from_secs(60),
            plan_interval: Duration::from_secs(5),
            handoff_deadline: Duration::from_secs(5),
            foreign_detection: Duration::from_secs(30),
            shutdown_deadline: Duration::from_secs(25),
            call_timeout: Duration::from_secs(2),
            max_leases: 10_000,
            version: String::new(),
            seed: 0,
        }
    }

    /// The fleet table's name.
    pub fn fleet_table(&self) -> String {
        fleet_table(&self.app)
    }

    /// Checks what would make leases unsafe or the manager useless.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let rule = |holds: bool, rule: &'static str| {
            if holds { Ok(()) } else { Err(OptionsError::Rule(rule)) }
        };
        rule(!self.lanes.is_empty() && self.lanes.len() <= 16, "there are 1 to 16 lanes")?;
        rule(
            !self.streams.is_empty() && self.streams.len() <= 1_000,
            "there are 1 to 1,000 streams",
        )?;
        rule(
            self.heartbeat_interval >= Duration::from_millis(10),
            "heartbeat_interval is at least 10 ms",
        )?;
        rule(
            self.heartbeat_interval * 2 <= self.lease_validity,
            "lease_validity is at least two heartbeat intervals",
        )?;
        rule(
            self.lease_validity < self.failure_detection,
            "lease_validity is shorter than failure_detection",
        )?;
        rule(!self.call_timeout.is_zero(), "call_timeout is not zero")?;
        rule((1..=100_000).contains(&self.max_leases), "max_leases is between 1 and 100,000")?;
        for stream in &self.streams {
            stream.identity()?;
        }
        Ok(())
    }

    /// The key of a shard's lease: with the stream's identity in front when there are several streams.
    pub(crate) fn lease_key(
        &self,
        stream: &StreamConfig,
        shard: &ShardId,
    ) -> Result<LeaseKey, InvalidName> {
        if self.streams.len() > 1 {
            Ok(LeaseKey::of_stream_shard(&stream.identity()?, shard))
        } else {
            Ok(LeaseKey::of_shard(shard))
        }
    }

    /// The configured stream that a lease may be used for: as [`Options::stream_of`] says by its key, unless the lease was
    /// made for another stream of the same name, whose shards and positions these are not.
    pub(crate) fn stream_of_lease(&self, lease: &LeaseRecord) -> Option<&StreamConfig> {
        self.stream_of(&lease.key).filter(|stream| {
            let made_for = lease.stream_created_at_s;
            made_for.is_none() || stream.created_at_s().is_none_or(|at| made_for == Some(at))
        })
    }

    /// The configured stream that a lease's key names; `None` for a lease of a stream that is not configured any more.
    pub(crate) fn stream_of(&self, key: &LeaseKey) -> Option<&StreamConfig> {
        match (key.stream(), self.streams.as_slice()) {
            (None, [only]) => Some(only),
            (Some(identity), many) if many.len() > 1 => {
                many.iter().find(|stream| stream.identity().is_ok_and(|i| i == identity))
            }
            _ => None,
        }
    }
}

pub(crate) fn fleet_table(app: &str) -> String {
    format!("{app}-fleet")
}

/// Options that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A rule between the figures is broken.
    #[error("lease manager options: {0}")]
    Rule(&'static str),
    /// A name is not one.
    #[error("lease manager options: {0}")]
    Name(#[from] InvalidName),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn options(creation_epoch_s: i64) -> Options {
        let stream = StreamConfig {
            arn: "arn:aws:kinesis:us-east-1:000000000000:stream/s".to_owned(),
            name: "s".to_owned(),
            creation_epoch_s,
            initial: InitialPosition::TrimHorizon,
        };
        let worker = WorkerId::parse("w").unwrap();
        Options::new("app", worker, vec![LaneName::parse("lane").unwrap()], vec![stream])
    }

    #[test]
    fn a_lease_of_an_earlier_stream_of_the_same_name_is_no_lease_of_this_one() {
        let key = LeaseKey::parse("shardId-000000000000").unwrap();
        let lease = |made_for| LeaseRecord {
            stream_created_at_s: made_for,
            ..LeaseRecord::new(key.clone(), Checkpoint::TrimHorizon, 0)
        };
        let is_used =
            |options: &Options, made_for| options.stream_of_lease(&lease(made_for)).is_some();
        assert!(is_used(&options(1_700), Some(1_700)));
        assert!(!is_used(&options(1_700), Some(1_600)));
        assert!(
            !is_used(&options(1_700), Some(1_800)),
            "this worker's configuration is the older one"
        );
        assert!(is_used(&options(1_700), None), "the Kinesis Client Library's leases are believed");
        assert!(is_used(&options(0), Some(1_600)), "a time that is not known is not compared");
    }
}
