//! An open event stream under faults: cut, or standing still while a partition lasts.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use super::{Faults, Flow};
use crate::dispatch::Call;

struct Guarded {
    frames: BoxStream<'static, Bytes>,
    faults: Faults,
    changes: watch::Receiver<u64>,
    call: Call,
    cut: bool,
}

/// The frames of the stream that answers `call`, as long as no fault cuts or stalls it.
pub(crate) fn guard(
    frames: BoxStream<'static, Bytes>,
    faults: Faults,
    mut call: Call,
) -> BoxStream<'static, io::Result<Bytes>> {
    call.body = Bytes::new();
    let guarded = Guarded { frames, changes: faults.changes(), faults, call, cut: false };
    stream::unfold(guarded, |mut guarded| async {
        let item = guarded.next().await?;
        Some((item, guarded))
    })
    .fuse()
    .boxed()
}

impl Guarded {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.cut {
            return None;
        }
        loop {
            // Seen before the faults are looked at, so that a change in between wakes the wait below.
            self.changes.borrow_and_update();
            match self.faults.flow(&self.call) {
                Flow::Cut => {
                    self.cut = true;
                    return Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                // The faults hold the other end, so a wait cannot fail.
                Flow::Stalled => drop(self.changes.changed().await),
                Flow::Open => tokio::select! {
                    biased;
                    _ = self.changes.changed() => {}
                    frame = self.frames.next() => return frame.map(Ok),
                },
            }
        }
    }
}
