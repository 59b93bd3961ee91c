//! Replays through the real binary: a subscription made today gets what is in the stream already, beside what comes.

use std::time::UNIX_EPOCH;

use aws_smithy_async::time::{SystemTimeSource, TimeSource};
use serde_json::Value;
use store::{
    Destination, SigningSecret, Subscription, SubscriptionId, SubscriptionStore,
    WebhookDestination, WebhookUrl,
};

use crate::harness::child::run;
use crate::harness::eventually;
use crate::harness::platform::{APP, EARTHQUAKES, Platform, Processor, earthquakes};
use crate::harness::receiver::Receiver;

/// Earthquakes that come while the old ones are replayed.
const LIVE: usize = 300;

/// A second receiver and a subscription of its own, beside that of the platform.
struct Newcomer {
    receiver: Receiver,
    subscription: String,
}

impl Newcomer {
    /// The receiver alone: nobody delivers to it yet.
    async fn start() -> Newcomer {
        Newcomer { receiver: Receiver::start().await, subscription: "sub_newcomer".to_owned() }
    }

    /// Where processors may go.
    fn allowed(&self, platform: &Platform) -> String {
        let (first, second) = (platform.receiver.authority(), self.receiver.authority());
        format!("async_delivery.allowed_private={first},{second}")
    }

    /// Subscribes it to everything, from now on.
    async fn subscribe(&self, platform: &Platform) {
        let subscriptions = SubscriptionStore::new(platform.aws.dynamodb.clone(), APP);
        let of_platform = subscriptions.load_all().await.unwrap().pop().unwrap();
        let secret = SigningSecret::generate(&mut |bytes| fastrand::fill(bytes));
        self.receiver.expect_secret(&secret.expose());
        let url = WebhookUrl::parse(&self.receiver.url()).unwrap();
        let now = SystemTimeSource::new().now().duration_since(UNIX_EPOCH).unwrap();
        let subscription = Subscription {
            id: SubscriptionId::parse(&self.subscription).unwrap(),
            destination: Destination::Webhook(WebhookDestination::new(url, secret)),
            created_at_ms: i64::try_from(now.as_millis()).unwrap(),
            version: 0,
            ..of_platform
        };
        subscriptions.put(&subscription).await.unwrap();
    }

    async fn has(&self, count: usize) {
        eventually("the newcomer has every message", async || {
            match self.receiver.ledger().messages() {
                messages if messages == count => Ok(()),
                messages => Err(format!("{messages} of {count}")),
            }
        })
        .await;
    }
}

