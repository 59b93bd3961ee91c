//! What subscriptions ask of a message's content, by event type and then by pattern.
//!
//! A subscription that asks for nothing here costs nothing. One that asks for event types is found by the
//! message's; those of patterns by a [`PatternSet`], which looks singly only at patterns that nearly match.

use std::collections::{BTreeMap, HashMap};

use store::Subscription;
use store::pattern::{Answers, Pattern, PatternSet};

use super::content::Content;

/// Subscriptions, by number, whose integration and entity prefix are the message's.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// They ask for nothing more.
    plain: Vec<u32>,
    /// They ask for more: all of the following.
    choosy: Vec<u32>,
    any_type: PatternSet,
    by_type: HashMap<Box<str>, OfType>,
}

/// Subscriptions that ask for one event type.
#[derive(Debug, Default)]
struct OfType {
    /// They ask for nothing more.
    plain: Vec<u32>,
    patterns: PatternSet,
}

impl Wishes {
    /// Adds those that want the message to `found`, each once.
    pub(super) fn collect(
        &self,
        content: &mut Content<'_>,
        answers: &mut Answers,
        found: &mut Vec<u32>,
    ) {
        found.extend_from_slice(&self.plain);
        if self.choosy.is_empty() {
            return;
        }
        let Some(document) = content.read() else {
            return found.extend_from_slice(&self.choosy);
        };
        self.any_type.matching(document, answers, found);
        if self.by_type.is_empty() {
            return;
        }
        if let Some(of_type) = content.event_type().and_then(|text| self.by_type.get(text)) {
            found.extend_from_slice(&of_type.plain);
            if let Some(document) = content.read() {
                of_type.patterns.matching(document, answers, found);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.choosy.is_empty()
    }
}

/// The same while it is collected.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    plain: Vec<u32>,
    choosy: Vec<u32>,
    any_type: Vec<(u32, Pattern)>,
    by_type: BTreeMap<&'a str, DraftOfType>,
}

#[derive(Debug, Default)]
struct DraftOfType {
    plain: Vec<u32>,
    patterns: Vec<(u32, Pattern)>,
}

impl<'a> Draft<'a> {
    pub(super) fn add(&mut self, number: u32, subscription: &'a Subscription) {
        let Subscription { types, filter, .. } = subscription;
        match filter {
            None if types.is_empty() => return self.plain.push(number),
            Some(filter) if types.is_empty() => self.any_type.push((number, filter.clone())),
            _ => {}
        }
        self.choosy.push(number);
        for (at, text) in types.iter().enumerate() {
            if types[..at].contains(text) {
                continue;
            }
            let of_type = self.by_type.entry(text).or_default();
            match filter {
                None => of_type.plain.push(number),
                Some(filter) => of_type.patterns.push((number, filter.clone())),
            }
        }
    }

    pub(super) fn compile(self) -> Wishes {
        let by_type = self.by_type.into_iter().map(|(text, DraftOfType { plain, patterns })| {
            (text.into(), OfType { plain, patterns: PatternSet::new(patterns) })
        });
        Wishes {
            plain: self.plain,
            choosy: self.choosy,
            any_type: PatternSet::new(self.any_type),
            by_type: by_type.collect(),
        }
    }
}
