//! A batch of which a share is not processed: the request is divided, and the answer tells which part came back.
//!
//! Pure: JSON in, JSON out. Start at [`Partial::divide`].

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// A batch request without the part that fails, and that part.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The request to apply; `None` when nothing is left to apply.
    pub(crate) applied: Option<Bytes>,
    kind: Kind,
    failed: Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Get,
    Records,
    /// Entries with ids, in the member of this name.
    Entries(&'static str),
    /// Entries of `PutEvents`, which are told apart by their order.
    Events,
}

#[derive(Debug)]
enum Failed {
    /// By table: the write requests, or the keys and what else a get says of the table.
    Items(Map<String, Value>),
    /// For each record of the request whether it failed.
    Records(Vec<bool>),
    /// The ids of entries.
    Ids(Vec<Value>),
}

impl Partial {
    /// Whether an operation is a batch at all.
    pub(crate) fn divides(operation: &str) -> bool {
        kind(operation).is_some()
    }

    /// Divides a batch: each item fails with probability `share`, at least one does. `None` when the body is no such batch.
    pub(crate) fn divide(
        operation: &str,
        body: &[u8],
        share: f64,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        let kind = kind(operation)?;
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let mut draw = Draw::over(count(kind, &request)?, share, rng);
        let (left, failed) = match kind {
            Kind::Write => divide_items(request.get_mut("RequestItems")?, None, &mut draw)?,
            Kind::Get => divide_items(request.get_mut("RequestItems")?, Some("Keys"), &mut draw)?,
            Kind::Records => {
                let records = request.get_mut("Records")?.as_array_mut()?;
                let failed: Vec<bool> = records.iter().map(|_| draw.next()).collect();
                let mut fate = failed.iter();
                records.retain(|_| fate.next() == Some(&false));
                (records.len(), Failed::Records(failed))
            }
            Kind::Events => {
                let entries = request.get_mut("Entries")?.as_array_mut()?;
                let failed: Vec<bool> = entries.iter().map(|_| draw.next()).collect();
                let mut fate = failed.iter();
                entries.retain(|_| fate.next() == Some(&false));
                (entries.len(), Failed::Records(failed))
            }
            Kind::Entries(list) => {
                let entries = request.get_mut(list)?.as_array_mut()?;
                let (bad, good): (Vec<_>, Vec<_>) =
                    std::mem::take(entries).into_iter().partition(|_| draw.next());
                *entries = good;
                let ids = bad.iter().map(|entry| entry["Id"].clone()).collect();
                (entries.len(), Failed::Ids(ids))
            }
        };
        let applied = (left > 0).then(|| request.to_string().into());
        Some(Self { applied, kind, failed })
    }

    /// What the service would answer if nothing was left to apply; `None` when it refuses such a call as a whole.
    pub(crate) fn answer_to_nothing(&self) -> Option<Bytes> {
        let answer: &[u8] = match self.kind {
            Kind::Records => br#"{"Records":[]}"#,
            Kind::Events => br#"{"Entries":[]}"#,
            Kind::Entries(_) => br#"{"Successful":[],"Failed":[]}"#,
            Kind::Write | Kind::Get => return None,
        };
        Some(Bytes::from_static(answer))
    }

    /// The service's answer to the applied part, completed by the part that failed.
    pub(crate) fn complete(self, answer: &[u8]) -> Option<Bytes> {
        let mut answer: Value = serde_json::from_slice(answer).ok()?;
        match self.failed {
            Failed::Items(failed) => {
                let name =
                    if self.kind == Kind::Write { "UnprocessedItems" } else { "UnprocessedKeys" };
                answer.as_object_mut()?.insert(name.to_owned(), failed.into());
            }
            Failed::Records(failed) => complete_records(&mut answer, self.kind, &failed)?,
            Failed::Ids(ids) => {
                let fail = |id| json!({ "Id": id, "SenderFault": false, "Code": "InternalError", "Message": "Try again." });
                answer.get_mut("Failed")?.as_array_mut()?.extend(ids.into_iter().map(fail));
            }
        }
        Some(answer.to_string().into())
    }
}

