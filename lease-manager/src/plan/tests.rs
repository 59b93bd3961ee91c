use super::*;
use crate::checkpoint::Checkpoint;
use crate::ids::{Incarnation, LeaseCounter};
use crate::lease::Holder;
use crate::view::WorkerView;
use crate::worker::{Health, Load, WorkerState};

fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

fn key(n: usize) -> LeaseKey {
    LeaseKey::parse(format!("shardId-{n:012}")).unwrap()
}

fn worker(leases: u64) -> WorkerView {
    WorkerView {
        incarnation: Incarnation(1),
        state: WorkerState::Active,
        beat_age_ms: 0,
        started_at_ms: 0,
        max_leases: 1_000,
        version: String::new(),
        load: Load::default(),
        throughput_kbps: 0.0,
        health: Health::new(),
        moving: BTreeMap::new(),
        leases,
    }
}

fn lease(owner: Option<&str>, standing: Standing) -> LeaseView {
    LeaseView {
        shard_id: key(0).shard_id(),
        stream: None,
        owner: owner.map(id),
        counter: LeaseCounter(1),
        checkpoint: Checkpoint::TrimHorizon,
        lanes: BTreeMap::new(),
        read_to: None,
        throughput_kbps: 0.0,
        reason: None,
        parents: BTreeSet::new(),
        children: BTreeSet::new(),
        declined_by: None,
        moved_ago_ms: None,
        open_lanes: BTreeSet::new(),
        standing,
    }
}

fn orphan() -> Standing {
    Standing::Orphan { why: OrphanReason::Unowned, for_ms: 0 }
}

/// A fleet of the named workers, and leases that are owned or orphans.
fn fleet(workers: &[&str], owners: &[Option<&str>]) -> FleetView {
    let mut view = FleetView::empty(id("me"));
    for (n, owner) in owners.iter().enumerate() {
        let standing = if owner.is_some() { Standing::Owned } else { orphan() };
        view.leases.insert(key(n), lease(*owner, standing));
    }
    for name in workers {
        let owned = owners.iter().filter(|owner| **owner == Some(name)).count();
        view.workers.insert(id(name), worker(owned as u64));
    }
    view
}

fn rules() -> Rules {
    Rules::new(3_000)
}

type Moved = Vec<(LeaseKey, WorkerId, WorkerId)>;

/// A plan as who gets which orphan, and what moves from whom to whom.
fn planned(view: &FleetView) -> (BTreeMap<LeaseKey, WorkerId>, Moved) {
    let (mut assigned, mut moved) = (BTreeMap::new(), Vec::new());
    for action in plan(view, &rules()) {
        match action {
            Action::Assign { key, to, .. } => {
                assert!(assigned.insert(key, to).is_none(), "each orphan is given once");
            }
            Action::Move { key, from, to } => moved.push((key, from, to)),
        }
    }
    (assigned, moved)
}

/// Carries plan after plan out until nothing moves any more; returns how often each lease moved.
fn settle(view: &mut FleetView) -> BTreeMap<LeaseKey, usize> {
    let mut moves = BTreeMap::new();
    for _ in 0..200 {
        let (assigned, moved) = planned(view);
        if assigned.is_empty() && moved.is_empty() {
            return moves;
        }
        let moved = moved.into_iter().map(|(key, _, to)| (key, to));
        for (key, to) in assigned.into_iter().chain(moved.inspect(|(key, _)| {
            *moves.entry(key.clone()).or_insert(0) += 1;
        })) {
            let lease = view.leases.get_mut(&key).unwrap();
            (lease.owner, lease.standing) = (Some(to), Standing::Owned);
        }
    }
    panic!("the plan never comes to rest");
}

fn counts(view: &FleetView) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> =
        view.workers.keys().map(|id| (id.to_string(), 0)).collect();
    for owner in view.leases.values().filter_map(|lease| lease.owner.as_ref()) {
        *counts.entry(owner.to_string()).or_default() += 1;
    }
    counts
}

fn throughput(view: &FleetView, worker: &str) -> f64 {
    let owned = view.leases.values().filter(|lease| lease.owner == Some(id(worker)));
    owned.map(|lease| lease.throughput_kbps).sum()
}

