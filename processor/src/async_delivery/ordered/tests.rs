//! Shards that come and go, and the chains that go with them.

use super::*;
use crate::batch::{LeaseCheck, ShardContext};

const ALL: (u128, u128) = (0, u128::MAX);

/// A shard of an order, and its lease.
fn open(order: &mut Order, id: &str) -> LeaseCheck {
    let context = Arc::new(ShardContext {
        stream_arn: "arn".into(),
        shard_id: id.into(),
        fence: 1,
        starting_hash_key: ALL.0,
        ending_hash_key: ALL.1,
    });
    let lease = LeaseCheck::new(|| true);
    assert!(order.open(&OpenShard::new(&context, &lease)));
    lease
}

/// An order with these shards, and before them the chain of an ancestor, known by the first.
fn behind_an_ancestor<const N: usize>(ids: [&str; N]) -> (Order, ChainKey, [LeaseCheck; N]) {
    let mut order = Order::default();
    let leases = ids.map(|id| open(&mut order, id));
    let ancestor = ChainKey { start: 7, end: 7, shard: "s-1".into() };
    order.board.stand(ancestor.clone(), fresh_head(10, ""), &ids[0].into(), true);
    (order, ancestor, leases)
}

#[test]
fn a_chain_before_a_shard_that_is_left_stays_before_the_others() {
    let (mut order, ancestor, [first, _]) = behind_an_ancestor(["s-2", "s-3"]);
    first.mark_lost();
    order.prune();
    assert_eq!(&*order.board.get(&ancestor).unwrap().via, "s-3");
}

#[test]
fn shards_that_are_over_and_still_write_do_not_hand_a_chain_to_each_other() {
    let (mut order, ancestor, leases) = behind_an_ancestor(["s-2", "s-3"]);
    order.shards.values_mut().for_each(|shard| shard.writing = 1);
    leases.iter().for_each(LeaseCheck::mark_lost);
    order.prune();
    assert!(order.board.get(&ancestor).is_none(), "nobody of ours waits for it");
    assert_eq!(order.board.next_due(), None);
}
