//! Loads a stream and verifies what came out: generators, scenarios and reports.
//!
//! It speaks only the Kinesis wire and knows no room of the platform, so it can load any stream,
//! with or without Sluicegate behind it. It never reads the environment and never prints: the
//! binary `loadtest` does. Start reading at [`produce`], or at [`source`] for the other side.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod compare;
pub mod peer;
pub mod produce;
pub mod source;
pub mod wire;
