//! What an answer looks like before and after it is HTTP: [`Answer`] is what a service returns, [`BodyStream`] is the response body
//! that both the in-process connector and the loopback server carry.
//!
//! Nothing here knows an operation. Start reading at [`Answer`].

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

/// Content type of a `SubscribeToShard` response.
pub(crate) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// What a service answers to one call.
pub(crate) enum Answer {
    /// A whole JSON document with its HTTP status; services of the query protocol have it translated to XML.
    Json {
        /// HTTP status code; 200 for success.
        status: u16,
        /// The JSON text.
        body: Bytes,
    },
    /// An open-ended response of event-stream frames (status 200); dropping it ends the subscription.
    Stream(BoxStream<'static, Bytes>),
}

impl Answer {
    /// A successful JSON answer.
    #[must_use]
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::Json { status: 200, body: body.into() }
    }

    /// An error in the form of the awsJson protocols: `__type` (a bare code, or `namespace#Code`) and a message.
    #[must_use]
    pub(crate) fn error(status: u16, error_type: &str, message: &str) -> Self {
        let body = serde_json::json!({ "__type": error_type, "message": message });
        Self::Json { status, body: body.to_string().into() }
    }
}

/// An HTTP response of this crate.
pub(crate) fn response(
    status: u16,
    content_type: &'static str,
    body: BodyStream,
) -> Response<BodyStream> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A response body: one piece, or a stream of pieces that may end in an error (a cut connection).
///
/// Dropping it drops the stream behind it.
pub struct BodyStream(Inner);

enum Inner {
    Whole(Option<Bytes>),
    // The mutex is never locked: it only makes the stream `Sync`, which the SDK asks of a body.
    Pieces(Mutex<BoxStream<'static, io::Result<Bytes>>>),
}

impl BodyStream {
    /// A body of one piece; its length is known.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        Self(Inner::Whole(Some(body).filter(|bytes| !bytes.is_empty())))
    }

    /// A body that may fail on the way; an error reaches the client as a cut connection.
    #[must_use]
    pub fn pieces(pieces: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self(Inner::Pieces(Mutex::new(pieces)))
    }
}

impl Body for BodyStream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|piece| Ok(Frame::data(piece)))),
            Inner::Pieces(pieces) => {
                let pieces = pieces.get_mut().unwrap_or_else(PoisonError::into_inner);
                Pin::new(pieces)
                    .poll_next(context)
                    .map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Pieces(_) => SizeHint::default(),
        }
    }
}
