//! Operational events: what a client is told about its own destinations, by whatever it has subscribed for them.
//!
//! An event is a message of the reserved integration [`IntegrationName::events`], parked as due for each subscription of the
//! same client that names it: so it is signed, retried, ordered by nobody and given up like any other. Its id is made of
//! what happened, to what and in which minute, so however many workers see it, it is told once. Pure.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use serde_json::{Value, json};
use store::pattern::Reader;
use store::{
    DeadLetter, DeadReason, Entity, IntegrationName, Message, MessageId, ParkedDelivery, Position,
    Subscription, SubscriptionId, SubscriptionSnapshot,
};

/// Events remembered as told.
const MAX_TOLD: usize = 1_024;
/// At most one event of a kind is told of a subscription in this time.
const ONCE_IN_MS: i64 = 60_000;
/// In the place of a stream's ARN.
const SOURCE: &str = "sluicegate:events";

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The destination takes nothing: its breaker opened, for the first time since it was well.
    Failing,
    /// It takes deliveries again.
    Recovered {
        /// Since when it had not, in ms since 1970.
        since_ms: i64,
    },
    /// The subscription was switched off.
    Disabled {
        /// `gone`, or `failing` for too long.
        why: &'static str,
    },
    /// A delivery was given up.
    Exhausted {
        message: MessageId,
        integration: IntegrationName,
        reason: DeadReason,
        detail: String,
        attempts: u32,
    },
}

impl Event {
    /// That a delivery became this letter; `None` if that is nobody's news.
    pub(super) fn of_letter(letter: &DeadLetter) -> Option<Event> {
        match letter.reason {
            DeadReason::DeliveryExhausted | DeadReason::DeliveryRejected => {}
            _ => return None,
        }
        Some(Event::Exhausted {
            message: MessageId::derive(&letter.position),
            integration: letter.integration.clone(),
            reason: letter.reason,
            detail: letter.detail.clone(),
            attempts: letter.attempts,
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Event::Failing => "destination.failing",
            Event::Recovered { .. } => "destination.recovered",
            Event::Disabled { .. } => "destination.disabled",
            Event::Exhausted { .. } => "delivery.exhausted",
        }
    }

    fn detail(&self) -> Value {
        match self {
            Event::Failing => {
                json!({ "explanation": "Deliveries are kept and tried again; nothing is lost." })
            }
            Event::Recovered { since_ms } => json!({ "failing_since": time(*since_ms) }),
            Event::Disabled { why } => json!({ "why": why }),
            Event::Exhausted { message, integration, reason, detail, attempts } => json!({
                "message": message.as_str(),
                "integration": integration.as_str(),
                "reason": reason.code(),
                "detail": detail,
                "attempts": attempts,
                "explanation": "Of those given up in the same minute this is the first; all are kept for 14 days and can be sent again.",
            }),
        }
    }
}

/// Events that this process has told lately, so that one that happens a thousand times a minute costs one write.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Written by the ledger's calls, which run beside each other; held for a look-up.
    ids: Mutex<BTreeSet<(SubscriptionId, MessageId)>>,
}

impl Told {
    /// Of these, what was not told before.
    pub(super) fn new_ones(&self, told: Vec<ParkedDelivery>) -> Vec<ParkedDelivery> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        told.into_iter().filter(|parked| !ids.contains(&told_key(parked))).collect()
    }

    /// It was told.
    pub(super) fn note(&self, parked: &ParkedDelivery) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MAX_TOLD {
            ids.clear();
        }
        ids.insert(told_key(parked));
    }
}

fn told_key(parked: &ParkedDelivery) -> (SubscriptionId, MessageId) {
    (parked.subscription.clone(), parked.message.id.clone())
}

/// The deliveries by which the owner of `about` is told; none if it asked for nothing of the kind.
pub(super) fn announce(
    event: &Event,
    about: &Subscription,
    snapshot: &SubscriptionSnapshot,
    now_ms: i64,
) -> Vec<ParkedDelivery> {
    let events = IntegrationName::events();
    // What is told of the telling itself would never end.
    if about.integrations.contains(&events) {
        return Vec::new();
    }
    let asks = |s: &&Subscription| {
        s.enabled && s.client == about.client && s.integrations.contains(&events)
    };
    let mut listening = snapshot.subscriptions.iter().filter(asks).peekable();
    if listening.peek().is_none() {
        return Vec::new();
    }
    let Some(message) = message(event, about, events.clone(), now_ms) else { return Vec::new() };
    let mut reader = Reader::default();
    listening
        .filter(|subscription| wants(subscription, event, &message, &mut reader))
        .map(|subscription| ParkedDelivery {
            subscription: subscription.id.clone(),
            message: message.clone(),
            attempts: 0,
            first_failed_at_ms: now_ms,
            due_at_ms: now_ms,
            last_error: "not attempted yet: an operational event".to_owned(),
            fence: 0,
        })
        .collect()
}

