//! What clients have used of their limits, shared by all tasks that answer them: one item a client and UTC
//! day, in the access table, that is added to in one atomic write.
//!
//! This room does not know what a client is allowed. It adds up requests and bytes, and keeps until when
//! the client's rate is *paid for*: each charge moves that moment on by what it costs, from the time of the
//! charge or from where it was already (the generic cell rate algorithm, over all tasks). Whoever charges
//! learns where things stand, and decides. Start at [`UsageStore::charge`].

#[cfg(test)]
mod tests;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;

use crate::access::ClientId;
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, ItemReader, expires_at_s, key, n};

/// How long a day's use can be looked up after it.
pub const USAGE_RETENTION: Duration = Duration::from_secs(35 * 24 * 3_600);

const REQUESTS: &str = "requests";
const BYTES: &str = "bytes";
/// Until when the rate is paid for, in ns since 1970.
const PAID_UNTIL: &str = "paidUntilNs";
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// Writes of one charge: the second form follows the first, and again if others came in between.
const MAX_TRIES: usize = 6;

/// What a client used, to be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
    /// What the requests cost of the client's rate, in ns.
    pub cost_ns: i64,
    /// What is not paid for yet costs from this moment on, in ns since 1970.
    pub from_ns: i64,
    /// Whether more is believed to be paid for than [`Charge::from_ns`]. A wrong guess costs a second write.
    pub is_going_on: bool,
}

/// What a client has used in one UTC day, over all tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
    /// Until when its rate is paid for, in ns since 1970.
    pub paid_until_ns: i64,
}

/// The use of clients in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct UsageStore {
    client: Client,
    table: String,
}

/// The two ways to pay: what is paid for already lasts longer than the start of the charge, or not.
const GOES_ON: (&str, &str) = (
    "#paid >= :from",
    "SET #paid = #paid + :cost, #expires = :expires ADD #requests :requests, #bytes :bytes",
);
const BEGINS: (&str, &str) = (
    "attribute_not_exists(#paid) OR #paid < :from",
    "SET #paid = :until, #expires = :expires ADD #requests :requests, #bytes :bytes",
);

impl UsageStore {
    /// Over the table of the application `app`. The SDK client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> UsageStore {
        UsageStore { client, table: crate::tables::access_table(app) }
    }

    /// Adds to what a client used on a UTC day (counted from 1970), and says where that stands now. A charge
    /// whose outcome is not known may be made again: at worst it counts twice, against the client.
    pub async fn charge(
        &self,
        client: &ClientId,
        day: i64,
        charge: &Charge,
    ) -> Result<Usage, StoreError> {
        let mut forms = if charge.is_going_on { [GOES_ON, BEGINS] } else { [BEGINS, GOES_ON] };
        for _ in 1..MAX_TRIES {
            match self.try_charge(client, day, charge, forms[0]).await {
                Err(error) if error.is_conflict() => forms.reverse(),
                other => return other,
            }
        }
        self.try_charge(client, day, charge, forms[0]).await
    }

    async fn try_charge(
        &self,
        client: &ClientId,
        day: i64,
        charge: &Charge,
        (condition, update): (&str, &str),
    ) -> Result<Usage, StoreError> {
        let operation = "charge usage";
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(place(client, day)))
            .condition_expression(condition)
            .update_expression(update)
            .expression_attribute_names("#paid", PAID_UNTIL)
            .expression_attribute_names("#expires", EXPIRES_AT)
            .expression_attribute_names("#requests", REQUESTS)
            .expression_attribute_names("#bytes", BYTES)
            .expression_attribute_values(":from", n(charge.from_ns))
            .expression_attribute_values(":expires", n(expires_at(day)))
            .expression_attribute_values(":requests", n(charge.requests))
            .expression_attribute_values(":bytes", n(charge.bytes))
            .return_values(ReturnValue::AllNew);
        // DynamoDB refuses values that no expression uses.
        call = if condition == GOES_ON.0 {
            call.expression_attribute_values(":cost", n(charge.cost_ns))
        } else {
            let until = charge.from_ns.saturating_add(charge.cost_ns);
            call.expression_attribute_values(":until", n(until))
        };
        let answer =
            Box::pin(call.send()).await.map_err(|error| StoreError::from_sdk(operation, &error))?;
        read(&ItemReader::new(operation, answer.attributes.unwrap_or_default()))
    }

    /// What a client has used on a UTC day (counted from 1970), read consistently.
    pub async fn used(&self, client: &ClientId, day: i64) -> Result<Usage, StoreError> {
        let operation = "read usage";
        let call = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(place(client, day)))
            .consistent_read(true);
        let answer =
            Box::pin(call.send()).await.map_err(|error| StoreError::from_sdk(operation, &error))?;
        answer.item.map_or(Ok(Usage::default()), |item| read(&ItemReader::new(operation, item)))
    }
}

/// A partition of its own for each client, so that the API can be allowed to write these items and no others.
fn place(client: &ClientId, day: i64) -> Item {
    key(format!("usage#{client}"), format!("day#{day:08}"))
}

fn expires_at(day: i64) -> i64 {
    let end_ms = day.saturating_add(1).saturating_mul(DAY_MS);
    expires_at_s(end_ms, USAGE_RETENTION.as_millis())
}

fn read(reader: &ItemReader) -> Result<Usage, StoreError> {
    Ok(Usage {
        requests: reader.optional_number(REQUESTS)?.unwrap_or(0),
        bytes: reader.optional_number(BYTES)?.unwrap_or(0),
        paid_until_ns: reader.number(PAID_UNTIL)?,
    })
}
