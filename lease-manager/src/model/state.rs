//! What one moment of the model is, and what may happen in it.
//!
//! A state is small and `Copy`: leases and planned writes are numbers that `memory.rs` resolves.

/// Workers of the model.
pub(super) const WORKERS: usize = 2;
/// Shards of the model, at most.
pub(super) const SHARDS: usize = 3;
/// Lanes of every lease.
pub(super) const LANES: usize = 2;
/// The position of a lane that settled the whole shard.
pub(super) const END: u8 = 9;
/// Writes that may be under way after their sender gave up waiting.
pub(super) const FLIGHT: usize = 2;

pub(super) type Worker = usize;
pub(super) type Shard = usize;
pub(super) type Life = u8;

/// A lease record; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Rec(pub(super) u16);

/// A planned write; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Planned(pub(super) u16);

/// A worker's state in the fleet table. Joining and draining differ from working in nothing that matters to leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Active,
    Stopped,
    Dead,
}

/// A worker's item in the fleet table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) life: Life,
    pub(super) mode: Mode,
}

pub(super) type Fleet = [Member; WORKERS];

/// A lease that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    /// The lease after the last write with a known outcome.
    pub(super) seen: Rec,
    /// What the write with an unknown outcome would have made of it.
    pub(super) doubt: Rec,
    /// A write that gives the lease up was planned from `seen`, so it may yet arrive.
    pub(super) leaving: bool,
}

impl Holding {
    /// A lease that is known to be so.
    pub(super) fn of(seen: Rec) -> Self {
        Self { seen, doubt: Rec::default(), leaving: false }
    }
}

/// A worker's process, with what it believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) up: bool,
    /// The life that it believes to have; 0 before it joined and after its end.
    pub(super) life: Life,
    /// How many of the two moments that matter passed since its last heartbeat.
    pub(super) phase: u8,
    /// The leases lapsed, and were not read since.
    pub(super) unverified: bool,
    /// The fleet as it last read it; of itself it knows best.
    pub(super) view: Fleet,
    pub(super) held: [Option<Holding>; SHARDS],
}

/// What may still go wrong. Bounds the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    /// Processes that are killed; each may start again.
    pub(super) crashes: u8,
    /// Times that a worker does nothing, or is cut off, for as long as you like.
    pub(super) pauses: u8,
    /// Writes that happen, and whose reply is lost.
    pub(super) lost_replies: u8,
    /// Writes whose sender stops waiting, and that happen later or never.
    pub(super) late_writes: u8,
    /// Leases that a worker is asked to give up.
    pub(super) moves: u8,
    /// Workers that stop in good order.
    pub(super) stops: u8,
}

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The lease table.
    pub(super) leases: [Rec; SHARDS],
    /// The fleet table.
    pub(super) fleet: Fleet,
    pub(super) workers: [Process; WORKERS],
    /// Writes under way that nobody waits for.
    pub(super) flight: [Planned; FLIGHT],
    /// The newest position of each lane whose write was acknowledged to its worker.
    pub(super) acknowledged: [[u8; LANES]; SHARDS],
    pub(super) left: Budget,
    /// Promises that the step to here broke, as bits of [`super::promises::Broken`].
    pub(super) broken: u16,
}

/// How a write ends for the worker that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    /// It is answered at once.
    Answered,
    /// It arrives, and the reply is lost.
    ReplyLost,
    /// The worker stops waiting while it is under way.
    Late,
}

/// What the owner does with a lease that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum OwnerWrite {
    /// A checkpoint that moves one lane to its next position.
    Advance { lane: usize, to: u8 },
    /// The reader saw the end, and the children's leases were made.
    ReaderEnded,
    /// Every lane is at the end.
    Finish,
    /// To a worker in the life that the owner knows of.
    HandOver { to: Worker, life: Life },
    /// To nobody.
    Release,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A heartbeat is answered; or refused, and the worker joins again.
    Beat {
        worker: Worker,
    },
    /// A heartbeat arrives in time for the others, and is not answered in time for its worker.
    BeatReplyLost {
        worker: Worker,
    },
    /// Time passes without a heartbeat, until the next of the two moments that matter.
    TimePasses {
        worker: Worker,
    },
    /// A silent worker is declared dead.
    Declare {
        by: Worker,
        dead: Worker,
    },
    /// A worker reads the fleet.
    Look {
        worker: Worker,
    },
    /// A worker reads all leases: drops what it lost, and takes in what it was given.
    Read {
        worker: Worker,
    },
    /// A worker takes an orphan.
    Take {
        worker: Worker,
        shard: Shard,
        fate: Fate,
    },
    /// An owner writes its lease.
    Write {
        worker: Worker,
        shard: Shard,
        write: OwnerWrite,
        fate: Fate,
    },
    /// An owner reads the lease after a write with an unknown outcome.
    Settle {
        worker: Worker,
        shard: Shard,
    },
    /// The reader saw a shard's end and makes a child's lease.
    Create {
        worker: Worker,
        parent: Shard,
        child: Shard,
    },
    /// A late write arrives.
    Arrives {
        flight: usize,
    },
    Crash {
        worker: Worker,
    },
    Start {
        worker: Worker,
    },
    Stop {
        worker: Worker,
    },
}
