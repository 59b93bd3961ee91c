//! What belongs together, and is attempted one after the other. Pure.

use md5::{Digest, Md5};
use store::{ChainKey, DeliveryOrder};

use crate::batch::ShardContext;

/// The group of a message: those of its partition key, or of the whole shard.
///
/// A key stands where Kinesis puts it, at its MD5 hash, so that after a split or a merge it is found by whoever owns that hash key. One
/// that was put elsewhere by an explicit hash key stands where its shard starts.
pub(in crate::async_delivery) fn group_of(
    order: DeliveryOrder,
    shard: &ShardContext,
    partition_key: &str,
) -> ChainKey {
    let (start, end) = match order {
        DeliveryOrder::Shard => (shard.starting_hash_key, shard.ending_hash_key),
        DeliveryOrder::Key | DeliveryOrder::None => {
            let at = hash_key_of(partition_key);
            let own = shard.starting_hash_key..=shard.ending_hash_key;
            let at = if own.contains(&at) { at } else { shard.starting_hash_key };
            (at, at)
        }
    };
    ChainKey { start, end, shard: shard.shard_id.clone() }
}

/// Where Kinesis puts a partition key: its MD5 hash.
pub fn hash_key_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_where_kinesis_puts_it_if_that_is_here() {
        let shard = |start, end| ShardContext {
            stream_arn: "arn".into(),
            shard_id: "shardId-000000000001".into(),
            fence: 1,
            starting_hash_key: start,
            ending_hash_key: end,
        };
        let all = shard(0, u128::MAX);
        let key = group_of(DeliveryOrder::Key, &all, "key");
        // As `md5sum` prints it.
        assert_eq!(format!("{:032x}", key.start), "3c6e0b8a9c15224a8228b9a98ca1531d");
        assert!(!key.is_wide());
        let upper = shard(u128::MAX / 2, u128::MAX);
        assert_eq!(group_of(DeliveryOrder::Key, &upper, "key").start, u128::MAX / 2);
        let whole = group_of(DeliveryOrder::Shard, &upper, "key");
        assert_eq!((whole.start, whole.end), (u128::MAX / 2, u128::MAX));
        assert!(whole.overlaps(&group_of(DeliveryOrder::Shard, &all, "other")));
    }
}
