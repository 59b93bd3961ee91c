//! P3 among destinations: one that is down, slow or hostile costs the others nothing.
//!
//! A hundred destinations get the same messages. In the first half all of them are well; in the second five are not, each in
//! another way. What each of the other 95 got is asserted; how long it took is printed, for people to compare.
//! `DESTINATIONS_EVENTS` (in each half) and `DESTINATIONS_RATE` (a second) make it longer.

mod receivers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use store::{Destination, Subscription, SubscriptionId, SubscriptionStore, WebhookDestination};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::harness::eventually;
use crate::harness::platform::{APP, Platform, Processor, STREAM, earthquakes};
use receivers::{Behaviour, Receivers};

const DESTINATIONS: usize = 100;
/// Those that fall ill.
const ILL: [Behaviour; 5] = [
    Behaviour::NeverAnswers,
    Behaviour::Fails,
    Behaviour::AsksToWait,
    Behaviour::Redirects,
    Behaviour::NeverEnds,
];
const WELL: usize = DESTINATIONS - ILL.len();

#[tokio::test(flavor = "multi_thread")]
async fn p3_five_ill_destinations_of_a_hundred_cost_the_others_nothing() {
    let (events, rate) = (number("DESTINATIONS_EVENTS", 40), number("DESTINATIONS_RATE", 8));
    let stage = Stage::set().await;
    let all = earthquakes();
    assert!(2 * events <= all.len(), "at most {} events in each half", all.len() / 2);

    let before = stage.run("all are well", &all[..events], rate).await;
    for (n, behaviour) in (WELL..).zip(ILL) {
        stage.receivers.set(n, behaviour);
    }
    let during = stage.run("five are ill", &all[events..2 * events], rate).await;

    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>14}",
        "the other 95", "p50 ms", "p99", "max", "shard's lag"
    );
    for (phase, half) in [("all are well", &before), ("five are ill", &during)] {
        let [p50, p99, max] = half.percentiles;
        println!("{phase:<16}{p50:>10}{p99:>10}{max:>10}{:>14}", half.lag_ms);
    }
    let state = stage.destinations().await;
    for n in 0..WELL {
        assert_eq!(stage.receivers.distinct(n), 2 * events, "destination {n} got everything");
        assert_eq!(stage.receivers.requests(n), 2 * events, "destination {n} got nothing twice");
        let kept = |what: &str| state[&id(n)][what].as_u64().expect("a number");
        assert_eq!((kept("parked"), kept("failed")), (0, 0), "of destination {n}");
    }
    for (n, behaviour) in (WELL..).zip(ILL) {
        let of = &state[&id(n)];
        println!(
            "{behaviour:?}: {} requests; breaker {}, {} failed, {} parked",
            stage.receivers.requests(n),
            of["breaker"],
            of["failed"],
            of["parked"]
        );
        // A receiver that says 200 has taken it, however long its body is.
        if behaviour != Behaviour::NeverEnds {
            assert!(of["failed"].as_u64() > Some(0), "{behaviour:?}: {of}");
        }
    }
    assert_eq!(stage.receivers.followed(), 0, "a redirect was followed");
    assert_eq!(stage.processor.stop().await.code, Some(0));
}

struct Stage {
    platform: Platform,
    processor: Processor,
    receivers: Receivers,
}

/// What one half came to for those that are well.
struct Half {
    percentiles: [u128; 3],
    /// The most that the delivery lane was behind, as the processor says.
    lag_ms: u64,
}

impl Stage {
    async fn set() -> Stage {
        let platform = Platform::start().await;
        let receivers = Receivers::start(DESTINATIONS).await;
        let subscriptions = SubscriptionStore::new(platform.aws.dynamodb.clone(), APP);
        let snapshot = subscriptions.snapshot().await.expect("the subscriptions");
        let like = &snapshot.subscriptions[0];
        for n in 0..DESTINATIONS {
            let subscription = subscription(like, n, &receivers.url(n));
            subscriptions.put(&subscription).await.expect("a subscription");
        }
        let loopback = "async_delivery.allowed_private=127.0.0.0/8";
        let processor = Processor::start_with(&platform, &[loopback]).await;
        Stage { platform, processor, receivers }
    }

    /// Puts the events at a steady rate, and waits until those that are well have all of them, and everything is settled.
    async fn run(&self, what: &str, events: &[(String, Vec<u8>)], rate: usize) -> Half {
        let mut put = BTreeMap::new();
        let mut ticks = interval(Duration::from_secs(1) / rate as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lag_ms = 0;
        for event in events {
            ticks.tick().await;
            put.insert(event.1.clone(), Instant::now());
            self.platform.aws.put(STREAM, std::slice::from_ref(event)).await;
            lag_ms = lag_ms.max(self.processor.behind_ms().await["async-delivery"]);
        }
        eventually(&format!("{what}: each of the 95 has all of it"), async || {
            let missing = (0..WELL).filter(|n| !self.receivers.has(*n, put.keys()));
            match missing.count() {
                0 => Ok(()),
                missing => Err(format!("{missing} destinations lack some")),
            }
        })
        .await;
        self.processor.lanes_are_idle().await;
        let mut took: Vec<u128> = self
            .receivers
            .arrivals(0..WELL)
            .into_iter()
            .filter_map(|(body, at)| Some(at.duration_since(*put.get(&*body)?).as_millis()))
            .collect();
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        Half { percentiles: [at(0.5), at(0.99), at(1.0)], lag_ms }
    }

    /// What the processor says of each destination, by subscription.
    async fn destinations(&self) -> BTreeMap<String, Value> {
        let state = self.processor.state().await;
        let all = state["processor"]["async_delivery"]["destinations"].as_array().expect("a list");
        all.iter()
            .map(|of| (of["subscription"].as_str().expect("an id").to_owned(), of.clone()))
            .collect()
    }
}

fn id(n: usize) -> String {
    format!("sub_{n:03}")
}

/// Another subscription of the same client.
fn subscription(like: &Subscription, n: usize, url: &str) -> Subscription {
    let Destination::Webhook(webhook) = &like.destination else { panic!("a webhook") };
    let mut subscription = like.clone();
    subscription.id = SubscriptionId::parse(&id(n)).expect("an id");
    subscription.version = 0;
    subscription.destination = Destination::Webhook(WebhookDestination {
        url: store::WebhookUrl::parse(url).expect("a URL"),
        ..webhook.clone()
    });
    subscription.policy.timeout_ms = 2_000;
    subscription
}

#[allow(clippy::disallowed_methods, reason = "how long is said from outside")]
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
