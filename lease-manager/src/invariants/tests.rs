use super::*;
use crate::ids::{Incarnation, LeaseCounter, LeaseKey, WorkerId};
use crate::lease::Grant;

fn shard(n: usize) -> ShardId {
    ShardId::parse(format!("shardId-{n}")).unwrap()
}

fn lease(n: usize) -> LeaseRecord {
    LeaseRecord::new(LeaseKey::of_shard(&shard(n)), Checkpoint::TrimHorizon, 0)
}

fn at(text: &str) -> Checkpoint {
    Checkpoint::parse(text, 0).unwrap()
}

#[test]
fn a_write_that_skipped_another_breaks_l1() {
    let first = lease(0);
    let mut second = first.clone();
    second.rev = Some(1);
    let mut third = second.clone();
    third.rev = Some(2);
    l1_one_writer(&[first.clone(), second.clone(), third.clone()]).unwrap();
    assert_eq!(l1_one_writer(&[first, third.clone()]).unwrap_err().invariant, "L1");
    // A new owner under the old counter.
    third.owner = Some(WorkerId::parse("w").unwrap());
    third.grant = Some(Grant { counter: LeaseCounter(0), incarnation: Incarnation(1) });
    assert_eq!(l1_one_writer(&[second, third]).unwrap_err().invariant, "L1");
}

#[test]
fn a_counter_or_a_checkpoint_that_goes_back_breaks_l2_and_l3() {
    let mut high = lease(0);
    high.counter = LeaseCounter(5);
    assert_eq!(l2_counter_rises(&[high, lease(0)]).unwrap_err().invariant, "L2");
    let mut far = lease(0);
    far.checkpoint = at("10");
    let mut back = far.clone();
    back.checkpoint = at("9");
    assert_eq!(l3_checkpoint_rises(&[far, back]).unwrap_err().invariant, "L3");
}

#[test]
fn an_operator_alone_may_set_a_checkpoint_back_and_only_with_a_new_counter_and_no_owner() {
    let mut far = lease(0);
    far.checkpoint = at("10");
    far.owner = Some(WorkerId::parse("w").unwrap());
    let mut back = far.clone();
    (back.checkpoint, back.owner, back.counter) = (at("9"), None, LeaseCounter(1));
    back.reason = Some("operator:set-checkpoint".to_owned());
    l3_checkpoint_rises(&[far.clone(), back.clone()]).unwrap();

    let broken = |back: LeaseRecord| l3_checkpoint_rises(&[far.clone(), back]).is_err();
    assert!(broken(LeaseRecord { counter: LeaseCounter(0), ..back.clone() }));
    assert!(broken(LeaseRecord { owner: far.owner.clone(), ..back.clone() }));
    assert!(broken(LeaseRecord { reason: Some("move".to_owned()), ..back.clone() }));
    assert!(broken(LeaseRecord { reason: None, ..back }));
}

#[test]
fn a_child_that_moved_before_its_parent_ended_breaks_l4() {
    let lanes = [LaneName::parse("store").unwrap()];
    let mut child = lease(1);
    child.parents.insert(shard(0));
    l4_children_wait(&[lease(0), child.clone()], &lanes).unwrap();
    child.checkpoint = at("10");
    let broken = l4_children_wait(&[lease(0), child.clone()], &lanes).unwrap_err();
    assert_eq!(broken.invariant, "L4");
    let mut ended = lease(0);
    ended.checkpoint = Checkpoint::ShardEnd;
    l4_children_wait(&[ended, child.clone()], &lanes).unwrap();
    l4_children_wait(&[child], &lanes).unwrap();
}

#[test]
fn a_shard_that_no_lease_answers_for_breaks_l5() {
    let listed = BTreeMap::from([
        (shard(0), BTreeSet::new()),
        (shard(1), BTreeSet::from([shard(0)])),
        (shard(2), BTreeSet::new()),
    ]);
    // 1 will get its lease from 0, which is still being read; nobody answers for 2.
    assert_eq!(uncovered(&listed, &[lease(0)]), vec![shard(2)]);
    // The end of 0 was read, and 1 was forgotten.
    let mut ended = lease(0);
    ended.read_to = Some(Checkpoint::ShardEnd);
    assert_eq!(uncovered(&listed, &[ended, lease(2)]), vec![shard(1)]);
    // 0 was read, as the records of 1 that were acknowledged show; a child at its oldest record shows nothing.
    let mut begun = lease(1);
    begun.checkpoint = at("10");
    l5_every_shard_has_a_lease(&listed, &[begun, lease(2)]).unwrap();
    assert_eq!(uncovered(&listed, &[lease(1), lease(2)]), vec![shard(0)]);
}
