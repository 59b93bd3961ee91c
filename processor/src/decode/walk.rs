//! The one pass over a message, along the tree of all configured pointers.
//!
//! Nothing is built: a value that a pointer asks for is remembered as a stretch of the text,
//! everything else is passed over. The whole document is read, so what was walked is one JSON
//! document. Of a key that comes twice in an object the last one counts, as with most readers.
//!
//! Values are looked into as deep as pointers go, which is bounded; what lies deeper is passed over
//! without recursion.

use std::ops::Range;

use crate::integration::{NodeId, Tree};
use crate::json::{Broken, Scanner, Text};

/// Where in the message a value stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    start: u32,
    end: u32,
}

impl Stretch {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Walks `message`; what the pointers ask for is in `found` afterwards, by slot.
pub(super) fn walk(
    tree: &Tree,
    message: &[u8],
    found: &mut [Option<Stretch>],
) -> Result<(), Broken> {
    found.fill(None);
    let mut walk = Walk { tree, scanner: Scanner::new(message), found };
    walk.value(tree.root())?;
    walk.scanner.end()
}

struct Walk<'a> {
    tree: &'a Tree,
    scanner: Scanner<'a>,
    found: &'a mut [Option<Stretch>],
}

impl Walk<'_> {
    /// One value at a node of the tree.
    fn value(&mut self, at: NodeId) -> Result<(), Broken> {
        let first = self.scanner.peek();
        let start = self.scanner.at();
        match first {
            b'{' if !self.tree.is_leaf(at) => self.object(at)?,
            b'[' if !self.tree.is_leaf(at) => self.array(at)?,
            _ => self.scanner.skip()?,
        }
        if let Some(slot) = self.tree.slot(at) {
            let (start, end) = (start as u32, self.scanner.at() as u32);
            self.found[slot.0] = Some(Stretch { start, end });
        }
        Ok(())
    }

    fn object(&mut self, at: NodeId) -> Result<(), Broken> {
        self.scanner.expect(b'{', "an object")?;
        let mut first = true;
        while self.scanner.more(first, b'}')? {
            first = false;
            let key = self.scanner.key()?;
            match self.child(at, key) {
                Some(child) => {
                    self.found[self.tree.slots_below(child)].fill(None);
                    self.value(child)?;
                }
                None => self.scanner.skip()?,
            }
        }
        Ok(())
    }

    fn array(&mut self, at: NodeId) -> Result<(), Broken> {
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
