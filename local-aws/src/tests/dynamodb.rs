//! DynamoDB as the product uses it: conditions, batches, pages, time to live, transactions, a file.

use std::time::SystemTime;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TimeToLiveSpecification,
    TransactWriteItem,
};

use super::*;
use crate::Clock;

#[tokio::test(start_paused = true)]
async fn a_failed_condition_brings_the_old_item_back() {
    let (_aws, client) = local_aws();
    create_table(&client, "leases").await;
    let put = |owner| {
        let put = client.put_item().table_name("leases");
        put.item("pk", string("a"))
            .item("sk", string("1"))
            .item("owner", string(owner))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    };
    put("w-1").send().await.unwrap();
    let refused = put("w-2").send().await.unwrap_err().into_service_error();
    let PutItemError::ConditionalCheckFailedException(refused) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.item.unwrap()["owner"], string("w-1"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_at_most_25_items() {
    let (_aws, client) = local_aws();
    create_table(&client, "items").await;
    let write = |count| {
        let items = (0..count).map(put_request).collect();
        client.batch_write_item().request_items("items", items)
    };
    write(25).send().await.unwrap();
    let refused = write(26).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"));
}

#[tokio::test(start_paused = true)]
async fn a_query_gives_pages_in_either_direction() {
    let (_aws, client) = local_aws();
    create_table(&client, "items").await;
    let items: Vec<_> = (0..10).map(put_request).collect();
    let batch = client.batch_write_item().request_items("items", items);
    batch.send().await.unwrap();
    for forward in [true, false] {
        let query = client.query().table_name("items").limit(3);
        let mut pages = query
            .scan_index_forward(forward)
            .key_condition_expression("pk = :p")
            .expression_attribute_values(":p", string("p"))
            .into_paginator()
            .items()
            .send();
        let mut seen = Vec::new();
        while let Some(item) = pages.next().await {
            seen.push(item.unwrap()["sk"].as_s().unwrap().clone());
        }
        assert_eq!(seen.len(), 10);
        assert!(seen.is_sorted() == forward);
    }
}

#[tokio::test(start_paused = true)]
async fn expired_items_stay_until_the_sweep_and_go_with_it() {
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let aws = LocalAws::new(Options { epoch, ..Options::default() });
    let aws = aws.unwrap();
    let client = client_as(&aws, "tester");
    create_table(&client, "items").await;
    let expires = TimeToLiveSpecification::builder().enabled(true).attribute_name("expiresAt");
    let update = client.update_time_to_live().table_name("items");
    let update = update.time_to_live_specification(expires.build().unwrap());
    update.send().await.unwrap();
    let described = client.describe_time_to_live().table_name("items").send().await;
    let described = described.unwrap().time_to_live_description.unwrap();
    assert_eq!(described.attribute_name(), Some("expiresAt"));

    let put = client.put_item().table_name("items");
    let put = put.item("pk", string("a")).item("sk", string("1"));
    let at = AttributeValue::N("1800000060".to_owned());
    put.item("expiresAt", at).send().await.unwrap();
    let count = || async { client.scan().table_name("items").send().await.unwrap().count };
    assert_eq!(aws.sweep_expired().await, Ok(0));
    assert_eq!(count().await, 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(count().await, 1, "expired, yet not deleted");
    assert_eq!(aws.sweep_expired().await, Ok(1));
    assert_eq!(count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_applied_whole_or_not_at_all() {
    let (_aws, client) = local_aws();
    create_table(&client, "items").await;
    let put = |sk: &str| {
        let put = Put::builder().table_name("items");
        let put = put.item("pk", string("a")).item("sk", string(sk)).build();
        TransactWriteItem::builder().put(put.unwrap()).build()
    };
    let check = ConditionCheck::builder().table_name("items");
    let check = check.key("pk", string("a")).key("sk", string("missing"));
    let check = check.condition_expression("attribute_exists(pk)").build();
    let check = TransactWriteItem::builder().condition_check(check.unwrap());
    let write = client.transact_write_items().transact_items(put("1"));
    let refused = write.transact_items(check.build()).send().await;
    let refused = refused.unwrap_err().into_service_error();
    assert!(refused.is_transaction_canceled_exception(), "{refused:?}");
    assert_eq!(client.scan().table_name("items").send().await.unwrap().count, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_unknown_is_refused_in_the_services_words() {
    let (_aws, client) = local_aws();
    let missing = client.describe_table().table_name("nope").send().await;
    let missing = missing.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    let unknown = client.list_backups().send().await.unwrap_err();
    assert_eq!(unknown.code(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn tables_in_a_file_outlive_the_process_that_wrote_them() {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("local-aws-{}.sqlite", std::process::id()));
    let options = || Options { dynamodb_path: Some(path.clone()), ..Options::default() };
    {
        let aws = LocalAws::new(options()).unwrap();
        let client = client_as(&aws, "tester");
        create_table(&client, "items").await;
        add_one(&client).await.unwrap();
    }
    let aws = LocalAws::new(options()).unwrap();
    assert_eq!(counter(&client_as(&aws, "tester")).await, 1);
    drop(aws);
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", path.display());
        drop(std::fs::remove_file(file));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_moves_with_paused_time_or_with_what_it_is_given() {
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let clock = Clock::starting_at(epoch);
    tokio::time::advance(Duration::from_millis(250)).await;
    assert_eq!(clock.now_ms(), 1_000_250);
    assert_eq!(Clock::from_source(move || epoch).now_ms(), 1_000_000);
}
