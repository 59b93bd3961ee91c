//! The right to write a shard's chains: one owner at a time, and of its calls none behind a later one.
//!
//! The lease's counter tells owners apart. Within one, calls are numbered by a counter of the process: taking the right notes its
//! number, and every write must name it, and a number of its own that is not below the largest that was applied. So neither a
//! former owner nor a call that was given up and arrives late can change anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::Update;

use super::DeliveryStore;
use super::chain_item::{FENCE, LAST_CALL, TAKEN, tenure_key};
use super::chains::{Chain, ChainKey};
use crate::error::StoreError;
use crate::item::n;
use crate::subscriptions::SubscriptionId;

/// The right to write a shard's chains, until somebody takes it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub(super) subscription: SubscriptionId,
    pub(super) stream_arn: Arc<str>,
    pub(super) shard_id: Arc<str>,
    fence: u64,
    /// Number of the call that took it.
    taken: u64,
}

impl Tenure {
    /// The chain of this key.
    pub fn chain(&self, key: &ChainKey) -> Chain {
        let (subscription, stream_arn) = (self.subscription.clone(), Arc::clone(&self.stream_arn));
        Chain { subscription, stream_arn, key: key.clone() }
    }
}

impl DeliveryStore {
    /// Takes the right to write the chains of a shard; who had it before has it no longer. `fence` is the counter of the shard's
    /// lease, and who takes it twice under one counter does so through clones of one store. [`StoreError::Conflict`] if an owner
    /// with a higher counter has it, or a later call under the same one.
    pub async fn take_tenure(
        &self,
        subscription: &SubscriptionId,
        stream_arn: &Arc<str>,
        shard_id: &Arc<str>,
        fence: u64,
    ) -> Result<Tenure, StoreError> {
        let operation = "take tenure of a shard's chains";
        let tenure = Tenure {
            subscription: subscription.clone(),
            stream_arn: Arc::clone(stream_arn),
            shard_id: Arc::clone(shard_id),
            fence,
            taken: self.serials.fetch_add(1, Ordering::Relaxed),
        };
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(tenure_key(&tenure)))
            .update_expression("SET #fence = :fence, #taken = :taken, #last = :taken")
            // The last of these is the same request once more, before anything was written by it.
            .condition_expression(
                "attribute_not_exists(#fence) OR #fence < :fence \
                 OR (#fence = :fence AND (#taken < :taken OR #last = :taken))",
            )
            .set_expression_attribute_names(Some(names()))
            .expression_attribute_values(":fence", n(fence))
            .expression_attribute_values(":taken", n(tenure.taken));
        Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(tenure)
    }

    /// That the tenure lasts, and that no later call was applied: this one is the latest from now on. Repeated as it is, it may be applied
    /// again, until the next one is.
    pub(super) fn proof_of(&self, tenure: &Tenure) -> Result<Update, BuildError> {
        let call = self.serials.fetch_add(1, Ordering::Relaxed);
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(tenure_key(tenure)))
            .update_expression("SET #last = :call")
            .condition_expression("#fence = :fence AND #taken = :taken AND #last <= :call")
            .set_expression_attribute_names(Some(names()))
            .expression_attribute_values(":fence", n(tenure.fence))
            .expression_attribute_values(":taken", n(tenure.taken))
            .expression_attribute_values(":call", n(call))
            .build()
    }
}

fn names() -> HashMap<String, String> {
    let names = [("#fence", FENCE), ("#taken", TAKEN), ("#last", LAST_CALL)];
    names.map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned())).into()
}
