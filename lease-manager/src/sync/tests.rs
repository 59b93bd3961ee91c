use super::*;

fn shard(n: usize) -> ShardId {
    ShardId::parse(format!("shardId-{n:012}")).unwrap()
}

fn key(shard: &ShardId) -> LeaseKey {
    LeaseKey::of_shard(shard)
}

fn listed(n: usize, parents: &[usize]) -> ListedShard {
    let parents = parents.iter().map(|parent| shard(*parent)).collect();
    ListedShard { id: shard(n), parents, range: HashRange { start: 0, end: u128::MAX } }
}

fn lease(n: usize, checkpoint: &str) -> LeaseRecord {
    LeaseRecord::new(key(&shard(n)), Checkpoint::parse(checkpoint, 0).unwrap(), 500)
}

fn config(initial: InitialPosition) -> StreamConfig {
    StreamConfig { arn: String::new(), name: "s".to_owned(), creation_epoch_s: 0, initial }
}

struct Found {
    create: Vec<(usize, String)>,
    plan: AuditPlan,
}

fn audit(shards: &[ListedShard], leases: &[LeaseRecord], absent_before: &[usize]) -> Found {
    let config = config(InitialPosition::Latest);
    let stream = Stream::new(&config, shards, leases);
    let absent = absent_before.iter().map(|n| shard(*n)).collect();
    let plan = plan_audit(&stream, key, &absent, 9_000);
    let number = |lease: &LeaseRecord| lease.shard_id.as_str()[8..].parse().unwrap();
    let created = |lease: &LeaseRecord| (number(lease), lease.checkpoint.to_string());
    Found { create: plan.create.iter().map(created).collect(), plan }
}

fn initial(
    position: InitialPosition,
    shards: &[ListedShard],
    leases: &[LeaseRecord],
    answer: &[ListedShard],
) -> (Filter, Vec<LeaseRecord>) {
    let config = config(position);
    let stream = Stream::new(&config, shards, leases);
    (stream.initial_filter(), plan_initial(&stream, answer, key, 9_000).unwrap().create)
}

#[test]
fn the_first_start_asks_for_the_shards_of_its_position() {
    let mut shards = [listed(0, &[]), listed(1, &[0]), listed(2, &[0])];
    (shards[1].range.end, shards[2].range.start) = (9, 10);
    assert!(audit(&shards, &[], &[]).plan.needs_initial);
    let cases = [
        (InitialPosition::TrimHorizon, Filter::AtTrimHorizon, "TRIM_HORIZON", 9_000),
        (InitialPosition::Latest, Filter::AtLatest, "LATEST", 9_000),
        (InitialPosition::AtTimestamp(77), Filter::AtTimestamp(77), "AT_TIMESTAMP", 77),
    ];
    for (position, filter, checkpoint, start_at) in cases {
        let (asked, leases) = initial(position, &shards, &[], &shards[1..]);
        assert_eq!(asked, filter);
        assert_eq!(leases.len(), 2);
        for lease in leases {
            assert_eq!(lease.checkpoint.text(), checkpoint);
            assert_eq!(lease.start_at_ms, Some(start_at));
            assert_eq!(lease.parents, BTreeSet::from([shard(0)]));
        }
    }
}

#[test]
fn a_first_start_that_was_interrupted_goes_on_as_of_then() {
    let shards = [listed(0, &[]), listed(1, &[])];
    let leases = [lease(0, "LATEST")];
    assert!(audit(&shards, &leases, &[]).plan.needs_initial);
    let (filter, made) = initial(InitialPosition::Latest, &shards, &leases, &shards);
    assert_eq!(filter, Filter::AtTimestamp(500));
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].start_at_ms, &made[0].shard_id), (Some(500), &shard(1)));
}

