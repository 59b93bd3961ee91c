//! The operators' port over the real access table on an embedded DynamoDB.

mod clients;
mod fleet;
mod keys;
mod openapi;
mod record;
mod tokens;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use store::{AccessStore, DeliveryStore, OperatorToken, Pepper, UsageStore};
use tower::ServiceExt;

use super::{Backing, May, Operator, OperatorName, Options, Process, Service};
use crate::routes::tests::{Answer, World};

/// A process that is as a test says.
#[derive(Default)]
struct Fake {
    broken: AtomicBool,
}

impl Process for Fake {
    fn ready(&self) -> Result<(), String> {
        match self.broken.load(Ordering::Relaxed) {
            true => Err("no shards yet".to_owned()),
            false => Ok(()),
        }
    }

    fn state(&self) -> serde_json::Result<Vec<u8>> {
        Ok(br#"{"shards":3}"#.to_vec())
    }
}

/// The port of a process beside an API over the same tables: anna may change, ben may look.
struct Port {
    world: World,
    router: Router,
    process: Arc<Fake>,
    access: AccessStore,
    usage: UsageStore,
    backing: Backing,
}

const ANNA: u8 = 1;
const BEN: u8 = 2;

fn token(n: u8) -> OperatorToken {
    OperatorToken::generate(&mut |bytes| bytes.fill(n))
}

fn operator(name: &str, n: u8, may: May) -> Operator {
    Operator { name: OperatorName::parse(name).unwrap(), digest: token(n).digest(), may }
}

impl Port {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options, &mut Backing)) -> Self {
        let world = World::new().await;
        let dynamodb = world.dynamodb();
        let access = AccessStore::new(dynamodb.clone(), "test", Pepper::new(&[3; 32]).unwrap());
        let usage = UsageStore::new(dynamodb, "test");
        let drawn = AtomicU64::new(1);
        let mut backing = Backing {
            access: access.clone(),
            makes_keys: true,
            usage: usage.clone(),
            deliveries: DeliveryStore::new(world.dynamodb(), "test"),
            redrive: Arc::new(fleet::FakeRedrive::default()),
            fleet: Arc::new(fleet::FakeFleet::default()),
            time: world.time(),
            random: Arc::new(move |bytes: &mut [u8]| {
                let mut random = fastrand::Rng::with_seed(drawn.fetch_add(1, Ordering::Relaxed));
                random.fill(bytes);
            }),
        };
        let mut options = Options::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        options.operators =
            vec![operator("anna", ANNA, May::Change), operator("ben", BEN, May::Look)];
        change(&mut options, &mut backing);
        let process = Arc::new(Fake::default());
        let asked: Arc<dyn Process> = process.clone();
        let (service, handle) = Service::bind(options, backing.clone(), asked).await.unwrap();
        assert_ne!(handle.address().port(), 0);
        Self { world, router: service.router(), process, access, usage, backing }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer::new(parts, body)
    }

    /// As this operator.
    async fn ask(&self, n: u8, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {}", token(n).expose()));
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(ANNA, Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(ANNA, Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(ANNA, Method::DELETE, path, None).await
    }

    /// Makes a client with all there is to read.
    async fn partner(&self) {
        let grants = serde_json::json!([{ "integration": "*", "action": "read" }]);
        let body = serde_json::json!({ "id": "partner", "name": "Partner", "grants": grants });
        assert_eq!(self.post("/v1/admin/clients", body).await.status, 201);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}
