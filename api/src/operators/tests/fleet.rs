//! The fleet and the dead letters, as a fake app has them; that the app has them right is seen over real sockets.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::Method;
use serde_json::json;
use store::{DeadLetter, DeadReason, DeliveryStore, IntegrationName, Position};

use super::{ANNA, BEN, Port, text};
use crate::operators::{
    AskedView, Fleet, FleetView, LeaseLaneView, LeaseView, Redrive, Redriven, Unanswered, WhyView,
    WorkerView,
};
use crate::routes::tests::NOW_MS;

/// Twelve leases, a third of them without an owner, and what was asked of their owners.
#[derive(Default)]
pub(super) struct FakeFleet {
    asked: Mutex<Vec<(String, Option<String>)>>,
}

fn lease(n: usize) -> LeaseView {
    let owner = (!n.is_multiple_of(3)).then(|| format!("worker-{}", n % 3));
    LeaseView {
        key: format!("shardId-{n:012}"),
        shard: format!("shardId-{n:012}"),
        stream: None,
        state: if owner.is_some() { "owned" } else { "orphan" },
        owner,
        checkpoint: "TRIM_HORIZON".to_owned(),
        lanes: vec![LeaseLaneView {
            lane: "sync-store".to_owned(),
            checkpoint: "TRIM_HORIZON".to_owned(),
            behind_ms: Some(1_500),
        }],
        throughput_kbps: 0.5,
        counter: 7,
        reason: None,
    }
}

impl Fleet for FakeFleet {
    fn look(&self) -> BoxFuture<'_, Result<FleetView, Unanswered>> {
        let worker = WorkerView {
            worker: "worker-1".to_owned(),
            state: "active",
            heartbeat: "moves",
            leases: 4,
            throughput_kbps: 2.0,
            version: "1.0.0".to_owned(),
            leads: true,
        };
        let view = FleetView {
            looked_at_ms: 1_500,
            leader: Some("worker-1".to_owned()),
            workers: vec![worker],
            leases: (0..12).map(lease).collect(),
            unreadable: vec!["shardId-x: no counter".to_owned()],
        };
        async { Ok(view) }.boxed()
    }

    fn why<'a>(&'a self, lease: &'a str) -> BoxFuture<'a, Result<WhyView, Unanswered>> {
        let answer = match lease {
            "1" => Ok(WhyView {
                key: "shardId-000000000001".to_owned(),
                shard: "shardId-000000000001".to_owned(),
                state: "owned",
                owner: Some("worker-1".to_owned()),
                counter: 7,
                answer: "worker-1 owns it.".to_owned(),
                facts: vec!["its heartbeat moves".to_owned()],
                next: Vec::new(),
            }),
            "down" => Err(Unanswered::Unavailable("table `x`: no answer in time".to_owned())),
            other => Err(Unanswered::NotFound(format!("there is no lease of a shard `{other}`"))),
        };
        async { answer }.boxed()
    }

    fn release<'a>(
        &'a self,
        lease: &'a str,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AskedView, Unanswered>> {
        self.asked.lock().unwrap().push((lease.to_owned(), to.map(str::to_owned)));
        let answer = match to {
            Some("worker-9") => Err(Unanswered::Refused("worker-9 cannot take it".to_owned())),
            _ => Ok(AskedView {
                key: lease.to_owned(),
                owner: "worker-1".to_owned(),
                counter: 7,
                to: to.map(str::to_owned),
            }),
        };
        async { answer }.boxed()
    }
}

/// Every second letter stays; what was sent, and whether that was only tried.
#[derive(Default)]
pub(super) struct FakeRedrive {
    sent: Mutex<Vec<(usize, bool)>>,
}

impl Redrive for FakeRedrive {
    fn integrations(&self) -> Vec<IntegrationName> {
        ["quakes", "flights"].map(|name| IntegrationName::parse(name).unwrap()).into()
    }

