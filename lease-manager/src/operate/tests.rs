//! What is said about each standing, from hand-made readings.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use super::checkpoint::plan as plan_set;
use super::release::plan as plan_release;
use super::survey::Looker;
use super::*;
use crate::checkpoint::Checkpoint;
use crate::ids::{Incarnation, LaneName, LeaseCounter, ShardId, WorkerId};
use crate::lease::{Grant, LanePosition};
use crate::worker::{Ask, WorkerRecord, WorkerState};

fn lane(name: &str) -> LaneName {
    LaneName::parse(name).unwrap()
}

fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

fn shard(n: u32) -> ShardId {
    ShardId::parse(format!("shardId-{n:012}")).unwrap()
}

fn key(n: u32) -> LeaseKey {
    LeaseKey::of_shard(&shard(n))
}

fn at(text: &str) -> Checkpoint {
    Checkpoint::parse(text, 0).unwrap()
}

/// A lease of shard `n` at `checkpoint`, given by this product to `owner` in life 1.
fn lease(n: u32, checkpoint: &str, owner: Option<&str>) -> LeaseRecord {
    let mut lease = LeaseRecord::new(key(n), at(checkpoint), 1_000);
    lease.counter = LeaseCounter(3);
    lease.owner = owner.map(id);
    lease.grant = owner.map(|_| Grant { counter: LeaseCounter(3), incarnation: Incarnation(1) });
    lease.reason = Some("owner-dead".to_owned());
    lease
}

fn worker(name: &str, state: WorkerState) -> WorkerRecord {
    WorkerRecord {
        beat: 10,
        state,
        version: "1.2.3".to_owned(),
        max_leases: 10,
        ..WorkerRecord::joining(id(name), Incarnation(1), 1_700_000_000_000)
    }
}

/// A look of 2.5 s: the heartbeats of all workers but those in `still` move.
fn survey(leases: Vec<LeaseRecord>, workers: Vec<WorkerRecord>, still: &[&str]) -> Survey {
    survey_of(&["orders"], leases, workers, still)
}

fn survey_of(
    streams: &[&str],
    leases: Vec<LeaseRecord>,
    workers: Vec<WorkerRecord>,
    still: &[&str],
) -> Survey {
    let lanes = vec![lane("deliver"), lane("store")];
    let options = Options::new("app", id("operator"), lanes, Vec::new());
    let streams = streams.iter().map(|name| (*name).to_owned()).collect();
    let mut looker = Looker::new(&options, streams);
    looker.leases_first(&leases);
    let base = Instant::now();
    for second in 0..3 {
        let moment = base + Duration::from_secs(second);
        let beating = |worker: &WorkerRecord| {
            let mut worker = worker.clone();
            let stands = still.contains(&worker.id.as_str()) || !worker.state.is_live();
            worker.beat += if stands { 0 } else { second };
            (worker.id.clone(), worker)
        };
        let members = workers.iter().map(beating).collect();
        looker.workers(Reading { started: moment, ended: moment }, members);
    }
    let moment = base + Duration::from_secs(3);
    let listing = Listing { leases, ..Listing::default() };
    looker.finish(Reading { started: moment, ended: moment }, listing, 1_700_000_010_000)
}

fn fleet() -> Vec<WorkerRecord> {
    vec![worker("a", WorkerState::Active), worker("b", WorkerState::Active)]
}

fn why(survey: &Survey, n: u32) -> Why {
    survey.why(&key(n)).unwrap()
}

