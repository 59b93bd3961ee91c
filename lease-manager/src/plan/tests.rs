use super::*;
use crate::checkpoint::Checkpoint;
use crate::ids::{Incarnation, LeaseCounter};
use crate::view::{LeaseView, WorkerView};
use crate::worker::Load;

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

fn wishes() -> Wishes {
    Wishes { anybody_after_ms: 12_000, ..Wishes::default() }
}

type Takers = BTreeMap<LeaseKey, Vec<WorkerId>>;

/// What every worker of the fleet would do with the same view: each key's new owners.
fn everybody(view: &FleetView) -> (Takers, Vec<(LeaseKey, WorkerId)>) {
    let (mut taken, mut moved) = (Takers::new(), Vec::new());
    for me in view.workers.keys() {
        for action in plan_takes(view, me, &wishes()) {
            match action {
                Action::Take { key, .. } => taken.entry(key).or_default().push(me.clone()),
                Action::HandOver { key, to } => moved.push((key, to)),
            }
        }
    }
    (taken, moved)
}

#[test]
fn workers_that_see_the_same_fleet_share_the_orphans_without_a_collision() {
    let view = fleet(&["a", "b", "c"], &[None; 100]);
    let (taken, moved) = everybody(&view);
    assert_eq!(taken.len(), 100);
    assert!(taken.values().all(|takers| takers.len() == 1));
    assert!(moved.is_empty());
    for me in ["a", "b", "c"] {
        let mine = taken.values().filter(|takers| takers[0] == id(me)).count();
        assert!((33..=34).contains(&mine), "{me}: {mine}");
    }
}

#[test]
fn an_orphan_goes_back_to_the_name_that_had_it() {
    let mut view = fleet(&["a", "b"], &[Some("b"); 4]);
    let why = OrphanReason::OwnerRestarted;
    view.leases.values_mut().for_each(|l| l.standing = Standing::Orphan { why, for_ms: 0 });
    view.workers.insert(id("b"), worker(0));
    assert_eq!(plan_takes(&view, &id("a"), &wishes()), vec![]);
    assert_eq!(plan_takes(&view, &id("b"), &wishes()).len(), 4);
}

#[test]
fn the_surplus_moves_until_nobody_has_two_more_than_another() {
    let owners: Vec<_> = (0..9).map(|_| Some("a")).collect();
    let (taken, moved) = everybody(&fleet(&["a", "b", "c"], &owners));
    assert!(taken.is_empty());
    let to = |name: &str| moved.iter().filter(|(_, to)| *to == id(name)).count();
    assert_eq!((to("b"), to("c")), (3, 3));
    // One more than the others is no reason to move.
    let owners = [Some("a"), Some("a"), Some("a"), Some("b"), Some("b")];
    assert_eq!(everybody(&fleet(&["a", "b"], &owners)), (BTreeMap::new(), vec![]));
}

#[test]
fn several_overloaded_owners_fill_a_new_worker_exactly() {
    let owners: Vec<_> = (0..20).map(|n| Some(if n % 2 == 0 { "a" } else { "b" })).collect();
    let (_, moved) = everybody(&fleet(&["a", "b", "c"], &owners));
    assert_eq!(moved.len(), 6);
    assert!(moved.iter().all(|(_, to)| *to == id("c")));
    let keys: BTreeSet<_> = moved.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 6);
}

#[test]
fn what_is_moving_already_is_not_moved_again() {
    let owners: Vec<_> = (0..4).map(|_| Some("a")).collect();
    let view = fleet(&["a", "b"], &owners);
    let moving = BTreeMap::from([(key(2), Some(id("b"))), (key(3), Some(id("b")))]);
    let wishes = Wishes { moving, ..wishes() };
    assert_eq!(plan_takes(&view, &id("a"), &wishes), vec![]);
}

#[test]
fn a_worker_takes_no_more_than_it_can_own_and_others_take_the_rest() {
    let mut view = fleet(&["a", "b"], &[None; 10]);
    view.workers.get_mut(&id("a")).unwrap().max_leases = 2;
    let (taken, _) = everybody(&view);
    assert_eq!(taken.len(), 10);
    assert_eq!(taken.values().filter(|takers| takers[0] == id("a")).count(), 2);
}

#[test]
fn draining_and_silent_workers_get_nothing() {
    let mut view = fleet(&["a", "b"], &[None; 4]);
    view.workers.get_mut(&id("b")).unwrap().state = WorkerState::Draining;
    assert_eq!(plan_takes(&view, &id("a"), &wishes()).len(), 4);
    assert_eq!(plan_takes(&view, &id("b"), &wishes()), vec![]);
}

#[test]
fn only_orphans_are_taken() {
    let mut view = fleet(&["a"], &[None; 4]);
    let standings =
        [Standing::WaitsForParents, Standing::Finished, Standing::Foreign, Standing::Owned];
    for (lease, standing) in view.leases.values_mut().zip(standings) {
        lease.standing = standing;
    }
    assert_eq!(plan_takes(&view, &id("a"), &wishes()), vec![]);
}

#[test]
fn an_orphan_that_nobody_takes_is_taken_by_anybody() {
    let mut view = fleet(&["a", "b"], &[None]);
    let everyone = |view: &FleetView| everybody(view).0.get(&key(0)).map_or(0, Vec::len);
    assert_eq!(everyone(&view), 1);
    let why = OrphanReason::Unowned;
    view.leases.get_mut(&key(0)).unwrap().standing = Standing::Orphan { why, for_ms: 12_001 };
    assert_eq!(everyone(&view), 2);
}

#[test]
fn what_was_given_up_for_a_reason_is_left_to_others_and_children_are_preferred() {
    let view = fleet(&["a", "b"], &[None]);
    let (taken, _) = everybody(&view);
    let chosen = &taken[&key(0)][0];
    let refuse = Wishes { refuse: BTreeSet::from([key(0)]), ..wishes() };
    assert_eq!(plan_takes(&view, chosen, &refuse), vec![]);
    let other = if *chosen == id("a") { id("b") } else { id("a") };
    let prefer = Wishes { prefer: BTreeSet::from([key(0)]), ..wishes() };
    assert_eq!(plan_takes(&view, &other, &prefer).len(), 1);
    // Alone in the fleet, there is nobody else to leave it to.
    let alone = fleet(&["a"], &[None]);
    assert_eq!(plan_takes(&alone, &id("a"), &refuse).len(), 1);
}

#[test]
fn an_heir_works_is_fresh_and_is_the_least_loaded() {
    let mut view = fleet(&["a", "b", "c", "d"], &[Some("b"), Some("c"), Some("c")]);
    view.workers.get_mut(&id("d")).unwrap().beat_age_ms = 3_500;
    let none = BTreeMap::new();
    assert_eq!(heir(&view, &id("a"), 3_000, &none), Some(id("b")));
    let given = BTreeMap::from([(id("b"), 2)]);
    assert_eq!(heir(&view, &id("a"), 3_000, &given), Some(id("c")));
    assert_eq!(heir(&fleet(&["a"], &[]), &id("a"), 3_000, &none), None);
}
