//! Which tables, streams, queues, topics and buses a request names, without understanding its operation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Named {
    table_name: Option<String>,
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    resource_arn: Option<String>,
    #[serde(rename = "ResourceARN")]
    resource_arn_of_kinesis: Option<String>,
    request_items: Option<BTreeMap<String, IgnoredAny>>,
    transact_items: Option<Vec<BTreeMap<String, InTransaction>>>,
    queue_url: Option<String>,
    queue_name: Option<String>,
    topic_arn: Option<String>,
    role_arn: Option<String>,
    entries: Option<Vec<InBatch>>,
}

/// An event names its bus; a message of a batch names nothing.
#[derive(Deserialize)]
struct InBatch {
    #[serde(rename = "EventBusName")]
    event_bus_name: Option<String>,
}

#[derive(Deserialize)]
struct InTransaction {
    #[serde(rename = "TableName")]
    table_name: Option<String>,
}

/// The names, sorted, each once; none when the body is not of a shape that names any.
pub(super) fn of(body: &[u8]) -> Vec<String> {
    let Ok(named) = serde_json::from_slice::<Named>(body) else {
        return Vec::new();
    };
    let single = [
        named.table_name,
        named.stream_name,
        named.stream_arn,
        named.consumer_arn,
        named.resource_arn,
        named.resource_arn_of_kinesis,
        named.queue_url,
        named.queue_name,
        named.topic_arn,
        named.role_arn,
    ];
    let in_entries = named.entries.unwrap_or_default().into_iter();
    let in_batch = named.request_items.unwrap_or_default().into_keys();
    let in_transaction = named.transact_items.unwrap_or_default().into_iter();
    let mut names: Vec<String> = single
        .into_iter()
        .flatten()
        .chain(in_batch)
        .chain(in_entries.filter_map(|entry| entry.event_bus_name))
        .chain(in_transaction.flat_map(|item| item.into_values().filter_map(|i| i.table_name)))
        .map(|name| name_in_arn(&name).map_or(name.clone(), str::to_owned))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// `orders` of `arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/app:1700000000`, of a topic's ARN and of a queue's URL.
fn name_in_arn(text: &str) -> Option<&str> {
    if text.starts_with("https://") || text.starts_with("http://") {
        return text.rsplit('/').next();
    }
    let resource = text.strip_prefix("arn:")?.splitn(5, ':').nth(4)?;
    resource.split('/').nth(1).or(Some(resource))
}
