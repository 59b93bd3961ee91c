//! Many seeds, one after the other on each of a few threads, until one fails.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::course::{self, Outcome};
use crate::wire::Trace;

thread_local! {
    /// Panics on this thread since the last look: a runtime swallows those of the tasks it runs.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Has panics counted from now on.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            tell(info);
        }));
    });
    PANICS.set(0);
}

/// Panics if a task of a process did.
pub fn check_panics() {
    assert!(PANICS.replace(0) == 0, "a task panicked");
}

/// Runs one seed; a failing one says how to replay it. In a thread of its own: what a thread keeps for its next use, buffers above
/// all, would let one seed's course depend on those that ran before it.
pub fn run(seed: u64, traced: bool) -> (Outcome, Option<Trace>) {
    let alone = || {
        watch_panics();
        course::run(seed, traced)
    };
    match std::thread::scope(|scope| scope.spawn(alone).join()) {
        Ok(ended) => ended,
        Err(panic) => {
            eprintln!("seed {seed} failed; replay it: just sim --seeds 1 --first {seed}");
            eprintln!("or: SIM_FIRST={seed} SIM_SEEDS=1 cargo test -p tests --test sim p1_");
            eprintln!(
                "with SIM_TRACE=1 it tells the wire, with SIM_LOG=processor=debug what workers say, too"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs `seeds` seeds from `first` on over `threads` threads; ends with the first that fails. Calls `done` after each.
pub fn run_all(first: u64, seeds: u64, threads: u64, done: &(dyn Fn(u64, Outcome) + Sync)) {
    // To be told the wire of a seed that fails.
    let traced = std::env::var_os("SIM_TRACE").is_some();
    // And what the workers say, for one who looks into few.
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        log.with_writer(std::io::stderr).with_ansi(false).init();
    }
    let next = AtomicU64::new(first);
    let end = first + seeds;
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                // Nobody starts another seed while this one unwinds.
                let stop = StopAll(&next, end);
                let (outcome, _) = run(seed, traced);
                std::mem::forget(stop);
                done(seed, outcome);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let failed: Vec<_> = workers.into_iter().filter_map(|worker| worker.join().err()).collect();
        if let Some(panic) = failed.into_iter().next() {
            std::panic::resume_unwind(panic);
        }
    });
}

struct StopAll<'a>(&'a AtomicU64, u64);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}
