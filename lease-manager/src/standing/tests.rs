use super::*;
use crate::checkpoint::Checkpoint;
use crate::ids::{LeaseCounter, ShardId};
use crate::lease::{Grant, HashRange};
use tokio::time::Instant;

fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

fn key(shard: &str) -> LeaseKey {
    LeaseKey::parse(shard).unwrap()
}

fn worker(name: &str, incarnation: u64, state: WorkerState) -> WorkerRecord {
    WorkerRecord { state, ..WorkerRecord::joining(id(name), Incarnation(incarnation), 0) }
}

fn snapshot(workers: impl IntoIterator<Item = WorkerRecord>) -> Snapshot {
    let workers = workers.into_iter().map(|worker| (worker.id.clone(), worker)).collect();
    Snapshot { workers, ..Snapshot::default() }
}

fn lease(shard: &str, owner: Option<(&str, Option<u64>)>) -> LeaseRecord {
    let mut lease = LeaseRecord::new(key(shard), Checkpoint::TrimHorizon, 0);
    lease.counter = LeaseCounter(3);
    lease.owner = owner.map(|(name, _)| id(name));
    let grant = |life| Grant { counter: LeaseCounter(3), incarnation: Incarnation(life) };
    lease.grant = owner.and_then(|(_, life)| life).map(grant);
    lease
}

fn options() -> Options {
    Options::new("app", id("me"), vec![LaneName::parse("sync-store").unwrap()], vec![])
}

fn at(second: u64, base: Instant) -> Reading {
    let moment = base + Duration::from_secs(second);
    Reading { started: moment, ended: moment }
}

fn once(leases: &[LeaseRecord], fleet: &Snapshot) -> BTreeMap<LeaseKey, Standing> {
    standings(LeaseWatch::new(&options()).read(at(0, Instant::now()), leases, fleet))
}

fn standings(judgements: BTreeMap<LeaseKey, Judgement>) -> BTreeMap<LeaseKey, Standing> {
    judgements.into_iter().map(|(key, judgement)| (key, judgement.standing)).collect()
}

