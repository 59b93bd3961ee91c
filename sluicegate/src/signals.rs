//! SIGTERM and Ctrl-C become one cancellation; a second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells count.
const TOLD_TWICE: i32 = 130;

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
