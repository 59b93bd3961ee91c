//! The demo's parts: each a task with a stop of its own, so that they end one after the other.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A part under way.
pub(super) struct Part {
    name: &'static str,
    stop: CancellationToken,
    /// `Some(why)` when it ended although it must run.
    task: Option<JoinHandle<Option<String>>>,
}

impl Part {
    /// A part that runs until it is stopped; an earlier end is a failure.
    pub(super) fn service<F>(name: &'static str, start: impl FnOnce(CancellationToken) -> F) -> Part
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Part::spawn(name, |stop| {
            let asked = stop.clone();
            let run = start(stop);
            async move {
                match run.await {
                    Err(error) => Some(format!("{name}: {error:#}")),
                    Ok(()) if !asked.is_cancelled() => Some(format!("{name} ended by itself")),
                    Ok(()) => None,
                }
            }
        })
    }

    /// A part that may end by itself.
    pub(super) fn once<F>(name: &'static str, start: impl FnOnce(CancellationToken) -> F) -> Part
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Part::spawn(name, |stop| {
            let run = start(stop);
            async move {
                run.await;
                None
            }
        })
    }

    fn spawn<F>(name: &'static str, start: impl FnOnce(CancellationToken) -> F) -> Part
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(start(stop.clone()));
        Part { name, stop, task: Some(task) }
    }

    /// Completes with the reason when the part failed; never while it is well.
    pub(super) async fn broken(&mut self) -> String {
        if let Some(task) = &mut self.task {
            let ended = task.await;
            self.task = None;
            match ended {
                Ok(Some(why)) => return why,
                Ok(None) => {}
                Err(error) => return format!("{}: {error}", self.name),
            }
        }
        std::future::pending().await
    }

    /// Stops it and waits until it has ended.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let Some(task) = self.task else { return };
        match task.await {
            Ok(None) => {}
            Ok(Some(why)) => tracing::error!(why, "a part failed while it was stopped"),
            Err(error) => {
                tracing::error!(%error, part = self.name, "a part broke while it was stopped")
            }
        }
    }
}
