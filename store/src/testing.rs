//! What this room's tests share: a DynamoDB in process, and messages to keep in it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use local_aws::{Effect, Fault, LocalAws, Options, Service};

use crate::{Entity, IntegrationName, Message, MessageId, Position, StoreItem, create_tables};

/// The application of all tests.
pub(crate) const APP: &str = "test";
/// The wall clock of all tests, in ms since 1970.
pub(crate) const NOW: i64 = 1_900_000_000_000;

/// A DynamoDB with the tables, and a client that never repeats a call, so that every fault is seen.
pub(crate) async fn dynamodb() -> (LocalAws, Client) {
    let (aws, client) = empty_dynamodb();
    create_tables(&client, APP).await.unwrap();
    (aws, client)
}

/// The same without the tables.
pub(crate) fn empty_dynamodb() -> (LocalAws, Client) {
    let aws = LocalAws::new(Options::default()).unwrap();
    let client = client_of(&aws);
    (aws, client)
}

/// A client that never repeats a call.
pub(crate) fn client_of(aws: &LocalAws) -> Client {
    client_with(aws, RetryConfig::disabled())
}

/// A client that repeats calls as the product's do.
pub(crate) fn repeating_client_of(aws: &LocalAws) -> Client {
    client_with(aws, RetryConfig::standard())
}

fn client_with(aws: &LocalAws, retries: RetryConfig) -> Client {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(5)).build();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("tester", "secret", None, None, "tests"))
        .region(Region::new("us-east-1"))
        .timeout_config(timeouts)
        .retry_config(retries)
        .http_client(aws.http_client())
        .build();
    Client::from_conf(config)
}

/// The next `times` calls of `operation` go wrong.
pub(crate) fn fail(aws: &LocalAws, operation: &str, effect: Effect, times: u64) {
    aws.faults().inject(Fault::new(Service::Dynamodb, effect).operation(operation).times(times));
}

/// How often `operation` was called.
pub(crate) fn calls(aws: &LocalAws, operation: &str) -> u64 {
    aws.calls().iter().filter(|c| c.operation == operation).map(|c| c.calls).sum()
}

pub(crate) fn integration(name: &str) -> IntegrationName {
    IntegrationName::parse(name).unwrap()
}

pub(crate) fn entity(name: &str) -> Entity {
    Entity::parse(name).unwrap()
}

/// Message number `n` about `entity`: it carries and arrived at `NOW + n` seconds.
pub(crate) fn message(entity_name: &str, n: u32, payload: impl Into<Bytes>) -> Message {
    let position = Position {
        stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/quakes"),
        shard_id: Arc::from("shardId-000000000001"),
        sequence: Arc::from(format!("495903382714902566085596925383615710959215759891{n:08}")),
        index: 0,
    };
    Message {
        id: MessageId::derive(&position),
        integration: integration("quakes"),
        entity: entity(entity_name),
        time_ms: NOW + i64::from(n) * 1_000,
        arrived_at_ms: NOW + i64::from(n) * 1_000,
        position,
        partition_key: Arc::from(entity_name),
        payload: payload.into(),
    }
}

/// The message, to be kept for an hour.
pub(crate) fn kept(message: Message) -> StoreItem {
    StoreItem { message, retention: Duration::from_secs(3_600), fence: 7 }
}

/// Bytes that no two places of which look alike, so that mixed-up parts are noticed.
pub(crate) fn noise(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    Bytes::from(bytes)
}

/// A generator of bytes for keys and secrets, always the same.
pub(crate) fn random(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut random = fastrand::Rng::with_seed(seed);
    move |bytes| random.fill(bytes)
}
