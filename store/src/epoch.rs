//! Epochs: numbers that change with every change of what they stand for, bumped in the same
//! transaction. A watcher polls one small item instead of reading everything.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem, Update};

use crate::error::{StoreError, pause};
use crate::item::{Item, ItemReader, SK, key, n};

/// Partition of the epoch items of the access table.
const PARTITION: &str = "epoch";
const EPOCH: &str = "epoch";
/// Most epochs of one table.
const MAX_EPOCHS: usize = 16;
/// Times a transaction is tried that met another one: changes of access are few.
const MAX_ATTEMPTS: u32 = 8;

/// A table whose changes go through transactions that bump an epoch.
#[derive(Clone, Debug)]
pub(crate) struct EpochTable {
    client: Client,
    table: String,
    name: &'static str,
}

impl EpochTable {
    /// `name` is what the epoch stands for: it is bumped by [`EpochTable::commit`].
    pub(crate) fn new(client: Client, table: String, name: &'static str) -> EpochTable {
        EpochTable { client, table, name }
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// The epoch now, read consistently; 0 before the first change.
    pub(crate) async fn read(&self, operation: &'static str) -> Result<u64, StoreError> {
        match self.get(operation, PARTITION, self.name).await? {
            None => Ok(0),
            Some(reader) => reader.number(EPOCH),
        }
    }

    /// Several epochs of this table in one consistent read, in the order of `names`.
    pub(crate) async fn read_all<const N: usize>(
        &self,
        operation: &'static str,
        names: [&str; N],
    ) -> Result<[u64; N], StoreError> {
        let mut epochs = [0; N];
        for reader in self.all(operation, PARTITION, MAX_EPOCHS).await? {
            let name = reader.text(SK)?;
            if let Some(at) = names.iter().position(|wanted| *wanted == name) {
                epochs[at] = reader.number(EPOCH)?;
            }
        }
        Ok(epochs)
    }

    /// One item, read consistently.
    pub(crate) async fn get(
        &self,
        operation: &'static str,
        partition: &str,
        sort: &str,
    ) -> Result<Option<ItemReader>, StoreError> {
        let call = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(partition, sort)))
            .consistent_read(true);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(answer.item.map(|item| ItemReader::new(operation, item)))
    }

    /// All items of a partition in the order of their sort keys, read consistently, at most `limit`.
    pub(crate) async fn all(
        &self,
        operation: &'static str,
        partition: &str,
        limit: usize,
    ) -> Result<Vec<ItemReader>, StoreError> {
        let mut found = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", crate::item::PK)
            .expression_attribute_values(":pk", crate::item::s(partition))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| StoreError::from_sdk(operation, &e))?;
            if found.len() == limit {
                return Err(StoreError::Invalid {
                    operation,
                    detail: format!(
                        "more than {limit} items of {partition}: that many are not supported"
                    ),
                });
            }
            found.push(ItemReader::new(operation, item));
        }
        Ok(found)
    }

    /// Some items of a partition in the order of their sort keys, behind `after`, read consistently, at most `limit`;
    /// and whether there are more.
    pub(crate) async fn some(
        &self,
        operation: &'static str,
        partition: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ItemReader>, bool), StoreError> {
        self.page(operation, partition, after, limit, true).await
    }

    /// The same from the other end: the last ones first.
    pub(crate) async fn last(
        &self,
        operation: &'static str,
        partition: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ItemReader>, bool), StoreError> {
        self.page(operation, partition, after, limit, false).await
    }

    async fn page(
        &self,
        operation: &'static str,
        partition: &str,
        after: Option<&str>,
        limit: usize,
        forward: bool,
    ) -> Result<(Vec<ItemReader>, bool), StoreError> {
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", crate::item::PK)
            .expression_attribute_values(":pk", crate::item::s(partition))
            .set_exclusive_start_key(after.map(|sort| key(partition, sort)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .scan_index_forward(forward)
            .consistent_read(true);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let more = answer.last_evaluated_key.is_some();
        let items = answer.items.unwrap_or_default().into_iter();
        Ok((items.map(|item| ItemReader::new(operation, item)).collect(), more))
    }

    /// Puts an item that changes nothing for anybody: without the epoch.
    pub(crate) async fn put_quietly(
        &self,
        operation: &'static str,
        item: Item,
    ) -> Result<(), StoreError> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(())
    }

    /// Removes an item at once, and bumps nothing: nobody watches it.
    pub(crate) async fn remove(
        &self,
        operation: &'static str,
        partition: &str,
        sort: &str,
    ) -> Result<(), StoreError> {
        let call = self.client.delete_item().table_name(&self.table);
        let gone = Box::pin(call.set_key(Some(key(partition, sort))).send()).await;
        gone.map(drop).map_err(|e| StoreError::from_sdk(operation, &e))
    }

    /// Does `changes` and bumps the epoch, all or nothing. `what` names the thing in a conflict.
    pub(crate) async fn commit(
        &self,
        operation: &'static str,
        what: &str,
        mut changes: Vec<TransactWriteItem>,
    ) -> Result<(), StoreError> {
        changes.push(self.bump(operation)?);
        let mut attempt = 1;
        loop {
            let call = self.client.transact_write_items().set_transact_items(Some(changes.clone()));
            let Err(error) = Box::pin(call.send()).await else {
                return Ok(());
            };
            let error = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let codes = cancelled.cancellation_reasons().iter().filter_map(|r| r.code());
                    cancelled_because(operation, what, codes)
                }
                _ => return Err(StoreError::from_sdk(operation, &error)),
            };
            // A cancelled transaction did nothing, so it may be tried again.
            if error.class() != crate::Class::Retry || attempt == MAX_ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    fn bump(&self, operation: &'static str) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(PARTITION, self.name)))
            .update_expression("ADD #epoch :one")
            .expression_attribute_names("#epoch", EPOCH)
            .expression_attribute_values(":one", n(1))
            .build();
        let update = update.map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Puts an item if it is at `version`; 0 means that it must not exist.
    pub(crate) fn put(
        &self,
        operation: &'static str,
        item: Item,
        version: u64,
    ) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = if version == 0 {
            put.condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", crate::item::PK)
        } else {
            put.condition_expression("#version = :version")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":version", n(version))
        };
        let put = put.build().map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Puts an item whatever there was.
    pub(crate) fn put_any(
        &self,
        operation: &'static str,
        item: Item,
    ) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
        let put = put.map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Puts an item in the place of one that must exist and must not have the attribute `without`.
    pub(crate) fn replace(
        &self,
        operation: &'static str,
        item: Item,
        without: &str,
    ) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_exists(#pk) AND attribute_not_exists(#without)")
            .expression_attribute_names("#pk", crate::item::PK)
            .expression_attribute_names("#without", without)
            .build();
        let put = put.map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Deletes an item, if there is one.
    pub(crate) fn delete_any(
        &self,
        operation: &'static str,
        partition: &str,
        sort: &str,
    ) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(key(partition, sort)));
        let delete = delete.build().map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// Deletes an item that must exist.
    pub(crate) fn delete(
        &self,
        operation: &'static str,
        partition: &str,
        sort: &str,
    ) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(partition, sort)))
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", crate::item::PK)
            .build();
        let delete = delete.map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }
}

