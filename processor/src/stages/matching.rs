//! Finding the subscriptions of a message, by itself.

use std::sync::Arc;

use ::store::SubscriptionSnapshot;

use crate::async_delivery::mandate::Mandate;
use crate::async_delivery::router::{Asked, Known, Router, Scratch};
use crate::integration::Integrations;

/// Compiled subscriptions.
pub struct Matching {
    router: Router<u32>,
    scratch: Scratch,
}

impl Matching {
    /// Compiles all subscriptions of the snapshot.
    #[must_use]
    pub fn new(integrations: &Integrations, snapshot: &SubscriptionSnapshot) -> Matching {
        let mandates = snapshot.subscriptions.iter().map(|s| Arc::new(s.clone()));
        let mandates: Vec<Mandate> = mandates.filter_map(|s| Mandate::of(&s, snapshot)).collect();
        let router = Router::compile(&Known::all(integrations), mandates.iter().zip(0..));
        Matching { router, scratch: Scratch::default() }
    }

    /// How many of them want a message of the first integration.
    pub fn matches(&mut self, entity: &str, payload: &[u8]) -> usize {
        let asked = Asked { integration: 0, entity, arrived_at_ms: 0, payload };
        self.router.matches(asked, &mut self.scratch).count()
    }
}
