//! What a client may see of one message: the grants that cover it, their row filters and their field masks.
//! Pure.
//!
//! Grants add up: a message is seen if one of them lets it be seen, and of it every field that one of these
//! shows. A message that cannot be read for its content is withheld by every grant with a filter or a mask.

use super::{Action, Client, FieldMask, Grant};
use crate::identity::{Entity, IntegrationName};
use crate::pattern::Reader;

/// What may be seen of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Nothing, not even that it is there.
    Hidden,
    /// All of it.
    Whole,
    /// These fields.
    Fields(FieldMask),
}

impl Client {
    /// What this client may see of a message when it does `action`. `payload` is looked into only if a
    /// filter asks for it, with `reader`.
    pub fn exposure(
        &self,
        action: Action,
        integration: &IntegrationName,
        entity: &Entity,
        payload: &[u8],
        reader: &mut Reader,
    ) -> Exposure {
        let covering = |grant: &&Grant| {
            self.enabled && grant.covers(action, integration) && grant.covers_entity(Some(entity))
        };
        let grants = || self.grants.iter().filter(covering);
        if grants().any(|grant| grant.filter.is_none() && grant.fields.is_none()) {
            return Exposure::Whole;
        }
        let mut seen: Option<FieldMask> = None;
        let mut unread = Some(reader);
        let mut document = None;
        for grant in grants() {
            if let Some(filter) = &grant.filter {
                if let Some(reader) = unread.take() {
                    document = reader.read(payload).ok();
                }
                if !document.as_ref().is_some_and(|document| filter.matches(document)) {
                    continue;
                }
            }
            match (&grant.fields, &mut seen) {
                (None, _) => return Exposure::Whole,
                (Some(fields), None) => seen = Some(fields.clone()),
                (Some(fields), Some(seen)) => seen.widen(fields),
            }
        }
        seen.map_or(Exposure::Hidden, Exposure::Fields)
    }

    /// True if no grant of this client looks into messages: what it may see is decided by integration and
    /// entity alone.
    pub fn sees_whole_entities(&self, action: Action, integration: &IntegrationName) -> bool {
        let mut grants = self.grants.iter().filter(|grant| grant.covers(action, integration));
        grants.all(|grant| grant.filter.is_none() && grant.fields.is_none())
    }
}

#[cfg(test)]
#[path = "exposure_tests.rs"]
mod tests;
