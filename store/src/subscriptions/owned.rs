//! The subscriptions of one client: a row for each, written with it, so that a client's own are found without looking
//! through everybody's.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Subscription, SubscriptionId, SubscriptionStore};
use crate::access::{ClientId, list_partition_of};
use crate::error::StoreError;
use crate::item::{Item, SK, key};

/// Most subscriptions of one page.
const MAX_PAGE: usize = 100;
/// Subscriptions read at once.
const MAX_PARALLEL: usize = 8;

/// Partition of the list of a client's subscriptions.
pub(super) fn owned_partition(client: &ClientId) -> String {
    list_partition_of("client-subscriptions", client)
}

/// One line of it.
pub(super) fn owned_row(subscription: &Subscription) -> Item {
    key(owned_partition(&subscription.client), subscription.id.as_str())
}

impl SubscriptionStore {
    /// A client's subscriptions in the order of their ids, behind `after`, at most `limit` (1 to 100); and the id that
    /// the next page is behind, if there may be more.
    pub async fn of_client(
        &self,
        client: &ClientId,
        after: Option<&SubscriptionId>,
        limit: usize,
    ) -> Result<(Vec<Subscription>, Option<SubscriptionId>), StoreError> {
        let operation = "list a client's subscriptions";
        if !(1..=MAX_PAGE).contains(&limit) {
            let detail = format!("limit is {limit}: 1 to {MAX_PAGE} is allowed");
            return Err(StoreError::Invalid { operation, detail });
        }
        let (partition, after) = (owned_partition(client), after.map(SubscriptionId::as_str));
        let (rows, more) = self.table.some(operation, &partition, after, limit).await?;
        let ids: Vec<SubscriptionId> = rows
            .iter()
            .map(|row| row.parsed(SK, SubscriptionId::parse))
            .collect::<Result<_, _>>()?;
        let next = if more { ids.last().cloned() } else { None };
        let reads: Vec<_> = ids.iter().map(|id| self.get(id).boxed()).collect();
        let found: Vec<Option<Subscription>> =
            stream::iter(reads).buffered(MAX_PARALLEL).try_collect().await?;
        let own = found.into_iter().flatten().filter(|found| found.client == *client);
        Ok((own.collect(), next))
    }

    /// How many subscriptions a client has, counted up to `most`.
    pub async fn count_of(&self, client: &ClientId, most: usize) -> Result<usize, StoreError> {
        let operation = "count a client's subscriptions";
        let (rows, _) = self.table.some(operation, &owned_partition(client), None, most).await?;
        Ok(rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{store, subscription};
    use super::*;
    use crate::testing::NOW;
    use crate::{AccessStore, Change, Pepper, testing};

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn ids(page: &[Subscription]) -> Vec<&str> {
        page.iter().map(|one| one.id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_client_finds_its_own_page_by_page_and_nobody_elses() {
        let (_aws, store) = store().await;
        for n in 0..5 {
            store.put(&subscription(&format!("sub_{n}"))).await.unwrap();
        }
        let other = Subscription { client: client("cl_2"), ..subscription("sub_9") };
        store.put(&other).await.unwrap();
        let (page, next) = store.of_client(&client("cl_1"), None, 3).await.unwrap();
        assert_eq!(ids(&page), ["sub_0", "sub_1", "sub_2"]);
        let (page, next) = store.of_client(&client("cl_1"), next.as_ref(), 3).await.unwrap();
        assert_eq!((ids(&page), next), (vec!["sub_3", "sub_4"], None));
        assert_eq!(store.count_of(&client("cl_1"), 100).await, Ok(5));
        assert_eq!(store.count_of(&client("cl_1"), 2).await, Ok(2));
        assert!(store.delete(&page[0].id, NOW).await.unwrap());
        assert_eq!(store.count_of(&client("cl_1"), 100).await, Ok(4));
        assert_eq!(store.count_of(&client("cl_2"), 100).await, Ok(1));
        assert_eq!(store.of_client(&client("cl_3"), None, 3).await, Ok((Vec::new(), None)));
        assert!(store.of_client(&client("cl_1"), None, 101).await.is_err());
    }

    #[tokio::test]
    async fn who_changed_what_is_written_down_with_the_change() {
        let (_aws, dynamodb) = testing::dynamodb().await;
        let store = SubscriptionStore::new(dynamodb.clone(), testing::APP);
        let access = AccessStore::new(dynamodb, testing::APP, Pepper::new(&[9; 32]).unwrap());
        let change = |at_ms| Change { by: "client cl_1, request req_1", at_ms };
        let made = subscription("sub_a");
        let made = store.put_as(&made, "subscription.create", &change(NOW)).await.unwrap();
        assert!(store.put_as(&subscription("sub_a"), "x", &change(NOW + 1)).await.is_err());
        assert!(store.delete_as(&made.id, &change(NOW + 2)).await.unwrap());
        assert!(!store.delete_as(&made.id, &change(NOW + 3)).await.unwrap());
        let entries = access.audit(NOW.div_euclid(86_400_000)).await.unwrap();
        let told: Vec<(&str, &str, &str, i64)> = entries
            .iter()
            .map(|e| (e.by.as_str(), e.action.as_str(), e.subject.as_str(), e.at_ms - NOW))
            .collect();
        let by = "client cl_1, request req_1";
        let expected =
            [(by, "subscription.create", "sub_a", 0), (by, "subscription.delete", "sub_a", 2)];
        assert_eq!(told, expected);
    }
}