#[test]
fn orphans_are_shared_out_evenly() {
    let view = fleet(&["a", "b", "c"], &[None; 100]);
    let (assigned, moved) = planned(&view);
    assert_eq!(assigned.len(), 100);
    assert!(moved.is_empty());
    for name in ["a", "b", "c"] {
        let got = assigned.values().filter(|to| **to == id(name)).count();
        assert!((33..=34).contains(&got), "{name}: {got}");
    }
}

#[test]
fn an_orphan_goes_back_to_the_name_that_had_it() {
    let mut view = fleet(&["a", "b"], &[Some("b"); 4]);
    let why = OrphanReason::OwnerRestarted;
    view.leases.values_mut().for_each(|l| l.standing = Standing::Orphan { why, for_ms: 0 });
    let (assigned, _) = planned(&view);
    assert!(assigned.len() == 4 && assigned.values().all(|to| *to == id("b")));
}

#[test]
fn orphans_that_carry_much_go_to_those_who_carry_little() {
    let mut view = fleet(&["a", "b", "c"], &[Some("a"), Some("b"), None, None]);
    let loads = [6_000.0, 2_000.0, 3_000.0, 3_000.0];
    for (lease, kbps) in view.leases.values_mut().zip(loads) {
        lease.throughput_kbps = kbps;
    }
    let (assigned, _) = planned(&view);
    assert_eq!(assigned, BTreeMap::from([(key(2), id("c")), (key(3), id("b"))]));
}

#[test]
fn the_surplus_moves_until_nobody_has_two_more_than_another() {
    let mut view = fleet(&["a", "b", "c"], &[Some("a"); 9]);
    let moves = settle(&mut view);
    assert_eq!(moves.len(), 6);
    assert!(moves.values().all(|times| *times == 1));
    assert!(counts(&view).values().all(|owned| *owned == 3));
    // One more than the others is no reason to move.
    let owners = [Some("a"), Some("a"), Some("a"), Some("b"), Some("b")];
    assert_eq!(planned(&fleet(&["a", "b"], &owners)), (BTreeMap::new(), vec![]));
}

#[test]
fn one_plan_moves_a_bounded_share_and_counts_what_is_on_its_way() {
    let mut view = fleet(&["a", "b"], &[Some("a"); 400]);
    let (_, moved) = planned(&view);
    assert_eq!(moved.len(), 60);
    let moving = moved.iter().map(|(key, _, to)| (key.clone(), Some(to.clone())));
    view.workers.get_mut(&id("a")).unwrap().moving = moving.collect();
    assert_eq!(planned(&view).1, vec![], "all of the share is on its way");
    let few: BTreeMap<_, _> = view.workers[&id("a")].moving.clone().into_iter().take(50).collect();
    view.workers.get_mut(&id("a")).unwrap().moving = few.clone();
    let (_, moved) = planned(&view);
    assert_eq!(moved.len(), 10);
    assert!(moved.iter().all(|(key, ..)| !few.contains_key(key)), "none is asked for twice");
}

#[test]
fn what_is_moving_already_is_not_moved_again() {
    let mut view = fleet(&["a", "b"], &[Some("a"); 4]);
    view.workers.get_mut(&id("a")).unwrap().moving =
        BTreeMap::from([(key(2), Some(id("b"))), (key(3), Some(id("b")))]);
    assert_eq!(planned(&view), (BTreeMap::new(), vec![]));
}

#[test]
fn a_lease_rests_after_a_move() {
    let mut view = fleet(&["a", "b"], &[Some("a"); 6]);
    view.leases.values_mut().for_each(|lease| lease.moved_ago_ms = Some(19_999));
    assert_eq!(planned(&view).1, vec![]);
    view.leases.get_mut(&key(5)).unwrap().moved_ago_ms = Some(20_000);
    assert_eq!(planned(&view).1, vec![(key(5), id("a"), id("b"))]);
}

#[test]
fn throughput_comes_before_counts_and_comes_to_rest() {
    // Two hot shards among idle ones, all with the same worker.
    let mut view = fleet(&["a", "b"], &[Some("a"); 10]);
    for n in [0, 1] {
        view.leases.get_mut(&key(n)).unwrap().throughput_kbps = 4_000.0;
    }
    settle(&mut view);
    assert_eq!((throughput(&view, "a"), throughput(&view, "b")), (4_000.0, 4_000.0));
    assert_eq!(counts(&view), BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]));
    // One hot shard cannot be shared: the idle ones go to the other, as far as counts say.
    let mut view = fleet(&["a", "b"], &[Some("a"); 3]);
    view.leases.get_mut(&key(1)).unwrap().throughput_kbps = 9_000.0;
    settle(&mut view);
    assert_eq!(throughput(&view, "a") + throughput(&view, "b"), 9_000.0);
    assert_eq!(planned(&view).1, vec![]);
}

