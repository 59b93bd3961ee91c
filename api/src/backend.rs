//! What a client may read, as values: every decision about access to messages is made here, and
//! nothing here knows HTTP. Start at [`Backend::page`]; an [`Exposed`] message can be made nowhere
//! else.

mod following;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use store::{
    Action, Class, Client, Cursor, Entity, Exposure, IntegrationName, Locator, Locators, Message,
    MessageQuery, MessageStore, Order, Signer, StoreError, authorise,
};

pub(crate) use following::{FollowFrom, Followed};
use store::pattern::Reader;

use crate::cursor::PageToken;
use crate::options::{IntegrationInfo, Limits};
use crate::tail::Feeds;
use crate::watches::{Watch, Watches};
use crate::{audit, metrics};

/// Rounds of reading for one answer while grants that look into messages leave it short.
const MAX_ROUNDS: usize = 10;
/// Messages looked at in one of these rounds, at least.
const MIN_ROUND: usize = 50;

/// A message that the client who asked was granted (invariant A1), with only the fields that it was.
#[derive(Debug)]
pub(crate) struct Exposed {
    message: Message,
    locator: String,
    /// Names the choice of fields, if it is not all of them.
    view: Option<u32>,
}

impl Exposed {
    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// A strong name of what is shown: the same id with other fields is another one.
    pub(crate) fn version(&self) -> Cow<'_, str> {
        match self.view {
            None => self.message.id.as_str().into(),
            Some(view) => format!("{}-{view:08x}", self.message.id).into(),
        }
    }

    /// The signed name of its place, for its `self` link.
    pub(crate) fn locator(&self) -> &str {
        &self.locator
    }
}

/// Some messages, and the token of the next page if there is one.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) messages: Vec<Exposed>,
    pub(crate) next: Option<String>,
}

/// A question for messages, as the client asked it.
#[derive(Debug, Default)]
pub(crate) struct PageQuestion {
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: Option<i64>,
    pub(crate) order: Option<Order>,
    pub(crate) limit: usize,
    pub(crate) cursor: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum BackendError {
    /// It does not exist, or not for this client.
    #[error("not found")]
    NotFound,
    /// A part of the question is not allowed.
    #[error("{parameter}: found {found}, allowed is {allowed}")]
    Invalid { parameter: &'static str, found: String, allowed: &'static str },
    /// Nobody may follow this integration, whoever asks.
    #[error("tail is off")]
    TailOff,
    /// What lay behind the cursor is not kept any more.
    #[error("the cursor is too old")]
    CursorExpired,
    /// The store cannot answer now.
    #[error("the store cannot answer now")]
    Unavailable,
    /// A defect on this side, written to the log.
    #[error("internal error")]
    Internal,
}

/// See the module.
pub(crate) struct Backend {
    messages: Arc<dyn MessageStore>,
    signer: Signer,
    locators: Locators,
    integrations: BTreeMap<IntegrationName, IntegrationInfo>,
    time: SharedTimeSource,
    watches: Watches,
    feeds: Feeds,
    max_page_bytes: usize,
}

impl Backend {
    pub(crate) fn new(
        messages: Arc<dyn MessageStore>,
        signer: Signer,
        integrations: Vec<IntegrationInfo>,
        time: SharedTimeSource,
        limits: &Limits,
    ) -> Self {
        let integrations = integrations.into_iter().map(|info| (info.name.clone(), info)).collect();
        let watches = Watches::new(Arc::clone(&messages), time.clone(), limits.max_watched);
        let feeds = Feeds::new(Arc::clone(&messages), time.clone(), limits.max_tail_bytes);
        let max_page_bytes = limits.max_page_bytes;
        let locators = Locators::default();
        Self { messages, signer, locators, integrations, time, watches, feeds, max_page_bytes }
    }

    /// The integrations that this client may do anything with.
    pub(crate) fn integrations(&self, client: &Client) -> Vec<&IntegrationInfo> {
        let actions = [Action::Read, Action::Publish, Action::Subscribe];
        let seen =
            |name: &IntegrationName| actions.iter().any(|action| client.may_see(*action, name));
        self.integrations.values().filter(|info| seen(&info.name)).collect()
    }

    /// The integration of this name, if it exists for this client to publish to.
    pub(crate) fn publishable(
        &self,
        client: &Client,
        integration: &str,
    ) -> Result<IntegrationName, BackendError> {
        self.existing(client, Action::Publish, integration).cloned()
    }