fn kind(operation: &str) -> Option<Kind> {
    match operation {
        "BatchWriteItem" => Some(Kind::Write),
        "BatchGetItem" => Some(Kind::Get),
        "PutRecords" => Some(Kind::Records),
        "SendMessageBatch" => Some(Kind::Entries("Entries")),
        "PublishBatch" => Some(Kind::Entries("PublishBatchRequestEntries")),
        "PutEvents" => Some(Kind::Events),
        _ => None,
    }
}

fn count(kind: Kind, request: &Value) -> Option<usize> {
    let of_tables = |key: Option<&str>| {
        let tables = request.get("RequestItems")?.as_object()?;
        tables
            .values()
            .map(|table| key.map_or(Some(table), |key| table.get(key))?.as_array().map(Vec::len))
            .sum()
    };
    match kind {
        Kind::Write => of_tables(None),
        Kind::Get => of_tables(Some("Keys")),
        Kind::Records => request.get("Records")?.as_array().map(Vec::len),
        Kind::Events => request.get("Entries")?.as_array().map(Vec::len),
        Kind::Entries(list) => request.get(list)?.as_array().map(Vec::len),
    }
}

/// Which of the next items fail: each by chance, and one that was chosen before.
struct Draw<'a> {
    share: f64,
    chosen: usize,
    index: usize,
    rng: &'a mut fastrand::Rng,
}

impl<'a> Draw<'a> {
    fn over(count: usize, share: f64, rng: &'a mut fastrand::Rng) -> Self {
        let chosen = if count == 0 { 0 } else { rng.usize(..count) };
        Self { share, chosen, index: 0, rng }
    }

    fn next(&mut self) -> bool {
        let fails = self.rng.f64() < self.share || self.index == self.chosen;
        self.index += 1;
        fails
    }
}

/// Takes the failing items out of every table; says how many are left.
fn divide_items(
    tables: &mut Value,
    list_in: Option<&str>,
    draw: &mut Draw<'_>,
) -> Option<(usize, Failed)> {
    let (mut left, mut failed) = (0, Map::new());
    let tables = tables.as_object_mut()?;
    for (name, table) in tables.iter_mut() {
        let mut came_back = table.clone();
        let list = |table: &mut Value| -> Option<Vec<Value>> {
            let list = match list_in {
                Some(key) => table.get_mut(key)?,
                None => table,
            };
            list.as_array_mut().map(std::mem::take)
        };
        let items = list(table)?;
        let (bad, good): (Vec<_>, Vec<_>) = items.into_iter().partition(|_| draw.next());
        left += good.len();
        let any_bad = !bad.is_empty();
        match list_in {
            Some(key) => {
                table[key] = good.into();
                came_back[key] = bad.into();
            }
            None => {
                *table = good.into();
                came_back = bad.into();
            }
        }
        if any_bad {
            failed.insert(name.clone(), came_back);
        }
    }
    let is_empty = |table: &Value| {
        let list = list_in.map_or(Some(table), |key| table.get(key));
        list.and_then(Value::as_array).is_none_or(Vec::is_empty)
    };
    tables.retain(|_, table| !is_empty(table));
    Some((left, Failed::Items(failed)))
}

fn complete_records(answer: &mut Value, kind: Kind, failed: &[bool]) -> Option<()> {
    let (list, count, code) = match kind {
        Kind::Events => ("Entries", "FailedEntryCount", "InternalFailure"),
        _ => ("Records", "FailedRecordCount", "ProvisionedThroughputExceededException"),
    };
    let mut served = std::mem::take(answer.get_mut(list)?.as_array_mut()?).into_iter();
    let records: Option<Vec<Value>> = failed
        .iter()
        .map(|failed| match failed {
            true => Some(json!({
                "ErrorCode": code,
                "ErrorMessage": "Try again.",
            })),
            false => served.next(),
        })
        .collect();
    let records = records?;
    let failures = records.iter().filter(|record| record.get("ErrorCode").is_some());
    answer[count] = failures.count().into();
    answer[list] = records.into();
    Some(())
}
