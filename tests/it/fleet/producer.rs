//! A record to every shard every 100 ms, each with its own number.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::harness::aws::Aws;
use crate::harness::platform::STREAM;

const INTERVAL: Duration = Duration::from_millis(100);

/// Writes until it is stopped.
pub struct Producer {
    /// When the call for each number began, of those that were answered.
    put: Arc<Mutex<Vec<Instant>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Producer {
    pub fn start(aws: Aws, shards: usize) -> Producer {
        let put = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(produce(aws, shards, Arc::clone(&put), stop.clone()));
        Producer { put, stop, task }
    }

    /// How many records every shard has got.
    pub fn count(&self) -> usize {
        assert!(!self.task.is_finished(), "the producer goes on");
        self.put.lock().unwrap().len()
    }

    /// The first record that began to be written after `moment`; records to come count.
    pub fn first_after(&self, moment: Instant) -> usize {
        self.put.lock().unwrap().partition_point(|at| *at <= moment)
    }

    /// Stops between two calls, and says how many records every shard has got.
    pub async fn stop(&mut self) -> usize {
        self.stop.cancel();
        (&mut self.task).await.expect("every record was put");
        self.put.lock().unwrap().len()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn produce(aws: Aws, shards: usize, put: Arc<Mutex<Vec<Instant>>>, stop: CancellationToken) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let began = Instant::now();
        let records = (0..shards).map(|shard| entry(shard, shards, number)).collect();
        let call = aws.kinesis.put_records().stream_name(STREAM).set_records(Some(records));
        let answer = call.send().await.expect("records are put");
        assert_eq!(answer.failed_record_count(), Some(0));
        put.lock().unwrap().push(began);
    }
}

fn entry(shard: usize, shards: usize, number: u64) -> PutRecordsRequestEntry {
    let entity = format!("shard-{shard}");
    let properties = json!({ "net": entity, "time": 1_700_000_000_000 + number, "shard": shard, "number": number });
    let record =
        json!({ "type": "Feature", "id": format!("{shard}-{number}"), "properties": properties });
    // The middle of the shard's part of the hash space.
    let part = u128::MAX / shards as u128;
    let hash_key = part * shard as u128 + part / 2;
    PutRecordsRequestEntry::builder()
        .partition_key(entity)
        .explicit_hash_key(hash_key.to_string())
        .data(Blob::new(record.to_string()))
        .build()
        .expect("complete")
}
