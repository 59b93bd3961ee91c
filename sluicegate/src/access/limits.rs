//! What a client may ask for, by the command line: each limit is a number, `none`, or `default`.

use clap::Args;
use serde_json::json;
use store::{ClientId, ClientLimits, MAX_PER_DAY, Usage};

use super::args::LimitsArgs;
use super::{Desk, Outcome, Shown, no_client, refuse, view};
use crate::config::parse_bytes;

/// Limits as options of `create` and `limits`; `default` gives one back to the plan or the service.
#[derive(Debug, Default, Args)]
#[group(id = "limits", multiple = true)]
pub(crate) struct LimitArgs {
    /// Requests a second, sustained.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) rate: Option<Limit<u32>>,
    /// Requests at once after a pause.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) burst: Option<Limit<u32>>,
    /// Requests at the same time, in one task of the API.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) concurrent: Option<Limit<u32>>,
    /// Requests in a UTC day; none is any number.
    #[arg(long, value_name = "N|none", value_parser = quota)]
    pub(crate) requests_per_day: Option<Limit<u64>>,
    /// Bytes of answers and of requests' bodies in a UTC day, such as 10GiB; none is any number.
    #[arg(long, value_name = "SIZE|none", value_parser = size)]
    pub(crate) bytes_per_day: Option<Limit<u64>>,
    /// The plan whose limits hold where the client has none of its own, by its name in [[api.plans]].
    #[arg(long, value_name = "NAME", value_parser = plan)]
    pub(crate) plan: Option<Limit<String>>,
}

/// What becomes of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    /// The client has none of its own any more.
    Default,
    /// This one.
    Own(T),
}

impl<T: Clone> Limit<T> {
    fn set(given: Option<&Limit<T>>, limit: &mut Option<T>) {
        match given {
            None => {}
            Some(Limit::Default) => *limit = None,
            Some(Limit::Own(value)) => *limit = Some(value.clone()),
        }
    }
}

impl LimitArgs {
    /// The limits that a client has after these were given; `None` if it has none of its own.
    pub(super) fn change(&self, before: Option<ClientLimits>) -> Option<ClientLimits> {
        let mut limits = before.unwrap_or_default();
        Limit::set(self.rate.as_ref(), &mut limits.rate_per_second);
        Limit::set(self.burst.as_ref(), &mut limits.burst);
        Limit::set(self.concurrent.as_ref(), &mut limits.concurrent);
        Limit::set(self.requests_per_day.as_ref(), &mut limits.requests_per_day);
        Limit::set(self.bytes_per_day.as_ref(), &mut limits.bytes_per_day);
        Limit::set(self.plan.as_ref(), &mut limits.plan);
        (limits != ClientLimits::default()).then_some(limits)
    }
}

impl Desk {
    pub(super) async fn limits(&self, args: LimitsArgs) -> Outcome {
        let Some(client) = self.access.get_client(&args.id).await? else {
            return no_client(&args.id);
        };
        let limits = args.limits.change(client.limits.clone());
        if limits == client.limits {
            return refuse("nothing is to be changed: the limits are so already");
        }
        let client = store::Client { limits, ..client };
        let client = self.access.put_client(&client, &self.change()).await?;
        let mut object = json!({ "client": client.id, "limits": client.limits });
        if let Some(plan) = client.limits.as_ref().and_then(|limits| limits.plan.as_ref())
            && !self.plans.contains(plan)
        {
            object["note"] = format!(
                "this configuration has no plan {plan} in [[api.plans]]; where the API's has none either, its defaults hold"
            )
            .into();
        }
        Ok(Ok(Shown::object(object)))
    }

    /// What a client has used today.
    pub(super) async fn used_today(&self, client: &ClientId) -> anyhow::Result<Usage> {
        Ok(self.usage.used(client, self.now_ms.div_euclid(view::DAY_MS)).await?)
    }
}

fn or_default<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Limit<T>, String> {
    if text == "default" { Ok(Limit::Default) } else { parse(text).map(Limit::Own) }
}

fn count(text: &str) -> Result<Limit<u32>, String> {
    or_default(text, |text| {
        let count = text.parse::<u32>().ok().filter(|count| (1..=1_000_000).contains(count));
        count.ok_or_else(|| "allowed is 1 to 1000000, or default".to_owned())
    })
}

fn quota(text: &str) -> Result<Limit<u64>, String> {
    or_default(text, |text| {
        let quota = if text == "none" { Some(0) } else { text.parse::<u64>().ok() };
        quota
            .filter(|quota| *quota <= MAX_PER_DAY)
            .ok_or_else(|| format!("allowed is up to {MAX_PER_DAY}, none, or default"))
    })
}

fn size(text: &str) -> Result<Limit<u64>, String> {
    or_default(text, |text| {
        let size = if text == "none" { Some(0) } else { parse_bytes(text) };
        size.filter(|size| *size <= MAX_PER_DAY)
            .ok_or_else(|| "allowed is a size such as 500MiB or 10GiB, none, or default".to_owned())
    })
}

fn plan(text: &str) -> Result<Limit<String>, String> {
    or_default(text, |text| {
        let name = store::is_plan_name(text).then(|| text.to_owned());
        name.ok_or_else(|| "allowed is a name of letters, digits, _ and -, or default".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_set_kept_or_given_back_to_the_default() {
        let given = LimitArgs {
            rate: Some(count("10").unwrap()),
            requests_per_day: Some(quota("none").unwrap()),
            bytes_per_day: Some(size("10GiB").unwrap()),
            plan: Some(plan("gold").unwrap()),
            ..LimitArgs::default()
        };
        let limits = given.change(None).unwrap();
        assert_eq!((limits.rate_per_second, limits.burst), (Some(10), None));
        assert_eq!((limits.requests_per_day, limits.bytes_per_day), (Some(0), Some(10 << 30)));
        let back = LimitArgs {
            rate: Some(Limit::Default),
            requests_per_day: Some(Limit::Default),
            bytes_per_day: Some(Limit::Default),
            ..LimitArgs::default()
        };
        let left = back.change(Some(limits)).unwrap();
        let gold = ClientLimits { plan: Some("gold".to_owned()), ..ClientLimits::default() };
        assert_eq!(left, gold);
        let none = LimitArgs { plan: Some(Limit::Default), ..LimitArgs::default() };
        assert_eq!(none.change(Some(left)), None);
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_is_allowed() {
        for bad in [count("0"), count("none"), count("-1")] {
            assert!(bad.unwrap_err().contains("allowed is 1 to"));
        }
        assert!(quota("1000000000000000").is_err() && size("10GB").is_err() && plan("").is_err());
    }
}
