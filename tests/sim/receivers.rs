//! Whoever subscribes: receivers behind the transport, as good or as bad as the weather makes them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_sdk_dynamodb::Client as DynamoDb;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use processor::{Answer, Channel, Transport, TransportError, Transports};
use store::{
    AccessStore, Action, Change, Client, ClientId, DeliveryOrder, DeliveryPolicy, Destination,
    Grant, GrantScope, Pepper, SigningSecret, Subscription, SubscriptionId, SubscriptionStore,
    WebhookDestination, WebhookUrl,
};
use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::scheduler::SimClock;
use crate::world::APP;

/// What a receiver that takes a message takes for it.
const TAKES: Duration = Duration::from_millis(2);
/// Delays before the attempts; a receiver that refuses for longer makes dead letters.
const RETRIES_MS: [u64; 7] = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000];
const TIMEOUT_MS: u64 = 2_000;
const CLIENT: &str = "client";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// How a receiver is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mood {
    /// It takes what comes.
    Well,
    /// It takes this long for each.
    Slow(Duration),
    /// It answers with this status.
    Answers(u16),
    /// It answers nothing.
    Hangs,
    /// Nobody is there.
    Down,
    /// It takes the message, and the answer is lost.
    Forgets,
}

/// All receivers of a world.
pub struct Receivers {
    moods: Mutex<Vec<Mood>>,
    ledger: Arc<Mutex<Ledger>>,
    clock: SimClock,
}

impl Receivers {
    pub fn new(count: usize, ledger: Arc<Mutex<Ledger>>, clock: SimClock) -> Arc<Receivers> {
        Arc::new(Receivers { moods: Mutex::new(vec![Mood::Well; count]), ledger, clock })
    }

    pub fn count(&self) -> usize {
        self.moods.lock().unwrap().len()
    }

    pub fn set(&self, receiver: usize, mood: Mood) {
        self.moods.lock().unwrap()[receiver] = mood;
    }

    /// What the process of this life reaches them by.
    pub fn transports(self: &Arc<Self>, life: u64) -> Arc<dyn Transports> {
        Arc::new(FromLife { life, receivers: Arc::clone(self) })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// One attempt of a process.
    async fn take(&self, life: u64, request: Request<Bytes>) -> Result<Answer, TransportError> {
        let receiver = request.uri().host().and_then(number).expect("a receiver's host");
        let payload = String::from_utf8(request.into_body().to_vec()).expect("UTF-8");
        let mood = self.moods.lock().unwrap()[receiver];
        self.ledger().attempted(self.clock.passed(), life, receiver, &payload);
        let took = || self.ledger().delivered(receiver, &payload);
        match mood {
            Mood::Well => sleep(TAKES).await,
            Mood::Slow(takes) => sleep(takes).await,
            Mood::Answers(status) => return Ok(answer(status)),
            Mood::Hangs => std::future::pending().await,
            Mood::Down => return Err(TransportError::Connect("connection refused".to_owned())),
            Mood::Forgets => {
                took();
                return Err(TransportError::Broken("connection reset".to_owned()));
            }
        }
        took();
        Ok(answer(204))
    }
}

fn answer(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    let asks_for_time = status == StatusCode::TOO_MANY_REQUESTS;
    let retry_after = asks_for_time.then(|| "3".to_owned());
    Answer { status, retry_after, excerpt: String::new() }
}

struct FromLife {
    life: u64,
    receivers: Arc<Receivers>,
}

impl Transports for FromLife {
    fn for_destination(&self, _: &Channel<'_>) -> Arc<dyn Transport> {
        Arc::new(FromLife { life: self.life, receivers: Arc::clone(&self.receivers) })
    }
}

impl Transport for FromLife {
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let (life, receivers) = (self.life, Arc::clone(&self.receivers));
        Box::pin(async move { receivers.take(life, request).await })
    }
}

fn host(receiver: usize) -> String {
    format!("receiver-{receiver}.example")
}

fn number(host: &str) -> Option<usize> {
    host.strip_prefix("receiver-")?.strip_suffix(".example")?.parse().ok()
}

/// In which order its messages come to it.
fn order(receiver: usize) -> DeliveryOrder {
    match receiver {
        0 => DeliveryOrder::Key,
        1 => DeliveryOrder::None,
        _ => DeliveryOrder::Shard,
    }
}

/// Whether its messages come to it in some order.
pub fn is_ordered(receiver: usize) -> bool {
    order(receiver) != DeliveryOrder::None
}

/// Whether those of a shard come to it one by one.
pub fn is_ordered_by_shard(receiver: usize) -> bool {
    order(receiver) == DeliveryOrder::Shard
}

/// The number of the receiver that this subscription is for.
pub fn of_subscription(id: &str) -> Option<usize> {
    id.strip_prefix("sub-")?.parse().ok()
}

/// Subscribes each of so many receivers to everything.
pub async fn subscribe(dynamodb: &DynamoDb, receivers: usize) {
    if receivers == 0 {
        return;
    }
    let pepper = Pepper::new(&[7; 32]).expect("a pepper");
    let access = AccessStore::new(dynamodb.clone(), APP, pepper);
    let client = ClientId::parse(CLIENT).expect("an id");
    let grant = Grant::new(GrantScope::All, Action::Subscribe);
    let owner = Client {
        id: client.clone(),
        name: CLIENT.to_owned(),
        grants: vec![grant],
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 0,
    };
    access.put_client(&owner, &Change { by: "operator", at_ms: 0 }).await.expect("a client");
    let subscriptions = SubscriptionStore::new(dynamodb.clone(), APP);
    for receiver in 0..receivers {
        let destination = Destination::Webhook(WebhookDestination::new(
            WebhookUrl::parse(&format!("https://{}/", host(receiver))).expect("a URL"),
            SigningSecret::parse(SECRET).expect("a secret"),
        ));
        let subscription = Subscription {
            id: SubscriptionId::parse(&format!("sub-{receiver}")).expect("an id"),
            client: client.clone(),
            integrations: Vec::new(),
            entity_prefix: None,
            types: Vec::new(),
            filter: None,
            destination,
            policy: DeliveryPolicy {
                timeout_ms: TIMEOUT_MS,
                retry_schedule_ms: RETRIES_MS.to_vec(),
                order: order(receiver),
                ..DeliveryPolicy::default()
            },
            created_at_ms: 0,
            version: 0,
            enabled: true,
        };
        subscriptions.put(&subscription).await.expect("a subscription");
    }
}
