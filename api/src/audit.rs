//! The audit of decisions: a line of the log (target `audit`) for everybody who was not recognised, for everything that
//! a client was allowed or not, with the true reason, and for every change that it made.
//!
//! What is never in it: keys and tokens, what messages say, entities, paths and queries. An entity may be a person;
//! which one was asked for is not needed to know whether a decision was right. Changes of access are written down
//! durably besides, by `store`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use store::{Action, Client, ClientId, Decision, Denial, IntegrationName, KeyId};

use crate::access::{Limiter, limiter};
use crate::metrics;
use crate::options::AuditOptions;

/// Decisions of one request that are remembered, so that each is written once however often it is made.
const MAX_REMEMBERED: usize = 16;
/// Stands where there is nothing to say.
const NOTHING: &str = "-";

tokio::task_local! {
    /// The request that is being answered. Decisions are made where nothing is known of HTTP; this way they can still be told
    /// apart by who asked from where.
    static REQUEST: Arc<Request>;
}

/// What is known of a request beside its own content.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its name in the log and in the answer.
    id: String,
    /// The template of its path.
    route: String,
    /// Its method, as a bounded word.
    method: &'static str,
    /// Where it comes from, as far as that is known.
    peer: Option<IpAddr>,
    /// The key that it was recognised by.
    key: OnceLock<KeyId>,
    /// What was written of it. Taken for a short list by the one task that answers.
    told: Mutex<Vec<Told>>,
    audit: Arc<Audit>,
}

/// One decision: about what, and which.
type Told = (&'static str, Option<IntegrationName>, &'static str);

impl Request {
    pub(crate) fn new(
        audit: Arc<Audit>,
        id: &str,
        route: &str,
        method: &'static str,
        peer: Option<IpAddr>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            route: route.to_owned(),
            method,
            peer,
            key: OnceLock::new(),
            told: Mutex::default(),
            audit,
        })
    }

    /// True the first time.
    fn is_news(&self, told: Told) -> bool {
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = !all.contains(&told) && all.len() < MAX_REMEMBERED;
        if is_news {
            all.push(told);
        }
        is_news
    }
}

/// Runs `answer`, whose decisions are those of `request`.
pub(crate) async fn of_request<F: Future>(request: Arc<Request>, answer: F) -> F::Output {
    REQUEST.scope(request, answer).await
}

/// The request that is being answered, for those who decide for it again once its answer has begun.
pub(crate) fn current() -> Option<Arc<Request>> {
    REQUEST.try_with(Arc::clone).ok()
}

/// The request was recognised by this key.
pub(crate) fn recognised_by(key: &KeyId) {
    // Once per request; a long poll asks again and means the same key.
    let _ = REQUEST.try_with(|request| request.key.set(key.clone()));
}

/// Writes lines, and not too many.
#[derive(Debug)]
pub(crate) struct Audit {
    options: AuditOptions,
    /// Lines a second, apart, so that no flood of refusals hides what was allowed.
    allowed: Limiter,
    others: Limiter,
    /// Allowed decisions so far, for their sampling.
    seen: AtomicU64,
    /// Lines that were left out since the last one that was written.
    left_out: AtomicU64,
}

/// What a line says beside what is known of the request.
struct Line<'a> {
    decision: &'static str,
    reason: Reason<'a>,
    client: Option<&'a ClientId>,
    key: Option<&'a KeyId>,
    action: &'static str,
    integration: Option<&'a IntegrationName>,
    subject: &'a str,
}

/// Why it was decided so. It becomes a text only in a line that is written.
#[derive(Clone, Copy)]
enum Reason<'a> {
    Word(&'a str),
    Grant(usize),
}

impl Reason<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Reason::Word(word) => Cow::Borrowed(word),
            Reason::Grant(grant) => Cow::Owned(format!("grant-{grant}")),
        }
    }
}

/// Somebody was not recognised. The key's id is what the request claims.
pub(crate) fn unauthenticated(reason: &'static str, key: Option<&KeyId>) {
    let reason = Reason::Word(reason);
    write(Line { decision: "unauthenticated", reason, key, ..Line::EMPTY });
}

/// A client was not let in for its limits.
pub(crate) fn limited(client: &Client, policy: &'static str) {
    let (reason, client) = (Reason::Word(policy), Some(&client.id));
    write(Line { decision: "limited", reason, client, ..Line::EMPTY });
}

/// A client asked for an integration that does not exist.
pub(crate) fn no_such_integration(client: &Client, action: Action) {
    denied(client, action, None, "no-such-integration");
}

/// A message is outside of what the client's grants show of its entity.
pub(crate) fn message_outside_grant(
    client: &Client,
    action: Action,
    integration: &IntegrationName,
) {
    denied(client, action, Some(integration), "message-outside-grant");
}

