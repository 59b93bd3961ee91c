//! The reader over an embedded Kinesis, in paused time; what no Kinesis does on demand is in `scripted`.

mod scripted;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use lease_manager::SequenceNumber;
use local_aws::Effect;
use tokio::time::Instant;

use super::*;
use crate::arena::{RawRecord, Records};
use crate::reader::testing::{Kinesis, client, context, numbers, put, up_to};

impl Kinesis {
    fn fan_out(&self, start: StartingAt) -> FanOut {
        self.fan_out_within(start, Budget::new(64 << 20))
    }

    fn fan_out_within(&self, start: StartingAt, budget: Budget) -> FanOut {
        let parts = FanOutParts {
            options: FanOutOptions::default(),
            connections: Connections::new(self.client.clone().into()),
            turns: Turns::new(50),
            budget,
            consumer: Consumer::new(&self.shard.stream_arn, &self.consumer_arn),
        };
        FanOut::new(parts, Arc::clone(&self.shard), start, 7)
    }

    fn subscribe_calls(&self) -> u64 {
        self.calls("SubscribeToShard")
    }

    /// Another reader with the same consumer; its stream is dropped at once.
    async fn subscribe_elsewhere(&self) {
        let latest = StartingPosition::builder().r#type(ShardIteratorType::Latest).build().unwrap();
        let call = self.client.subscribe_to_shard().consumer_arn(&*self.consumer_arn);
        call.shard_id(&*self.shard.shard_id).starting_position(latest).send().await.unwrap();
    }
}

fn fault(effect: Effect) -> local_aws::Fault {
    Kinesis::fault("SubscribeToShard", effect)
}

