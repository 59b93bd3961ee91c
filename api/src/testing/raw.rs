//! An HTTP/2 client that does what no library would: it writes frames (RFC 9113) by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Certificate;

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Error codes.
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of a reset or of the end of a connection.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame as it is sent.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A literal header field without indexing (RFC 7541, 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    block
}

/// The head of a request. Of the method by its index in the static table: 2 is GET, 3 is POST.
pub(crate) fn request(
    stream: u32,
    method: u8,
    path: &str,
    fields: &[(&str, &str)],
    ends: bool,
) -> Vec<u8> {
    let mut block = vec![0x80 | method, 0x87];
    block.extend(field(":path", path));
    block.extend(field(":authority", "localhost"));
    fields.iter().for_each(|(name, value)| block.extend(field(name, value)));
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block)
}

/// See the module.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
}

impl Raw {
    /// Connects, and gives each stream this window to be answered in.
    pub(crate) async fn connect(
        certificate: &Certificate,
        address: SocketAddr,
        window: u32,
    ) -> Self {
        let stream = certificate.connect(address, &["h2"]).await.unwrap();
        let mut raw = Self { stream };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut setting = 4u16.to_be_bytes().to_vec();
        setting.extend(window.to_be_bytes());
        hello.extend(frame(SETTINGS, 0, 0, &setting));
        raw.send(&hello).await.unwrap();
        // The server's own settings: from here on it has ours, or will have them before any request.
        assert_eq!(raw.next().await.unwrap().kind, SETTINGS);
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next frame; `None` at the end of the connection. Pings and settings are answered.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if flags & ACK == 0 && kind == PING {
            self.send(&frame(PING, ACK, 0, &payload)).await.ok()?;
        }
        if flags & ACK == 0 && kind == SETTINGS {
            self.send(&frame(SETTINGS, ACK, 0, &[])).await.ok()?;
        }
        Some(Frame { kind, payload })
    }

    /// The next frame of this kind; `None` if the connection ends before.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}
