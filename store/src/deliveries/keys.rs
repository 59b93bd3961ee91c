//! Keys.
use super::DeliveryKey;
/// Buckets that due deliveries are spread over.
pub const DUE_BUCKETS: u16 = 16;
pub(crate) const BY_DUE: &str = "byDue";
pub(crate) const BY_SUBSCRIPTION: &str = "bySubscription";
/// The bucket of a delivery.
pub fn due_bucket(key: &DeliveryKey) -> u16 { (key.message.as_str().len() % 16) as u16 }