#[test]
fn no_lease_is_made_for_a_shard_whose_descendant_has_one() {
    // 0 -> 1 -> 2, and only 2 has a lease: 0 and 1 were read, or were never to be read.
    let shards = [listed(0, &[]), listed(1, &[0]), listed(2, &[1])];
    let found = audit(&shards, &[lease(2, "7")], &[]);
    assert_eq!(found.create, vec![]);
    assert!(!found.plan.needs_initial);
    let (_, made) = initial(InitialPosition::TrimHorizon, &shards, &[lease(2, "7")], &shards[..1]);
    assert_eq!(made, vec![]);
}

#[test]
fn a_child_is_made_only_once_a_parent_has_ended() {
    let shards = [listed(0, &[]), listed(1, &[0]), listed(2, &[1])];
    assert_eq!(audit(&shards, &[lease(0, "7")], &[]).create, vec![]);
    let mut reader_ended = lease(0, "7");
    reader_ended.read_to = Some(Checkpoint::ShardEnd);
    for parent in [lease(0, "SHARD_END"), reader_ended] {
        let found = audit(&shards, &[parent], &[]);
        assert_eq!(found.create, vec![(1, "TRIM_HORIZON".to_owned())]);
        assert!(!found.plan.needs_initial);
    }
}

#[test]
fn a_lease_that_somebody_deleted_is_made_again_unless_a_descendant_has_begun() {
    // 0 was read to its end; 1 had a lease once; 3 is the merge of 1 and 2.
    let shards = [listed(0, &[]), listed(1, &[0]), listed(2, &[0]), listed(3, &[1, 2])];
    let leases = |child: &str| [lease(0, "SHARD_END"), lease(2, "SHARD_END"), lease(3, child)];
    let made = |child: &str| audit(&shards, &leases(child), &[]).create;
    assert_eq!(made("TRIM_HORIZON"), vec![(1, "TRIM_HORIZON".to_owned())]);
    assert_eq!(made("5"), vec![]);
    assert_eq!(made("LATEST"), vec![]);
}

#[test]
fn a_shard_is_lost_only_after_two_listings_without_it() {
    let shards = [listed(1, &[0])];
    let leases = [lease(0, "7")];
    let first = audit(&shards, &leases, &[]);
    assert_eq!((first.plan.trim, first.plan.absent), (vec![], BTreeSet::from([shard(0)])));
    let second = audit(&shards, &leases, &[0]);
    assert_eq!(second.plan.trim, vec![key(&shard(0))]);
    assert_eq!(second.create, vec![(1, "TRIM_HORIZON".to_owned())], "its children go on");
    // An empty answer says nothing of the leases.
    assert_eq!(audit(&[], &leases, &[0]).plan, AuditPlan::default());
}

#[test]
fn a_finished_lease_goes_once_its_shard_is_gone_and_its_children_have_begun() {
    let mut parent = lease(0, "SHARD_END");
    parent.children = BTreeSet::from([shard(1), shard(2)]);
    let shards = [listed(1, &[]), listed(2, &[])];
    let deletes = |one: &str, two: &str, absent: &[usize]| {
        let leases = [parent.clone(), lease(1, one), lease(2, two)];
        audit(&shards, &leases, absent).plan.delete
    };
    assert_eq!(deletes("5", "TRIM_HORIZON", &[0]), vec![]);
    assert_eq!(deletes("5", "6", &[]), vec![]);
    assert_eq!(deletes("5", "6", &[0]), vec![key(&shard(0))]);
    let listed_still = [listed(0, &[]), listed(1, &[0]), listed(2, &[0])];
    let leases = [parent.clone(), lease(1, "5"), lease(2, "6")];
    assert_eq!(audit(&listed_still, &leases, &[0]).plan.delete, vec![]);
}

#[test]
fn ranges_tile_the_hash_space_or_they_do_not() {
    let range = |start, end| HashRange { start, end };
    assert!(tiles(vec![range(10, u128::MAX), range(0, 9)]));
    assert!(!tiles(vec![range(0, 9), range(11, u128::MAX)]));
    assert!(!tiles(vec![range(0, 10), range(10, u128::MAX)]));
    assert!(!tiles(vec![range(0, 9)]));
    assert!(!tiles(vec![]));
}

