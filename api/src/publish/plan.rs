//! What a request's messages become, or which of them stands against sending any. Pure but for the look into
//! each message, which is the publisher's.

use axum::body::Bytes;
use store::{Action, Client, IntegrationName, authorise};

use super::{MAX_KEY_CHARS, Outgoing, PublishLimits, Publisher, Unfit};
use crate::audit;

/// Characters of what was found that an error repeats.
const SHOWN_CHARS: usize = 100;

/// One message as it stands in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its line, from 1; `None` if it is the whole body.
    pub(crate) number: Option<usize>,
    pub(crate) payload: Bytes,
}

/// What is asked for with all messages of a request.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) client: &'a Client,
    pub(crate) integration: &'a IntegrationName,
    /// The same for all of them; `None`: each one's entity.
    pub(crate) partition_key: Option<&'a str>,
}

/// A message that cannot be published, so that none of its request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadMessage {
    pub(crate) line: Option<usize>,
    /// A short name of what is wrong.
    pub(crate) code: &'static str,
    pub(crate) found: String,
    pub(crate) allowed: String,
}

impl BadMessage {
    /// It is not even JSON.
    pub(crate) fn is_syntax(&self) -> bool {
        self.code == NOT_JSON
    }

    fn whole(code: &'static str, found: String, allowed: String) -> BadMessage {
        BadMessage { line: None, code, found, allowed }
    }
}

const NOT_JSON: &str = "not-json";

/// All messages as they will be sent, or the first one that cannot be.
pub(crate) fn plan(
    publisher: &dyn Publisher,
    limits: &PublishLimits,
    asked: &Asked<'_>,
    lines: Vec<Line>,
) -> Result<Vec<Outgoing>, BadMessage> {
    if lines.is_empty() {
        let found = "no message in the body".to_owned();
        return Err(BadMessage::whole("no-message", found, "at least one".to_owned()));
    }
    if lines.len() > limits.max_messages {
        let found = format!("more than {} messages", limits.max_messages);
        let allowed = format!("up to {} messages a request", limits.max_messages);
        return Err(BadMessage::whole("too-many", found, allowed));
    }
    let message = |line: Line| {
        let partition_key =
            key_of(publisher, limits, asked, &line.payload).map_err(|(code, found, allowed)| {
                BadMessage { line: line.number, code, found, allowed }
            })?;
        Ok(Outgoing { partition_key, payload: line.payload })
    };
    lines.into_iter().map(message).collect()
}

