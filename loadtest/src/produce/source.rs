//! The stream of messages that a producer sends, whatever they come from.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use bytes::Bytes;

use super::generate::Generator;
use super::options::Source;
use super::replay::{ReplayError, ReplayReader};

/// One message as it came from its source.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) data: Bytes,
    /// The key that a generator drew.
    pub(crate) key: Option<Arc<str>>,
    /// How many times the inputs have been read before.
    pub(crate) pass: u64,
}

/// Yields messages one by one.
#[derive(Debug)]
pub(crate) enum Messages {
    Replay(ReplayReader),
    Generate(Generator),
}

impl Messages {
    pub(crate) fn new(source: &Source, seed: u64, time: SharedTimeSource) -> Messages {
        match source {
            Source::Replay(replay) => Messages::Replay(ReplayReader::new(replay.clone())),
            Source::Generate(generate) => {
                Messages::Generate(Generator::new(*generate, fastrand::Rng::with_seed(seed), time))
            }
        }
    }

    /// The next message, or `None` at the end. Cancel safe: nothing read is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, ReplayError> {
        match self {
            Messages::Replay(reader) => Ok(reader.next().await?.map(|line| Message {
                data: line,
                key: None,
                pass: reader.pass(),
            })),
            Messages::Generate(generator) => Ok(Some(generator.next())),
        }
    }
}