#[test]
fn noise_in_throughput_moves_nothing() {
    let mut random = fastrand::Rng::with_seed(7);
    let owners: Vec<_> = (0..40).map(|n| Some(["a", "b", "c", "d"][n % 4])).collect();
    let mut view = fleet(&["a", "b", "c", "d"], &owners);
    for _ in 0..200 {
        for lease in view.leases.values_mut() {
            lease.throughput_kbps = 500.0 * (0.9 + 0.2 * random.f64());
        }
        assert_eq!(planned(&view), (BTreeMap::new(), vec![]));
    }
    // Idle shards with a trickle neither.
    for lease in view.leases.values_mut() {
        lease.throughput_kbps = random.f64() * 20.0;
    }
    assert_eq!(planned(&view), (BTreeMap::new(), vec![]));
}

#[test]
fn any_fleet_comes_to_rest_even_and_hardly_moves_anything_twice() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "c", "d", "e"];
        let workers = &names[..random.usize(1..=5)];
        let owner = |random: &mut fastrand::Rng| {
            random.bool().then(|| workers[random.usize(..workers.len())])
        };
        let owners: Vec<_> = (0..random.usize(1..60)).map(|_| owner(&mut random)).collect();
        let mut view = fleet(workers, &owners);
        for lease in view.leases.values_mut() {
            let hot = random.u8(0..5) == 0;
            lease.throughput_kbps = if hot { random.f64() * 2_000.0 } else { random.f64() * 50.0 };
        }
        let moves = settle(&mut view);
        let twice = moves.values().filter(|times| **times > 1).count();
        assert!(twice * 5 <= view.leases.len(), "seed {seed}: {moves:?}");
        let kbps: Vec<f64> = workers.iter().map(|name| throughput(&view, name)).collect();
        let (most, least) =
            kbps.iter().fold((0.0_f64, f64::MAX), |(m, l), k| (m.max(*k), l.min(*k)));
        let worth = 512.0_f64.max(kbps.iter().sum::<f64>() / kbps.len() as f64 * 0.2);
        let hottest =
            view.leases.values().map(|lease| lease.throughput_kbps).fold(0.0_f64, f64::max);
        assert!(most - least <= worth.max(hottest * 1.5), "seed {seed}: {kbps:?}");
    }
}

#[test]
fn a_larger_worker_carries_more() {
    let mut view = fleet(&["big", "small"], &[]);
    for n in 0..30 {
        let mut lease = lease(Some(if n < 15 { "big" } else { "small" }), Standing::Owned);
        lease.throughput_kbps = 400.0;
        view.leases.insert(key(n), lease);
    }
    for (name, cpu_percent) in [("big", 30.0), ("small", 90.0)] {
        let worker = view.workers.get_mut(&id(name)).unwrap();
        (worker.load.cpu_percent, worker.throughput_kbps) = (cpu_percent, 6_000.0);
    }
    settle(&mut view);
    let (big, small) = (throughput(&view, "big"), throughput(&view, "small"));
    assert!(big > small * 1.8, "{big} {small}");
}

#[test]
fn a_worker_takes_no_more_than_it_can_own_and_others_take_the_rest() {
    let mut view = fleet(&["a", "b"], &[None; 10]);
    view.workers.get_mut(&id("a")).unwrap().max_leases = 2;
    let (assigned, _) = planned(&view);
    assert_eq!(assigned.values().filter(|to| **to == id("a")).count(), 2);
    assert_eq!(assigned.len(), 10);
    view.workers.get_mut(&id("b")).unwrap().max_leases = 3;
    assert_eq!(planned(&view).0.len(), 5, "the rest waits for room");
}