    fn redrive(
        &self,
        letters: Vec<DeadLetter>,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Vec<Redriven>, Unanswered>> {
        self.sent.lock().unwrap().push((letters.len(), dry_run));
        let done = letters.iter().enumerate().map(|(n, _)| Redriven {
            stored: 1,
            parked: 2,
            stays: (n % 2 == 1).then(|| "still not-json".to_owned()),
        });
        let done = done.collect();
        async { Ok(done) }.boxed()
    }
}

fn letter(n: u64, integration: &str, reason: DeadReason) -> DeadLetter {
    DeadLetter {
        integration: IntegrationName::parse(integration).unwrap(),
        reason,
        detail: "expected a value at byte 1".to_owned(),
        position: Position {
            stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/s".into(),
            shard_id: "shardId-000000000000".into(),
            sequence: format!("{:056}", 49_000 + n).as_str().into(),
            index: 0,
        },
        partition_key: "key".into(),
        arrived_at_ms: NOW_MS + i64::try_from(n).unwrap(),
        fence: 3,
        attempts: 0,
        payload: Bytes::from_static(if n == 0 { &[0xff, 0x00] } else { b"not JSON" }),
        subscription: None,
        at_ms: NOW_MS + i64::try_from(n).unwrap() * 1_000,
    }
}

async fn with_letters() -> (Port, Arc<FakeRedrive>) {
    let redrive = Arc::new(FakeRedrive::default());
    let given: Arc<dyn Redrive> = redrive.clone();
    let port = Port::with(|_, backing| backing.redrive = given).await;
    let store = DeliveryStore::new(port.world.dynamodb(), "test");
    let letters: Vec<_> = (0..7)
        .map(|n| letter(n, "quakes", DeadReason::NotJson))
        .chain((7..9).map(|n| letter(n, "flights", DeadReason::MissingField)))
        .collect();
    let written = store.dead_letter(&letters).await.outcomes;
    assert!(written.iter().all(|outcome| *outcome == store::PutOutcome::Stored), "{written:?}");
    (port, redrive)
}

#[tokio::test(start_paused = true)]
async fn leases_come_in_pages_and_by_how_they_stand() {
    let port = Port::new().await;
    let page = port.get("/v1/admin/leases?limit=5").await.json();
    assert_eq!(page["lookedAt"], "1970-01-01T00:00:01.500Z");
    assert_eq!(
        (&page["leader"], &page["workers"][0]["heartbeat"]),
        (&json!("worker-1"), &json!("moves"))
    );
    assert_eq!(page["unreadable"], json!(["shardId-x: no counter"]));
    assert_eq!(page["leases"][0]["lanes"][0]["behindMs"], 1_500);
    let mut seen = 0;
    let mut path = "/v1/admin/leases?limit=5".to_owned();
    loop {
        let page = port.get(&path).await.json();
        seen += page["leases"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/admin/leases?limit=5&cursor={next}");
    }
    assert_eq!(seen, 12);
    let orphans = port.get("/v1/admin/leases?state=orphan").await.json();
    assert_eq!(orphans["leases"].as_array().unwrap().len(), 4);
    let owned = port.get("/v1/admin/leases?owner=worker-2&state=owned").await.json();
    assert_eq!(owned["leases"].as_array().unwrap().len(), 4);
    let problem = port.get("/v1/admin/leases?state=lost").await.problem(400);
    assert!(text(&problem["allowed"]).contains("orphan"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_says_why_and_is_handed_over_by_who_may_change() {
    let fleet = Arc::new(FakeFleet::default());
    let given: Arc<dyn Fleet> = fleet.clone();
    let port = Port::with(|_, backing| backing.fleet = given).await;
    let why = port.get("/v1/admin/leases/1").await.json();
    assert_eq!((&why["answer"], &why["counter"]), (&json!("worker-1 owns it."), &json!(7)));
    let unknown = port.get("/v1/admin/leases/2").await.problem(404);
    assert_eq!(unknown["detail"], "there is no lease of a shard `2`");
    port.get("/v1/admin/leases/down").await.problem(503);
    port.get(&format!("/v1/admin/leases/{}", "x".repeat(300))).await.problem(404);

    let release = "/v1/admin/leases/1/release";
    port.ask(BEN, Method::POST, release, None).await.problem(403);
    let asked = port.ask(ANNA, Method::POST, release, None).await;
    assert_eq!((asked.status.as_u16(), &asked.json()["owner"]), (202, &json!("worker-1")));
    let named = port.post(release, json!({ "to": "worker-2" })).await.json();
    assert_eq!(named["to"], "worker-2");
    let refused = port.post(release, json!({ "to": "worker-9" })).await.problem(409);
    assert_eq!(refused["detail"], "worker-9 cannot take it");
    port.post(release, json!({ "worker": "worker-2" })).await.problem(400);
    let asked: Vec<_> = fleet.asked.lock().unwrap().iter().map(|(_, to)| to.clone()).collect();
    let to = ["worker-2", "worker-9"].map(|worker| Some(worker.to_owned()));
    assert_eq!(asked, [None, to[0].clone(), to[1].clone()], "what was refused was not asked");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_come_with_their_payloads_over_all_integrations_or_as_selected() {
    let (port, _) = with_letters().await;
    let mut seen = Vec::new();
    let mut path = "/v1/admin/dead-letters?limit=3".to_owned();
    loop {
        let page = port.get(&path).await.json();
        let letters = page["deadLetters"].as_array().unwrap().clone();
        assert!(letters.len() <= 3);
        seen.extend(letters);
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/admin/dead-letters?limit=3&cursor={next}");
    }
    assert_eq!(seen.len(), 9);
    let integrations: Vec<_> = seen.iter().map(|letter| text(&letter["integration"])).collect();
    assert_eq!(integrations[..7], ["quakes"; 7]);
    let (newest, oldest) = (&seen[0], &seen[6]);
    assert_eq!(
        (&newest["payload"], &newest["payloadEncoding"]),
        (&json!("not JSON"), &json!("text"))
    );
    assert_eq!(
        (&oldest["payload"], &oldest["payloadEncoding"]),
        (&json!("/wA="), &json!("base64"))
    );

    let count = async |query: &str| {
        let page = port.get(&format!("/v1/admin/dead-letters?{query}")).await.json();
        page["deadLetters"].as_array().unwrap().len()
    };
    assert_eq!(count("integration=flights").await, 2);
    assert_eq!(count("reason=not-json").await, 7);
    assert_eq!(count(&format!("message={}", text(&newest["message"]))).await, 1);
    assert_eq!(
        count(&format!("since={}", text(&newest["givenUpAt"]))).await,
        3,
        "and the two after it"
    );
    assert_eq!(count("subscription=sub_a").await, 0);
    for bad in ["reason=lost", "since=yesterday", "integration=A%20b", "cursor=AAAA", "before=x"] {
        port.get(&format!("/v1/admin/dead-letters?{bad}")).await.problem(400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redrive_sends_a_page_of_what_it_selects_and_says_what_stays() {
    let (port, redrive) = with_letters().await;
    let path = "/v1/admin/dead-letters/redrive";
    port.ask(BEN, Method::POST, path, Some(json!({ "all": true }))).await.problem(403);
    for none in [json!({}), json!({ "all": true, "reason": "not-json" })] {
        let problem = port.post(path, none).await.problem(400);
        assert!(text(&problem["detail"]).contains("\"all\": true"), "{problem}");
    }
    let bad = port.post(path, json!({ "reason": "lost" })).await.problem(400);
    assert_eq!(bad["pointer"], "/reason");
    assert_eq!(
        port.post(path, json!({ "all": true, "limit": 0 })).await.problem(400)["pointer"],
        "/limit"
    );
    assert!(redrive.sent.lock().unwrap().is_empty(), "nothing was sent by what was refused");

    let tried = json!({ "reason": "not-json", "dryRun": true, "limit": 4 });
    let report = port.post(path, tried).await.json();
    let counted = ["selected", "sent", "stored", "parked"].map(|name| report[name].clone());
    assert_eq!(counted, [4, 2, 4, 8].map(|n| json!(n)));
    assert_eq!(
        (&report["dryRun"], &report["stay"][0]["why"]),
        (&json!(true), &json!("still not-json"))
    );
    let rest = json!({ "reason": "not-json", "cursor": report["next"] });
    let report = port.post(path, rest).await.json();
    assert_eq!((&report["selected"], &report["next"]), (&json!(3), &json!(null)));
    assert_eq!(*redrive.sent.lock().unwrap(), [(4, true), (3, false)]);
}
