//! Where reading began: which shards anybody has been given records of, and which calls begin at the oldest one.
//!
//! "From the oldest record" means the oldest one that the stream still has when it is asked. As long as nobody was given a record of a
//! shard that has no parents, what passed the retention before is owed to nobody. From the first record that was given on, everything
//! behind it is.

use std::collections::{BTreeMap, BTreeSet};

use local_aws::{Seen, Traced};
use serde_json::Value;

/// What the wire shows of it.
#[derive(Default)]
pub struct Starts {
    given: BTreeSet<String>,
    /// Iterators at the oldest record that were handed out and not used yet, and their shards.
    iterators: BTreeMap<String, String>,
}

impl Starts {
    /// The shard that an answered call began to read at its oldest record, if it did.
    pub fn began(&mut self, traced: &Traced<'_>) -> Option<String> {
        let Seen::Answered { status: 200, body } = traced.seen else { return None };
        let request: Value = serde_json::from_slice(traced.request).ok()?;
        let oldest = |kind: &Value| kind == "TRIM_HORIZON";
        let shard = || request["ShardId"].as_str().map(str::to_owned);
        let began = match traced.operation {
            "SubscribeToShard" if oldest(&request["StartingPosition"]["Type"]) => shard(),
            "GetShardIterator" if oldest(&request["ShardIteratorType"]) => {
                let answer: Value = serde_json::from_slice(body).ok()?;
                let iterator = answer["ShardIterator"].as_str()?.to_owned();
                self.iterators.insert(iterator, shard()?);
                None
            }
            "GetRecords" => self.iterators.remove(request["ShardIterator"].as_str()?),
            _ => None,
        };
        began.filter(|shard| !self.given.contains(shard))
    }

    /// Somebody was given a record of the shard.
    pub fn give(&mut self, shard: &str) {
        self.given.insert(shard.to_owned());
    }
}

/// The bytes that were given to a reader of a stream, if these are such.
pub fn given<'a>(traced: &Traced<'a>) -> Option<&'a [u8]> {
    match traced.seen {
        Seen::Frame(frame) => Some(frame),
        Seen::Answered { status: 200, body } if traced.operation == "GetRecords" => Some(body),
        _ => None,
    }
}

/// The number of the first record in a piece of a stream, or in an answer with records.
pub fn first_record(bytes: &[u8]) -> Option<&str> {
    const BEFORE: &[u8] = b"\"SequenceNumber\":\"";
    let start = bytes.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    let rest = &bytes[start..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}
