//! Which subscriptions want a message: compiled once per change, asked for every message.
//!
//! Indexed by integration, then by entity prefix: a look-up costs one hash per distinct *length* of
//! prefix, whatever the number of subscriptions that do not match. What an owner is not granted never
//! gets into the index. Pure; `T` is what stands for a subscription (its lane).

use std::collections::HashMap;
use std::sync::Arc;

use store::{IntegrationName, Message, SubscriptionId, SubscriptionSnapshot};

use super::mandate::Mandate;
use crate::integration::Integrations;

/// The compiled subscriptions.
#[derive(Debug)]
pub(super) struct Router<T> {
    /// Parallel to the compiled integrations.
    by_integration: Vec<Candidates<T>>,
}

/// The subscriptions of one integration.
#[derive(Debug)]
struct Candidates<T> {
    any_entity: Vec<Wish<T>>,
    by_prefix: HashMap<Box<[u8]>, Vec<Wish<T>>>,
    /// Distinct lengths of the prefixes, rising.
    lengths: Vec<usize>,
}

#[derive(Debug)]
struct Wish<T> {
    /// Messages that arrived before it are not this subscription's.
    from_ms: i64,
    lane: T,
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Candidates { any_entity: Vec::new(), by_prefix: HashMap::new(), lengths: Vec::new() }
    }
}

impl<T: Clone> Router<T> {
    /// Compiles subscriptions against the integrations, in their configured order.
    /// A subscription to an integration that is not configured waits without matching anything.
    pub(super) fn compile<'a>(
        integrations: &[IntegrationName],
        mandates: impl IntoIterator<Item = (&'a Mandate, T)>,
    ) -> Router<T> {
        let mut by_integration: Vec<Candidates<T>> =
            integrations.iter().map(|_| Candidates::default()).collect();
        for (mandate, lane) in mandates {
            let from_ms = mandate.subscription.created_at_ms;
            for (name, candidates) in integrations.iter().zip(&mut by_integration) {
                for prefix in mandate.prefixes(name) {
                    candidates.add(prefix, Wish { from_ms, lane: lane.clone() });
                }
            }
        }
        Router { by_integration }
    }

    /// The lanes that want a message of this integration and entity which arrived at `arrived_at_ms`.
    pub(super) fn matches<'a>(
        &'a self,
        integration: usize,
        entity: &'a str,
        arrived_at_ms: i64,
    ) -> impl Iterator<Item = &'a T> {
        let candidates = self.by_integration.get(integration);
        candidates
            .into_iter()
            .flat_map(move |c| c.wishes(entity.as_bytes()))
            .filter(move |wish| arrived_at_ms >= wish.from_ms)
            .map(|wish| &wish.lane)
    }

    /// No message can match.
    pub(super) fn is_empty(&self) -> bool {
        self.by_integration.iter().all(|c| c.any_entity.is_empty() && c.by_prefix.is_empty())
    }
}

impl<T> Candidates<T> {
    fn add(&mut self, prefix: &str, wish: Wish<T>) {
        if prefix.is_empty() {
            self.any_entity.push(wish);
            return;
        }
        self.by_prefix.entry(prefix.as_bytes().into()).or_default().push(wish);
        if let Err(place) = self.lengths.binary_search(&prefix.len()) {
            self.lengths.insert(place, prefix.len());
        }
    }

    fn wishes<'a>(&'a self, entity: &'a [u8]) -> impl Iterator<Item = &'a Wish<T>> {
        let fitting = self.lengths.iter().take_while(|length| **length <= entity.len());
        let prefixed =
            fitting.filter_map(|length| self.by_prefix.get(&entity[..*length])).flatten();
        self.any_entity.iter().chain(prefixed)
    }
}

/// The subscriptions that get this message as things stand, by what they ask for and their owners are granted.
pub fn wanted_by(
    message: &Message,
    integrations: &Integrations,
    snapshot: &SubscriptionSnapshot,
) -> Vec<SubscriptionId> {
    let names: Vec<IntegrationName> = integrations.iter().map(|i| i.name().clone()).collect();
    let Some(integration) = names.iter().position(|name| *name == message.integration) else {
        return Vec::new();
    };
    let mandates: Vec<Mandate> = snapshot
        .subscriptions
        .iter()
        .filter_map(|subscription| Mandate::of(&Arc::new(subscription.clone()), snapshot))
        .collect();
    let ids = mandates.iter().map(|mandate| (mandate, mandate.subscription.id.clone()));
    let router = Router::compile(&names, ids);
    router.matches(integration, message.entity.as_str(), message.arrived_at_ms).cloned().collect()
}

#[cfg(test)]
mod tests {
    use store::{Action, Client, Grant, GrantScope, Subscription};

    use super::*;
    use crate::async_delivery::testing::{mandate, owner, subscription};

    fn names(names: &[&str]) -> Vec<IntegrationName> {
        names.iter().map(|n| IntegrationName::parse(n).unwrap()).collect()
    }

