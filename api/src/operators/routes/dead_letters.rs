//! Dead letters: what was given up, with its payload and why, and sending it again. A page at a time, in both.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use store::{DeadLetter, DeadLetterFilter, DeadReason, IntegrationName, MessageId, SubscriptionId};
use utoipa::ToSchema;

use super::super::fleet::Redriven;
use super::super::service::Desk;
use super::failure::failed;
use super::leases::unanswered;
use super::letter::LetterView;
use crate::routes::described::TimeText;
use crate::routes::problem::Problem;
use crate::routes::{body, params, render};
use crate::timestamp;

/// Most readings of one page: with a narrow selection it may be short, or empty, and still have a next one.
const MAX_READINGS: usize = 10;
/// A page is not filled further once it has as many bytes of payload.
const ENOUGH_BYTES: usize = 8 * 1024 * 1024;
/// Of what was found, so many characters are repeated.
const MAX_SHOWN: usize = 100;
/// Letters of a page that are sent again unless it is said, and at most.
const MAX_LETTERS: usize = 100;

/// Some dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetters)]
struct LettersView<'a> {
    /// By integration in the order of the configuration, the newest arrival first.
    dead_letters: Vec<LetterView<'a>>,
    /// The cursor of the next page; null on the last one. A page may be short although there are more.
    #[schema(required = true)]
    next: Option<String>,
}

/// Body of `POST /v1/admin/dead-letters/redrive`: which are meant, of which one page is sent again. `all`, or what selects them.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Redrive)]
pub(super) struct RedriveInput {
    /// All of them, where nothing else is named.
    #[serde(default)]
    all: bool,
    /// Only those of this integration.
    integration: Option<String>,
    /// Only those given up for this reason.
    reason: Option<String>,
    /// Only deliveries to this subscription.
    subscription: Option<String>,
    /// Only those given up since.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Only those of this message.
    message: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    /// How many at most; 100 unless it is said.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next` of the call before, for the rest.
    cursor: Option<String>,
}

/// What became of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RedriveReport)]
struct ReportView {
    dry_run: bool,
    /// Dead letters that were looked at and are meant.
    selected: usize,
    /// Those that are none any more (or would be).
    sent: usize,
    /// Messages that went to the store.
    stored: usize,
    /// Deliveries that are due now.
    parked: usize,
    /// Those that stay.
    stay: Vec<StayView>,
    /// The cursor for the rest; null if there is none. A page may have had none that is meant although there are more.
    #[schema(required = true)]
    next: Option<String>,
}

/// A dead letter that stays one.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterThatStays)]
struct StayView {
    message: String,
    integration: String,
    reason: &'static str,
    why: String,
}

/// Which letters are meant.
struct Selection {
    integrations: Vec<IntegrationName>,
    filter: DeadLetterFilter,
}

/// Where a page begins: at the first integration, or behind a letter of one.
struct Place {
    integration: IntegrationName,
    after: Option<String>,
}

/// What could not be processed
///
/// Kept for a fortnight, whole, with the reason.
#[utoipa::path(get, path = "/v1/admin/dead-letters", tag = "dead letters", operation_id = "listDeadLetters",
    params(
        ("integration" = Option<String>, Query, description = "Only those of this one"),
        ("reason" = Option<String>, Query, description = "Only those given up for this reason, such as `not-json`"),
        ("subscription" = Option<String>, Query, description = "Only deliveries to this one"),
        ("since" = inline(Option<TimeText>), Query, description = "Only those given up since: RFC 3339, or milliseconds since 1970"),
        ("message" = Option<String>, Query, description = "Only those of this message"),
        ("limit" = Option<u32>, Query, description = "Letters in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page of the same selection, unchanged"),
    ),
    responses((status = 200, description = "A page", body = LettersView)))]
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let names = ["integration", "reason", "subscription", "since", "message"];
    let page = params::ListParams::read(&uri, &names)?;
    let selection = Selection::read(&desk, |name| page.get(name), Problem::invalid_parameter)?;
    let from = page.cursor.as_deref().map(place).transpose()?;
    let (letters, next) = some(&desk, &selection, from, page.limit()).await?;
    let dead_letters = letters.iter().map(LetterView::of).collect();
    Ok(render::json(&LettersView { dead_letters, next: next.as_ref().map(Place::cursor) }))
}

