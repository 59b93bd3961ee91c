//! The attribute form of a lease: the Kinesis Client Library's names and types, with ours beside them.
//!
//! The reader is tolerant: what it does not know it keeps, and what is not a lease it passes over. It refuses only what
//! it would have to guess.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::checkpoint::Checkpoint;
use crate::ids::{
    Incarnation, InvalidName, LaneName, LeaseCounter, LeaseKey, ShardId, StreamIdentity, WorkerId,
};
use crate::lease::{Grant, HashRange, Holder, LanePosition, LeaseRecord};

/// An item as the DynamoDB client gives it.
pub type Item = HashMap<String, AttributeValue>;

pub(crate) const LEASE_KEY: &str = "leaseKey";
pub(crate) const OWNER: &str = "leaseOwner";
pub(crate) const COUNTER: &str = "leaseCounter";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const REV: &str = "rev";
pub(crate) const ENTITY_TYPE: &str = "entityType";
pub(crate) const LEASE: &str = "LEASE";
/// The attributes of the Kinesis Client Library's two-phase checkpoint, cleared when a lease changes hands.
pub(crate) const PENDING: [&str; 3] =
    ["pendingCheckpoint", "pendingCheckpointState", "pendingCheckpointSubSequenceNumber"];

const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const CHECKPOINT_OWNER: &str = "checkpointOwner";
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const HASH_START: &str = "startingHashKey";
const HASH_END: &str = "endingHashKey";
const THROUGHPUT: &str = "throughputKBps";
const STREAM: &str = "streamName";
const SHARD: &str = "shardId";
const LANES: &str = "lanes";
const START_AT: &str = "startAt";
const STREAM_CREATED_AT: &str = "streamCreatedAt";
const READ_TO: &str = "readTo";
const REASON: &str = "reason";
const GRANT: &str = "grant";
const DECLINED_BY: &str = "declinedBy";

/// A lease item that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lease item `{key}`: attribute `{attribute}` {found}")]
pub struct ItemError {
    /// The item's key, as far as it could be read.
    pub key: String,
    /// The attribute.
    pub attribute: &'static str,
    /// What is wrong with it.
    pub found: String,
}

/// Takes attributes out of an item one by one; what is left at the end is what nobody knows.
struct Reader {
    key: String,
    item: Item,
}

impl Reader {
    fn error(&self, attribute: &'static str, found: impl ToString) -> ItemError {
        ItemError { key: self.key.clone(), attribute, found: found.to_string() }
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, ItemError> {
        match self.item.remove(name) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, format_args!("is not a string: {other:?}"))),
        }
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(String) -> Result<T, InvalidName>,
    ) -> Result<Option<T>, ItemError> {
        self.text(name)?.map(parse).transpose().map_err(|e| self.error(name, e))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<Option<T>, ItemError> {
        match self.item.remove(name) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::N(digits)) => match digits.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.error(name, format_args!("is not such a number: {digits}"))),
            },
            Some(other) => Err(self.error(name, format_args!("is not a number: {other:?}"))),
        }
    }

    fn shards(&mut self, name: &'static str) -> Result<BTreeSet<ShardId>, ItemError> {
        match self.item.remove(name) {
            None | Some(AttributeValue::Null(_)) => Ok(BTreeSet::new()),
            Some(AttributeValue::Ss(ids)) => ids
                .into_iter()
                .map(|id| ShardId::parse(id).map_err(|e| self.error(name, e)))
                .collect(),
            Some(other) => Err(self.error(name, format_args!("is not a string set: {other:?}"))),
        }
    }
}

