//! The audit of decisions, as the log has it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use serde_json::{Map, Value, json};
use store::{ApiKey, ClientLimits, Grant};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use super::managing::subscribes;
use super::{CHANGE, World, message, reads, reads_prefix};
use crate::service::tests::listen;

const ME: &str = "/v1/me";

/// All that this thread logs from `info` on: target, message and fields of each event.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<Map<String, Value>>>>);

impl Subscriber for Captured {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What is finer is the SDK's: it tells of the calls of the tables.
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.0.insert("target".to_owned(), event.metadata().target().into());
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

impl Captured {
    pub(crate) fn start() -> (Captured, DefaultGuard) {
        listen();
        let captured = Captured::default();
        (captured.clone(), tracing::subscriber::set_default(captured))
    }

    /// What was logged since the last look.
    pub(crate) fn take(&self) -> Vec<Map<String, Value>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The lines of the audit among that.
    pub(crate) fn audit(&self) -> Vec<Map<String, Value>> {
        self.take().into_iter().filter(|line| line["target"] == "audit").collect()
    }

    /// The one line of the audit, and its decision with its reason.
    fn one(&self) -> (Map<String, Value>, String) {
        let mut lines = self.audit();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let line = lines.remove(0);
        assert_eq!(line["log"], "audit");
        let said = format!("{} {}", line["decision"], line["reason"]).replace('"', "");
        (line, said)
    }
}

fn of(entity: &str) -> String {
    format!("/v1/integrations/quakes/entities/{entity}/messages?limit=3")
}

async fn reader(grants: Vec<Grant>) -> (World, ApiKey, Captured, DefaultGuard) {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", grants).await;
    world.store((1..9).map(|n| message("quakes", "us-west", n)).collect()).await;
    let (captured, guard) = Captured::start();
    (world, key, captured, guard)
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_is_written_once_a_request_with_who_what_and_from_where() {
    let (world, key, log, _guard) = reader(vec![reads_prefix("quakes", Some("us"))]).await;
    let peer = crate::access::Peer {
        address: Some("203.0.113.7".parse().unwrap()),
        ..crate::access::Peer::default()
    };
    let ask = Request::get(of("us-west")).header("x-api-key", key.expose()).extension(peer);
    let answer = world.send(ask).await;
    assert_eq!(answer.status, 200);
    let (line, said) = log.one();
    assert_eq!(said, "allowed grant-0");
    for (field, value) in [
        ("client", "reader"),
        ("key_id", key.id().as_str()),
        ("action", "read"),
        ("integration", "quakes"),
        ("peer", "203.0.113.7"),
        ("method", "GET"),
        ("route", "/v1/integrations/{integration}/entities/{entity}/messages"),
        ("request_id", answer.header("x-request-id")),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!(line["left_out"], 0);
    world.get(ME, &key).await;
    assert_eq!(log.one().1, "allowed recognised");
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_written_with_the_reason_that_the_client_never_hears() {
    let (world, key, log, _guard) = reader(vec![reads_prefix("quakes", Some("us"))]).await;
    for (path, reason, integration) in [
        (of("ci"), "entity-outside-grant", "quakes"),
        ("/v1/integrations/flights/entities/us/latest".to_owned(), "no-grant", "flights"),
        ("/v1/integrations/nowhere/entities/us/latest".to_owned(), "no-such-integration", "-"),
        ("/v1/integrations/nowhere/tail".to_owned(), "no-such-integration", "-"),
        ("/v1/integrations/flights/tail".to_owned(), "no-grant", "flights"),
    ] {
        let answer = world.get(&path, &key).await;
        let problem = answer.problem(404);
        assert!(!problem.to_string().contains(reason), "{problem}");
        let (line, said) = log.one();
        assert_eq!(said, format!("denied {reason}"));
        assert_eq!(
            (&line["integration"], &line["client"]),
            (&json!(integration), &json!("reader"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_filter_hides_is_denied() {
    let filter = serde_json::from_value(json!({ "n": [{ "numeric": ["<", 5] }] })).unwrap();
    let grant = Grant { filter: Some(filter), ..reads("quakes") };
    let (mut world, key, log, _guard) = reader(vec![grant]).await;
    let (_, all) = world.client("all", vec![reads("quakes")]).await;
    let page = world.get("/v1/integrations/quakes/entities/us-west/messages?order=oldest", &all);
    let page = page.await.json();
    let link = page["messages"][0]["self"].as_str().unwrap().to_owned();
    log.take();
    world.get(&link, &key).await.problem(404);
    let lines = log.audit();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(lines[1]["reason"], "message-outside-grant");
    assert_eq!(lines[1]["decision"], "denied");
}

#[tokio::test]
async fn what_a_client_changes_is_written_and_what_is_not_its_own_is_denied() {
    let (mut world, key, log, _guard) = reader(vec![subscribes("quakes")]).await;
    let (_, stranger) = world.client("stranger", vec![subscribes("quakes")]).await;
    log.take();
    let changed = |change: &str, subject: &Value| {
        let lines = log.audit();
        let line = lines.iter().find(|line| line["decision"] == "changed").unwrap();
        assert_eq!((&line["reason"], &line["subject"]), (&json!(change), subject));
    };
    let made = world.subscribe(&key).await;
    changed("subscription.create", &made["id"]);
    let wanted = json!({ "subscription": made["id"], "from": "horizon" });
    let replay = world.post("/v1/replays", &key, &wanted).await.json();
    changed("replay.create", &replay["id"]);
    let path = format!("/v1/replays/{}", replay["id"].as_str().unwrap());
    world.get(&path, &stranger).await.problem(404);
    assert_eq!(log.one().1, "denied not-its-own");
    let cancel = Request::delete(&path).header("x-api-key", key.expose());
    assert_eq!(world.send(cancel).await.status, 200);
    changed("replay.cancel", &replay["id"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_recognised_and_who_is_limited_is_written() {
    let (mut world, key, log, _guard) = reader(vec![reads("quakes")]).await;
    world.send(Request::get(ME)).await.problem(401);
    assert_eq!(log.one().1, "unauthenticated missing");
    let unknown = ApiKey::generate(&mut |bytes: &mut [u8]| bytes.fill(9));
    world.get(ME, &unknown).await.problem(401);
    let (line, said) = log.one();
    assert_eq!(said, "unauthenticated unknown-key");
    assert_eq!((&line["key_id"], &line["client"]), (&json!(unknown.id()), &json!("-")));
    let (client, limited) = world.client("limited", vec![]).await;
    let limits = Some(ClientLimits { burst: Some(1), ..ClientLimits::default() });
    world.access.put_client(&store::Client { limits, ..client }, &CHANGE).await.unwrap();
    world.get(ME, &limited).await;
    log.take();
    world.get(ME, &limited).await.problem(429);
    let (line, said) = log.one();
    assert_eq!((said.as_str(), &line["client"]), ("limited requests", &json!("limited")));
    world.revoke(&key).await;
    world.pass(Duration::from_secs(2)).await;
    world.get(ME, &key).await.problem(401);
    let (line, said) = log.one();
    assert_eq!((said.as_str(), &line["key_id"]), ("unauthenticated revoked", &json!(key.id())));
}

/// A2, and more: an entity may be a person.
#[tokio::test(start_paused = true)]
async fn a2_no_line_has_a_secret_an_entity_a_path_or_a_query() {
    let (world, key, log, _guard) = reader(vec![reads_prefix("quakes", Some("us"))]).await;
    let secret = &key.expose()[21..];
    for path in [
        of("us-west"),
        of("us-marker-entity"),
        of("marker-entity"),
        format!("{}&cursor=marker-cursor", of("us-west")),
        "/v1/integrations/marker-name/entities/x/latest".to_owned(),
        "/v1/integrations/quakes/messages/marker-locator".to_owned(),
        "/v1/marker-path?marker-query".to_owned(),
    ] {
        world.get(&path, &key).await;
        let bearer = Request::get(&path).header("authorization", "Bearer marker-token.a.b");
        world.send(bearer).await;
        let wrong = Request::get(&path).header("x-api-key", format!("{}x", key.expose()));
        world.send(wrong).await;
    }
    let text = serde_json::to_string(&log.take()).unwrap();
    assert!(text.contains("\"allowed\"") && text.contains("\"denied\""));
    for hidden in [secret, "marker", "us-west", "limit=3", "\"n\""] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn lines_are_bounded_and_refusals_hide_nothing_that_was_allowed() {
    let mut world = World::with(|options| {
        options.limits.audit.max_lines_per_second = 5;
        options.limits.audit.allowed_one_in = 2;
    })
    .await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.get(ME, &key).await;
    let (log, _guard) = Captured::start();
    for _ in 0..20 {
        world.send(Request::get(ME)).await.problem(401);
    }
    let lines = log.audit();
    assert_eq!(lines.len(), 5);
    for _ in 0..4 {
        world.get(ME, &key).await;
    }
    let allowed = log.audit();
    assert_eq!(allowed.len(), 2, "one in two: {allowed:#?}");
    assert_eq!(allowed[0]["left_out"], 15);
    assert_eq!(allowed[1]["left_out"], 0);
}
