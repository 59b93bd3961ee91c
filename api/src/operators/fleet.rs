//! What the app tells and does of the fleet and of dead letters. This room knows neither leases nor how a message is routed.

use futures::future::BoxFuture;
use serde::Serialize;
use store::{DeadLetter, IntegrationName};
use utoipa::ToSchema;

/// How leases may stand: the words of [`LeaseView::state`].
pub const LEASE_STATES: [&str; 10] = [
    "owned",
    "moving",
    "draining",
    "silent",
    "foreign",
    "orphan",
    "waiting",
    "finished",
    "trimmed",
    "not-configured",
];

/// The fleet from outside: who owns which shard, how far each is, and why.
pub trait Fleet: Send + Sync + 'static {
    /// How things stand. It takes as long as a heartbeat needs to be seen moving; looks at the same time are one, and one that has
    /// just ended is not repeated.
    fn look(&self) -> BoxFuture<'_, Result<FleetView, Unanswered>>;
    /// Why a lease is where it is: by its key, or by its shard where one stream has it.
    fn why<'a>(&'a self, lease: &'a str) -> BoxFuture<'a, Result<WhyView, Unanswered>>;
    /// Asks the owner to hand a lease over, to this worker or to the best one. That it was asked is all that is answered.
    fn release<'a>(
        &'a self,
        lease: &'a str,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AskedView, Unanswered>>;
}

/// Sends dead letters again, by the rules of the processor.
pub trait Redrive: Send + Sync + 'static {
    /// The integrations whose dead letters are looked for, in the order of the configuration.
    fn integrations(&self) -> Vec<IntegrationName>;
    /// Sends these again, and says what became of each, in order. With `dry_run` nothing is written.
    fn redrive(
        &self,
        letters: Vec<DeadLetter>,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Vec<Redriven>, Unanswered>>;
}

/// Why the app has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no such thing; the words say what there is.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things stand; the words say why, and what happens instead.
    #[error("{0}")]
    Refused(String),
    /// A table cannot be read or changed now.
    #[error("{0}")]
    Unavailable(String),
}

/// One look at the fleet.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// When the look ended, in ms since 1970.
    pub looked_at_ms: i64,
    /// The worker that leads.
    pub leader: Option<String>,
    /// Everybody who is or was there.
    pub workers: Vec<WorkerView>,
    /// Every lease, in the order of their keys.
    pub leases: Vec<LeaseView>,
    /// Leases that cannot be read, and why: their shards are not consumed.
    pub unreadable: Vec<String>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Worker)]
pub struct WorkerView {
    /// Its name.
    pub worker: String,
    /// `joining`, `active`, `draining`, `stopped` or `dead`.
    pub state: &'static str,
    /// `moves`, `still` or `ended` (none is expected).
    pub heartbeat: &'static str,
    /// Unfinished leases that it owns.
    pub leases: usize,
    /// Kilobytes a second over these.
    pub throughput_kbps: f64,
    /// The product's version.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Lease)]
pub struct LeaseView {
    /// Its key.
    pub key: String,
    /// The shard.
    pub shard: String,
    /// The stream's name, where the table serves several.
    pub stream: Option<String>,
    /// The worker that owns it.
    pub owner: Option<String>,
    /// `owned`, `moving`, `draining`, `silent`, `foreign`, `orphan`, `waiting`, `finished`, `trimmed` or `not-configured`.
    pub state: &'static str,
    /// The position of its slowest lane.
    pub checkpoint: String,
    /// Each lane's position.
    pub lanes: Vec<LeaseLaneView>,
    /// Kilobytes a second.
    pub throughput_kbps: f64,
    /// The fencing token.
    pub counter: u64,
    /// Why it last changed hands.
    pub reason: Option<String>,
}

/// A lane of a lease.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LeaseLane)]
pub struct LeaseLaneView {
    /// `sync-store` or `async-delivery`.
    pub lane: String,
    /// Up to where everything is settled.
    pub checkpoint: String,
    /// How far behind the tip of the shard, in ms; null where nobody has noted it.
    pub behind_ms: Option<u64>,
}

/// Why a lease is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Why)]
pub struct WhyView {
    /// Its key.
    pub key: String,
    /// The shard.
    pub shard: String,
    /// How it stands, as in the list.
    pub state: &'static str,
    /// The worker that owns it.
    pub owner: Option<String>,
    /// The fencing token.
    pub counter: u64,
    /// The answer in one sentence.
    pub answer: String,
    /// What is known.
    pub facts: Vec<String>,
    /// What happens next, by itself or by an operator.
    pub next: Vec<String>,
}

/// An owner was asked to hand a lease over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AskedRelease)]
pub struct AskedView {
    /// The lease's key.
    pub key: String,
    /// Who was asked.
    pub owner: String,
    /// The holding that it was about.
    pub counter: u64,
    /// To whom; null: to whoever is best when it happens.
    pub to: Option<String>,
}

/// What became of a dead letter that was sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// Messages of it that went to the store.
    pub stored: usize,
    /// Deliveries of it that are due now.
    pub parked: usize,
    /// Why it stays a dead letter; `None`: it is none any more.
    pub stays: Option<String>,
}