    /// One page of an entity's messages.
    pub(crate) async fn page(
        &self,
        client: &Client,
        integration: &str,
        entity: &str,
        question: &PageQuestion,
    ) -> Result<Page, BackendError> {
        let (integration, entity) = self.readable(client, integration, entity)?;
        let token = match &question.cursor {
            Some(text) => Some(self.token(text, &integration, &entity)?),
            None => None,
        };
        let query =
            plan_page(question, token, MessageQuery::new(integration, entity, self.now_ms()))?;
        let query = MessageQuery { max_bytes: self.max_page_bytes, ..query };
        let (from_ms, to_ms) = (query.from_ms, query.to_ms);
        let limit = query.limit;
        let (messages, next) = self.collect(client, query, limit).await?;
        let next = next.map(|place| PageToken { from_ms, to_ms, place }.encode(&self.signer));
        Ok(Page { messages, next })
    }

    /// The first `wanted` messages of a query's answer that the client may see, and where it goes on. Asks
    /// again, a bounded number of times, while grants that look into messages leave the answer short.
    async fn collect(
        &self,
        client: &Client,
        mut query: MessageQuery,
        wanted: usize,
    ) -> Result<(Vec<Exposed>, Option<Cursor>), BackendError> {
        // Where nothing is left out, a short answer is short for its bytes.
        let whole = client.sees_whole_entities(Action::Read, &query.integration);
        if !whole {
            query.limit = query.limit.max(MIN_ROUND);
        }
        let mut seen = Vec::new();
        let mut reader = Reader::default();
        for _ in 0..MAX_ROUNDS {
            let page = self.messages.query(&query).await.map_err(|error| note(&error))?;
            let mut found = page.messages.into_iter();
            while let Some(message) = found.next() {
                seen.extend(self.expose(client, message, &mut reader));
                if let (true, Some(last)) = (seen.len() == wanted, seen.last()) {
                    let more = found.len() > 0 || page.next.is_some();
                    let next =
                        || Cursor { after: self.locators.of(&last.message), order: query.order };
                    let next = more.then(next);
                    return Ok((seen, next));
                }
            }
            query.after = page.next;
            if query.after.is_none() || whole {
                break;
            }
        }
        Ok((seen, query.after))
    }

    /// The newest message of an entity.
    pub(crate) async fn latest(
        &self,
        client: &Client,
        integration: &str,
        entity: &str,
    ) -> Result<Exposed, BackendError> {
        let (integration, entity) = self.readable(client, integration, entity)?;
        if client.sees_whole_entities(Action::Read, &integration) {
            let found = self.messages.latest(&integration, &entity, self.now_ms(), false).await;
            return self.one(client, found);
        }
        let query = MessageQuery::new(integration, entity, self.now_ms());
        // Apart, so that what is decided without looking does not carry it.
        let (mut seen, _) = Box::pin(self.collect(client, query, 1)).await?;
        seen.pop().ok_or(BackendError::NotFound)
    }

    /// Tells when there may be a new message of an entity; `None` if too many are waited for.
    pub(crate) fn watch(
        &self,
        client: &Client,
        integration: &str,
        entity: &str,
    ) -> Result<Option<Watch>, BackendError> {
        let (integration, entity) = self.readable(client, integration, entity)?;
        Ok(self.watches.watch(&integration, &entity))
    }

    /// The message behind the locator of a `self` link.
    pub(crate) async fn message(
        &self,
        client: &Client,
        integration: &str,
        locator: &str,
    ) -> Result<Exposed, BackendError> {
        let locator = Locator::decode(&self.signer, locator).map_err(|_| BackendError::NotFound)?;
        if locator.integration().as_str() != integration {
            return Err(BackendError::NotFound);
        }
        self.readable(client, integration, locator.entity().as_str())?;
        let found = self.messages.get(&locator, self.now_ms(), false).await;
        self.one(client, found)
    }

    fn one(
        &self,
        client: &Client,
        found: Result<Option<Message>, StoreError>,
    ) -> Result<Exposed, BackendError> {
        let message = found.map_err(|error| note(&error))?.ok_or(BackendError::NotFound)?;
        let integration = message.integration.clone();
        self.expose(client, message, &mut Reader::default()).ok_or_else(|| {
            audit::message_outside_grant(client, Action::Read, &integration);
            BackendError::NotFound
        })
    }

