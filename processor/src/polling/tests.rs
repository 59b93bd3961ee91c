//! Polling an embedded Kinesis, in paused time.

use lease_manager::SequenceNumber;
use local_aws::Effect;

use super::*;
use crate::reader::testing::{Kinesis, STREAM, numbers, up_to};

impl Kinesis {
    fn poller(&self, start: StartingAt) -> Poller {
        self.poller_with(start, Arc::default(), Budget::new(64 << 20))
    }

    fn poller_with(&self, start: StartingAt, reads: Arc<ShardReads>, budget: Budget) -> Poller {
        let parts = PollerParts {
            options: PollingOptions::default(),
            connections: Connections::new(self.client.clone().into()),
            turns: Turns::new(50),
            reads,
            budget,
            time: self.time.clone(),
        };
        Poller::new(parts, Arc::clone(&self.shard), start, 7)
    }

    async fn put_all(&self, numbers: impl IntoIterator<Item = u32>) {
        for n in numbers {
            self.put(n).await;
        }
    }

    fn inject(&self, operation: &str, effect: Effect, times: u64) {
        self.aws.faults().inject(Kinesis::fault(operation, effect).times(times));
    }
}

async fn read(poller: &mut Poller, count: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(numbers(&poller.next().await.unwrap()));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn at_the_tip_it_asks_once_a_second_and_hands_out_empty_answers() {
    let kinesis = Kinesis::new().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    let first = poller.next().await.unwrap();
    assert!(first.records.is_empty() && first.upto.is_none() && !first.shard_ended);
    assert_eq!(first.millis_behind_latest, 0);
    kinesis.put_all(0..3).await;
    let answer = poller.next().await.unwrap();
    assert_eq!(numbers(&answer), up_to(3));
    assert_eq!(answer.upto, answer.records.last_sequence());
    let key = answer.records.spans[1].partition_key;
    assert_eq!(key.text(&answer.records.arena), "k1");
    assert!(answer.permit.is_some() && answer.wire_bytes > 100);
    let before = Instant::now();
    for _ in 0..10 {
        let idle = poller.next().await.unwrap();
        assert_eq!(idle.upto, answer.upto);
    }
    assert!((10..=11).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(kinesis.calls("GetShardIterator"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_read_as_fast_as_the_shard_allows_by_all_its_pollers_together() {
    let kinesis = Kinesis::new().await;
    for _ in 0..12 {
        kinesis.put_bytes(vec![b'x'; 900_000]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (before, reads) = (Instant::now(), Arc::<ShardReads>::default());
    let pollers = [0, 1].map(|_| {
        let (reads, budget) = (Arc::clone(&reads), Budget::new(64 << 20));
        let mut poller = kinesis.poller_with(StartingAt::TrimHorizon, reads, budget);
        tokio::spawn(async move {
            let (mut records, mut answers) = (0, 0);
            while records < 12 {
                records += poller.next().await.unwrap().records.len();
                answers += 1;
            }
            answers
        })
    });
    let mut answers = 0;
    for poller in pollers {
        answers += poller.await.unwrap();
    }
    // 21.6 MB at 2 MB a second, and the service never had to say no.
    assert!((9..=13).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(kinesis.calls("GetRecords"), answers);
}

#[tokio::test(start_paused = true)]
async fn throttling_and_lost_connections_pass_without_gap_or_duplicate() {
    let kinesis = Kinesis::new().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    kinesis.inject("GetShardIterator", Effect::Throttle, 2);
    kinesis.inject("GetRecords", Effect::Throttle, 5);
    kinesis.put_all(0..5).await;
    // A refusal is no answer: whoever took it for an empty one would believe that it is at the tip.
    assert_eq!(numbers(&poller.next().await.unwrap()), up_to(5));
    kinesis.inject("GetRecords", Effect::LostReply, 3);
    kinesis.put_all(5..9).await;
    assert_eq!(read(&mut poller, 4).await, [5, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_expired_is_renewed_behind_the_last_record() {
    let kinesis = Kinesis::new().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    kinesis.put_all(0..3).await;
    assert_eq!(read(&mut poller, 3).await, up_to(3));
    kinesis.put_all(3..6).await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(read(&mut poller, 3).await, [3, 4, 5]);
    assert_eq!(kinesis.calls("GetShardIterator"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_the_tip_survives_an_iterator_that_expired_unused() {
    let kinesis = Kinesis::new().await;
    kinesis.put_all(0..3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut poller = kinesis.poller(StartingAt::Latest);
    assert!(poller.next().await.unwrap().records.is_empty());
    tokio::time::sleep(Duration::from_secs(100)).await;
    kinesis.put_all(3..6).await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(read(&mut poller, 3).await, [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_split_shard_ends_with_its_children_and_can_be_read_again() {
    let kinesis = Kinesis::new().await;
    kinesis.put_all([0]).await;
    kinesis.split().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    for _ in 0..2 {
        let mut seen = Vec::new();
        let end = loop {
            let answer = poller.next().await.unwrap();
            seen.extend(numbers(&answer));
            if answer.shard_ended {
                break answer;
            }
        };
        assert_eq!((seen, end.children.len()), (vec![0], 2));
        assert!(end.upto.is_none());
        assert_eq!(poller.next().await.unwrap_err(), ReadError::BehindShardEnd);
        poller.restart(StartingAt::TrimHorizon);
    }
}

#[tokio::test(start_paused = true)]
async fn without_room_an_answer_is_dropped_and_asked_for_again() {
    let kinesis = Kinesis::new().await;
    let budget = Budget::new(100_000);
    let mut poller = kinesis.poller_with(StartingAt::TrimHorizon, Arc::default(), budget.clone());
    kinesis.put_bytes(vec![b'7'; 9_000]).await;
    let mut held = Vec::new();
    while let Some(permit) = budget.try_charge(1_000) {
        held.push(permit);
    }
    let nothing = tokio::time::timeout(Duration::from_secs(60), poller.next()).await;
    assert!(nothing.is_err(), "an answer came without room for it");
    assert!((5..20).contains(&kinesis.calls("GetRecords")), "{}", kinesis.calls("GetRecords"));
    held.truncate(held.len() / 2);
    let before = budget.in_use();
    let answer = poller.next().await.unwrap();
    assert_eq!(answer.records.spans[0].data.len(), 9_000);
    assert!(budget.in_use() > before + 12_000);
    drop(answer);
    assert_eq!(budget.in_use(), before);
}

#[tokio::test(start_paused = true)]
async fn dropping_next_at_any_moment_and_cancelling_lose_nothing() {
    let kinesis = Kinesis::new().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    kinesis.put_all(0..40).await;
    let mut all = Vec::new();
    for turn in 0_u64.. {
        let patience = Duration::from_millis(turn * 13 % 400);
        if let Ok(answer) = tokio::time::timeout(patience, poller.next()).await {
            all.extend(numbers(&answer.unwrap()));
            kinesis.put_all([40 + u32::try_from(turn).unwrap()]).await;
        }
        if turn % 3 == 0 {
            poller.cancel();
        }
        if turn == 60 {
            break;
        }
    }
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(all, sorted, "in order and each once");
    assert_eq!(all[..40], up_to(40));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_not_found_and_never_a_shard_end() {
    let kinesis = Kinesis::new().await;
    let mut poller = kinesis.poller(StartingAt::TrimHorizon);
    poller.next().await.unwrap();
    let delete = kinesis.client.delete_stream().stream_name(STREAM);
    delete.enforce_consumer_deletion(true).send().await.unwrap();
    for _ in 0..2 {
        let error = poller.next().await.unwrap_err();
        assert!(matches!(error, ReadError::NotFound { .. }), "{error}");
    }
    let never = SequenceNumber::parse("1").unwrap();
    poller.restart(StartingAt::After(never));
    assert!(matches!(poller.next().await, Err(ReadError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_largest_record_passes_and_those_behind_it_wait_for_the_shards_allowance() {
    let kinesis = Kinesis::new().await;
    kinesis.allow_large_records().await;
    let budget = Budget::new(28 << 20);
    let _others: Vec<_> = std::iter::from_fn(|| budget.try_charge(100_000)).collect();
    let data = vec![b'x'; (10 << 20) - 1];
    kinesis.put_bytes(data.clone()).await;
    let mut poller = kinesis.poller_with(StartingAt::TrimHorizon, Arc::default(), budget);
    let answer = poller.next().await.unwrap();
    assert_eq!(answer.records.spans[0].data.bytes(&answer.records.arena), data);
    drop(answer);
    tokio::time::sleep(Duration::from_secs(11)).await;
    kinesis.put(1).await;
    drop(_others);
    assert_eq!(read(&mut poller, 1).await, [1]);
}
