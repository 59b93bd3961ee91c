//! The API as a function: the real binary, fed with events by Lambda's runtime API as AWS documents it.

mod events;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::harness::aws::text;
use crate::harness::child::{Sluicegate, file, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, Scratch, earthquakes};
use crate::harness::runtime_api::{Invoked, RuntimeApi};
use crate::telemetry::collector::Collector;
use events::{Answer, Ask, SENDERS, Sender};

const PAGE: &str = "/v1/integrations/earthquakes/entities/ci/messages";
const LATEST: &str = "/v1/integrations/earthquakes/entities/ci/latest";

/// A running function.
struct Function {
    child: Sluicegate,
    lambda: RuntimeApi,
}

impl Function {
    /// As Lambda starts a custom runtime: without a word on the command line, its configuration in the package.
    async fn start(platform: &Platform, more: &[(&str, &str)]) -> Function {
        let lambda = RuntimeApi::start().await;
        let mut environment = lambda.environment(platform.scratch().to_str().expect("UTF-8"));
        environment.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let child = Sluicegate::start_with(&[], &environment);
        lambda.idle().await;
        Function { child, lambda }
    }

    async fn ask(&self, sender: Sender, ask: &Ask) -> Answer {
        Answer::of(self.lambda.invoke(&ask.event(sender)).await, sender)
    }

    async fn get(&self, target: &str, key: &str) -> Answer {
        self.ask(Sender::HttpApi, &Ask::get(target).with("x-api-key", key)).await
    }
}

/// The platform whose clients may ask much, and whose integration may be followed.
async fn platform() -> Platform {
    let platform = Platform::start().await;
    let text = std::fs::read_to_string(&platform.config).expect("the configuration");
    let text = text.replace("retention = \"1h\"", "retention = \"1h\"\ntail = true");
    let text = format!("{text}\n[api.client_limits]\nrate_per_second = 1000\nburst = 10000\n");
    file(platform.scratch(), "sluicegate.toml", &text);
    platform
}

/// Entities as nobody would call them, with what they are in a path.
const ODD: [(&str, &str); 6] = [
    ("a/b", "a%2Fb"),
    ("100%", "100%25"),
    ("%2F", "%252F"),
    ("a+b c", "a%2Bb%20c"),
    ("Ä/é ❄", "%C3%84%2F%C3%A9%20%E2%9D%84"),
    ("x/latest", "x%2Flatest"),
];

fn of_entity(entity: &str) -> (String, Vec<u8>) {
    let mut event: Value = serde_json::from_slice(&earthquakes()[0].1).expect("JSON");
    event["properties"]["net"] = entity.into();
    (entity.to_owned(), event.to_string().into_bytes())
}

/// Messages that are as large in JSON as they can be: quotes alone.
fn large(count: usize) -> Vec<(String, Vec<u8>)> {
    let large = |n: usize| {
        let (key, event) = of_entity("large");
        let mut event: Value = serde_json::from_slice(&event).expect("JSON");
        event["properties"]["title"] = "\"".repeat(29_000 + n).into();
        (key, event.to_string().into_bytes())
    };
    (0..count).map(large).collect()
}

