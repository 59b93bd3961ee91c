//! What the tests of this room share: a courier over the real store in an embedded DynamoDB, with
//! receivers that are scripted, all in simulated time.

mod kept;
mod log;
mod receivers;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_types::SdkConfig;
use aws_types::sdk_config::SharedCredentialsProvider;
use bytes::Bytes;
use local_aws::{Clock, LocalAws};
use store::{
    AccessStore, Action, Change, Client, ClientId, DeliveryPolicy, DeliveryStore, Destination,
    Entity, Grant, GrantScope, IntegrationName, Message, MessageId, Pepper, Position,
    SigningSecret, Subscription, SubscriptionEpochs, SubscriptionId, SubscriptionSnapshot,
    SubscriptionStore, WebhookDestination, WebhookUrl,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::aws::AwsConfigs;
use super::courier::{Courier, CourierExit, CourierHandle, CourierParts};
use super::destination::{Outgoing, Outlets, Workshop};
use super::mandate::Mandate;
use super::options::CourierOptions;
use super::share::Peers;
use crate::batch::testing::{At, BatchBuilder};
use crate::batch::{Ack, AckCell, AckState, Batch, LaneBatch, LeaseCheck, Malformed, ShardContext};
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::integration::Integrations;
pub(super) use log::Stream;
use log::StreamLogs;
use receivers::ScriptedTransports;
pub(super) use receivers::{Behaviour, Receivers};

/// A secret whose key is known to the tests.
pub(super) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Who changes clients in tests.
pub(super) const CHANGE: Change<'static> = Change { by: "a test", at_ms: 0 };

/// The client that owns every subscription of the tests; it may subscribe to everything.
pub(super) fn owner() -> Client {
    Client {
        id: ClientId::parse("client").unwrap(),
        name: "client".to_owned(),
        grants: vec![Grant::new(GrantScope::All, Action::Subscribe)],
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 0,
    }
}

/// A subscription in the hands of this client; `None` if nothing is delivered for it.
pub(super) fn mandate(subscription: Subscription, owner: Client) -> Option<Mandate> {
    let snapshot = SubscriptionSnapshot {
        epochs: SubscriptionEpochs::default(),
        subscriptions: Vec::new(),
        clients: [(owner.id.clone(), Arc::new(owner))].into(),
    };
    Mandate::of(&Arc::new(subscription), &snapshot)
}

/// A first attempt of a message with this payload.
pub(super) fn outgoing(payload: &'static str) -> Outgoing {
    let position = Position {
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/test".into(),
        shard_id: "shardId-000000000000".into(),
        sequence: "49590338271490256608559692538361571095921575989136588898".into(),
        index: 0,
    };
    let message = Message {
        id: MessageId::derive(&position),
        integration: IntegrationName::parse("orders").unwrap(),
        entity: Entity::parse("order-1").unwrap(),
        time_ms: 1_700_000_000_000,
        arrived_at_ms: 1_700_000_000_500,
        position,
        partition_key: "key".into(),
        payload: Bytes::from_static(payload.as_bytes()),
    };
    Outgoing { message, attempt: 1 }
}

/// An enabled subscription to everything.
pub(super) fn subscription(id: &str, url: &str) -> Subscription {
    Subscription {
        id: SubscriptionId::parse(id).unwrap(),
        client: ClientId::parse("client").unwrap(),
        integrations: Vec::new(),
        entity_prefix: None,
        types: Vec::new(),
        filter: None,
        destination: Destination::Webhook(WebhookDestination::new(
            WebhookUrl::parse(url).unwrap(),
            SigningSecret::parse(SECRET).unwrap(),
        )),
        policy: DeliveryPolicy::default(),
        created_at_ms: 0,
        version: 0,
        enabled: true,
    }
}

/// Clients of the embedded AWS, signed with the role's name where there is one.
fn configs(aws: &LocalAws, time: &SharedTimeSource) -> AwsConfigs {
    let (http, time) = (aws.http_client(), time.clone());
    AwsConfigs::new(move |identity, _| {
        let caller = identity.role.as_ref().map_or("worker", |role| &*role.external_id);
        let keys = Credentials::new(caller, "any", None, None, "tests");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(identity.region.as_deref().unwrap_or("us-east-1").to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .http_client(http.clone())
            .time_source(time.clone())
            .retry_config(RetryConfig::disabled())
            .build()
    })
}

#[derive(Debug)]
struct SimulatedTime(Clock);

impl TimeSource for SimulatedTime {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

pub(super) fn shard() -> ShardContext {
    ShardContext {
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/test".into(),
        shard_id: "shardId-000000000000".into(),
        fence: 7,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    }
}

/// A running courier and everything around it.
pub(super) struct World {
    pub(super) aws: LocalAws,
    pub(super) receivers: Arc<Receivers>,
    /// What was offered, and what ranges read.
    pub(super) stream: Arc<Stream>,
    pub(super) subscriptions: SubscriptionStore,
    pub(super) access: AccessStore,
    pub(super) deliveries: DeliveryStore,
    pub(super) handle: CourierHandle,
    pub(super) time: SharedTimeSource,
    pub(super) stop: CancellationToken,
    pub(super) running: JoinHandle<CourierExit>,
    pub(super) integrations: Arc<Integrations>,
    next_sequence: Mutex<u64>,
}

/// A batch in the courier's hands, as the shard consumer sees it.
pub(super) struct Offered {
    pub(super) cell: Arc<AckCell>,
    pub(super) ids: BTreeSet<String>,
}

impl Offered {
    pub(super) fn state(&self) -> AckState {
        self.cell.state()
    }
}

impl World {
    /// A courier whose view of these subscriptions is fresh.
    pub(super) async fn with(subscriptions: &[Subscription]) -> World {
        World::with_options(subscriptions, CourierOptions::new("worker")).await
    }

    /// The same with room for so many live deliveries in each lane.
    pub(super) async fn with_queue(
        subscriptions: &[Subscription],
        destination_queue: usize,
    ) -> World {
        let options = CourierOptions { destination_queue, ..CourierOptions::new("worker") };
        World::with_options(subscriptions, options).await
    }

    /// The same with these options.
    pub(super) async fn with_options(
        subscriptions: &[Subscription],
        courier_options: CourierOptions,
    ) -> World {
        let options = local_aws::Options::default();
        let clock = Clock::starting_at(options.epoch);
        let aws =
            LocalAws::new(local_aws::Options { clock: Some(clock.clone()), ..options }).unwrap();
        let time = SharedTimeSource::new(SimulatedTime(clock));
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("worker", "any", None, None, "tests"))
            .http_client(aws.http_client())
            .time_source(time.clone())
            .retry_config(RetryConfig::disabled())
            .build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        store::create_tables(&client, "app").await.unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let access = AccessStore::new(client.clone(), "app", pepper);
        access.put_client(&owner(), &CHANGE).await.unwrap();
        let store = SubscriptionStore::new(client.clone(), "app");
        for subscription in subscriptions {
            store.put(subscription).await.unwrap();
        }
        let deliveries = DeliveryStore::new(client, "app");
        let receivers = Arc::new(Receivers::default());
        let stream: Arc<Stream> = Arc::default();
        let integrations = Arc::new(Integrations::compile(Vec::new()).unwrap());
        let (courier, handle) = Courier::new(
            courier_options,
            CourierParts {
                integrations: Arc::clone(&integrations),
                subscriptions: store.clone(),
                deliveries: deliveries.clone(),
                logs: Arc::new(StreamLogs(Arc::clone(&stream))),
                budget: Budget::new(64 * 1024 * 1024),
                outlets: Outlets {
                    webhooks: Arc::new(ScriptedTransports(Arc::clone(&receivers))),
                    aws: configs(&aws, &time),
                },
                peers: Peers::none(),
                time: time.clone(),
                seed: 42,
            },
        );
        let stop = CancellationToken::new();
        let running = tokio::spawn(courier.run(stop.clone()));
        let world = World {
            aws,
            receivers,
            stream,
            subscriptions: store,
            access,
            deliveries,
            handle,
            time,
            stop,
            running,
            integrations,
            next_sequence: Mutex::new(1),
        };
        world.is_ready(&world.handle).await;
        world
    }

    async fn is_ready(&self, handle: &CourierHandle) {
        self.until("the subscriptions are read", Duration::from_secs(5), || !handle.stats().paused)
            .await;
    }

    /// Another worker's courier, over the same tables and receivers.
    pub(super) async fn another(&self) -> CourierHandle {
        let (courier, handle) = Courier::new(
            CourierOptions::new("another"),
            CourierParts {
                integrations: Arc::clone(&self.integrations),
                subscriptions: self.subscriptions.clone(),
                deliveries: self.deliveries.clone(),
                logs: Arc::new(StreamLogs(Arc::clone(&self.stream))),
                budget: Budget::new(64 * 1024 * 1024),
                outlets: Outlets {
                    webhooks: Arc::new(ScriptedTransports(Arc::clone(&self.receivers))),
                    aws: configs(&self.aws, &self.time),
                },
                peers: Peers::none(),
                time: self.time.clone(),
                seed: 43,
            },
        );
        tokio::spawn(courier.run(self.stop.clone()));
        self.is_ready(&handle).await;
        handle
    }

    /// What senders to the scripted receivers are made with.
    pub(super) fn workshop(&self) -> Workshop {
        let webhooks = Arc::new(ScriptedTransports(Arc::clone(&self.receivers)));
        let outlets = Outlets { webhooks, aws: configs(&self.aws, &self.time) };
        Workshop { outlets, links: None, time: self.time.clone() }
    }

    /// Waits for a condition, at most this long in simulated time.
    pub(super) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !condition() {
            assert!(
                began.elapsed() < within,
                "not within {within:?}: {what}; {:?}",
                self.handle.stats()
            );
            sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    pub(super) async fn settled(&self, offered: &Offered, within: Duration) -> Duration {
        self.until("the batch is settled", within, || offered.state() == AckState::Settled).await
    }

    /// A batch of `n` messages that arrive now.
    pub(super) fn batch(&self, n: usize, lease: &LeaseCheck) -> (LaneBatch, Offered) {
        self.batch_where(n, lease, |_| None)
    }

    /// The same, but for the entries that `malformed` says are no messages.
    pub(super) fn batch_where(
        &self,
        n: usize,
        lease: &LeaseCheck,
        malformed: impl Fn(usize) -> Option<Malformed>,
    ) -> (LaneBatch, Offered) {
        let mut next = self.next_sequence.lock().unwrap();
        let arrived_at_ms = wall_ms(&self.time);
        let mut builder = BatchBuilder::new(shard());
        for index in 0..n {
            *next += 1;
            let sequence = format!("4959{:052}", *next);
            let at = At { sequence: &sequence, index: 0, partition_key: "key", arrived_at_ms };
            let payload = format!("{{\"number\":{}}}", *next);
            match malformed(index) {
                Some(malformed) => builder.malformed(at, payload.as_bytes(), malformed),
                None => {
                    let entity = format!("entity-{}", *next % 10);
                    builder.message(at, payload.as_bytes(), &entity, arrived_at_ms);
                }
            }
        }
        self.lane_batch(Arc::new(builder.build(None, 100)), lease)
    }

    /// A batch of these partition keys and payloads.
    pub(super) fn batch_of(
        &self,
        records: &[(String, String)],
        lease: &LeaseCheck,
    ) -> (LaneBatch, Offered) {
        self.batch_in(shard(), records, lease)
    }

    /// The same, in this shard.
    pub(super) fn batch_in(
        &self,
        shard: ShardContext,
        records: &[(String, String)],
        lease: &LeaseCheck,
    ) -> (LaneBatch, Offered) {
        let mut next = self.next_sequence.lock().unwrap();
        let arrived_at_ms = wall_ms(&self.time);
        let mut builder = BatchBuilder::new(shard);
        for (partition_key, payload) in records {
            *next += 1;
            let sequence = format!("4959{:052}", *next);
            let at = At { sequence: &sequence, index: 0, partition_key, arrived_at_ms };
            builder.message(at, payload.as_bytes(), "entity", arrived_at_ms);
        }
        self.lane_batch(Arc::new(builder.build(None, 100)), lease)
    }

    /// The batch, as a lane offers it.
    pub(super) fn lane_batch(&self, batch: Arc<Batch>, lease: &LeaseCheck) -> (LaneBatch, Offered) {
        self.stream.put(&batch);
        let (ack, cell) = Ack::new(batch.entries.len(), Arc::new(Notify::new()));
        let messages =
            batch.entries.iter().filter_map(|entry| batch.message(entry, &self.integrations));
        let ids = messages.map(|message| message.id.to_string()).collect();
        (
            LaneBatch { batch, skip_to: None, ack, lease: lease.clone(), permit: None },
            Offered { cell, ids },
        )
    }

    /// Offers `n` messages under a good lease.
    pub(super) fn offer(&self, n: usize) -> Offered {
        let (batch, offered) = self.batch(n, &LeaseCheck::new(|| true));
        self.handle.accept(batch).expect("the courier has room");
        offered
    }
}
