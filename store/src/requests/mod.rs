//! Requests that a client may send again under a key of its own (`Idempotency-Key`): who works on one now, and
//! what it was answered, for a day. In the table `<app>-requests`, one item a key, each step one conditional write.
//!
//! A claim has a lease: whoever works on a request and dies leaves it to the next who sends it, after the lease. So a
//! request is done at least once, and once as long as nobody dies on it. Start at [`RequestStore::begin`].

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use bytes::Bytes;

use crate::access::ClientId;
use crate::error::StoreError;
use crate::identity::{IdentityError, shown, text_type};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, b, expires_at_s, key, n, s};

/// How long a key is remembered, from its last step.
pub const REQUEST_RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of an answer that can be kept: what an item holds, with room for the rest of it.
const MAX_ANSWER_BYTES: usize = 380 * 1024;
/// Characters of a key.
const MAX_KEY: usize = 255;

/// The one sort key of a request's partition.
const REQUEST: &str = "request";
const FINGERPRINT: &str = "fingerprint";
const TOKEN: &str = "token";
const LEASE_UNTIL: &str = "leaseUntil";
const STATUS: &str = "status";
const ANSWER: &str = "answer";

/// The name that a client gives a request, to know it again: 1 to 255 visible ASCII characters and spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(Arc<str>);
text_type!(RequestKey);

impl RequestKey {
    /// Checks and takes a key.
    pub fn parse(text: &str) -> Result<RequestKey, IdentityError> {
        let is_visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if (1..=MAX_KEY).contains(&text.len()) && is_visible {
            Ok(RequestKey(Arc::from(text)))
        } else {
            Err(IdentityError::RequestKey { found: shown(text) })
        }
    }
}

/// What a request was, so that a key is not taken for another one: a hash of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A request, by whose it is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestName {
    /// Whose.
    pub client: ClientId,
    /// Its key; another client's same key is another request.
    pub key: RequestKey,
}

/// The right to work on a request, until its lease is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestClaim {
    name: RequestName,
    token: String,
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// What is known of a request that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: it is the caller's to do.
    Mine(RequestClaim),
    /// It was done, and answered this.
    Answered(KeptAnswer),
    /// Somebody is at it, until then at most, in ms since 1970.
    InWork {
        /// The end of the lease.
        until_ms: i64,
    },
    /// Under this key there was another request.
    Other,
}

/// Requests in the table `<app>-requests`.
#[derive(Clone, Debug)]
pub struct RequestStore {
    client: Client,
    table: String,
}

impl RequestStore {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> RequestStore {
        RequestStore { client, table: crate::tables::requests_table(app) }
    }

    /// Claims a request for `lease`, unless it is known. `token` names this attempt and no other one.
    pub async fn begin(
        &self,
        name: &RequestName,
        fingerprint: &Fingerprint,
        token: &str,
        now_ms: i64,
        lease: Duration,
    ) -> Result<Begun, StoreError> {
        let operation = "begin request";
        let mut item = item_key(name);
        item.insert(FINGERPRINT.to_owned(), b(&fingerprint.0));
        item.insert(TOKEN.to_owned(), s(token));
        item.insert(LEASE_UNTIL.to_owned(), n(until(now_ms, lease)));
        item.insert(EXPIRES_AT.to_owned(), expires(now_ms));
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            // Not there; or only TTL has not got to it yet; or left behind by who died on it.
            .condition_expression(
                "attribute_not_exists(#pk) OR #expires <= :now_s \
                 OR (attribute_not_exists(#answer) AND #until <= :now AND #fingerprint = :fingerprint)",
            )
            .set_expression_attribute_names(Some(names(&[
                ("#pk", PK),
                ("#expires", EXPIRES_AT),
                ("#answer", ANSWER),
                ("#until", LEASE_UNTIL),
                ("#fingerprint", FINGERPRINT),
            ])))
            .expression_attribute_values(":now_s", n(now_ms.div_euclid(1_000)))
            .expression_attribute_values(":now", n(now_ms))
            .expression_attribute_values(":fingerprint", b(&fingerprint.0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let claim = RequestClaim { name: name.clone(), token: token.to_owned() };
        let Err(error) = Box::pin(call.send()).await else { return Ok(Begun::Mine(claim)) };
        let found = match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => failed.item().cloned(),
            _ => return Err(StoreError::from_sdk(operation, &error)),
        };
        let Some(found) = found else {
            let detail = "what stands against the write was not answered".to_owned();
            return Err(StoreError::Unavailable { operation, detail });
        };
        known(ItemReader::new(operation, found), claim, fingerprint)
    }

    /// Keeps what a request was answered. [`StoreError::Conflict`] if the claim was lost: its lease was over, and another
    /// attempt began.
    pub async fn answer(
        &self,
        claim: &RequestClaim,
        answer: &KeptAnswer,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let operation = "keep a request's answer";
        if answer.body.len() > MAX_ANSWER_BYTES {
            let found = answer.body.len();
            let detail =
                format!("an answer of {found} bytes: up to {MAX_ANSWER_BYTES} are allowed");
            return Err(StoreError::Invalid { operation, detail });
        }
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(&claim.name)))
            .update_expression("SET #status = :status, #answer = :answer, #expires = :expires")
            .condition_expression("#token = :token")
            .set_expression_attribute_names(Some(names(&[
                ("#status", STATUS),
                ("#answer", ANSWER),
                ("#expires", EXPIRES_AT),
                ("#token", TOKEN),
            ])))
            .expression_attribute_values(":status", n(answer.status))
            .expression_attribute_values(":answer", b(&answer.body))
            .expression_attribute_values(":expires", expires(now_ms))
            .expression_attribute_values(":token", s(claim.token.as_str()));
        Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(())
    }

    /// Gives a request up that came to nothing: who sends it again begins anew. [`StoreError::Conflict`] if the claim was lost.
    pub async fn forget(&self, claim: &RequestClaim) -> Result<(), StoreError> {
        let operation = "forget request";
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item_key(&claim.name)))
            .condition_expression("#token = :token AND attribute_not_exists(#answer)")
            .set_expression_attribute_names(Some(names(&[("#token", TOKEN), ("#answer", ANSWER)])))
            .expression_attribute_values(":token", s(claim.token.as_str()));
        Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(())
    }
}

/// What an item that stood against a claim says.
fn known(
    mut item: ItemReader,
    claim: RequestClaim,
    fingerprint: &Fingerprint,
) -> Result<Begun, StoreError> {
    let same = item.take_bytes(FINGERPRINT)?.is_some_and(|found| *found == fingerprint.0);
    if !same {
        return Ok(Begun::Other);
    }
    if let Some(body) = item.take_bytes(ANSWER)? {
        return Ok(Begun::Answered(KeptAnswer { status: item.number(STATUS)?, body }));
    }
    // The SDK repeated the call after its answer was lost: the claim is ours.
    if item.text(TOKEN)? == claim.token {
        return Ok(Begun::Mine(claim));
    }
    Ok(Begun::InWork { until_ms: item.number(LEASE_UNTIL)? })
}

/// A client's id has no `#`, so that no two names have one partition.
fn item_key(name: &RequestName) -> Item {
    key(format!("{}#{}", name.client, name.key), REQUEST)
}

fn until(now_ms: i64, lease: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

fn expires(now_ms: i64) -> aws_sdk_dynamodb::types::AttributeValue {
    n(expires_at_s(now_ms, REQUEST_RETENTION.as_millis()))
}

fn names(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}
