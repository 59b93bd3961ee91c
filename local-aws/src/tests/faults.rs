//! Every effect as a real SDK client sees it, and what is left behind in the tables.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::*;
use crate::{Effect, Fault, Service};

fn fault(effect: Effect) -> Fault {
    Fault::new(Service::Dynamodb, effect).operation("UpdateItem").resource("items").times(1)
}

/// What the fault left in the counter, and how the call ended.
async fn after(effect: Effect) -> (u64, Option<String>) {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    aws.faults().inject(fault(effect));
    let ended = add_one(&client).await;
    let code = ended.err().and_then(|e| e.code().map(str::to_owned));
    (counter(&client).await, code)
}

#[tokio::test(start_paused = true)]
async fn each_effect_applies_the_call_or_does_not() {
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(after(Effect::Unanswered).await, (1, None));
    assert_eq!(after(Effect::Cut).await, (0, None));
    let throttled = after(Effect::Throttle).await;
    assert_eq!(throttled, (0, code("ProvisionedThroughputExceededException")));
    let failed = after(Effect::InternalError).await;
    assert_eq!(failed, (0, code("InternalServerError")));
    let failed = after(Effect::ErrorAfterApply).await;
    assert_eq!(failed, (1, code("InternalServerError")));
    let refused = after(Effect::Refuse {
        status: 400,
        code: "RequestLimitExceeded".to_owned(),
        message: "slow down".to_owned(),
    });
    assert_eq!(refused.await, (0, code("RequestLimitExceeded")));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_applied_and_the_caller_cannot_know() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    aws.faults().inject(fault(Effect::LostReply));
    let put = client.update_item().table_name("items");
    let put = put.key("pk", string("a")).key("sk", string("1"));
    let put = put.update_expression("SET n = :one");
    let one = AttributeValue::N("1".to_owned());
    let lost = put.expression_attribute_values(":one", one).send().await;
    match lost.unwrap_err() {
        SdkError::DispatchFailure(failure) => assert!(failure.is_io(), "{failure:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(counter(&client).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_write_lands_after_newer_ones() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    let late = Effect::LateApply(Duration::from_secs(5));
    aws.faults().inject(fault(late));
    assert!(add_one(&client).await.is_err(), "timed out");
    assert_eq!(counter(&client).await, 0);
    add_one(&client).await.unwrap();
    assert_eq!(counter(&client).await, 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(counter(&client).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_partition_takes_one_caller_away_until_it_is_cleared() {
    let (aws, one) = local_aws();
    let other = client_as(&aws, "other");
    create_table(&one, "items").await;
    let partition = Fault::new(Service::Dynamodb, Effect::Partition).caller("tester");
    let id = aws.faults().inject(partition);
    let started = tokio::time::Instant::now();
    assert!(add_one(&one).await.is_err());
    assert!(started.elapsed() >= ATTEMPT_TIMEOUT);
    add_one(&other).await.unwrap();
    assert!(aws.faults().clear(id));
    assert!(!aws.faults().clear(id));
    assert_eq!(counter(&one).await, 1);
}

#[tokio::test(start_paused = true)]
async fn latency_holds_a_call_up() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    aws.faults().inject(fault(Effect::Latency(Duration::from_millis(700))));
    let started = tokio::time::Instant::now();
    add_one(&client).await.unwrap();
    let took = started.elapsed();
    assert!((700..750).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_batch_gives_items_back_until_all_are_stored() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    let partial = Fault::new(Service::Dynamodb, Effect::Partial(0.5)).times(2);
    aws.faults().inject(partial);
    let mut items: Vec<_> = (0..20).map(put_request).collect();
    let mut rounds = 0;
    while !items.is_empty() {
        let batch = client.batch_write_item().request_items("items", items);
        let mut came_back = batch.send().await.unwrap().unprocessed_items.unwrap_or_default();
        items = came_back.remove("items").unwrap_or_default();
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    assert_eq!(client.scan().table_name("items").send().await.unwrap().count, 20);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_operation_and_table() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    add_one(&client).await.unwrap();
    add_one(&client).await.unwrap();
    let calls = aws.calls();
    let updates = calls.iter().find(|count| count.operation == "UpdateItem");
    let updates = updates.unwrap();
    assert_eq!((updates.calls, updates.resource.as_deref()), (2, Some("items")));
}

#[tokio::test(start_paused = true)]
async fn an_eventually_consistent_read_shows_an_older_state_for_a_while() {
    let (aws, client) = local_aws();
    create_table(&client, "items").await;
    aws.faults().inject(Fault::new(Service::Dynamodb, Effect::StaleRead));
    let eventual = async || {
        let get = client.get_item().table_name("items");
        let get = get.key("pk", string("a")).key("sk", string("1"));
        let item = get.send().await.unwrap().item;
        item.map(|item| item["n"].as_n().unwrap().clone())
    };
    assert_eq!(eventual().await, None);
    add_one(&client).await.unwrap();
    assert_eq!(eventual().await, None, "what it showed before");
    assert_eq!(counter(&client).await, 1, "a consistent read is not touched");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(eventual().await.as_deref(), Some("1"));
}
