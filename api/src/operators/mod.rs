//! The operators' port: what a process is doing, and what operators change of who may ask. It is served on an address
//! of its own that clients never reach, by every process of the platform.
//!
//! It knows the access table, the dead letters, and what its process tells of itself ([`Process`]) and of the fleet
//! ([`Fleet`]), and nothing else of either service.
//! What anybody on the port may see (alive, ready, figures) needs no token; all else needs an operator's, of which the
//! configuration holds a digest alone. There are no cookies and no CORS, so that no page in a browser can use it.
//!
//! `tokens` says who asks, `guard` lets them in, `envelope` is what holds for every request, `audit` what is written
//! down of each. Start at [`Service`], then `routes::router`.

mod audit;
mod envelope;
mod fleet;
mod guard;
mod options;
mod routes;
mod service;
#[cfg(test)]
mod tests;
mod tokens;

pub use fleet::{
    AskedView, Fleet, FleetView, LEASE_STATES, LeaseLaneView, LeaseView, Redrive, Redriven,
    Unanswered, WhyView, WorkerView,
};
pub use options::Options;
pub use routes::openapi::document as openapi;
pub use service::{Backing, Handle, Process, Service};
pub use tokens::{May, Operator, OperatorName};
