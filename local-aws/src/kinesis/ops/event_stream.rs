//! Frames of `application/vnd.amazon.eventstream`: prelude, headers, payload, and a CRC of each part.
//!
//! A frame is built in one buffer: the payload is written where it will be sent from, and lengths and sums are filled in after.

use bytes::Bytes;

use crate::kinesis::error::Refusal;

/// Total length, headers' length, and the CRC of both.
const PRELUDE: usize = 12;
const STRING_HEADER: u8 = 7;
const JSON: &str = "application/x-amz-json-1.1";

/// A frame in the making: write the payload into [`Frame::payload`], then [`Frame::finish`].
#[derive(Debug)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    headers: usize,
}

impl Frame {
    fn new(headers: [(&str, &str); 3], room: usize) -> Self {
        let mut bytes = Vec::with_capacity(PRELUDE + 160 + room);
        bytes.resize(PRELUDE, 0);
        for (name, value) in headers {
            // Names and values are short constants, so the casts lose nothing.
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(STRING_HEADER);
            bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        let headers = bytes.len() - PRELUDE;
        Self { bytes, headers }
    }

    /// An event with JSON of about `room` bytes.
    pub(super) fn event(event_type: &str, room: usize) -> Self {
        let headers =
            [(":event-type", event_type), (":content-type", JSON), (":message-type", "event")];
        Self::new(headers, room)
    }

    /// An exception, complete.
    pub(super) fn exception(refusal: &Refusal) -> Bytes {
        let headers = [
            (":exception-type", refusal.code()),
            (":content-type", JSON),
            (":message-type", "exception"),
        ];
        let mut frame = Self::new(headers, 256);
        let message = serde_json::json!({ "message": refusal.message() });
        frame.payload().extend_from_slice(message.to_string().as_bytes());
        frame.finish()
    }

    /// Where the payload is appended.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Fills in lengths and checksums.
    pub(super) fn finish(mut self) -> Bytes {
        let total = (self.bytes.len() + 4) as u32;
        self.bytes[..4].copy_from_slice(&total.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&(self.headers as u32).to_be_bytes());
        let prelude_crc = crc32fast::hash(&self.bytes[..8]);
        self.bytes[8..PRELUDE].copy_from_slice(&prelude_crc.to_be_bytes());
        let message_crc = crc32fast::hash(&self.bytes);
        self.bytes.extend_from_slice(&message_crc.to_be_bytes());
        self.bytes.into()
    }
}

/// The frame that opens every response stream.
pub(super) fn initial_response() -> Bytes {
    let mut frame = Frame::event("initial-response", 2);
    frame.payload().extend_from_slice(b"{}");
    frame.finish()
}
