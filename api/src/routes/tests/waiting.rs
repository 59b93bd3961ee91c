//! `Prefer: wait`: an answer when there is something new.

use std::time::Duration;

use http::Request;
use store::ApiKey;
use tokio::time::{Instant, sleep};

use super::{Answer, World, message, reads};

const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";
const SECOND: Duration = Duration::from_secs(1);

async fn world_with(messages: &[u32]) -> (World, ApiKey) {
    let mut world = World::with(|options| {
        options.limits.client.concurrent = 100;
        // All of a crowd begin at the same moment; none waits for what other tasks let in.
        options.limits.sharing = None;
    })
    .await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(messages.iter().map(|n| message("quakes", "ci", *n)).collect()).await;
    (world, key)
}

fn waits(key: &ApiKey, tag: &str, seconds: u32) -> http::request::Builder {
    let ask = Request::get(LATEST).header("x-api-key", key.expose());
    ask.header("if-none-match", tag).header("prefer", format!("wait={seconds}"))
}

async fn tag(world: &World, key: &ApiKey) -> String {
    world.get(LATEST, key).await.header("etag").to_owned()
}

/// The answer, and how long it took.
async fn timed(world: &World, ask: http::request::Builder) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = world.send(ask).await;
    (answer, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_new_message_is_answered_when_it_comes() {
    let (world, key) = world_with(&[5]).await;
    let tag = tag(&world, &key).await;
    let later = async {
        sleep(4 * SECOND).await;
        world.store(vec![message("quakes", "ci", 1)]).await;
    };
    let ((answer, took), ()) = tokio::join!(timed(&world, waits(&key, &tag, 20)), later);
    assert_eq!(answer.json()["data"]["n"], 1);
    assert_eq!(answer.header("preference-applied"), "wait=20");
    assert!(took >= 4 * SECOND && took <= 6 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_news_the_answer_is_that_there_are_none() {
    let (world, key) = world_with(&[5]).await;
    let known = tag(&world, &key).await;
    let (answer, took) = timed(&world, waits(&key, &known, 7)).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, known.as_str()));
    assert!(took >= 7 * SECOND && took <= 8 * SECOND, "{took:?}");
    let (answer, took) = timed(&world, waits(&key, "\"another\"", 7)).await;
    assert_eq!(answer.status, 200, "what the client does not have needs no waiting");
    assert!(took < SECOND, "{took:?}");
    let (answer, took) = timed(&world, waits(&key, &known, 3_600)).await;
    assert_eq!(answer.header("preference-applied"), "wait=20", "no longer than that");
    assert!(took <= 21 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_message_of_an_entity_can_be_waited_for() {
    let (world, key) = world_with(&[]).await;
    let (answer, took) = timed(&world, waits(&key, "\"none\"", 5)).await;
    answer.problem(404);
    assert!(took >= 5 * SECOND, "{took:?}");
    let later = async {
        sleep(2 * SECOND).await;
        world.store(vec![message("quakes", "ci", 1)]).await;
    };
    let (answer, ()) = tokio::join!(world.send(waits(&key, "\"none\"", 20)), later);
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn fifty_who_wait_for_one_entity_cost_one_look_a_second() {
    let (world, key) = world_with(&[5]).await;
    let known = tag(&world, &key).await;
    let looks = |world: &World| -> u64 {
        let calls = world.aws.calls().into_iter().filter(|count| count.operation == "Query");
        calls.map(|count| count.calls).sum()
    };
    let before = looks(&world);
    let asks = (0..50).map(|_| world.send(waits(&key, &known, 20)));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.status == 304));
    // One look of each as it begins, one more when the watch has seen the entity for the first time.
    let seconds = looks(&world) - before - 100;
    assert!((15..=25).contains(&seconds), "{seconds} looks");
    sleep(3 * SECOND).await;
    let after = looks(&world);
    sleep(10 * SECOND).await;
    assert_eq!(looks(&world), after, "nobody waits, nobody looks");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_meanwhile_gets_nothing() {
    let (world, key) = world_with(&[5]).await;
    let known = tag(&world, &key).await;
    let later = async {
        sleep(2 * SECOND).await;
        world.revoke(&key).await;
        // The view of who may is two seconds old at most.
        world.wall.0.fetch_add(3_000, std::sync::atomic::Ordering::Relaxed);
        world.store(vec![message("quakes", "ci", 1)]).await;
    };
    let (answer, ()) = tokio::join!(world.send(waits(&key, &known, 20)), later);
    answer.problem(401);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_those_who_wait() {
    let (mut world, key) = world_with(&[5]).await;
    let known = tag(&world, &key).await;
    let app = std::sync::Arc::clone(&world.service.take().unwrap().app);
    let later = async {
        sleep(2 * SECOND).await;
        app.draining.cancel();
    };
    let ((answer, took), ()) = tokio::join!(timed(&world, waits(&key, &known, 20)), later);
    assert_eq!(answer.status, 304);
    assert!(took <= 3 * SECOND, "{took:?}");
}
