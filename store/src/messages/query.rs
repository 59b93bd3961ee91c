//! What a question for messages comes down to: a range of sort keys, and where to go on. Pure.

use super::keys::time_part;
use super::locator::{Cursor, Locator};
use super::{MAX_PAGE, MessageQuery, Order};
use crate::error::StoreError;

/// Sorts before every sort key.
const FIRST: &str = "0";
/// Sorts behind every sort key.
const LAST: &str = ":";

/// A range of sort keys, and the key to start behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: String,
    pub(super) high: String,
    pub(super) behind: Option<String>,
}

/// Checks a query and gives its range; `None` if it can hold nothing.
pub(super) fn plan_range(query: &MessageQuery) -> Result<Option<Range>, StoreError> {
    let invalid = |detail: String| StoreError::Invalid { operation: "query messages", detail };
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(invalid(format!("limit is {}: 1 to {MAX_PAGE} is allowed", query.limit)));
    }
    // A time alone sorts before every key that starts with it: `from` is inclusive, `to` exclusive.
    let low = query.from_ms.map_or_else(|| FIRST.to_owned(), time_part);
    let high = query.to_ms.map_or_else(|| LAST.to_owned(), time_part);
    if low >= high {
        return Ok(None);
    }
    let Some(cursor) = &query.after else {
        return Ok(Some(Range { low, high, behind: None }));
    };
    let after = &cursor.after;
    if cursor.order != query.order
        || *after.integration() != query.integration
        || *after.entity() != query.entity
    {
        return Err(invalid("the cursor belongs to another query".to_owned()));
    }
    Ok(behind(low, high, after.sort(), query.order))
}

/// A start key outside the range is refused by DynamoDB: a cursor that lies outside (the times were
/// changed between pages) either changes nothing or leaves nothing.
fn behind(low: String, high: String, after: &str, order: Order) -> Option<Range> {
    let (not_reached, passed) = match order {
        Order::Newest => (after > high.as_str(), after < low.as_str()),
        Order::Oldest => (after < low.as_str(), after > high.as_str()),
    };
    let behind = (!not_reached).then(|| after.to_owned());
    (!passed).then_some(Range { low, high, behind })
}

/// The cursor behind a sort key of this query.
pub(super) fn cursor(query: &MessageQuery, sort: String) -> Cursor {
    let after = Locator::from_parts(query.integration.clone(), query.entity.clone(), sort);
    Cursor { after, order: query.order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Entity, IntegrationName};

    fn query() -> MessageQuery {
        let name = IntegrationName::parse("quakes").unwrap();
        MessageQuery::new(name, Entity::parse("us").unwrap(), 0)
    }

    #[test]
    fn an_open_query_covers_every_key() {
        let range = plan_range(&query()).unwrap().unwrap();
        assert!(
            range.low.as_str() < "000000000000000#x" && "999999999999999#x" < range.high.as_str()
        );
    }

    #[test]
    fn from_is_inclusive_and_to_exclusive() {
        let mut q = query();
        (q.from_ms, q.to_ms) = (Some(1_000), Some(2_000));
        let range = plan_range(&q).unwrap().unwrap();
        let at = |ms| format!("{}#stream#shard", time_part(ms));
        assert!(range.low <= at(1_000) && range.low > at(999));
        assert!(range.high < at(2_000) && range.high > at(1_999));
        q.to_ms = Some(1_000);
        assert_eq!(plan_range(&q).unwrap(), None);
    }

    #[test]
    fn a_cursor_outside_the_range_changes_nothing_or_leaves_nothing() {
        let range = |after: &str, order| behind("3".to_owned(), "6".to_owned(), after, order);
        assert_eq!(range("5", Order::Newest).unwrap().behind.as_deref(), Some("5"));
        assert_eq!(range("7", Order::Newest).unwrap().behind, None);
        assert_eq!(range("2", Order::Newest), None);
        assert_eq!(range("2", Order::Oldest).unwrap().behind, None);
        assert_eq!(range("7", Order::Oldest), None);
    }

    #[test]
    fn limits_and_foreign_cursors_are_refused() {
        let mut q = query();
        for limit in [0, MAX_PAGE + 1] {
            q.limit = limit;
            assert!(plan_range(&q).is_err());
        }
        q.limit = 1;
        let mut other = query();
        other.entity = Entity::parse("ci").unwrap();
        q.after = Some(cursor(&other, "5".to_owned()));
        assert!(plan_range(&q).unwrap_err().to_string().contains("another query"));
        q.after = Some(cursor(&q, "5".to_owned()));
        q.order = Order::Oldest;
        assert!(plan_range(&q).is_err());
    }
}
