//! The whole walk of real records: every event stored exactly once, and delivered with the same id.

use std::collections::BTreeMap;

use crate::harness::platform::{EARTHQUAKES, Platform, Processor, earthquakes};

#[tokio::test(flavor = "multi_thread")]
async fn p1_every_event_is_stored_exactly_once_and_delivered_with_the_same_id() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events).await;

    platform.everything_arrived(EARTHQUAKES).await;
    let ended = processor.stop().await;
    assert_eq!(ended.code, Some(0), "a clean stop: {:#?}", ended.log);

    let stored = platform.stored().await;
    let mut payloads: Vec<_> = stored.values().map(|message| message.payload.clone()).collect();
    let mut sent: Vec<_> = events.into_iter().map(|(_, data)| data).collect();
    payloads.sort();
    sent.sort();
    assert!(payloads == sent, "the stored bytes are the bytes that were sent, each once");

    let ledger = platform.receiver.ledger();
    let delivered: BTreeMap<_, _> =
        ledger.deliveries.iter().map(|(id, (_, body))| (id.clone(), body.to_vec())).collect();
    let expected: BTreeMap<_, _> =
        stored.into_iter().map(|(id, message)| (id, message.payload)).collect();
    assert!(delivered == expected, "the same ids and the same bytes on both sides");
    assert_eq!((ledger.unverified, ledger.changed_bodies), (0, 0));
    assert_eq!(ledger.duplicates(), 0, "nothing failed, so nothing came twice");
    assert_eq!(platform.dead_letters().await.len(), 0);
}