    fn found(router: &Router<usize>, integration: usize, entity: &str, at: i64) -> Vec<usize> {
        let mut all: Vec<usize> = router.matches(integration, entity, at).copied().collect();
        all.sort_unstable();
        all
    }

    fn wish(integrations: &[&str], prefix: Option<&str>, from_ms: i64) -> Subscription {
        let mut wish = subscription("sub", "https://receiver.example/");
        wish.integrations = names(integrations);
        wish.entity_prefix = prefix.map(str::to_owned);
        wish.created_at_ms = from_ms;
        wish
    }

    fn granted(wishes: Vec<Subscription>) -> Vec<Mandate> {
        wishes.into_iter().map(|wish| mandate(wish, owner()).unwrap()).collect()
    }

    #[test]
    fn integration_prefix_and_effective_from_decide() {
        let all = granted(vec![
            wish(&[], None, 0),
            wish(&["quakes"], None, 0),
            wish(&["flights"], Some("AB"), 0),
            wish(&["flights"], Some("ABC"), 0),
            wish(&["flights", "quakes"], Some(""), 100),
            wish(&["nobody-knows"], None, 0),
        ]);
        let router = Router::compile(&names(&["flights", "quakes"]), all.iter().zip(0..));
        assert_eq!(found(&router, 0, "ABC", 100), [0, 2, 3, 4]);
        assert_eq!(found(&router, 0, "ABX", 99), [0, 2]);
        assert_eq!(found(&router, 0, "A", 100), [0, 4]);
        assert_eq!(found(&router, 1, "ABC", 100), [0, 1, 4]);
        assert_eq!(found(&router, 7, "ABC", 100), [] as [usize; 0]);
        assert!(Router::<usize>::compile(&names(&["flights"]), [(&all[5], 5)]).is_empty());
    }

    #[test]
    fn prefixes_are_bytes_and_never_split_a_panic() {
        let all = granted(vec![wish(&[], Some("é"), 0), wish(&[], Some("e"), 0)]);
        let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
        assert_eq!(found(&router, 0, "été", 0), [0]);
        assert_eq!(found(&router, 0, "e", 0), [1]);
        assert_eq!(found(&router, 0, "", 0), [] as [usize; 0]);
    }

    #[test]
    fn agrees_with_asking_every_subscription() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut word = |max: usize| -> String {
            (0..rng.usize(0..=max)).map(|_| rng.char('a'..='c')).collect()
        };
        let wishes: Vec<Subscription> =
            (0..500).map(|i| wish(&[], Some(&word(4)), i % 50)).collect();
        let all = granted(wishes.clone());
        let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
        for at in 0..200 {
            let entity = word(6);
            let expected: Vec<usize> = (0..all.len())
                .filter(|&i| entity.starts_with(wishes[i].entity_prefix.as_deref().unwrap()))
                .filter(|&i| at >= wishes[i].created_at_ms)
                .collect();
            assert_eq!(found(&router, 0, &entity, at), expected);
        }
    }

    #[test]
    fn a_subscription_gets_what_its_owner_is_granted_once_and_nothing_else() {
        let grant = |name: Option<&str>, action, prefix: &str| Grant {
            integration: name
                .map_or(GrantScope::All, |n| GrantScope::One(IntegrationName::parse(n).unwrap())),
            action,
            entity_prefix: Some(prefix.to_owned()),
        };
        let grants = vec![
            grant(Some("flights"), Action::Subscribe, "AB"),
            grant(Some("flights"), Action::Subscribe, "A"),
            grant(Some("quakes"), Action::Read, ""),
            grant(None, Action::Subscribe, "X"),
        ];
        let bounded = Client { grants, ..owner() };
        let mandates: Vec<Mandate> = [wish(&[], None, 0), wish(&["flights"], Some("AB"), 0)]
            .into_iter()
            .map(|wish| mandate(wish, bounded.clone()).unwrap())
            .collect();
        let router = Router::compile(&names(&["flights", "quakes"]), mandates.iter().zip(0..));
        assert_eq!(found(&router, 0, "ABC", 0), [0, 1]);
        assert_eq!(found(&router, 0, "AC", 0), [0]);
        assert_eq!(found(&router, 0, "XY", 0), [0]);
        assert_eq!(found(&router, 0, "B", 0), [] as [usize; 0]);
        assert_eq!(found(&router, 1, "XY", 0), [0]);
        assert_eq!(found(&router, 1, "ABC", 0), [] as [usize; 0], "to read is not to subscribe");
    }

    #[test]
    fn without_a_standing_owner_there_is_no_mandate() {
        let stranger = Client { id: store::ClientId::parse("other").unwrap(), ..owner() };
        assert!(mandate(wish(&[], None, 0), stranger).is_none());
        assert!(mandate(wish(&[], None, 0), Client { enabled: false, ..owner() }).is_none());
        let off = Subscription { enabled: false, ..wish(&[], None, 0) };
        assert!(mandate(off, owner()).is_none());
    }
}
