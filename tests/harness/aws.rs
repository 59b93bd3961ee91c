//! The real SDK clients towards a local-aws process.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use std::collections::HashMap;

/// An item as DynamoDB gives it.
pub type Item = HashMap<String, AttributeValue>;

/// Where a record went.
pub struct Put {
    pub shard_id: String,
    pub sequence: Sequence,
}

/// A sequence number, ordered as a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    digits: usize,
    text: String,
}

impl Sequence {
    pub fn of(text: &str) -> Sequence {
        Sequence { digits: text.len(), text: text.to_owned() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[derive(Clone)]
pub struct Aws {
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub sqs: aws_sdk_sqs::Client,
}

impl Aws {
    pub async fn at(endpoint: &str) -> Aws {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .load()
            .await;
        Aws {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
        }
    }

    /// Puts records in order, each with its partition key; fails when one is refused.
    pub async fn put(&self, stream: &str, records: &[(String, Vec<u8>)]) -> Vec<Put> {
        let mut put = Vec::with_capacity(records.len());
        for chunk in records.chunks(200) {
            let entries = chunk.iter().map(|(key, data)| {
                PutRecordsRequestEntry::builder()
                    .partition_key(key)
                    .data(Blob::new(data.clone()))
                    .build()
                    .expect("complete")
            });
            let answer = self
                .kinesis
                .put_records()
                .stream_name(stream)
                .set_records(Some(entries.collect()))
                .send()
                .await
                .expect("records are put");
            assert_eq!(answer.failed_record_count(), Some(0));
            put.extend(answer.records().iter().map(|record| Put {
                shard_id: record.shard_id().expect("put").to_owned(),
                sequence: Sequence::of(record.sequence_number().expect("put")),
            }));
        }
        put
    }

    /// How many items a table has, of those whose partition key begins with `prefix`.
    pub async fn count(&self, table: &str, prefix: Option<&str>) -> usize {
        let mut count = 0;
        let mut start = None;
        loop {
            let mut scan = self.dynamodb.scan().table_name(table).select(Select::Count);
            if let Some(prefix) = prefix {
                scan = scan
                    .filter_expression("begins_with(pk, :prefix)")
                    .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()));
            }
            let page = scan
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .expect("counted");
            count += usize::try_from(page.count).expect("not negative");
            start = page.last_evaluated_key;
            if start.is_none() {
                return count;
            }
        }
    }

    /// Every item of a table.
    pub async fn scan(&self, table: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .dynamodb
                .scan()
                .table_name(table)
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .expect("scanned");
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() {
                return items;
            }
        }
    }
}

/// A string attribute.
pub fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}
