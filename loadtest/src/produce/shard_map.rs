//! Which open shard a hash key belongs to, so that an aggregate holds messages of one shard only.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType};
use md5::{Digest, Md5};

use super::exit::ProduceError;
use super::names::StreamRef;
use super::put::cause_of;

/// Most pages of ListShards that are read: 1,000 shards each.
const MAX_PAGES: usize = 50;

/// The open shards by hash range.
#[derive(Debug, Default, Clone)]
pub(crate) struct ShardMap {
    /// First hash key, last hash key, shard id; sorted.
    ranges: Vec<(u128, u128, Arc<str>)>,
}

impl ShardMap {
    /// Asks the stream for its open shards.
    pub(crate) async fn load(
        client: &Client,
        stream: &StreamRef,
        page_timeout: Duration,
    ) -> Result<ShardMap, ProduceError> {
        let mut shards = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let mut call = client.list_shards();
            call = match (token.take(), stream) {
                (Some(token), _) => call.next_token(token),
                (None, StreamRef::Name(name)) => call.stream_name(name).shard_filter(latest()?),
                (None, StreamRef::Arn(arn)) => call.stream_arn(arn).shard_filter(latest()?),
            };
            let page = match tokio::time::timeout(page_timeout, call.send()).await {
                Err(_) => {
                    return Err(ProduceError::list_shards(format!(
                        "no answer within {page_timeout:?}"
                    )));
                }
                Ok(Err(error)) => {
                    return Err(ProduceError::list_shards(cause_of(&error)));
                }
                Ok(Ok(page)) => page,
            };
            shards.extend(page.shards.unwrap_or_default());
            match page.next_token {
                None => return Ok(ShardMap::of(&shards)),
                next => token = next,
            }
        }
        Err(ProduceError::list_shards(format!("more than {MAX_PAGES} pages of shards")))
    }

    /// The map of those shards that are open.
    fn of(shards: &[Shard]) -> ShardMap {
        let is_open = |shard: &&Shard| {
            shard.sequence_number_range.as_ref().is_none_or(|r| r.ending_sequence_number.is_none())
        };
        let mut ranges: Vec<_> = shards
            .iter()
            .filter(is_open)
            .filter_map(|shard| {
                let range = shard.hash_key_range.as_ref()?;
                let first = range.starting_hash_key.parse().ok()?;
                let last = range.ending_hash_key.parse().ok()?;
                Some((first, last, Arc::from(shard.shard_id.as_str())))
            })
            .collect();
        ranges.sort();
        ShardMap { ranges }
    }

    /// The shard that takes `hash`, as far as is known.
    pub(crate) fn shard_of(&self, hash: u128) -> Option<&Arc<str>> {
        let next = self.ranges.partition_point(|(first, _, _)| *first <= hash);
        let (_, last, id) = self.ranges.get(next.checked_sub(1)?)?;
        (hash <= *last).then_some(id)
    }
}

fn latest() -> Result<ShardFilter, ProduceError> {
    ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .map_err(|error| ProduceError::list_shards(error.to_string()))
}

/// The hash key that Kinesis computes from a partition key: its MD5 as a number.
pub(crate) fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// A hash key that looks random but is always the same for a key and a seed.
pub(crate) fn stable_hash(seed: u64, partition_key: &str) -> u128 {
    let digest = Md5::new().chain_update(seed.to_le_bytes()).chain_update(partition_key.as_bytes());
    u128::from_be_bytes(digest.finalize().into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use aws_sdk_kinesis::types::{HashKeyRange, SequenceNumberRange};

    pub(crate) fn shard(id: &str, first: u128, last: u128, closed: bool) -> Shard {
        let hashes = HashKeyRange::builder()
            .starting_hash_key(first.to_string())
            .ending_hash_key(last.to_string());
        let sequences = SequenceNumberRange::builder()
            .starting_sequence_number("1")
            .set_ending_sequence_number(closed.then(|| "2".to_owned()));
        Shard::builder()
            .shard_id(id)
            .hash_key_range(hashes.build().unwrap())
            .sequence_number_range(sequences.build().unwrap())
            .build()
            .unwrap()
    }

    #[test]
    fn a_hash_belongs_to_the_open_shard_that_covers_it() {
        let half = u128::MAX / 2;
        let map = ShardMap::of(&[
            shard("c", half + 1, u128::MAX, false),
            shard("a", 0, u128::MAX, true),
            shard("b", 0, half - 1, false),
        ]);
        let find = |hash| map.shard_of(hash).map(|id| &**id);
        assert_eq!(find(0), Some("b"));
        assert_eq!(find(half - 1), Some("b"));
        assert_eq!(find(half), None, "a hole is nobody's");
        assert_eq!(find(half + 1), Some("c"));
        assert_eq!(find(u128::MAX), Some("c"));
        assert_eq!(ShardMap::default().shard_of(0), None);
    }

    #[test]
    fn the_hash_of_a_key_is_its_md5() {
        // From RFC 1321's test suite: MD5 ("a").
        assert_eq!(hash_of("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
        assert_eq!(stable_hash(1, "a"), stable_hash(1, "a"));
        assert_ne!(stable_hash(1, "a"), stable_hash(2, "a"));
    }
}
