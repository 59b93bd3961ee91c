//! One stream: its shards, where a record goes, and what is kept. Resharding is in `reshard`, consumers are in `consumer`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::Limits;
use super::consumer::Consumer;
use super::hash_range::{hash_key, uniform};
use super::sequence::SequenceNumber;
use super::shard::{Parents, Shard, seconds};
use crate::kinesis::error::Refusal;

/// Milliseconds in an hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// How long records are kept unless the stream says otherwise, in hours.
pub(crate) const DEFAULT_RETENTION_HOURS: u32 = 24;

/// How capacity is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Provisioned,
    OnDemand,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// Which shard a record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// By the hash of its partition key.
    UserPartitionKey,
    /// Anywhere: keys say nothing about order.
    Auto,
}

impl Distribution {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UserPartitionKey => "USER_PARTITION_KEY",
            Self::Auto => "AUTO",
        }
    }
}

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A change that takes time: the status until then.
#[derive(Debug, Clone, Copy)]
struct Transition {
    status: Status,
    until_ms: i64,
}

/// One record to put.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    pub(crate) partition_key: Arc<str>,
    pub(crate) explicit_hash_key: Option<u128>,
    pub(crate) data: Bytes,
}

/// Where a record went.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) shard: u32,
    pub(crate) shard_id: Arc<str>,
    pub(crate) sequence: SequenceNumber,
}

/// What a new stream is.
#[derive(Debug, Clone)]
pub(crate) struct StreamSpec {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) mode: Mode,
    pub(crate) shard_count: u32,
    pub(crate) max_record_kib: u32,
    pub(crate) distribution: Distribution,
    pub(crate) tags: BTreeMap<String, String>,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    /// Tells a stream from an earlier one of the same name.
    pub(crate) generation: u64,
    pub(crate) created_at_ms: i64,
    pub(crate) mode: Mode,
    pub(crate) distribution: Distribution,
    pub(crate) retention_hours: u32,
    /// How long records are kept, if not for those hours.
    pub(super) retention_ms: Option<i64>,
    pub(crate) max_record_kib: u32,
    pub(crate) kms_key: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) shards: BTreeMap<u32, Shard>,
    pub(crate) consumers: BTreeMap<String, Consumer>,
    pub(super) last_consumer_epoch_s: i64,
    pub(super) scaled_at_ms: VecDeque<i64>,
    /// Open shards by the start of their range.
    pub(super) open: BTreeMap<u128, u32>,
    pub(super) next_index: u32,
    transition: Option<Transition>,
    bytes: usize,
}

impl Stream {
    pub(crate) fn new(spec: StreamSpec, generation: u64, now_ms: i64, ready_at_ms: i64) -> Self {
        let mut stream = Self {
            account: spec.account,
            name: spec.name,
            arn: spec.arn,
            generation,
            created_at_ms: now_ms,
            mode: spec.mode,
            distribution: spec.distribution,
            retention_hours: DEFAULT_RETENTION_HOURS,
            retention_ms: None,
            max_record_kib: spec.max_record_kib,
            kms_key: None,
            tags: spec.tags,
            shards: BTreeMap::new(),
            consumers: BTreeMap::new(),
            last_consumer_epoch_s: 0,
            scaled_at_ms: VecDeque::new(),
            open: BTreeMap::new(),
            next_index: 0,
            transition: None,
            bytes: 0,
        };
        for range in uniform(spec.shard_count) {
            stream.add_shard(Parents::default(), range, now_ms, seconds(now_ms));
        }
        stream.begin(Status::Creating, ready_at_ms);
        stream
    }