    /// The integration of this name, if it exists for this client to do something with.
    fn existing(
        &self,
        client: &Client,
        action: Action,
        integration: &str,
    ) -> Result<&IntegrationName, BackendError> {
        let Some((name, _)) = self.integrations.get_key_value(integration) else {
            audit::no_such_integration(client, action);
            return Err(BackendError::NotFound);
        };
        if client.may_see(action, name) {
            return Ok(name);
        }
        audit::decided(client, action, name, authorise(client, action, name, None));
        Err(BackendError::NotFound)
    }

    /// The integration and the entity, if both exist for this client.
    fn readable(
        &self,
        client: &Client,
        integration: &str,
        entity: &str,
    ) -> Result<(IntegrationName, Entity), BackendError> {
        let name = self.existing(client, Action::Read, integration)?;
        let entity = Entity::parse(entity).map_err(|_| BackendError::Invalid {
            parameter: "entity",
            found: format!("{} bytes", entity.len()),
            allowed: "1 to 512 bytes of UTF-8",
        })?;
        let decision = authorise(client, Action::Read, name, Some(&entity));
        audit::decided(client, Action::Read, name, decision);
        if decision.is_allowed() { Ok((name.clone(), entity)) } else { Err(BackendError::NotFound) }
    }

    /// The place that a client goes on from, if it belongs to this entity.
    fn token(
        &self,
        text: &str,
        integration: &IntegrationName,
        entity: &Entity,
    ) -> Result<PageToken, BackendError> {
        let token = PageToken::decode(&self.signer, text).ok();
        let here = |token: &PageToken| {
            token.place.after.integration() == integration && token.place.after.entity() == entity
        };
        token.filter(here).ok_or(BackendError::Invalid {
            parameter: "cursor",
            found: text.to_owned(),
            allowed: "the next of an earlier page of this entity, unchanged",
        })
    }

    /// The last look before a message leaves: whatever was asked and found, only what is granted
    /// gets out.
    fn expose(
        &self,
        client: &Client,
        mut message: Message,
        reader: &mut Reader,
    ) -> Option<Exposed> {
        if !authorise(client, Action::Read, &message.integration, Some(&message.entity))
            .is_allowed()
        {
            tracing::error!(
                client = client.id.as_str(),
                id = message.id.as_str(),
                "a message outside the grants was held back"
            );
            return None;
        }
        let (integration, entity) = (&message.integration, &message.entity);
        let view =
            match client.exposure(Action::Read, integration, entity, &message.payload, reader) {
                Exposure::Hidden => return None,
                Exposure::Whole => None,
                Exposure::Fields(mask) => {
                    message.payload = mask.apply(&message.payload)?.into();
                    Some(mask.fingerprint())
                }
            };
        let locator = self.locators.of(&message).encode(&self.signer);
        Some(Exposed { message, locator, view })
    }

    fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What to ask the store: the question, completed by the token, which it must not contradict.
fn plan_page(
    question: &PageQuestion,
    token: Option<PageToken>,
    mut query: MessageQuery,
) -> Result<MessageQuery, BackendError> {
    query.limit = question.limit;
    let Some(token) = token else {
        query.from_ms = question.from_ms;
        query.to_ms = question.to_ms;
        query.order = question.order.unwrap_or_default();
        return Ok(query);
    };
    let contradicts = |parameter, found: String| BackendError::Invalid {
        parameter,
        found,
        allowed: "what the cursor was made with, or nothing",
    };
    for (parameter, asked, kept) in
        [("from", question.from_ms, token.from_ms), ("to", question.to_ms, token.to_ms)]
    {
        if let Some(asked) = asked.filter(|asked| Some(*asked) != kept) {
            return Err(contradicts(parameter, asked.to_string()));
        }
    }
    if let Some(order) = question.order.filter(|order| *order != token.place.order) {
        return Err(contradicts("order", format!("{order:?}").to_lowercase()));
    }
    query.from_ms = token.from_ms;
    query.to_ms = token.to_ms;
    query.order = token.place.order;
    query.after = Some(token.place);
    Ok(query)
}

/// What a client learns of a store error; the rest stands in the log.
fn note(error: &StoreError) -> BackendError {
    metrics::store_failed(error.class());
    match error.class() {
        Class::Retry => {
            tracing::warn!(%error, "the store did not answer");
            BackendError::Unavailable
        }
        Class::Skip => {
            tracing::error!(%error, "the store refused a read");
            BackendError::Internal
        }
        Class::Fatal => {
            tracing::error!(%error, "the store cannot be used");
            BackendError::Unavailable
        }
    }
}
