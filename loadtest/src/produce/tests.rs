//! Whole producers over an embedded Kinesis, through the real SDK client, in paused time.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_async::time::{SharedTimeSource, StaticTimeSource};
use bytes::Bytes;
use local_aws::{Effect, Fault, KinesisOptions, LocalAws, Service};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;

struct World {
    aws: LocalAws,
    client: Client,
}

/// One message as a consumer sees it.
#[derive(Debug)]
struct Seen {
    shard: String,
    key: String,
    data: Bytes,
}

impl World {
    async fn new(shards: i32, enforce_limits: bool) -> World {
        let kinesis = KinesisOptions { enforce_limits, ..KinesisOptions::default() };
        let aws =
            LocalAws::new(local_aws::Options { kinesis, ..local_aws::Options::default() }).unwrap();
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::from_keys("tester", "secret", None))
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .http_client(aws.http_client())
            .build();
        let client = Client::from_conf(config);
        client.create_stream().stream_name("events").shard_count(shards).send().await.unwrap();
        World { aws, client }
    }

    async fn run(&self, options: Options) -> Exit {
        let time = SharedTimeSource::new(StaticTimeSource::from_secs(1_000));
        let (producer, _) = Producer::new(options, self.client.clone(), time).unwrap();
        producer.run(CancellationToken::new()).await
    }

    async fn shard_map(&self) -> shard_map::ShardMap {
        let stream = "events".parse().unwrap();
        shard_map::ShardMap::load(&self.client, &stream, Duration::from_secs(1)).await.unwrap()
    }

    /// Every message in the stream, aggregates taken apart, shard by shard in order.
    async fn read(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let shards = self.client.list_shards().stream_name("events").send().await.unwrap();
        for shard in shards.shards() {
            let call = self.client.get_shard_iterator().stream_name("events");
            let call =
                call.shard_id(&shard.shard_id).shard_iterator_type(ShardIteratorType::TrimHorizon);
            let mut iterator = call.send().await.unwrap().shard_iterator;
            while let Some(at) = iterator {
                let page = self.client.get_records().shard_iterator(at).send().await.unwrap();
                for record in &page.records {
                    let key = record.partition_key.clone().unwrap_or_default();
                    let data = Bytes::copy_from_slice(record.data.as_ref());
                    let messages =
                        aggregate::tests::decode(&data).unwrap_or_else(|| vec![(key, data)]);
                    seen.extend(messages.into_iter().map(|(key, data)| Seen {
                        shard: shard.shard_id.clone(),
                        key,
                        data,
                    }));
                }
                iterator = page.next_shard_iterator.filter(|_| !page.records.is_empty());
            }
        }
        seen
    }
}

fn generated(messages: u64) -> Options {
    let generate = Generate { size: Size::Fixed(120), keys: 20, skew: 0.8 };
    let mut options = Options::new("events".parse().unwrap(), Source::Generate(generate));
    options.limit = Some(messages);
    options.keys = Keys::Generated;
    options
}

fn replayed(lines: &'static str) -> Options {
    let inputs = vec![ReplayInput::Memory(Bytes::from_static(lines.as_bytes()))];
    Options::new("events".parse().unwrap(), Source::Replay(Replay { inputs, repeat: false }))
}

/// The `sequence` of each message, by key, in the order of the stream.
fn sequences(seen: &[Seen]) -> BTreeMap<&str, Vec<u64>> {
    let mut sequences: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in seen {
        let json: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(json["key"], message.key.as_str());
        sequences.entry(message.key.as_str()).or_default().push(json["sequence"].as_u64().unwrap());
    }
    sequences
}

