//! The whole router over the real store on an embedded DynamoDB.

mod access;
mod audit;
mod edges;
mod grants;
mod hosted;
mod managing;
mod publishing;
mod reading;
mod repeating;
mod serving;
mod tailing;
mod tokens;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use axum::Router;
use axum::body::{Body, Bytes};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use local_aws::LocalAws;
use serde_json::Value;
use store::{
    AccessStore, Action, ApiKey, Change, Client, ClientId, DynamoMessages, Entity, Grant,
    GrantScope, IntegrationName, KeyTerms, Message, MessageId, MessageStore, Pepper, Position,
    PutOutcome, RequestStore, Signer, StoreItem, UsageStore,
};
use tower::ServiceExt;

pub(crate) use self::audit::Captured;
use crate::testing::forge::Published;
use crate::{Backing, Handle, IntegrationInfo, Options, Service, Transport};

/// 2026-11-23T12:00:00Z: where the wall clock of every test starts.
pub(crate) const NOW_MS: i64 = 1_795_435_200_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A wall clock that goes only where a test puts it.
#[derive(Clone, Debug)]
struct WallClock(Arc<AtomicI64>);

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        let ms = u64::try_from(self.0.load(Ordering::Relaxed)).unwrap();
        UNIX_EPOCH + Duration::from_millis(ms)
    }
}

/// One API over one embedded DynamoDB, with integrations `quakes` and `flights`.
pub(crate) struct World {
    /// Until a test takes it to run it.
    pub(crate) service: Option<Service>,
    aws: LocalAws,
    access: AccessStore,
    usage: UsageStore,
    messages: DynamoMessages,
    managing: crate::Managing,
    router: Router,
    /// What another process of the same API is made of.
    made_of: (Options, Backing),
    pub(crate) handle: Handle,
    wall: WallClock,
    /// What issuers of tokens publish.
    published: Published,
    publisher: publishing::FakePublisher,
    requests: RequestStore,
    random: Random,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) fn new(parts: http::response::Parts, body: Bytes) -> Self {
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {:?}", self.status, self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem in the form of RFC 9457 and gives its members.
    pub(crate) fn problem(&self, status: u16) -> Value {
        let json = self.json();
        assert_eq!(self.status, status, "{json}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(json["status"], status);
        assert!(json["type"].is_string() && json["title"].is_string(), "{json}");
        json
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::reading(None, change).await
    }

    /// Reads messages from elsewhere than where this world stores them.
    async fn reading(
        elsewhere: Option<Arc<dyn MessageStore>>,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let aws = LocalAws::new(local_aws::Options::default()).unwrap();
        let dynamodb = dynamodb(&aws);
        store::create_tables(&dynamodb, "test").await.unwrap();
        let access = AccessStore::new(dynamodb.clone(), "test", Pepper::new(&[3; 32]).unwrap());
        let usage = UsageStore::new(dynamodb.clone(), "test");
        let messages = DynamoMessages::new(dynamodb.clone(), "test");
        let wall = WallClock(Arc::new(AtomicI64::new(NOW_MS)));
        let mut options = Options::new(Transport::PlainBehindLoadBalancer, integrations());
        change(&mut options);
        let published = Published::default();
        let managing = managing::over(&dynamodb);
        let publisher = publishing::FakePublisher::new();
        let requests = RequestStore::new(dynamodb.clone(), "test");
        let backing = Backing {
            messages: elsewhere.unwrap_or_else(|| Arc::new(messages.clone())),
            access: access.clone(),
            usage: usage.clone(),
            signer: signer(),
            documents: Arc::new(published.clone()),
            managing: managing.clone(),
            time: SharedTimeSource::new(wall.clone()),
            publisher: Some(Arc::new(publisher.clone())),
            requests: requests.clone(),
        };
        let made_of = (options.clone(), backing.clone());
        let (service, handle) = Service::bind(options, backing).await.unwrap();
        let router = crate::routes::router(Arc::clone(&service.app));
        Self {
            service: Some(service),
            aws,
            access,
            usage,
            messages,
            managing,
            router,
            made_of,
            handle,
            wall,
            published,
            publisher,
            requests,
            random: Random(1),
        }
    }

    /// The tables, for another that works on them.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        dynamodb(&self.aws)
    }

    /// The wall clock.
    pub(crate) fn time(&self) -> SharedTimeSource {
        SharedTimeSource::new(self.wall.clone())
    }

    /// Another task of the same API, over the same tables.
    async fn another_task(&self) -> Service {
        let backing = Backing {
            messages: Arc::new(self.messages.clone()),
            access: self.access.clone(),
            usage: self.usage.clone(),
            signer: signer(),
            documents: Arc::new(self.published.clone()),
            managing: self.managing.clone(),
            time: self.time(),
            publisher: None,
            requests: self.requests.clone(),
        };
        let options = Options::new(Transport::PlainBehindLoadBalancer, integrations());
        Service::bind(options, backing).await.unwrap().0
    }

    /// Both clocks go on by as much (the monotonic one must be paused).
    pub(crate) async fn pass(&self, time: Duration) {
        self.wall.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        tokio::time::advance(time).await;
    }

    /// A client with these grants, and a key of it.
    pub(crate) async fn client(&mut self, name: &str, grants: Vec<Grant>) -> (Client, ApiKey) {
        let client = Client {
            id: ClientId::parse(name).unwrap(),
            name: format!("The {name}"),
            grants,
            limits: None,
            enabled: true,
            created_at_ms: NOW_MS,
            version: 0,
        };
        let client = self.access.put_client(&client, &CHANGE).await.unwrap();
        let key = self.key(&client, None).await;
        (client, key)
    }

    async fn key(&mut self, client: &Client, lifetime: Option<Duration>) -> ApiKey {
        let key = ApiKey::generate(&mut |bytes: &mut [u8]| self.random.fill(bytes));
        let terms = KeyTerms { lifetime, ..KeyTerms::new("test") };
        let issued = self.access.issue_key(key, &client.id, &terms, &CHANGE).await;
        issued.unwrap().key
    }

    /// Revokes a key, as an operator elsewhere would.
    pub(crate) async fn revoke(&self, key: &ApiKey) {
        assert!(self.access.revoke_key(key.id(), &CHANGE).await.unwrap());
    }

    /// When a key was last used, in ms after the start, as an operator sees it.
    pub(crate) async fn last_use(&self, key: &ApiKey) -> Option<i64> {
        self.access.last_key_use(key.id()).await.unwrap().map(|at_ms| at_ms - NOW_MS)
    }

    /// How often an operation of DynamoDB was called.
    pub(crate) fn calls(&self, operation: &str) -> u64 {
        self.aws.calls().iter().filter(|c| c.operation == operation).map(|c| c.calls).sum()
    }

    /// Stores messages as sync-store would.
    pub(crate) async fn store(&self, messages: Vec<Message>) {
        let items: Vec<StoreItem> = messages
            .into_iter()
            .map(|message| StoreItem { message, retention: DAY * 7, fence: 1 })
            .collect();
        for chunk in items.chunks(25) {
            let report = self.messages.put(chunk).await;
            assert!(
                report.outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored),
                "{report:?}"
            );
        }
    }

    pub(crate) async fn get(&self, path: &str, key: &ApiKey) -> Answer {
        self.send(Request::get(path).header("x-api-key", key.expose())).await
    }

    /// Sends a request with this as its JSON body.
    pub(crate) async fn send_json(
        &self,
        request: http::request::Builder,
        key: &ApiKey,
        body: &Value,
    ) -> Answer {
        let request = request.header("x-api-key", key.expose());
        let request = request.header("content-type", "application/json");
        self.send_whole(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn send(&self, request: http::request::Builder) -> Answer {
        self.send_with(request, Body::empty()).await
    }

    /// The same with a body.
    pub(crate) async fn send_with(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> Answer {
        self.send_whole(request.body(body.into()).unwrap()).await
    }

    async fn send_whole(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer::new(parts, body)
    }
}

const CHANGE: Change<'static> = Change { by: "test", at_ms: NOW_MS };

pub(crate) fn dynamodb(aws: &LocalAws) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("test", "secret", None, None, "tests"))
        .region(Region::new("us-east-1"))
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(60)).build())
        .retry_config(RetryConfig::disabled())
        .http_client(aws.http_client());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