/// What is wrong with one message: a short name, what was found, what is allowed.
type Defect = (&'static str, String, String);

/// The partition key of a message that may be sent.
fn key_of(
    publisher: &dyn Publisher,
    limits: &PublishLimits,
    asked: &Asked<'_>,
    payload: &[u8],
) -> Result<String, Defect> {
    let entity = publisher
        .examine(asked.integration, asked.partition_key, payload)
        .map_err(|unfit| defect(unfit, asked.integration))?;
    let decision = authorise(asked.client, Action::Publish, asked.integration, Some(&entity));
    audit::decided(asked.client, Action::Publish, asked.integration, decision);
    if !decision.is_allowed() {
        return Err((
            "entity-not-granted",
            format!("a message about {:?}", shown(entity.as_str())),
            "entities that this client may publish about (GET /v1/me)".to_owned(),
        ));
    }
    let key = asked.partition_key.unwrap_or(entity.as_str());
    let chars = key.chars().count();
    if chars > MAX_KEY_CHARS {
        return Err((
            "no-partition-key",
            format!("an entity of {chars} characters, too long to be the partition key"),
            format!("the parameter partition_key, of 1 to {MAX_KEY_CHARS} characters"),
        ));
    }
    let bytes = payload.len() + key.len();
    if bytes > limits.max_message_bytes {
        return Err((
            "too-large",
            format!("{bytes} bytes with the partition key"),
            format!("up to {} bytes", limits.max_message_bytes),
        ));
    }
    Ok(key.to_owned())
}

fn defect(unfit: Unfit, integration: &IntegrationName) -> Defect {
    match unfit {
        Unfit::NotJson(found) => (NOT_JSON, found, "one JSON document in UTF-8".to_owned()),
        // Where it would belong is not said: the client may not know of it.
        Unfit::Elsewhere => (
            "not-of-this-integration",
            "a message that the rules of this integration do not take".to_owned(),
            format!("messages of {integration} alone"),
        ),
        Unfit::Malformed(found) => {
            ("malformed", found, format!("messages that {integration} can keep and deliver"))
        }
        Unfit::NoKey => (
            "no-partition-key",
            "a message that does not say its entity".to_owned(),
            "the parameter partition_key, which is its entity then".to_owned(),
        ),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use store::{ClientId, Entity, Grant, GrantScope};
    use tokio::time::Instant;

    use super::super::Outcome;
    use super::*;

    /// The entity is the text before a colon; without one it is the key.
    struct Colons;

    impl Publisher for Colons {
        fn takes(&self, _: &IntegrationName) -> bool {
            true
        }

        fn examine(
            &self,
            _: &IntegrationName,
            key: Option<&str>,
            payload: &[u8],
        ) -> Result<Entity, Unfit> {
            let text = std::str::from_utf8(payload).unwrap();
            let entity = text.split_once(':').map(|(entity, _)| entity).or(key);
            Entity::parse(entity.ok_or(Unfit::NoKey)?)
                .map_err(|error| Unfit::Malformed(error.to_string()))
        }

        fn publish<'a>(
            &'a self,
            _: &'a IntegrationName,
            _: Vec<Outgoing>,
            _: Instant,
        ) -> BoxFuture<'a, Vec<Outcome>> {
            unreachable!("planning sends nothing")
        }
    }

    fn planned(key: Option<&str>, lines: &[&str]) -> Result<Vec<String>, BadMessage> {
        let quakes = IntegrationName::parse("quakes").unwrap();
        let scope = GrantScope::One(quakes.clone());
        let grant =
            Grant { entity_prefix: Some("ci".to_owned()), ..Grant::new(scope, Action::Publish) };
        let client = Client {
            id: ClientId::parse("c").unwrap(),
            name: "c".to_owned(),
            grants: vec![grant],
            limits: None,
            enabled: true,
            created_at_ms: 0,
            version: 0,
        };
        let limits =
            PublishLimits { max_messages: 3, max_message_bytes: 300, ..PublishLimits::default() };
        let line = |(at, text): (usize, &&str)| Line {
            number: Some(at + 1),
            payload: Bytes::copy_from_slice(text.as_bytes()),
        };
        let asked = Asked { client: &client, integration: &quakes, partition_key: key };
        let sent = plan(&Colons, &limits, &asked, lines.iter().enumerate().map(line).collect())?;
        Ok(sent.into_iter().map(|message| message.partition_key).collect())
    }

    fn code(result: Result<Vec<String>, BadMessage>) -> (Option<usize>, &'static str) {
        let bad = result.unwrap_err();
        (bad.line, bad.code)
    }

    #[test]
    fn the_entity_is_the_key_unless_one_is_given() {
        assert_eq!(planned(None, &["ci:1", "ci2:1"]).unwrap(), ["ci", "ci2"]);
        assert_eq!(planned(Some("k"), &["ci:1", "ci2:1"]).unwrap(), ["k", "k"]);
        assert_eq!(planned(Some("ci9"), &["1"]).unwrap(), ["ci9"]);
    }

    #[test]
    fn the_first_bad_message_is_named_by_its_line() {
        assert_eq!(code(planned(None, &["ci:1", "us:1"])), (Some(2), "entity-not-granted"));
        assert_eq!(code(planned(Some("us"), &["1"])), (Some(1), "entity-not-granted"));
        assert_eq!(code(planned(None, &["1"])), (Some(1), "no-partition-key"));
        assert_eq!(code(planned(None, &[":"])), (Some(1), "malformed"));
        let long = format!("ci{}:", "x".repeat(255));
        assert_eq!(code(planned(None, &["ci:1", &long])), (Some(2), "no-partition-key"));
        let large = format!("ci:{}", "x".repeat(300));
        assert_eq!(code(planned(None, &["ci:1", "ci:2", &large])), (Some(3), "too-large"));
        assert!(planned(Some(&"k".repeat(256)), &["ci:1"]).is_ok());
    }

    #[test]
    fn a_request_has_at_least_one_message_and_not_too_many() {
        assert_eq!(code(planned(None, &[])), (None, "no-message"));
        assert_eq!(code(planned(None, &["ci:1"; 4])), (None, "too-many"));
        assert_eq!(planned(None, &["ci:1"; 3]).unwrap().len(), 3);
    }
}
