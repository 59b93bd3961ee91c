//! What the replay's one subscription wants, as it is now and as its owner is granted it now.

use std::collections::BTreeMap;
use std::sync::Arc;

use store::{Message, ReplayId, Subscription, SubscriptionId, SubscriptionSnapshot};

use crate::async_delivery::mandate::Mandate;
use crate::async_delivery::wanted_by;
use crate::integration::Integrations;

/// One subscription alone, without the moment it begins at.
pub(super) struct Wish {
    /// What it was made of: when that changes, it is made anew.
    seen: Arc<SubscriptionSnapshot>,
    alone: SubscriptionSnapshot,
}

impl Wish {
    /// The wish of a subscription; an error in words if nothing is delivered for it.
    pub(super) fn of(
        id: &SubscriptionId,
        snapshot: &Arc<SubscriptionSnapshot>,
    ) -> Result<Wish, String> {
        let found = snapshot.subscriptions.iter().find(|subscription| subscription.id == *id);
        let found = found.ok_or_else(|| format!("the subscription {id} is gone"))?;
        let owner = snapshot.clients.get(&found.client);
        if Mandate::of(&Arc::new(found.clone()), snapshot).is_none() {
            return Err(format!(
                "the subscription {id}, or the client that owns it, is switched off"
            ));
        }
        // A replay is for what arrived before it was there, too.
        let alone = SubscriptionSnapshot {
            epochs: snapshot.epochs,
            subscriptions: vec![Subscription { created_at_ms: i64::MIN, ..found.clone() }],
            clients: owner
                .map(|owner| (owner.id.clone(), Arc::clone(owner)))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        Ok(Wish { seen: Arc::clone(snapshot), alone })
    }

    /// It was made of this very snapshot.
    pub(super) fn is_of(&self, snapshot: &Arc<SubscriptionSnapshot>) -> bool {
        Arc::ptr_eq(&self.seen, snapshot)
    }

    /// The subscription is to get this message.
    pub(super) fn wants(&self, message: &Message, integrations: &Integrations) -> bool {
        !wanted_by(message, integrations, &self.alone).is_empty()
    }
}

/// What a parked delivery says of itself until it is attempted.
pub(super) fn origin(id: &ReplayId) -> String {
    format!("not attempted yet: parked by the replay {id}")
}
