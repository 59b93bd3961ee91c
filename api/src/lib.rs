//! The HTTPS API: recent messages, exposed to those who were granted them, and to nobody else.
//!
//! It reads what the other service stored and never writes a message itself: what clients publish it hands to
//! a [`Publisher`]; it writes what clients manage of their own subscriptions. It knows neither streams nor
//! leases. The app gives it stores, a signer, a clock, a certificate, a way to fetch issuers' keys
//! and options; it reads no environment and makes no client.
//!
//! It runs as a [`Service`] of its own, or [`Hosted`] by something that brings requests one at a time.
//!
//! Three layers, each of which does not know the one before it: `server` (sockets, TLS, deadlines),
//! `routes` (paths, parameters, problem details) over `access` (who asks, how much), and `backend`
//! (what they may read) and `manage` (what they have pushed). Start at [`Service`], then `routes::router`, then `backend`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod audit;
mod backend;
mod cursor;
mod hosted;
mod manage;
mod metrics;
pub mod operators;
mod options;
mod publish;
mod readiness;
mod routes;
mod server;
mod service;
mod tail;
#[cfg(test)]
mod testing;
mod timestamp;
mod watches;

pub use access::oauth::{Algorithm, ClientClaim, DocumentError, Documents, Issuer, OAuthOptions};
pub use hosted::{Arrival, Hosted};
pub use manage::{DeliveryRules, Managing, RandomFill};
pub use options::{
    AuditOptions, ClientLimits, IntegrationInfo, Limits, Options, Sharing, Transport,
};
pub use publish::{Outcome, Outgoing, PublishLimits, Publisher, Refusal, Taken, Unfit};
pub use routes::openapi::document as openapi;
pub use routes::templates as routes;
pub use server::{ClientCertificates, TlsError, TlsReloader};
pub use service::{Backing, Error, Exit, Handle, Service, Stats};