fn says(why: &Why, answer: &str, fact: &str, next: &str) {
    let facts = why.facts.join("\n");
    let steps = why.next.join("\n");
    assert!(why.answer.contains(answer), "{answer:?}: {why:#?}");
    assert!(facts.contains(fact), "{fact:?}: {why:#?}");
    assert!(steps.contains(next), "{next:?}: {why:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_owned_lease_says_who_how_far_and_that_the_heart_beats() {
    let mut owned = lease(1, "7", Some("a"));
    let position = |text, behind_ms| LanePosition { behind_ms, ..LanePosition::at(at(text)) };
    owned.lanes = BTreeMap::from([
        (lane("deliver"), position("7", 2_500)),
        (lane("store"), position("9", 0)),
    ]);
    owned.read_to = Some(at("12"));
    let why = why(&survey(vec![owned], fleet(), &[]), 1);
    assert_eq!((why.state, why.counter), (State::Owned, LeaseCounter(3)));
    says(&why, "owned by a", "its heartbeat moved", "leases release");
    says(&why, "", "deliver has settled everything up to 7; 2.5 s behind", "");
    says(&why, "", "store has settled everything up to 9; at the tip", "");
    says(&why, "", "Counter 3. It last changed hands by `owner-dead`: its owner was declared", "");
    says(&why, "", "The reader is at 12", "");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_asked_to_move_says_so_and_an_old_request_means_nothing() {
    let ask = |counter| {
        let mut workers = fleet();
        let ask = Ask::Move { counter: LeaseCounter(counter), to: Some(id("b")) };
        workers[0].asks.insert(key(1), ask);
        why(&survey(vec![lease(1, "7", Some("a"))], workers, &[]), 1)
    };
    let moving = ask(3);
    assert_eq!(moving.state, State::Moving);
    says(&moving, "a was asked to hand it to b", "", "hands over within 5.0 s");
    assert_eq!(ask(2).state, State::Owned);
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_is_told_from_a_dead_one() {
    let silent = why(&survey(vec![lease(1, "7", Some("a"))], fleet(), &["a"]), 1);
    assert_eq!(silent.state, State::Silent);
    says(&silent, "a is silent", "stood still for the whole look", "dead once its heartbeat");
    says(&silent, "", "", "now b");

    let dead = vec![worker("a", WorkerState::Dead), worker("b", WorkerState::Active)];
    let orphan = why(&survey(vec![lease(1, "7", Some("a"))], dead, &[]), 1);
    assert_eq!(orphan.state, State::Orphan);
    says(&orphan, "a was declared dead", "no heartbeat is expected", "The leader b gives it to b");

    let stopped = vec![worker("a", WorkerState::Stopped)];
    let orphan = why(&survey(vec![lease(1, "7", Some("a"))], stopped, &[]), 1);
    says(&orphan, "a stopped in good order", "", "until a worker starts");
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_no_fleet_table_and_an_owner_of_another_life_are_named() {
    let unknown = why(&survey(vec![lease(1, "7", Some("gone"))], fleet(), &[]), 1);
    assert_eq!(unknown.state, State::Silent);
    says(&unknown, "gone is silent", "gone is in no fleet table", "");

    let mut workers = fleet();
    workers[0].incarnation = Incarnation(2);
    let restarted = why(&survey(vec![lease(1, "7", Some("a"))], workers, &[]), 1);
    says(&restarted, "a was started again", "its present life is 2", "The leader a gives it to a");
}

#[tokio::test(start_paused = true)]
async fn a_draining_owner_says_where_its_leases_go() {
    let mut workers = fleet();
    workers[0].state = WorkerState::Draining;
    let draining = why(&survey(vec![lease(1, "7", Some("a"))], workers, &[]), 1);
    assert_eq!(draining.state, State::Draining);
    says(&draining, "a is stopping", "", "now b");
    let alone = vec![worker("a", WorkerState::Draining)];
    let draining = why(&survey(vec![lease(1, "7", Some("a"))], alone, &[]), 1);
    says(&draining, "", "", "no other worker that lives");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_kcl_is_foreign_until_it_stood_still() {
    let mut kcl = lease(1, "7", Some("worker-A"));
    (kcl.grant, kcl.rev, kcl.reason) = (None, None, None);
    kcl.checkpoint_owner = Some(id("worker-B"));
    let foreign = why(&survey(vec![kcl], fleet(), &[]), 1);
    assert_eq!(foreign.state, State::Foreign);
    says(&foreign, "not of this fleet", "counter stood still", "stood still for 30.0 s");
    says(&foreign, "", "worker-B may still set a checkpoint", "now a");
}

#[tokio::test(start_paused = true)]
async fn a_child_waits_for_the_parents_that_are_still_open() {
    let (done, open) = (lease(1, "SHARD_END", None), lease(2, "7", Some("a")));
    let mut child = lease(3, "TRIM_HORIZON", None);
    child.parents = BTreeSet::from([shard(1), shard(2)]);
    let waiting = why(&survey(vec![done, open, child], fleet(), &[]), 3);
    assert_eq!(waiting.state, State::Waiting);
    says(&waiting, "waits for shardId-000000000002 (at 7, owned by a).", "", "as soon as these");
    says(&waiting, "", "deliver has not started: it waits for its end in shardId-000000000002", "");
}

#[tokio::test(start_paused = true)]
async fn what_is_finished_trimmed_or_not_configured_says_so() {
    let mut done = lease(1, "SHARD_END", Some("a"));
    done.read_to = Some(Checkpoint::ShardEnd);
    done.children = BTreeSet::from([shard(2), shard(3)]);
    let mut trimmed = lease(2, "SHARD_END", None);
    trimmed.reason = Some("trimmed".to_owned());
    let survey_ = survey(vec![done, trimmed], fleet(), &[]);
    let finished = why(&survey_, 1);
    assert_eq!(finished.state, State::Finished);
    says(&finished, "is finished", "shardId-000000000003 (which has no lease)", "is deleted once");
    says(&finished, "", "shardId-000000000002 (finished)", "");
    assert_eq!(why(&survey_, 2).state, State::Trimmed);
    says(&why(&survey_, 2), "lost to retention", "", "nothing brings");

    let two = survey_of(&["orders", "events"], vec![lease(1, "7", None)], fleet(), &[]);
    assert_eq!(why(&two, 1).state, State::NotConfigured);
    says(&why(&two, 1), "orders and events", "", "Nothing, until");
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_found_by_key_id_or_number_and_an_ambiguous_one_names_the_keys() {
    let one = survey(vec![lease(1, "7", None), lease(12, "7", None)], fleet(), &[]);
    for name in ["shardId-000000000012", "12"] {
        assert_eq!(one.find(name), Ok(key(12)));
    }
    let none = one.find("shardId-7").unwrap_err().to_string();
    assert!(none.contains("no lease of a shard `shardId-7`"), "{none}");
    assert!(none.contains("2 leases, such as shardId-000000000001"), "{none}");

    let of = |stream: &str| {
        let key = LeaseKey::parse(format!("000000000000:{stream}:1:{}", shard(1))).unwrap();
        LeaseRecord::new(key, at("7"), 0)
    };
    let two = survey_of(&["orders", "events"], vec![of("orders"), of("events")], fleet(), &[]);
    let several = two.find("1").unwrap_err().to_string();
    assert!(several.contains("000000000000:events:1:shardId-000000000001"), "{several}");
    assert!(several.contains("000000000000:orders:1:shardId-000000000001"), "{several}");
    assert_eq!(two.find(of("orders").key.as_str()), Ok(of("orders").key));
}

#[tokio::test(start_paused = true)]
async fn a_release_is_asked_only_of_an_owner_that_lives_and_for_a_worker_that_can() {
    let owned = || vec![lease(1, "7", Some("a"))];
    let (holder, asked) = plan_release(&survey(owned(), fleet(), &[]), &key(1), None).unwrap();
    assert_eq!((holder.worker, holder.incarnation), (id("a"), Incarnation(1)));
    assert_eq!((asked.owner, asked.counter, asked.to), (id("a"), LeaseCounter(3), None));

    let refused = |survey: &Survey, to: Option<&str>| {
        plan_release(survey, &key(1), to.map(id).as_ref()).unwrap_err().to_string()
    };
    let dead = vec![worker("a", WorkerState::Dead), worker("b", WorkerState::Active)];
    let text = refused(&survey(owned(), dead, &[]), None);
    assert!(text.contains("declared dead") && text.contains("gives it to b"), "{text}");
    let text = refused(&survey(owned(), fleet(), &["a"]), None);
    assert!(text.contains("a is silent"), "{text}");
    let text = refused(&survey(owned(), vec![worker("a", WorkerState::Active)], &[]), None);
    assert!(text.contains("no other worker"), "{text}");
    let text = refused(&survey(owned(), fleet(), &[]), Some("a"));
    assert!(text.contains("owns it already; workers that can: b"), "{text}");
    let text = refused(&survey(owned(), fleet(), &["b"]), Some("b"));
    assert!(text.contains("its heartbeat stands still; workers that can: none"), "{text}");
    let text = refused(&survey(owned(), fleet(), &[]), Some("c"));
    assert!(text.contains("in no fleet table"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_not_set_under_a_live_owner_unless_it_is_forced() {
    let position: Position = "5".parse().unwrap();
    let set = |survey: &Survey, n, force| plan_set(survey, &key(n), &position, None, force, 9);
    for still in [&[][..], &["a"][..]] {
        let owned = survey(vec![lease(1, "7", Some("a"))], fleet(), still);
        let refused = set(&owned, 1, false).unwrap_err();
        assert!(matches!(refused, Refusal::Owned { .. }), "{refused}");
        let plan = set(&owned, 1, true).unwrap();
        assert_eq!(plan.fences, Some(id("a")));
        assert!(plan.steps.iter().all(|step| step.kind == StepKind::ReadAgain), "{plan:?}");
    }
    let dead = vec![worker("a", WorkerState::Dead)];
    let plan = set(&survey(vec![lease(1, "7", Some("a"))], dead, &[]), 1, false).unwrap();
    assert_eq!(plan.fences, None);

    let mut child = lease(3, "TRIM_HORIZON", None);
    child.parents = BTreeSet::from([shard(1)]);
    let waiting = survey(vec![lease(1, "7", Some("a")), child], fleet(), &[]);
    assert!(matches!(set(&waiting, 3, true), Err(Refusal::Waits(_))));
    let done = survey(vec![lease(1, "SHARD_END", None)], fleet(), &[]);
    assert!(matches!(set(&done, 1, true), Err(Refusal::Contradicts(_))));
    let unknown = survey(vec![lease(1, "7", None)], fleet(), &[]);
    let other = plan_set(&unknown, &key(1), &position, Some(&lane("other")), false, 9);
    let text = other.unwrap_err().to_string();
    assert!(text.contains("no lane `other`; the lanes are deliver, store"), "{text}");
}
