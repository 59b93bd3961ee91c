//! What a lane delivers for: a subscription, and the client that owns it.
//!
//! Push obeys the same grants as pull: a subscription is a wish, and what its owner is granted
//! (`subscribe`, integration, entity prefix, row filter, field mask) bounds it. The router asks for integration
//! and entity when a message arrives; the lane asks for all of it before each attempt, because a grant may be gone
//! by then. Pure.

use std::sync::Arc;

use store::pattern::Reader;
use store::{
    Action, Client, Entity, Exposure, IntegrationName, Message, Subscription, SubscriptionSnapshot,
    authorise,
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

    /// The message as the owner may see it, with the fields that it is granted; `None` if that is nothing.
    pub(super) fn view(&self, mut message: Message) -> Option<Message> {
        let (integration, entity) = (&message.integration, &message.entity);
        if integration.is_events() {
            return self.hears_events(entity).then_some(message);
        }
        let mut reader = Reader::default();
        let exposure = self.owner.exposure(
            Action::Subscribe,
            integration,
            entity,
            &message.payload,
            &mut reader,
        );
        match exposure {
            Exposure::Hidden => return None,
            Exposure::Whole => {}
            Exposure::Fields(mask) => message.payload = mask.apply(&message.payload)?.into(),
        }
        Some(message)
    }

    /// What the owner is granted of this integration does not depend on what is in its messages.
    pub(super) fn sees_whole_entities(&self, integration: &IntegrationName) -> bool {
        self.owner.sees_whole_entities(Action::Subscribe, integration)
    }

    /// The owner is granted the pushing of messages about this entity, or of some of them.
    pub(super) fn allows(&self, integration: &IntegrationName, entity: &Entity) -> bool {
        if integration.is_events() {
            return self.hears_events(entity);
        }
        authorise(&self.owner, Action::Subscribe, integration, Some(entity)).is_allowed()
    }

    /// What happens to its own destinations is parked for the owner alone, so asking for it is enough; and what is about
    /// this very subscription is a test that the owner asked for.
    fn hears_events(&self, about: &Entity) -> bool {
        about.as_str() == self.subscription.id.as_str()
            || self.subscription.integrations.iter().any(IntegrationName::is_events)
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
