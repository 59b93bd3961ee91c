//! Notes for those who tail: before the acknowledgement, again until they are good, and none where nobody may tail.

use store::{Arrivals, ArrivalsFrom, ArrivalsQuery, MessageStore};

use super::*;
use crate::integration::Integration;

const NOW_MS: i64 = 1_800_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn tailed() -> Integrations {
    let default = serde_json::from_str::<Integration>(r#"{"name":"default","tail":true}"#).unwrap();
    Integrations::compile(vec![default]).unwrap()
}

impl Rig {
    async fn start_tailed() -> Rig {
        Rig::start_of(tailed(), 10 * SECOND, |store| Arc::new(store)).await
    }

    /// What is noted.
    async fn noted(&self) -> Vec<Arrivals> {
        let query = ArrivalsQuery {
            integration: IntegrationName::parse("default").unwrap(),
            from: ArrivalsFrom::Time(NOW_MS),
            until_ms: NOW_MS,
            consistent: true,
        };
        let page = DynamoMessages::new(self.dynamodb.clone(), APP).arrivals(&query).await.unwrap();
        assert_eq!(page.upto, None);
        page.notes
    }

    async fn messages(&self) -> usize {
        let items =
            self.dynamodb.scan().table_name(format!("{APP}-messages")).send().await.unwrap();
        items.items().iter().filter(|item| item.contains_key("payload")).count()
    }
}

fn places(notes: &[Arrivals]) -> usize {
    notes.iter().map(|note| note.places.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_was_noted_in_few_items() {
    let rig = Rig::start_tailed().await;
    let cells: Vec<_> =
        (0..10).map(|shard| rig.offer(batch(shard, 20, message), valid())).collect();
    for cell in &cells {
        rig.settled(cell).await;
    }
    let notes = rig.noted().await;
    assert_eq!((places(&notes), rig.messages().await), (200, 200));
    assert!(notes.len() <= 3, "{} items", notes.len());
    assert!(notes.iter().all(|note| note.row.at_ms == NOW_MS));
    let stats = rig.writer.stats();
    assert_eq!((stats.stored, stats.noted, stats.calls), (200, 200, 8));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_settled_while_it_cannot_be_noted() {
    let rig = Rig::start_tailed().await;
    let cell = rig.offer(batch(0, 20, message), valid());
    // The messages are written by the first call, their note by the second.
    let calls = Fault::new(Service::Dynamodb, Effect::InternalError).operation("BatchWriteItem");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let fault = rig.aws.faults().inject(calls);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.messages().await, 20, "the messages are there");
    assert_eq!(cell.state(), AckState::Outstanding, "but not noted");
    let ailments: Vec<String> = rig.writer.ailments().map(|(name, _)| name).collect();
    assert_eq!(ailments, ["arrivals"]);
    rig.aws.faults().clear(fault);
    rig.settled(&cell).await;
    assert!(places(&rig.noted().await) >= 20);
    assert_eq!(rig.writer.ailments().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_note_that_was_late_is_written_again_with_another_number() {
    let rig = Rig::start_tailed().await;
    let cell = rig.offer(batch(0, 5, message), valid());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let slow = Fault::new(Service::Dynamodb, Effect::Latency(store::ARRIVALS_WITHIN + SECOND));
    rig.aws.faults().inject(slow.operation("BatchWriteItem").times(1));
    rig.settled(&cell).await;
    let notes = rig.noted().await;
    let numbers: Vec<u32> = notes.iter().map(|note| note.row.number).collect();
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn integrations_without_tail_are_not_noted() {
    let rig = Rig::start().await;
    let cell = rig.offer(batch(0, 20, message), valid());
    rig.settled(&cell).await;
    assert_eq!((rig.count("messages").await, rig.writer.stats().noted), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn what_loses_its_lease_before_it_is_noted_is_let_go_of() {
    let rig = Rig::start_tailed().await;
    let lease = valid();
    let cell = rig.offer(batch(0, 5, message), lease.clone());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(rig.messages().await, 5);
    lease.mark_lost();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cell.state(), AckState::Dropped, "its next owner stores and notes it");
    assert_eq!(places(&rig.noted().await), 0);
}
