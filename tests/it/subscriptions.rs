//! `sluicegate subscriptions`, run as an operator runs it beside a live processor.

use serde_json::Value;

use crate::harness::child::{Ended, run};
use crate::harness::platform::{Platform, Processor, earthquakes};

/// Events that are written in each half of the test.
const EVENTS: usize = 40;

async fn subscriptions(platform: &Platform, args: &[&str]) -> Ended {
    run(&[&["subscriptions"][..], args, &["--config", &platform.config]].concat()).await
}

async fn json(platform: &Platform, args: &[&str]) -> Value {
    let ended = subscriptions(platform, &[args, &["--output", "json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{args:?}: {:#?}", ended.log);
    serde_json::from_str(&ended.stdout.join("\n")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_the_old_secret_misses_nothing_while_keys_are_replaced() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events[..EVENTS]).await;
    platform.everything_arrived(EVENTS).await;

    let list = json(&platform, &["list"]).await;
    let id = list["subscriptions"][0]["id"].as_str().expect("one").to_owned();
    let made = json(&platform, &["rotate-secret", &id]).await;
    let secret = made["secret"].as_str().expect("shown once").to_owned();
    assert!(secret.starts_with("whsec_"), "{made}");
    let made = json(&platform, &["rotate-secret", &id, "--kind", "ed25519"]).await;
    assert!(made["public_key"].as_str().expect("the public half").starts_with("whpk_"), "{made}");
    platform.aws.put("earthquakes", &events[EVENTS..2 * EVENTS]).await;
    platform.everything_arrived(2 * EVENTS).await;
    assert_eq!(platform.receiver.ledger().unverified, 0, "the first secret signs beside both");

    let shown = subscriptions(&platform, &["show", &id]).await.stdout.join("\n");
    let all = subscriptions(&platform, &["list"]).await.stdout.join("\n");
    assert!(shown.contains("v1a") && shown.contains("signs_until"), "{shown}");
    assert!(all.contains("1 shown") && all.contains(&platform.receiver.authority()), "{all}");
    for text in [shown, all, json(&platform, &["show", &id]).await.to_string()] {
        assert!(!text.contains("whsec_") && !text.contains("whsk_"), "{text}");
    }
    let nobody = subscriptions(&platform, &["show", "sub_none"]).await;
    assert_eq!(nobody.code, Some(3), "{:#?}", nobody.log);
    assert!(nobody.log.join("\n").contains("there is no subscription sub_none"));
    let long = subscriptions(&platform, &["rotate-secret", &id, "--overlap", "30d"]).await;
    assert_eq!(long.code, Some(2), "{:#?}", long.log);
    assert_eq!(processor.stop().await.code, Some(0));
}
