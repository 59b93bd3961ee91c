//! `kill -9` at random moments: nothing is lost, and what comes twice is bounded by the checkpoints.

use std::time::Duration;

use crate::harness::aws::Put;
use crate::harness::eventually;
use crate::harness::platform::{EARTHQUAKES, Platform, Processor, earthquakes};

/// How often the processor is killed.
const KILLS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn p1_nothing_is_lost_when_the_processor_is_killed_fifty_times() {
    let platform = Platform::start().await;
    let mut rng = fastrand::Rng::with_seed(0x51_1c_e6_a7);
    let events = earthquakes();
    let mut rest = &events[..];
    let mut put: Vec<Put> = Vec::new();
    let mut exposed = 0;
    let mut worst = 0;
    for round in 0..KILLS {
        let (now, later) = rest.split_at(rest.len() / (KILLS - round));
        rest = later;
        let before = platform.receiver.ledger();
        let processor = Processor::start(&platform).await;
        put.extend(platform.aws.put("earthquakes", now).await);
        // A random moment: before the first new delivery, between any two, or after the last.
        let target = before.messages() + rng.usize(0..=put.len() - before.messages());
        eventually("deliveries go on", async || match platform.receiver.ledger().messages() {
            messages if messages >= target => Ok(()),
            messages => Err(format!("{messages} of {target} delivered")),
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rng.u64(0..30))).await;
        processor.kill().await;
        let again = platform.receiver.ledger().duplicates() - before.duplicates();
        assert!(
            again <= exposed,
            "round {round}: {again} came again, {exposed} lay behind the checkpoints"
        );
        worst = worst.max(again);
        exposed = behind_checkpoints(&platform, &put).await;
    }
    let before = platform.receiver.ledger();
    let processor = Processor::start(&platform).await;
    platform.everything_arrived(EARTHQUAKES).await;
    let ended = processor.stop().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let ledger = platform.receiver.ledger();
    let again = ledger.duplicates() - before.duplicates();
    assert!(again <= exposed, "{again} came again at last, {exposed} lay behind the checkpoints");
    println!(
        "{KILLS} kills: {} messages stored and delivered, 0 lost, {} deliveries came again in all, at most {worst} after one kill",
        ledger.messages(),
        ledger.duplicates()
    );
    assert_eq!((ledger.unverified, ledger.changed_bodies), (0, 0));
    assert_eq!(platform.dead_letters().await.len(), 0);
}

/// Records that a restart reads again: those behind the position that the lease has for deliveries.
async fn behind_checkpoints(platform: &Platform, put: &[Put]) -> u64 {
    let checkpoints = platform.positions("async-delivery").await;
    let behind = put.iter().filter(|put| match checkpoints.get(&put.shard_id) {
        Some(checkpoint) => put.sequence > *checkpoint,
        None => true,
    });
    behind.count() as u64
}