/// `sluicegate replay ...`, with its exit code and the document that it prints.
async fn replay(platform: &Platform, args: &[&str]) -> (Option<i32>, Value) {
    let mut line = vec!["replay"];
    line.extend(args);
    line.extend(["--config", platform.config.as_str(), "--output", "json"]);
    let ended = run(&line).await;
    let text = ended.stdout.join("\n");
    let document =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {:#?}", ended.log));
    (ended.code, document)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_made_today_gets_all_that_the_stream_has_once_beside_what_comes() {
    let platform = Platform::start().await;
    let newcomer = Newcomer::start().await;
    let allowed = newcomer.allowed(&platform);
    let processor = Processor::start_with(&platform, &[&allowed]).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events).await;
    platform.everything_arrived(EARTHQUAKES).await;
    newcomer.subscribe(&platform).await;

    let backfill =
        ["--subscription", &newcomer.subscription, "--from", "horizon", "--to", "subscribed"];
    let dry = replay(&platform, &[&backfill[..], &["--dry-run"]].concat()).await;
    assert_eq!(
        (dry.0, dry.1["matched"].as_u64()),
        (Some(0), Some(EARTHQUAKES as u64)),
        "{}",
        dry.1
    );
    assert_eq!(newcomer.receiver.ledger().messages(), 0, "a dry run delivers nothing");

    let live = async {
        for some in events[..LIVE].chunks(20) {
            platform.aws.put("earthquakes", some).await;
        }
    };
    let ((code, done), ()) = tokio::join!(replay(&platform, &backfill), live);
    assert_eq!((code, done["state"].as_str()), (Some(0), Some("done")), "{done}");
    let all = EARTHQUAKES as u64;
    assert_eq!(
        (done["counts"]["matched"].as_u64(), done["counts"]["parked"].as_u64()),
        (Some(all), Some(all))
    );
    newcomer.has(EARTHQUAKES + LIVE).await;
    processor.lanes_are_idle().await;
    let ledger = newcomer.receiver.ledger();
    assert_eq!((ledger.duplicates(), ledger.unverified, ledger.changed_bodies), (0, 0, 0));
    let ids = |receiver: &Receiver| receiver.ledger().deliveries.into_keys().collect::<Vec<_>>();
    assert_eq!(ids(&newcomer.receiver), ids(&platform.receiver), "the same messages, the same ids");
    assert_eq!(platform.receiver.ledger().duplicates(), 0, "nobody else gets anything again");

    let one = ids(&newcomer.receiver).swap_remove(7);
    let again = ["--subscription", &newcomer.subscription, "--message", &one];
    let (code, done) = replay(&platform, &again).await;
    assert_eq!((code, done["counts"]["matched"].as_u64()), (Some(0), Some(1)), "{done}");
    eventually("the one message comes again", async || {
        match newcomer.receiver.ledger().deliveries[&one].0 {
            2 => Ok(()),
            times => Err(format!("{times} times")),
        }
    })
    .await;
    assert_eq!(newcomer.receiver.ledger().duplicates(), 1, "it alone");
    let ended = processor.stop().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_where_it_was_when_its_processor_is_killed() {
    const RATE: u64 = 250;
    let platform = Platform::start().await;
    let newcomer = Newcomer::start().await;
    let allowed = newcomer.allowed(&platform);
    let first = Processor::start_with(&platform, &[&allowed, "app.worker_id=worker-1"]).await;
    platform.aws.put("earthquakes", &earthquakes()).await;
    platform.everything_arrived(EARTHQUAKES).await;
    newcomer.subscribe(&platform).await;

    let rate = RATE.to_string();
    let asked = [
        "--subscription",
        &newcomer.subscription,
        "--from",
        "horizon",
        "--to",
        "subscribed",
        "--rate",
        &rate,
        "--detach",
    ];
    let (code, asked) = replay(&platform, &asked).await;
    assert_eq!((code, asked["state"].as_str()), (Some(0), Some("queued")), "{asked}");
    let id = asked["id"].as_str().unwrap().to_owned();
    eventually("it is in the middle", async || match newcomer.receiver.ledger().messages() {
        messages if messages >= EARTHQUAKES / 3 => Ok(()),
        messages => Err(format!("{messages} delivered")),
    })
    .await;
    first.kill().await;
    let (_, killed) = replay(&platform, &["show", &id]).await;
    assert_eq!(killed["state"], "running", "{killed}");
    let behind = killed["counts"]["matched"].as_u64().unwrap();
    assert!(behind > 0 && behind < EARTHQUAKES as u64, "{killed}");

    let second = Processor::start_with(&platform, &[&allowed, "app.worker_id=worker-2"]).await;
    eventually("the replay is done", async || {
        let (_, shown) = replay(&platform, &["show", &id]).await;
        if shown["state"] == "done" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    newcomer.has(EARTHQUAKES).await;
    let (_, done) = replay(&platform, &["show", &id]).await;
    assert_eq!(done["worker"], "worker-2", "{done}");
    // Again comes what was parked since the last progress, and what was under way when it was killed.
    let again = newcomer.receiver.ledger().duplicates();
    assert!(again <= 4 * RATE, "{again} came again: it goes on from its progress");
    let (code, list) = replay(&platform, &["list"]).await;
    assert_eq!((code, list["replays"][0]["id"].as_str()), (Some(0), Some(id.as_str())));
    second.stop().await;
}
