//! The wire tests: the real binary, real sockets on loopback, real time.
//!
//! Each test starts its own processes and stops them; nothing leaves this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs
)]

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod configuration;
mod demo;
mod destinations;
mod filters;
mod fleet;
mod isolation;
mod kill;
mod lambda;
mod leases;
mod limits;
mod malformed;
mod managing;
mod operators;
mod pressure;
mod publishing;
mod queues;
mod replay;
mod subscriptions;
mod tail;
mod telemetry;
mod verifiers;
mod walk;
