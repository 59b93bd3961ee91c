//! `/v1/deliveries`: what waits, what was given up and what became of a message, for its own client alone.

use serde_json::{Value, json};
use store::{
    ApiKey, AttemptRecord, DeadLetter, DeadReason, DeliveryKey, Mark, Message, ParkedDelivery,
    SubscriptionId,
};

use super::super::access::shown;
use super::super::{NOW_MS, World, message, reads};
use super::{PASSWORD, subscribes, text};

fn key_of(subscription: &str, message: &Message) -> DeliveryKey {
    let subscription = SubscriptionId::parse(subscription).unwrap();
    DeliveryKey { subscription, message: message.id.clone() }
}

/// Parks a message for a subscription, as a courier would after its first attempt.
async fn park(world: &World, subscription: &str, message: &Message) {
    let key = key_of(subscription, message);
    let parked = ParkedDelivery {
        subscription: key.subscription.clone(),
        message: message.clone(),
        attempts: 1,
        first_failed_at_ms: NOW_MS,
        due_at_ms: NOW_MS + 5_000,
        last_error: "answered 500: down".to_owned(),
        fence: 1,
    };
    world.managing.deliveries.park(&[parked]).await.remove(0).unwrap();
    let attempt = AttemptRecord {
        delivery: key,
        at_ms: NOW_MS,
        number: 1,
        took_ms: 12,
        outcome: "unhealthy".to_owned(),
        detail: "answered 500: down".to_owned(),
        worker: "worker-of-ours".to_owned(),
    };
    world.managing.deliveries.note_attempts(&[attempt]).await;
}

fn letter(subscription: Option<&str>, message: &Message, reason: DeadReason) -> DeadLetter {
    DeadLetter {
        integration: message.integration.clone(),
        reason,
        detail: "answered 500: down".to_owned(),
        position: message.position.clone(),
        partition_key: message.partition_key.clone(),
        arrived_at_ms: message.arrived_at_ms,
        fence: 1,
        attempts: 10,
        payload: message.payload.clone(),
        subscription: subscription.map(|id| SubscriptionId::parse(id).unwrap()),
        at_ms: NOW_MS,
    }
}

/// A client that may read and have pushed all of `quakes`, its key, and a subscription of it.
async fn owner(world: &mut World, name: &str) -> (ApiKey, String) {
    let (_, key) = world.client(name, vec![subscribes("quakes"), reads("quakes")]).await;
    let id = text(&world.subscribe(&key).await, "id").to_owned();
    (key, id)
}