/// What is asked of the service and of the function.
fn questions(key: &str, next: &str, link: &str, tag: &str) -> Vec<Ask> {
    let mut asks = vec![
        Ask::get("/v1/me"),
        Ask::get("/v1/me").with("x-api-key", format!("{key}x")),
        Ask::get("/v1/me?x=1"),
        Ask::get("/nothing/here"),
        Ask::get("/v1/integrations"),
        Ask::of("PUT", "/v1/me"),
        Ask::get(format!("{PAGE}?limit=3")),
        Ask::get(format!("{PAGE}?limit=3&cursor={next}")),
        Ask::get(format!(
            "{PAGE}?from=2018-02-01T00:00:00%2B01:00&to=2018-02-05T00%3A00%3A00Z&order=oldest"
        )),
        Ask::get(format!("{PAGE}?limit=0")),
        Ask::get(format!("{PAGE}?limit=1&limit=2")),
        Ask::get(LATEST),
        Ask::of("HEAD", LATEST),
        Ask::get(LATEST).with("if-none-match", tag),
        Ask::get(link),
        Ask::get("/v1/integrations/earthquakes/messages/made-up"),
        Ask::get("/healthz"),
        Ask::get("/readyz"),
        Ask::get("/openapi.json"),
        Ask::get("/docs"),
        Ask::of("DELETE", "/v1/subscriptions/sub_1").with("if-match", "*"),
        Ask::of("POST", "/v1/subscriptions")
            .with("content-type", "application/json")
            .body("{\"a\":"),
        Ask::of("POST", "/v1/subscriptions")
            .with("content-type", "text/plain")
            .body(&b"\xff\xfe"[..]),
    ];
    for (_, encoded) in ODD {
        asks.push(Ask::get(format!("/v1/integrations/earthquakes/entities/{encoded}/latest")));
        asks.push(Ask::get(format!("/v1/integrations/earthquakes/entities/{encoded}/messages")));
    }
    for ask in asks.iter_mut().skip(2) {
        ask.headers.push(("x-api-key", key.to_owned()));
    }
    asks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sender_gets_the_answers_that_the_service_gives_over_a_socket() {
    let platform = platform().await;
    let processor = Processor::start(&platform).await;
    let mut events: Vec<_> = earthquakes().into_iter().take(300).collect();
    events.extend(ODD.iter().map(|(entity, _)| of_entity(entity)));
    events.extend(large(12));
    platform.aws.put("earthquakes", &events).await;
    // What notes of arrivals there are is counted with the messages, and not here.
    eventually("everything is stored", async || match platform.stored().await.len() {
        stored if stored == events.len() => Ok(()),
        stored => Err(format!("{stored} of {}", events.len())),
    })
    .await;
    let mut service = Sluicegate::start(&["api", "--config", &platform.config]);
    let address = service.line().await.rsplit(' ').next().expect("an address").to_owned();
    let function = Function::start(&platform, &[]).await;

    let keyed = |ask: Ask| ask.with("x-api-key", &platform.api_key);
    let page = keyed(Ask::get(format!("{PAGE}?limit=3"))).over_a_socket(&address).await.json();
    let latest = keyed(Ask::get(LATEST)).over_a_socket(&address).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (next, link) = (text(&page["next"]), text(&page["messages"][1]["self"]));
    let asks = questions(&platform.api_key, &next, &link, latest.header("etag"));
    for ask in &asks {
        let expected = ask.over_a_socket(&address).await;
        for sender in SENDERS {
            let answer = function.ask(sender, ask).await;
            assert_eq!(answer.status, expected.status, "{sender:?} {ask:?}: {answer:?}");
            assert_eq!(
                answer.headers_that_matter(),
                expected.headers_that_matter(),
                "{sender:?} {ask:?}"
            );
            assert_eq!(answer.body, expected.body, "{sender:?} {ask:?}");
            assert!(answer.header("x-request-id").starts_with("req_"));
            let limited = expected.headers.contains_key("ratelimit");
            assert_eq!(answer.headers.contains_key("ratelimit"), limited);
        }
    }
    // What was compared is what it was meant to be.
    let statuses = async |target: String| {
        function.get(&target, &platform.api_key).await.json()["entity"].clone()
    };
    for (entity, encoded) in ODD {
        let target = format!("/v1/integrations/earthquakes/entities/{encoded}/latest");
        assert_eq!(statuses(target).await, *entity);
    }
    let not_modified = Ask::get(LATEST).with("if-none-match", latest.header("etag"));
    let not_modified = function.ask(Sender::LoadBalancer, &keyed(not_modified)).await;
    assert_eq!((not_modified.status, not_modified.body.len()), (304, 0));
    pages_fit_a_load_balancer(&function, &platform.api_key).await;
    assert_eq!(service.terminate().await.code, Some(0));
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(function.child.terminate().await.code, Some(0), "between two invocations");
}

/// A load balancer takes 1 MB, and the rest is on the next page.
async fn pages_fit_a_load_balancer(function: &Function, key: &str) {
    let mut target = "/v1/integrations/earthquakes/entities/large/messages".to_owned();
    let (mut pages, mut messages) = (0, 0);
    loop {
        let event = Ask::get(&target).with("x-api-key", key).event(Sender::LoadBalancer);
        let invoked = function.lambda.invoke(&event).await;
        let Invoked::Answered(reply) = &invoked else { panic!("{invoked:?}") };
        assert!(reply.to_string().len() < 1024 * 1024, "{} bytes", reply.to_string().len());
        let page = Answer::of(invoked, Sender::LoadBalancer).json();
        pages += 1;
        messages += page["messages"].as_array().expect("messages").len();
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/v1/integrations/earthquakes/entities/large/messages?cursor={next}");
    }
    assert_eq!((pages, messages), (2, 12));
}

/// What a client used of a day, as the table says.
async fn requests_told(platform: &Platform) -> u64 {
    let items = platform.aws.scan(&platform.table("access")).await;
    let used =
        items.iter().filter(|item| text(item, "pk").is_some_and(|pk| pk.starts_with("usage#")));
    let requests =
        |item: &crate::harness::aws::Item| item.get("requests")?.as_n().ok()?.parse::<u64>().ok();
    used.filter_map(requests).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_lives_through_events_that_are_none_and_tells_what_was_used_before_it_is_frozen()
{
    let platform = platform().await;
    let mut function = Function::start(&platform, &[]).await;
    let me = Ask::get("/v1/me").with("x-api-key", &platform.api_key);
    assert_eq!(function.ask(Sender::RestApi, &me).await.status, 200);
    function.lambda.idle().await;
    assert_eq!(requests_told(&platform).await, 1, "before the next event is asked for");
    for event in [json!({ "Records": [{ "body": "sg_live_of_somebody" }] }), json!(null), json!([])]
    {
        let Invoked::Failed(error) = function.lambda.invoke(&event).await else {
            panic!("it is no request: {event}")
        };
        assert_eq!(error["errorType"], "UnknownEvent", "{error}");
        assert!(!error.to_string().contains("of_somebody"), "{error}");
    }
    // Thirty that wait already are answered one after the other.
    let events: Vec<_> = (0..30).map(|n| me.event(SENDERS[n % SENDERS.len()])).collect();
    let invoked = futures::future::join_all(events.iter().map(|e| function.lambda.invoke(e))).await;
    for (n, invoked) in invoked.into_iter().enumerate() {
        assert_eq!(Answer::of(invoked, SENDERS[n % SENDERS.len()]).status, 200);
    }
    function.lambda.idle().await;
    assert_eq!(requests_told(&platform).await, 31);
    assert_eq!(function.lambda.asked(), 35, "1 + 3 + 30, and the one that waits");
    let log = function.child.log().join("\n");
    assert!(log.contains("aws_request_id="), "{log}");
    assert!(log.contains("api.listen") && log.contains("without meaning in Lambda"), "{log}");
    assert_eq!(function.child.terminate().await.code, Some(0));
}

/// P7, for a process that stood still: it saw nothing of the revocation while it happened.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_key_that_was_revoked_while_the_function_was_frozen_is_refused_at_once() {
    let platform = platform().await;
    let function = Function::start(&platform, &[]).await;
    assert_eq!(function.get("/v1/me", &platform.api_key).await.status, 200);
    let seen = Instant::now();
    function.lambda.idle().await;
    function.child.signal("STOP").await;
    let revoke = ["clients", "revoke", &platform.api_key, "--config", &platform.config];
    assert_eq!(run(&revoke).await.code, Some(0));
    // The promise is about two seconds; a machine that is slow has used them up already.
    sleep_until(seen + Duration::from_secs(2)).await;
    let ask = Ask::get("/v1/me").with("x-api-key", &platform.api_key).event(Sender::HttpApi);
    let (invoked, ()) = tokio::join!(function.lambda.invoke(&ask), function.child.signal("CONT"));
    assert_eq!(Answer::of(invoked, Sender::HttpApi).status, 401, "at the first event");
    assert_eq!(function.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_under_a_key_is_done_once_and_what_cannot_be_given_whole_is_refused() {
    let platform = platform().await;
    let function = Function::start(&platform, &[]).await;
    let event = earthquakes()[0].1.clone();
    let publish = Ask::of("POST", "/v1/integrations/earthquakes/messages")
        .with("x-api-key", &platform.api_key)
        .with("content-type", "application/json")
        .with("idempotency-key", "\"one\"")
        .body(event);
    let mut ids = Vec::new();
    for sender in SENDERS {
        let answer = function.ask(sender, &publish).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.push(answer.json()["messages"][0]["id"].clone());
    }
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let tail = function.get("/v1/integrations/earthquakes/tail", &platform.api_key).await;
    assert_eq!((tail.status, tail.header("content-type")), (501, "application/problem+json"));
    assert!(tail.json()["detail"].as_str().expect("words").contains("follow at the service"));

    // A wait ends before the function does, and long before the client's own idea of it.
    let wait = Ask::get("/v1/integrations/earthquakes/entities/nobody/latest")
        .with("x-api-key", &platform.api_key)
        .with("prefer", "wait=300");
    let (wait, began) = (wait.event(Sender::HttpApi), Instant::now());
    let invoked = function.lambda.invoke_within(&wait, Duration::from_secs(5)).await;
    let waited = Answer::of(invoked, Sender::HttpApi);
    assert_eq!(waited.status, 404, "{waited:?}");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // A store that does not answer is a problem in time, too.
    let silent = platform
        .inject(json!({ "service": "dynamodb", "resource": platform.table("messages"), "effect": "unanswered", "times": 1_000 }))
        .await;
    let latest = Ask::get(LATEST).with("x-api-key", &platform.api_key).event(Sender::RestApi);
    let began = Instant::now();
    let invoked = function.lambda.invoke_within(&latest, Duration::from_secs(4)).await;
    assert_eq!(Answer::of(invoked, Sender::RestApi).status, 504);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    platform.clear(silent).await;
    assert_eq!(function.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_held_to_a_network_cannot_be_used_from_elsewhere_by_saying_so() {
    let platform = platform().await;
    let issue = ["clients", "create", "Partner", "--grant", "earthquakes:read", "--output", "json"];
    let made = run(&[&issue[..], &["--config", &platform.config]].concat()).await;
    let made: Value = serde_json::from_str(&made.stdout.join("\n")).expect("JSON");
    let client = made["client"].as_str().expect("a client").to_owned();
    let issue = ["clients", "issue", &client, "--allow-ip", "203.0.113.0/24", "--output", "json"];
    let issued = run(&[&issue[..], &["--config", &platform.config]].concat()).await;
    let issued: Value = serde_json::from_str(&issued.stdout.join("\n")).expect("JSON");
    let key = issued["api_key"].as_str().expect("a key");
    let function = Function::start(&platform, &[]).await;
    for sender in SENDERS {
        let here = Ask::get("/v1/me").with("x-api-key", key);
        assert_eq!(function.ask(sender, &here).await.status, 200, "{sender:?}");
        let mut elsewhere = here.with("x-forwarded-for", "203.0.113.7");
        elsewhere.address = "192.0.2.1";
        assert_eq!(function.ask(sender, &elsewhere).await.status, 401, "{sender:?}");
    }
    assert_eq!(function.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_exported_before_the_function_is_frozen() {
    let platform = platform().await;
    let collector = Collector::start().await;
    let more = [
        ("SLUICEGATE_TELEMETRY__OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("SLUICEGATE_TELEMETRY__METRICS_INTERVAL", "1s"),
    ];
    let function = Function::start(&platform, &more).await;
    assert_eq!(collector.latest("sluicegate-api").metrics.len(), 0);
    let answered = |count: u64| {
        let export = collector.latest("sluicegate-api");
        let requests = export.metrics.get("sluicegate.api.request_seconds").expect("measured");
        assert!(
            format!("{:?}", requests.series).contains(&format!("count: {count}")),
            "{requests:?}"
        );
    };
    assert_eq!(function.get("/v1/me", &platform.api_key).await.status, 200);
    function.lambda.idle().await;
    answered(1);
    let exported = Instant::now();
    sleep_until(exported + Duration::from_secs(1)).await;
    assert_eq!(function.get("/v1/me", &platform.api_key).await.status, 200);
    function.lambda.idle().await;
    answered(2);
    assert_eq!(function.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_cannot_start_says_why() {
    let platform = platform().await;
    let lambda = RuntimeApi::start().await;
    let nothing = Scratch::new("lambda");
    let environment = lambda.environment(nothing.path().to_str().expect("UTF-8"));
    let without: Vec<_> = environment
        .iter()
        .filter(|(n, _)| n != "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        .cloned()
        .collect();
    let ended = Sluicegate::start_with(&[], &without).ended().await;
    let log = ended.log.join("\n");
    assert_eq!(ended.code, Some(1), "{log}");
    assert!(
        log.contains("AWS_LAMBDA_FUNCTION_MEMORY_SIZE is not set") && !log.contains("panicked"),
        "{log}"
    );

    let mut wrong = environment.clone();
    wrong.push(("SLUICEGATE_API__HSTS".into(), "maybe".into()));
    let ended = Sluicegate::start_with(&["api"], &wrong).ended().await;
    assert_eq!(ended.code, Some(2), "{:#?}", ended.log);
    let told = lambda.failed_start().await;
    assert!(told["errorMessage"].as_str().expect("words").contains("api.hsts"), "{told}");

    // Without a file, from the environment alone; and no transport, which is nobody's business here.
    let mut alone = environment;
    for (name, value) in [
        ("SLUICEGATE_APP__NAME", "wire"),
        ("SLUICEGATE_AWS__REGION", "us-east-1"),
        ("SLUICEGATE_AWS__ENDPOINT_URL", platform.endpoint.as_str()),
    ] {
        alone.push((name.into(), value.into()));
    }
    let child = Sluicegate::start_with(&["api"], &alone);
    lambda.idle().await;
    let function = Function { child, lambda };
    assert_eq!(function.get("/v1/me", &platform.api_key).await.status, 200);
    assert_eq!(function.child.terminate().await.code, Some(0));
}
