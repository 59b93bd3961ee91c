//! Whether the app wants this process to get requests, and if not, why. Set from outside, read by
//! `/readyz`.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A switch with a reason.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    reason: Arc<ArcSwapOption<String>>,
}

impl Readiness {
    /// Not ready, because it has just started.
    pub(crate) fn starting() -> Self {
        Self { reason: Arc::new(ArcSwapOption::from_pointee("starting".to_owned())) }
    }

    pub(crate) fn ready(&self) {
        self.reason.store(None);
    }

    pub(crate) fn not_ready(&self, reason: &str) {
        self.reason.store(Some(Arc::new(reason.to_owned())));
    }

    /// Why it is not ready; `None` if it is.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.load().as_deref().cloned()
    }
}
