//! How much a client may ask for, as its record says it. What a record leaves open is its plan's to
//! say, and then the service's: both are the API's configuration.

use serde::{Deserialize, Serialize};

use crate::identity::is_plain_id;

/// Longest name of a plan, in characters.
const MAX_PLAN_NAME: usize = 64;
/// What no rate, burst or number of requests at the same time may be above.
pub const MAX_RATE: u32 = 1_000_000;
/// The largest number that a structured field of HTTP can say (RFC 9651).
pub const MAX_PER_DAY: u64 = 999_999_999_999_999;

/// A client's own limits; what is `None` is as its plan says, or as the service's default does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLimits {
    /// Requests per second, sustained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Requests at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests at the same time, in one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Requests in one UTC day; 0 is any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Bytes of answers and of requests' bodies in one UTC day; 0 is any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<u64>,
    /// The plan, by its name in the API's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

impl ClientLimits {
    /// What no client may be stored with.
    pub(super) fn check(&self) -> Result<(), String> {
        let rates = [
            ("rate_per_second", self.rate_per_second),
            ("burst", self.burst),
            ("concurrent", self.concurrent),
        ];
        for (name, value) in rates {
            if let Some(value) = value.filter(|value| *value == 0 || *value > MAX_RATE) {
                return Err(format!(
                    "limits.{name}: found {value}, allowed is 1 to {MAX_RATE}, or none for the default"
                ));
            }
        }
        let per_day =
            [("requests_per_day", self.requests_per_day), ("bytes_per_day", self.bytes_per_day)];
        for (name, value) in per_day {
            if let Some(value) = value.filter(|value| *value > MAX_PER_DAY) {
                return Err(format!(
                    "limits.{name}: found {value}, allowed is up to {MAX_PER_DAY}, 0 for any number, or none for the default"
                ));
            }
        }
        match &self.plan {
            Some(plan) if !is_plan_name(plan) => Err(format!(
                "limits.plan: found {plan:?}, allowed is a name of 1 to {MAX_PLAN_NAME} letters, digits, _ and -"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a plan may have this name: 1 to 64 letters, digits, `_` and `-`.
pub fn is_plan_name(text: &str) -> bool {
    is_plain_id(text, MAX_PLAN_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_is_read_and_only_what_is_set_is_written() {
        let before = r#"{"rate_per_second":50,"burst":100}"#;
        let read: ClientLimits = serde_json::from_str(before).unwrap();
        let rate =
            ClientLimits { rate_per_second: Some(50), burst: Some(100), ..ClientLimits::default() };
        assert_eq!(read, rate);
        assert_eq!(serde_json::to_string(&rate).unwrap(), before, "older tasks can read it");
        assert!(serde_json::from_str::<ClientLimits>(r#"{"rate":50}"#).is_err());
    }

    #[test]
    fn a_limit_has_bounds_and_says_them() {
        let none = ClientLimits::default();
        assert_eq!(none.check(), Ok(()));
        let unlimited = ClientLimits {
            requests_per_day: Some(0),
            plan: Some("gold".to_owned()),
            ..none.clone()
        };
        assert_eq!(unlimited.check(), Ok(()));
        for (bad, said) in [
            (ClientLimits { burst: Some(0), ..none.clone() }, "limits.burst: found 0"),
            (ClientLimits { concurrent: Some(u32::MAX), ..none.clone() }, "1 to 1000000"),
            (ClientLimits { bytes_per_day: Some(u64::MAX), ..none.clone() }, "bytes_per_day"),
            (ClientLimits { plan: Some("a b".to_owned()), ..none }, "\"a b\""),
        ] {
            let why = bad.check().unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
