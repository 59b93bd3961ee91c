//! The source as consumers see it: the real SDK over real sockets. Every record is held against what it must be.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{
    Record, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;

const SHARDS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    client: Client,
    handle: Handle,
    consumer_arn: String,
    _running: AbortOnDropHandle<()>,
}

impl World {
    async fn start(options: Options) -> World {
        let time = SharedTimeSource::new(SystemTimeSource::new());
        let stream = options.stream.clone();
        let source = Source::bind(options, time).await.unwrap();
        let client = client(&source.endpoint_url(), source.ca_pem());
        let handle = source.handle();
        let running = AbortOnDropHandle::new(tokio::spawn(source.run(CancellationToken::new())));
        let summary = client.describe_stream_summary().stream_name(&stream).send().await.unwrap();
        let arn = summary.stream_description_summary.unwrap().stream_arn;
        let consumer = client.register_stream_consumer().stream_arn(arn).consumer_name("c");
        let consumer_arn = consumer.send().await.unwrap().consumer.unwrap().consumer_arn;
        World { client, handle, consumer_arn, _running: running }
    }

    async fn subscribe(&self, shard: u32, position: StartingPosition) -> Events {
        let call = self.client.subscribe_to_shard().consumer_arn(&self.consumer_arn);
        let call = call.shard_id(sequence::shard_id(shard)).starting_position(position);
        Events(call.send().await.unwrap().event_stream)
    }

    /// All records of one answer to GetRecords, and its lag.
    async fn poll(
        &self,
        shard: u32,
        kind: ShardIteratorType,
        at: Option<u64>,
    ) -> (Vec<Record>, i64) {
        let place = |ordinal| Position { shard, ordinal }.to_string();
        let call = self.client.get_shard_iterator().stream_name("load").shard_iterator_type(kind);
        let call = call.shard_id(sequence::shard_id(shard));
        let call = call.set_starting_sequence_number(at.map(place)).send().await.unwrap();
        let call = self.client.get_records().shard_iterator(call.shard_iterator.unwrap());
        let answer = call.send().await.unwrap();
        (answer.records, answer.millis_behind_latest.unwrap())
    }
}

type SdkEvents = aws_sdk_kinesis::primitives::event_stream::EventReceiver<
    SubscribeToShardEventStream,
    aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError,
>;

struct Events(SdkEvents);

impl Events {
    /// The next event; `None` at the subscription's end.
    async fn next(&mut self) -> Option<SubscribeToShardEvent> {
        let received = tokio::time::timeout(LIMIT, self.0.recv()).await.expect("an event in time");
        match received.unwrap()? {
            SubscribeToShardEventStream::SubscribeToShardEvent(event) => Some(event),
            other => panic!("{other:?}"),
        }
    }
}

/// A client that trusts this authority alone.
pub(crate) fn client(endpoint: &str, ca_pem: Option<&str>) -> Client {
    let trust =
        ca_pem.map_or_else(TrustStore::empty, |pem| TrustStore::empty().with_pem_certificate(pem));
    let context = TlsContext::builder().with_trust_store(trust).build().unwrap();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(aws_sdk_kinesis::config::Region::from_static("us-east-1"))
        .credentials_provider(aws_credential_types::Credentials::from_keys("a", "b", None))
        .http_client(http)
        .build();
    Client::from_conf(config)
}

fn at(kind: ShardIteratorType, place: Option<Position>) -> StartingPosition {
    let builder = StartingPosition::builder().r#type(kind);
    builder.set_sequence_number(place.map(|place| place.to_string())).build().unwrap()
}

/// Holds records against what they must be, the first one's ordinal known; says the next ordinal.
fn check(records: &[Record], options: &Options, shard: u32, first: u64) -> u64 {
    let message = Message::new(options.record_bytes);
    for (record, ordinal) in records.iter().zip(first..) {
        let place = Position { shard, ordinal };
        assert_eq!(record.sequence_number, place.to_string());
        // A float on the wire: the SDK cuts off where one has to round.
        let arrived = record.approximate_arrival_timestamp.unwrap().as_secs_f64() * 1_000.0;
        let arrived = arrived.round() as i64;
        let data = str::from_utf8(record.data.as_ref()).unwrap();
        assert_eq!(data, message.at(place, arrived));
    }
    first + records.len() as u64
}

fn options() -> Options {
    Options {
        shards: SHARDS,
        record_bytes: 300,
        event_bytes: 10_000,
        records_per_shard: Some(1_000),
        idle_interval: Duration::from_millis(20),
        linger: Duration::from_millis(5),
        ..Options::default()
    }
}

