//! How limits and what is left of them are told to the client: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers. Pure.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{CONCURRENT, DAILY_BYTES, DAILY_REQUESTS, REQUESTS};
use crate::options::ClientLimits;
use crate::routes::problem::whole_seconds_up;

const POLICY_FIELD: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT_FIELD: HeaderName = HeaderName::from_static("ratelimit");
const DAY_S: u64 = 86_400;

/// What a client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The client's limits.
    pub(crate) limits: ClientLimits,
    /// Requests that may come now.
    pub(crate) remaining: u64,
    /// Until there are more: until the full burst, or, with none left, until the next one.
    pub(crate) until_more: Duration,
    /// Requests that may come beside those in work in this task.
    pub(crate) concurrent_left: usize,
    /// Requests that are left today, if they are counted.
    pub(crate) requests_today: Option<u64>,
    /// Bytes that are left today, if they are counted.
    pub(crate) bytes_today: Option<u64>,
    /// Until the UTC day ends.
    pub(crate) until_tomorrow: Duration,
}

/// Writes `RateLimit-Policy` and `RateLimit`, with every policy that holds for the client. The bucket is described as
/// `burst` requests in the time that it takes to fill, which is the same sustained rate.
pub(crate) fn write_fields(standing: &Standing, headers: &mut HeaderMap) {
    for (name, value) in [(POLICY_FIELD, policies(&standing.limits)), (LIMIT_FIELD, left(standing))]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn policies(limits: &ClientLimits) -> String {
    let window_s = limits.burst.div_ceil(limits.rate_per_second.max(1)).max(1);
    let mut text = format!(
        "\"{REQUESTS}\";q={};w={window_s}, \"{CONCURRENT}\";q={};qu=\"concurrent-requests\"",
        limits.burst, limits.concurrent
    );
    if let Some(quota) = limits.requests_per_day {
        let _ = write!(text, ", \"{DAILY_REQUESTS}\";q={quota};w={DAY_S}");
    }
    if let Some(quota) = limits.bytes_per_day {
        let _ = write!(text, ", \"{DAILY_BYTES}\";q={quota};w={DAY_S};qu=\"content-bytes\"");
    }
    text
}

fn left(standing: &Standing) -> String {
    let mut text = format!(
        "\"{REQUESTS}\";r={};t={}, \"{CONCURRENT}\";r={}",
        standing.remaining,
        whole_seconds_up(standing.until_more),
        standing.concurrent_left
    );
    let tomorrow = whole_seconds_up(standing.until_tomorrow);
    let today = [(DAILY_REQUESTS, standing.requests_today), (DAILY_BYTES, standing.bytes_today)];
    for (policy, left) in today {
        if let Some(left) = left {
            let _ = write!(text, ", \"{policy}\";r={left};t={tomorrow}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn the_fields_have_the_drafts_form_and_name_every_policy_that_holds() {
        let limits =
            ClientLimits { rate_per_second: 2, burst: 5, concurrent: 3, ..ClientLimits::default() };
        let standing = Standing {
            limits,
            remaining: 4,
            until_more: Duration::from_millis(500),
            concurrent_left: 2,
            requests_today: None,
            bytes_today: None,
            until_tomorrow: Duration::from_millis(3_599_001),
        };
        let fields = |standing: &Standing| {
            let mut headers = HeaderMap::new();
            write_fields(standing, &mut headers);
            ["ratelimit-policy", "ratelimit"].map(|name| headers[name].to_str().unwrap().to_owned())
        };
        let short = "\"requests\";q=5;w=3, \"concurrent\";q=3;qu=\"concurrent-requests\"";
        assert_eq!(fields(&standing), [short, "\"requests\";r=4;t=1, \"concurrent\";r=2"]);
        let limits = ClientLimits {
            requests_per_day: NonZeroU64::new(1_000),
            bytes_per_day: NonZeroU64::new(5_000),
            ..limits
        };
        let standing =
            Standing { limits, requests_today: Some(7), bytes_today: Some(0), ..standing };
        assert_eq!(
            fields(&standing),
            [
                format!(
                    "{short}, \"daily-requests\";q=1000;w=86400, \"daily-bytes\";q=5000;w=86400;qu=\"content-bytes\""
                ),
                "\"requests\";r=4;t=1, \"concurrent\";r=2, \"daily-requests\";r=7;t=3600, \"daily-bytes\";r=0;t=3600"
                    .to_owned(),
            ]
        );
    }
}