/// Sends dead letters again, a page of them
///
/// Each as things stand now: what is a message is stored if it is not and would still be kept, and goes to the subscriptions that want
/// it; a delivery goes to its subscription alone. Safe to repeat: nothing is stored or parked twice.
#[utoipa::path(post, path = "/v1/admin/dead-letters/redrive", tag = "dead letters", operation_id = "redriveDeadLetters",
    request_body(content = RedriveInput),
    responses((status = 200, description = "What became of them", body = ReportView)))]
pub(super) async fn redrive(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let wanted: RedriveInput = body::read(desk.limits.max_body_bytes, &headers, body).await?;
    let selection = wanted.selection(&desk)?;
    let from = wanted.cursor.as_deref().map(place).transpose()?;
    let (letters, next) = some(&desk, &selection, from, wanted.limit()?).await?;
    let mut report = ReportView::empty(wanted.dry_run, next.as_ref().map(Place::cursor));
    let told: Vec<_> = letters.iter().map(StayView::about).collect();
    let done = desk.backing.redrive.redrive(letters, wanted.dry_run).await.map_err(unanswered)?;
    for (letter, done) in told.into_iter().zip(done) {
        report.add(letter, done);
    }
    Ok(render::json(&report))
}

/// Some of the selected letters, and where to go on.
async fn some(
    desk: &Desk,
    selection: &Selection,
    from: Option<Place>,
    limit: usize,
) -> Result<(Vec<DeadLetter>, Option<Place>), Problem> {
    let mut left = selection.integrations.iter();
    let mut at = match from {
        None => left.next().map(|name| Place { integration: name.clone(), after: None }),
        Some(place) => {
            // An integration that is not configured any more has no letters that are looked for.
            left.find(|name| **name == place.integration).map(|_| place)
        }
    };
    let (mut letters, mut bytes) = (Vec::new(), 0);
    for _ in 0..MAX_READINGS {
        let Some(place) = &at else { break };
        let room = limit - letters.len();
        let found = desk.backing.deliveries.list_dead_letters(
            &place.integration,
            place.after.as_deref(),
            room,
            desk.now_ms(),
        );
        let page = found.await.map_err(failed)?;
        let meant = page.letters.into_iter().filter(|letter| selection.filter.takes(letter));
        for letter in meant {
            bytes += letter.payload.len();
            letters.push(letter);
        }
        at = match page.next {
            Some(next) => Some(Place { integration: place.integration.clone(), after: Some(next) }),
            None => left.next().map(|name| Place { integration: name.clone(), after: None }),
        };
        if letters.len() >= limit || bytes >= ENOUGH_BYTES {
            break;
        }
    }
    Ok((letters, at))
}

/// What a cursor says.
fn place(cursor: &str) -> Result<Place, Problem> {
    let read = || {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (name, after) = text.split_once(' ')?;
        let integration = IntegrationName::parse(name).ok()?;
        Some(Place { integration, after: (!after.is_empty()).then(|| after.to_owned()) })
    };
    let allowed = "the next of an earlier page, unchanged";
    read().ok_or_else(|| Problem::invalid_parameter("cursor", cursor, allowed))
}

impl Place {
    fn cursor(&self) -> String {
        let after = self.after.as_deref().unwrap_or_default();
        BASE64URL_NOPAD.encode(format!("{} {after}", self.integration).as_bytes())
    }
}

