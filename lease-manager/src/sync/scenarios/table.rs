//! Scenarios as tables: a stream, its leases, and what an audit makes of them at each initial position.

use super::*;

const NOW_MS: i64 = 9_000;
/// The time that AT_TIMESTAMP means: in the second epoch.
const AT_MS: i64 = 150;
const POSITIONS: [InitialPosition; 3] =
    [InitialPosition::Latest, InitialPosition::TrimHorizon, InitialPosition::AtTimestamp(AT_MS)];

/// Six shards: two pairs of them merge, the two results merge again, and the last one splits.
const MIXED: &str = "0 1 2 3 4 5 | 6=0+1 7=2+3 | 8=6+7 9=5 10=5";
/// The same long after: only what is open is still there.
const MIXED_LATE: &str = "(0) (1) (2) (3) 4 (5) | (6)=0+1 (7)=2+3 | 8=6+7 9=5 10=5";
/// Every shard splits, twice.
const SPLITS: &str = "0 | 1=0 2=0 | 3=1 4=1 5=2 6=2";
const MERGE: &str = "0 1 | 2=0+1";

/// The stream, its leases, the time they were made at, and the leases to be made at LATEST, TRIM_HORIZON, AT_TIMESTAMP.
type Scenario = (&'static str, &'static str, i64, [&'static str; 3]);

/// S1 of the Kinesis Client Library: complete and partial sets of leases, in one epoch and across several.
const SETS: [Scenario; 18] = [
    // Nothing yet: the shards that were open at the position.
    (MIXED, "", 0, ["4@L 8@L 9@L 10@L", "0@T 1@T 2@T 3@T 4@T 5@T", "4@A 5@A 6@A 7@A"]),
    // A complete set of each epoch answers for all that comes after it, and for all that came before.
    (MIXED, "0@7 1@7 2@7 3@7 4@7 5@7", 50, ["", "", ""]),
    (MIXED, "4@7 5@7 6@7 7@7", 150, ["", "", ""]),
    (MIXED, "4@7 8@7 9@7 10@7", 250, ["", "", ""]),
    // Partial sets of the second epoch. The KCL reads from the oldest ancestors also at AT_TIMESTAMP; here the shards that
    // were open at that time are enough, as older shards hold older records only.
    (MIXED, "4@7 5@7 7@7", 150, ["6@L", "0@T 1@T", "6@A"]),
    (MIXED, "4@7 7@7", 150, ["5@L 6@L", "0@T 1@T 5@T", "5@A 6@A"]),
    (MIXED, "5@7", 150, ["4@L 6@L 7@L", "0@T 1@T 2@T 3@T 4@T", "4@A 6@A 7@A"]),
    (MIXED, "8@7", 250, ["4@L 9@L 10@L", "4@T 5@T", "4@A 5@A"]),
    // Across epochs. 5 was read, as its child 9 shows, so its other child 10 is owed from its start; the KCL would read 5
    // again at TRIM_HORIZON, and begin with what 10 gets from now on at LATEST.
    (MIXED, "0@7 7@7 9@7", 50, ["1@L 4@L 10@T", "1@T 4@T 10@T", "4@A 10@T"]),
    (SPLITS, "3@7", 50, ["2@T 4@T", "2@T 4@T", "2@A 4@T"]),
    (SPLITS, "3@7 2@7", 150, ["4@T", "4@T", "4@T"]),
    // 1 needs no reading any more, so the end of 0 will not lead to 4.
    (SPLITS, "0@E 2@7 3@7", 50, ["4@T", "4@T", "4@T"]),
    // The children of a shard that was read to its end, or whose reader is there, start at their oldest record.
    (MIXED, "0@E 1@E 2@7 3@7 4@7 5@7", 50, ["6@T", "6@T", "6@T"]),
    (MIXED, "0@7 1@7 2@7 3@7 4@7 5@7!", 50, ["9@T 10@T", "9@T 10@T", "9@T 10@T"]),
    // Without garbage collection: the leases of every epoch, and then one of them missing.
    (MIXED, "0@E 1@E 2@E 3@E 4@7 5@E 6@E 7@E 8@7 9@7 10@7", 50, ["", "", ""]),
    (MIXED, "0@E 1@E 2@E 3@E 4@7 5@E 6@E 7@E 8@7 10@7", 50, ["9@T", "9@T", "9@T"]),
    // With the parents trimmed away, the positions of the past mean the oldest records that are kept.
    (MIXED_LATE, "", 0, ["4@L 8@L 9@L 10@L", "4@T 8@T 9@T 10@T", "4@A 8@A 9@A 10@A"]),
    (MIXED_LATE, "8@7", 250, ["4@L 9@L 10@L", "4@T 9@T 10@T", "4@A 9@A 10@A"]),
];

/// S8: merges whose parents do not stand alike. The KCL gives the child no lease before both parents have theirs, and tries
/// again or drops the lease. Here the first end makes the child's lease, which waits for every parent that has a lease, and
/// the audit gives the other parent its own.
const MERGES: [Scenario; 6] = [
    (MERGE, "0@E 1@7", 50, ["2@T", "2@T", "2@T"]),
    (MERGE, "0@E", 50, ["1@L 2@T", "1@T 2@T", "2@T"]),
    (MERGE, "0@E 2@T", 50, ["1@L", "1@T", ""]),
    // Once the child has begun, its parents are not to be read any more.
    (MERGE, "0@E 2@9", 50, ["", "", ""]),
    // A child at its oldest record whose parents have lost their leases: as nobody has acknowledged anything of it, the
    // parents are read, again or not, unless they closed before reading began.
    (MERGE, "2@T", 150, ["", "0@T 1@T", ""]),
    (MERGE, "2@T", 50, ["0@L 1@L", "0@T 1@T", ""]),
];

/// S7: a stream, its leases, and those that go once the stream has not listed their shards twice.
const CLEANUPS: [(&str, &str, &str); 11] = [
    ("(0) | 1=0 2=0", "0@E 1@7 2@7", "0"),
    ("(0) | 1=0 2=0", "0@E 1@E 2@7", "0"),
    ("(0) | 1=0 2=0", "0@E 1@T 2@7", ""),
    ("(0) | 1=0 2=0", "0@E 1@A 2@7", ""),
    // For the KCL a child at LATEST has begun; here only a record, or the end, shows that.
    ("(0) | 1=0 2=0", "0@E 1@L 2@7", ""),
    ("(0) | 1=0 2=0", "0@E 2@7", ""),
    // The KCL deletes as soon as the children have begun; here not before the stream forgets the shard, so that a lease
    // that is gone is never made again.
    ("0 | 1=0 2=0", "0@E 1@7 2@7", ""),
    // The KCL keeps a lease while those of the parents are there; as nothing is made for an unlisted shard, the order is of
    // no consequence here.
    ("(0) | (1)=0 | 2=1", "0@E 1@E 2@7", "0 1"),
    ("(0) | (1)=0 | 2=1", "0@E 1@E 2@T", "0"),
    ("(0) | (1)=0 | 2=1", "0@E 2@7", "0"),
    // Not read to its end: lost to retention, and not deleted.
    ("(0) | 1=0 2=0", "0@7 1@7 2@7", ""),
];

fn each(scenarios: &[Scenario], check: impl Fn(&str, &Tree, &Leases, InitialPosition, &str)) {
    for (stream, there, began_ms, expected) in scenarios {
        let tree = Tree::parse(stream);
        let leases = leases(&tree, there, *began_ms);
        for (position, expected) in POSITIONS.into_iter().zip(expected) {
            let name = format!("{stream} with [{there}] at {position:?}");
            check(&name, &tree, &leases, position, expected);
        }
    }
}

fn made(tree: &Tree, leases: &Leases, position: InitialPosition, now_ms: i64) -> Vec<LeaseRecord> {
    audit(tree, leases, position, &BTreeSet::new(), now_ms).expect("complete").create
}

#[test]
fn an_audit_makes_the_leases_that_are_missing_and_no_others() {
    for scenarios in [&SETS[..], &MERGES[..]] {
        each(scenarios, |name, tree, leases, position, expected| {
            let plan = made(tree, leases, position, NOW_MS);
            assert_eq!(words(&plan), *expected, "{name}");
            let after = with(leases, &plan);
            assert_eq!(words(&made(tree, &after, position, NOW_MS)), "", "{name}, once more");
        });
    }
}

/// S6: what is missing is repaired by the audit that finds it, not by the third; and nothing is reported for ever.
#[test]
fn no_hole_is_left_once_an_audit_is_over() {
    for scenarios in [&SETS[..], &MERGES[..]] {
        each(scenarios, |name, tree, leases, position, expected| {
            let plan = audit(tree, leases, position, &BTreeSet::new(), NOW_MS).expect("complete");
            let mut before = holes(tree, leases);
            let mut after = holes(tree, &with(leases, &plan.create));
            before.retain(|hole| !plan.passed.contains(hole));
            after.retain(|hole| !plan.passed.contains(hole));
            assert!(before.is_empty() || !expected.is_empty(), "{name}: {before:?} were there");
            assert_eq!(after, vec![], "{name}");
        });
    }
}

/// S4: whoever makes the leases may die after any of them; whoever comes next goes on as if it had not.
#[test]
fn a_crash_in_the_middle_of_creation_is_resumable() {
    for scenarios in [&SETS[..], &MERGES[..]] {
        each(scenarios, |name, tree, leases, position, _| {
            let plan = made(tree, leases, position, NOW_MS);
            let whole = with(leases, &plan);
            for done in 0..plan.len() {
                let part = with(leases, &plan[..done]);
                let rest = made(tree, &part, position, NOW_MS + 500);
                let resumed = with(&part, &rest);
                assert_eq!(words(resumed.values()), words(whole.values()), "{name}, after {done}");
                let initial = |lease: &&LeaseRecord| lease.checkpoint < Checkpoint::Latest;
                for lease in resumed.values().filter(|lease| !initial(lease)) {
                    let start = whole[&number_of(lease)].start_at_ms;
                    // The very first lease says when reading began; without it reading begins now.
                    assert!(
                        done == 0 || lease.start_at_ms == start,
                        "{name}, after {done}: {lease:?}"
                    );
                }
            }
        });
    }
}

/// S4 once more: between the crash and the next audit the stream goes on, and what has a lease is read to its end.
#[test]
fn a_first_start_that_was_cut_off_is_completed_even_when_its_readers_were_quicker() {
    for position in POSITIONS {
        let before = Tree::parse("0 1 | 2=0 3=0 4=1");
        let first = made(&before, &Leases::new(), position, AT_MS);
        let after = Tree::parse("0 1 | 2=0 3=0 4=1 | 5=2 6=3+4");
        for done in 1..first.len() {
            let mut part = with(&Leases::new(), &first[..done]);
            let ended: Vec<usize> = part.keys().copied().collect();
            for n in ended {
                let children = after.children(n).into_iter().map(|c| format!("{c}@T "));
                let children = leases(&after, &children.collect::<String>(), NOW_MS);
                part = with(&part, children.values());
                let lease = part.get_mut(&n).unwrap();
                (lease.checkpoint, lease.read_to) =
                    (Checkpoint::ShardEnd, Some(Checkpoint::ShardEnd));
            }
            let resumed = with(&part, &made(&after, &part, position, NOW_MS));
            for lease in &first[done..] {
                let again = resumed.get(&number_of(lease));
                let as_planned = again.is_some_and(|again| again.checkpoint == lease.checkpoint);
                assert!(as_planned, "{position:?} after {done}: {} is missing", number_of(lease));
            }
        }
    }
}

/// S3: a first listing with a hole, or with an overlap, is not believed.
#[test]
fn the_first_leases_need_a_listing_that_covers_every_hash_key_once() {
    let tree = Tree::parse("0 1 2 | 3=1 4=1");
    for position in POSITIONS {
        assert!(audit(&tree, &Leases::new(), position, &BTreeSet::new(), NOW_MS).is_ok());
        let config = config(position);
        let listed = tree.list(Filter::All);
        let stream = Stream::new(&config, &listed, []);
        let whole = tree.list(stream.initial_filter());
        for left_out in 0..whole.len() {
            let mut holed = whole.clone();
            let gone = holed.remove(left_out);
            assert_eq!(plan_initial(&stream, &holed, key, NOW_MS), Err(Incomplete));
            holed.extend([gone.clone(), gone]);
            assert_eq!(plan_initial(&stream, &holed, key, NOW_MS), Err(Incomplete));
        }
        assert_eq!(plan_initial(&stream, &[], key, NOW_MS), Err(Incomplete));
    }
}

/// S2: the child of a parent that is still listed as open. The KCL aborts, or ignores it if told so. Whether a shard is open
/// is not looked at here: an ancestor's lease answers for the child until the ancestor's own end makes the child's lease, and
/// a first listing that shows both overlaps.
#[test]
fn the_child_of_an_open_parent_waits_for_the_parent_s_end() {
    let tree = Tree::parse("0 1 | 2=0 3=0");
    let mut open_parent = tree.clone();
    open_parent.shards.get_mut(&0).unwrap().closed_ms = None;
    for position in POSITIONS {
        let there = leases(&tree, "0@7 1@7", 50);
        assert_eq!(words(&made(&open_parent, &there, position, NOW_MS)), "", "{position:?}");
    }
    let latest = InitialPosition::Latest;
    let first = audit(&open_parent, &Leases::new(), latest, &BTreeSet::new(), NOW_MS);
    assert_eq!(first, Err(Incomplete));
}

/// A reshard between the full listing and that of the initial position: the child is not taken for a shard of its own.
#[test]
fn a_shard_that_only_the_second_listing_shows_is_left_to_its_parent() {
    let config = config(InitialPosition::Latest);
    let before = Tree::parse("0 1");
    // A lease of the KCL says nothing of when reading began, so the shards that are open now are asked for.
    let mut there = leases(&before, "0@7", 50);
    there.get_mut(&0).unwrap().start_at_ms = None;
    let listed = before.list(Filter::All);
    let stream = Stream::new(&config, &listed, there.values());
    assert_eq!(stream.initial_filter(), Filter::AtLatest);
    let after = Tree::parse("0 1 | 2=0 3=0").list(Filter::AtLatest);
    let made = plan_initial(&stream, &after, key, NOW_MS).unwrap();
    assert_eq!(
        words(&made.create),
        "1@L",
        "2 and 3 are made by the end of 0, whose records are still to be read"
    );
}

#[test]
fn a_finished_lease_goes_when_nothing_needs_it() {
    for (stream, there, expected) in CLEANUPS {
        let tree = Tree::parse(stream);
        let leases = leases(&tree, there, 50);
        let latest = InitialPosition::Latest;
        let first = audit(&tree, &leases, latest, &BTreeSet::new(), NOW_MS).expect("complete");
        assert_eq!((first.delete, first.trim), (vec![], vec![]), "one listing proves nothing");
        let second = audit(&tree, &leases, latest, &first.absent, NOW_MS).expect("complete");
        let deleted: Vec<String> =
            second.delete.iter().map(|key| number_of_key(key).to_string()).collect();
        assert_eq!(deleted.join(" "), expected, "{stream} with [{there}]");
        let unread =
            leases.values().filter(|l| !l.is_finished() && first.absent.contains(&l.shard_id));
        assert_eq!(second.trim, unread.map(|l| l.key.clone()).collect::<Vec<_>>());
    }
}