fn signer() -> Signer {
    Signer::new(&[5; 32]).unwrap()
}

fn integrations() -> Vec<IntegrationInfo> {
    vec![integration("quakes"), integration("flights")]
}

fn integration(name: &str) -> IntegrationInfo {
    IntegrationInfo {
        name: IntegrationName::parse(name).unwrap(),
        description: Some(format!("All the {name}")),
        retention: DAY * 7,
        entity_pointer: Some("/properties/net".to_owned()),
        time_pointer: None,
        tail: name == "quakes",
    }
}

/// May read all entities of one integration.
pub(crate) fn reads(integration: &str) -> Grant {
    reads_prefix(integration, None)
}

fn reads_prefix(integration: &str, prefix: Option<&str>) -> Grant {
    let scope = GrantScope::One(IntegrationName::parse(integration).unwrap());
    Grant { entity_prefix: prefix.map(str::to_owned), ..Grant::new(scope, Action::Read) }
}

/// The `n`th message of an entity: its time is `n` seconds before now.
pub(crate) fn message(integration: &str, entity: &str, n: u32) -> Message {
    let position = Position {
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/test".into(),
        shard_id: "shardId-000000000000".into(),
        sequence: format!("{}", 1_000_000 + n).into(),
        index: 0,
    };
    let time_ms = NOW_MS - i64::from(n) * 1_000;
    Message {
        id: MessageId::derive(&position),
        integration: IntegrationName::parse(integration).unwrap(),
        entity: Entity::parse(entity).unwrap(),
        time_ms,
        arrived_at_ms: time_ms + 5,
        position,
        partition_key: "pk".into(),
        payload: Bytes::from(format!("{{ \"n\":{n},  \"entity\": {entity:?} }}")),
    }
}

/// Repeatable bytes, where the product takes the operating system's.
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}
