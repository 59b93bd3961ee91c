//! The one pass over a message, along the tree of all configured pointers.
//!
//! Nothing is built: a value that a pointer asks for is remembered as a stretch of the text,
//! everything else is passed over. The walk ends where its caller has seen enough; what it went
//! over is valid JSON, what stands behind is not known. Of a key that comes twice in an object the
//! last one that was walked counts.
//!
//! Values are looked into as deep as pointers go, which is bounded; what lies deeper is passed over
//! without recursion.

use std::ops::Range;

use crate::integration::{NodeId, SlotId, Tree};
use crate::json::{Broken, Scanner, Text};

/// Where in the message a value stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    start: u32,
    end: u32,
    /// It is a string that is written with escapes.
    pub(super) has_escapes: bool,
}

impl Stretch {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Walks `message`; what the pointers ask for is in `found` afterwards, by slot. It goes on until
/// `is_enough` says so of what was found, and of what was found last: true when all of the message was read.
pub(super) fn walk(
    tree: &Tree,
    message: &[u8],
    found: &mut [Option<Stretch>],
    is_enough: impl FnMut(&[Option<Stretch>], SlotId) -> bool,
) -> Result<bool, Broken> {
    found.fill(None);
    let mut walk = Walk { tree, scanner: Scanner::new(message), found, is_enough };
    match walk.value(tree.root()) {
        Ok(()) => walk.scanner.end().map(|()| true),
        Err(Stop::Enough) => Ok(false),
        Err(Stop::Broken(broken)) => Err(broken),
    }
}

/// Why a walk ends before the message does.
enum Stop {
    Enough,
    Broken(Broken),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Broken(broken)
    }
}

struct Walk<'a, E> {
    tree: &'a Tree,
    scanner: Scanner<'a>,
    found: &'a mut [Option<Stretch>],
    is_enough: E,
}

impl<E: FnMut(&[Option<Stretch>], SlotId) -> bool> Walk<'_, E> {
    /// One value at a node of the tree.
    fn value(&mut self, at: NodeId) -> Result<(), Stop> {
        let first = self.scanner.peek();
        let start = self.scanner.at();
        let mut has_escapes = false;
        match first {
            b'"' => has_escapes = self.scanner.string()?.has_escapes(),
            b'{' if !self.tree.is_leaf(at) => self.object(at)?,
            b'[' if !self.tree.is_leaf(at) => self.array(at)?,
            _ => self.scanner.skip()?,
        }
        if let Some(slot) = self.tree.slot(at) {
            let (start, end) = (start as u32, self.scanner.at() as u32);
            self.found[slot.0] = Some(Stretch { start, end, has_escapes });
            if (self.is_enough)(self.found, slot) {
                return Err(Stop::Enough);
            }
        }
        Ok(())
    }

    fn object(&mut self, at: NodeId) -> Result<(), Stop> {
        self.scanner.expect(b'{', "an object")?;
        let mut first = true;
        while self.scanner.more(first, b'}')? {
            first = false;
            let key = self.scanner.key()?;
            match self.child(at, key) {
                Some(child) => {
                    if !self.tree.is_leaf(child) {
                        self.found[self.tree.slots_below(child)].fill(None);
                    }
                    self.value(child)?;
                }
                None => self.scanner.skip()?,
            }
        }
        Ok(())
    }

    fn array(&mut self, at: NodeId) -> Result<(), Stop> {
        self.scanner.expect(b'[', "an array")?;
        let mut index = 0;
        while self.scanner.more(index == 0, b']')? {
            match self.tree.element(at, index) {
                Some(child) => self.value(child)?,
                None => self.scanner.skip()?,
            }
            index += 1;
        }
        Ok(())
    }

    /// Half a surrogate pair is in no pointer.
    #[inline]
    fn child(&self, at: NodeId, key: Text<'_>) -> Option<NodeId> {
        if key.has_escapes() {
            return self.tree.child(at, key.meaning()?.as_bytes());
        }
        self.tree.child(at, key.raw())
    }
}
