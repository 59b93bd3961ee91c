//! Consumers over a real lease manager, an embedded Kinesis and DynamoDB, in paused time.
//!
//! `rig` puts a world together. `writes`: when a lease is written, and with what. `lanes`: how
//! they go on without each other. `flow`: what stops and resumes the reading. `ends`: how a lease ends, well and badly.
//! `reading`: polling, and several streams.

mod ends;
mod flow;
mod lanes;
mod reading;
mod rig;
mod writes;