/// Reads every shard whole, each by a task of its own.
async fn read_all(options: Options) {
    let world = World::start(options.clone()).await;
    let shards = world.client.list_shards().stream_name("load").send().await.unwrap();
    assert_eq!(shards.shards().len(), SHARDS as usize);
    let read = (0..SHARDS).map(|shard| {
        let (world, options) = (&world, &options);
        async move {
            let mut events = world.subscribe(shard, at(ShardIteratorType::TrimHorizon, None)).await;
            let mut next = 1;
            while let Some(event) = events.next().await {
                next = check(&event.records, options, shard, next);
                let last = Position { shard, ordinal: next - 1 };
                assert_eq!(event.continuation_sequence_number, last.to_string());
            }
            assert_eq!(next, 1_001);
        }
    });
    futures::future::join_all(read).await;
    let sent = world.handle.sent();
    assert!(sent.complete, "{sent:?}");
    assert_eq!((sent.records, sent.records_pushed, sent.bytes), (3_000, 3_000, 900_000));
}

#[tokio::test]
async fn every_record_comes_once_in_order_and_is_the_one_that_it_must_be() {
    read_all(options()).await;
}

#[tokio::test]
async fn the_same_over_tls_and_http2() {
    read_all(Options { tls: true, ..options() }).await;
}

#[tokio::test]
async fn the_same_at_a_rate() {
    read_all(Options { bytes_per_second: Some(3_000_000), ..options() }).await;
}

#[tokio::test]
async fn a_subscription_goes_on_where_it_is_told_to() {
    let options = options();
    let world = World::start(options.clone()).await;
    let place = |ordinal| Some(Position { shard: 2, ordinal });
    for (kind, place, first) in [
        (ShardIteratorType::AtSequenceNumber, place(17), 17),
        (ShardIteratorType::AfterSequenceNumber, place(17), 18),
        (ShardIteratorType::AfterSequenceNumber, place(0), 1),
    ] {
        let mut events = world.subscribe(2, at(kind, place)).await;
        let event = events.next().await.unwrap();
        assert_eq!(event.records.len(), 33);
        check(&event.records, &options, 2, first);
    }
    // Nothing comes behind the tip but signs of life, and the subscription does not end.
    let mut events =
        world.subscribe(2, at(ShardIteratorType::AfterSequenceNumber, place(1_000))).await;
    for _ in 0..3 {
        let event = events.next().await.unwrap();
        assert!(event.records.is_empty());
        let last = Position { shard: 2, ordinal: 1_000 };
        assert_eq!(event.continuation_sequence_number, last.to_string());
    }
}

#[tokio::test]
async fn polling_sees_what_was_pushed_and_no_more() {
    let options = options();
    let world = World::start(options.clone()).await;
    let (records, _) = world.poll(1, ShardIteratorType::TrimHorizon, None).await;
    assert!(records.is_empty(), "without a rate, records exist once they were pushed");
    let mut events = world.subscribe(1, at(ShardIteratorType::TrimHorizon, None)).await;
    while events.next().await.is_some() {}
    let (records, behind) = world.poll(1, ShardIteratorType::TrimHorizon, None).await;
    assert_eq!((records.len(), behind), (1_000, 0));
    check(&records, &options, 1, 1);
    let (records, _) = world.poll(1, ShardIteratorType::AfterSequenceNumber, Some(990)).await;
    assert_eq!(records.len(), 10);
    check(&records, &options, 1, 991);
    let (records, _) = world.poll(1, ShardIteratorType::Latest, None).await;
    assert!(records.is_empty());
    assert_eq!(world.handle.sent().records_polled, 1_010);
}

#[tokio::test]
async fn held_records_come_when_they_are_let_go() {
    let world = World::start(Options { hold: true, ..options() }).await;
    let mut events = world.subscribe(0, at(ShardIteratorType::TrimHorizon, None)).await;
    assert!(events.next().await.unwrap().records.is_empty());
    assert_eq!((world.handle.sent().records, world.handle.sent().subscriptions), (0, 1));
    world.handle.go();
    while events.next().await.unwrap().records.is_empty() {}
}

#[tokio::test]
async fn what_is_not_here_is_refused_in_the_services_words() {
    let world = World::start(options()).await;
    let other = world.client.describe_stream_summary().stream_name("other").send().await;
    assert!(other.unwrap_err().into_service_error().is_resource_not_found_exception());
    let foreign = Position { shard: 1, ordinal: 5 }.to_string();
    let call = world.client.get_shard_iterator().stream_name("load");
    let call = call.shard_id(sequence::shard_id(0)).starting_sequence_number(foreign);
    let call = call.shard_iterator_type(ShardIteratorType::AtSequenceNumber).send().await;
    assert!(call.unwrap_err().into_service_error().is_invalid_argument_exception());
    let bad = Options { record_bytes: 10, ..options() };
    let time = SharedTimeSource::new(SystemTimeSource::new());
    let refused = Source::bind(bad, time).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("record-bytes: found 10; allowed is 160 to"), "{refused}");
}
