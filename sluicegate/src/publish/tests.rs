//! Calls that fail in part, throttle, or get no answer, over the embedded Kinesis in paused time.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_async::time::SystemTimeSource;
use local_aws::{Effect, Fault, LocalAws};

use super::plan::{Answer, Ledger, call_time, of_call, of_record, pause};
use super::*;

fn outgoing(key: &str, payload: impl Into<bytes::Bytes>) -> Outgoing {
    Outgoing { partition_key: key.to_owned(), payload: payload.into() }
}

fn messages(count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| outgoing(&format!("k{}", n % 7), format!("{{\"n\":{n}}}"))).collect()
}

#[test]
fn calls_hold_what_the_service_takes() {
    let sizes =
        |messages| -> Vec<usize> { Ledger::new(messages).calls().iter().map(Vec::len).collect() };
    assert_eq!(sizes(messages(1_001)), [500, 500, 1]);
    let mib = || outgoing("k", vec![b'1'; 1024 * 1024]);
    assert_eq!(sizes(vec![mib(), mib(), mib(), mib(), mib(), mib()]), [4, 2], "with their keys");
    let huge = outgoing("k", vec![b'1'; 8 * 1024 * 1024]);
    assert_eq!(sizes(vec![mib(), huge, mib()]), [1, 1, 1]);
    assert!(sizes(Vec::new()).is_empty());
}

#[test]
fn only_what_failed_is_sent_again_and_doubt_stays() {
    let mut ledger = Ledger::new(messages(4));
    let again = ledger.note(vec![0, 1, 2, 3], Answer::All(Refusal::Unknown));
    assert_eq!(again, [0, 1, 2, 3]);
    let ok = |n: u32| Ok(("shardId-000000000000".to_owned(), n.to_string()));
    let answer = vec![Err(Refusal::Throttled), ok(5), Err(Refusal::Rejected), ok(6)];
    let again = ledger.note(again, Answer::Each(answer));
    assert_eq!(again, [0], "what was rejected is not sent again");
    let again = ledger.note(again, Answer::Each(vec![ok(7), ok(8)]));
    assert_eq!(
        (again.len(), ledger.refusal(0)),
        (1, Refusal::Unknown),
        "two answers to one record"
    );
    let outcomes = ledger.outcomes(&Arc::from("arn"));
    let in_doubt = |outcome: &Outcome| matches!(outcome, Outcome::Taken(t) if t.may_be_duplicate);
    assert!(in_doubt(&outcomes[1]) && in_doubt(&outcomes[3]));
    for open in [&outcomes[0], &outcomes[2]] {
        assert_eq!(*open, Outcome::Refused(Refusal::Unknown), "it may have been taken before");
    }
}

#[test]
fn codes_say_whether_it_was_taken_and_whether_to_try_again() {
    assert_eq!(of_record("ProvisionedThroughputExceededException"), Refusal::Throttled);
    assert_eq!(of_record("InternalFailure"), Refusal::Unavailable);
    assert_eq!(of_call("ProvisionedThroughputExceededException", 400), Refusal::Throttled);
    assert_eq!(of_call("AccessDeniedException", 400), Refusal::Rejected);
    assert_eq!(of_call("ExpiredTokenException", 400), Refusal::Unavailable);
    assert_eq!(of_call("InternalFailure", 500), Refusal::Unknown);
}

#[test]
fn pauses_double_and_end_with_the_time() {
    let mut rng = fastrand::Rng::with_seed(3);
    for attempt in 1..60 {
        let ceiling = Duration::from_millis(50).saturating_mul(1 << (attempt - 1).min(16));
        let ceiling = ceiling.min(Duration::from_secs(1));
        let pause = pause(attempt, &mut rng);
        assert!(pause >= ceiling / 2 && pause <= ceiling, "{attempt}: {pause:?}");
    }
    let (now, ms) = (Instant::now(), Duration::from_millis);
    assert_eq!(call_time(now, now + ms(8_000), ms(5_000)), Some(ms(5_000)));
    assert_eq!(call_time(now, now + ms(800), ms(5_000)), Some(ms(800)));
    assert_eq!(call_time(now, now + ms(10), ms(5_000)), None);
    assert_eq!(call_time(now + ms(9), now, ms(5_000)), None);
}

struct World {
    aws: LocalAws,
    kinesis: Client,
    publisher: KinesisPublisher,
}