fn orphan(why: OrphanReason) -> Standing {
    Standing::Orphan { why, for_ms: 0 }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_an_orphan_when_the_life_that_was_given_it_is_over() {
    use WorkerState::{Active, Dead, Draining, Stopped};
    let fleet = snapshot([
        worker("active", 5, Active),
        worker("draining", 5, Draining),
        worker("stopped", 5, Stopped),
        worker("dead", 5, Dead),
    ]);
    let cases = [
        (None, orphan(OrphanReason::Unowned)),
        (Some(("active", Some(5))), Standing::Owned),
        (Some(("draining", Some(5))), Standing::Owned),
        (Some(("stopped", Some(5))), orphan(OrphanReason::OwnerStopped)),
        (Some(("dead", Some(5))), orphan(OrphanReason::OwnerDead)),
        (Some(("active", Some(4))), orphan(OrphanReason::OwnerRestarted)),
        // The reading of the fleet is older than the owner's newest life.
        (Some(("dead", Some(6))), Standing::Owned),
        (Some(("nobody-knows", Some(5))), Standing::Owned),
        (Some(("active", None)), Standing::Foreign),
    ];
    for (owner, expected) in cases {
        let standings = once(&[lease("shardId-0", owner)], &fleet);
        assert_eq!(standings[&key("shardId-0")], expected, "{owner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_no_fleet_table_is_waited_for() {
    let lease = [lease("shardId-0", Some(("gone", Some(1))))];
    let mut fleet = snapshot([]);
    assert_eq!(once(&lease, &fleet)[&key("shardId-0")], Standing::Owned);
    fleet.unknown_owners.insert(id("gone"));
    let standing = &once(&lease, &fleet)[&key("shardId-0")];
    assert_eq!(*standing, orphan(OrphanReason::OwnerUnknown));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_owner_is_left_alone_while_its_counter_moves() {
    let base = Instant::now();
    let mut watch = LeaseWatch::new(&options());
    let mut moving = lease("shardId-0", Some(("kcl-worker", None)));
    let still = lease("shardId-1", Some(("kcl-worker", None)));
    let mut last = BTreeMap::new();
    for second in (0..=30).step_by(5) {
        moving.counter = LeaseCounter(second);
        let leases = [moving.clone(), still.clone()];
        last = standings(watch.read(at(second, base), &leases, &snapshot([])));
        if second < 30 {
            assert_eq!(last[&key("shardId-1")], Standing::Foreign, "at {second} s");
        }
    }
    assert_eq!(last[&key("shardId-0")], Standing::Foreign);
    assert_eq!(last[&key("shardId-1")], orphan(OrphanReason::ForeignOwnerSilent));
}

#[tokio::test(start_paused = true)]
async fn a_child_waits_for_every_parent_that_has_a_lease() {
    let mut child = lease("shardId-9", None);
    child.parents = ["shardId-0", "shardId-1"].map(|id| ShardId::parse(id).unwrap()).into();
    let mut parents = [lease("shardId-0", None), lease("shardId-1", None)];
    parents[0].checkpoint = Checkpoint::ShardEnd;
    let [first, second] = parents.clone();
    let standing = |leases: &[LeaseRecord]| once(leases, &snapshot([]))[&key("shardId-9")].clone();
    assert_eq!(
        standing(&[first.clone(), second.clone(), child.clone()]),
        Standing::WaitsForParents
    );
    assert_eq!(standing(&[first.clone(), child.clone()]), orphan(OrphanReason::Unowned));
    parents[1].checkpoint = Checkpoint::ShardEnd;
    let both = [first, parents[1].clone(), child];
    assert_eq!(standing(&both), orphan(OrphanReason::Unowned));
    assert_eq!(once(&both, &snapshot([]))[&key("shardId-0")], Standing::Finished);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_an_orphan_counts_from_the_first_reading_that_showed_it() {
    let base = Instant::now();
    let mut watch = LeaseWatch::new(&options());
    let leases = [lease("shardId-0", None)];
    watch.read(at(0, base), &leases, &snapshot([]));
    let standings = standings(watch.read(at(5, base), &leases, &snapshot([])));
    let expected = Standing::Orphan { why: OrphanReason::Unowned, for_ms: 5_000 };
    assert_eq!(standings[&key("shardId-0")], expected);
}

#[test]
fn the_leader_is_the_first_that_works_by_start_time() {
    let mut old = worker("z", 1, WorkerState::Active);
    let mut young = worker("a", 1, WorkerState::Active);
    (old.started_at_ms, young.started_at_ms) = (10, 20);
    let detection = Duration::from_secs(4);
    let mut fleet = snapshot([old, young]);
    assert_eq!(leader(&fleet, detection), Some(id("z")));
    fleet.beat_age.insert(id("z"), detection);
    assert_eq!(leader(&fleet, detection), Some(id("a")));
    fleet.workers.get_mut(&id("a")).unwrap().state = WorkerState::Draining;
    assert_eq!(leader(&fleet, detection), None);
}

#[test]
fn an_ill_worker_leads_only_when_all_are_ill() {
    let mut fleet =
        snapshot([worker("a", 1, WorkerState::Active), worker("b", 1, WorkerState::Active)]);
    let detection = Duration::from_secs(4);
    let ill = |worker: &mut WorkerRecord| {
        worker.health.insert("lease-table".to_owned(), "no answer".to_owned());
    };
    ill(fleet.workers.get_mut(&id("a")).unwrap());
    assert_eq!(leader(&fleet, detection), Some(id("b")));
    ill(fleet.workers.get_mut(&id("b")).unwrap());
    assert_eq!(leader(&fleet, detection), Some(id("a")));
    assert_eq!(heads(&fleet), [id("a"), id("b")]);
}

#[tokio::test(start_paused = true)]
async fn only_a_move_that_was_seen_counts_as_one() {
    let base = Instant::now();
    let mut watch = LeaseWatch::new(&options());
    let mut lease = lease("shardId-0", Some(("a", Some(5))));
    lease.reason = Some(MOVE.to_owned());
    let mut moved_ago = |second, lease: &LeaseRecord| {
        let judgements = watch.read(at(second, base), std::slice::from_ref(lease), &snapshot([]));
        judgements[&lease.key].moved_ago
    };
    assert_eq!(moved_ago(0, &lease), None, "it may have been long ago");
    lease.counter = LeaseCounter(4);
    assert_eq!(moved_ago(5, &lease), Some(Duration::ZERO));
    assert_eq!(moved_ago(12, &lease), Some(Duration::from_secs(7)));
    (lease.counter, lease.reason) = (LeaseCounter(5), Some("owner-dead".to_owned()));
    assert_eq!(moved_ago(20, &lease), None);
}

#[tokio::test(start_paused = true)]
async fn l4_a_merged_shard_waits_for_a_parent_that_has_no_lease_yet() {
    let of = |shard: &str, (start, end): (u128, u128), parents: &[&str]| {
        let mut lease = lease(shard, None);
        lease.hash_range = Some(HashRange { start, end });
        lease.parents = parents.iter().map(|id| ShardId::parse(*id).unwrap()).collect();
        lease
    };
    // 2 and 3 were merged to 4 (no lease before 2 and 3 are read), and 1 and 4 to 5 (made by the end of 1).
    let mut one = of("shardId-1", (0, 9), &[]);
    one.checkpoint = Checkpoint::ShardEnd;
    let (mut two, three) = (of("shardId-2", (10, 14), &[]), of("shardId-3", (15, 19), &[]));
    let five = of("shardId-5", (0, 19), &["shardId-1", "shardId-4"]);
    let mut six = of("shardId-6", (0, 19), &["shardId-5"]);
    let standing = |leases: &[LeaseRecord]| once(leases, &snapshot([]))[&key("shardId-5")].clone();
    let leases = [one.clone(), two.clone(), three.clone(), five.clone()];
    assert_eq!(standing(&leases), Standing::WaitsForParents);
    two.checkpoint = Checkpoint::ShardEnd;
    let leases = [one.clone(), two.clone(), three.clone(), five.clone()];
    assert_eq!(standing(&leases), Standing::WaitsForParents, "3 is not finished");
    // Nothing that is still to be read leads to 4: it was settled long ago. Descendants hold nobody back.
    six.owner = None;
    assert_eq!(standing(&[one, two, five, six]), orphan(OrphanReason::Unowned));
}
