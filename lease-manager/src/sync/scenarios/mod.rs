//! What becomes of a stream's leases in every situation that the Kinesis Client Library's own tests name, and in random
//! ones. The situations are theirs, the answers are ours; where these differ on purpose, the scenario says so.

mod random;
mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::ids::{LeaseKey, ShardId};
use crate::invariants::uncovered;
use crate::lease::{HashRange, LeaseRecord};
use crate::options::{InitialPosition, StreamConfig};
use crate::sync::{AuditPlan, Filter, Incomplete, ListedShard, Stream, plan_audit, plan_initial};

use tree::{Leases, Tree, key, leases, number_of, number_of_key, words};

fn config(initial: InitialPosition) -> StreamConfig {
    StreamConfig { arn: String::new(), name: "s".to_owned(), creation_epoch_s: 0, initial }
}

/// One audit as the manager makes it: a full listing, and the listing of the initial position where that is needed.
fn audit(
    tree: &Tree,
    leases: &Leases,
    position: InitialPosition,
    absent_before: &BTreeSet<ShardId>,
    now_ms: i64,
) -> Result<AuditPlan, Incomplete> {
    let config = config(position);
    let listed = tree.list(Filter::All);
    let stream = Stream::new(&config, &listed, leases.values());
    let mut plan = plan_audit(&stream, key, absent_before, now_ms);
    if plan.needs_initial {
        let initial = tree.list(stream.initial_filter());
        let first = plan_initial(&stream, &initial, key, now_ms)?;
        plan.create.extend(first.create);
        plan.passed = first.passed;
    }
    Ok(plan)
}

/// What is made of `leases` by a plan, or by as much of it as there was time for.
fn with<'a>(leases: &Leases, made: impl IntoIterator<Item = &'a LeaseRecord>) -> Leases {
    let mut leases = leases.clone();
    for lease in made {
        // A lease that exists already is left as it is.
        leases.entry(number_of(lease)).or_insert_with(|| lease.clone());
    }
    leases
}

/// The shards that no lease answers for.
fn holes(tree: &Tree, leases: &Leases) -> Vec<ShardId> {
    let parents = |s: ListedShard| (s.id, s.parents.into_iter().collect());
    let listed = tree.list(Filter::All).into_iter().map(parents).collect();
    let leases: Vec<LeaseRecord> = leases.values().cloned().collect();
    uncovered(&listed, &leases)
}
