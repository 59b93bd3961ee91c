//! `[api.client_limits]`, `[[api.plans]]` and `[api.shared_limits]`: how much clients may ask for, and how the tasks of
//! the API share it; `[api.audit]`: how much of what was decided is written down.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use api::{AuditOptions, ClientLimits, Sharing};
use store::MAX_PER_DAY;

use super::section::Section;
use super::sections::seconds;

/// The limits of clients without any of their own.
pub(super) fn client_limits(section: &mut Section<'_>) -> ClientLimits {
    limits(section, ClientLimits::default())
}

/// What a section says of limits; what it does not is as in `default`. 0 is any number in a day.
fn limits(section: &mut Section<'_>, default: ClientLimits) -> ClientLimits {
    let per_day = |quota: Option<NonZeroU64>| quota.map_or(0, NonZeroU64::get);
    let requests = per_day(default.requests_per_day);
    let bytes = per_day(default.bytes_per_day);
    ClientLimits {
        rate_per_second: section.integer("rate_per_second", default.rate_per_second, 1..=1_000_000),
        burst: section.integer("burst", default.burst, 1..=1_000_000),
        concurrent: section.integer("concurrent", default.concurrent, 1..=100_000),
        requests_per_day: NonZeroU64::new(section.integer(
            "requests_per_day",
            requests,
            0..=MAX_PER_DAY,
        )),
        bytes_per_day: NonZeroU64::new(section.bytes("bytes_per_day", bytes, 0..=MAX_PER_DAY)),
    }
}

/// Sets of limits that clients' records can name; what a plan does not say is as for everybody.
pub(super) fn plans(
    section: &mut Section<'_>,
    everybody: ClientLimits,
) -> BTreeMap<String, ClientLimits> {
    let allowed = "a name of 1 to 64 letters, digits, _ and -";
    let plan = |section: &mut Section<'_>| {
        let name = |text: &str| store::is_plan_name(text).then(|| text.to_owned());
        let name = section.optional("name", allowed, name);
        let limits = limits(section, everybody);
        if name.is_none() {
            section.missing("name", allowed);
        }
        Some((name?, limits))
    };
    let mut plans = BTreeMap::new();
    for (name, limits) in section.sections("plans", plan) {
        if plans.insert(name.clone(), limits).is_some() {
            section.refuse("plans", format!("{name} twice"), "every plan once");
        }
    }
    plans
}

/// How tasks share limits; `None` if they do not.
pub(super) fn sharing(section: &mut Section<'_>) -> Option<Sharing> {
    let default = Sharing::default();
    let is_on = section.boolean("enabled", true);
    let range = Duration::from_millis(10)..=seconds(2);
    let patience = section.duration("patience", default.patience, range);
    let expected_tasks = section.integer("expected_tasks", default.expected_tasks, 1..=1_000);
    is_on.then_some(Sharing { patience, expected_tasks })
}

/// How much of the decisions is written into the log.
pub(super) fn audit(section: &mut Section<'_>) -> AuditOptions {
    let default = AuditOptions::default();
    let many = 1_000_000;
    AuditOptions {
        is_on: section.boolean("enabled", default.is_on),
        allowed_one_in: section.integer("allowed_one_in", default.allowed_one_in, 1..=many),
        max_lines_per_second: section.integer(
            "max_lines_per_second",
            default.max_lines_per_second,
            1..=many,
        ),
    }
}