/// Counts the changes of an item.
pub(crate) const VERSION: &str = "version";

pub(crate) fn not_built(operation: &'static str, error: &BuildError) -> StoreError {
    StoreError::Invalid { operation, detail: error.to_string() }
}

/// Why a transaction was cancelled: a precondition is final, everything else passes.
pub(crate) fn cancelled_because<'a>(
    operation: &'static str,
    what: &str,
    codes: impl Iterator<Item = &'a str>,
) -> StoreError {
    let codes: Vec<&str> = codes.filter(|code| *code != "None").collect();
    if codes.contains(&"ConditionalCheckFailed") {
        return StoreError::Conflict { operation, what: what.to_owned() };
    }
    let detail = format!("transaction cancelled: {}", codes.join(", "));
    if codes
        .iter()
        .any(|code| matches!(*code, "ValidationError" | "ItemCollectionSizeLimitExceeded"))
    {
        return StoreError::Refused {
            operation,
            code: "TransactionCanceledException".to_owned(),
            detail,
        };
    }
    if codes.iter().any(|code| matches!(*code, "ThrottlingError" | "ProvisionedThroughputExceeded"))
    {
        return StoreError::Throttled { operation, detail };
    }
    StoreError::Unavailable { operation, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn a_cancelled_transaction_says_whether_trying_again_helps() {
        let class = |codes: &[&str]| {
            cancelled_because("put client", "client a", codes.iter().copied()).class()
        };
        assert_eq!(class(&["None", "TransactionConflict"]), Class::Retry);
        assert_eq!(class(&["ThrottlingError", "None"]), Class::Retry);
        assert_eq!(class(&["ConditionalCheckFailed", "TransactionConflict"]), Class::Skip);
        assert_eq!(class(&["ValidationError"]), Class::Skip);
    }
}
