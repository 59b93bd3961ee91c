//! All the pointers that any integration asks for, as one tree to walk a message along.
//!
//! Each pointer has a slot: the place where the walk writes what it found. Slots are numbered so
//! that those below a node are one range: a key that comes twice in an object forgets what its
//! first value held.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Pointer;

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// Where the value of one pointer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId(pub(crate) usize);

/// Up to so many children are gone through one after the other: no branch of that is guessed wrong.
const FEW_CHILDREN: usize = 12;

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by key.
    children: Vec<Child>,
    /// Bit `min(length, 63)` for every child's key: most keys of a message are passed by on it.
    lengths: u64,
    slot: Option<SlotId>,
    /// This node's own slot and all below it.
    slots: Range<usize>,
}

#[derive(Debug)]
struct Child {
    /// What [`head`] makes of the key: looked at first, and mostly alone.
    head: u64,
    key: Box<str>,
    /// The key as an array's index, when it is one.
    index: Option<usize>,
    node: NodeId,
}

/// A node while the tree is being collected.
#[derive(Default)]
struct Draft {
    children: BTreeMap<Box<str>, Draft>,
    wanted: bool,
}

impl Tree {
    /// The tree of these pointers; the same pointer may come more than once.
    pub(crate) fn new<'a>(pointers: impl IntoIterator<Item = &'a Pointer>) -> Tree {
        let mut draft = Draft::default();
        for pointer in pointers {
            let mut at = &mut draft;
            for token in pointer.tokens() {
                at = at.children.entry(token.into()).or_default();
            }
            at.wanted = true;
        }
        let mut tree = Tree { nodes: Vec::new(), slots: 0 };
        tree.add(draft);
        tree
    }

    /// Adds a draft and all below it, depth first; pointers bound the depth.
    fn add(&mut self, draft: Draft) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node::default());
        let first = self.slots;
        let slot = draft.wanted.then(|| {
            self.slots += 1;
            SlotId(first)
        });
        let mut children = Vec::with_capacity(draft.children.len());
        let mut lengths = 0;
        for (key, below) in draft.children {
            lengths |= length_bit(key.as_bytes());
            let index = array_index(&key);
            let head = head(key.as_bytes());
            children.push(Child { head, key, index, node: self.add(below) });
        }
        self.nodes[id.0] = Node { children, lengths, slot, slots: first..self.slots };
        id
    }

    /// Where every walk begins.
    pub(crate) fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// How many slots a walk needs.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The slot of a pointer that the tree was made of.
    pub(crate) fn slot_of(&self, pointer: &Pointer) -> Option<SlotId> {
        let end =
            pointer.tokens().try_fold(self.root(), |at, key| self.child(at, key.as_bytes()))?;
        self.slot(end)
    }

    /// The node's own slot, when a pointer ends here.
    pub(crate) fn slot(&self, at: NodeId) -> Option<SlotId> {
        self.nodes[at.0].slot
    }

    /// The node's own slot and all below it.
    pub(crate) fn slots_below(&self, at: NodeId) -> Range<usize> {
        self.nodes[at.0].slots.clone()
    }

    /// Whether no pointer goes on below this node.
    pub(crate) fn is_leaf(&self, at: NodeId) -> bool {
        self.nodes[at.0].children.is_empty()
    }

    /// The node below an object's key.
    #[inline]
    pub(crate) fn child(&self, at: NodeId, key: &[u8]) -> Option<NodeId> {
        let node = &self.nodes[at.0];
        if node.lengths & length_bit(key) == 0 {
            return None;
        }
        let head = head(key);
        let from = match node.children.len() {
            0..=FEW_CHILDREN => node.children.iter().position(|child| child.head == head)?,
            _ => node.children.partition_point(|child| child.head < head),
        };
        let alike = node.children[from..].iter().take_while(|child| child.head == head);
        let same = |child: &&Child| {
            child.key.len() == key.len() && (key.len() <= 8 || child.key.as_bytes() == key)
        };
        alike.into_iter().find(same).map(|child| child.node)
    }

    /// The node below an array's index.
    pub(crate) fn element(&self, at: NodeId, index: usize) -> Option<NodeId> {
        let children = &self.nodes[at.0].children;
        children.iter().find(|child| child.index == Some(index)).map(|child| child.node)
    }
}

fn length_bit(key: &[u8]) -> u64 {
    1 << key.len().min(63)
}

/// The first eight bytes as a number, zeros behind a shorter key: in the order of keys.
#[inline]
fn head(key: &[u8]) -> u64 {
    let four = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    let two = |bytes: &[u8; 2]| u64::from(u16::from_le_bytes(*bytes));
    // The first and the last bytes, which may overlap, each put where they belong.
    let little_endian = if let Some(eight) = key.first_chunk::<8>() {
        u64::from_le_bytes(*eight)
    } else if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        four(first) | four(last) << (8 * (key.len() - 4))
    } else if let (Some(first), Some(last)) = (key.first_chunk::<2>(), key.last_chunk::<2>()) {
        two(first) | two(last) << (8 * (key.len() - 2))
    } else {
        key.first().copied().map_or(0, u64::from)
    };
    little_endian.swap_bytes()
}

/// RFC 6901's array index: digits without a leading zero.
fn array_index(key: &str) -> Option<usize> {
    let plain = key == "0" || !key.starts_with('0');
    (plain && key.bytes().all(|b| b.is_ascii_digit())).then(|| key.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_in_the_order_of_keys_and_lookups_find_each_key_alone() {
        let mut rng = fastrand::Rng::with_seed(11);
        let key = |rng: &mut fastrand::Rng| -> String {
            (0..rng.usize(..14)).map(|_| *rng.choice(&['a', 'b', '\0', 'ü']).unwrap()).collect()
        };
        for _ in 0..500 {
            let keys: Vec<String> = (0..rng.usize(1..20)).map(|_| key(&mut rng)).collect();
            let pointer = |key: &String| Pointer::parse(&format!("/{key}")).unwrap();
            let pointers: Vec<Pointer> = keys.iter().map(pointer).collect();
            let tree = Tree::new(&pointers);
            assert!(tree.nodes[0].children.is_sorted_by_key(|child| child.head));
            for (key, pointer) in keys.iter().zip(&pointers) {
                let child = tree.child(tree.root(), key.as_bytes()).unwrap();
                assert_eq!(tree.slot(child), tree.slot_of(pointer));
                assert_eq!(tree.slots_below(child).len(), 1);
            }
            let other = key(&mut rng);
            let found = tree.child(tree.root(), other.as_bytes());
            assert_eq!(found.is_some(), keys.contains(&other), "{other:?} of {keys:?}");
        }
    }
}
