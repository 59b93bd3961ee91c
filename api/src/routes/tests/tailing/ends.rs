//! When a tail ends, what it costs, and what it leaves to others.

use serde_json::Map;
use store::ClientLimits;
use tokio_util::sync::CancellationToken;

use super::super::audit::Captured;
use super::*;

/// P7: a stream ends when access does.
#[tokio::test(start_paused = true)]
async fn p7_a_stream_ends_within_two_seconds_when_access_ends() {
    let (mut world, key) = world().await;
    let (client, granted) = world.client("granted", vec![reads("quakes")]).await;
    let mut tails = [world.tail(TAIL, &key, "").await, world.tail(TAIL, &granted, "").await];
    let mut wider = world.tail(TAIL, &granted, "").await;
    sleep(3 * SECOND).await;
    let ended = Instant::now();
    world.revoke(&key).await;
    world.change(&client, vec![reads("flights")]).await;
    // It is there for the next look, and nobody may see it any more.
    world.arrive(0, about("ci", 0..1)).await;
    for tail in tails.iter_mut().chain([&mut wider]) {
        let mut blocks = Vec::new();
        while let Some(block) = tail.block().await {
            blocks.push(block);
        }
        assert_eq!(blocks.last().unwrap().json()["reason"], "access-ended");
        assert!(ended.elapsed() <= 2_600 * Duration::from_millis(1), "{:?}", ended.elapsed());
    }
}

/// P7 over three tasks that serve, each of which looks at another moment of the second: a stream at each ends, and each refuses
/// requests.
#[tokio::test(start_paused = true)]
async fn p7_three_tasks_end_streams_and_refuse_requests_within_two_seconds() {
    let (mut world, key) = world().await;
    let tasks =
        [world.service.take().unwrap(), world.another_task().await, world.another_task().await];
    let stop = CancellationToken::new();
    let (mut routers, mut tails, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        let router = crate::routes::router(std::sync::Arc::clone(&task.app));
        running.push(tokio::spawn(task.run(stop.clone())));
        tails.push(Tailing::at(&router, TAIL, &key, "").await);
        routers.push(router);
        sleep(Duration::from_millis(370)).await;
    }
    for round in 0..10 {
        sleep(Duration::from_millis(3_000 + 90 * round)).await;
        for router in &routers {
            assert_eq!(who_am_i(router, &key).await, 200);
        }
    }
    world.revoke(&key).await;
    let revoked = Instant::now();
    for router in &routers {
        while who_am_i(router, &key).await == 200 {
            sleep(Duration::from_millis(50)).await;
        }
    }
    for tail in &mut tails {
        assert_eq!(tail.end().await, "access-ended");
    }
    assert!(revoked.elapsed() <= 2 * SECOND, "{:?}", revoked.elapsed());
    stop.cancel();
    for task in running {
        task.await.unwrap();
    }
}

