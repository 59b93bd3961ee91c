//! What of an integration a client may follow, and from where on.

use store::pattern::Reader;
use store::{ARRIVALS_KEPT, Action, Client, Entity, IntegrationName, Message, authorise};

use super::{Backend, BackendError, Exposed};
use crate::tail::{Follower, Place, Position};

/// An integration that a client may follow, or one entity of it.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) integration: IntegrationName,
    pub(crate) entity: Option<Entity>,
}

/// From where on a client wants to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FollowFrom {
    Now,
    /// What was stored from a time on, in ms since 1970.
    Time(i64),
    /// Behind the event of this id, which came by the parameter of this name.
    Cursor(&'static str, String),
}

impl Backend {
    /// What is followed, if that is there for this client.
    pub(crate) fn followed(
        &self,
        client: &Client,
        integration: &str,
        entity: Option<&str>,
    ) -> Result<Followed, BackendError> {
        let followed = match entity {
            Some(entity) => {
                let (integration, entity) = self.readable(client, integration, entity)?;
                Followed { integration, entity: Some(entity) }
            }
            None => {
                let integration = self.existing(client, Action::Read, integration)?.clone();
                Followed { integration, entity: None }
            }
        };
        match self.integrations.get(&followed.integration) {
            Some(info) if info.tail => Ok(followed),
            _ => Err(BackendError::TailOff),
        }
    }

    /// Follows it from there on.
    pub(crate) async fn follow(
        &self,
        followed: &Followed,
        from: &FollowFrom,
    ) -> Result<Follower, BackendError> {
        let integration = &followed.integration;
        let position = match from {
            FollowFrom::Now => {
                let follower = Follower::from_now(&self.feeds, integration).await;
                return follower.ok_or(BackendError::Unavailable);
            }
            FollowFrom::Time(from_ms) => Position::at_ms(self.recent(*from_ms)?),
            FollowFrom::Cursor(parameter, text) => {
                let position = Position::decode(&self.signer, integration, text).map_err(|_| {
                    BackendError::Invalid {
                        parameter,
                        found: text.clone(),
                        allowed: "the id of an event of this integration, unchanged",
                    }
                })?;
                if position.needs_ms() < self.kept_since_ms() {
                    return Err(BackendError::CursorExpired);
                }
                position
            }
        };
        Ok(Follower::from_position(&self.feeds, integration, position))
    }

    /// The message as the client may see it; `None` if not, which is ordinary where a whole integration is followed.
    pub(crate) fn followed_message(
        &self,
        client: &Client,
        followed: &Followed,
        message: &Message,
        reader: &mut Reader,
    ) -> Option<Exposed> {
        let Message { integration, entity, .. } = message;
        let wanted = followed.entity.as_ref().is_none_or(|wanted| wanted == entity);
        if !wanted || !authorise(client, Action::Read, integration, Some(entity)).is_allowed() {
            return None;
        }
        self.expose(client, message.clone(), reader)
    }

    /// The id of an event: where to go on behind it.
    pub(crate) fn cursor(&self, followed: &Followed, place: &Place) -> String {
        place.encode(&self.signer, &followed.integration)
    }

    /// Checks a time to begin at.
    fn recent(&self, from_ms: i64) -> Result<i64, BackendError> {
        if (self.kept_since_ms()..=self.now_ms()).contains(&from_ms) {
            return Ok(from_ms);
        }
        Err(BackendError::Invalid {
            parameter: "from",
            found: crate::timestamp::format(from_ms),
            allowed: "a time within the last hour",
        })
    }

    fn kept_since_ms(&self) -> i64 {
        let kept = i64::try_from(ARRIVALS_KEPT.as_millis()).unwrap_or(i64::MAX);
        self.now_ms().saturating_sub(kept)
    }
}
