//! The crate from outside: real SDK clients over the in-process connector and over loopback.

mod dynamodb;
mod faults;
mod loopback;
mod messaging;
mod streams;
mod tap;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest,
    ScalarAttributeType, WriteRequest,
};

use crate::{LocalAws, Options};

/// How long an attempt of the test clients may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

fn config(access_key_id: &str) -> Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::from_keys(access_key_id, "secret", None))
        .region(Region::new("us-east-1"))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
}

/// A client that never retries, so that every fault is seen.
fn client_as(aws: &LocalAws, access_key_id: &str) -> Client {
    Client::from_conf(config(access_key_id).http_client(aws.http_client()).build())
}

fn local_aws() -> (LocalAws, Client) {
    let aws = LocalAws::new(Options::default()).unwrap();
    let client = client_as(&aws, "tester");
    (aws, client)
}

async fn create_table(client: &Client, name: &str) {
    let key = |name: &str, kind| {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(kind).build().unwrap()
    };
    let attribute = |name: &str| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        let attribute = attribute.attribute_type(ScalarAttributeType::S);
        attribute.build().unwrap()
    };
    let table = client.create_table().table_name(name);
    let table = table.billing_mode(BillingMode::PayPerRequest);
    table
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("sk"))
        .send()
        .await
        .unwrap();
}

fn string(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn put_request(sk: usize) -> WriteRequest {
    let put = PutRequest::builder().item("pk", string("p")).item("sk", string(&format!("{sk:03}")));
    WriteRequest::builder().put_request(put.build().unwrap()).build()
}

/// Adds one to the counter of item `a`.
async fn add_one(client: &Client) -> Result<(), aws_sdk_dynamodb::Error> {
    let update = client.update_item().table_name("items");
    update
        .key("pk", string("a"))
        .key("sk", string("1"))
        .update_expression("ADD n :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .send()
        .await?;
    Ok(())
}

/// The counter of item `a`.
async fn counter(client: &Client) -> u64 {
    let get = client.get_item().table_name("items").consistent_read(true);
    let get = get.key("pk", string("a")).key("sk", string("1"));
    let item = get.send().await.unwrap().item;
    item.map_or(0, |item| item["n"].as_n().unwrap().parse().unwrap())
}
