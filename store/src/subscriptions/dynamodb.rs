//! Placeholder.
#![allow(clippy::todo, clippy::unused_async, unused_variables, dead_code)]
use super::*;
use crate::StoreError;
/// All subscriptions as of one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSnapshot {
    /// The epoch.
    pub epoch: u64,
    /// All of them, by id.
    pub subscriptions: Vec<Subscription>,
}
/// Subscriptions in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct SubscriptionStore { client: aws_sdk_dynamodb::Client }
impl SubscriptionStore {
    /// Over the table `<app>-access`.
    pub fn new(client: aws_sdk_dynamodb::Client, app: &str) -> SubscriptionStore { SubscriptionStore { client } }
    /// Stores it if nobody changed it since its version was read; gives it back with its new version.
    pub async fn put(&self, subscription: &Subscription) -> Result<Subscription, StoreError> { todo!() }
    /// Deletes it; false if there was none.
    pub async fn delete(&self, id: &SubscriptionId) -> Result<bool, StoreError> { todo!() }
    /// Reads one.
    pub async fn get(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> { todo!() }
    /// Reads all.
    pub async fn load_all(&self) -> Result<Vec<Subscription>, StoreError> { todo!() }
    /// Reads all, with the epoch that they are of.
    pub async fn snapshot(&self) -> Result<SubscriptionSnapshot, StoreError> { todo!() }
    /// The epoch: changes with every change of a subscription. 0 before the first.
    pub async fn epoch(&self) -> Result<u64, StoreError> { todo!() }
}