impl LeaseRecord {
    /// Reads an item of a lease table. `None` is an item that is no lease (`entityType` of another kind).
    pub fn from_item(item: Item) -> Result<Option<Self>, ItemError> {
        if let Some(AttributeValue::S(kind)) = item.get(ENTITY_TYPE)
            && kind != LEASE
        {
            return Ok(None);
        }
        let key = item.get(LEASE_KEY).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
        let mut read = Reader { key, item };
        let missing = |read: &Reader, name| read.error(name, "is missing");
        let key = read.parsed(LEASE_KEY, LeaseKey::parse)?;
        let key = key.ok_or_else(|| missing(&read, LEASE_KEY))?;
        let sub_sequence = read.number(SUB_SEQUENCE)?.unwrap_or(0);
        let checkpoint = read.parsed(CHECKPOINT, |t| Checkpoint::parse(&t, sub_sequence))?;
        let counter = read.number(COUNTER)?.map(LeaseCounter);
        let hash_range = hash_range(&mut read)?;
        Ok(Some(Self {
            shard_id: read.parsed(SHARD, ShardId::parse)?.unwrap_or_else(|| key.shard_id()),
            stream: read.parsed(STREAM, |t| StreamIdentity::parse(&t))?.or_else(|| key.stream()),
            owner: read.parsed(OWNER, WorkerId::parse)?,
            counter: counter.ok_or_else(|| missing(&read, COUNTER))?,
            checkpoint: checkpoint.ok_or_else(|| missing(&read, CHECKPOINT))?,
            owner_switches: read.number(SWITCHES)?.unwrap_or(0),
            checkpoint_owner: read.parsed(CHECKPOINT_OWNER, WorkerId::parse)?,
            parents: read.shards(PARENTS)?,
            children: read.shards(CHILDREN)?,
            hash_range,
            throughput_kbps: read.number(THROUGHPUT)?,
            rev: read.number(REV)?,
            lanes: read_lanes(read.item.remove(LANES)),
            start_at_ms: read.number(START_AT)?,
            stream_created_at_s: read.number(STREAM_CREATED_AT)?,
            read_to: read.parsed(READ_TO, |t| Checkpoint::parse(&t, 0))?,
            reason: read.text(REASON)?,
            grant: read.text(GRANT)?.and_then(|t| read_grant(&t)),
            declined_by: read.text(DECLINED_BY)?.and_then(|t| read_holder(&t)),
            rest: read.item,
            key,
        }))
    }

