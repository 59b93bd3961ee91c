//! P3: a stopped receiver does not hold up the store, and a throttled table does not hold up deliveries.

use serde_json::{Value, json};

use crate::harness::child::run;
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};
use crate::harness::receiver::Ledger;

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_stopped_receiver_parks_deliveries_and_the_store_goes_on() {
    let mut platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    let (first, rest) = events.split_at(200);
    platform.aws.put("earthquakes", first).await;
    platform.everything_arrived(first.len()).await;

    platform.receiver.stop().await;
    platform.aws.put("earthquakes", rest).await;
    let mut worst = 0;
    eventually("everything is stored while the receiver is down", async || {
        worst = worst.max(processor.behind_ms().await["sync-store"]);
        match platform.stored_count().await {
            stored if stored == events.len() => Ok(()),
            stored => Err(format!("{stored} of {} stored", events.len())),
        }
    })
    .await;
    eventually("every undelivered message is parked", async || match platform.parked().await {
        parked if parked == rest.len() => Ok(()),
        parked => Err(format!("{parked} of {} parked", rest.len())),
    })
    .await;
    processor.lanes_are_idle().await;
    assert_eq!(platform.receiver.ledger().messages(), first.len());
    println!("receiver down, {} parked: the store's lag was {worst} ms at most", rest.len());

    platform.receiver.start_again().await;
    platform.everything_arrived(events.len()).await;
    eventually("nothing is parked any more", async || match platform.parked().await {
        0 => Ok(()),
        parked => Err(format!("{parked} parked")),
    })
    .await;
    let ledger = platform.receiver.ledger();
    assert_eq!((ledger.unverified, ledger.changed_bodies), (0, 0));
    assert_eq!(processor.stop().await.code, Some(0));
    explained(&platform, &ledger).await;
}

/// P8: an operator learns of each message what became of it.
async fn explained(platform: &Platform, ledger: &Ledger) {
    let mut counts = [0, 0];
    for id in ledger.deliveries.keys() {
        let args = ["deliveries", "show", id, "--output", "json", "--config", &platform.config];
        let ended = run(&args).await;
        assert_eq!(ended.code, Some(0), "{:#?} {:#?}", ended.stdout, ended.log);
        let shown: Value = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
        let delivery = &shown["deliveries"][0];
        let attempts = delivery["attempts"].as_array().expect("attempts");
        match delivery["state"].as_str().expect("a state") {
            "no-trace" => counts[0] += 1,
            "delivered" => counts[1] += 1,
            other => panic!("{id} is {other}: {shown:#}"),
        }
        let last = attempts
            .last()
            .map_or("none", |attempt| attempt["outcome"].as_str().expect("an outcome"));
        assert!(matches!(last, "none" | "accepted"), "{shown:#}");
        if counts.iter().all(|count| *count > 2) {
            return;
        }
    }
    panic!("of {} messages {counts:?} were delivered at once and later", ledger.messages());
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_throttled_table_does_not_hold_up_deliveries() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let fault = platform
        .inject(json!({ "service": "dynamodb", "operation": "BatchWriteItem", "resource": platform.table("messages"), "effect": "throttle" }))
        .await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events).await;
    eventually("every event is delivered", async || match platform.receiver.ledger().messages() {
        delivered if delivered == events.len() => Ok(()),
        delivered => Err(format!("{delivered} of {} delivered", events.len())),
    })
    .await;
    eventually("the delivery lane has settled everything", async || {
        match processor.in_flight().await["async-delivery"] {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes unsettled")),
        }
    })
    .await;
    assert_eq!(platform.stored_count().await, 0, "the table took nothing");
    assert!(processor.in_flight().await["sync-store"] > 0, "what is not stored stays owed");

    platform.clear(fault).await;
    platform.everything_arrived(events.len()).await;
    assert_eq!(processor.stop().await.code, Some(0));
}
