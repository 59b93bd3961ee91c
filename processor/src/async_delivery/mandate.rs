//! What a lane delivers for: a subscription, and the client that owns it.
//!
//! Push obeys the same grants as pull: a subscription is a wish, and what its owner is granted
//! (`subscribe`, integration, entity prefix) bounds it. The router asks when a message arrives, the
//! lane again before each attempt, because a grant may be gone by then. Pure.

use std::sync::Arc;

use store::{
    Action, Client, Entity, IntegrationName, Subscription, SubscriptionSnapshot, authorise,
};

/// A subscription that is delivered for, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mandate {
    pub(super) subscription: Arc<Subscription>,
    owner: Arc<Client>,
}

impl Mandate {
    /// `None` if nothing is delivered: the subscription is switched off, or its owner is, or gone.
    pub(crate) fn of(
        subscription: &Arc<Subscription>,
        snapshot: &SubscriptionSnapshot,
    ) -> Option<Mandate> {
        let owner = snapshot.clients.get(&subscription.client).filter(|owner| owner.enabled)?;
        let (subscription, owner) = (Arc::clone(subscription), Arc::clone(owner));
        subscription.enabled.then_some(Mandate { subscription, owner })
    }

    /// The owner is granted the pushing of this message.
    pub(super) fn allows(&self, integration: &IntegrationName, entity: &Entity) -> bool {
        authorise(&self.owner, Action::Subscribe, integration, Some(entity)).is_allowed()
    }

    /// The entity prefixes that the subscription wants of an integration and its owner is granted.
    /// None covers another; `""` is every entity.
    pub(super) fn prefixes(&self, integration: &IntegrationName) -> Vec<&str> {
        let wanted = &self.subscription.integrations;
        if !wanted.is_empty() && !wanted.contains(integration) {
            return Vec::new();
        }
        let within = self.subscription.entity_prefix.as_deref().unwrap_or_default();
        self.owner.reach(Action::Subscribe, integration, within)
    }
}
