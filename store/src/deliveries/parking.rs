//! Placeholder.
#![allow(clippy::todo, clippy::unused_async, unused_variables, dead_code)]
use super::*;
use crate::{PutReport, StoreError};
/// Parked deliveries and dead letters in the table `<app>-deliveries`.
#[derive(Clone, Debug)]
pub struct DeliveryStore { client: aws_sdk_dynamodb::Client }
impl DeliveryStore {
    /// Over the table `<app>-deliveries`.
    pub fn new(client: aws_sdk_dynamodb::Client, app: &str) -> DeliveryStore { DeliveryStore { client } }
    /// Parks deliveries durably. Outcomes in order.
    pub async fn park(&self, deliveries: &[ParkedDelivery]) -> Vec<Result<Parked, StoreError>> { todo!() }
    /// Deliveries of one bucket (0..DUE_BUCKETS) that are due, the longest due first. Eventually consistent.
    pub async fn due(&self, bucket: u16, now_ms: i64, limit: usize) -> Result<Vec<DueDelivery>, StoreError> { todo!() }
    /// Claims a due delivery for `lease`; `None` if it is gone, claimed by another or not due.
    pub async fn claim(&self, key: &DeliveryKey, worker: &str, now_ms: i64, lease: Duration) -> Result<Option<ClaimedDelivery>, StoreError> { todo!() }
    /// Prolongs a claim; Conflict if it was lost.
    pub async fn renew(&self, claim: &Claim, until_ms: i64) -> Result<Claim, StoreError> { todo!() }
    /// Gives a claim back with a new due time; Conflict if it was lost.
    pub async fn reschedule(&self, claim: &Claim, attempts: u32, due_at_ms: i64, last_error: &str) -> Result<(), StoreError> { todo!() }
    /// Removes a delivery for good (delivered, or dead-lettered); Conflict if the claim was lost.
    pub async fn settle(&self, claim: &Claim) -> Result<(), StoreError> { todo!() }
    /// Makes up to `limit` waiting deliveries of a subscription due now.
    pub async fn make_due(&self, subscription: &SubscriptionId, now_ms: i64, limit: usize) -> Result<MadeDue, StoreError> { todo!() }
    /// Counts a subscription's parked deliveries up to `cap`.
    pub async fn parked_count(&self, subscription: &SubscriptionId, cap: usize) -> Result<ParkedCount, StoreError> { todo!() }
    /// Lists a subscription's parked deliveries, the one due first in front.
    pub async fn list(&self, subscription: &SubscriptionId, after: Option<&str>, limit: usize) -> Result<ParkedPage, StoreError> { todo!() }
    /// Writes dead letters; one outcome per letter; writing one again is harmless.
    pub async fn dead_letter(&self, letters: &[DeadLetter]) -> PutReport { todo!() }
    /// Lists an integration's dead letters, the newest arrival first.
    pub async fn list_dead_letters(&self, integration: &IntegrationName, after: Option<&str>, limit: usize, now_ms: i64) -> Result<DeadLetterPage, StoreError> { todo!() }
}
