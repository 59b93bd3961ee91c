//! A client's own subscriptions: made, read, changed, deleted, and given new signing keys.

use store::{
    Action, BodyForm, Client, DeliveryPolicy, Destination, IntegrationName, SigningSecret,
    Subscription, SubscriptionId, WebhookAuth, WebhookDestination, WebhookUrl,
};

use super::changes::{Change, Destined, Draft, KeyKind, Rotation};
use super::{Actor, Fault, ManageError, Manager};
use crate::audit;

/// A subscription with a key that was made for it just now: the one time that it is shown.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) subscription: Subscription,
    /// `None` where nothing is signed.
    pub(crate) key: Option<SigningSecret>,
}

impl Manager {
    /// A page of the client's subscriptions, in the order of their ids, and the id behind which the next one begins.
    pub(crate) async fn subscriptions(
        &self,
        client: &Client,
        after: Option<&SubscriptionId>,
        limit: usize,
    ) -> Result<(Vec<Subscription>, Option<SubscriptionId>), ManageError> {
        Ok(self.with.subscriptions.of_client(&client.id, after, limit).await?)
    }

    /// One of the client's subscriptions.
    pub(crate) async fn subscription(
        &self,
        client: &Client,
        id: &str,
    ) -> Result<Subscription, ManageError> {
        let id = SubscriptionId::parse(id).map_err(|_| ManageError::NotFound)?;
        let found = self.with.subscriptions.get(&id).await?;
        let found = found.ok_or(ManageError::NotFound)?;
        if found.client == client.id {
            return Ok(found);
        }
        audit::not_its_own(client, Action::Subscribe);
        Err(ManageError::NotFound)
    }

    /// Makes a subscription for the client. One that may subscribe to nothing finds nothing here.
    pub(crate) async fn subscribe(
        &self,
        actor: Actor<'_>,
        draft: Draft,
    ) -> Result<Made, ManageError> {
        let client = actor.client;
        if self.subscribable(client).next().is_none() {
            audit::nothing_granted(client, Action::Subscribe);
            return Err(ManageError::NotFound);
        }
        let there = self.with.subscriptions.count_of(&client.id, self.max_subscriptions).await?;
        if there >= self.max_subscriptions {
            let most = self.max_subscriptions;
            return Err(ManageError::Conflict(format!(
                "you have {most} subscriptions, and up to {most} are allowed: delete one first"
            )));
        }
        let now_ms = self.now_ms();
        let (destination, key) = self.destination(draft.destined)?;
        let mut subscription = Subscription {
            id: SubscriptionId::generate(&mut |bytes| (self.with.random)(bytes)),
            client: client.id.clone(),
            integrations: Vec::new(),
            entity_prefix: None,
            types: Vec::new(),
            filter: None,
            destination,
            policy: DeliveryPolicy::default(),
            created_at_ms: now_ms,
            version: 0,
            enabled: true,
        };
        self.check_destination(&subscription.destination)?;
        self.apply(client, &mut subscription, draft.change)?;
        let by = actor.words();
        let change = store::Change { by: &by, at_ms: now_ms };
        let stored = self.with.subscriptions.put_as(&subscription, "subscription.create", &change);
        let subscription = stored.await?;
        audit::changed(client, "subscription.create", subscription.id.as_str());
        Ok(Made { subscription, key })
    }

    /// Changes one of the client's subscriptions, if it is at `version` still (`None`: whatever it is at).
    pub(crate) async fn change_subscription(
        &self,
        actor: Actor<'_>,
        id: &str,
        version: impl Fn(u64) -> bool,
        change: Change,
    ) -> Result<Subscription, ManageError> {
        let mut subscription = self.subscription(actor.client, id).await?;
        if !version(subscription.version) {
            return Err(ManageError::Changed);
        }
        let before = subscription.clone();
        self.apply(actor.client, &mut subscription, change)?;
        if subscription == before {
            return Ok(before);
        }
        self.put(actor, &subscription, "subscription.change").await
    }

    /// Deletes one of the client's subscriptions; what waits for it becomes dead letters.
    pub(crate) async fn unsubscribe(
        &self,
        actor: Actor<'_>,
        id: &str,
        version: impl Fn(u64) -> bool,
    ) -> Result<(), ManageError> {
        let found = self.subscription(actor.client, id).await?;
        if !version(found.version) {
            return Err(ManageError::Changed);
        }
        let (by, at_ms) = (actor.words(), self.now_ms());
        let change = store::Change { by: &by, at_ms };
        match self.with.subscriptions.delete_as(&found.id, &change).await? {
            true => {
                audit::changed(actor.client, "subscription.delete", found.id.as_str());
                Ok(())
            }
            false => Err(ManageError::NotFound),
        }
    }

    /// Gives a webhook a new signing key.
    pub(crate) async fn rotate_secret(
        &self,
        actor: Actor<'_>,
        id: &str,
        rotation: Rotation,
    ) -> Result<Made, ManageError> {
        let mut subscription = self.subscription(actor.client, id).await?;
        let kind = subscription.destination.kind();
        let Some(webhook) = subscription.destination.webhook_mut() else {
            return Err(ManageError::Conflict(format!(
                "the destination is of kind {kind}, which is signed by no key of ours: only a webhook is"
            )));
        };
        let key = self.new_key(rotation.kind)?;
        webhook
            .rotate(key.clone(), self.now_ms(), rotation.overlap)
            .map_err(|error| Fault::new("/overlapSeconds", error))?;
        let subscription = self.put(actor, &subscription, "subscription.rotate").await?;
        Ok(Made { subscription, key: Some(key) })
    }

