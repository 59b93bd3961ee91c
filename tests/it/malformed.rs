//! What is no message goes to the dead letters with its bytes and the reason, and holds nothing up.

use std::collections::BTreeMap;

use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_records_become_dead_letters_and_the_lanes_go_on() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let good: Vec<_> = earthquakes().into_iter().take(100).collect();
    let bad = malformed();
    let mixed: Vec<_> = good[..50]
        .iter()
        .cloned()
        .chain(bad.iter().map(|(_, data)| ("key".to_owned(), data.clone())))
        .chain(good[50..].iter().cloned())
        .collect();
    platform.aws.put("earthquakes", &mixed).await;
    platform.everything_arrived(good.len()).await;

    eventually("every malformed record is a dead letter", async || {
        match platform.dead_letters().await.len() {
            letters if letters == bad.len() => Ok(()),
            letters => Err(format!("{letters} of {} dead letters", bad.len())),
        }
    })
    .await;
    let letters = platform.dead_letters().await;
    let found: BTreeMap<_, _> =
        letters.iter().map(|letter| (letter.payload.clone(), letter.reason.clone())).collect();
    let expected: BTreeMap<_, _> =
        bad.iter().map(|(reason, data)| (data.clone(), (*reason).to_owned())).collect();
    for (data, reason) in &expected {
        assert_eq!(
            found.get(data),
            Some(reason),
            "{}",
            String::from_utf8_lossy(&data[..data.len().min(60)])
        );
    }
    assert!(letters.iter().all(|letter| !letter.detail.is_empty()), "each says what was found");

    // The lanes went past them: nothing is unsettled.
    processor.lanes_are_idle().await;
    assert_eq!(processor.stop().await.code, Some(0));
}

/// One record of each kind that is no message, with the reason it must get.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let mut broken_aggregate =
        std::fs::read("../tests/data/kpl/aggregate-python.bin").expect("the sample aggregate");
    let last = broken_aggregate.len() - 1;
    broken_aggregate[last] ^= 0xff;
    let padding = "x".repeat(70 * 1024);
    vec![
        ("not-json", b"this is not JSON".to_vec()),
        ("not-json", br#"{"properties":{"net":"us","time":1}"#.to_vec()),
        ("invalid-utf8", b"{\"properties\":{\"net\":\"\xff\xfe\",\"time\":1},\"id\":\"x\"}".to_vec()),
        ("too-large", format!(r#"{{"type":"Feature","id":"x","properties":{{"net":"us","time":1,"pad":"{padding}"}}}}"#).into_bytes()),
        ("missing-field", br#"{"type":"Feature","id":"x","properties":{"time":1517363399650}}"#.to_vec()),
        ("broken-aggregate", broken_aggregate),
        ("empty", Vec::new()),
    ]
}