    /// The item that [`LeaseRecord::from_item`] reads back as this record.
    pub fn to_item(&self) -> Item {
        let text = |t: &str| AttributeValue::S(t.to_owned());
        let mut item = self.rest.clone();
        let mut put = |name: &str, value: Option<AttributeValue>| {
            if let Some(value) = value {
                item.insert(name.to_owned(), value);
            }
        };
        put(LEASE_KEY, Some(text(self.key.as_str())));
        put(OWNER, self.owner.as_ref().map(|o| text(o.as_str())));
        put(COUNTER, Some(number(self.counter.0)));
        put(CHECKPOINT, Some(text(self.checkpoint.text())));
        put(SUB_SEQUENCE, Some(number(self.checkpoint.sub_sequence())));
        put(SWITCHES, Some(number(self.owner_switches)));
        put(CHECKPOINT_OWNER, self.checkpoint_owner.as_ref().map(|o| text(o.as_str())));
        put(PARENTS, shard_set(&self.parents));
        put(CHILDREN, shard_set(&self.children));
        put(HASH_START, self.hash_range.map(|range| text(&range.start.to_string())));
        put(HASH_END, self.hash_range.map(|range| text(&range.end.to_string())));
        put(THROUGHPUT, self.throughput_kbps.map(number));
        if let Some(stream) = &self.stream {
            put(STREAM, Some(text(&stream.to_string())));
            put(SHARD, Some(text(self.shard_id.as_str())));
        }
        put(REV, self.rev.map(number));
        put(LANES, (!self.lanes.is_empty()).then(|| lanes_value(&self.lanes)));
        put(START_AT, self.start_at_ms.map(number));
        put(STREAM_CREATED_AT, self.stream_created_at_s.map(number));
        put(READ_TO, self.read_to.as_ref().map(|c| text(c.text())));
        put(REASON, self.reason.as_deref().map(text));
        let grant = |g: Grant| text(&format!("{}@{}", g.incarnation, g.counter));
        put(GRANT, self.grant.map(grant));
        let holder = |h: &Holder| text(&format!("{}@{}", h.incarnation, h.worker));
        put(DECLINED_BY, self.declined_by.as_ref().map(holder));
        item
    }
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn shard_set(ids: &BTreeSet<ShardId>) -> Option<AttributeValue> {
    // DynamoDB has no empty sets.
    let texts = ids.iter().map(|id| id.as_str().to_owned()).collect();
    (!ids.is_empty()).then_some(AttributeValue::Ss(texts))
}

fn hash_range(read: &mut Reader) -> Result<Option<HashRange>, ItemError> {
    match (read.text(HASH_START)?, read.text(HASH_END)?) {
        (None, None) => Ok(None),
        (start, end) => {
            let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
            let wrong = || read.error(HASH_START, format_args!("and the end: `{start}`..`{end}`"));
            HashRange::parse(&start, &end).map(Some).ok_or_else(wrong)
        }
    }
}

fn lanes_value(lanes: &BTreeMap<LaneName, LanePosition>) -> AttributeValue {
    let lane = |position: &LanePosition| {
        let mut fields = HashMap::from([
            ("sequence".to_owned(), AttributeValue::S(position.checkpoint.text().to_owned())),
            ("subSequence".to_owned(), number(position.checkpoint.sub_sequence())),
            ("behindMs".to_owned(), number(position.behind_ms)),
        ]);
        if let Some(since_ms) = position.unsettled_since_ms {
            fields.insert("unsettledSinceMs".to_owned(), AttributeValue::N(since_ms.to_string()));
        }
        AttributeValue::M(fields)
    };
    AttributeValue::M(lanes.iter().map(|(name, at)| (name.as_str().to_owned(), lane(at))).collect())
}

/// Lanes that cannot be read are not believed: every lane then starts at the checkpoint, which is never ahead of one.
fn read_lanes(value: Option<AttributeValue>) -> BTreeMap<LaneName, LanePosition> {
    let Some(AttributeValue::M(lanes)) = value else { return BTreeMap::new() };
    let lane = |(name, value): (String, AttributeValue)| {
        let fields = value.as_m().ok()?;
        let digits = |name| fields.get(name).and_then(|v| v.as_n().ok()?.parse().ok());
        let sequence = fields.get("sequence")?.as_s().ok()?;
        let checkpoint = Checkpoint::parse(sequence, digits("subSequence")?).ok()?;
        let behind_ms = digits("behindMs").unwrap_or(0);
        let since_ms = fields.get("unsettledSinceMs").and_then(|v| v.as_n().ok()?.parse().ok());
        let position = LanePosition { checkpoint, behind_ms, unsettled_since_ms: since_ms };
        Some((LaneName::parse(name).ok()?, position))
    };
    lanes.into_iter().map(lane).collect::<Option<_>>().unwrap_or_default()
}

/// A grant that cannot be read is none: the lease is then treated as one of an unknown owner, the most careful way.
fn read_grant(text: &str) -> Option<Grant> {
    let (incarnation, counter) = text.split_once('@')?;
    Some(Grant {
        counter: LeaseCounter(counter.parse().ok()?),
        incarnation: Incarnation(incarnation.parse().ok()?),
    })
}

/// Who declined a lease is a hint: one that cannot be read is none.
fn read_holder(text: &str) -> Option<Holder> {
    let (incarnation, worker) = text.split_once('@')?;
    Some(Holder {
        worker: WorkerId::parse(worker).ok()?,
        incarnation: Incarnation(incarnation.parse().ok()?),
    })
}

#[cfg(test)]
pub(crate) mod tests;
