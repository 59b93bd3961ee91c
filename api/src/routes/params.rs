//! Query parameters: parsed strictly, each error naming the parameter, what was found and what is
//! allowed.

use axum::extract::Query;
use http::Uri;
use store::{MAX_PAGE, Order};

use super::problem::Problem;
use crate::publish::MAX_KEY_CHARS;
use crate::timestamp;

/// Messages of a page when the client does not say.
const DEFAULT_LIMIT: usize = 50;
/// Most entries of a page of anything but messages.
const MAX_LIST: usize = 100;
/// Parameters that a request may have, known or not.
const MAX_PARAMETERS: usize = 32;

const TIME_ALLOWED: &str =
    "an RFC 3339 time such as 2018-02-01T00:00:00Z, or milliseconds since 1970";

/// The parameters of a page of messages as the client gave them; `None` where it did not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PageParams {
    /// Earliest time, inclusive.
    pub(crate) from_ms: Option<i64>,
    /// Latest time, exclusive.
    pub(crate) to_ms: Option<i64>,
    /// Which end first.
    pub(crate) order: Option<Order>,
    /// Messages in the page.
    pub(crate) limit: Option<usize>,
    /// Where to go on.
    pub(crate) cursor: Option<String>,
}

impl PageParams {
    /// Reads the query of a request; unknown and repeated parameters are errors.
    pub(crate) fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Self::default();
        for (name, value) in pairs(uri)? {
            let fresh = match name.as_str() {
                "from" => params.from_ms.replace(time("from", &value)?).is_none(),
                "to" => params.to_ms.replace(time("to", &value)?).is_none(),
                "order" => params.order.replace(order(&value)?).is_none(),
                "limit" => params.limit.replace(limit(&value)?).is_none(),
                "cursor" => params.cursor.replace(value.clone()).is_none(),
                _ => return Err(unknown(&name, "from, to, order, limit, cursor")),
            };
            if !fresh {
                return Err(Problem::invalid_parameter(&name, &value, "to be given once"));
            }
        }
        if let (Some(from_ms), Some(to_ms)) = (params.from_ms, params.to_ms)
            && from_ms >= to_ms
        {
            let found =
                format!("from {} to {}", timestamp::format(from_ms), timestamp::format(to_ms));
            return Err(Problem::invalid_parameter("to", &found, "a time after from"));
        }
        Ok(params)
    }

    /// The limit that holds.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }
}

/// The parameters of a list: how many, from where on, and what else its route names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListParams {
    limit: Option<usize>,
    /// Where to go on.
    pub(crate) cursor: Option<String>,
    others: Vec<(String, String)>,
}

impl ListParams {
    /// Reads the query of a request; what is neither `limit`, `cursor` nor one of `others`, and what comes twice, is an
    /// error.
    pub(crate) fn read(uri: &Uri, others: &[&str]) -> Result<Self, Problem> {
        let mut params = Self::default();
        for (name, value) in pairs(uri)? {
            let fresh = match name.as_str() {
                "limit" => params.limit.replace(list_limit(&value)?).is_none(),
                "cursor" => params.cursor.replace(value.clone()).is_none(),
                other if others.contains(&other) => {
                    let fresh = params.get(other).is_none();
                    params.others.push((name.clone(), value.clone()));
                    fresh
                }
                _ => {
                    return Err(unknown(
                        &name,
                        &[&["limit", "cursor"], others].concat().join(", "),
                    ));
                }
            };
            if !fresh {
                return Err(Problem::invalid_parameter(&name, &value, "to be given once"));
            }
        }
        Ok(params)
    }

    /// The limit that holds.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// What was given for one of the others.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

fn list_limit(value: &str) -> Result<usize, Problem> {
    let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| value.parse().ok()).flatten();
    let allowed = || Problem::invalid_parameter("limit", value, &format!("1 to {MAX_LIST}"));
    number.filter(|limit| (1..=MAX_LIST).contains(limit)).ok_or_else(allowed)
}

/// The one parameter that a resource may be given.
pub(crate) fn only(uri: &Uri, allowed: &str) -> Result<Option<String>, Problem> {
    let pairs = pairs(uri)?;
    match pairs.as_slice() {
        [] => Ok(None),
        [(name, value)] if name == allowed => Ok(Some(value.clone())),
        [(name, value), ..] if name == allowed && pairs.iter().all(|(name, _)| name == allowed) => {
            Err(Problem::invalid_parameter(name, value, "to be given once"))
        }
        _ => {
            let other = pairs.iter().find(|(name, _)| name != allowed);
            Err(unknown(other.map_or("", |(name, _)| name), allowed))
        }
    }
}