    async fn put(
        &self,
        actor: Actor<'_>,
        subscription: &Subscription,
        action: &'static str,
    ) -> Result<Subscription, ManageError> {
        let (by, at_ms) = (actor.words(), self.now_ms());
        let change = store::Change { by: &by, at_ms };
        let stored = self.with.subscriptions.put_as(subscription, action, &change).await?;
        audit::changed(actor.client, action, stored.id.as_str());
        Ok(stored)
    }

    /// The integrations that there are and that the client may have pushed.
    fn subscribable(&self, client: &Client) -> impl Iterator<Item = &IntegrationName> {
        self.integrations.iter().filter(|name| client.may_see(Action::Subscribe, name))
    }

    fn destination(
        &self,
        destined: Destined,
    ) -> Result<(Destination, Option<SigningSecret>), ManageError> {
        Ok(match destined {
            Destined::Webhook(url, change, kind) => {
                let key = self.new_key(kind)?;
                let mut webhook = WebhookDestination::new(url, key.clone());
                change.apply(&mut webhook);
                webhook.public_only = !self.with.private_webhooks;
                (Destination::Webhook(webhook), Some(key))
            }
            Destined::Sqs(sqs) => (Destination::Sqs(sqs), None),
            Destined::Sns(sns) => (Destination::Sns(sns), None),
            Destined::EventBridge(bridge) => (Destination::EventBridge(bridge), None),
        })
    }

    fn new_key(&self, kind: KeyKind) -> Result<SigningSecret, ManageError> {
        let random = &mut |bytes: &mut [u8]| (self.with.random)(bytes);
        match kind {
            KeyKind::Hmac => Ok(SigningSecret::generate(random)),
            KeyKind::Ed25519 => SigningSecret::generate_ed25519(random).map_err(|error| {
                tracing::error!(%error, "a key pair could not be made");
                ManageError::Internal
            }),
        }
    }

    /// Takes all of a change over into a subscription, if all of it is allowed.
    fn apply(
        &self,
        client: &Client,
        subscription: &mut Subscription,
        change: Change,
    ) -> Result<(), ManageError> {
        if let Some(enabled) = change.enabled {
            subscription.enabled = enabled;
        }
        if change.integrations.is_some() || change.operational_events.is_some() {
            let (names, events) = (change.integrations, change.operational_events);
            subscription.integrations =
                self.asked(client, &subscription.integrations, names, events)?;
        }
        if let Some(prefix) = change.entity_prefix {
            subscription.entity_prefix = prefix;
        }
        if let Some(types) = change.event_types {
            subscription.types = types;
        }
        if let Some(filter) = change.filter {
            subscription.filter = filter;
        }
        change.policy.apply(&mut subscription.policy)?;
        if let Some(change) = change.webhook {
            let kind = subscription.destination.kind();
            let webhook = subscription.destination.webhook_mut().ok_or_else(|| {
                let detail =
                    format!("found a webhook, allowed is {kind}: the kind of a destination stays");
                Fault::new("/destination", detail)
            })?;
            // Where it leads by its client's choice is where clients may lead to.
            webhook.public_only |= change.leads_elsewhere() && !self.with.private_webhooks;
            change.apply(webhook);
            self.check_destination(&subscription.destination)?;
        }
        Ok(())
    }

    /// The integrations that a subscription is to name: those that are asked for, all of which the client may have
    /// pushed, or that of events alone.
    fn asked(
        &self,
        client: &Client,
        before: &[IntegrationName],
        names: Option<Vec<IntegrationName>>,
        events: Option<bool>,
    ) -> Result<Vec<IntegrationName>, Fault> {
        if events.unwrap_or_else(|| before.iter().any(IntegrationName::is_events)) {
            return match names.filter(|names| !names.is_empty()) {
                None => Ok(vec![IntegrationName::events()]),
                Some(_) => Err(Fault::new(
                    "/integrations",
                    "found integrations beside operationalEvents, allowed is one of the two: events have a subscription of their own",
                )),
            };
        }
        let names = names.unwrap_or_default();
        let known = |name: &IntegrationName| self.subscribable(client).any(|one| one == name);
        match names.iter().position(|name| !known(name)) {
            None => Ok(names),
            Some(at) => {
                let allowed: Vec<&str> = self.subscribable(client).map(|n| n.as_str()).collect();
                let (found, allowed) = (&names[at], allowed.join(", "));
                let detail = format!("found \"{found}\", allowed are {allowed}");
                Err(Fault::new(format!("/integrations/{at}"), detail))
            }
        }
    }

    /// Refuses what no worker could ever deliver to.
    fn check_destination(&self, destination: &Destination) -> Result<(), Fault> {
        let Some(webhook) = destination.webhook() else { return Ok(()) };
        let refused = |field: &str, url: &WebhookUrl, why: String| {
            let found = url.origin();
            Fault::new(
                format!("/destination/webhook/{field}"),
                format!("found {found:?}, where no delivery would go: {why}"),
            )
        };
        let check_url = |url| self.with.rules.check_url(url, webhook.public_only);
        check_url(&webhook.url).map_err(|why| refused("url", &webhook.url, why))?;
        if let Some(WebhookAuth::OAuth(oauth)) = webhook.auth.as_deref() {
            let url = &oauth.token_url;
            let checked = check_url(url);
            checked.map_err(|why| refused("auth/oauth/tokenUrl", url, why))?;
        }
        if let Some(identity) = &webhook.identity {
            let checked = self.with.rules.check_identity(identity);
            checked.map_err(|why| Fault::new("/destination/webhook/clientCertificate", why))?;
        }
        if webhook.form == BodyForm::Thin && !self.has_base_url {
            let detail = "found \"thin\", which needs links to messages, and this installation has no public address: any other form is allowed";
            return Err(Fault::new("/destination/webhook/form", detail));
        }
        Ok(())
    }
}