/// All pages of a list.
async fn all(world: &World, path: &str, key: &ApiKey) -> Vec<Value> {
    let (mut found, mut next) = (Vec::new(), path.to_owned());
    loop {
        let page = world.get(&next, key).await.json();
        found.extend(page["deliveries"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["next"].as_str() else { return found };
        next = format!("{path}&cursor={cursor}");
    }
}

fn ids(found: &[Value]) -> Vec<&str> {
    found.iter().map(|one| text(one, "message")).collect()
}

#[tokio::test]
async fn what_waits_and_what_was_given_up_is_listed_for_its_owner() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (key, id) = owner(&mut world, "acme").await;
    let (other_key, other) = owner(&mut world, "other").await;
    let messages: Vec<Message> = (0..9).map(|n| message("quakes", "ci", n)).collect();
    for waiting in &messages[..3] {
        park(&world, &id, waiting).await;
    }
    park(&world, &other, &messages[3]).await;
    let letters = [
        letter(Some(&id), &messages[4], DeadReason::DeliveryExhausted),
        letter(Some(&other), &messages[5], DeadReason::DeliveryExhausted),
        letter(None, &messages[6], DeadReason::NotJson),
        letter(Some(&id), &messages[7], DeadReason::NotGranted),
        letter(Some(&id), &messages[8], DeadReason::DeliveryRejected),
    ];
    world.managing.deliveries.dead_letter(&letters).await;

    let list = |state: &str| format!("/v1/deliveries?subscription={id}&state={state}&limit=1");
    let waiting = all(&world, &list("waits"), &key).await;
    let mut found = ids(&waiting);
    found.sort_unstable();
    let mut expected: Vec<&str> = messages[..3].iter().map(|m| m.id.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let first = &waiting[0];
    assert_eq!((&first["state"], &first["entity"]), (&json!("waits"), &json!("ci")));
    assert_eq!(first["dueAt"], "2026-11-23T12:00:05.000Z");
    assert_eq!(first["detail"], "answered 500: down");

    let given_up = all(&world, &list("given-up"), &key).await;
    assert_eq!(ids(&given_up), [messages[4].id.as_str(), messages[8].id.as_str()]);
    assert_eq!(given_up[0]["reason"], "delivery-exhausted");
    assert_eq!(given_up[0].get("payload"), None);

    let of_other = all(&world, &format!("/v1/deliveries?subscription={other}"), &other_key).await;
    assert_eq!(ids(&of_other), [messages[3].id.as_str()]);
    let theirs = world.get(&list("waits"), &other_key).await;
    let none = world.get("/v1/deliveries?subscription=sub_none&state=waits", &other_key).await;
    assert_eq!(shown(&theirs), shown(&none));
    theirs.problem(404);
}

#[tokio::test]
async fn a_cursor_fits_its_own_list_alone_and_bad_questions_are_refused() {
    let mut world = World::new().await;
    let (key, id) = owner(&mut world, "acme").await;
    for n in 0..2 {
        park(&world, &id, &message("quakes", "ci", n)).await;
    }
    let path = format!("/v1/deliveries?subscription={id}");
    let page = world.get(&format!("{path}&limit=1"), &key).await.json();
    let cursor = text(&page, "next");
    let other = text(&world.subscribe(&key).await, "id").to_owned();
    for wrong in [
        format!("{path}&state=given-up&cursor={cursor}"),
        format!("/v1/deliveries?subscription={other}&cursor={cursor}"),
        format!("{path}&cursor=nonsense"),
    ] {
        assert_eq!(world.get(&wrong, &key).await.problem(400)["parameter"], "cursor");
    }
    for (query, named) in [
        ("", "subscription"),
        ("state=waits", "subscription"),
        (&format!("subscription={id}&state=dead"), "state"),
        (&format!("subscription={id}&subscription={id}"), "subscription"),
        (&format!("subscription={id}&status=x"), "query"),
    ] {
        let problem = world.get(&format!("/v1/deliveries?{query}"), &key).await.problem(400);
        assert_eq!(problem["parameter"], named, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entity_that_is_not_wholly_granted_any_more_is_not_named() {
    let mut world = World::new().await;
    let (key, id) = owner(&mut world, "acme").await;
    park(&world, &id, &message("quakes", "ci", 0)).await;
    let client = store::ClientId::parse("acme").unwrap();
    let mut client = world.access.get_client(&client).await.unwrap().unwrap();
    client.grants[0].entity_prefix = Some("us".to_owned());
    world.access.put_client(&client, &super::super::CHANGE).await.unwrap();
    world.pass(std::time::Duration::from_secs(3)).await;
    let page = world.get(&format!("/v1/deliveries?subscription={id}"), &key).await.json();
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(page["deliveries"][0].get("entity"), None);
}

#[tokio::test]
async fn what_became_of_a_message_is_told_by_its_link_and_by_its_id() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (key, id) = owner(&mut world, "acme").await;
    let messages: Vec<Message> = (0..4).map(|n| message("quakes", "ci", n)).collect();
    world.store(messages.clone()).await;
    park(&world, &id, &messages[1]).await;
    let given_up = letter(Some(&id), &messages[2], DeadReason::DeliveryExhausted);
    let withheld = letter(Some(&id), &messages[3], DeadReason::NotGranted);
    world.managing.deliveries.dead_letter(&[given_up, withheld]).await;
    let position = &messages[0].position;
    let mark = Mark {
        stream_arn: position.stream_arn.to_string(),
        shard_id: position.shard_id.to_string(),
        upto: None,
        at_ms: NOW_MS + 60_000,
    };
    world.managing.deliveries.mark_settled(&[mark]).await;

    let page = world.get("/v1/integrations/quakes/entities/ci/messages", &key).await.json();
    let locators: Vec<String> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| text(message, "self").rsplit('/').next().unwrap().to_owned())
        .collect();
    let mut cases = Vec::new();
    for (locator, message) in locators.iter().zip(&messages) {
        let told = world.get(&format!("/v1/deliveries/{locator}"), &key).await.json();
        assert_eq!(told["message"]["id"], message.id.as_str());
        assert_eq!(told["message"]["entity"], "ci");
        assert_eq!(told["deliveries"].as_array().unwrap().len(), 1);
        cases.push(told["deliveries"][0].clone());
    }
    let states: Vec<&str> = cases.iter().map(|case| text(case, "state")).collect();
    assert_eq!(states, ["delivered", "waits", "given-up", "not-wanted"]);
    assert_eq!(cases[0]["deliveredBy"], "2026-11-23T12:01:00.000Z");
    assert_eq!(cases[1]["attempts"][0]["outcome"], "unhealthy");
    assert_eq!(cases[2]["reason"], "delivery-exhausted");
    assert_eq!(cases[3].get("reason"), None, "what is not granted does not exist");
    assert!(!format!("{cases:?}").contains("worker-of-ours"));

    let by_id = |n: usize| format!("/v1/deliveries/{}", messages[n].id);
    let told = world.get(&by_id(1), &key).await.json();
    assert_eq!(told["message"], json!({ "id": messages[1].id.as_str() }));
    assert_eq!(told["deliveries"][0]["state"], "waits");
    world.get(&by_id(0), &key).await.problem(404);
    let one = world.get(&format!("{}?subscription={id}", by_id(1)), &key).await;
    assert_eq!(one.status, 200);
    world.get(&format!("{}?subscription=sub_none", by_id(1)), &key).await.problem(404);

    // Another client, with the same grants and without any.
    let (peer, _) = owner(&mut world, "peer").await;
    let told = world.get(&format!("/v1/deliveries/{}", locators[1]), &peer).await.json();
    assert_eq!(told["deliveries"][0]["attempts"], json!([]), "its own subscription's case");
    world.get(&by_id(1), &peer).await.problem(404);
    world.get(&format!("{}?subscription={id}", by_id(1)), &peer).await.problem(404);
    let (_, nobody) = world.client("nobody", vec![subscribes("flights")]).await;
    let hidden = world.get(&format!("/v1/deliveries/{}", locators[1]), &nobody).await;
    let none = world.get("/v1/deliveries/nothing", &nobody).await;
    assert_eq!(shown(&hidden), shown(&none));
    hidden.problem(404);
}

#[tokio::test]
async fn a_test_is_parked_for_its_own_subscription_as_workers_take_it() {
    let mut world = World::new().await;
    let (key, id) = owner(&mut world, "acme").await;
    let (peer, _) = owner(&mut world, "peer").await;
    let path = format!("/v1/subscriptions/{id}/test");
    world.post(&path, &peer, &json!({})).await.problem(404);
    let test = world.post(&path, &key, &json!({})).await;
    assert_eq!(test.status, 202, "{}", test.json());
    let answer = test.json();
    let place = format!("/v1/deliveries/{}?subscription={id}", text(&answer, "message"));
    assert_eq!(test.header("location"), place);
    let trace = world.get(&place, &key).await.json();
    assert_eq!(trace["deliveries"][0]["state"], "waits", "{trace}");
    let sub = SubscriptionId::parse(&id).unwrap();
    let page = world.managing.deliveries.list(&sub, None, 10).await.unwrap();
    let claimed = world.managing.deliveries.claim(
        &page.deliveries[0].key,
        "w",
        NOW_MS,
        std::time::Duration::from_secs(60),
    );
    let delivery = claimed.await.unwrap().expect("it is due").delivery;
    assert!(delivery.message.integration.is_events());
    assert_eq!(delivery.message.entity.as_str(), id, "it is about the subscription itself");
    let payload: Value = serde_json::from_slice(&delivery.message.payload).unwrap();
    let data = json!({ "subscription": id, "destination": "webhook https://hooks.example:443" });
    assert_eq!((&payload["type"], &payload["data"]), (&json!("subscription.test"), &data));
    world.patch(&format!("/v1/subscriptions/{id}"), &key, &json!({ "enabled": false })).await;
    world.post(&path, &key, &json!({})).await.problem(409);
}

/// A2 and A1 over every answer: what goes in as a secret, who works for us and who else is there never comes out.
#[tokio::test]
async fn no_answer_carries_a_secret_or_anothers_name() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (key, id) = owner(&mut world, "acme").await;
    let (other_key, other) = owner(&mut world, "another-one").await;
    for (subscription, n) in [(&id, 0), (&other, 1)] {
        let waiting = message("quakes", "ci", n);
        park(&world, subscription, &waiting).await;
        let gone = message("quakes", "ci", n + 10);
        let gone = letter(Some(subscription), &gone, DeadReason::DeliveryExhausted);
        world.managing.deliveries.dead_letter(&[gone]).await;
    }
    let redriven = world.post("/v1/deliveries/redrive", &key, &json!({ "subscription": id })).await;
    let replay = redriven.json();
    assert_eq!(redriven.status, 202, "{replay}");
    world.post("/v1/deliveries/redrive", &other_key, &json!({ "subscription": other })).await;
    let paths = [
        "/v1/me".to_owned(),
        "/v1/subscriptions".to_owned(),
        format!("/v1/subscriptions/{id}"),
        format!("/v1/subscriptions/{other}"),
        format!("/v1/deliveries?subscription={id}"),
        format!("/v1/deliveries?subscription={id}&state=given-up"),
        format!("/v1/deliveries?subscription={other}"),
        format!("/v1/deliveries/{}", message("quakes", "ci", 0).id),
        format!("/v1/deliveries/{}", message("quakes", "ci", 1).id),
        "/v1/replays".to_owned(),
        format!("/v1/replays/{}", text(&replay, "id")),
    ];
    let mut answers: Vec<String> = vec![replay.to_string()];
    for path in &paths {
        answers.push(world.get(path, &key).await.text().to_owned());
    }
    let patched = world.patch(&paths[2], &key, &json!({ "enabled": false })).await;
    answers.push(patched.text().to_owned());
    for answer in &answers {
        for secret in
            [PASSWORD, "t0ken-in", "whsec_", "whsk_", "worker-of-ours", "another-one", &other]
        {
            assert!(!answer.contains(secret), "{secret}: {answer}");
        }
    }
    let told = answers.concat();
    assert!(told.contains(&id) && told.contains("answered 500"), "the answers are real ones");
}
