//! A client's limits over three real tasks of the API: held together, whichever of them it asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::child::{Sluicegate, run};
use crate::harness::eventually;
use crate::harness::platform::Platform;

const TASKS: u64 = 3;
/// Who asks one task at the same time.
const ASKERS: usize = 8;

/// What the tasks of an API answered to one key.
#[derive(Default)]
struct Answers {
    let_in: AtomicU64,
    refused: AtomicU64,
    /// The first refusal.
    refusal: OnceLock<(http::response::Parts, Value)>,
}

struct Api {
    tasks: Vec<(Sluicegate, String)>,
    http: Client<HttpConnector, Empty<Bytes>>,
}

impl Api {
    /// Three tasks that wait long for the table: this machine may be slow.
    async fn start(platform: &Platform) -> Api {
        let patient = [
            "--set",
            "api.shared_limits.patience=2s",
            "--set",
            "api.shared_limits.expected_tasks=3",
            // Nobody reads the log while they are asked: a full pipe would stop them.
            "--set",
            "telemetry.log_level=warn",
            "--set",
            "api.audit.max_lines_per_second=1",
        ];
        let mut tasks = Vec::new();
        for _ in 0..TASKS {
            let args = [&["api", "--config", &platform.config][..], &patient].concat();
            let mut api = Sluicegate::start(&args);
            let address = api.line().await.rsplit(' ').next().expect("an address").to_owned();
            tasks.push((api, address));
        }
        Api { tasks, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// One answer of a task: the status, and its problem or body.
    async fn me(&self, task: usize, key: &str) -> (http::response::Parts, Value) {
        let url = format!("http://{}/v1/me", self.tasks[task].1);
        let request = http::Request::get(url).header("x-api-key", key);
        let request = request.body(Empty::new()).expect("a request");
        let (parts, body) = self.http.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Every task is asked as fast as it answers while `go_on` says so.
    async fn hammer(&self, key: &str, go_on: impl Fn(&Answers) -> bool) -> Answers {
        let answers = Answers::default();
        let askers = (0..self.tasks.len() * ASKERS).map(|asker| {
            let (task, answers, go_on) = (asker % self.tasks.len(), &answers, &go_on);
            async move {
                while go_on(answers) {
                    let (parts, body) = self.me(task, key).await;
                    let count = match parts.status.as_u16() {
                        200 => &answers.let_in,
                        429 => &answers.refused,
                        other => panic!("{other}: {body}"),
                    };
                    if count.fetch_add(1, Ordering::Relaxed) == 0 && parts.status == 429 {
                        let _ = answers.refusal.set((parts, body));
                    }
                }
            }
        });
        futures::future::join_all(askers).await;
        answers
    }

    /// How often a task found the table without an answer: then it goes by itself for a while.
    fn outages(&mut self) -> u64 {
        let said = |line: &&String| line.contains("limits are not shared");
        let count =
            |task: &mut (Sluicegate, String)| task.0.log().iter().filter(said).count() as u64;
        self.tasks.iter_mut().map(count).sum()
    }

    async fn stop(self) {
        for (api, _) in self.tasks {
            assert_eq!(api.terminate().await.code, Some(0));
        }
    }
}

async fn clients(platform: &Platform, args: &[&str]) -> Value {
    let args = [&["clients"][..], args, &["--output", "json", "--config", &platform.config]];
    let ended = run(&args.concat()).await;
    assert_eq!(ended.code, Some(0), "{args:?}: {:#?}", ended.log);
    serde_json::from_str(&ended.stdout.join("\n")).expect("JSON")
}

/// A client and its key.
async fn client(platform: &Platform, id: &str, limits: &[&str]) -> String {
    let made = clients(platform, &[&["create", id, "--id", id][..], limits].concat()).await;
    made["api_key"].as_str().expect("a key").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_hold_a_client_to_one_rate() {
    let platform = Platform::start().await;
    let mut api = Api::start(&platform).await;
    let limits = ["--rate", "100", "--burst", "100", "--concurrent", "500"];
    let key = client(&platform, "fast", &limits).await;

    let began = Instant::now();
    let answers = api.hammer(&key, |_| began.elapsed() < Duration::from_secs(5)).await;
    let took = began.elapsed();
    let (let_in, refused) = (answers.let_in.into_inner(), answers.refused.into_inner());
    // A slice is a quarter of the burst. A task that found the table slow went by its part for a while.
    let allowed = 100.0 * took.as_secs_f64() + 100.0 + (TASKS * 25 + api.outages() * 200) as f64;
    println!("{let_in} let in and {refused} refused in {took:?}: {allowed:.0} are allowed");
    assert!((let_in as f64) <= allowed, "{let_in} of {allowed} in {took:?}");
    assert!(let_in > 100 + TASKS * 25, "the rate comes back: {let_in}");
    assert!(refused > 0, "they asked for more than the limit");

    let (parts, problem) = answers.refusal.into_inner().expect("a refusal");
    assert_eq!(problem["violated-policies"], json!(["requests"]));
    let header = |name: &str| parts.headers[name].to_str().expect("text").to_owned();
    assert!(header("retry-after").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(
        header("ratelimit-policy"),
        "\"requests\";q=100;w=1, \"concurrent\";q=500;qu=\"concurrent-requests\""
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_hold_a_client_to_one_quota_and_write_down_what_it_used() {
    let platform = Platform::start().await;
    let mut api = Api::start(&platform).await;
    let wide = ["--rate", "100000", "--burst", "100000", "--concurrent", "500"];
    let key =
        client(&platform, "daily", &[&wide[..], &["--requests-per-day", "600"]].concat()).await;
    // A UTC day may end in between: then the quota begins anew.
    let began_on = utc_day();
    let answers = api.hammer(&key, |answers| answers.refused.load(Ordering::Relaxed) < 200).await;
    let mut let_in = answers.let_in.into_inner();
    for task in 0..api.tasks.len() {
        let problem = loop {
            let (parts, body) = api.me(task, &key).await;
            if parts.status == 429 {
                break body;
            }
            let_in += 1;
        };
        assert_eq!(problem["violated-policies"], json!(["daily-requests"]));
    }
    println!("{let_in} let in of 600 a day, in slices of 6");
    if utc_day() == began_on && api.outages() == 0 {
        assert!((600..=600 + TASKS * 6).contains(&let_in), "{let_in}");
    }
    api.stop().await;
    let shown = clients(&platform, &["show", "daily"]).await;
    assert_eq!(shown["limits"]["requests_per_day"], 600);
    if utc_day() == began_on {
        assert_eq!(shown["used_today"]["requests"], let_in, "told at the stop: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_under_a_running_api_and_given_back_to_the_plan() {
    let platform = Platform::start().await;
    let api = Api::start(&platform).await;
    let key = client(&platform, "partner", &["--rate", "7", "--bytes-per-day", "1GiB"]).await;
    let becomes = async |wanted: Value| {
        eventually("the limits are told", async || {
            let (_, me) = api.me(0, &key).await;
            let limits = &me["limits"];
            let found = json!([limits["requestsPerSecond"], limits["bytesPerDay"]]);
            if found == wanted { Ok(()) } else { Err(me.to_string()) }
        })
        .await;
    };
    becomes(json!([7, 1 << 30])).await;
    clients(&platform, &["limits", "partner", "--rate", "50", "--bytes-per-day", "none"]).await;
    becomes(json!([50, null])).await;
    let back =
        clients(&platform, &["limits", "partner", "--rate", "default", "--plan", "gold"]).await;
    assert!(back["note"].as_str().expect("a note").contains("no plan gold"), "{back}");
    becomes(json!([50, null])).await;
    let (parts, me) = api.me(0, &key).await;
    assert!(parts.headers.contains_key("ratelimit"), "{me}");
    api.stop().await;
}

/// Today, as the processes under test see it.
#[allow(clippy::disallowed_methods, reason = "the processes under test go by this clock, too")]
fn utc_day() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs() / 86_400
}
