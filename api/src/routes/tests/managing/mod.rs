//! What a client manages of what is pushed to it, over the real stores.

mod deliveries;
mod replays;
mod subscriptions;

use std::sync::{Arc, Mutex};

use http::Request;
use serde_json::{Value, json};
use store::{
    Action, ApiKey, Client, ClientIdentity, DeliveryStore, Grant, Message, Subscription,
    SubscriptionId, SubscriptionStore, WebhookUrl,
};

use super::{Answer, Random, World, reads};
use crate::{DeliveryRules, Managing};

/// No worker goes to `10.0.0.1`, nor to `vouched` for what its client entered.
struct Rules;

impl DeliveryRules for Rules {
    fn check_url(&self, url: &WebhookUrl, public_only: bool) -> Result<(), String> {
        match (url.host(), public_only) {
            ("10.0.0.1", _) => Err("address 10.0.0.1 is refused: a private network".to_owned()),
            ("vouched", true) => Err("plain http is refused".to_owned()),
            _ => Ok(()),
        }
    }

    fn check_identity(&self, _: &ClientIdentity) -> Result<(), String> {
        Err("the key does not belong to the certificate".to_owned())
    }

    fn wanted_by(
        &self,
        message: &Message,
        client: &Client,
        subscriptions: &[Subscription],
    ) -> Vec<SubscriptionId> {
        let asks = |one: &&Subscription| {
            one.client == client.id
                && (one.integrations.is_empty() || one.integrations.contains(&message.integration))
        };
        subscriptions.iter().filter(asks).map(|one| one.id.clone()).collect()
    }

    fn hash_key(&self, _: &str) -> u128 {
        7
    }
}

/// What managing works with, over this DynamoDB.
pub(super) fn over(dynamodb: &aws_sdk_dynamodb::Client) -> Managing {
    let deliveries = DeliveryStore::new(dynamodb.clone(), "test");
    let random = Mutex::new(Random(7));
    Managing {
        subscriptions: SubscriptionStore::new(dynamodb.clone(), "test"),
        replays: deliveries.replays(),
        deliveries,
        rules: Arc::new(Rules),
        private_webhooks: false,
        random: Arc::new(move |bytes: &mut [u8]| random.lock().unwrap().fill(bytes)),
    }
}

/// May have all of one integration pushed.
pub(in crate::routes::tests) fn subscribes(integration: &str) -> Grant {
    Grant { action: Action::Subscribe, ..reads(integration) }
}

/// Secrets that go in: none may ever come out.
const PASSWORD: &str = "pa55word-of-acme";
const TOKEN: &str = "t0ken-in-the-path";

/// A webhook with as many secrets as one may have.
fn webhook() -> Value {
    json!({
        "url": format!("https://hooks.example/{TOKEN}"),
        "headers": { "x-tenant-key": PASSWORD },
        "auth": { "basic": { "user": "acme", "password": PASSWORD } },
    })
}

impl World {
    pub(in crate::routes::tests) async fn post(
        &self,
        path: &str,
        key: &ApiKey,
        body: &Value,
    ) -> Answer {
        self.send_json(Request::post(path), key, body).await
    }

    async fn patch(&self, path: &str, key: &ApiKey, body: &Value) -> Answer {
        self.send_json(Request::patch(path), key, body).await
    }

    async fn delete(&self, path: &str, key: &ApiKey) -> Answer {
        self.send(Request::delete(path).header("x-api-key", key.expose())).await
    }

    /// Makes a subscription as a client, and gives it as it was answered.
    pub(in crate::routes::tests) async fn subscribe(&self, key: &ApiKey) -> Value {
        let body = json!({ "integrations": ["quakes"], "destination": { "webhook": webhook() } });
        let made = self.post("/v1/subscriptions", key, &body).await;
        assert_eq!(made.status, 201, "{}", made.json());
        made.json()
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}
