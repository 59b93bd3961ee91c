//! `[[integrations]]`: read with the processor's own types, each one by itself, so that one wrong
//! integration does not hide what is wrong with the next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use processor::integration::{Integration, Integrations};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::problem::{Origin, Problem};
use super::suggest;

/// An integration, and where it stands.
pub(super) type Placed = (Integration, Origin);

/// The integrations of one layer, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Written {
    read: Vec<Placed>,
    problems: Vec<Problem>,
}

impl Written {
    /// Reads a list of tables; `origin` tells where a span of it stands.
    pub(super) fn read(
        value: Spanned<DeValue<'_>>,
        origin: impl Fn(Range<usize>) -> Origin,
    ) -> Written {
        let mut written = Written::default();
        let whole = origin(value.span());
        let DeValue::Array(values) = value.into_inner() else {
            let allowed = "a list of tables: [[integrations]]";
            let found = "something else".to_owned();
            written.problems.push(Problem::value(whole, "integrations", found, allowed));
            return written;
        };
        for (index, value) in values.into_iter().enumerate() {
            let span = value.span();
            match Integration::deserialize(ValueDeserializer::from(value)) {
                Ok(integration) => written.read.push((integration, origin(span))),
                Err(error) => {
                    let origin = origin(error.span().unwrap_or(span));
                    written.problems.push(problem(index, origin, error.message()));
                }
            }
        }
        written
    }

    /// The integrations with where they stand, and compiled, unless something is wrong with them.
    pub(super) fn compile(
        self,
        problems: &mut Vec<Problem>,
    ) -> Option<(Vec<Placed>, Arc<Integrations>)> {
        let before = problems.len();
        problems.extend(self.problems);
        let mut seen = BTreeMap::new();
        for (index, (integration, origin)) in self.read.iter().enumerate() {
            let name = integration.name().as_str();
            if let Some(first) = seen.insert(name, index) {
                let path = format!("integrations[{index}].name");
                let allowed = format!("a name of its own: integrations[{first}] has this one");
                problems.push(Problem::value(origin.clone(), &path, format!("{name:?}"), allowed));
            }
        }
        if problems.len() > before {
            return None;
        }
        let origin = self.read.first().map_or(Origin::Default, |(_, origin)| origin.clone());
        let list = self.read.iter().map(|(integration, _)| integration.clone()).collect();
        match Integrations::compile(list) {
            Ok(compiled) => Some((self.read, Arc::new(compiled))),
            Err(error) => {
                problems.push(Problem::message(origin, "integrations", error.to_string()));
                None
            }
        }
    }
}

/// serde's message as a problem; its list of fields is searched for the one that was meant.
fn problem(index: usize, origin: Origin, message: &str) -> Problem {
    let path = format!("integrations[{index}]");
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return Problem::message(origin, &path, message.to_owned());
    };
    let mut names = rest.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    let path = format!("{path}.{found}");
    let meant = suggest::closest(found, known.iter().copied());
    let problem = Problem::unknown_key(origin, &path, meant);
    match meant {
        Some(_) => problem,
        None => problem.with_hint(&format!("known are {}", known.join(", "))),
    }
}
