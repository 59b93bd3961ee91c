//! Buffers of frames and of events' arenas. Each thread keeps a few that were let go of for the next ones: memory that was
//! touched once costs no page faults any more.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Worth keeping from here: what is smaller costs nothing to make.
const LEAST_BYTES: usize = 16 * 1024;
/// About what a shard sends in half a second; what is larger is rare and not kept.
const MOST_BYTES: usize = 1024 * 1024;
/// Buffers that a thread keeps.
const MOST_BUFFERS: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that are kept for the next user of such when they are dropped.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `bytes`, and for not much more: what is held for long is charged by what is in it.
    pub(crate) fn with_room(bytes: usize) -> Buffer {
        let fits = |spare: &Vec<u8>| (bytes..=bytes * 2).contains(&spare.capacity());
        let spare = SPARE.with_borrow_mut(|spares| {
            let at = spares.iter().rposition(fits)?;
            Some(spares.swap_remove(at))
        });
        Buffer(spare.unwrap_or_else(|| Vec::with_capacity(bytes)))
    }

    /// The bytes alone: they come back only as a [`Buffer`].
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer(bytes)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes.capacity()) {
            return;
        }
        bytes.clear();
        // A thread that ends has nothing to keep any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_BUFFERS {
                spare.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_let_go_of_comes_back_empty_if_it_is_large_enough() {
        let mut first = Buffer::with_room(LEAST_BYTES);
        first.extend_from_slice(b"bytes");
        let (at, room) = (first.as_ptr(), first.capacity());
        drop(first);
        let second = Buffer::with_room(room);
        assert_eq!((second.as_ptr(), second.len()), (at, 0));
        drop(second);
        assert!(Buffer::with_room(room + 1).capacity() > room);
        drop(Buffer::with_room(MOST_BYTES + 1));
        assert!(SPARE.with_borrow(|spare| spare.iter().all(|kept| kept.capacity() <= MOST_BYTES)));
    }
}