async fn who_am_i(router: &Router, key: &ApiKey) -> u16 {
    let ask = Request::get("/v1/me").header("x-api-key", key.expose()).body(Body::empty());
    router.clone().oneshot(ask.unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn the_decision_that_ends_a_stream_is_in_the_audit_once() {
    let (mut world, key) = world().await;
    let (client, granted) = world.client("granted", vec![reads("quakes")]).await;
    let (log, _guard) = Captured::start();
    let mut revoked = world.tail(TAIL, &key, "").await;
    let mut taken = world.tail(TAIL, &granted, "").await;
    sleep(3 * SECOND).await;
    let lines = log.audit();
    assert_eq!(lines.len(), 2, "what goes on being allowed is written once: {lines:#?}");
    world.revoke(&key).await;
    assert_eq!(revoked.end().await, "access-ended");
    world.change(&client, vec![reads("flights")]).await;
    assert_eq!(taken.end().await, "access-ended");
    let lines = log.audit();
    let said: Vec<_> = lines.iter().map(said_of_whom).collect();
    let key_ids = [key.id().as_str(), granted.id().as_str()];
    let expected = [
        ["unauthenticated", "revoked", revoked.request_id.as_str(), key_ids[0]],
        ["denied", "no-grant", taken.request_id.as_str(), key_ids[1]],
    ];
    assert_eq!(said, expected, "{lines:#?}");
}

/// Decision, reason, request and key of a line.
fn said_of_whom(line: &Map<String, Value>) -> [&str; 4] {
    ["decision", "reason", "request_id", "key_id"].map(|field| line[field].as_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_clients_bytes_of_the_day_are_used_up() {
    const DAY_ENDS: Duration = Duration::from_secs(12 * 3_600);
    let (mut world, _) = world().await;
    let (client, key) = world.client("sparing", vec![reads("quakes")]).await;
    let limits = Some(ClientLimits { bytes_per_day: Some(5_000), ..ClientLimits::default() });
    world.access.put_client(&Client { limits, ..client }, &CHANGE).await.unwrap();
    world.pass(DAY_ENDS - 60 * SECOND).await;
    let (log, _guard) = Captured::start();
    let mut tail = world.tail(TAIL, &key, "").await;
    let mut beside = world.tail(TAIL, &key, "").await;
    assert_eq!(log.audit().len(), 2);
    let mut had = 0;
    let reason = loop {
        world.arrive(had, about("ci", had..had + 1)).await;
        let event = tail.event().await;
        if event.event == "end" {
            break event.json()["reason"].as_str().unwrap().to_owned();
        }
        assert_eq!(event.n(), i64::from(had));
        had += 1;
        assert!(had < 20, "5,000 bytes are not so many messages");
    };
    assert_eq!((reason.as_str(), tail.block().await), ("quota-exceeded", None));
    assert!(had > 3, "{had} of them had room");
    while beside.block().await.is_some() {}
    let lines = log.audit();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let ended = said_of_whom(&lines[0]);
    assert_eq!(ended[..3], ["limited", "daily-bytes", tail.request_id.as_str()]);
    let refused = world.refused(TAIL, &key, &tail.last_id).await;
    assert_eq!(refused.problem(429)["violated-policies"][0], "daily-bytes");
    world.pass(61 * SECOND).await;
    let mut again = world.tail(TAIL, &key, &tail.last_id).await;
    assert_eq!(again.event().await.n(), i64::from(had), "from where it was");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_server_stops_and_when_it_is_old() {
    let (mut world, key) = world().await;
    let app = std::sync::Arc::clone(&world.service.take().unwrap().app);
    let mut old = world.tail(TAIL, &key, "").await;
    let began = Instant::now();
    assert_eq!(old.end().await, "max-age");
    assert!(began.elapsed() >= app.limits.max_tail_age, "{:?}", began.elapsed());
    let mut going = world.tail(TAIL, &key, &old.last_id).await;
    world.arrive(0, about("ci", 0..1)).await;
    assert_eq!(going.event().await.n(), 0);
    app.draining.cancel();
    assert_eq!(going.end().await, "draining");
}

#[tokio::test(start_paused = true)]
async fn fifty_who_follow_cost_as_much_as_one_and_nobody_costs_nothing() {
    let (world, key) = world().await;
    let mut tails = Vec::new();
    for _ in 0..50 {
        tails.push(world.tail(TAIL, &key, "").await);
    }
    let before = world.calls("Query");
    sleep(10 * SECOND).await;
    let looks = world.calls("Query") - before;
    assert!((40..=120).contains(&looks), "{looks} queries of four or eight partitions a second");
    let reads = world.calls("BatchGetItem");
    world.arrive(0, about("ci", 0..20)).await;
    for tail in &mut tails {
        assert_eq!(tail.numbers(20).await.len(), 20);
    }
    assert_eq!(world.calls("BatchGetItem") - reads, 1, "messages are read once for all");
    drop(tails);
    sleep(3 * SECOND).await;
    let after = world.calls("Query");
    sleep(10 * SECOND).await;
    assert_eq!(world.calls("Query"), after, "nobody follows, nobody looks");
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_told_and_holds_up_nobody() {
    let mut world = World::with(|options| options.limits.max_tail_bytes = 20_000).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let mut slow = world.tail(TAIL, &key, "").await;
    let mut fast = world.tail(TAIL, &key, "").await;
    for number in 0..10u32 {
        world.arrive(number, about("ci", number * 10..number * 10 + 10)).await;
        assert_eq!(fast.numbers(10).await.len(), 10);
    }
    assert_eq!(slow.end().await, "lagging");
    let mut again = world.tail(TAIL, &key, &slow.last_id).await;
    assert_eq!(again.numbers(100).await, (0..100).collect::<Vec<i64>>(), "from where it was");
}

#[tokio::test(start_paused = true)]
async fn a_tail_is_a_request_in_work_and_there_are_only_so_many() {
    let mut world = World::with(|options| {
        options.limits.max_tails = 3;
        options.limits.client.concurrent = 2;
    })
    .await;
    let (_, key) = world.client("one", vec![reads("quakes")]).await;
    let (_, other) = world.client("two", vec![reads("quakes")]).await;
    let one = world.tail(TAIL, &key, "").await;
    let _two = world.tail(TAIL, &key, "").await;
    world.refused(TAIL, &key, "").await.problem(429);
    let _three = world.tail(TAIL, &other, "").await;
    world.refused(TAIL, &other, "").await.problem(503);
    assert_eq!(world.handle.stats().requests_in_flight, 3);
    drop(one);
    let _four = world.tail(TAIL, &other, "").await;
}

#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_read_nothing_is_lost() {
    let (world, key) = world().await;
    let throttle = || {
        let fault =
            local_aws::Fault::new(local_aws::Service::Dynamodb, local_aws::Effect::Throttle);
        world.aws.faults().inject(fault.resource("test-messages"))
    };
    let fault = throttle();
    world.refused(TAIL, &key, "").await.problem(503);
    world.aws.faults().clear(fault);
    let mut live = world.tail(TAIL, &key, "").await;
    let cursor = live.last_id.clone();
    world.arrive(0, about("ci", 0..3)).await;
    let fault = throttle();
    assert_eq!(world.tail(TAIL, &key, &cursor).await.end().await, "unavailable");
    sleep(10 * SECOND).await;
    world.aws.faults().clear(fault);
    assert_eq!(live.numbers(3).await, [0, 1, 2]);
    assert_eq!(world.tail(TAIL, &key, &cursor).await.numbers(3).await, [0, 1, 2]);
}
