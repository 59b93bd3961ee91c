//! A message looked into before it is sent, as the reader will look into its record: nothing is put into a
//! stream that would be a dead letter, or another integration's message, at its end. It sends and counts nothing.

use store::{DeadReason, Entity, IntegrationName};

use crate::batch::Malformed;
use crate::decode::{Arrival, EntityAt, Scratch, read_to_end, route};
use crate::integration::Integrations;

/// Stands for a partition key that was not given, so that the rest of a message can be looked into.
const NO_KEY: &str = "-";

/// Why a message is not one of the integration that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is not one JSON document in UTF-8; what was found instead.
    NotJson(String),
    /// Another integration would take it.
    Elsewhere,
    /// It is one, and would be a dead letter: why, and in words.
    Malformed(DeadReason, String),
    /// Its entity is the partition key, and there is none.
    NoKey,
}

/// Looks into a message for the integration `wanted`: whose it is, under this partition key.
///
/// # Errors
/// When the reader would not make a message of this integration of it.
pub fn examine(
    integrations: &Integrations,
    wanted: &IntegrationName,
    partition_key: Option<&str>,
    payload: &[u8],
    now_ms: i64,
) -> Result<Entity, Unfit> {
    let key = partition_key.unwrap_or(NO_KEY);
    let arrival = Arrival { partition_key: key.as_bytes(), arrived_at_ms: now_ms };
    let mut scratch = Scratch::new(integrations);
    let route = route(integrations, &mut scratch, payload, arrival)
        .map_err(|malformed| unfit(malformed, wanted))?;
    if !route.is_whole {
        read_to_end(payload).map_err(Unfit::NotJson)?;
    }
    if integrations.get(route.integration).name() != wanted {
        return Err(Unfit::Elsewhere);
    }
    let text = match &route.entity {
        EntityAt::Payload(range) => std::str::from_utf8(&payload[range.clone()]).ok(),
        EntityAt::Escaped(text) => Some(text.as_str()),
        EntityAt::PartitionKey => Some(partition_key.ok_or(Unfit::NoKey)?),
    };
    let entity = text.map(Entity::parse);
    // A route's entity was checked already: both cannot fail.
    entity.and_then(Result::ok).ok_or_else(|| {
        Unfit::Malformed(DeadReason::InvalidField, "its entity cannot be read".to_owned())
    })
}

fn unfit(malformed: Malformed, wanted: &IntegrationName) -> Unfit {
    let Malformed { reason, detail, integration } = malformed;
    match reason {
        // Of what is no JSON nobody knows whose it would be.
        DeadReason::NotJson | DeadReason::Empty | DeadReason::InvalidUtf8 => Unfit::NotJson(detail),
        _ if integration != *wanted => Unfit::Elsewhere,
        reason => Unfit::Malformed(reason, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integration::Integration;

    fn name(text: &str) -> IntegrationName {
        IntegrationName::parse(text).unwrap()
    }

    fn integrations() -> Integrations {
        let read = |json: &str| serde_json::from_str::<Integration>(json).unwrap();
        Integrations::compile(vec![
            read(
                r#"{"name":"quakes","match":[{"pointer":"/type","equals":"Feature"}],"entity":"/net","max_message_bytes":100}"#,
            ),
            read(r#"{"name":"events","match":[{"cloud_event":"source","prefix":"/"}]}"#),
        ])
        .unwrap()
    }

    fn examined(wanted: &str, key: Option<&str>, payload: &str) -> Result<String, Unfit> {
        let entity = examine(&integrations(), &name(wanted), key, payload.as_bytes(), 1_000)?;
        Ok(entity.as_str().to_owned())
    }

    #[test]
    fn the_entity_is_the_readers() {
        let quake = r#"{"type":"Feature","net":"c\u0069"}"#;
        assert_eq!(examined("quakes", None, quake).unwrap(), "ci");
        assert_eq!(examined("quakes", Some("k"), quake).unwrap(), "ci", "whatever the key is");
        let event = r#"{"specversion":"1.0","source":"/a","subject":"s"}"#;
        assert_eq!(examined("events", None, event).unwrap(), "s");
        assert_eq!(examined("default", Some("k"), "7").unwrap(), "k");
    }

    #[test]
    fn without_anything_else_the_key_is_the_entity_and_must_be_given() {
        assert_eq!(examined("default", None, "{}"), Err(Unfit::NoKey));
        let event = r#"{"specversion":"1.0","source":"/a"}"#;
        assert_eq!(examined("events", None, event), Err(Unfit::NoKey));
        assert_eq!(examined("events", Some("k"), event).unwrap(), "k");
        let long = "k".repeat(600);
        assert!(matches!(
            examined("default", Some(&long), "{}"),
            Err(Unfit::Malformed(DeadReason::InvalidField, _))
        ));
    }

    #[test]
    fn what_is_no_json_is_no_message_even_behind_what_decides_its_route() {
        let behind = r#"{"type":"Feature","net":"ci","rest":[1,}"#;
        for bad in ["", " ", "{", "1 2", "\u{feff}{}", behind] {
            let found = examined("quakes", None, bad);
            assert!(matches!(found, Err(Unfit::NotJson(_))), "{bad:?}: {found:?}");
        }
        let found = examine(&integrations(), &name("quakes"), None, b"\"\xff\"", 1_000);
        assert!(matches!(found, Err(Unfit::NotJson(_))), "{found:?}");
    }

    #[test]
    fn another_integrations_message_is_not_named_and_a_dead_letter_is_explained() {
        let quake = r#"{"type":"Feature","net":"ci"}"#;
        assert_eq!(examined("default", Some("k"), quake), Err(Unfit::Elsewhere));
        assert_eq!(examined("quakes", None, r#"{"type":"other"}"#), Err(Unfit::Elsewhere));
        let broken = r#"{"type":"Feature"}"#;
        assert_eq!(examined("default", Some("k"), broken), Err(Unfit::Elsewhere));
        let found = examined("quakes", None, broken);
        assert!(matches!(found, Err(Unfit::Malformed(DeadReason::MissingField, _))), "{found:?}");
        let large = format!(r#"{{"type":"Feature","net":"ci","x":"{}"}}"#, "x".repeat(100));
        let found = examined("quakes", None, &large);
        assert!(matches!(found, Err(Unfit::Malformed(DeadReason::TooLarge, _))), "{found:?}");
    }
}
