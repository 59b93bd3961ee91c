//! HTTP/2 streams whose clients must take what they asked for. A client that reads its connection and gives a stream no
//! window looks well to TCP; what it was answered would wait as long as the connection lives. Here each stream has a
//! deadline of its own, and no more of an answer is handed to the connection than one piece that was not taken.
//!
//! [`Streams`] runs each stream's work; [`taken`] tells it, from within, how far the client is.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::Response;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Instant;

use crate::metrics;

/// What of an answer is handed to the connection at a time: the size of a frame. It may wait there without end, so it is
/// no part of anything larger.
pub(super) const PIECE_BYTES: usize = 16 * 1024;
/// Far enough away for a deadline that does not hold.
const NEVER: Duration = Duration::from_secs(86_400);

tokio::task_local! {
    /// The stream that is worked for. Hyper does not tell its executor which request it runs.
    static STREAM: Arc<Taking>;
}

/// Since when a stream's client has not taken what is there for it.
#[derive(Debug)]
struct Taking {
    began: Instant,
    /// In ms after `began`, plus one; 0: nothing is there.
    since: AtomicU64,
}

impl Taking {
    fn new() -> Arc<Taking> {
        Arc::new(Taking { began: Instant::now(), since: AtomicU64::new(0) })
    }

    /// Something is there for the client.
    fn offered(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(ms.saturating_add(1), Ordering::Relaxed);
    }

    /// The client has taken all that was there.
    fn taken(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn since(&self) -> Option<Instant> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.began + Duration::from_millis(since))
    }
}

/// Runs the work of streams, and ends a stream whose client takes nothing for too long: it is reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// So long may nothing be taken of what is there.
    pub(super) stall: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        let (taking, stall) = (Taking::new(), self.stall);
        let watched = watch(work, Arc::clone(&taking), stall);
        tokio::spawn(STREAM.scope(taking, watched));
    }
}

/// Drives `work` to its end, or drops it.
async fn watch<F: Future>(work: F, taking: Arc<Taking>, stall: Duration) {
    let mut work = pin!(work);
    let mut deadline = pin!(tokio::time::sleep(NEVER));
    std::future::poll_fn(|cx| {
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // What is worked on here is all that changes it.
        let Some(since) = taking.since() else { return Poll::Pending };
        if deadline.deadline() != since + stall {
            deadline.as_mut().reset(since + stall);
        }
        ready!(deadline.as_mut().poll(cx));
        metrics::stream_reset();
        Poll::Ready(())
    })
    .await;
}

/// The same answer, whose stream is told how far its client is with it.
pub(super) fn taken(response: Response<Body>) -> Response<Body> {
    let Ok(taking) = STREAM.try_with(Arc::clone) else { return response };
    response.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        taking.offered();
        Body::new(TakenBody { body, taking, rest: Bytes::new() })
    })
}

/// A body that is asked for more only when there is a window for it: then all before was taken.
struct TakenBody {
    body: Body,
    taking: Arc<Taking>,
    /// What is left of a frame that was larger than a piece.
    rest: Bytes,
}

impl TakenBody {
    /// The next piece of what is left, as a copy: the whole is not kept alive by what waits in the connection.
    fn piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Bytes::copy_from_slice(&piece)
    }
}

impl HttpBody for TakenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taking.taken();
        if !self.rest.is_empty() {
            self.taking.offered();
            return Poll::Ready(Some(Ok(Frame::data(self.piece()))));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            ended => return Poll::Ready(ended),
        };
        self.taking.offered();
        match frame.into_data() {
            Ok(data) if data.len() > PIECE_BYTES => {
                self.rest = data;
                Poll::Ready(Some(Ok(Frame::data(self.piece()))))
            }
            Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(other) => Poll::Ready(Some(Ok(other))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
