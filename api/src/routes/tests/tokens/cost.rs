//! What it costs to know who asks, what is left of their limits and what they are granted. A measurement, no
//! test: `cargo test --release -p api --lib cost -- --ignored --nocapture`.

use std::time::Duration;

use http::{HeaderMap, header};
use store::{Action, Entity, IntegrationName, authorise};
use tokio::time::Instant;

use super::{claims, reads, world_with};
use crate::access::Peer;

const REQUESTS: usize = 50_000;

#[tokio::test]
#[ignore = "a measurement, no test: what an authenticated request costs (issue 6)"]
async fn what_a_key_and_a_token_cost() {
    let unlimited = |options: &mut crate::Options| options.limits.client.concurrent = 1_000;
    let (mut world, forge, client) = world_with(vec![reads("quakes")], unlimited).await;
    let key = world.key(&client, None).await;
    let quakes = IntegrationName::parse("quakes").unwrap();
    let entity = Entity::parse("ci").unwrap();
    let app = std::sync::Arc::clone(&world.service.as_ref().unwrap().app);
    let bearers = [
        ("API key", key.expose().to_owned()),
        ("ES256 token", forge.token("ES256", "ec", &claims())),
        ("RS256 token", forge.token("RS256", "rsa", &claims())),
    ];
    for (what, text) in bearers {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {text}").parse().unwrap());
        let mut took = Vec::with_capacity(REQUESTS);
        let mut first = Duration::ZERO;
        for n in 0..=REQUESTS {
            let started = Instant::now();
            let client = app.authenticator.client(&headers, &Peer::default()).await.unwrap();
            // Whether it is let in or not, it was counted.
            let admitted = app.gates.admit(&client);
            let decision = authorise(&client, Action::Read, &quakes, Some(&entity));
            let elapsed = started.elapsed();
            assert!(decision.is_allowed());
            drop(admitted);
            if n == 0 { first = elapsed } else { took.push(elapsed) }
        }
        took.sort_unstable();
        let at = |share: f64| took[(REQUESTS as f64 * share) as usize];
        println!(
            "{what:12} p50 {:?}, p99 {:?}, p99.9 {:?}; the first one {first:?}",
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
}
