//! Following an integration: what was stored, as it is stored, to however many who ask.
//!
//! Writers note what they stored ([`store::Arrivals`], decision 0021). A `reader` reads notes forward and gives each
//! message once; a `feed` is one reader of an integration for all who follow it in this process, once a second; who
//! resumes from an earlier place catches up with a reader of its own and then joins the feed (`follower`). Nothing here
//! knows HTTP or grants: whoever follows decides what of it may be shown.
//! Start at [`Follower`]; `window` is where it is decided what was given already.

mod cursor;
mod feed;
mod follower;
mod reader;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use feed::Feeds;
pub(crate) use follower::{Follower, Given, Step};
pub(crate) use window::{Place, Position};
