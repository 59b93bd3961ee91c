//! `[api.publish]`, and which stream each integration is published to.

use std::collections::BTreeMap;

use api::PublishLimits;
use processor::integration::{DEFAULT_INTEGRATION, Integration, Integrations};
use store::IntegrationName;

use super::integrations::Placed;
use super::problem::{Origin, Problem};
use super::section::Section;
use super::streams::{Stream, StreamRef};

const MIB: usize = 1024 * 1024;

/// Which integrations can be published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishMode {
    /// Those for which there is no doubt about the stream.
    Auto,
    /// Every one; a doubt is a mistake.
    All,
    /// None.
    Off,
}

/// The stream that each integration is published to; one that is not there cannot be published to.
pub(crate) type PublishTargets = BTreeMap<IntegrationName, StreamRef>;

pub(super) fn read(section: &mut Section<'_>) -> (PublishMode, PublishLimits) {
    let words = [("auto", PublishMode::Auto), ("all", PublishMode::All), ("off", PublishMode::Off)];
    let mode = section.choice("mode", PublishMode::Auto, &words);
    let default = PublishLimits::default();
    let most = default.max_messages;
    let limits = PublishLimits {
        max_messages: section.integer("max_messages", most, 1..=most),
        max_body_bytes: section.bytes(
            "max_body_bytes",
            default.max_body_bytes,
            1024..=64 * MIB as u64,
        ),
        max_message_bytes: section.bytes(
            "max_message_bytes",
            default.max_message_bytes,
            1024..=10 * MIB,
        ),
        max_in_work_bytes: section.bytes(
            "max_in_work_bytes",
            default.max_in_work_bytes,
            MIB as u64..=1 << 34,
        ),
    };
    if limits.max_in_work_bytes < limits.max_body_bytes {
        let found = super::units::bytes_text(limits.max_in_work_bytes);
        let least = super::units::bytes_text(limits.max_body_bytes);
        section.refuse("max_in_work_bytes", found, format!("at least max_body_bytes, {least}"));
    }
    (mode, limits)
}

/// Finds each integration's stream: the one that it names, else the only one.
pub(super) fn targets(
    mode: PublishMode,
    streams: &[Stream],
    written: &[Placed],
    compiled: &Integrations,
    problems: &mut Vec<Problem>,
) -> PublishTargets {
    let names = || streams.iter().map(|stream| stream.stream.name()).collect::<Vec<_>>().join(", ");
    let only = match streams {
        [only] => Some(&only.stream),
        _ => None,
    };
    let mut targets = PublishTargets::new();
    for integration in compiled.iter() {
        let place = written.iter().position(|(one, _)| one.name() == integration.name());
        let path = match place {
            Some(index) => format!("integrations[{index}].publish_to"),
            None => "integrations".to_owned(),
        };
        let origin = place.map_or(Origin::Default, |index| written[index].1.clone());
        let stream = match integration.publish_to() {
            Some(named) => {
                let found = streams.iter().find(|stream| is_named(&stream.stream, named));
                if found.is_none() {
                    let allowed = format!("the name or ARN of a configured stream: {}", names());
                    problems.push(Problem::value(origin, &path, format!("{named:?}"), allowed));
                    continue;
                }
                found.map(|stream| &stream.stream)
            }
            None => only,
        };
        match stream {
            Some(stream) if mode != PublishMode::Off => {
                targets.insert(integration.name().clone(), stream.clone());
            }
            None if mode == PublishMode::All => {
                problems.push(Problem::message(origin, &path, ambiguous(integration, &names())));
            }
            _ => {}
        }
    }
    targets
}

fn ambiguous(integration: &Integration, names: &str) -> String {
    let name = integration.name();
    let where_to = match name.as_str() {
        DEFAULT_INTEGRATION => format!(" in an entry for `{name}`"),
        _ => String::new(),
    };
    let found = if names.is_empty() { "none is configured".to_owned() } else { names.to_owned() };
    format!(
        "missing: api.publish.mode = \"all\" needs to know which stream `{name}` is published to; needed is the name of one of the streams{where_to} (found: {found})"
    )
}

fn is_named(stream: &StreamRef, named: &str) -> bool {
    match stream {
        StreamRef::Arn(arn) => arn == named || stream.name() == named,
        StreamRef::Name(name) => name == named,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, refused};
    use super::*;

    const TWO: &str = "[[streams]]\nname = \"a\"\n[[streams]]\narn = \"arn:aws:kinesis:eu-west-1:123456789012:stream/b\"\n";

    fn quakes(more: &str) -> String {
        format!(
            "[[integrations]]\nname = \"quakes\"\nmatch = [{{ pointer = \"/t\", exists = true }}]\n{more}\n"
        )
    }

    fn published(text: &str) -> Vec<(String, String)> {
        let config = load(text).unwrap();
        let of = |(name, stream): (&IntegrationName, &StreamRef)| {
            (name.to_string(), stream.name().to_owned())
        };
        config.publish.iter().map(of).collect()
    }

    fn pair(name: &str, stream: &str) -> (String, String) {
        (name.to_owned(), stream.to_owned())
    }

    #[test]
    fn one_stream_takes_what_is_published_to_any_integration() {
        let one = format!("[[streams]]\nname = \"a\"\n{}", quakes(""));
        assert_eq!(published(&one), [pair("default", "a"), pair("quakes", "a")]);
        assert_eq!(published(&format!("{one}[api.publish]\nmode = \"all\"\n")).len(), 2);
        assert!(published(&format!("{one}[api.publish]\nmode = \"off\"\n")).is_empty());
        assert!(published(&quakes("")).is_empty(), "nowhere to");
    }

    #[test]
    fn of_several_streams_an_integration_names_its_own() {
        assert!(published(&format!("{TWO}{}", quakes(""))).is_empty());
        for name in ["b", "arn:aws:kinesis:eu-west-1:123456789012:stream/b"] {
            let text = format!("{TWO}{}", quakes(&format!("publish_to = \"{name}\"")));
            assert_eq!(published(&text), [pair("quakes", "b")]);
            let error = load(&format!("{text}[api.publish]\nmode = \"all\"\n"));
            refused(error, &["which stream `default` is published to", "a, b"]);
            let default = "[[integrations]]\nname = \"default\"\npublish_to = \"a\"\n";
            let all = format!("{text}{default}[api.publish]\nmode = \"all\"\n");
            assert_eq!(published(&all), [pair("default", "a"), pair("quakes", "b")]);
        }
        let text = format!("{TWO}{}[api.publish]\nmode = \"all\"\n", quakes(""));
        let missing =
            ["line 5", "integrations[0].publish_to: missing", "`quakes`", "(found: a, b)"];
        refused(load(&text), &missing);
    }

    #[test]
    fn a_stream_that_nobody_reads_is_refused() {
        let text = format!("{TWO}{}", quakes("publish_to = \"c\""));
        let parts = ["integrations[0].publish_to: found \"c\"", "a configured stream: a, b"];
        refused(load(&text), &parts);
    }

    #[test]
    fn limits_fit_together() {
        let text = "[api.publish]\nmax_in_work_bytes = \"5MiB\"\n";
        refused(
            load(text),
            &["api.publish.max_in_work_bytes: found 5MiB", "max_body_bytes, 10MiB"],
        );
        refused(load("[api.publish]\nmax_messages = 501\n"), &["from 1 to 500"]);
    }
}