impl Selection {
    /// What the named fields say; `wrong` makes the problem of one that is not allowed, of its name, what was found and what is allowed.
    fn read<'a>(
        desk: &Desk,
        get: impl Fn(&str) -> Option<&'a str>,
        wrong: impl Fn(&str, &str, &str) -> Problem,
    ) -> Result<Selection, Problem> {
        fn read<T>(
            value: Option<&str>,
            parse: impl Fn(&str) -> Option<T>,
            refuse: impl Fn(&str) -> Problem,
        ) -> Result<Option<T>, Problem> {
            value.map(|text| parse(text).ok_or_else(|| refuse(text))).transpose()
        }
        let configured = desk.backing.redrive.integrations();
        // Also one that is not configured any more.
        let one = read(
            get("integration"),
            |text| IntegrationName::parse(text).ok(),
            |found| wrong("integration", found, "the name of an integration"),
        )?;
        let codes: Vec<&str> = DeadReason::ALL.iter().map(|reason| reason.code()).collect();
        let reason = read(get("reason"), DeadReason::from_code, |found| {
            wrong("reason", found, &format!("one of {}", codes.join(", ")))
        })?;
        let filter = DeadLetterFilter {
            reasons: reason.into_iter().collect(),
            subscription: read(
                get("subscription"),
                |text| SubscriptionId::parse(text).ok(),
                |found| {
                    wrong("subscription", found, "the id of a subscription, such as sub_Ieds5qCb")
                },
            )?,
            since_ms: read(get("since"), timestamp::parse, |found| {
                wrong("since", found, "a time such as 2026-01-31T00:00:00Z")
            })?,
            message: read(
                get("message"),
                |text| MessageId::parse(text).ok(),
                |found| wrong("message", found, "the id of a message, such as msg_..."),
            )?,
        };
        Ok(Selection { integrations: one.map_or(configured, |one| vec![one]), filter })
    }
}

impl RedriveInput {
    fn selection(&self, desk: &Desk) -> Result<Selection, Problem> {
        let get = |name: &str| match name {
            "integration" => self.integration.as_deref(),
            "reason" => self.reason.as_deref(),
            "subscription" => self.subscription.as_deref(),
            "since" => self.since.as_deref(),
            _ => self.message.as_deref(),
        };
        let names = ["integration", "reason", "subscription", "since", "message"];
        let selects = names.iter().any(|name| get(name).is_some());
        if self.all == selects {
            return Err(Problem::bad_request(
                "allowed is either \"all\": true, or what selects dead letters: integration, reason, subscription, since, message",
            ));
        }
        Selection::read(desk, get, |name, found, allowed| {
            let found: String = found.chars().take(MAX_SHOWN).collect();
            let detail = format!("found {found:?}, allowed is {allowed}");
            Problem::invalid_field(&format!("/{name}"), &detail)
        })
    }

    fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(MAX_LETTERS) {
            limit if (1..=MAX_LETTERS).contains(&limit) => Ok(limit),
            limit => {
                let detail = format!("found {limit}, allowed is 1 to {MAX_LETTERS}");
                Err(Problem::invalid_field("/limit", &detail))
            }
        }
    }
}

impl ReportView {
    fn empty(dry_run: bool, next: Option<String>) -> ReportView {
        ReportView { dry_run, selected: 0, sent: 0, stored: 0, parked: 0, stay: Vec::new(), next }
    }

    fn add(&mut self, letter: StayView, done: Redriven) {
        self.selected += 1;
        self.stored += done.stored;
        self.parked += done.parked;
        match done.stays {
            Some(why) => self.stay.push(StayView { why, ..letter }),
            None => self.sent += 1,
        }
    }
}

impl StayView {
    fn about(letter: &DeadLetter) -> StayView {
        StayView {
            message: MessageId::derive(&letter.position).to_string(),
            integration: letter.integration.to_string(),
            reason: letter.reason.code(),
            why: String::new(),
        }
    }
}
