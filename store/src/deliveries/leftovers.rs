//! What waits in the chains of a subscription that is gone: nobody works them off any more.

use super::DeliveryStore;
use super::chain_item::{head_key, message_key, read_chain, read_message};
use super::chains::{Chain, ChainedDelivery};
use super::keys::{BY_SUBSCRIPTION, SUBSCRIPTION};
use super::schedule::{LastKey, MAX_ROUNDS, send};
use crate::error::StoreError;
use crate::item::{Item, ItemReader, PK, SK, key};
use crate::subscriptions::SubscriptionId;

impl DeliveryStore {
    /// Some messages that wait in chains of a subscription, each with its chain, at most `limit`. There may be more while it finds any; what
    /// was written in the last moments may be missing.
    pub async fn leftovers(
        &self,
        subscription: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<(Chain, ChainedDelivery)>, StoreError> {
        let operation = "find leftovers of a subscription";
        let (mut found, mut last): (Vec<_>, LastKey) = (Vec::new(), None);
        for _ in 0..MAX_ROUNDS {
            let call = self
                .index(BY_SUBSCRIPTION, SUBSCRIPTION, subscription.as_str().to_owned())
                .key_condition_expression("#hash = :hash")
                .set_exclusive_start_key(last);
            let answer = send(operation, call).await?;
            for row in answer.items.unwrap_or_default() {
                if found.len() == limit {
                    return Ok(found);
                }
                found.extend(self.leftover(operation, row).await?);
            }
            last = answer.last_evaluated_key;
            if last.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// The message of a row of the index; `None` if it is no chain's, or gone.
    async fn leftover(
        &self,
        operation: &'static str,
        row: Item,
    ) -> Result<Option<(Chain, ChainedDelivery)>, StoreError> {
        let reader = ItemReader::new(operation, row);
        let (partition, sort) = (reader.text(PK)?, reader.text(SK)?);
        let Some(chain) = read_chain(partition) else { return Ok(None) };
        let Some(item) = self.item_at(operation, key(partition, sort)).await? else {
            return Ok(None);
        };
        let mut chained = read_message(operation, item)?;
        if let Some(parts) = &chained.parts {
            chained.delivery.message.payload = self.parts.read(operation, parts, true).await?;
        }
        Ok(Some((chain, chained)))
    }

    /// Removes a message that nobody delivers any more, with the head of its chain.
    pub async fn remove_leftover(
        &self,
        chain: &Chain,
        chained: &ChainedDelivery,
    ) -> Result<(), StoreError> {
        let operation = "remove a leftover of a subscription";
        let at = message_key(chain, &chained.delivery);
        for item in [key(at.partition, at.sort), head_key(chain)] {
            let call = self.client.delete_item().table_name(&self.table).set_key(Some(item));
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        }
        if let Some(parts) = &chained.parts
            && let Err(error) = self.parts.remove(operation, parts).await
        {
            tracing::debug!(%error, "parts of a leftover stay until their TTL");
        }
        Ok(())
    }
}
