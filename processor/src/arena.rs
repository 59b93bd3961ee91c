//! The bytes of one event, and where in them its records stand.
//!
//! Whatever records carry (data, partition keys, sequence numbers) lies in one arena per event, and
//! what points into it is a [`Span`]: a record costs no allocation of its own. The arena is a
//! `Vec<u8>` while an event is read and decoded, and is frozen into `Bytes` for the lanes. Nothing
//! here looks into a record. Start reading at [`Records`].

use std::ops::Range;

use lease_manager::SequenceNumber;

/// An event that could need more bytes than this is refused before an arena is made for it: spans
/// count with 32 bits, and what decoding adds at the end must have room.
pub(crate) const MAX_ARENA_BYTES: usize = u32::MAX as usize / 2;

/// A stretch of an arena. What it covers is known only together with the arena it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The stretch from `start` on, `len` bytes long, of an arena within [`MAX_ARENA_BYTES`].
    #[inline]
    pub(crate) fn new(start: usize, len: usize) -> Span {
        debug_assert!(u32::try_from(start + len).is_ok(), "an arena is smaller than 4 GiB");
        Span { start: start as u32, len: len as u32 }
    }

    /// The stretch that `inner`, a range within this one, covers.
    #[inline]
    pub(crate) fn within(self, inner: Range<usize>) -> Span {
        debug_assert!(inner.start <= inner.end && inner.end <= self.len());
        Span::new(self.start as usize + inner.start, inner.len())
    }

    /// Its length in bytes.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    /// Whether it covers nothing.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The indices that it covers.
    #[inline]
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn bytes(self, arena: &[u8]) -> &[u8] {
        &arena[self.range()]
    }

    /// Its text, for a span that was checked to be UTF-8 when it was made.
    #[inline]
    pub(crate) fn text(self, arena: &[u8]) -> &str {
        let text = str::from_utf8(self.bytes(arena));
        debug_assert!(text.is_ok(), "a span of text is checked when it is made");
        text.unwrap_or_default()
    }
}

/// The records of one event or one answer, undecoded, with the arena that they lie in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    pub(crate) arena: Vec<u8>,
    /// In stream order.
    pub(crate) spans: Vec<RawRecord>,
}

/// One Kinesis record: possibly an aggregate of several user records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRecord {
    /// A sequence number, as [`SequenceNumber::check`] wants it.
    pub(crate) sequence: Span,
    /// UTF-8.
    pub(crate) partition_key: Span,
    /// Kinesis's ApproximateArrivalTimestamp, in ms since 1970.
    pub(crate) arrived_at_ms: i64,
    pub(crate) data: Span,
}

impl Records {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The sequence number of the last one: where a reader that polls goes on.
    pub(crate) fn last_sequence(&self) -> Option<SequenceNumber> {
        let last = self.spans.last()?;
        SequenceNumber::parse(last.sequence.text(&self.arena)).ok()
    }
}

/// Appends bytes to an arena; the span that they cover.
#[inline]
pub(crate) fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    Span::new(start, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_within_a_span_counts_from_its_start() {
        let mut arena = b"before".to_vec();
        let span = append(&mut arena, b"0123456789");
        assert_eq!(span.bytes(&arena), b"0123456789");
        let inner = span.within(2..5);
        assert_eq!((inner.text(&arena), inner.len(), inner.range()), ("234", 3, 8..11));
        assert_eq!(span.within(10..10).bytes(&arena), b"");
    }
}
