//! Which subscriptions want a message: compiled once per change, asked for every message.
//!
//! Indexed by integration, then by entity prefix: a look-up costs one hash per distinct *length* of
//! prefix, whatever the number of subscriptions that do not match. Pure; `T` is what stands for a
//! subscription (its lane).

use std::collections::HashMap;

use store::{IntegrationName, Subscription};

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
    /// Compiles enabled subscriptions against the integrations, in their configured order.
    /// A subscription to an integration that is not configured waits without matching anything.
    pub(super) fn compile<'a>(
        integrations: &[IntegrationName],
        subscriptions: impl IntoIterator<Item = (&'a Subscription, T)>,
    ) -> Router<T> {
        let mut by_integration: Vec<Candidates<T>> =
            integrations.iter().map(|_| Candidates::default()).collect();
        for (subscription, lane) in subscriptions.into_iter().filter(|(s, _)| s.enabled) {
            for (name, candidates) in integrations.iter().zip(&mut by_integration) {
                if subscription.integrations.is_empty() || subscription.integrations.contains(name)
                {
                    candidates.add(subscription, lane.clone());
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
    fn add(&mut self, subscription: &Subscription, lane: T) {
        let wish = Wish { from_ms: subscription.created_at_ms, lane };
        match subscription.entity_prefix.as_deref() {
            None | Some("") => self.any_entity.push(wish),
            Some(prefix) => {
                self.by_prefix.entry(prefix.as_bytes().into()).or_default().push(wish);
                if let Err(place) = self.lengths.binary_search(&prefix.len()) {
                    self.lengths.insert(place, prefix.len());
                }
            }
        }
    }

    fn wishes<'a>(&'a self, entity: &'a [u8]) -> impl Iterator<Item = &'a Wish<T>> {
        let fitting = self.lengths.iter().take_while(|length| **length <= entity.len());
        let prefixed =
            fitting.filter_map(|length| self.by_prefix.get(&entity[..*length])).flatten();
        self.any_entity.iter().chain(prefixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_delivery::testing::subscription;

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

    #[test]
    fn integration_prefix_and_effective_from_decide() {
        let off = Subscription { enabled: false, ..wish(&[], None, 0) };
        let all = [
            wish(&[], None, 0),
            wish(&["quakes"], None, 0),
            wish(&["flights"], Some("AB"), 0),
            wish(&["flights"], Some("ABC"), 0),
            wish(&["flights", "quakes"], Some(""), 100),
            wish(&["nobody-knows"], None, 0),
            off,
        ];
        let router = Router::compile(&names(&["flights", "quakes"]), all.iter().zip(0..));
        assert_eq!(found(&router, 0, "ABC", 100), [0, 2, 3, 4]);
        assert_eq!(found(&router, 0, "ABX", 99), [0, 2]);
        assert_eq!(found(&router, 0, "A", 100), [0, 4]);
        assert_eq!(found(&router, 1, "ABC", 100), [0, 1, 4]);
        assert_eq!(found(&router, 7, "ABC", 100), [] as [usize; 0]);
        assert!(Router::<usize>::compile(&names(&["flights"]), [(&all[6], 6)]).is_empty());
    }

    #[test]
    fn prefixes_are_bytes_and_never_split_a_panic() {
        let all = [wish(&[], Some("é"), 0), wish(&[], Some("e"), 0)];
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
        let all: Vec<Subscription> = (0..500).map(|i| wish(&[], Some(&word(4)), i % 50)).collect();
        let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
        for at in 0..200 {
            let entity = word(6);
            let expected: Vec<usize> = (0..all.len())
                .filter(|&i| entity.starts_with(all[i].entity_prefix.as_deref().unwrap()))
                .filter(|&i| at >= all[i].created_at_ms)
                .collect();
            assert_eq!(found(&router, 0, &entity, at), expected);
        }
    }
}
