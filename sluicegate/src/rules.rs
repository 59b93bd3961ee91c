//! What processors go by, for the API: where a webhook may lead and which certificate can be shown, so that what would
//! never be delivered is refused where a client enters it; and which messages a subscription asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{DeliveryRules, Managing};
use processor::Guard;
use processor::integration::Integrations;
use store::{
    Client, ClientIdentity, DeliveryStore, Message, Subscription, SubscriptionEpochs,
    SubscriptionId, SubscriptionSnapshot, SubscriptionStore, WebhookUrl,
};

use crate::clients::Clients;
use crate::config::Config;
use crate::random;

/// What clients manage of what is pushed to them.
pub(crate) fn managing(config: &Config, clients: &Clients) -> Managing {
    let (dynamodb, app) = (&clients.dynamodb, &config.app.name);
    let deliveries = DeliveryStore::new(dynamodb.clone(), app);
    Managing {
        subscriptions: SubscriptionStore::new(dynamodb.clone(), app),
        replays: deliveries.replays(),
        deliveries,
        rules: Arc::new(ProcessorRules::of(config)),
        private_webhooks: config.api.private_webhooks,
        random: Arc::new(random::fill),
    }
}

/// See the module.
pub(crate) struct ProcessorRules {
    guard: Guard,
    integrations: Arc<Integrations>,
}

impl ProcessorRules {
    /// Those of processors of this configuration.
    pub(crate) fn of(config: &Config) -> ProcessorRules {
        ProcessorRules {
            guard: config.pipelines.guard.clone(),
            integrations: Arc::clone(&config.integrations),
        }
    }
}

impl DeliveryRules for ProcessorRules {
    fn check_url(&self, url: &WebhookUrl, public_only: bool) -> Result<(), String> {
        let public = public_only.then(|| self.guard.public_only());
        let guard = public.as_ref().unwrap_or(&self.guard);
        guard.check_url(url.uri()).map_err(|refusal| refusal.to_string())
    }

    fn check_identity(&self, identity: &ClientIdentity) -> Result<(), String> {
        processor::check_identity(&rustls::crypto::ring::default_provider(), identity)
    }

    fn wanted_by(
        &self,
        message: &Message,
        client: &Client,
        subscriptions: &[Subscription],
    ) -> Vec<SubscriptionId> {
        // As a processor would see them, if there were no others.
        let snapshot = SubscriptionSnapshot {
            epochs: SubscriptionEpochs::default(),
            subscriptions: subscriptions.to_vec(),
            clients: BTreeMap::from([(client.id.clone(), Arc::new(client.clone()))]),
        };
        processor::wanted_by(message, &self.integrations, &snapshot)
    }

    fn hash_key(&self, partition_key: &str) -> u128 {
        processor::hash_key_of(partition_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_vouch_for_is_theirs_alone_unless_it_is_said() {
        let vouched = ("async_delivery.allowed_private".to_owned(), "10.0.0.1:8080".to_owned());
        let config = Config::load(None, std::iter::empty(), &[vouched]).unwrap();
        let rules = ProcessorRules::of(&config);
        let check = |text: &str, public_only| {
            rules.check_url(&WebhookUrl::parse(text).unwrap(), public_only)
        };
        assert_eq!(check("http://10.0.0.1:8080/x", false), Ok(()));
        assert!(check("http://10.0.0.1:8080/x", true).unwrap_err().contains("plain http"));
        assert!(check("https://10.0.0.1/x", true).unwrap_err().contains("a private network"));
        assert!(check("https://example.com:22/", true).unwrap_err().contains("port 22"));
        assert_eq!(check("https://example.com/x", true), Ok(()));
    }
}
