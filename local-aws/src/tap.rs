//! A tap on the wire: whoever made this AWS sees each call, each answer, each piece of a stream and each item as it is written.
//!
//! It speaks wire terms only and changes nothing. What it shows is what callers and services exchange, in the order in which it
//! happens, so that a simulation can compare two runs and check what was written at every moment. Start at [`Tap`].

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::dispatch::{Call, Service};
use crate::dynamodb::DynamoDb;
use crate::wire::Answer;

/// One thing that was seen, and the call that it belongs to.
#[derive(Debug)]
pub struct Traced<'a> {
    /// The access key id that signed the call.
    pub caller: &'a str,
    /// The service that was called.
    pub service: Service,
    /// The operation, e.g. `UpdateItem`.
    pub operation: &'a str,
    /// The tables or streams that the call names.
    pub resources: &'a [String],
    /// The request's body; empty for [`Seen::Frame`] and [`Seen::Cut`] of a stream.
    pub request: &'a [u8],
    /// What was seen.
    pub seen: Seen<'a>,
}

/// What happened to a call.
#[derive(Debug)]
pub enum Seen<'a> {
    /// It was made.
    Called,
    /// DynamoDB wrote an item, which is so from this moment on. A call that is applied late shows it then.
    Wrote {
        /// The table.
        table: &'a str,
        /// The whole item in the wire's form, as it is after the write.
        item: &'a Value,
    },
    /// DynamoDB was told to delete an item, and did.
    Deleted {
        /// The table.
        table: &'a str,
        /// The item's key in the wire's form.
        key: &'a Value,
    },
    /// The caller gets this answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The whole body; empty when it is a stream.
        body: &'a [u8],
    },
    /// A piece of the stream that answers the call.
    Frame(&'a [u8]),
    /// The connection was cut, before an answer or within a stream.
    Cut,
}

type Watch = dyn for<'a> Fn(&Traced<'a>) + Send + Sync;

/// Is shown everything on the wire of one [`LocalAws`](crate::LocalAws). It runs within the calls, so it must not make any.
#[derive(Clone)]
pub struct Tap(Arc<Watch>);

impl Tap {
    /// A tap that calls `watch`.
    #[must_use]
    pub fn new(watch: impl Fn(&Traced<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(watch))
    }

    pub(crate) fn show(&self, call: &Call, seen: Seen<'_>) {
        (self.0)(&Traced {
            caller: &call.caller,
            service: call.service,
            operation: &call.operation,
            resources: &call.resources,
            request: &call.body,
            seen,
        });
    }

    /// Shows the items that a call wrote; `answer` is the body with which it succeeded.
    pub(crate) async fn show_writes(&self, dynamodb: &DynamoDb, call: &Call, answer: &[u8]) {
        let Some(writes) = writes(call, answer) else { return };
        for write in writes {
            match write {
                Write::Put { table, item } => {
                    self.show(call, Seen::Wrote { table: &table, item: &item });
                }
                Write::Update { table, key } => {
                    let get = json!({ "TableName": table, "Key": key, "ConsistentRead": true });
                    let found = dynamodb.handle("GetItem", get.to_string().into()).await;
                    if let Some(item) = item_of(found) {
                        self.show(call, Seen::Wrote { table: &table, item: &item });
                    }
                }
                Write::Delete { table, key } => {
                    self.show(call, Seen::Deleted { table: &table, key: &key });
                }
            }
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tap")
    }
}

fn item_of(answer: Answer) -> Option<Value> {
    let Answer::Json { status: 200, body } = answer else { return None };
    let mut answer: Value = serde_json::from_slice(&body).ok()?;
    answer.get_mut("Item").map(Value::take)
}

/// One item's change in a request.
#[derive(Debug, PartialEq)]
enum Write {
    Put { table: String, item: Value },
    Update { table: String, key: Value },
    Delete { table: String, key: Value },
}

/// What a call that was answered with success changed; `None` for a call that changes nothing.
fn writes(call: &Call, answer: &[u8]) -> Option<Vec<Write>> {
    if call.service != Service::Dynamodb {
        return None;
    }
    let request = || serde_json::from_slice::<Value>(&call.body).ok();
    let one = |kind: &str| Some(single(kind, request()?).into_iter().collect());
    match call.operation.as_str() {
        "PutItem" => one("Put"),
        "UpdateItem" => one("Update"),
        "DeleteItem" => one("Delete"),
        "TransactWriteItems" => {
            let mut request = request()?;
            let actions = request.get_mut("TransactItems")?.as_array_mut()?;
            let actions = actions.iter_mut().filter_map(Value::as_object_mut);
            let kinds = actions.flat_map(|action| std::mem::take(action).into_iter());
            Some(kinds.filter_map(|(kind, action)| single(&kind, action)).collect())
        }
        "BatchWriteItem" => batch(request()?, answer),
        _ => None,
    }
}

fn single(kind: &str, mut request: Value) -> Option<Write> {
    let table = request.get("TableName")?.as_str()?.to_owned();
    let mut take = |name: &str| request.get_mut(name).map(Value::take);
    match kind {
        "Put" => Some(Write::Put { table, item: take("Item")? }),
        "Update" => Some(Write::Update { table, key: take("Key")? }),
        "Delete" => Some(Write::Delete { table, key: take("Key")? }),
        _ => None,
    }
}

fn batch(mut request: Value, answer: &[u8]) -> Option<Vec<Write>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let unprocessed = |table: &str, request: &Value| {
        let left = answer.get("UnprocessedItems").and_then(|tables| tables.get(table));
        left.and_then(Value::as_array).is_some_and(|left| left.contains(request))
    };
    let mut writes = Vec::new();
    for (table, requests) in request.get_mut("RequestItems")?.as_object_mut()? {
        for request in requests.as_array_mut()? {
            if unprocessed(table, request) {
                continue;
            }
            let table = table.clone();
            if let Some(item) = request.pointer_mut("/PutRequest/Item") {
                writes.push(Write::Put { table, item: item.take() });
            } else if let Some(key) = request.pointer_mut("/DeleteRequest/Key") {
                writes.push(Write::Delete { table, key: key.take() });
            }
        }
    }
    Some(writes)
}
