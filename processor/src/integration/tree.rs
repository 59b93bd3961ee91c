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
            children.push(Child { key, index, node: self.add(below) });
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
        let found = node.children.binary_search_by(|child| child.key.as_bytes().cmp(key)).ok()?;
        Some(node.children[found].node)
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

/// RFC 6901's array index: digits without a leading zero.
fn array_index(key: &str) -> Option<usize> {
    let plain = key == "0" || !key.starts_with('0');
    (plain && key.bytes().all(|b| b.is_ascii_digit())).then(|| key.parse().ok())?
}
