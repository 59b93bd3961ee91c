//! A synthetic Kinesis stream at the highest rate that the machine gives, so that its consumer is what is measured.
//!
//! Records are computed from (shard, ordinal) and never stored: whoever asks for a record gets the same one, by
//! subscription or by polling, and a reader can tell by itself what is missing, doubled or out of order. They are encoded
//! once; sending an event means to patch digits and to sum up (`layout`).
//!
//! It speaks the part of the Kinesis wire that consumers need, over HTTP/1.1 or, with TLS, HTTP/2. It has no reshards, no
//! limits and no ResourceInUse rules: `sluicegate local` has those. [`Options`] -> [`Source`] -> [`Handle`] ->
//! [`SourceError`]. Start reading at [`Source::bind`], then `subscription`.

mod answer;
mod calls;
mod layout;
mod message;
mod options;
mod sequence;
mod server;
mod stream;
mod subscription;
mod tls;

#[cfg(test)]
mod tests;

pub use message::{MAX_RECORD_BYTES, MIN_RECORD_BYTES, Message};
pub use options::{InvalidSource, Options};
pub use sequence::Position;
pub use server::{Source, SourceError};
pub use stream::{Handle, Sent};

#[cfg(test)]
pub(crate) use tests::client;