/// A stream that splits and merges at random, read by a consumer that ends shards at random.
struct Stage {
    random: fastrand::Rng,
    shards: Vec<ListedShard>,
    open: BTreeSet<usize>,
    leases: BTreeMap<usize, LeaseRecord>,
}

impl Stage {
    fn reshard(&mut self) {
        let open: Vec<usize> = self.open.iter().copied().collect();
        let parents =
            self.random.choose_multiple(open.iter().copied(), 1 + usize::from(open.len() > 2));
        let children = if parents.len() == 1 { 2 } else { 1 };
        for _ in 0..children {
            self.open.insert(self.shards.len());
            self.shards.push(listed(self.shards.len(), &parents));
        }
        self.open.retain(|open| !parents.contains(open));
    }

    /// A closed shard whose parents are finished is read to its end. Sometimes the reader dies when only some of its
    /// children have leases; then the shard is not finished, and is read again.
    fn read(&mut self) {
        let unread = self.leases.iter().filter(|(_, lease)| !lease.is_finished());
        let closed: Vec<usize> =
            unread.map(|(n, _)| *n).filter(|n| !self.open.contains(n)).collect();
        let Some(n) = self.random.choice(closed) else { return };
        let parents: Vec<usize> = self.parents(n);
        if parents.iter().any(|p| self.leases.get(p).is_some_and(|lease| !lease.is_finished())) {
            return;
        }
        let all = 0..self.shards.len();
        let children: Vec<_> = all.filter(|c| self.parents(*c).contains(&n)).collect();
        for child in children {
            if self.random.u8(0..4) == 0 {
                return;
            }
            self.leases.entry(child).or_insert_with(|| lease(child, "TRIM_HORIZON"));
        }
        let lease = self.leases.get_mut(&n).unwrap();
        (lease.read_to, lease.checkpoint) = (Some(Checkpoint::ShardEnd), Checkpoint::ShardEnd);
    }

    fn parents(&self, n: usize) -> Vec<usize> {
        let number = |id: &ShardId| id.as_str()[8..].parse().unwrap();
        self.shards[n].parents.iter().map(number).collect()
    }

    fn audit(&mut self) {
        let leases: Vec<_> = self.leases.values().cloned().collect();
        let found = audit(&self.shards, &leases, &[]);
        for (n, from) in found.create {
            self.leases.insert(n, lease(n, &from));
        }
    }

    fn check(&self) {
        let leases: Vec<_> = self.leases.values().cloned().collect();
        let parents = |s: &ListedShard| (s.id.clone(), s.parents.iter().cloned().collect());
        let listed = self.shards.iter().map(parents).collect();
        crate::invariants::l5_every_shard_has_a_lease(&listed, &leases).unwrap();
    }
}

#[test]
fn over_random_reshards_every_shard_is_read_once_and_none_is_forgotten() {
    for seed in 0..300 {
        let random = fastrand::Rng::with_seed(seed);
        let shards = vec![listed(0, &[]), listed(1, &[])];
        let leases = BTreeMap::from([(0, lease(0, "LATEST")), (1, lease(1, "LATEST"))]);
        let open = BTreeSet::from([0, 1]);
        let mut stage = Stage { random, shards, open, leases };
        for _ in 0..60 {
            match stage.random.u8(0..4) {
                0 if stage.shards.len() < 40 => stage.reshard(),
                1 => stage.audit(),
                _ => stage.read(),
            }
        }
        for _ in 0..400 {
            stage.read();
            stage.audit();
        }
        stage.check();
        let unfinished: BTreeSet<usize> =
            stage.leases.iter().filter(|(_, l)| !l.is_finished()).map(|(n, _)| *n).collect();
        assert_eq!(unfinished, stage.open, "seed {seed}: exactly the open shards are left to read");
        assert_eq!(stage.leases.len(), stage.shards.len(), "seed {seed}");
    }
}