/// Reads until `count` numbers have come, and no further.
async fn read(fan_out: &mut FanOut, count: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(numbers(&fan_out.next().await.unwrap()));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn records_are_pushed_in_order_and_silence_still_moves_the_position() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    let first = fan_out.next().await.unwrap();
    assert!(first.records.is_empty() && first.upto.is_some() && !first.shard_ended);
    for n in 0..3 {
        kinesis.put(n).await;
        let before = Instant::now();
        let event = fan_out.next().await.unwrap();
        assert_eq!(numbers(&event), [n]);
        assert!(before.elapsed() < Duration::from_millis(100), "{:?}", before.elapsed());
        let record = event.records.spans[0];
        assert_eq!(record.partition_key.text(&event.records.arena), format!("k{n}"));
        assert!(event.upto >= event.records.last_sequence());
        assert!(event.wire_bytes > 100 && record.arrived_at_ms > 1_500_000_000_000);
    }
    let before = Instant::now();
    let idle = fan_out.next().await.unwrap();
    assert!(idle.records.is_empty() && idle.upto.is_some());
    assert!(before.elapsed() <= Duration::from_secs(6));
    assert_eq!(kinesis.subscribe_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_over_expired_subscriptions_without_gap_or_duplicate() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    let producer = kinesis.client.clone();
    tokio::spawn(async move {
        for n in 0..200 {
            put(&producer, n).await;
            tokio::time::sleep(Duration::from_millis(4700)).await;
        }
    });
    assert_eq!(read(&mut fan_out, 200).await, up_to(200));
    // Fifteen minutes: three whole subscriptions and the one under way.
    assert_eq!(kinesis.subscribe_calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_a_checkpoint_reads_that_record_again_and_after_it_does_not() {
    let kinesis = Kinesis::new().await;
    for n in 0..5 {
        kinesis.put(n).await;
    }
    let mut all = kinesis.fan_out(StartingAt::TrimHorizon);
    let mut sequences: Vec<SequenceNumber> = Vec::new();
    while sequences.len() < 5 {
        let Records { arena, spans } = all.next().await.unwrap().records;
        let sequence = |r: &RawRecord| SequenceNumber::parse(r.sequence.text(&arena)).unwrap();
        sequences.extend(spans.iter().map(sequence));
    }
    all.cancel();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut at = kinesis.fan_out(StartingAt::At(sequences[2].clone()));
    assert_eq!(read(&mut at, 3).await, [2, 3, 4]);
    at.cancel();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut after = kinesis.fan_out(StartingAt::After(sequences[2].clone()));
    assert_eq!(read(&mut after, 2).await, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_in_use_is_asked_for_again_at_a_measured_pace() {
    let kinesis = Kinesis::new().await;
    kinesis.put(0).await;
    kinesis.subscribe_elsewhere().await;
    let before = Instant::now();
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    assert_eq!(read(&mut fan_out, 1).await, [0]);
    let waited = before.elapsed();
    assert!((5..8).contains(&waited.as_secs()), "{waited:?}");
    // One by the other reader; ours at least a second apart.
    assert!((3..=7).contains(&kinesis.subscribe_calls()), "{}", kinesis.subscribe_calls());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_somebody_took_over_is_resumed_where_it_was() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    for n in 0..3 {
        kinesis.put(n).await;
    }
    assert_eq!(read(&mut fan_out, 3).await, up_to(3));
    tokio::time::sleep(Duration::from_secs(6)).await;
    kinesis.subscribe_elsewhere().await;
    for n in 3..6 {
        kinesis.put(n).await;
    }
    let before = Instant::now();
    assert_eq!(read(&mut fan_out, 3).await, [3, 4, 5]);
    assert!((5..8).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_split_shard_ends_with_its_children_and_only_once() {
    let kinesis = Kinesis::new().await;
    kinesis.put(0).await;
    kinesis.split().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    let mut seen = Vec::new();
    let end = loop {
        let event = fan_out.next().await.unwrap();
        seen.extend(numbers(&event));
        assert_eq!(event.shard_ended, event.upto.is_none());
        if event.shard_ended {
            break event;
        }
    };
    assert_eq!(seen, [0]);
    assert_eq!(end.children.len(), 2);
    assert!(end.children.iter().all(|c| c.parents[0].as_str() == &*kinesis.shard.shard_id));
    assert_eq!(end.children[0].starting_hash_key, "0");
    assert_eq!(fan_out.next().await.unwrap_err(), ReadError::BehindShardEnd);
    fan_out.cancel();
    assert_eq!(fan_out.next().await.unwrap_err(), ReadError::BehindShardEnd);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_left_after_the_deadline_and_nothing_is_lost() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    kinesis.put(0).await;
    assert_eq!(read(&mut fan_out, 1).await, [0]);
    let fault = kinesis.aws.faults().inject(fault(Effect::Partition));
    for n in 1..4 {
        kinesis.put(n).await;
    }
    let (faults, before) = (kinesis.aws.faults().clone(), Instant::now());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(50)).await;
        faults.clear(fault);
    });
    // Silent for 35 s; a call without an answer for 30 s; then it comes through.
    assert_eq!(read(&mut fan_out, 3).await, [1, 2, 3]);
    assert!((65..70).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(kinesis.subscribe_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn cut_streams_and_throttled_calls_pass() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    kinesis.put(0).await;
    assert_eq!(read(&mut fan_out, 1).await, [0]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let cut = kinesis.aws.faults().inject(fault(Effect::CutStream));
    kinesis.put(1).await;
    // Subscriptions are cut as long as the fault lasts.
    let nothing = tokio::time::timeout(Duration::from_secs(20), read(&mut fan_out, 1)).await;
    assert!(nothing.is_err());
    kinesis.aws.faults().clear(cut);
    kinesis.aws.faults().inject(fault(Effect::Throttle).times(3));
    assert_eq!(read(&mut fan_out, 1).await, [1]);
    assert!(kinesis.subscribe_calls() < 12, "{}", kinesis.subscribe_calls());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_gone_is_not_found_and_never_a_shard_end() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    fan_out.next().await.unwrap();
    let gone = kinesis.client.deregister_stream_consumer();
    gone.consumer_arn(&*kinesis.consumer_arn).send().await.unwrap();
    for _ in 0..2 {
        let error = loop {
            match fan_out.next().await {
                Ok(event) => assert!(!event.shard_ended),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::NotFound { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_drops_the_subscription_and_keeps_the_position() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    kinesis.put(0).await;
    assert_eq!(read(&mut fan_out, 1).await, [0]);
    kinesis.put(1).await;
    let before = Instant::now();
    fan_out.cancel();
    assert_eq!(read(&mut fan_out, 1).await, [1]);
    // Our own success was a moment ago: an earlier call would have been refused.
    assert!((5..7).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(kinesis.subscribe_calls(), 2);
    // A minute later there is nothing to wait for.
    tokio::time::sleep(Duration::from_secs(60)).await;
    kinesis.put(2).await;
    fan_out.cancel();
    let before = Instant::now();
    assert_eq!(read(&mut fan_out, 1).await, [2]);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn dropping_next_at_any_moment_loses_nothing() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    let producer = kinesis.client.clone();
    tokio::spawn(async move {
        for n in 0..100 {
            put(&producer, n).await;
            tokio::time::sleep(Duration::from_millis(u64::from(n * 7 % 23))).await;
        }
    });
    let mut all = Vec::new();
    for patience in (0..).map(|i| Duration::from_millis(i % 5)) {
        if let Ok(event) = tokio::time::timeout(patience, fan_out.next()).await {
            all.extend(numbers(&event.unwrap()));
        }
        if all.len() >= 100 {
            break;
        }
    }
    assert_eq!(all, up_to(100));
    assert_eq!(kinesis.subscribe_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_room_gives_the_subscription_up_and_is_read_once_there_is_room() {
    let kinesis = Kinesis::new().await;
    let budget = Budget::new(100_000);
    let mut fan_out = kinesis.fan_out_within(StartingAt::TrimHorizon, budget.clone());
    fan_out.next().await.unwrap();
    let mut held: Vec<Permit> = std::iter::from_fn(|| budget.try_charge(1_000)).collect();
    kinesis.put_bytes(vec![b'7'; 9_000]).await;
    let nothing = tokio::time::timeout(Duration::from_secs(60), fan_out.next()).await;
    assert!(nothing.is_err(), "an event came without room for it");
    let calls = kinesis.subscribe_calls();
    assert!((3..=13).contains(&calls), "{calls}");
    held.truncate(held.len() / 2);
    let before = budget.in_use();
    let event = loop {
        let event = fan_out.next().await.unwrap();
        if !event.records.is_empty() {
            break event;
        }
    };
    assert_eq!(event.records.spans[0].data.len(), 9_000);
    assert!(budget.in_use() > before + 12_000, "held until it is decoded");
    drop(event);
    assert_eq!(budget.in_use(), before);
}

#[tokio::test(start_paused = true)]
async fn the_largest_record_passes_by_the_jumbo_part_while_others_hold_the_rest() {
    let kinesis = Kinesis::new().await;
    kinesis.allow_large_records().await;
    let budget = Budget::new(28 << 20);
    let _others: Vec<Permit> = std::iter::from_fn(|| budget.try_charge(100_000)).collect();
    let data = vec![b'x'; (10 << 20) - 1];
    kinesis.put_bytes(data.clone()).await;
    let mut fan_out = kinesis.fan_out_within(StartingAt::TrimHorizon, budget);
    let event = fan_out.next().await.unwrap();
    assert!(event.wire_bytes > 13 << 20);
    assert_eq!(event.records.spans[0].data.bytes(&event.records.arena), data);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_registered_again_is_found_by_its_name() {
    let kinesis = Kinesis::new().await;
    let mut fan_out = kinesis.fan_out(StartingAt::TrimHorizon);
    kinesis.put(0).await;
    assert_eq!(read(&mut fan_out, 1).await, [0]);
    let gone = kinesis.client.deregister_stream_consumer();
    gone.consumer_arn(&*kinesis.consumer_arn).send().await.unwrap();
    // An ARN tells the second of the registration.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = kinesis.client.register_stream_consumer().stream_arn(&*kinesis.shard.stream_arn);
    let again = again.consumer_name("app").send().await.unwrap().consumer.unwrap();
    assert_ne!(*again.consumer_arn, *kinesis.consumer_arn);
    kinesis.put(1).await;
    assert_eq!(read(&mut fan_out, 1).await, [1]);
}