    pub(super) fn add_shard(
        &mut self,
        parents: Parents,
        range: super::hash_range::HashRange,
        created_at_ms: i64,
        epoch_s: u64,
    ) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        self.open.insert(range.start, index);
        self.shards.insert(index, Shard::new(index, parents, range, created_at_ms, epoch_s));
        index
    }

    /// Enters a status for a while.
    pub(crate) fn begin(&mut self, status: Status, until_ms: i64) {
        self.transition = Some(Transition { status, until_ms });
    }

    /// The status, or `None` once the stream is deleted.
    pub(crate) fn status(&self, now_ms: i64) -> Option<Status> {
        match self.transition {
            Some(Transition { status, until_ms }) if now_ms < until_ms => Some(status),
            Some(Transition { status: Status::Deleting, .. }) => None,
            _ => Some(Status::Active),
        }
    }

    /// Refuses unless the stream is ACTIVE, as every change to it asks.
    pub(crate) fn require_active(&self, now_ms: i64) -> Result<(), Refusal> {
        match self.status(now_ms) {
            Some(Status::Active) => Ok(()),
            status => Err(Refusal::ResourceInUse(format!(
                "Stream {} under account {} not ACTIVE, instead in state {}",
                self.name,
                self.account,
                status.map_or("DELETED", Status::as_str),
            ))),
        }
    }

    pub(crate) fn open_shards(&self) -> usize {
        self.open.len()
    }

    /// When the oldest record that is still kept may have arrived.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.retention_ms.unwrap_or(i64::from(self.retention_hours) * HOUR_MS)
    }

    /// Forgets closed shards whose last record is past retention.
    pub(crate) fn expire_shards(&mut self, now_ms: i64) {
        let horizon_ms = self.horizon_ms(now_ms);
        let bytes = &mut self.bytes;
        self.shards.retain(|_, shard| {
            let expired = shard.closed.as_ref().is_some_and(|closed| closed.at_ms < horizon_ms);
            if expired {
                *bytes -= shard.bytes();
            }
            !expired
        });
    }

    /// The shard with an index, trimmed to the retention.
    pub(crate) fn shard_mut(&mut self, index: u32, now_ms: i64) -> Option<&mut Shard> {
        let horizon_ms = self.horizon_ms(now_ms);
        let shard = self.shards.get_mut(&index)?;
        if shard.closed.as_ref().is_some_and(|closed| closed.at_ms < horizon_ms) {
            return None;
        }
        self.bytes -= shard.trim(horizon_ms);
        Some(shard)
    }

    /// The shard with a name.
    pub(crate) fn shard_by_id(&mut self, id: &str, now_ms: i64) -> Result<&mut Shard, Refusal> {
        let missing = Refusal::ResourceNotFound(format!(
            "Shard {id} in stream {} under account {} does not exist",
            self.name, self.account
        ));
        let index = id
            .strip_prefix("shardId-")
            .filter(|digits| digits.len() == 12)
            .and_then(|digits| digits.parse().ok());
        index.and_then(|index| self.shard_mut(index, now_ms)).ok_or(missing)
    }

    /// Puts records in order, each if its shard's limits admit it, then wakes the readers of the shards that got some.
    pub(crate) fn put_all(
        &mut self,
        records: Vec<NewRecord>,
        limits: &Limits,
        rng: &mut fastrand::Rng,
        now_ms: i64,
    ) -> Vec<Result<Placed, Refusal>> {
        let mut touched = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            let outcome = self.put(record, limits.enforce, rng, now_ms);
            if let Ok(placed) = &outcome {
                touched.insert(placed.shard);
            }
            outcomes.push(outcome);
        }
        for index in touched {
            if let Some(shard) = self.shards.get(&index) {
                shard.announce();
            }
        }
        self.enforce_bytes(limits.stream_bytes);
        outcomes
    }

    fn put(
        &mut self,
        record: NewRecord,
        enforce_limits: bool,
        rng: &mut fastrand::Rng,
        now_ms: i64,
    ) -> Result<Placed, Refusal> {
        let hash = match (self.distribution, record.explicit_hash_key) {
            (Distribution::Auto, _) => rng.u128(..),
            (Distribution::UserPartitionKey, Some(hash)) => hash,
            (Distribution::UserPartitionKey, None) => hash_key(&record.partition_key),
        };
        let encrypted = self.kms_key.is_some();
        let index = self.route(hash)?;
        let (name, account) = (&self.name, &self.account);
        let horizon_ms = self.horizon_ms(now_ms);
        let shard = self
            .shards
            .get_mut(&index)
            .ok_or_else(|| Refusal::Internal(format!("shard {index} is open but missing")))?;
        let size = record.data.len() + record.partition_key.len();
        if enforce_limits && !shard.admit_write(size, now_ms) {
            return Err(Refusal::ThroughputExceeded(format!(
                "Rate exceeded for shard {} in stream {name} under account {account}.",
                shard.id
            )));
        }
        self.bytes -= shard.trim(horizon_ms);
        let sequence = shard.append(record.partition_key, record.data, encrypted, now_ms);
        self.bytes += size;
        Ok(Placed { shard: index, shard_id: Arc::clone(&shard.id), sequence })
    }

    fn route(&self, hash: u128) -> Result<u32, Refusal> {
        self.open
            .range(..=hash)
            .next_back()
            .map(|(_, index)| *index)
            .ok_or_else(|| Refusal::Internal(format!("no open shard for hash key {hash}")))
    }

    /// Drops the oldest records of the fullest shards while the stream holds more than `max_bytes`.
    fn enforce_bytes(&mut self, max_bytes: usize) {
        // A step well above one record, so that the search for the fullest shard is rare.
        let step = max_bytes / 64 + 1;
        while self.bytes > max_bytes
            && let Some(shard) = self.shards.values_mut().max_by_key(|shard| shard.bytes())
        {
            let freed = shard.evict(step);
            if freed == 0 {
                break;
            }
            self.bytes -= freed;
            tracing::warn!(
                stream = %self.name, shard = %shard.id, freed_bytes = freed, max_bytes,
                "the embedded stream is full: its oldest records are dropped before their retention"
            );
        }
    }

    /// Bytes of records held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
