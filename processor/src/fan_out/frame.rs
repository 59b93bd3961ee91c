//! Frames of an event stream: `prelude | prelude CRC | headers | payload | message CRC`.
//!
//! Bytes arrive in any pieces; a frame comes out whole, checked, in a buffer of its own. A frame's length is known, and refused, before it is read.

use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::budget::{Budget, Permit};
use crate::buffer::Buffer;

/// Two lengths and their CRC.
const PRELUDE_BYTES: usize = 12;
/// The CRC of everything before it.
const CRC_BYTES: usize = 4;
/// The smallest frame: no headers, no payload.
const MIN_FRAME_BYTES: usize = PRELUDE_BYTES + CRC_BYTES;

/// A frame that cannot be trusted: what follows it cannot be read either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the prelude's checksum is {found:08x} and should be {computed:08x}")]
    PreludeCrc { found: u32, computed: u32 },
    #[error("the frame's checksum is {found:08x} and should be {computed:08x}")]
    MessageCrc { found: u32, computed: u32 },
    #[error("a frame of {bytes} bytes; {MIN_FRAME_BYTES} to {max} are allowed")]
    Length { bytes: usize, max: usize },
    #[error("the reading budget has no room for a frame of {bytes} bytes")]
    NoRoom { bytes: usize },
    #[error("headers of {headers} bytes in a frame of {bytes}")]
    HeadersLength { headers: usize, bytes: usize },
    #[error("the headers cannot be read at byte {at} of {of}")]
    Headers { at: usize, of: usize },
}

/// What a frame is, by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A SubscribeToShardEvent.
    Event,
    /// The initial response, or an event of a kind that we do not know: passed over.
    Other,
    /// An exception of the service, by its name; the payload says more.
    Exception { code: String },
    /// An error outside the service's model.
    Error { code: String, message: String },
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    kind: Kind,
    buffer: Buffer,
    payload: Range<usize>,
    permit: Permit,
}

impl Frame {
    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What the frame was charged, to be held as long as anything that was made of it.
    pub(super) fn into_permit(self) -> Permit {
        self.permit
    }

    /// Bytes of the frame on the wire.
    pub(super) fn wire_bytes(&self) -> usize {
        self.payload.end + CRC_BYTES
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }
}

/// Puts frames together, each charged to the reading budget before it is read.
#[derive(Debug)]
pub(super) struct FrameReader {
    max_frame_bytes: usize,
    budget: Budget,
    /// What has come of the frame under way.
    buffer: Buffer,
    /// Its lengths, once the prelude is there.
    prelude: Option<(Prelude, Permit)>,
    /// What has come and was not looked at yet.
    unread: Bytes,
}

#[derive(Debug, Clone, Copy)]
struct Prelude {
    total: usize,
    headers: usize,
}

impl FrameReader {
    pub(super) fn new(max_frame_bytes: usize, budget: Budget) -> FrameReader {
        FrameReader {
            max_frame_bytes,
            budget,
            buffer: Buffer::default(),
            prelude: None,
            unread: Bytes::new(),
        }
    }

    /// Takes more bytes. All that was taken before has been asked for by [`FrameReader::next`].
    pub(super) fn push(&mut self, data: Bytes) {
        debug_assert!(self.unread.is_empty(), "bytes are taken only when there are none left");
        self.unread = data;
    }

    /// True when nothing of a next frame has come.
    pub(super) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty() && self.unread.is_empty()
    }

    /// The next whole frame; `None` until more bytes are taken. With [`FrameError::NoRoom`], as with
    /// any other error, the stream cannot be read on.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.prelude.is_none() {
            if !self.fill_to(PRELUDE_BYTES) {
                return Ok(None);
            }
            let prelude = read_prelude(&self.buffer, self.max_frame_bytes)?;
            let bytes = prelude.total;
            let permit = self.budget.try_charge(bytes).ok_or(FrameError::NoRoom { bytes })?;
            let mut buffer = Buffer::with_room(bytes);
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
            self.prelude = Some((prelude, permit));
        }
        let total = self.prelude.as_ref().map_or(PRELUDE_BYTES, |(prelude, _)| prelude.total);
        if !self.fill_to(total) {
            return Ok(None);
        }
        let Some((prelude, permit)) = self.prelude.take() else { return Ok(None) };
        finish(std::mem::take(&mut self.buffer), prelude, permit).map(Some)
    }

    /// Moves bytes until the frame has `len`; false when there are not enough.
    fn fill_to(&mut self, len: usize) -> bool {
        let missing = len - self.buffer.len();
        let part = self.unread.len().min(missing);
        self.buffer.extend_from_slice(&self.unread[..part]);
        self.unread.advance(part);
        if self.unread.is_empty() {
            // Whoever read from the socket fills its buffer again once nobody holds a part of it.
            self.unread = Bytes::new();
        }
        part == missing
    }
}

