//! Signed names for places among the messages: `self` links and cursors.

use crate::identity::{Entity, IntegrationName};
use crate::signer::{Signer, TokenError};

use super::keys::Keys;
use super::{Message, Order};

const LOCATOR: &str = "sluicegate locator v1";
const CURSOR: &str = "sluicegate cursor v1";

/// Where one message is kept. Outside only as signed text: [`Locator::encode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Locator {
    integration: IntegrationName,
    entity: Entity,
    sort: String,
}

impl Locator {
    /// Where this message is, or would be, kept.
    pub fn of(message: &Message) -> Locator {
        Locators::default().of(message)
    }

    pub(super) fn from_parts(
        integration: IntegrationName,
        entity: Entity,
        sort: String,
    ) -> Locator {
        Locator { integration, entity, sort }
    }

    /// The integration it leads into: what to authorise before reading.
    pub fn integration(&self) -> &IntegrationName {
        &self.integration
    }

    /// The entity it leads to: what to authorise before reading.
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    pub(super) fn sort(&self) -> &str {
        &self.sort
    }

    /// As signed URL-safe text.
    pub fn encode(&self, signer: &Signer) -> String {
        signer.seal_with(LOCATOR, self.text_bytes(), |content| self.write_to(content))
    }

    /// Reads what [`Locator::encode`] made.
    pub fn decode(signer: &Signer, text: &str) -> Result<Locator, TokenError> {
        let content = signer.open(LOCATOR, text)?;
        Locator::from_text(&content).ok_or(TokenError::Content)
    }

    /// `integration`, `sort` and `entity` divided by tabs; the entity goes last because it alone may
    /// contain one.
    fn write_to(&self, content: &mut Vec<u8>) {
        let parts = [self.integration.as_str(), "\t", &self.sort, "\t", self.entity.as_str()];
        parts.iter().for_each(|part| content.extend_from_slice(part.as_bytes()));
    }

    fn text_bytes(&self) -> usize {
        self.integration.as_str().len() + self.sort.len() + self.entity.as_str().len() + 2
    }

    fn from_text(content: &[u8]) -> Option<Locator> {
        let text = std::str::from_utf8(content).ok()?;
        let mut parts = text.splitn(3, '\t');
        let integration = IntegrationName::parse(parts.next()?).ok()?;
        let sort = parts.next().filter(|s| !s.is_empty())?.to_owned();
        let entity = Entity::parse(parts.next()?).ok()?;
        Some(Locator { integration, entity, sort })
    }
}

/// Makes the locators of many messages, most of which are of one stream.
#[derive(Debug, Default)]
pub struct Locators {
    keys: Keys,
}

impl Locators {
    /// As [`Locator::of`].
    pub fn of(&self, message: &Message) -> Locator {
        Locator {
            integration: message.integration.clone(),
            entity: message.entity.clone(),
            sort: self.keys.sort_of(message),
        }
    }
}

/// Where a page ended and in which order it was read. Outside only as signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last place that was looked at.
    pub after: Locator,
    /// The order in which it was reached.
    pub order: Order,
}

impl Cursor {
    /// As signed URL-safe text.
    pub fn encode(&self, signer: &Signer) -> String {
        let order = match self.order {
            Order::Newest => b'n',
            Order::Oldest => b'o',
        };
        signer.seal_with(CURSOR, 1 + self.after.text_bytes(), |content| {
            content.push(order);
            self.after.write_to(content);
        })
    }

    /// Reads what [`Cursor::encode`] made.
    pub fn decode(signer: &Signer, text: &str) -> Result<Cursor, TokenError> {
        let content = signer.open(CURSOR, text)?;
        let (order, rest) = content.split_first().ok_or(TokenError::Content)?;
        let order = match order {
            b'n' => Order::Newest,
            b'o' => Order::Oldest,
            _ => return Err(TokenError::Content),
        };
        let after = Locator::from_text(rest).ok_or(TokenError::Content)?;
        Ok(Cursor { after, order })
    }
}
