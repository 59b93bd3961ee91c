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
    processor.lanes_are_idle().await;
    let (parked, ranges) = (platform.parked_ids().await, platform.open_ranges().await);
    assert!(ranges > 0 && !parked.is_empty(), "{ranges} open ranges, {} parked", parked.len());
    assert!(
        parked.len() < rest.len() / 10,
        "{} parked: the rest stays in the stream",
        parked.len()
    );
    assert_eq!(platform.receiver.ledger().messages(), first.len());
    println!(
        "receiver down, {} undelivered: {} parked, {ranges} open ranges; the store's lag was {worst} ms at most",
        rest.len(),
        parked.len()
    );

    platform.receiver.start_again().await;
    platform.everything_arrived(events.len()).await;
    eventually("nothing is owed any more", async || {
        match (platform.parked().await, platform.open_ranges().await) {
            (0, 0) => Ok(()),
            (parked, ranges) => Err(format!("{parked} parked, {ranges} open ranges")),
        }
    })
    .await;
    let ledger = platform.receiver.ledger();
    assert_eq!((ledger.unverified, ledger.changed_bodies), (0, 0));
    assert_eq!(processor.stop().await.code, Some(0));
    explained(&platform, &ledger, &parked).await;
}

/// P8: an operator learns what became of a message that had to wait; of one that did not, nothing is kept by its id.
async fn explained(platform: &Platform, ledger: &Ledger, parked: &[String]) {
    let shown = async |id: &str| -> Value {
        let args = ["deliveries", "show", id, "--output", "json", "--config", &platform.config];
        let ended = run(&args).await;
        assert_eq!(ended.code, Some(0), "{:#?} {:#?}", ended.stdout, ended.log);
        let shown: Value = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
        shown["deliveries"][0].clone()
    };
    for id in parked {
        let delivery = shown(id).await;
        let attempts = delivery["attempts"].as_array().expect("attempts");
        assert_eq!(delivery["state"], "delivered", "{delivery:#}");
        assert_eq!(attempts.last().expect("an attempt")["outcome"], "accepted", "{delivery:#}");
    }
    let others = ledger.deliveries.keys().filter(|id| !parked.contains(id));
    let mut at_once = 0;
    for id in others.take(20) {
        let delivery = shown(id).await;
        at_once += usize::from(delivery["state"] == "no-trace");
    }
    assert!(at_once > 0, "none of twenty was delivered without having been parked or failed");
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
