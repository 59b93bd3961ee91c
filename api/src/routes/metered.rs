//! A body whose bytes are counted as they go by, against the client's bytes of the day. One that has no length of
//! its own (a stream of events) is cut when they are used up, one frame later: its last word may say why. One that has
//! is never cut in its middle.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::access::Meter;

/// See the module.
pub(crate) struct MeteredBody {
    body: Body,
    meter: Meter,
    has_length: bool,
    rest: Rest,
}

/// What may come yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Everything,
    LastWord,
    Nothing,
}

impl MeteredBody {
    /// The same body, counted by `meter`, which is dropped with it.
    pub(crate) fn wrap(body: Body, meter: Meter) -> Body {
        let has_length = body.size_hint().exact().is_some();
        Body::new(Self { body, meter, has_length, rest: Rest::Everything })
    }

    /// The same body, counted by `meter` and never cut.
    pub(crate) fn wrap_whole(body: Body, meter: Meter) -> Body {
        Body::new(Self { body, meter, has_length: true, rest: Rest::Everything })
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest == Rest::Nothing {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let is_left = self.meter.count(data.len() as u64);
            if !is_left && !self.has_length {
                self.rest = match self.rest {
                    Rest::Everything => Rest::LastWord,
                    _ => Rest::Nothing,
                };
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest == Rest::Nothing || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
