//! Tests that need more than one room: nothing to import here.
//!
//! `sim/` runs whole workers in paused time over the real SDK clients; `it/` (a test of the
//! `sluicegate` package, so that it gets the real binary) runs processes over real sockets;
//! `harness/` is what `it/` shares. `verifiers/` holds clients that others wrote.
