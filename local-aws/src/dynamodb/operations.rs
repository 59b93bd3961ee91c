//! The operations of DynamoDB by name, and its errors in the wire's form.
//!
//! Everything here is synchronous and pure but for the engine behind `database`. Start at [`answer`].

use bytes::Bytes;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::Answer;

/// `__type` of a failure of the service itself.
pub(crate) const INTERNAL_SERVER_ERROR: &str =
    "com.amazonaws.dynamodb.v20120810#InternalServerError";
const UNKNOWN_OPERATION: &str = "com.amazon.coral.service#UnknownOperationException";
const SERIALIZATION: &str = "com.amazon.coral.service#SerializationException";

/// Operations whose request validation errors carry the service's "1 validation error detected" envelope.
const ENVELOPED: [&str; 3] = ["PutItem", "UpdateItem", "DeleteItem"];

/// Answers one call.
pub(crate) fn answer(database: &Database, operation: &str, body: &[u8]) -> Answer {
    match run(database, operation, body) {
        Some(Ok(json)) => Answer::ok(json),
        Some(Err(Failure::Malformed(message))) => Answer::error(400, SERIALIZATION, &message),
        Some(Err(Failure::Engine(error))) => refusal(operation, &error),
        None => Answer::error(400, UNKNOWN_OPERATION, &format!("unknown operation {operation}")),
    }
}

/// Why a call was not served.
enum Failure {
    /// The body is not JSON of the request's shape.
    Malformed(String),
    /// The engine refused or failed; this is the service's own error.
    Engine(DynoxideError),
}

impl From<DynoxideError> for Failure {
    fn from(error: DynoxideError) -> Self {
        Self::Engine(error)
    }
}

/// `None` for an operation that does not exist.
fn run(database: &Database, operation: &str, body: &[u8]) -> Option<Result<Bytes, Failure>> {
    let db = database;
    Some(match operation {
        "CreateTable" => call(body, |request| db.create_table(request)),
        "DescribeTable" => call(body, |request| db.describe_table(request)),
        "UpdateTable" => call(body, |request| db.update_table(request)),
        "DeleteTable" => call(body, |request| db.delete_table(request)),
        "ListTables" => call(body, |request| db.list_tables(request)),
        "UpdateTimeToLive" => call(body, |request| db.update_time_to_live(request)),
        "DescribeTimeToLive" => call(body, |request| db.describe_time_to_live(request)),
        "TagResource" => call(body, |request| db.tag_resource(request)),
        "UntagResource" => call(body, |request| db.untag_resource(request)),
        "ListTagsOfResource" => call(body, |request| db.list_tags_of_resource(request)),
        "PutItem" => call(body, |request| db.put_item(request)),
        "GetItem" => call(body, |request| db.get_item(request)),
        "UpdateItem" => call(body, |request| db.update_item(request)),
        "DeleteItem" => call(body, |request| db.delete_item(request)),
        "BatchWriteItem" => call(body, |request| db.batch_write_item(request)),
        "BatchGetItem" => call(body, |request| db.batch_get_item(request)),
        "Query" => call(body, |request| db.query(request)),
        "Scan" => call(body, |request| db.scan(request)),
        "TransactWriteItems" => call(body, |request| db.transact_write_items(request)),
        "TransactGetItems" => call(body, |request| db.transact_get_items(request)),
        "ExecuteStatement" => call(body, |request| db.execute_statement(request)),
        "ExecuteTransaction" => call(body, |request| db.execute_transaction(request)),
        "BatchExecuteStatement" => call(body, |request| db.batch_execute_statement(request)),
        "ListStreams" => call(body, |request| db.list_streams(request)),
        "DescribeStream" => call(body, |request| db.describe_stream(request)),
        "GetShardIterator" => call(body, |request| db.get_shard_iterator(request)),
        "GetRecords" => call(body, |request| db.get_records(request)),
        _ => return None,
    })
}

fn call<Request: DeserializeOwned, Response: Serialize>(
    body: &[u8],
    run: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<Bytes, Failure> {
    let request = serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
    let response = run(request)?;
    serde_json::to_vec(&response)
        .map(Bytes::from)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()).into())
}

/// The service tells a missing or senseless member (validation) from one of the wrong JSON type (serialization). The engine marks
/// what its own decoders refuse with a prefix in the message.
fn malformed(message: &str) -> Failure {
    let plain = message.split(" at line ").next().unwrap_or(message);
    let validation = DynoxideError::ValidationException;
    if let Some(text) = plain.strip_prefix("VALIDATION_REQUEST:") {
        DynoxideError::EnvelopedValidation(text.to_owned()).into()
    } else if let Some(text) =
        ["VALIDATION:", "VALIDATION_AS_READ:"].iter().find_map(|marker| plain.strip_prefix(marker))
    {
        validation(text.to_owned()).into()
    } else if let Some(text) = ["SERIALIZATION:", "SERIALIZATION_AS_READ:"]
        .iter()
        .find_map(|marker| plain.strip_prefix(marker))
    {
        Failure::Malformed(text.to_owned())
    } else if ["missing field", "unknown variant", "AttributeValue"]
        .iter()
        .any(|hint| plain.contains(hint))
    {
        validation(plain.to_owned()).into()
    } else {
        Failure::Malformed(plain.to_owned())
    }
}

fn refusal(operation: &str, error: &DynoxideError) -> Answer {
    let body = match error {
        DynoxideError::EnvelopedValidation(message) if ENVELOPED.contains(&operation) => {
            DynoxideError::ValidationException(format!("1 validation error detected: {message}"))
                .to_json()
        }
        other => other.to_json(),
    };
    Answer::Json { status: error.status_code(), body: body.into() }
}