/// A client asked for a thing of another client.
pub(crate) fn not_its_own(client: &Client, action: Action) {
    denied(client, action, None, "not-its-own");
}

/// A client asked for what needs a grant on any integration, and has none.
pub(crate) fn nothing_granted(client: &Client, action: Action) {
    denied(client, action, None, denial_word(Denial::NoGrant));
}

/// It was decided what a client may do; the same again in one request is not written again.
pub(crate) fn decided(
    client: &Client,
    action: Action,
    integration: &IntegrationName,
    decision: Decision,
) {
    let grant = match decision {
        Decision::Denied(denial) => {
            return denied(client, action, Some(integration), denial_word(denial));
        }
        Decision::Allowed { grant } => grant,
    };
    if is_news((action_word(action), Some(integration.clone()), "granted")) {
        write(Line {
            decision: "allowed",
            reason: Reason::Grant(grant),
            client: Some(&client.id),
            action: action_word(action),
            integration: Some(integration),
            ..Line::EMPTY
        });
    }
}

/// A client changed something of its own; what, and its id.
pub(crate) fn changed(client: &Client, change: &'static str, subject: &str) {
    if is_news((change, None, "changed")) {
        let (reason, client) = (Reason::Word(change), Some(&client.id));
        write(Line { decision: "changed", reason, client, subject, ..Line::EMPTY });
    }
}

/// A request of a client was answered: if nothing was decided but who it is, that is written.
pub(crate) fn answered(client: &Client) {
    let is_untold = |request: &Arc<Request>| {
        request.told.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    };
    if REQUEST.try_with(is_untold) == Ok(true) {
        let (reason, client) = (Reason::Word("recognised"), Some(&client.id));
        write(Line { decision: "allowed", reason, client, ..Line::EMPTY });
    }
}

fn denied(
    client: &Client,
    action: Action,
    integration: Option<&IntegrationName>,
    reason: &'static str,
) {
    let (client, action) = (Some(&client.id), action_word(action));
    if is_news((action, integration.cloned(), reason)) {
        let reason = Reason::Word(reason);
        write(Line { decision: "denied", reason, client, action, integration, ..Line::EMPTY });
    }
}

/// True the first time in a request.
fn is_news(told: Told) -> bool {
    REQUEST.try_with(|request| request.is_news(told)) == Ok(true)
}

/// Without a request nobody asked: nothing is written.
fn write(line: Line<'_>) {
    let _ = REQUEST.try_with(|request| request.audit.write(request, &line));
}

impl Audit {
    pub(crate) fn new(options: AuditOptions) -> Arc<Self> {
        let limit = || limiter(options.max_lines_per_second, options.max_lines_per_second);
        Arc::new(Self {
            options,
            allowed: limit(),
            others: limit(),
            seen: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        })
    }

    /// Whether an allowed decision is one of those that are written.
    fn is_drawn(&self) -> bool {
        let one_in = u64::from(self.options.allowed_one_in.max(1));
        self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in)
    }

    fn write(&self, request: &Request, line: &Line<'_>) {
        let is_allowed = line.decision == "allowed";
        if !self.options.is_on || (is_allowed && !self.is_drawn()) {
            return;
        }
        let limit = if is_allowed { &self.allowed } else { &self.others };
        let is_written = limit.check().is_ok();
        metrics::audited(line.decision, is_written);
        if !is_written {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let peer = request.peer.map(|peer| peer.to_string());
        let reason = line.reason.text();
        tracing::info!(
            target: "audit",
            log = "audit",
            decision = line.decision,
            reason = &*reason,
            client = line.client.map_or(NOTHING, ClientId::as_str),
            key_id = line.key.or(request.key.get()).map_or(NOTHING, KeyId::as_str),
            action = line.action,
            integration = line.integration.map_or(NOTHING, IntegrationName::as_str),
            subject = line.subject,
            peer = peer.as_deref().unwrap_or(NOTHING),
            method = request.method,
            route = request.route,
            request_id = request.id,
            left_out,
            "access decided"
        );
    }
}

impl Line<'static> {
    const EMPTY: Line<'static> = Line {
        decision: "",
        reason: Reason::Word(NOTHING),
        client: None,
        key: None,
        action: NOTHING,
        integration: None,
        subject: NOTHING,
    };
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Read => "read",
        Action::Publish => "publish",
        Action::Subscribe => "subscribe",
    }
}

fn denial_word(denial: Denial) -> &'static str {
    match denial {
        Denial::ClientDisabled => "client-disabled",
        Denial::NoGrant => "no-grant",
        Denial::EntityOutsideGrant => "entity-outside-grant",
    }
}