fn wants(
    subscription: &Subscription,
    event: &Event,
    message: &Message,
    reader: &mut Reader,
) -> bool {
    let entity = subscription.entity_prefix.as_deref().unwrap_or_default();
    let types = &subscription.types;
    message.entity.as_str().starts_with(entity)
        && (types.is_empty() || types.iter().any(|kind| kind == event.kind()))
        && subscription.filter.as_ref().is_none_or(|filter| {
            reader.read(&message.payload).is_ok_and(|document| filter.matches(&document))
        })
}

fn message(
    event: &Event,
    about: &Subscription,
    integration: IntegrationName,
    now_ms: i64,
) -> Option<Message> {
    let minute = now_ms.div_euclid(ONCE_IN_MS).max(0);
    let position = Position {
        stream_arn: Arc::from(format!("{SOURCE}:{}", event.kind())),
        shard_id: Arc::from(about.id.as_str()),
        sequence: Arc::from(minute.to_string()),
        index: 0,
    };
    let mut data = json!({
        "subscription": about.id.as_str(),
        "destination": about.destination.to_string(),
    });
    if let (Value::Object(data), Value::Object(detail)) = (&mut data, event.detail()) {
        data.extend(detail);
    }
    let payload = json!({ "type": event.kind(), "timestamp": time(now_ms), "data": data });
    Some(Message {
        id: MessageId::derive(&position),
        integration,
        entity: Entity::parse(about.id.as_str()).ok()?,
        time_ms: now_ms,
        arrived_at_ms: now_ms,
        position,
        partition_key: Arc::from(about.id.as_str()),
        payload: Bytes::from(payload.to_string()),
    })
}

fn time(ms: i64) -> String {
    DateTime::from_millis(ms).fmt(Format::DateTime).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use store::SubscriptionEpochs;
    use store::pattern::Pattern;

    use super::*;
    use crate::async_delivery::testing::subscription;

    const NOW: i64 = 1_800_000_000_000;

    fn listener(id: &str) -> Subscription {
        let mut listener = subscription(id, "https://ops.example/");
        listener.integrations = vec![IntegrationName::events()];
        listener
    }

    fn told(event: &Event, subscriptions: Vec<Subscription>, at_ms: i64) -> Vec<ParkedDelivery> {
        let about = subscription("sub", "https://receiver.example/path?secret=1");
        let snapshot = SubscriptionSnapshot {
            epochs: SubscriptionEpochs::default(),
            subscriptions,
            clients: std::collections::BTreeMap::new(),
        };
        announce(event, &about, &snapshot, at_ms)
    }

    #[test]
    fn an_event_goes_to_those_of_the_same_client_who_ask_for_it() {
        let mut stranger = listener("stranger");
        stranger.client = store::ClientId::parse("another").unwrap();
        let mut off = listener("off");
        off.enabled = false;
        let mut picky = listener("picky");
        picky.types = vec!["destination.disabled".to_owned()];
        let mut filtering = listener("filtering");
        filtering.filter = Some(Pattern::parse(r#"{"data":{"subscription":["other"]}}"#).unwrap());
        let ordinary = subscription("ordinary", "https://receiver.example/");
        let all = vec![ordinary, listener("all"), stranger, off, picky, filtering];
        let ids = |event: &Event| -> Vec<String> {
            let told = told(event, all.clone(), NOW);
            told.iter().map(|parked| parked.subscription.to_string()).collect()
        };
        assert_eq!(ids(&Event::Failing), ["all"]);
        assert_eq!(ids(&Event::Disabled { why: "gone" }), ["all", "picky"]);
    }

    #[test]
    fn it_says_what_happened_and_no_secret() {
        let told = told(&Event::Recovered { since_ms: NOW - 5_000 }, vec![listener("all")], NOW);
        let payload: Value = serde_json::from_slice(&told[0].message.payload).unwrap();
        assert_eq!(
            payload,
            json!({
                "type": "destination.recovered",
                "timestamp": "2027-01-15T08:00:00Z",
                "data": {
                    "subscription": "sub",
                    "destination": "webhook https://receiver.example:443",
                    "failing_since": "2027-01-15T07:59:55Z",
                },
            })
        );
        assert_eq!(told[0].message.entity.as_str(), "sub");
    }

    #[test]
    fn what_every_worker_sees_is_told_once_a_minute() {
        let id =
            |event: &Event, at_ms| told(event, vec![listener("all")], at_ms)[0].message.id.clone();
        assert_eq!(id(&Event::Failing, NOW), id(&Event::Failing, NOW + 59_999));
        assert_ne!(id(&Event::Failing, NOW), id(&Event::Failing, NOW + 60_000));
        assert_ne!(id(&Event::Failing, NOW), id(&Event::Disabled { why: "gone" }, NOW));
    }

    #[test]
    fn nothing_is_told_of_the_telling() {
        let snapshot = SubscriptionSnapshot {
            epochs: SubscriptionEpochs::default(),
            subscriptions: vec![listener("all"), listener("two")],
            clients: std::collections::BTreeMap::new(),
        };
        assert!(announce(&Event::Failing, &listener("all"), &snapshot, NOW).is_empty());
    }
}
