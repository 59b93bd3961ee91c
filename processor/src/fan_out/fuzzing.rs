//! The fuzz target of frames, in any pieces; the others and what they are for: `crate::fuzzing`.
#![allow(clippy::unwrap_used)]

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use bytes::Bytes;

use super::frame::{FrameError, FrameReader, Kind};
use crate::budget::Budget;

/// The largest frame here: inputs are smaller.
const MAX_FRAME_BYTES: usize = 1 << 20;
const PRELUDE_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// The first byte says how the rest comes: bit 0 that checksums are made right first (no mutation would ever hit them), the others how
/// large the pieces are.
///
/// Whatever the pieces, the same frames come out and the same error ends them. The SDK's own reader gives the same payloads and stops
/// where ours does.
pub fn frames(data: &[u8]) {
    let Some((how, wire)) = data.split_first() else { return };
    let mut wire = wire.to_vec();
    if how & 1 == 1 {
        repair(&mut wire);
    }
    let whole = read(wire.chunks(MAX_FRAME_BYTES));
    let piece = usize::from(how >> 1) + 1;
    assert_eq!(read(wire.chunks(piece)), whole, "in pieces of {piece} bytes");
    compare(&whole, &read_by_sdk(&wire));
}

type Frames = (Vec<(Kind, Vec<u8>)>, Result<bool, FrameError>);

/// The frames, and what ended them: an error, or whether nothing of a next one has come.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Frames {
    let mut reader = FrameReader::new(MAX_FRAME_BYTES, Budget::new(64 * MAX_FRAME_BYTES));
    let mut frames = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push((frame.kind().clone(), frame.payload().to_vec())),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(reader.is_between_frames()))
}

/// Payloads as the SDK reads them; false if it then found an error.
fn read_by_sdk(mut wire: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = MessageFrameDecoder::new();
    let mut payloads = Vec::new();
    loop {
        match decoder.decode_frame(&mut wire) {
            Ok(DecodedFrame::Complete(message)) => payloads.push(message.payload().to_vec()),
            Ok(DecodedFrame::Incomplete) => return (payloads, true),
            Err(_) => return (payloads, false),
        }
    }
}

fn compare((ours, end): &Frames, (theirs, sound): &(Vec<Vec<u8>>, bool)) {
    let payloads: Vec<&Vec<u8>> = ours.iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, theirs.iter().collect::<Vec<_>>(), "as the SDK reads them");
    match end {
        Ok(_) => assert!(sound, "the SDK finds an error that we pass over"),
        // The SDK looks at a prelude only once the whole frame is there.
        Err(
            FrameError::PreludeCrc { .. }
            | FrameError::Length { .. }
            | FrameError::HeadersLength { .. },
        ) => {}
        Err(error) => assert!(!sound, "the SDK has no objection, ours is: {error}"),
    }
}

/// Makes the checksums right of every frame whose length leads to a next one.
fn repair(wire: &mut [u8]) {
    let mut at = 0;
    while at + PRELUDE_BYTES + CRC_BYTES <= wire.len() {
        let frame = &mut wire[at..];
        let total = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        let crc = crc32fast::hash(&frame[..8]);
        frame[8..PRELUDE_BYTES].copy_from_slice(&crc.to_be_bytes());
        if !(PRELUDE_BYTES + CRC_BYTES..=frame.len()).contains(&total) {
            return;
        }
        let end = total - CRC_BYTES;
        let crc = crc32fast::hash(&frame[..end]);
        frame[end..total].copy_from_slice(&crc.to_be_bytes());
        at += total;
    }
}
