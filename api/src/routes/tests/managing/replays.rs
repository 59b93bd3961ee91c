//! `/v1/replays` and redriving: asked for, seen and cancelled by their client alone.

use serde_json::{Value, json};
use store::{Replay, ReplayId, ReplayOf, ReplayState};

use super::super::access::shown;
use super::super::{NOW_MS, World, message};
use super::{subscribes, text};

const ALL: &str = "/v1/replays";

async fn kept(world: &World, answer: &Value) -> Replay {
    let id = ReplayId::parse(text(answer, "id")).unwrap();
    world.managing.replays.get(&id, NOW_MS).await.unwrap().unwrap()
}

#[tokio::test]
async fn each_kind_of_replay_is_asked_for_as_it_is_meant() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let id = text(&world.subscribe(&key).await, "id").to_owned();
    let one = message("quakes", "ci", 1).id;
    let hour = NOW_MS - 3_600_000;
    let range = |from_ms, to_ms, only| ReplayOf::Range { from_ms, to_ms, only };
    let cases = [
        (json!({ "from": "horizon" }), range(0, NOW_MS, vec![])),
        (json!({ "from": "horizon", "to": "subscribed" }), range(0, NOW_MS, vec![])),
        (json!({ "from": "2026-11-23T11:00:00Z" }), range(hour, NOW_MS, vec![])),
        (
            json!({ "from": hour.to_string(), "to": (NOW_MS - 1).to_string() }),
            range(hour, NOW_MS - 1, vec![]),
        ),
        (json!({ "messages": [one] }), range(0, NOW_MS, vec![one.clone()])),
        (json!({ "state": "waits" }), ReplayOf::Parked),
        (json!({ "state": "given-up" }), ReplayOf::DeadLettered { only: vec![] }),
        (
            json!({ "state": "given-up", "messages": [one] }),
            ReplayOf::DeadLettered { only: vec![one.clone()] },
        ),
    ];
    for (mut body, what) in cases {
        body["subscription"] = json!(id);
        body["ratePerSecond"] = json!(50);
        let asked = world.post(ALL, &key, &body).await;
        assert_eq!(asked.status, 202, "{body}: {}", asked.json());
        let answer = asked.json();
        assert_eq!(asked.header("location"), format!("{ALL}/{}", text(&answer, "id")));
        let replay = kept(&world, &answer).await;
        assert_eq!((&replay.what, replay.rate_per_second), (&what, 50), "{body}");
        assert_eq!((&answer["state"], &answer["progress"]), (&json!("queued"), &json!(0.0)));
        let cancelled = world.delete(asked.header("location"), &key).await.json();
        assert_eq!(cancelled["state"], "cancelled");
    }
    let list = world.get(ALL, &key).await.json();
    assert_eq!(list["replays"].as_array().unwrap().len(), 8);
    let body = json!({ "subscription": id, "messages": [one] });
    let redriven = world.post("/v1/deliveries/redrive", &key, &body).await;
    assert_eq!(redriven.json()["what"], json!({ "state": "given-up", "messages": [one.as_str()] }));
    let day = NOW_MS.div_euclid(86_400_000);
    let entries = world.access.audit(day).await.unwrap();
    let of = |action: &str| entries.iter().filter(|entry| entry.action == action).count();
    assert_eq!((of("replay.create"), of("replay.cancel")), (9, 8));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let id = text(&world.subscribe(&key).await, "id").to_owned();
    let many: Vec<String> = (0..101).map(|n| message("quakes", "ci", n).id.to_string()).collect();
    for (mut body, pointer) in [
        (json!({}), "/from"),
        (json!({ "to": "subscribed" }), "/from"),
        (json!({ "from": "yesterday" }), "/from"),
        (json!({ "from": "2026-11-23T11:00:00Z", "to": "2026-11-23T10:00:00Z" }), "/to"),
        (json!({ "from": "horizon", "to": "2030-01-01T00:00:00Z" }), "/to"),
        (json!({ "from": "horizon", "state": "waits" }), "/state"),
        (json!({ "state": "parked" }), "/state"),
        (json!({ "state": "waits", "messages": [many[0]] }), "/messages"),
        (json!({ "messages": many }), "/messages"),
        (json!({ "messages": ["nothing"] }), "/messages/0"),
        (json!({ "from": "horizon", "ratePerSecond": 501 }), "/ratePerSecond"),
        (json!({ "from": "horizon", "ratePerSecond": 0 }), "/ratePerSecond"),
    ] {
        body["subscription"] = json!(id);
        let problem = world.post(ALL, &key, &body).await.problem(400);
        assert_eq!(problem["pointer"], pointer, "{body}: {problem}");
    }
    assert_eq!(world.get(ALL, &key).await.json(), json!({ "replays": [] }));
}

#[tokio::test]
async fn a_replay_is_its_clients_alone_and_there_are_so_many_of_it() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let id = text(&world.subscribe(&key).await, "id").to_owned();
    let (_, peer) = world.client("peer", vec![subscribes("quakes")]).await;
    let body = json!({ "subscription": id, "state": "waits" });
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(world.post(ALL, &key, &body).await.json());
    }
    world.post(ALL, &key, &body).await.problem(409);
    let path = format!("{ALL}/{}", text(&asked[0], "id"));
    let none = format!("{ALL}/rpl_doesnotexist");
    for (found, missing) in [
        (world.get(&path, &peer).await, world.get(&none, &peer).await),
        (world.delete(&path, &peer).await, world.delete(&none, &peer).await),
    ] {
        assert_eq!(shown(&found), shown(&missing));
        found.problem(404);
    }
    world.post(ALL, &peer, &body).await.problem(404);
    world.post("/v1/deliveries/redrive", &peer, &json!({ "subscription": id })).await.problem(404);
    assert_eq!(world.get(ALL, &peer).await.json(), json!({ "replays": [] }));
    assert_eq!(world.get(&path, &key).await.json()["state"], "queued");
    assert_eq!(world.delete(&path, &key).await.status, 200);
    world.delete(&path, &key).await.problem(409);
    assert_eq!(world.post(ALL, &key, &body).await.status, 202, "one ended");
}

#[tokio::test]
async fn why_one_failed_is_told_if_it_is_about_the_subscription() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let id = text(&world.subscribe(&key).await, "id").to_owned();
    let lease = std::time::Duration::from_secs(15);
    for (why, told) in [
        (
            format!("the subscription {id} is switched off"),
            format!("the subscription {id} is switched off"),
        ),
        (
            "arn:aws:kinesis:x cannot be read".to_owned(),
            "it cannot be done; the operator can see why, by its id".to_owned(),
        ),
    ] {
        let body = json!({ "subscription": id, "from": "horizon" });
        let asked = world.post(ALL, &key, &body).await.json();
        let replay = kept(&world, &asked).await;
        let replays = &world.managing.replays;
        let (_, claim) = replays.claim(&replay.id, "w", NOW_MS, lease).await.unwrap().unwrap();
        let counts = store::ReplayCounts { read: 9, matched: 4, parked: 3 };
        replays.finish(&claim, ReplayState::Failed, &why, counts, NOW_MS + 1).await.unwrap();
        let seen = world.get(&format!("{ALL}/{}", text(&asked, "id")), &key).await.json();
        assert_eq!((&seen["state"], &seen["detail"]), (&json!("failed"), &json!(told)));
        assert_eq!(
            (&seen["read"], &seen["matched"], &seen["madeDue"]),
            (&json!(9), &json!(4), &json!(3))
        );
    }
}
