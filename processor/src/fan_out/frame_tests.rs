use super::*;

/// A frame of these string headers and this payload.
pub(crate) fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.push(u8::try_from(name.len()).unwrap());
        encoded.extend_from_slice(name.as_bytes());
        encoded.push(7);
        encoded.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        encoded.extend_from_slice(value.as_bytes());
    }
    seal(&encoded, payload)
}

fn seal(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(MIN_FRAME_BYTES + headers.len() + payload.len()).unwrap();
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

/// An event's frame with this payload.
pub(crate) fn event(payload: &str) -> Vec<u8> {
    let headers = [
        (":event-type", "SubscribeToShardEvent"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    encode(&headers, payload.as_bytes())
}

/// All frames of bytes that come in these pieces.
fn read(pieces: &[&[u8]]) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
    let mut reader = FrameReader::new(1000, Budget::new(1 << 20));
    let mut frames = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = reader.next()? {
            frames.push((frame.kind().clone(), frame.payload().to_vec()));
        }
    }
    assert_eq!(reader.is_between_frames(), reader.buffer.is_empty());
    Ok(frames)
}

#[test]
fn frames_come_out_whole_wherever_their_bytes_are_split() {
    let first = encode(&[(":message-type", "event"), (":event-type", "initial-response")], b"{}");
    let second = event("{\"Records\":[]}");
    let bytes = [first, second].concat();
    let expected = vec![(Kind::Other, b"{}".to_vec()), (Kind::Event, b"{\"Records\":[]}".to_vec())];
    for at in 0..=bytes.len() {
        assert_eq!(read(&[&bytes[..at], &bytes[at..]]).unwrap(), expected, "split at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single).unwrap(), expected);
}

#[test]
fn a_flipped_bit_anywhere_is_seen() {
    let good = event("{\"Records\":[]}");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let result = read(&[&bad]);
        assert!(result.is_err(), "byte {at}: {result:?}");
    }
}

#[test]
fn a_frame_is_refused_by_its_declared_length_before_it_is_read() {
    let prelude = |total: u32, headers: u32| {
        let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        [&lengths[..], &crc32fast::hash(&lengths).to_be_bytes()].concat()
    };
    assert_eq!(read(&[&prelude(1001, 0)]), Err(FrameError::Length { bytes: 1001, max: 1000 }));
    assert_eq!(read(&[&prelude(15, 0)]), Err(FrameError::Length { bytes: 15, max: 1000 }));
    assert_eq!(
        read(&[&prelude(u32::MAX, 0)]),
        Err(FrameError::Length { bytes: u32::MAX as usize, max: 1000 })
    );
    assert_eq!(read(&[&prelude(20, 5)]), Err(FrameError::HeadersLength { headers: 5, bytes: 20 }));
    assert_eq!(read(&[&prelude(1000, 0)]), Ok(Vec::new()));
}

#[test]
fn exceptions_and_errors_are_told_by_their_headers() {
    let exception = encode(
        &[(":message-type", "exception"), (":exception-type", "ResourceInUseException")],
        b"{\"message\":\"m\"}",
    );
    let error = encode(
        &[(":message-type", "error"), (":error-code", "Throttled"), (":error-message", "slow")],
        b"",
    );
    let frames = read(&[&exception, &error]).unwrap();
    assert_eq!(frames[0].0, Kind::Exception { code: "ResourceInUseException".to_owned() });
    let slow = Kind::Error { code: "Throttled".to_owned(), message: "slow".to_owned() };
    assert_eq!(frames[1].0, slow);
}

#[test]
fn headers_of_every_type_are_passed_over_and_others_refused() {
    let mut headers = Vec::new();
    for (kind, len) in [(0u8, 0usize), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
        headers.extend_from_slice(&[1, b'x', kind]);
        headers.extend(std::iter::repeat_n(0xffu8, len));
    }
    headers.extend_from_slice(&[1, b'b', 6, 0, 2, 0xff, 0xff]);
    headers.extend_from_slice(b"\x0d:message-type\x07\x00\x05event");
    assert_eq!(read(&[&seal(&headers, b"p")]).unwrap(), [(Kind::Other, b"p".to_vec())]);
    for bad in [&b"\x01x\x0a"[..], b"\x05x", b"\x01x\x07\x00\x09abc", b"\x01\xff\x00", b"\x01x"] {
        assert!(
            matches!(read(&[&seal(bad, b"")]), Err(FrameError::Headers { at: 0, .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn a_frame_knows_its_bytes_on_the_wire() {
    let mut reader = FrameReader::new(1000, Budget::new(1 << 20));
    let bytes = event("{}");
    reader.push(Bytes::from(bytes.clone()));
    let frame = reader.next().unwrap().unwrap();
    assert_eq!((frame.wire_bytes(), frame.payload()), (bytes.len(), &b"{}"[..]));
}
