//! SIGTERM and Ctrl-C become one cancellation; a second one ends the process at once.

use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells count.
const TOLD_TWICE: i32 = 130;

/// Signals this soon after the first one are the first one.
const ONE_BREATH: Duration = Duration::from_secs(1);

/// A token that is cancelled when the process is asked to stop.
pub(crate) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping: work under way is finished first; ask again to stop at once");
        told.cancel();
        // Who stops a process group (`timeout`, a shell) often tells its leader twice in one breath.
        tokio::time::sleep(ONE_BREATH).await;
        while next(&mut terminate, &mut interrupt).now_or_never().is_some() {}
        next(&mut terminate, &mut interrupt).await;
        std::process::exit(TOLD_TWICE);
    });
    Ok(stop)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