/// The parameters that a resource must be given, each once, and no others.
pub(crate) fn all_of<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[String; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in pairs(uri)? {
        let Some(at) = names.iter().position(|wanted| *wanted == name) else {
            return Err(unknown(&name, &names.join(", ")));
        };
        if values[at].replace(value.clone()).is_some() {
            return Err(Problem::invalid_parameter(&name, &value, "to be given once"));
        }
    }
    if let Some(at) = values.iter().position(Option::is_none) {
        return Err(Problem::invalid_parameter(names[at], "", "to be given"));
    }
    Ok(values.map(Option::unwrap_or_default))
}

/// Refuses any parameter, for resources that take none.
pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
    match pairs(uri)?.first() {
        None => Ok(()),
        Some((name, _)) => Err(unknown(name, "no parameters here")),
    }
}

/// The partition key of messages to publish, if the request gives one.
pub(crate) fn partition_key(uri: &Uri) -> Result<Option<String>, Problem> {
    let mut key = None;
    for (name, value) in pairs(uri)? {
        if name != "partition_key" {
            return Err(unknown(&name, "partition_key"));
        }
        if !(1..=MAX_KEY_CHARS).contains(&value.chars().count()) {
            return Err(Problem::invalid_parameter(&name, &value, "1 to 256 characters"));
        }
        if key.replace(value.clone()).is_some() {
            return Err(Problem::invalid_parameter(&name, &value, "to be given once"));
        }
    }
    Ok(key)
}

/// A path of which a part is no text.
pub(crate) fn not_utf8() -> Problem {
    Problem::bad_request("a path segment is not UTF-8 after percent-decoding")
}

pub(super) fn unknown(name: &str, allowed: &str) -> Problem {
    Problem::invalid_parameter("query", name, allowed)
}

pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::bad_request("the query is not a list of name=value pairs"))?;
    if pairs.len() > MAX_PARAMETERS {
        return Err(Problem::invalid_parameter(
            "query",
            &format!("{} parameters", pairs.len()),
            "up to 32 parameters",
        ));
    }
    Ok(pairs)
}

pub(super) fn time(name: &str, value: &str) -> Result<i64, Problem> {
    timestamp::parse(value).ok_or_else(|| Problem::invalid_parameter(name, value, TIME_ALLOWED))
}

fn order(value: &str) -> Result<Order, Problem> {
    match value {
        "newest" => Ok(Order::Newest),
        "oldest" => Ok(Order::Oldest),
        _ => Err(Problem::invalid_parameter("order", value, "newest or oldest")),
    }
}

fn limit(value: &str) -> Result<usize, Problem> {
    let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| value.parse().ok()).flatten();
    number
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| Problem::invalid_parameter("limit", value, &format!("1 to {MAX_PAGE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<PageParams, Problem> {
        PageParams::read(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn everything_may_be_left_out() {
        let params = PageParams::read(&"/x".parse().unwrap()).unwrap();
        assert_eq!(params, PageParams::default());
        assert_eq!(params.limit(), 50);
    }

    #[test]
    fn times_are_taken_in_both_forms() {
        let params =
            read("from=1970-01-01T00:00:01Z&to=2000&order=oldest&limit=500&cursor=abc").unwrap();
        assert_eq!((params.from_ms, params.to_ms), (Some(1_000), Some(2_000)));
        assert_eq!((params.order, params.limit), (Some(Order::Oldest), Some(500)));
        assert_eq!(params.cursor.as_deref(), Some("abc"));
        assert_eq!(read("from=1970-01-01T01:00:01%2B01:00").unwrap().from_ms, Some(1_000));
    }

    #[test]
    fn a_partition_key_has_a_length_and_comes_once() {
        let read = |query: &str| partition_key(&format!("/x?{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("partition_key=a%20%C3%A4").unwrap().as_deref(), Some("a \u{e4}"));
        assert!(read(&format!("partition_key={}", "%C3%A4".repeat(256))).is_ok());
        let long = format!("partition_key={}", "k".repeat(257));
        for bad in ["partition_key=", "key=a", "partition_key=a&partition_key=a", &long] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused_by_name() {
        let bad = [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=+5", "limit"),
            ("limit=", "limit"),
            ("limit=5&limit=5", "limit"),
            ("order=random", "order"),
            ("from=yesterday", "from"),
            ("to=", "to"),
            ("from=5&to=5", "to"),
            ("form=5", "form"),
            ("x", "x"),
        ];
        for (query, named) in bad {
            let problem = read(query).unwrap_err();
            assert!(format!("{problem:?}").contains(named), "{query}");
        }
        assert!(read(&"a=b&".repeat(40)).is_err());
    }
}
