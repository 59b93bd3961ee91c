//! Three tasks over one table, in paused time: clients that ask as fast as they can, a table that is slow, throttles
//! and loses answers, all by a seed; and the promise of `tab` held to every one of them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use local_aws::{Effect, Fault, LocalAws};
use store::{Client, ClientId, UsageStore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slices::Slices;
use super::{DAILY_REQUESTS, Gates, REQUESTS};
use crate::options::{ClientLimits, Limits, Sharing};

const TASKS: u64 = 3;
/// 2026-11-26T12:00:00Z, in ms.
const NOON_MS: u64 = 1_795_694_400_000;
const LIMITS: ClientLimits = ClientLimits {
    rate_per_second: 100,
    burst: 100,
    concurrent: 1_000,
    requests_per_day: None,
    bytes_per_day: None,
};

/// The wall's time goes with tokio's.
#[derive(Clone, Debug)]
struct Wall(Instant);

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(NOON_MS) + self.0.elapsed()
    }
}

struct World {
    aws: LocalAws,
    tasks: Vec<Arc<Gates>>,
    client: Client,
    usage: UsageStore,
}

/// What one task let in and refused, by when it was let in.
#[derive(Default)]
struct Course {
    let_in: Vec<Duration>,
    refused: u64,
}

impl World {
    async fn new(limits: ClientLimits, expected_tasks: u32) -> World {
        let aws = LocalAws::new(local_aws::Options::default()).unwrap();
        let dynamodb = dynamodb(&aws);
        store::create_tables(&dynamodb, "test").await.unwrap();
        let usage = UsageStore::new(dynamodb, "test");
        let wall = Wall(Instant::now());
        let sharing = Some(Sharing { expected_tasks, ..Sharing::default() });
        let limits = Limits { client: limits, sharing, ..Limits::default() };
        let gates = || Gates::new(usage.clone(), SharedTimeSource::new(wall.clone()), &limits);
        let client = Client {
            id: ClientId::parse("partner").unwrap(),
            name: "Partner".to_owned(),
            grants: vec![],
            limits: None,
            enabled: true,
            created_at_ms: 0,
            version: 1,
        };
        World { tasks: (0..TASKS).map(|_| Arc::new(gates())).collect(), aws, client, usage }
    }

    fn charges(&self) -> u64 {
        let calls = self.aws.calls().into_iter().filter(|c| c.operation == "UpdateItem");
        calls.map(|c| c.calls).sum()
    }

    /// One task's client asks every `each`, a little early or late, for `time`.
    async fn ask(&self, task: usize, each: Duration, time: Duration, seed: u64) -> Course {
        let mut random = fastrand::Rng::with_seed(seed);
        let began = Instant::now();
        let mut course = Course::default();
        while began.elapsed() < time {
            match self.tasks[task].admit(&self.client).await {
                Ok(_) => course.let_in.push(began.elapsed()),
                Err(refusal) => {
                    assert!(refusal.wait > Duration::ZERO, "{refusal:?}");
                    course.refused += 1;
                }
            }
            tokio::time::sleep(each.mul_f64(random.f64() * 2.0)).await;
        }
        course
    }

    /// Every task's client asks so, at the same time.
    async fn ask_all(&self, each: Duration, time: Duration, seed: u64) -> Vec<Course> {
        let tasks = 0..usize::try_from(TASKS).unwrap();
        let asks = tasks.map(|task| self.ask(task, each, time, seed * 10 + task as u64));
        futures::future::join_all(asks).await
    }

    /// Charges take up to this long, differently from second to second, until `stop`.
    async fn slow(&self, longest_ms: u64, seed: u64, stop: CancellationToken) {
        let mut random = fastrand::Rng::with_seed(seed);
        while !stop.is_cancelled() {
            let latency = Effect::Latency(Duration::from_millis(random.u64(0..longest_ms)));
            let fault = self.fault(latency);
            tokio::time::sleep(Duration::from_millis(random.u64(50..1_000))).await;
            self.aws.faults().clear(fault);
        }
    }

    fn fault(&self, effect: Effect) -> local_aws::FaultId {
        let fault = Fault::new(local_aws::Service::Dynamodb, effect).operation("UpdateItem");
        self.aws.faults().inject(fault)
    }
}

fn dynamodb(aws: &LocalAws) -> aws_sdk_dynamodb::Client {
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(5)).build();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("test", "secret", None, None, "tests"))
        .region(Region::new("us-east-1"))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        .http_client(aws.http_client());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The most requests that were let in within any stretch of time beyond what the rate allows in it.
fn most_beyond_the_rate(courses: &[Course], rate: f64) -> f64 {
    let mut times: Vec<f64> =
        courses.iter().flat_map(|c| &c.let_in).map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    // With f(n) = n - rate x time: the largest f(last) - f(first) + 1, in one pass.
    let (mut lowest, mut most) = (f64::MAX, 0.0_f64);
    for (n, time) in times.iter().enumerate() {
        let beyond = n as f64 - rate * time;
        lowest = lowest.min(beyond);
        most = most.max(beyond - lowest + 1.0);
    }
    most
}

fn let_in(courses: &[Course]) -> u64 {
    courses.iter().map(|course| course.let_in.len() as u64).sum()
}

