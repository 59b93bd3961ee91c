//! The lease table's I/O: reads, and the conditional writes that `change.rs` plans. It decides nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use tokio::time::timeout;

use crate::change::{Condition, Write};
use crate::classify::CallError;
use crate::ids::{LeaseKey, WorkerId};
use crate::item::{Item, ItemError, LEASE_KEY, OWNER};
use crate::lease::LeaseRecord;
use crate::metrics;
use crate::tables::OWNER_INDEX;

/// Pages of one listing; at a megabyte a page more leases than a stream can have shards.
const MAX_PAGES: usize = 2_000;

/// Every lease that could be read, and what could not.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) leases: Vec<LeaseRecord>,
    pub(crate) bad: Vec<ItemError>,
    /// Items that are no leases: what the Kinesis Client Library 3.5 keeps in the same table.
    pub(crate) others: usize,
}

/// How a conditional write ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It happened.
    Done,
    /// The condition did not hold; the lease as it is, if it exists and can be read.
    Refused(Option<Box<LeaseRecord>>),
}

#[derive(Debug, Clone)]
pub(crate) struct LeaseTable {
    client: Client,
    table: String,
    timeout: Duration,
}

impl LeaseTable {
    pub(crate) fn new(client: Client, table: String, timeout: Duration) -> Self {
        Self { client, table, timeout }
    }

    /// Every lease, read consistently.
    pub(crate) async fn list(&self) -> Result<Listing, CallError> {
        const OPERATION: &str = "list leases";
        let mut listing = Listing::default();
        let mut start: Option<Item> = None;
        for _ in 0..MAX_PAGES {
            let scan = self.client.scan().table_name(&self.table).consistent_read(true);
            let call = scan.set_exclusive_start_key(start.take()).send();
            let page = timeout(self.timeout, call).await;
            let page = page.map_err(|_| CallError::timeout(OPERATION))?;
            let page = page.map_err(|e| CallError::of(OPERATION, &e))?;
            for item in page.items.unwrap_or_default() {
                match LeaseRecord::from_item(item) {
                    Ok(Some(record)) => listing.leases.push(record),
                    Ok(None) => listing.others += 1,
                    Err(error) => listing.bad.push(error),
                }
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                metrics::listed(listing.leases.len(), listing.bad.len());
                return Ok(listing);
            }
        }
        let detail = format!("more than {MAX_PAGES} pages");
        Err(CallError { operation: OPERATION, kind: crate::classify::Kind::Fatal, detail })
    }

    /// One lease, read consistently; `None` if it does not exist or is no lease.
    pub(crate) async fn get(&self, key: &LeaseKey) -> Result<Option<LeaseRecord>, CallError> {
        const OPERATION: &str = "read lease";
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let call = get.key(LEASE_KEY, AttributeValue::S(key.as_str().to_owned())).send();
        let answer = timeout(self.timeout, call).await;
        let answer = answer.map_err(|_| CallError::timeout(OPERATION))?;
        let answer = answer.map_err(|e| CallError::of(OPERATION, &e))?;
        match answer.item {
            None => Ok(None),
            Some(item) => LeaseRecord::from_item(item).map_err(|error| CallError {
                operation: OPERATION,
                kind: crate::classify::Kind::Fatal,
                detail: error.to_string(),
            }),
        }
    }

    /// The keys of the leases that a worker owns, by the index: it may lag behind the table.
    pub(crate) async fn keys_of(&self, owner: &WorkerId) -> Result<BTreeSet<LeaseKey>, CallError> {
        const OPERATION: &str = "ask the owner index";
        let mut keys = BTreeSet::new();
        let mut start: Option<Item> = None;
        for _ in 0..MAX_PAGES {
            let query = self.client.query().table_name(&self.table).index_name(OWNER_INDEX);
            let query = query
                .key_condition_expression("#owner = :owner")
                .expression_attribute_names("#owner", OWNER)
                .expression_attribute_values(":owner", AttributeValue::S(owner.to_string()));
            let page = timeout(self.timeout, query.set_exclusive_start_key(start.take()).send());
            let page = page.await.map_err(|_| CallError::timeout(OPERATION))?;
            let page = page.map_err(|e| CallError::of(OPERATION, &e))?;
            let key = |item: &Item| LeaseKey::parse(item.get(LEASE_KEY)?.as_s().ok()?.clone()).ok();
            keys.extend(page.items().iter().filter_map(key));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(keys);
            }
        }
        let detail = format!("more than {MAX_PAGES} pages");
        Err(CallError { operation: OPERATION, kind: crate::classify::Kind::Fatal, detail })
    }

    /// Makes a lease if there is none under its key. `false`: there was one already, which is as good.
    pub(crate) async fn create(&self, lease: &LeaseRecord) -> Result<bool, CallError> {
        const OPERATION: &str = "create lease";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(lease.to_item()));
        let put = put
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", LEASE_KEY);
        match timeout(self.timeout, put.send()).await {
            Err(_) => Err(CallError::timeout(OPERATION)),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(CallError::of(OPERATION, &error)),
            },
        }
    }

    /// One planned write.
    pub(crate) async fn apply(&self, write: &Write) -> Result<Outcome, CallError> {
        const OPERATION: &str = "write lease";
        let update = self.client.update_item().table_name(&self.table);
        let call = update
            .key(LEASE_KEY, AttributeValue::S(write.key.as_str().to_owned()))
            .update_expression(&write.update)
            .condition_expression(&write.condition)
            .set_expression_attribute_names(Some(write.names.clone()))
            .set_expression_attribute_values(Some(write.values.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match timeout(self.timeout, call.send()).await {
            Err(_) => Err(CallError::timeout(OPERATION)),
            Ok(Ok(_)) => Ok(Outcome::Done),
            Ok(Err(error)) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Outcome::of_refusal(refused.item().cloned()))
                }
                _ => Err(CallError::of(OPERATION, &error)),
            },
        }
    }

    /// Deletes a finished lease that is still as it was seen. `false`: it is not, or is gone already.
    pub(crate) async fn delete(&self, seen: &LeaseRecord) -> Result<bool, CallError> {
        self.delete_if(seen, Condition::finished(seen)).await
    }

    /// Deletes a lease, however far it has got, that is still as it was seen: one of a stream that is no more.
    pub(crate) async fn delete_unfinished(&self, seen: &LeaseRecord) -> Result<bool, CallError> {
        self.delete_if(seen, Condition::unchanged(seen)).await
    }

    async fn delete_if(&self, seen: &LeaseRecord, condition: Condition) -> Result<bool, CallError> {
        const OPERATION: &str = "delete lease";
        let delete = self.client.delete_item().table_name(&self.table);
        let call = delete
            .key(LEASE_KEY, AttributeValue::S(seen.key.as_str().to_owned()))
            .condition_expression(condition.text)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values(Some(condition.values));
        match timeout(self.timeout, call.send()).await {
            Err(_) => Err(CallError::timeout(OPERATION)),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(CallError::of(OPERATION, &error)),
            },
        }
    }
}

impl Outcome {
    fn of_refusal(item: Option<Item>) -> Self {
        let record = item.and_then(|item| LeaseRecord::from_item(item).ok().flatten());
        Self::Refused(record.map(Box::new))
    }
}
