//! Many processes in one thread and one simulated time: a runtime for each, stepped in seeded order.
//!
//! Every process is a current-thread runtime of its own with paused time. The scheduler always steps the one whose clock is
//! furthest behind (a draw of the seed among equals): it runs until it is idle, then its clock moves to its next timer, at most
//! [`LOOKAHEAD`] on. So nobody waits for a tick, timers fire at their own time, and what one process does to another (a pushed
//! record, a subscription taken over) arrives at most that much later, as over a network. Killing a process drops its runtime with
//! every task in it; a process that is paused is not stepped, and its clock jumps when it goes on. Start at [`Scheduler::run_until`].

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The furthest that one process may be ahead of another.
const LOOKAHEAD: Duration = Duration::from_millis(50);

/// The time that all processes share. It stands still while a process runs, and never goes back.
#[derive(Debug, Clone)]
pub struct SimClock {
    epoch: SystemTime,
    passed_us: Arc<AtomicU64>,
}

impl SimClock {
    pub fn starting_at(epoch: SystemTime) -> SimClock {
        SimClock { epoch, passed_us: Arc::new(AtomicU64::new(0)) }
    }

    /// The simulated time that has passed.
    pub fn passed(&self) -> Duration {
        Duration::from_micros(self.passed_us.load(Ordering::Relaxed))
    }

    fn set(&self, passed: Duration) {
        let before = self.passed();
        assert!(before <= passed, "time went back from {before:?} to {passed:?}");
        self.passed_us.store(u64::try_from(passed.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl TimeSource for SimClock {
    fn now(&self) -> SystemTime {
        self.epoch + self.passed()
    }
}

/// Names a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(u64);

/// A process: its runtime, and the simulated time that it has reached.
struct Process {
    runtime: Runtime,
    turn: Arc<Turn>,
    main: JoinHandle<String>,
    at: Duration,
    paused: bool,
}

/// Wakes the future that steps a runtime as soon as the runtime's clock has moved.
#[derive(Default)]
struct Turn(Mutex<Option<(Instant, Waker)>>);

impl Turn {
    fn unparked(&self) {
        if let Some((began, waker)) = &*self.0.lock().unwrap()
            && Instant::now() != *began
        {
            waker.wake_by_ref();
        }
    }

    /// Completes, having moved the clock, when everything is idle and the next timer or `most` is reached; says how far it is.
    async fn take(&self, most: Duration) -> Duration {
        let began = Instant::now();
        let mut most = pin!(sleep(most));
        poll_fn(|context| {
            if Instant::now() != began {
                return Poll::Ready(());
            }
            *self.0.lock().unwrap() = Some((began, context.waker().clone()));
            most.as_mut().poll(context)
        })
        .await;
        *self.0.lock().unwrap() = None;
        began.elapsed()
    }
}

impl Process {
    fn start(at: Duration, main: impl Future<Output = String> + Send + 'static) -> Process {
        let turn = Arc::new(Turn::default());
        let hook = Arc::clone(&turn);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_unpark(move || hook.unparked())
            .build()
            .unwrap();
        let main = runtime.spawn(main);
        Process { runtime, turn, main, at, paused: false }
    }

    fn step(&mut self, most: Duration) {
        self.at += self.runtime.block_on(self.turn.take(most));
    }
}

/// All processes of a simulation.
pub struct Scheduler {
    pub clock: SimClock,
    processes: BTreeMap<ProcessId, Process>,
    started: u64,
    rng: fastrand::Rng,
}

impl Scheduler {
    pub fn new(clock: SimClock, seed: u64) -> Scheduler {
        let rng = fastrand::Rng::with_seed(seed ^ 0x5c4e_d01e);
        Scheduler { clock, processes: BTreeMap::new(), started: 0, rng }
    }

    /// Starts a process; it runs from the next step on. What `main` returns is why it ended.
    pub fn start(&mut self, main: impl Future<Output = String> + Send + 'static) -> ProcessId {
        self.started += 1;
        let id = ProcessId(self.started);
        self.processes.insert(id, Process::start(self.clock.passed(), main));
        id
    }

    /// `kill -9`: the process is gone with every task it had.
    pub fn kill(&mut self, id: ProcessId) {
        self.processes.remove(&id);
    }

    /// SIGSTOP: time goes on without it.
    pub fn pause(&mut self, id: ProcessId) {
        self.processes.get_mut(&id).unwrap().paused = true;
    }

    /// SIGCONT: it goes on at the time that it is now.
    pub fn resume(&mut self, id: ProcessId) {
        let now = self.clock.passed();
        let process = self.processes.get_mut(&id).unwrap();
        let missed = now - process.at;
        process.runtime.block_on(tokio::time::advance(missed));
        (process.at, process.paused) = (now, false);
    }

    /// Why a process ended; `None` while it runs. It is gone when this was asked.
    pub fn ended(&mut self, id: ProcessId) -> Option<String> {
        if !self.processes.get(&id)?.main.is_finished() {
            return None;
        }
        let process = self.processes.remove(&id)?;
        let why = process.runtime.block_on(process.main);
        Some(why.unwrap_or_else(|error| format!("its main task broke: {error}")))
    }

    /// Steps every process to `until`, and calls `check` after each step.
    pub fn run_until(&mut self, until: Duration, mut check: impl FnMut()) {
        let clock = self.clock.clone();
        while let Some(process) = self.next(until) {
            clock.set(process.at);
            let most = LOOKAHEAD.min(until - process.at);
            process.step(most);
            check();
        }
        clock.set(until);
    }

    /// The process that is furthest behind `until`; among equals the seed draws one.
    fn next(&mut self, until: Duration) -> Option<&mut Process> {
        let runs = |process: &&mut Process| !process.paused && process.at < until;
        let rng = &mut self.rng;
        let running = self.processes.values_mut().filter(runs);
        running.min_by_key(|process| (process.at, rng.u32(..)))
    }
}
