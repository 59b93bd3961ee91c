//! What stops and resumes the reading.

use std::collections::BTreeMap;
use std::time::Duration;

use local_aws::{Effect, Fault, Service};
use tokio::time::sleep;

use super::rig::{APP, Rig, STREAM, until};

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_trusted_stops_the_reading_and_frees_the_connection() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    rig.put_numbers(0..5).await;
    rig.stored_once(5).await;
    let silence =
        Fault::new(Service::Dynamodb, Effect::Partition).resource(&format!("{APP}-fleet"));
    let silence = rig.aws.faults().inject(silence.caller("a"));
    // Trust ends three seconds after the last good heartbeat.
    sleep(Duration::from_secs(4)).await;
    rig.put_numbers(5..30).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.stored.payloads().len(), 5, "nothing is worked on without a trusted lease");
    rig.aws.faults().clear(silence);
    rig.stored_once(30).await;
    assert_eq!(rig.subscribes(), 2, "the old subscription was given up");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn l4_order_of_a_key_holds_over_a_split_and_a_merge_and_nothing_is_lost() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    let mut put: BTreeMap<usize, String> = BTreeMap::new();
    let mut n = 0;
    for round in 0..3 {
        for _ in 0..40 {
            put.insert(n, rig.put(&format!("key-{}", n % 8), &n.to_string()).await.0);
            n += 1;
        }
        match round {
            0 => {
                let split = rig.kinesis.split_shard().stream_name(STREAM);
                let split = split.shard_to_split("shardId-000000000000");
                split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
            }
            1 => {
                let merge = rig.kinesis.merge_shards().stream_name(STREAM);
                let merge = merge.shard_to_merge("shardId-000000000001");
                merge.adjacent_shard_to_merge("shardId-000000000002").send().await.unwrap();
            }
            _ => {}
        }
    }
    rig.stored_once(120).await;
    let shards: std::collections::BTreeSet<&String> = put.values().collect();
    assert_eq!(shards.len(), 4, "the parent, two children and their child: {shards:?}");
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for message in rig.stored.kept() {
        let n: usize = str::from_utf8(&message.payload).unwrap().parse().unwrap();
        assert_eq!(*message.position.shard_id, *put[&n]);
        let before = last.insert(message.partition_key.to_string(), n);
        assert!(before < Some(n), "{n} of {} came after {before:?}", message.partition_key);
    }
    until("the parents are finished", || worker.handle.status().shards.len() == 1).await;
    let leases = rig.leases().await;
    for parent in ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"] {
        assert!(leases[parent].is_finished(), "{parent}");
        assert!(leases[parent].children.iter().all(|child| leases.contains_key(child.as_str())));
    }
    assert_eq!(leases["shardId-000000000003"].parents.len(), 2);
    worker.stop().await;
}