#[tokio::test(start_paused = true)]
async fn every_generated_message_arrives_once() {
    let world = World::new(3, false).await;
    let exit = world.run(generated(2_345)).await;
    let Exit::Done(summary) = exit else { panic!("{exit:?}") };
    assert!(summary.is_complete());
    assert_eq!((summary.stats.messages_read, summary.stats.messages_sent), (2_345, 2_345));
    let seen = world.read().await;
    assert_eq!(seen.len(), 2_345);
    for (key, mut sequences) in sequences(&seen) {
        sequences.sort_unstable();
        assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "{key}: {sequences:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_fail_alone_are_sent_again_and_the_order_within_a_key_is_kept() {
    let world = World::new(2, false).await;
    let mut fault = Fault::new(Service::Kinesis, Effect::Partial(0.3)).operation("PutRecords");
    fault.chance = 0.5;
    world.aws.faults().inject(fault);
    let mut options = generated(1_000);
    options.order_per_key = true;
    options.attempts = 100;
    let exit = world.run(options).await;
    let stats = exit.summary().stats;
    assert!(stats.records_throttled + stats.records_retried > 50, "{stats:?}");
    assert_eq!((stats.messages_sent, stats.messages_failed), (1_000, 0));
    let seen = world.read().await;
    for (key, sequences) in sequences(&seen) {
        assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "{key}: {sequences:?}");
    }
    assert_eq!(seen.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn throttling_by_the_shards_limit_only_slows_it_down() {
    let world = World::new(1, true).await;
    let started = Instant::now();
    let exit = world.run(generated(3_500)).await;
    assert_eq!(exit.summary().stats.messages_sent, 3_500);
    assert!(exit.summary().stats.records_throttled > 0);
    assert!(started.elapsed() >= Duration::from_secs(2), "1,000 records a second and shard");
}

#[tokio::test(start_paused = true)]
async fn aggregates_hold_messages_of_one_shard_and_none_is_lost() {
    let world = World::new(4, false).await;
    let mut options = generated(2_000);
    options.aggregation = Some(Aggregation { max_messages: 30, max_bytes: 8_192 });
    let exit = world.run(options).await;
    let stats = exit.summary().stats;
    assert_eq!((stats.messages_sent, stats.messages_misplaced), (2_000, 0));
    assert!(stats.records_sent < 200, "{stats:?}");
    let seen = world.read().await;
    assert_eq!(sequences(&seen).values().map(Vec::len).sum::<usize>(), 2_000);
    let map = world.shard_map().await;
    for message in &seen {
        let home = map.shard_of(shard_map::hash_of(&message.key)).unwrap();
        assert_eq!(**home, *message.shard, "{}", message.key);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reshard_misplaced_messages_go_again_to_their_own_shard() {
    let world = World::new(1, false).await;
    let mut options = generated(600);
    options.aggregation = Some(Aggregation { max_messages: 20, max_bytes: 8_192 });
    options.pace = Pace::Rate { per_second: 100.0, burst: None };
    options.linger = Duration::from_millis(500);
    let split = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let call =
            world.client.split_shard().stream_name("events").shard_to_split("shardId-000000000000");
        call.new_starting_hash_key((u128::MAX / 2 + 1).to_string()).send().await.unwrap();
    };
    let (exit, ()) = tokio::join!(world.run(options), split);
    let stats = exit.summary().stats;
    assert_eq!(stats.messages_sent, 600);
    assert!(stats.messages_misplaced > 0, "{stats:?}");
    let map = world.shard_map().await;
    // What counts is what a consumer counts that drops messages outside the shard's range.
    let mut kept: Vec<_> = world.read().await;
    kept.retain(|message| {
        let home = map.shard_of(shard_map::hash_of(&message.key)).unwrap();
        message.shard == "shardId-000000000000" || **home == *message.shard
    });
    assert_eq!(sequences(&kept).values().map(Vec::len).sum::<usize>(), 600);
}

#[tokio::test(start_paused = true)]
async fn a_rate_takes_its_time() {
    let world = World::new(1, false).await;
    let mut options = generated(101);
    options.pace = Pace::Rate { per_second: 10.0, burst: None };
    let exit = world.run(options).await;
    let elapsed = exit.summary().elapsed;
    let expected = Duration::from_secs(10)..Duration::from_millis(10_200);
    assert!(expected.contains(&elapsed), "{elapsed:?}");
    assert_eq!(exit.summary().stats.late_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_a_producer_sends_what_it_took_and_ends() {
    let world = World::new(1, false).await;
    let mut options = generated(1_000);
    options.pace = Pace::Rate { per_second: 10.0, burst: None };
    options.duration = Some(Duration::from_millis(2_950));
    let exit = world.run(options).await;
    let Exit::Done(summary) = exit else { panic!("{exit:?}") };
    assert!(summary.is_complete());
    assert_eq!((summary.stats.messages_read, summary.stats.messages_sent), (30, 30));
    assert_eq!(world.read().await.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_the_recorded_pauses_and_the_keys() {
    let world = World::new(1, false).await;
    let mut options = replayed(
        "{\"id\":\"a\",\"at\":1000}\n{\"id\":7,\"at\":61000}\n{\"at\":121000}\nnot json\n",
    );
    options.keys = Keys::Pointer("/id".parse().unwrap());
    let time = TimeField { pointer: "/at".parse().unwrap(), unit: TimeUnit::Milliseconds };
    options.pace = Pace::Recorded { time, speed: 60.0, longest_gap: None };
    let exit = world.run(options).await;
    let elapsed = exit.summary().elapsed;
    assert!(
        (Duration::from_secs(2)..Duration::from_millis(2_100)).contains(&elapsed),
        "{elapsed:?}"
    );
    assert_eq!(exit.summary().stats.messages_without_key, 2);
    let seen = world.read().await;
    let keys: Vec<_> = seen.iter().take(2).map(|message| message.key.as_str()).collect();
    assert_eq!(keys, ["a", "7"]);
    assert_eq!(seen[3].data, "not json", "what is not JSON is sent as it is");
}

#[tokio::test(start_paused = true)]
async fn a_share_is_malformed_and_the_same_for_a_seed() {
    let count = async |seed| {
        let world = World::new(1, false).await;
        let mut options = generated(1_000);
        (options.malformed_share, options.seed) = (0.1, seed);
        let malformed = world.run(options).await.summary().stats.messages_malformed;
        let is_message = |data: &Bytes| {
            serde_json::from_slice::<serde_json::Value>(data)
                .is_ok_and(|json| json["key"].is_string())
        };
        let broken = world.read().await.iter().filter(|message| !is_message(&message.data)).count();
        assert_eq!(broken as u64, malformed);
        malformed
    };
    let malformed = count(1).await;
    assert!((60..140).contains(&malformed), "{malformed}");
    assert_eq!(malformed, count(1).await);
}

#[tokio::test(start_paused = true)]
async fn stopping_counts_what_was_not_sent() {
    let world = World::new(1, false).await;
    world
        .aws
        .faults()
        .inject(Fault::new(Service::Kinesis, Effect::Throttle).operation("PutRecords"));
    let mut options = generated(10_000);
    options.queued_records = 100;
    let time = SharedTimeSource::new(StaticTimeSource::from_secs(1));
    let (producer, handle) = Producer::new(options, world.client.clone(), time).unwrap();
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let (exit, ()) = tokio::join!(producer.run(stop), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stopper.cancel();
    });
    let Exit::Stopped(summary) = exit else { panic!("{exit:?}") };
    let stats = summary.stats;
    assert!(summary.last_failure.is_none(), "stopped, not failed");
    assert_eq!(stats.messages_sent, 0);
    assert!(
        stats.messages_read >= 100 && stats.messages_read < 10_000,
        "the source waits: {stats:?}"
    );
    assert_eq!(stats.messages_abandoned, stats.messages_read);
    assert_eq!(handle.stats(), stats);
}

#[tokio::test(start_paused = true)]
async fn exhausted_attempts_are_failures_and_a_missing_stream_ends_it() {
    let world = World::new(1, false).await;
    let broken = Fault::new(Service::Kinesis, Effect::InternalError).operation("PutRecords");
    world.aws.faults().inject(broken.times(3));
    let mut options = generated(10);
    options.attempts = 3;
    let exit = world.run(options.clone()).await;
    let Exit::Done(summary) = &exit else { panic!("{exit:?}") };
    assert!(!summary.is_complete());
    assert!(summary.last_failure.as_ref().is_some_and(|text| text.contains("InternalFailure")));
    assert_eq!(exit.summary().stats.messages_failed, 10);

    options.stream = "missing".parse().unwrap();
    let exit = world.run(options).await;
    let Exit::Failed(summary, error) = &exit else { panic!("{exit:?}") };
    assert!(error.to_string().contains("ResourceNotFoundException"), "{error}");
    assert_eq!(summary.stats.requests, 1, "no attempt can succeed, so there is one");
}

#[test]
fn wrong_options_are_refused_with_what_is_allowed() {
    let refused = |change: fn(&mut Options)| {
        let mut options = generated(1);
        change(&mut options);
        options.validate().unwrap_err().to_string()
    };
    assert_eq!(refused(|o| o.malformed_share = 2.0), "malformed_share is 2: allowed is 0 to 1");
    assert!(refused(|o| o.request_records = 501).contains("1 to 500"));
    assert!(refused(|o| o.pace = Pace::Rate { per_second: 0.0, burst: None }).starts_with("rate"));
    let recorded = refused(|o| {
        let time = TimeField { pointer: "/t".parse().unwrap(), unit: TimeUnit::Seconds };
        o.pace = Pace::Recorded { time, speed: 1.0, longest_gap: None };
    });
    assert!(recorded.contains("generated source"), "{recorded}");
}
