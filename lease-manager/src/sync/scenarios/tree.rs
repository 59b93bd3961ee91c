//! A small notation for streams and their leases.
//!
//! A stream: `"0 1 | 2=0+1 | 3=2 4=2"`. Bars separate epochs of 100 ms, the first begins at 0; `2=0+1` is a shard with its
//! parents, which close when it opens; `(0)` is a shard that the stream does not list any more, and that the oldest kept
//! record is younger than. Leases: `"0@E 1@17! 2@T"`. Behind `@` stand the checkpoint (`T`, `L`, `A` for the initial
//! positions, `E` for the end, or a sequence number) and `!` where the reader is at the end already.

use super::*;

pub(super) const EPOCH_MS: i64 = 100;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) parents: Vec<usize>,
    pub(super) range: HashRange,
    pub(super) opened_ms: i64,
    pub(super) closed_ms: Option<i64>,
}

/// A stream's shards, as they were at every time.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) shards: BTreeMap<usize, Node>,
    /// What closed until then is not listed any more.
    pub(super) horizon_ms: i64,
}

impl Tree {
    pub(super) fn parse(text: &str) -> Self {
        let mut tree = Self { shards: BTreeMap::new(), horizon_ms: i64::MIN };
        let mut unlisted = BTreeSet::new();
        for (epoch, line) in text.split('|').enumerate() {
            let mut born: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
            for entry in line.split_whitespace() {
                let (shard, parents) = entry.split_once('=').unwrap_or((entry, ""));
                let id = number(shard.trim_matches(['(', ')']));
                if shard.starts_with('(') {
                    unlisted.insert(id);
                }
                let parents = parents.split('+').filter(|p| !p.is_empty()).map(number).collect();
                born.entry(parents).or_default().push(id);
            }
            let opened_ms = EPOCH_MS * i64::try_from(epoch).unwrap();
            for (parents, children) in born {
                tree.replace(&parents, &children, opened_ms);
            }
        }
        let closed = |shard: &usize| tree.shards[shard].closed_ms.expect("only closed shards go");
        tree.horizon_ms = unlisted.iter().map(closed).max().unwrap_or(i64::MIN);
        let shown = |shard: &usize| tree.is_listed(*shard) != unlisted.contains(shard);
        assert!(
            tree.shards.keys().all(shown),
            "{text}: what closed before an unlisted one is gone too"
        );
        tree
    }

    /// The parents' hash keys go to the children, in equal parts.
    pub(super) fn replace(&mut self, parents: &[usize], children: &[usize], at_ms: i64) {
        let ranges: Vec<HashRange> = parents.iter().map(|p| self.shards[p].range).collect();
        let start = ranges.iter().map(|r| r.start).min().unwrap_or(0);
        let end = ranges.iter().map(|r| r.end).max().unwrap_or(u128::MAX);
        let part = (end - start) / children.len() as u128;
        for (n, child) in children.iter().enumerate() {
            let first = start + part * n as u128 + u128::from(n > 0);
            let last = if n + 1 == children.len() { end } else { start + part * (n as u128 + 1) };
            let range = HashRange { start: first, end: last };
            let node = Node { parents: parents.to_vec(), range, opened_ms: at_ms, closed_ms: None };
            self.shards.insert(*child, node);
        }
        for parent in parents {
            self.shards.get_mut(parent).unwrap().closed_ms = Some(at_ms);
        }
    }

    fn is_listed(&self, shard: usize) -> bool {
        self.shards[&shard].closed_ms.is_none_or(|closed| closed > self.horizon_ms)
    }

    /// What the service answers. A time before the oldest record stands for the oldest record.
    pub(super) fn list(&self, filter: Filter) -> Vec<ListedShard> {
        let at = match filter {
            Filter::All => None,
            Filter::AtTrimHorizon => Some(self.horizon_ms.max(0)),
            Filter::AtLatest => Some(i64::MAX - 1),
            Filter::AtTimestamp(ms) => Some(ms.max(self.horizon_ms)),
        };
        let open = |node: &Node, at| node.opened_ms <= at && node.closed_ms.is_none_or(|c| c > at);
        let shown = self
            .shards
            .iter()
            .filter(|(id, node)| self.is_listed(**id) && at.is_none_or(|at| open(node, at)));
        let entry = |(id, node): (&usize, &Node)| ListedShard {
            id: shard(*id),
            parents: node.parents.iter().copied().map(shard).collect(),
            range: node.range,
        };
        shown.map(entry).collect()
    }

    pub(super) fn children(&self, of: usize) -> Vec<usize> {
        let child = |(id, node): (&usize, &Node)| node.parents.contains(&of).then_some(*id);
        self.shards.iter().filter_map(child).collect()
    }

    pub(super) fn descendants(&self, of: usize) -> BTreeSet<usize> {
        let children = self.children(of);
        children.into_iter().flat_map(|c| self.descendants(c).into_iter().chain([c])).collect()
    }

    pub(super) fn ancestors(&self, of: usize) -> BTreeSet<usize> {
        let parents = self.shards[&of].parents.iter();
        parents.flat_map(|p| self.ancestors(*p).into_iter().chain([*p])).collect()
    }
}

pub(super) fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no shard"))
}

pub(super) fn shard(n: usize) -> ShardId {
    ShardId::parse(format!("shardId-{n:012}")).unwrap()
}

pub(super) fn key(shard: &ShardId) -> LeaseKey {
    LeaseKey::of_shard(shard)
}

pub(super) fn number_of(lease: &LeaseRecord) -> usize {
    number_of_key(&lease.key)
}

pub(super) fn number_of_key(key: &LeaseKey) -> usize {
    number(&key.as_str()[8..])
}

pub(super) type Leases = BTreeMap<usize, LeaseRecord>;

/// Reads leases; all of them were made at `began_ms`.
pub(super) fn leases(tree: &Tree, text: &str, began_ms: i64) -> Leases {
    let lease = |entry: &str| {
        let (id, at) = entry.split_once('@').unwrap();
        let (id, digits) = (number(id), at.trim_end_matches('!'));
        let text = match digits {
            "T" => "TRIM_HORIZON",
            "L" => "LATEST",
            "A" => "AT_TIMESTAMP",
            "E" => "SHARD_END",
            sequence => sequence,
        };
        let checkpoint = Checkpoint::parse(text, 0).unwrap();
        let mut lease = LeaseRecord::new(key(&shard(id)), checkpoint, began_ms);
        lease.parents = tree.shards[&id].parents.iter().copied().map(shard).collect();
        lease.hash_range = Some(tree.shards[&id].range);
        lease.read_to = (at.ends_with('!') || digits == "E").then_some(Checkpoint::ShardEnd);
        (id, lease)
    };
    text.split_whitespace().map(lease).collect()
}

/// Leases in the same notation.
pub(super) fn words<'a>(leases: impl IntoIterator<Item = &'a LeaseRecord>) -> String {
    let word = |lease: &LeaseRecord| {
        let at = match &lease.checkpoint {
            Checkpoint::TrimHorizon => "T".to_owned(),
            Checkpoint::Latest => "L".to_owned(),
            Checkpoint::AtTimestamp => "A".to_owned(),
            Checkpoint::ShardEnd => "E".to_owned(),
            other => other.to_string(),
        };
        (number_of(lease), format!("{}@{at}", number_of(lease)))
    };
    let mut words: Vec<_> = leases.into_iter().map(word).collect();
    words.sort();
    words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}
