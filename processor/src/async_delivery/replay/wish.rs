//! What the replay's one subscription wants, as it is now and as its owner is granted it now.

use std::sync::Arc;

use store::{Message, OnExhausted, ReplayId, Subscription, SubscriptionId, SubscriptionSnapshot};

use crate::async_delivery::mandate::Mandate;
use crate::async_delivery::router::{Asked, Known, Router, Scratch};
use crate::integration::Integrations;

/// One subscription alone, without the moment it begins at; compiled once, asked for every message.
pub(super) struct Wish {
    /// What it was made of: when that changes, it is made anew.
    seen: Arc<SubscriptionSnapshot>,
    mandate: Mandate,
    router: Router<()>,
    scratch: Scratch,
}

impl Wish {
    /// The wish of a subscription; an error in words if nothing is delivered for it.
    pub(super) fn of(
        id: &SubscriptionId,
        snapshot: &Arc<SubscriptionSnapshot>,
        integrations: &Integrations,
    ) -> Result<Wish, String> {
        let found = snapshot.subscriptions.iter().find(|subscription| subscription.id == *id);
        let found = found.ok_or_else(|| format!("the subscription {id} is gone"))?;
        // A replay is for what arrived before it was there, too.
        let always = Arc::new(Subscription { created_at_ms: i64::MIN, ..found.clone() });
        let mandate = Mandate::of(&always, snapshot).ok_or_else(|| {
            format!("the subscription {id}, or the client that owns it, is switched off")
        })?;
        let router = Router::compile(&Known::all(integrations), [(&mandate, ())]);
        Ok(Wish { seen: Arc::clone(snapshot), mandate, router, scratch: Scratch::default() })
    }

    /// It was made of this very snapshot.
    pub(super) fn is_of(&self, snapshot: &Arc<SubscriptionSnapshot>) -> bool {
        Arc::ptr_eq(&self.seen, snapshot)
    }

    /// A chain may have stopped at what was given up, and waits for it to be sent again.
    pub(super) fn stops(&self) -> bool {
        self.mandate.subscription.policy.on_exhausted == OnExhausted::Stop
    }

    /// The subscription is to get this message.
    pub(super) fn wants(&mut self, message: &Message, integrations: &Integrations) -> bool {
        integrations.index_of(&message.integration).is_some_and(|integration| {
            let asked = Asked {
                integration,
                entity: message.entity.as_str(),
                arrived_at_ms: message.arrived_at_ms,
                payload: &message.payload,
            };
            self.router.matches(asked, &mut self.scratch).next().is_some()
                && (self.mandate.sees_whole_entities(&message.integration)
                    || self.mandate.view(message.clone()).is_some())
        })
    }
}

/// What a parked delivery says of itself until it is attempted.
pub(super) fn origin(id: &ReplayId) -> String {
    format!("not attempted yet: parked by the replay {id}")
}