#[test]
fn who_drains_is_silent_or_is_ill_gets_nothing() {
    let change = |change: fn(&mut WorkerView)| {
        let mut view = fleet(&["a", "b"], &[None; 4]);
        change(view.workers.get_mut(&id("b")).unwrap());
        planned(&view).0.into_values().collect::<BTreeSet<_>>()
    };
    let only_a = BTreeSet::from([id("a")]);
    assert_eq!(change(|b| b.state = WorkerState::Draining), only_a);
    assert_eq!(change(|b| b.beat_age_ms = 3_000), only_a);
    let ill = |worker: &mut WorkerView| {
        worker.health.insert("kinesis".to_owned(), "no answer".to_owned());
    };
    assert_eq!(change(ill), only_a);
    // Where all are equally ill, somebody has to do it.
    let mut view = fleet(&["a", "b"], &[None; 4]);
    view.workers.values_mut().for_each(ill);
    assert_eq!(planned(&view).0.len(), 4);
    view.workers.values_mut().for_each(|worker| worker.beat_age_ms = 9_000);
    assert_eq!(planned(&view).0.len(), 0);
}

#[test]
fn only_orphans_are_given_away() {
    let mut view = fleet(&["a"], &[None; 4]);
    let standings =
        [Standing::WaitsForParents, Standing::Finished, Standing::Foreign, Standing::Owned];
    for (lease, standing) in view.leases.values_mut().zip(standings) {
        lease.standing = standing;
    }
    assert_eq!(planned(&view), (BTreeMap::new(), vec![]));
}

#[test]
fn a_lease_that_a_worker_declined_goes_to_another_while_there_is_one() {
    let decline = |view: &mut FleetView, name: &str, life| {
        let by = Holder { worker: id(name), incarnation: Incarnation(life) };
        view.leases.values_mut().for_each(|lease| lease.declined_by = Some(by.clone()));
    };
    let mut view = fleet(&["a", "b"], &[None; 6]);
    decline(&mut view, "a", 1);
    assert!(planned(&view).0.values().all(|to| *to == id("b")));
    // A later life of the same name is another worker.
    view.workers.get_mut(&id("a")).unwrap().incarnation = Incarnation(2);
    assert!(planned(&view).0.values().any(|to| *to == id("a")));
    let mut alone = fleet(&["a"], &[None]);
    decline(&mut alone, "a", 1);
    assert_eq!(planned(&alone).0.len(), 1, "there is nobody else");
    // Nor is it moved back for the sake of balance.
    let mut view = fleet(&["a", "b"], &[Some("b"); 6]);
    decline(&mut view, "a", 1);
    assert_eq!(planned(&view).1, vec![]);
}

#[test]
fn an_heir_works_is_fresh_is_well_and_is_the_least_loaded() {
    let mut view = fleet(&["a", "b", "c", "d"], &[Some("b"), Some("c"), Some("c")]);
    view.workers.get_mut(&id("d")).unwrap().beat_age_ms = 3_500;
    let none = BTreeMap::new();
    let heir = |view: &FleetView, given: &BTreeMap<WorkerId, u64>, unfit: &[&str]| {
        super::heir(view, &id("a"), 3_000, given, &unfit.iter().map(|name| id(name)).collect())
    };
    assert_eq!(heir(&view, &none, &[]), Some(id("b")));
    assert_eq!(heir(&view, &none, &["b"]), Some(id("c")));
    assert_eq!(heir(&view, &none, &["b", "c"]), None);
    assert_eq!(heir(&view, &BTreeMap::from([(id("b"), 2)]), &[]), Some(id("c")));
    let b = view.workers.get_mut(&id("b")).unwrap();
    b.health.insert("kinesis".to_owned(), "no answer".to_owned());
    assert_eq!(heir(&view, &none, &[]), Some(id("c")));
    assert_eq!(heir(&fleet(&["a"], &[]), &none, &[]), None);
}

#[test]
fn a_peer_is_no_worse_when_it_works_and_has_no_more_ailments() {
    let mut view = fleet(&["a", "b"], &[]);
    assert!(peer_is_no_worse(&view, &id("a"), 3_000));
    let ill = |worker: &mut WorkerView| {
        worker.health.insert("kinesis".to_owned(), "no answer".to_owned());
    };
    ill(view.workers.get_mut(&id("b")).unwrap());
    assert!(!peer_is_no_worse(&view, &id("a"), 3_000));
    ill(view.workers.get_mut(&id("a")).unwrap());
    assert!(peer_is_no_worse(&view, &id("a"), 3_000));
    assert!(!peer_is_no_worse(&fleet(&["a"], &[]), &id("a"), 3_000));
}
