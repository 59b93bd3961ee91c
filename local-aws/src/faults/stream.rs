//! An open event stream under faults: cut, silent for good, or standing still while a partition lasts.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::Notify;

use super::{Faults, Flow};
use crate::dispatch::Call;
use crate::tap::{Seen, Tap};

struct Guarded {
    frames: BoxStream<'static, Bytes>,
    faults: Faults,
    changes: Arc<Notify>,
    call: Call,
    tap: Option<Tap>,
    cut: bool,
}

/// The frames of the stream that answers `call`, as long as no fault cuts or stalls it.
pub(crate) fn guard(
    frames: BoxStream<'static, Bytes>,
    faults: Faults,
    mut call: Call,
    tap: Option<Tap>,
) -> BoxStream<'static, io::Result<Bytes>> {
    call.body = Bytes::new();
    let guarded = Guarded { frames, changes: faults.changes(), faults, call, tap, cut: false };
    stream::unfold(guarded, |mut guarded| async {
        let item = guarded.next().await?;
        guarded.show(&item);
        Some((item, guarded))
    })
    .fuse()
    .boxed()
}

impl Guarded {
    fn show(&self, item: &io::Result<Bytes>) {
        let Some(tap) = &self.tap else { return };
        match item {
            Ok(frame) => tap.show(&self.call, Seen::Frame(frame)),
            Err(_) => tap.show(&self.call, Seen::Cut),
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.cut {
            return None;
        }
        loop {
            // Made before the faults are looked at, so that a change in between wakes the wait below.
            let changed = self.changes.notified();
            match self.faults.flow(&self.call) {
                Flow::Cut => {
                    self.cut = true;
                    return Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                Flow::Silent => std::future::pending().await,
                Flow::Stalled => changed.await,
                Flow::Open => tokio::select! {
                    biased;
                    () = changed => {}
                    frame = self.frames.next() => return frame.map(Ok),
                },
            }
        }
    }
}
