//! Items of DynamoDB: making attributes, and reading them with errors that say what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

use crate::error::StoreError;

/// Partition key of every table of this room.
pub(crate) const PK: &str = "pk";
/// Sort key of every table of this room.
pub(crate) const SK: &str = "sk";
/// The TTL attribute, in seconds since 1970.
pub(crate) const EXPIRES_AT: &str = "expiresAt";

/// An item, by attribute name.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A text attribute.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute.
pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A binary attribute.
pub(crate) fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// The two key attributes.
pub(crate) fn key(partition: impl Into<String>, sort: impl Into<String>) -> Item {
    HashMap::from([(PK.to_owned(), s(partition)), (SK.to_owned(), s(sort))])
}

/// Seconds since 1970, rounded up: nothing expires before its time.
pub(crate) fn expires_at_s(from_ms: i64, retention_ms: u128) -> i64 {
    let retention = i64::try_from(retention_ms).unwrap_or(i64::MAX);
    let at = from_ms.saturating_add(retention);
    at.div_euclid(1_000).saturating_add(i64::from(at.rem_euclid(1_000) > 0))
}

/// True once an item that expires at `at_s` does not exist any more for a reader at `now_ms`.
pub(crate) fn is_expired(at_s: i64, now_ms: i64) -> bool {
    at_s.saturating_mul(1_000) <= now_ms
}

/// An item being read.
pub(crate) struct ItemReader {
    operation: &'static str,
    item: Item,
}

impl ItemReader {
    pub(crate) fn new(operation: &'static str, item: Item) -> ItemReader {
        ItemReader { operation, item }
    }

    /// The error of an item that this version cannot read.
    pub(crate) fn unreadable(&self, detail: impl Into<String>) -> StoreError {
        let part =
            |name| self.item.get(name).and_then(|v| v.as_s().ok()).map_or("?", String::as_str);
        StoreError::Unreadable {
            operation: self.operation,
            item: format!("{} / {}", part(PK), part(SK)),
            detail: detail.into(),
        }
    }

    /// A text that must be there.
    pub(crate) fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.optional_text(name)?.ok_or_else(|| self.unreadable(format!("{name} is missing")))
    }

    /// A text that may be missing, but not of another type.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&str>, StoreError> {
        match self.item.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.unreadable(format!("{name} is not a text"))),
        }
    }

    /// A shared text that must be there.
    pub(crate) fn shared(&self, name: &str) -> Result<Arc<str>, StoreError> {
        self.text(name).map(Arc::from)
    }

    /// A number that must be there.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_number(name)?.ok_or_else(|| self.unreadable(format!("{name} is missing")))
    }

    /// A number that may be missing, but not of another type or range.
    pub(crate) fn optional_number<T: std::str::FromStr>(
        &self,
        name: &str,
    ) -> Result<Option<T>, StoreError> {
        match self.item.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(digits)) => match digits.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.unreadable(format!("{name} is out of range"))),
            },
            Some(_) => Err(self.unreadable(format!("{name} is not a number"))),
        }
    }

    /// Takes bytes out of the item, without a copy; `None` if they are not there.
    pub(crate) fn take_bytes(&mut self, name: &str) -> Result<Option<Bytes>, StoreError> {
        match self.item.remove(name) {
            None => Ok(None),
            Some(AttributeValue::B(blob)) => Ok(Some(Bytes::from(blob.into_inner()))),
            Some(_) => Err(self.unreadable(format!("{name} is not binary"))),
        }
    }

    /// Reads a text with a parser of this room.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        parse(self.text(name)?).map_err(|e| self.unreadable(format!("{name}: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_expires_before_its_time() {
        assert_eq!(expires_at_s(1_001, 0), 2);
        assert_eq!(expires_at_s(1_000, 500), 2);
        assert_eq!(expires_at_s(1_000, 1_000), 2);
        assert_eq!(expires_at_s(-1_500, 0), -1);
        assert!(expires_at_s(0, u128::MAX) > 9_000_000_000_000);
        assert!(!is_expired(2, 1_999) && is_expired(2, 2_000));
    }

    #[test]
    fn reading_says_which_attribute_of_which_item() {
        let mut item = key("quakes#us", "1");
        item.insert("fence".to_owned(), s("x"));
        let reader = ItemReader::new("get message", item);
        let missing = reader.text("id").unwrap_err().to_string();
        assert_eq!(missing, "get message: item quakes#us / 1 cannot be read: id is missing");
        assert!(
            reader
                .number::<u64>("fence")
                .unwrap_err()
                .to_string()
                .ends_with("fence is not a number")
        );
    }
}
