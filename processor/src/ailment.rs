//! Since when something that a pipeline needs fails, and why: told by whoever calls it, read by status pages.
//!
//! One refusal is no ailment; a dependency that kept nothing for a while is. It says so in the log when
//! it begins, ever more rarely while it lasts, and when it is over. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// What fails for less than this is a hiccup.
const PATIENCE: Duration = Duration::from_secs(5);

/// One dependency, as a pipeline meets it. Written by one task.
#[derive(Debug)]
pub(crate) struct Ailment {
    dependency: &'static str,
    failing: ArcSwapOption<Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    why: String,
    /// The log has it once it has lasted this long.
    said_at: Duration,
}

impl Ailment {
    /// Nothing ails `dependency` yet.
    pub(crate) fn new(dependency: &'static str) -> Ailment {
        Ailment { dependency, failing: ArcSwapOption::empty() }
    }

    /// It did nothing of what it was asked.
    pub(crate) fn failed(&self, why: &str, now: Instant) {
        let known = self.failing.load();
        let (since, mut said_at) = known.as_ref().map_or((now, PATIENCE), |f| (f.since, f.said_at));
        let lasted = now - since;
        if lasted >= said_at {
            said_at = lasted * 2;
            let (dependency, seconds) = (self.dependency, lasted.as_secs());
            tracing::warn!(
                dependency,
                seconds,
                why,
                "a dependency fails; what needs it waits, nothing is skipped"
            );
        }
        let why = why.to_owned();
        self.failing.store(Some(Arc::new(Failing { since, why, said_at })));
    }

    /// It did some of what it was asked, or is asked for nothing any more.
    pub(crate) fn recovered(&self, now: Instant) {
        if self.failing.load().is_none() {
            return;
        }
        if let Some(failing) = self.failing.swap(None).filter(|f| f.said_at > PATIENCE) {
            let seconds = (now - failing.since).as_secs();
            tracing::info!(dependency = self.dependency, seconds, "a dependency is back");
        }
    }

    /// It fails now, be it for a moment only.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load().is_some()
    }

    /// The dependency's name and what ails it, in words, once that has lasted.
    pub(crate) fn words(&self, now: Instant) -> Option<(String, String)> {
        let failing = self.failing.load_full()?;
        let lasted = now - failing.since;
        let words = || format!("fails for {} s: {}", lasted.as_secs(), failing.why);
        (lasted >= PATIENCE).then(|| (self.dependency.to_owned(), words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_an_ailment_until_something_works() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ailment = Ailment::new("store");
        ailment.failed("no answer", start);
        assert_eq!(ailment.words(at(4)), None, "a hiccup");
        ailment.failed("throttled", at(6));
        let words = ("store".to_owned(), "fails for 7 s: throttled".to_owned());
        assert_eq!(ailment.words(at(7)), Some(words));
        ailment.recovered(at(8));
        assert!(!ailment.is_failing() && ailment.words(at(60)).is_none());
        ailment.failed("again", at(60));
        assert_eq!(ailment.words(at(61)), None, "counted anew");
    }
}