/// A shared limit is exceeded by no more than a slice a task, in any stretch of time, and is reached.
#[tokio::test(start_paused = true)]
async fn tasks_together_exceed_the_rate_by_a_slice_each_at_most() {
    let slice = Slices::of(&LIMITS).requests;
    let allowed = u64::from(LIMITS.burst) + TASKS * slice;
    let time = Duration::from_secs(20);
    for seed in 1..=8 {
        let world = World::new(LIMITS, 1).await;
        let stop = CancellationToken::new();
        let asks = async {
            let courses = world.ask_all(Duration::from_millis(4), time, seed).await;
            stop.cancel();
            courses
        };
        let (courses, ()) = tokio::join!(asks, world.slow(150, seed, stop.clone()));
        let beyond = most_beyond_the_rate(&courses, f64::from(LIMITS.rate_per_second));
        let (passed, refused) =
            (let_in(&courses), courses.iter().map(|course| course.refused).sum::<u64>());
        println!(
            "seed {seed}: {passed} let in and {refused} refused in {time:?}, {beyond:.0} beyond the rate of {allowed} allowed, {} charges",
            world.charges()
        );
        assert!(beyond <= allowed as f64, "seed {seed}: {beyond} of {allowed}");
        let whole = u64::from(LIMITS.rate_per_second) * time.as_secs();
        assert!(passed >= whole * 9 / 10, "seed {seed}: {passed} of {whole}");
        assert!(refused > 0, "seed {seed}: they asked for more than the limit");
    }
}

/// Throttles and lost answers: while the table does not answer each task goes by its part of the limit.
#[tokio::test(start_paused = true)]
async fn without_the_table_each_task_goes_by_its_part_of_the_limit() {
    let tasks = u32::try_from(TASKS).unwrap();
    let time = Duration::from_secs(20);
    for (seed, effect) in [
        (1, Effect::Throttle),
        (2, Effect::LostReply),
        (3, Effect::Unanswered),
        (4, Effect::Latency(Duration::from_secs(1))),
    ] {
        let world = World::new(LIMITS, tasks).await;
        let away = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let fault = world.fault(effect.clone());
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.aws.faults().clear(fault);
        };
        let asks = world.ask_all(Duration::from_millis(4), time, seed);
        let (courses, ()) = tokio::join!(asks, away);
        let passed = let_in(&courses);
        // A burst at the start, one in parts as each task begins to go by itself, and one that came back meanwhile.
        let slices = TASKS * Slices::of(&LIMITS).requests;
        let allowed = 100 * time.as_secs() + 3 * 100 + slices;
        println!("{effect:?}: {passed} let in, {allowed} allowed, {} charges", world.charges());
        assert!(passed <= allowed, "{effect:?}: {passed} of {allowed}");
        assert!(passed >= 100 * 15, "{effect:?}: {passed}");
    }
}

/// A day's quota over three tasks is exceeded by no more than a slice each, and no request of it is lost.
#[tokio::test(start_paused = true)]
async fn tasks_together_exceed_a_days_quota_by_a_slice_each_at_most() {
    let limits = ClientLimits { requests_per_day: NonZeroU64::new(1_000), ..LIMITS };
    let slice = Slices::of(&limits).requests;
    assert_eq!(slice, 10);
    for seed in 1..=4 {
        let world = World::new(limits, 1).await;
        let courses = world.ask_all(Duration::from_millis(5), Duration::from_secs(30), seed).await;
        let passed = let_in(&courses);
        assert!((1_000..=1_000 + TASKS * slice).contains(&passed), "seed {seed}: {passed}");
        let refusal = world.tasks[0].admit(&world.client).await.unwrap_err();
        assert_eq!(refusal.policy, DAILY_REQUESTS);
        assert!(refusal.wait > Duration::from_secs(11 * 3_600), "{:?}", refusal.wait);
        // What was not told yet is told at the stop.
        for task in &world.tasks {
            let stop = CancellationToken::new();
            stop.cancel();
            task.keep_told(stop).await;
        }
        let day = i64::try_from(NOON_MS / 86_400_000).unwrap();
        let used = world.usage.used(&world.client.id, day).await.unwrap();
        assert_eq!(used.requests, passed, "seed {seed}");
    }
}

/// One task gets the whole of the limit, and a client far below it costs next to no calls.
#[tokio::test(start_paused = true)]
async fn one_task_alone_gets_the_whole_limit_and_little_use_costs_few_calls() {
    let world = World::new(LIMITS, 3).await;
    let time = Duration::from_secs(20);
    let course = world.ask(0, Duration::from_millis(5), time, 1).await;
    let passed = course.let_in.len() as u64;
    assert!(passed >= 100 * 20 * 95 / 100, "{passed}");
    let charges = world.charges();
    assert!(charges <= passed / 6, "{charges} charges for {passed} requests");

    let world = World::new(LIMITS, 3).await;
    let course = world.ask(1, Duration::from_millis(200), 5 * time, 2).await;
    assert_eq!(course.refused, 0);
    let (passed, charges) = (course.let_in.len() as u64, world.charges());
    println!("{charges} charges for {passed} requests at a twentieth of the limit");
    assert!(charges <= passed / 12 + 1, "{charges} charges for {passed} requests");
    let burst = futures::future::join_all((0..100).map(|_| world.tasks[2].admit(&world.client)));
    let passed = burst.await.iter().filter(|answer| answer.is_ok()).count();
    assert!(passed >= 90, "a burst at once, on a task that knows nothing yet: {passed}");
    let refusal = world.tasks[2].admit(&world.client).await.err();
    assert!(refusal.is_none_or(|refusal| refusal.policy == REQUESTS));
}
