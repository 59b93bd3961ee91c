//! `[[streams]]`: what is read, how, through which consumers, from where.

use std::fmt;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use lease_manager::InitialPosition;

use super::context::Context;
use super::problem::Problem;
use super::section::Section;
use super::sections::is_name;

/// A stream that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Which.
    pub(crate) stream: StreamRef,
    /// Name of the registered enhanced fan-out consumer; `None` for a stream that is polled.
    pub(crate) consumer: Option<String>,
    /// Name of a second consumer, through which a pipeline that fell behind catches up.
    pub(crate) catch_up_consumer: Option<String>,
    /// Where reading starts, the first time.
    pub(crate) start: Start,
}

/// A stream by name or by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamRef {
    /// In the client's account and region.
    Name(String),
    /// Anywhere.
    Arn(String),
}

impl Stream {
    /// Names of the consumers that must be registered.
    pub(crate) fn consumers(&self) -> Vec<String> {
        self.consumer.iter().chain(&self.catch_up_consumer).cloned().collect()
    }
}

impl StreamRef {
    /// The stream's name, which an ARN ends with.
    pub(crate) fn name(&self) -> &str {
        match self {
            StreamRef::Name(name) => name,
            StreamRef::Arn(arn) => arn.rsplit_once('/').map_or("", |(_, name)| name),
        }
    }
}

/// Where reading starts, the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start(pub(crate) InitialPosition);

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            InitialPosition::TrimHorizon => f.write_str("trim-horizon"),
            InitialPosition::Latest => f.write_str("latest"),
            InitialPosition::AtTimestamp(ms) => {
                let time = DateTime::from_millis(ms).fmt(Format::DateTime);
                f.write_str(&time.unwrap_or_default())
            }
        }
    }
}

pub(super) fn stream(section: &mut Section<'_>) -> Option<Stream> {
    let name = |text: &str| is_name(text, 1..=128).then(|| text.to_owned());
    let arn = |text: &str| {
        let (head, stream) = text.split_once(":stream/")?;
        let is_arn = head.starts_with("arn:aws") && head.split(':').count() == 5;
        (is_arn && is_name(stream, 1..=128)).then(|| text.to_owned())
    };
    let arns = "arn:aws:kinesis:REGION:ACCOUNT:stream/NAME";
    let by_name = section.optional("name", "1 to 128 of a-z A-Z 0-9 _ . -", name);
    let by_arn = section.optional("arn", arns, arn);
    let consumers = "a consumer's name: 1 to 128 of a-z A-Z 0-9 _ . -";
    let consumer = section.parsed("consumer", "sluicegate".to_owned(), consumers, name);
    let trim_horizon = Start(InitialPosition::TrimHorizon);
    let starts = "\"trim-horizon\", \"latest\" or a time such as \"2026-01-31T00:00:00Z\"";
    let start = section.parsed("start", trim_horizon, starts, start);
    let is_polled = section.choice("mode", false, &[("fan-out", false), ("polling", true)]);
    let catch_up = section.optional("catch_up_consumer", consumers, name);
    let consumer = (!is_polled).then_some(consumer);
    if catch_up.is_some() && catch_up == consumer {
        let found = format!("{:?}, which is `consumer` as well", catch_up.unwrap_or_default());
        section.refuse("catch_up_consumer", found, "a consumer of its own");
        return None;
    }
    let stream = match (by_name, by_arn) {
        (Some(name), None) => StreamRef::Name(name),
        (None, Some(arn)) => StreamRef::Arn(arn),
        (None, None) => {
            section.missing("name", "the stream's name, or arn");
            return None;
        }
        (Some(_), Some(arn)) => {
            section.refuse("arn", format!("{arn:?} beside a name"), "one of name and arn");
            return None;
        }
    };
    Some(Stream { stream, consumer, catch_up_consumer: catch_up, start })
}

fn start(text: &str) -> Option<Start> {
    let position = match text {
        "trim-horizon" => InitialPosition::TrimHorizon,
        "latest" => InitialPosition::Latest,
        time => {
            let time = DateTime::from_str(time, Format::DateTimeWithOffset).ok()?;
            InitialPosition::AtTimestamp(time.to_millis().ok()?)
        }
    };
    Some(Start(position))
}

/// The same stream twice would be two readers of the same shards.
pub(super) fn check_streams(streams: &[Stream], context: &mut Context) {
    for (index, stream) in streams.iter().enumerate() {
        if streams[..index].iter().any(|before| before.stream == stream.stream) {
            let key = if matches!(stream.stream, StreamRef::Arn(_)) { "arn" } else { "name" };
            let section = format!("streams[{index}]");
            let origin = context.origin_of(&section, key);
            let found = format!("{:?} again", stream.stream.name());
            let path = format!("{section}.{key}");
            context.problems.push(Problem::value(origin, &path, found, "every stream once"));
        }
    }
}
