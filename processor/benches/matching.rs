//! What finding a message's subscriptions costs, in memory: `cargo bench -p processor --bench matching`.
//!
//! The messages are real (USGS earthquakes, 0.6 to 0.9 KB); of however many subscriptions there are, 10 match each
//! message that is asked about. All of it is measured: reading the message's content where a
//! subscription asks for it, the index, and the patterns that nearly match. The least of the rounds is
//! printed, in CPU time of the one thread that does all of it where the system tells (Linux).

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use processor::integration::{Integration, Integrations};
use processor::stages::matching::Matching;
use serde_json::{Value, json};
use store::pattern::{Pattern, Reader};
use store::{
    Action, Client, ClientId, DeliveryPolicy, Destination, Grant, GrantScope, SigningSecret,
    Subscription, SubscriptionEpochs, SubscriptionId, SubscriptionSnapshot, WebhookDestination,
    WebhookUrl,
};
use tokio::time::Instant;

const QUAKES: &str = include_str!("../../tests/data/earthquakes.ndjson");
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(12);
/// Subscriptions that match a message.
const MATCHING: usize = 10;

/// A message, and what it is about.
struct Quake {
    entity: String,
    content: Value,
    payload: &'static str,
}

/// How the subscriptions of one message ask for it.
type Asking = fn(&mut Subscription, &Quake, usize);

/// The entity is enough: nothing of the content is read.
const ENTITY: Asking = |subscription, quake, _| {
    subscription.entity_prefix = Some(quake.entity.clone());
};

/// An exact value that is theirs alone.
const ONE_VALUE: Asking = |subscription, quake, _| {
    filter(subscription, &json!({ "id": [quake.content["id"]] }));
};

/// Several fields: what most share, what few do, and a number within bounds.
const FIELDS: Asking = |subscription, quake, n| {
    let properties = &quake.content["properties"];
    let asked = json!({
        "type": ["Feature"],
        "properties": {
            "status": ["automatic", "reviewed"],
            "net": [properties["net"]],
            "code": [properties["code"]],
            "mag": [{ "numeric": [">=", -10 - i64::try_from(n).unwrap_or(0)] }],
            "place": [{ "anything-but": { "prefix": "nowhere" } }],
        },
    });
    filter(subscription, &asked);
};

/// The event type, and a filter.
const TYPE: Asking = |subscription, quake, n| {
    subscription.types = vec!["earthquake".to_owned(), "quarry blast".to_owned()];
    FIELDS(subscription, quake, n);
};

/// No exact value: each is asked by itself, and none but its message's ten match.
const UNANCHORED: Asking = |subscription, quake, n| {
    let text = quake.content["id"].as_str().unwrap_or_default();
    let net = format!("-{n}");
    filter(subscription, &json!({ "id": [{ "prefix": text }], net: [{ "exists": false }] }));
};

fn filter(subscription: &mut Subscription, json: &Value) {
    subscription.filter = Some(Pattern::parse(&json.to_string()).expect("a pattern"));
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, most) = if is_bench { (ROUNDS, 10_000) } else { (1, 100) };
    let quakes = quakes();
    println!(
        "subscriptions of a message, {MATCHING} of them match: ns a message (least of {rounds})"
    );
    println!("{:<44}{:>8}{:>9}{:>9}{:>9}", "subscriptions", 10, 100, 1_000, 10_000);
    for (name, asking) in [
        ("by entity, no content", ENTITY),
        ("a filter of one exact value", ONE_VALUE),
        ("a filter of six fields", FIELDS),
        ("event types and a filter of six fields", TYPE),
        ("a filter without an exact value", UNANCHORED),
    ] {
        print!("{name:<44}");
        for count in [10, 100, 1_000, 10_000] {
            if count <= most {
                print!("{:>9.0}", measure(rounds, &quakes, count, asking));
            }
        }
        println!();
    }
    println!("{:<44}{:>9.0}", "reading the content alone", reading(rounds, &quakes));
}

/// Those of which no two are about the same thing.
fn quakes() -> Vec<Quake> {
    let quake = |payload: &'static str| {
        let content: Value = serde_json::from_str(payload).expect("JSON");
        Quake { entity: content["id"].as_str().expect("an id").to_owned(), content, payload }
    };
    let mut quakes: Vec<Quake> = QUAKES.lines().map(quake).collect();
    quakes.sort_by(|a, b| a.entity.cmp(&b.entity));
    quakes.dedup_by(|a, b| a.entity.starts_with(&b.entity));
    quakes
}

fn measure(rounds: usize, quakes: &[Quake], count: usize, asking: Asking) -> f64 {
    let asked_for = &quakes[..count / MATCHING];
    let quakes_json = json!({ "name": "quakes", "match": [{ "pointer": "/id", "exists": true }], "type": "/properties/type" });
    let integration: Integration = serde_json::from_value(quakes_json).expect("an integration");
    let integrations = Integrations::compile(vec![integration]).expect("one integration");
    let subscriptions = (0..count).map(|n| {
        let mut subscription = subscription(n);
        asking(&mut subscription, &asked_for[n / MATCHING], n);
        subscription
    });
    let mut matching = Matching::new(&integrations, &snapshot(subscriptions.collect()));
    least(rounds, asked_for, |quake| {
        let matched = matching.matches(&quake.entity, quake.payload.as_bytes());
        assert_eq!(matched, MATCHING, "{}", quake.payload);
    })
}

fn reading(rounds: usize, quakes: &[Quake]) -> f64 {
    let mut reader = Reader::default();
    least(rounds, quakes, |quake| {
        black_box(reader.read(quake.payload.as_bytes()).is_ok());
    })
}

/// The least ns that one of the messages took, over whole passes.
fn least(rounds: usize, quakes: &[Quake], mut ask: impl FnMut(&Quake)) -> f64 {
    let mut least = f64::MAX;
    let passes = (1_000 / quakes.len()).max(1);
    let start = Instant::now();
    for _ in 0..rounds {
        let (began, mut asked) = (used(start), 0);
        while used(start) - began < ROUND {
            (0..passes).for_each(|_| quakes.iter().for_each(&mut ask));
            asked += passes * quakes.len();
        }
        least = least.min((used(start) - began).as_secs_f64() * 1e9 / asked as f64);
    }
    least
}

/// What this thread has used, on a machine that others use as well; the time since `start` where that is not told.
fn used(start: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn subscription(n: usize) -> Subscription {
    let url = WebhookUrl::parse("https://receiver.example/").expect("a URL");
    let secret = SigningSecret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    Subscription {
        id: SubscriptionId::parse(&format!("sub_{n}")).expect("an id"),
        client: ClientId::parse("client").expect("an id"),
        integrations: Vec::new(),
        entity_prefix: None,
        types: Vec::new(),
        filter: None,
        destination: Destination::Webhook(WebhookDestination::new(url, secret)),
        policy: DeliveryPolicy::default(),
        created_at_ms: 0,
        version: 1,
        enabled: true,
    }
}

fn snapshot(subscriptions: Vec<Subscription>) -> SubscriptionSnapshot {
    let everything = Grant::new(GrantScope::All, Action::Subscribe);
    let owner = Client {
        id: ClientId::parse("client").expect("an id"),
        name: "client".to_owned(),
        grants: vec![everything],
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 1,
    };
    SubscriptionSnapshot {
        epochs: SubscriptionEpochs::default(),
        subscriptions,
        clients: [(owner.id.clone(), Arc::new(owner))].into(),
    }
}