fn read_prelude(bytes: &[u8], max: usize) -> Result<Prelude, FrameError> {
    let (total, headers) = (be_u32(bytes, 0) as usize, be_u32(bytes, 4) as usize);
    let (found, computed) = (be_u32(bytes, 8), crc32fast::hash(&bytes[..8]));
    if found != computed {
        return Err(FrameError::PreludeCrc { found, computed });
    }
    if !(MIN_FRAME_BYTES..=max).contains(&total) {
        return Err(FrameError::Length { bytes: total, max });
    }
    if headers > total - MIN_FRAME_BYTES {
        return Err(FrameError::HeadersLength { headers, bytes: total });
    }
    Ok(Prelude { total, headers })
}

/// Checks a whole frame and reads its headers.
fn finish(buffer: Buffer, prelude: Prelude, permit: Permit) -> Result<Frame, FrameError> {
    let end = prelude.total - CRC_BYTES;
    let (found, computed) = (be_u32(&buffer, end), crc32fast::hash(&buffer[..end]));
    if found != computed {
        return Err(FrameError::MessageCrc { found, computed });
    }
    let payload = PRELUDE_BYTES + prelude.headers..end;
    let kind = read_headers(&buffer[PRELUDE_BYTES..payload.start])?;
    Ok(Frame { kind, buffer, payload, permit })
}

#[derive(Default)]
struct Headers<'a> {
    message_type: &'a str,
    event_type: &'a str,
    exception_type: &'a str,
    error_code: &'a str,
    error_message: &'a str,
}

fn read_headers(bytes: &[u8]) -> Result<Kind, FrameError> {
    let mut headers = Headers::default();
    let mut at = 0;
    while at < bytes.len() {
        let unreadable = FrameError::Headers { at, of: bytes.len() };
        let (name, value, next) = header(bytes, at).ok_or(unreadable)?;
        match name {
            ":message-type" => headers.message_type = value,
            ":event-type" => headers.event_type = value,
            ":exception-type" => headers.exception_type = value,
            ":error-code" => headers.error_code = value,
            ":error-message" => headers.error_message = value,
            _ => {}
        }
        at = next;
    }
    Ok(match (headers.message_type, headers.event_type) {
        ("event", "SubscribeToShardEvent") => Kind::Event,
        ("exception", _) => Kind::Exception { code: headers.exception_type.to_owned() },
        ("error", _) => Kind::Error {
            code: headers.error_code.to_owned(),
            message: headers.error_message.to_owned(),
        },
        _ => Kind::Other,
    })
}

/// The header at `at`: its name, its value if that is a string, and where the next one begins.
fn header(bytes: &[u8], at: usize) -> Option<(&str, &str, usize)> {
    let name_len = usize::from(*bytes.get(at)?);
    let name_end = at + 1 + name_len;
    let name = str::from_utf8(bytes.get(at + 1..name_end)?).ok()?;
    let value = name_end + 1;
    let sized = || {
        let len = bytes.get(value..value + 2)?;
        Some(2 + usize::from(u16::from_be_bytes([len[0], len[1]])))
    };
    let kind = *bytes.get(name_end)?;
    let len = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        6 | 7 => sized()?,
        9 => 16,
        _ => return None,
    };
    let raw = bytes.get(value..value + len)?;
    let text = if kind == 7 { str::from_utf8(&raw[2..]).ok()? } else { "" };
    Some((name, text, value + len))
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
#[path = "frame_tests.rs"]
pub(crate) mod frame_tests;