impl World {
    async fn new() -> World {
        let aws = LocalAws::new(local_aws::Options::default()).unwrap();
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::from_keys("publisher", "secret", None))
            .timeout_config(TimeoutConfig::builder().build())
            .http_client(aws.http_client());
        let kinesis = Client::from_conf(config.build());
        streams::make(&kinesis, "s", &[], Some(2)).await.unwrap();
        let targets = PublishTargets::from([(name("default"), StreamRef::Name("s".to_owned()))]);
        let publisher = KinesisPublisher::new(
            kinesis.clone(),
            &targets,
            Arc::new(Integrations::compile(Vec::new()).unwrap()),
            SharedTimeSource::new(SystemTimeSource::new()),
            Duration::from_secs(2),
            5,
        );
        World { aws, kinesis, publisher: publisher.unwrap() }
    }

    fn inject(&self, operation: &str, effect: Effect, times: Option<u64>) {
        let mut fault = Fault::new(local_aws::Service::Kinesis, effect).operation(operation);
        fault.times = times;
        self.aws.faults().inject(fault);
    }

    async fn publish(&self, messages: Vec<Outgoing>, time: Duration) -> Vec<Outcome> {
        self.publisher.publish(&name("default"), messages, Instant::now() + time).await
    }

    /// Every record of the stream: its shard, sequence number and data.
    async fn records(&self) -> Vec<(String, String, Vec<u8>)> {
        let mut found = Vec::new();
        let shards = self.kinesis.list_shards().stream_name("s").send().await.unwrap();
        for shard in shards.shards() {
            let iterator = self.kinesis.get_shard_iterator().stream_name("s");
            let iterator = iterator.shard_id(shard.shard_id());
            let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
            let iterator = iterator.send().await.unwrap().shard_iterator.unwrap();
            let read = self.kinesis.get_records().shard_iterator(iterator).send().await.unwrap();
            found.extend(read.records.into_iter().map(|record| {
                let data = record.data.into_inner();
                (shard.shard_id().to_owned(), record.sequence_number, data)
            }));
        }
        found
    }
}

fn name(text: &str) -> IntegrationName {
    IntegrationName::parse(text).unwrap()
}

fn taken(outcomes: &[Outcome]) -> Vec<&api::Taken> {
    let taken = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Taken(taken) => Some(taken),
        Outcome::Refused(_) => None,
    });
    taken.collect()
}

const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn what_fails_in_part_is_sent_again_until_each_is_there_once() {
    let world = World::new().await;
    world.inject("PutRecords", Effect::Partial(0.5), Some(4));
    world.inject("PutRecords", Effect::Throttle, Some(2));
    let outcomes = world.publish(messages(40), SECONDS).await;
    let taken = taken(&outcomes);
    assert_eq!(taken.len(), 40, "{outcomes:?}");
    assert!(taken.iter().all(|taken| !taken.may_be_duplicate));
    let records = world.records().await;
    assert_eq!(records.len(), 40);
    for (n, taken) in taken.iter().enumerate() {
        let data = format!("{{\"n\":{n}}}").into_bytes();
        let place = (taken.shard_id.clone(), taken.sequence_number.clone(), data);
        assert!(records.contains(&place), "{n} is where the answer says");
    }
    let ids: BTreeSet<_> = taken.iter().map(|taken| &taken.id).collect();
    assert_eq!(ids.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_leaves_a_doubt_and_is_tried_again() {
    for effect in [Effect::LostReply, Effect::Unanswered, Effect::ErrorAfterApply] {
        let world = World::new().await;
        world.inject("PutRecords", effect.clone(), Some(1));
        let outcomes = world.publish(messages(3), SECONDS).await;
        let taken = taken(&outcomes);
        assert_eq!(taken.len(), 3, "{effect:?}: {outcomes:?}");
        assert!(taken.iter().all(|taken| taken.may_be_duplicate), "{effect:?}");
        assert_eq!(world.records().await.len(), 6, "{effect:?}: each is there twice");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_and_what_is_not_known_is_said() {
    for (effect, expected) in [
        (Effect::Unanswered, Refusal::Unknown),
        (Effect::Throttle, Refusal::Throttled),
        (Effect::Partial(1.0), Refusal::Throttled),
    ] {
        let world = World::new().await;
        world.inject("PutRecords", effect.clone(), None);
        let begun = Instant::now();
        let outcomes = world.publish(messages(3), Duration::from_secs(5)).await;
        assert_eq!(outcomes, vec![Outcome::Refused(expected); 3], "{effect:?}");
        assert!(begun.elapsed() <= Duration::from_secs(5), "{effect:?}: {:?}", begun.elapsed());
    }
    let world = World::new().await;
    let late = world.publish(messages(2), Duration::ZERO).await;
    assert_eq!(late, vec![Outcome::Refused(Refusal::NotSent); 2]);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_taken_is_not_tried_again() {
    let world = World::new().await;
    let denied = |code: &str| Effect::Refuse {
        status: 400,
        code: code.to_owned(),
        message: "arn:aws:iam::1:role/secret".to_owned(),
    };
    world.inject("PutRecords", denied("AccessDeniedException"), Some(1));
    let outcomes = world.publish(messages(2), SECONDS).await;
    assert_eq!(outcomes, vec![Outcome::Refused(Refusal::Rejected); 2]);
    assert_eq!(taken(&world.publish(messages(2), SECONDS).await).len(), 2, "the next one is");
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_looked_up_by_the_first_that_is_published() {
    let world = World::new().await;
    let calls = || {
        let calls = world.aws.calls();
        calls.iter().filter(|c| c.operation == "DescribeStreamSummary").map(|c| c.calls).sum()
    };
    let before: u64 = calls();
    world.inject("DescribeStreamSummary", Effect::Unanswered, Some(1));
    let outcomes = world.publish(messages(1), Duration::from_secs(1)).await;
    assert_eq!(outcomes, [Outcome::Refused(Refusal::NotSent)]);
    for _ in 0..3 {
        assert_eq!(taken(&world.publish(messages(1), SECONDS).await).len(), 1);
    }
    assert_eq!(calls() - before, 2);
    assert!(world.publisher.takes(&name("default")) && !world.publisher.takes(&name("other")));
}
