//! When a tail ends, what it costs, and what it leaves to others.

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
