//! One seed's course of events.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use local_aws::{Effect, Fault, Service};
use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;
use crate::world::{STREAM, Worker, World};

/// How long the disturbed part lasts, simulated.
const DISTURBED: Duration = Duration::from_secs(90);
/// How long everything may take to arrive once nothing fails any more, simulated.
const RECOVERY: Duration = Duration::from_secs(180);

/// What a course left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Records that were put, and arrived.
    pub records: usize,
    /// Of the tables' final contents.
    pub fingerprint: u64,
    /// Calls of all kinds, faulted ones included.
    pub calls: u64,
}

/// Runs a seed to its end; panics when a promise is broken.
pub fn run(seed: u64) -> Outcome {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(course(seed))
}

async fn course(seed: u64) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::make(seed, rng.i32(1..=3)).await;
    let mut ledger = Ledger::default();
    let mut lives = 0;
    let mut workers: Vec<Worker> = Vec::new();
    let end = Instant::now() + DISTURBED;
    while Instant::now() < end {
        if workers.is_empty() {
            lives += 1;
            workers.push(world.start(&format!("worker-{}", lives % 3), lives));
        }
        step(&world, &mut rng, &mut ledger, &mut workers, &mut lives).await;
        ledger.look(&world).await;
        sleep(Duration::from_millis(rng.u64(10..2_000))).await;
    }
    world.aws.faults().clear_all();
    ledger.check_positions(&world).await;
    if workers.is_empty() {
        workers.push(world.start("worker-last", lives + 1));
    }
    let deadline = Instant::now() + RECOVERY;
    while ledger.missing(&world).await > 0 && Instant::now() < deadline {
        sleep(Duration::from_secs(2)).await;
    }
    // What is read to its end is finished a moment later.
    sleep(Duration::from_secs(2)).await;
    for worker in workers {
        worker.stop().await;
    }
    ledger.check(&world).await;
    Outcome {
        records: ledger.len(),
        fingerprint: ledger.fingerprint(&world).await,
        calls: world.aws.calls().iter().map(|call| call.calls).sum(),
    }
}

async fn step(
    world: &World,
    rng: &mut fastrand::Rng,
    ledger: &mut Ledger,
    workers: &mut Vec<Worker>,
    lives: &mut u64,
) {
    match rng.u32(0..100) {
        0..50 => put(world, rng, ledger).await,
        50..62 => fault(world, rng),
        62..70 => world.aws.faults().clear_all(),
        70..78 if !workers.is_empty() => {
            workers.swap_remove(rng.usize(..workers.len())).kill().await
        }
        78..84 if !workers.is_empty() => {
            workers.swap_remove(rng.usize(..workers.len())).stop().await
        }
        84..92 if workers.len() < 3 => {
            *lives += 1;
            let name = format!("worker-{}", *lives % 3);
            if workers.iter().all(|worker| worker.name != name) {
                workers.push(world.start(&name, *lives));
            }
        }
        92..96 => split(world, rng).await,
        96..100 => merge(world).await,
        _ => {}
    }
}

/// Puts a few records; what the stream acknowledged is owed.
async fn put(world: &World, rng: &mut fastrand::Rng, ledger: &mut Ledger) {
    let mut request = world.kinesis.put_records().stream_name(STREAM);
    let mut payloads = Vec::new();
    for _ in 0..rng.usize(1..40) {
        let key = format!("key-{}", rng.u32(0..20));
        let payload = format!(r#"{{"key":"{key}","n":{}}}"#, ledger.len() + payloads.len());
        let data = Blob::new(payload.as_bytes());
        let entry = PutRecordsRequestEntry::builder().partition_key(key).data(data).build();
        request = request.records(entry.unwrap());
        payloads.push(payload);
    }
    let answer = request.send().await.unwrap();
    for (payload, put) in payloads.into_iter().zip(answer.records) {
        // A record over the shard's rate is refused alone.
        if let (Some(shard), Some(sequence)) = (put.shard_id, put.sequence_number) {
            ledger.put(payload, shard, &sequence);
        }
    }
}

/// Something starts to fail for one of the workers, for a number of calls.
fn fault(world: &World, rng: &mut fastrand::Rng) {
    let effect = match rng.u32(0..11) {
        0 => Effect::Throttle,
        1 => Effect::InternalError,
        2 => Effect::LostReply,
        3 => Effect::ErrorAfterApply,
        4 => Effect::Latency(Duration::from_millis(rng.u64(10..900))),
        5 => Effect::LateApply(Duration::from_millis(rng.u64(500..8_000))),
        6 | 7 => Effect::CutStream,
        8 => Effect::Unanswered,
        9 => Effect::Partition,
        _ => Effect::Partial(0.5),
    };
    let service = match effect {
        Effect::CutStream => Service::Kinesis,
        Effect::Throttle | Effect::InternalError | Effect::Partition if rng.bool() => {
            Service::Kinesis
        }
        _ => Service::Dynamodb,
    };
    let caller = format!("worker-{}", rng.u32(0..3));
    world.aws.faults().inject(Fault::new(service, effect).caller(&caller).times(rng.u64(1..60)));
}

async fn split(world: &World, rng: &mut fastrand::Rng) {
    let open = open_shards(world).await;
    if open.len() >= 6 {
        return;
    }
    let (shard, start, end) = &open[rng.usize(..open.len())];
    let middle = start + (end - start) / 2 + 1;
    let request = world.kinesis.split_shard().stream_name(STREAM).shard_to_split(shard);
    let _ = request.new_starting_hash_key(middle.to_string()).send().await;
}

async fn merge(world: &World) {
    let mut open = open_shards(world).await;
    open.sort_by_key(|(_, start, _)| *start);
    if let Some([left, right]) = open.windows(2).next() {
        let request = world.kinesis.merge_shards().stream_name(STREAM);
        let _ = request.shard_to_merge(&left.0).adjacent_shard_to_merge(&right.0).send().await;
    }
}

/// Open shards with their hash ranges.
async fn open_shards(world: &World) -> Vec<(String, u128, u128)> {
    let listed = world.kinesis.list_shards().stream_name(STREAM).send().await.unwrap();
    let open = listed.shards().iter().filter(|shard| {
        shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
    });
    open.map(|shard| {
        let range = shard.hash_key_range().unwrap();
        let number = |text: &str| text.parse::<u128>().unwrap();
        (
            shard.shard_id().to_owned(),
            number(range.starting_hash_key()),
            number(range.ending_hash_key()),
        )
    })
    .collect()
}
