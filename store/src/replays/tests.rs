//! Replays over a real SDK client and an embedded DynamoDB.

use local_aws::Effect;

use super::*;
use crate::testing::{APP, NOW, calls, dynamodb, fail, random, repeating_client_of};

const LEASE: Duration = Duration::from_secs(15);

fn range(to_ms: i64) -> ReplayOf {
    ReplayOf::Range { from_ms: 0, to_ms, only: Vec::new() }
}

fn replay(seed: u64, created_at_ms: i64) -> Replay {
    let subscription = SubscriptionId::parse("sub_a").unwrap();
    let id = ReplayId::generate(&mut random(seed));
    Replay::new(id, subscription, range(NOW), 100, created_at_ms)
}

fn shard(n: u32) -> ReplayPart {
    ReplayPart::new(ReplaySource::Shard {
        stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/quakes"),
        shard_id: Arc::from(format!("shardId-{n:012}")),
    })
}

async fn store() -> (local_aws::LocalAws, ReplayStore) {
    let (aws, client) = dynamodb().await;
    (aws, ReplayStore::new(client, APP))
}

#[tokio::test]
async fn a_replay_is_claimed_by_one_goes_on_from_its_progress_and_ends() {
    let (_aws, store) = store().await;
    let asked = replay(1, NOW);
    store.create(&asked).await.unwrap();
    assert_eq!(store.claimable(NOW).await.unwrap(), std::slice::from_ref(&asked.id));
    let (found, first) = store.claim(&asked.id, "w1", NOW, LEASE).await.unwrap().unwrap();
    assert_eq!((found.state, found.claims, found.is_planned), (ReplayState::Running, 1, false));
    assert!(store.claimable(NOW).await.unwrap().is_empty());
    assert!(store.claim(&asked.id, "w2", NOW + 14_999, LEASE).await.unwrap().is_none());

    let parts: Vec<ReplayPart> = (0..150).map(shard).collect();
    store.plan(&first, &parts, NOW + 1_000, LEASE).await.unwrap();
    let mut moved = shard(7);
    moved.at = Some(ReplayPlace::Record("4959".to_owned(), 3));
    (moved.reached_ms, moved.counts.read) = (Some(NOW - 5), 12);
    let counts = ReplayCounts { read: 12, matched: 4, parked: 3 };
    store.progress(&first, counts, &[moved.clone()], NOW + 2_000, LEASE).await.unwrap();
    assert!(store.claimable(NOW + 16_999).await.unwrap().is_empty(), "progress renews the claim");

    let (found, second) = store.claim(&asked.id, "w2", NOW + 17_000, LEASE).await.unwrap().unwrap();
    assert_eq!((found.counts, found.is_planned, found.claims), (counts, true, 2));
    assert_eq!((found.started_at_ms, found.runner.as_deref()), (Some(NOW), Some("w2")));
    let read_back = store.parts(&asked.id).await.unwrap();
    assert_eq!((read_back.len(), &read_back[7]), (150, &moved));
    let late =
        store.progress(&first, ReplayCounts::default(), &[shard(7)], NOW + 17_001, LEASE).await;
    assert!(late.unwrap_err().is_conflict(), "who lost the claim writes nothing");
    assert_eq!(store.parts(&asked.id).await.unwrap()[7], moved);

    store.finish(&second, ReplayState::Done, "", counts, NOW + 18_000).await.unwrap();
    assert!(store.claimable(i64::MAX).await.unwrap().is_empty());
    let ended = store.get(&asked.id, NOW + 18_000).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.ended_at_ms), (ReplayState::Done, Some(NOW + 18_000)));
    let fortnight = NOW + 18_000 + REPLAY_RETENTION.as_millis() as i64;
    assert!(store.get(&asked.id, fortnight).await.unwrap().is_none());
    assert!(store.list(fortnight).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_cancelled_is_lost_to_its_runner_and_to_nobody_else() {
    let (_aws, store) = store().await;
    let (one, two) = (replay(1, NOW), replay(2, NOW + 1));
    store.create(&one).await.unwrap();
    store.create(&two).await.unwrap();
    assert!(store.create(&one).await.unwrap_err().is_conflict());
    let (_, claim) = store.claim(&one.id, "w1", NOW, LEASE).await.unwrap().unwrap();
    assert!(store.cancel(&one.id, NOW + 5).await.unwrap());
    assert!(!store.cancel(&one.id, NOW + 6).await.unwrap(), "it is over");
    let late = store.progress(&claim, ReplayCounts::default(), &[], NOW + 7, LEASE).await;
    assert!(late.unwrap_err().is_conflict());
    let waiting = store.claimable(NOW + 10_000_000).await.unwrap();
    assert_eq!(waiting, std::slice::from_ref(&two.id));
    let states: Vec<_> =
        store.list(NOW + 7).await.unwrap().into_iter().map(|r| (r.id, r.state)).collect();
    assert_eq!(states, [(two.id, ReplayState::Queued), (one.id, ReplayState::Cancelled)]);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_again_and_one_given_back_is_free_at_once() {
    let (aws, _) = store().await;
    let store = ReplayStore::new(repeating_client_of(&aws), APP);
    let asked = replay(3, NOW);
    store.create(&asked).await.unwrap();
    fail(&aws, "UpdateItem", Effect::LostReply, 1);
    let (_, claim) = store.claim(&asked.id, "w1", NOW, LEASE).await.unwrap().unwrap();
    assert_eq!(calls(&aws, "UpdateItem"), 2);
    store.release(&claim, NOW + 1).await.unwrap();
    assert_eq!(store.claimable(NOW + 1).await.unwrap(), [asked.id]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_is_allowed() {
    let (aws, store) = store().await;
    let refused = |what, rate_per_second| {
        let replay = Replay { what, rate_per_second, ..replay(4, NOW) };
        let store = &store;
        async move { store.create(&replay).await.unwrap_err().to_string() }
    };
    assert!(refused(range(0), 1).await.contains("must end after it begins"));
    assert!(refused(range(NOW + 1), 1).await.contains("in the future"));
    assert!(refused(range(NOW), 0).await.contains("1 to 10000 is allowed"));
    assert_eq!(calls(&aws, "PutItem"), 0);
    assert!(ReplayId::parse("sub_a").unwrap_err().to_string().contains("rpl_"));
}

#[tokio::test]
async fn a_client_finds_its_own_the_newest_first_and_nobody_elses() {
    let (_aws, store) = store().await;
    let (one, other) =
        (crate::ClientId::parse("cl_1").unwrap(), crate::ClientId::parse("cl_2").unwrap());
    for (seed, at_ms) in [(1, NOW), (2, NOW + 1), (3, NOW + 2)] {
        store.create_for(&replay(seed, at_ms), &one).await.unwrap();
    }
    store.create_for(&replay(4, NOW + 3), &other).await.unwrap();
    assert!(store.create_for(&replay(4, NOW), &one).await.unwrap_err().is_conflict());
    let ids = async |client| -> Vec<ReplayId> {
        let found = store.of_client(client, NOW + 5).await.unwrap();
        found.into_iter().map(|replay| replay.id).collect()
    };
    let made = |seed| replay(seed, NOW).id;
    assert_eq!(ids(&one).await, [made(3), made(2), made(1)]);
    assert_eq!(ids(&other).await, [made(4)]);
    assert_eq!(store.list(NOW + 5).await.unwrap().len(), 4);
}
