//! Taking over the leases of a Kinesis Client Library, with its checkpoints as they are.
//!
//! The normal way is *in place*: the application is configured under the name of the library's application, so that its
//! lease table is ours. Then next to nothing is written: a lease that never kept its start time gets one. The other way
//! *copies* the leases of a table of another name into ours; it creates what is missing and never overwrites.
//! Either way the owners must stand still for a while first: a library that still runs would read the same records.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::say;
use super::survey::{Pulse, Survey, is_configured};
use super::{Operator, TableError, texts};
use crate::change::{Change, after, write};
use crate::checkpoint::Checkpoint;
use crate::ids::{LeaseCounter, LeaseKey, ShardId, StreamIdentity, WorkerId};
use crate::item::PENDING;
use crate::lease::LeaseRecord;
use crate::lease_table::{LeaseTable, Listing, Outcome};
use crate::options::InitialPosition;
use crate::tables::{CreateTablesError, create_tables};

/// The table is read this often while the owners are watched.
const GLANCE: Duration = Duration::from_secs(2);

/// What happens to one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// It is used as it is.
    AsItIs,
    /// It gets a start time, because the library never kept one.
    GetsStartTime,
    /// It is created in our table.
    Copied,
    /// Our table has it already; that one stays.
    KeptThere,
    /// A worker of ours has taken it already.
    AlreadyOurs,
    /// Its stream is not among the configured ones: it is left alone.
    LeftOut,
}

/// One lease that is taken over.
#[derive(Debug, Clone, Serialize)]
pub struct AdoptedLease {
    /// Its key.
    pub key: LeaseKey,
    /// Who owned it.
    pub owner: Option<WorkerId>,
    /// The checkpoint, used as it is.
    pub checkpoint: Checkpoint,
    /// Where a worker of ours goes on, in words.
    pub goes_on: String,
    /// The shards that it replaced.
    pub parents: Vec<ShardId>,
    /// What happens to it.
    pub course: Course,
    /// What is out of the ordinary.
    pub odd: Vec<String>,
}

/// What an adoption does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct Adoption {
    /// The library's table.
    pub from: String,
    /// Ours.
    pub to: String,
    /// Each lease.
    pub leases: Vec<AdoptedLease>,
    /// Items that cannot be read. They stay as they are.
    pub unreadable: Vec<String>,
    /// Items that are no leases, which the library keeps in the same table since 3.5. They stay as they are.
    pub others: usize,
    /// For how long the owners were watched, in milliseconds.
    pub watched_ms: u64,
    /// Tables that were made.
    pub created: Vec<String>,
    /// Leases that were written.
    pub written: usize,
}

/// Why leases are not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The library still runs.
    #[error("table `{table}`: {} of its leases changed while they were watched ({}): the Kinesis Client Library still runs. Stop every one of its workers, then adopt", .moved.len(), .moved.join("; "))]
    StillRuns {
        /// The table.
        table: String,
        /// Which leases moved, and how.
        moved: Vec<String>,
    },
    /// Our own workers run.
    #[error(
        "worker {0} of this fleet runs: it may have made leases of its own at the stream's initial position. Stop the fleet, then adopt"
    )]
    FleetRuns(WorkerId),
    /// A copy would leave shards without a lease, and those would be read from the initial position.
    #[error("table `{table}`: {} items cannot be read ({}); a copy without them would read their shards from the stream's initial position. Put them right, or adopt in place (app.name = \"{table}\")", .bad.len(), .bad.join("; "))]
    Unreadable {
        /// The table.
        table: String,
        /// The items.
        bad: Vec<String>,
    },
    /// There is nothing.
    #[error(
        "table `{0}` holds no leases: is it the library's lease table? Its name is the library's application name"
    )]
    NoLeases(String),
    /// A table could not be made.
    #[error(transparent)]
    Create(#[from] CreateTablesError),
    /// A table could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Operator {
    /// Watches the owners of the leases in `table` for `wait`, and says what adopting them means. Nothing is written.
    /// `survey` is a look at our own fleet, if its tables exist.
    pub async fn plan_adoption(
        &self,
        table: &str,
        survey: Option<&Survey>,
        wait: Duration,
        mut tick: impl FnMut(Duration),
    ) -> Result<Adoption, AdoptError> {
        let in_place = table == self.options.app;
        if let Some(worker) = survey.and_then(runs).filter(|_| !in_place) {
            return Err(AdoptError::FleetRuns(worker));
        }
        let source = self.source(table);
        let (listing, watched) = self.watch(table, &source, wait, &mut tick).await?;
        if listing.leases.is_empty() && listing.bad.is_empty() {
            return Err(AdoptError::NoLeases(table.to_owned()));
        }
        if !in_place && !listing.bad.is_empty() {
            let bad = texts(&listing.bad);
            return Err(AdoptError::Unreadable { table: table.to_owned(), bad });
        }
        let ours = survey.filter(|_| !in_place).map(|survey| &survey.records);
        let streams = self.stream_names();
        let plan = Plan { operator: self, in_place, ours, streams: &streams };
        Ok(Adoption {
            from: table.to_owned(),
            to: self.options.app.clone(),
            leases: listing.leases.iter().map(|lease| plan.lease(lease)).collect(),
            unreadable: texts(&listing.bad),
            others: listing.others,
            watched_ms: u64::try_from(watched.as_millis()).unwrap_or(u64::MAX),
            created: Vec::new(),
            written: 0,
        })
    }

    /// Does what [`Operator::plan_adoption`] said. It can be repeated: what is done already is found done.
    pub async fn adopt(&self, plan: &Adoption) -> Result<Adoption, AdoptError> {
        let mut done = plan.clone();
        let tables = create_tables(&self.client, &self.options.app).await?;
        done.created = tables.into_iter().filter(|t| t.created).map(|t| t.name).collect();
        let source = self.source(&plan.from);
        let error = |e| TableError::of(&plan.from, &e);
        for lease in &plan.leases {
            let start_at_ms = self.start_of(&lease.key).unwrap_or_else(|| self.now_ms());
            match lease.course {
                Course::GetsStartTime => {
                    let Some(seen) = source.get(&lease.key).await.map_err(error)? else { continue };
                    done.written += usize::from(self.give_start(&seen, start_at_ms).await?);
                }
                Course::Copied => {
                    let Some(seen) = source.get(&lease.key).await.map_err(error)? else { continue };
                    let copy = copy_of(seen, start_at_ms);
                    let created = self.leases.create(&copy).await;
                    let created = created.map_err(|e| TableError::of(&plan.to, &e))?;
                    done.written += usize::from(created);
                }
                Course::AsItIs | Course::KeptThere | Course::AlreadyOurs | Course::LeftOut => {}
            }
        }
        Ok(done)
    }

    /// The configured start of the lease's stream, if that is a time.
    fn start_of(&self, key: &LeaseKey) -> Option<i64> {
        let stream = key.stream();
        let is_its = |name: &str| stream.as_ref().is_none_or(|stream| stream.name() == name);
        match self.streams.iter().find(|(name, _)| is_its(name))?.1 {
            InitialPosition::AtTimestamp(ms) => Some(ms),
            InitialPosition::TrimHorizon | InitialPosition::Latest => None,
        }
    }

    fn source(&self, table: &str) -> LeaseTable {
        LeaseTable::new(self.client.clone(), table.to_owned(), self.options.call_timeout)
    }

    async fn give_start(&self, seen: &LeaseRecord, start_at_ms: i64) -> Result<bool, AdoptError> {
        let Ok(next) = after(seen, &Change::Adopt { start_at_ms }, &self.options.lanes) else {
            return Ok(false);
        };
        let write = write(seen, next);
        let outcome = self.leases.apply(&write).await;
        match outcome.map_err(|e| TableError::of(self.lease_table(), &e))? {
            Outcome::Done => Ok(true),
            Outcome::Refused(Some(is)) if *is == write.after => Ok(true),
            Outcome::Refused(_) => Err(AdoptError::StillRuns {
                table: self.lease_table().to_owned(),
                moved: vec![format!("{}: it changed while it was adopted", seen.key)],
            }),
        }
    }

    async fn watch(
        &self,
        table: &str,
        source: &LeaseTable,
        wait: Duration,
        tick: &mut impl FnMut(Duration),
    ) -> Result<(Listing, Duration), AdoptError> {
        let began = Instant::now();
        let list = || async { source.list().await.map_err(|e| TableError::of(table, &e)) };
        let first = list().await?;
        let before: BTreeMap<LeaseKey, Still> =
            first.leases.iter().map(|l| (l.key.clone(), Still::of(l))).collect();
        let mut last = first;
        loop {
            let moved: Vec<String> = last.leases.iter().filter_map(|l| moved(&before, l)).collect();
            if !moved.is_empty() {
                return Err(AdoptError::StillRuns { table: table.to_owned(), moved });
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok((last, began.elapsed()));
            }
            tick(began.elapsed());
            sleep(left.min(GLANCE)).await;
            last = list().await?;
        }
    }
}

/// What stands still where no library runs. Leases that our own workers hold may be written.
#[derive(Debug, PartialEq, Eq)]
struct Still(LeaseCounter, Option<WorkerId>, Option<WorkerId>, Checkpoint);

impl Still {
    fn of(lease: &LeaseRecord) -> Self {
        let (owner, checkpoint_owner) = (lease.owner.clone(), lease.checkpoint_owner.clone());
        Self(lease.counter, owner, checkpoint_owner, lease.checkpoint.clone())
    }
}

fn moved(before: &BTreeMap<LeaseKey, Still>, lease: &LeaseRecord) -> Option<String> {
    let (is, was) = (Still::of(lease), before.get(&lease.key)?);
    if lease.granted_to().is_some() || is == *was {
        return None;
    }
    let owner = lease.owner.as_ref().map_or("nobody", WorkerId::as_str);
    Some(format!("{}: counter {} to {}, owner {owner}", lease.key, was.0, is.0))
}

/// A worker of ours that runs.
fn runs(survey: &Survey) -> Option<WorkerId> {
    survey.pulses.iter().find(|(_, pulse)| **pulse == Pulse::Moves).map(|(id, _)| id.clone())
}

/// The same lease for our table: nobody owns it, and nothing of a hand-over or a two-phase checkpoint is left.
fn copy_of(lease: LeaseRecord, start_at_ms: i64) -> LeaseRecord {
    let fresh = LeaseRecord::new(lease.key.clone(), lease.checkpoint.clone(), start_at_ms);
    let mut rest = lease.rest;
    PENDING.iter().for_each(|name| {
        rest.remove(*name);
    });
    rest.extend(fresh.rest);
    LeaseRecord {
        owner: None,
        checkpoint_owner: None,
        grant: None,
        rev: Some(0),
        start_at_ms: if needs_start(&lease.checkpoint) {
            lease.start_at_ms.or(Some(start_at_ms))
        } else {
            lease.start_at_ms
        },
        rest,
        ..lease
    }
}

fn needs_start(checkpoint: &Checkpoint) -> bool {
    matches!(checkpoint, Checkpoint::Latest | Checkpoint::AtTimestamp)
}

struct Plan<'a> {
    operator: &'a Operator,
    in_place: bool,
    ours: Option<&'a BTreeMap<LeaseKey, LeaseRecord>>,
    streams: &'a [String],
}

impl Plan<'_> {
    fn lease(&self, lease: &LeaseRecord) -> AdoptedLease {
        let course = self.course(lease);
        let starts = needs_start(&lease.checkpoint) && lease.start_at_ms.is_none();
        let known = self.in_place || course == Course::Copied;
        let start = || self.operator.start_of(&lease.key).unwrap_or_else(|| self.operator.now_ms());
        let start_at_ms = lease.start_at_ms.or_else(|| (starts && known).then(start));
        AdoptedLease {
            key: lease.key.clone(),
            owner: lease.owner.clone(),
            checkpoint: lease.checkpoint.clone(),
            goes_on: match &lease.checkpoint {
                Checkpoint::ShardEnd => "is finished".to_owned(),
                at @ Checkpoint::At { .. } => format!("goes on behind {}", say::position(at, None)),
                at => format!("goes on at {}", say::position(at, start_at_ms)),
            },
            parents: lease.parents.iter().cloned().collect(),
            course,
            odd: self.odd(lease, starts),
        }
    }

    fn course(&self, lease: &LeaseRecord) -> Course {
        let stream = lease.key.stream();
        if !is_configured(stream.as_ref().map(StreamIdentity::name), self.streams) {
            return Course::LeftOut;
        }
        if !self.in_place {
            let there = self.ours.is_some_and(|ours| ours.contains_key(&lease.key));
            return if there { Course::KeptThere } else { Course::Copied };
        }
        if lease.granted_to().is_some() {
            Course::AlreadyOurs
        } else if needs_start(&lease.checkpoint) && lease.start_at_ms.is_none() {
            Course::GetsStartTime
        } else {
            Course::AsItIs
        }
    }

    fn odd(&self, lease: &LeaseRecord, starts: bool) -> Vec<String> {
        let mut odd = Vec::new();
        if let Some(by) = &lease.checkpoint_owner {
            odd.push(format!(
                "was being handed over by {by}: what {by} had not checkpointed is read again"
            ));
        }
        if lease.rest.contains_key(PENDING[0]) {
            odd.push("has a pending checkpoint of a two-phase checkpoint: it is not used, and records after the checkpoint are read again".to_owned());
        }
        if lease.checkpoint.sub_sequence() > 0 {
            odd.push(format!(
                "stands inside an aggregated record, behind its part {}",
                lease.checkpoint.sub_sequence()
            ));
        }
        if !lease.lanes.is_empty()
            && lease.lanes.values().map(|l| &l.checkpoint).min() != Some(&lease.checkpoint)
        {
            odd.push("the library moved the checkpoint since a worker of ours had it: every lane starts at the checkpoint".to_owned());
        }
        if starts {
            let how = match self.operator.start_of(&lease.key) {
                Some(_) => "the stream's configured start",
                None => "the moment of the adoption",
            };
            odd.push(format!(
                "never acknowledged a record: it starts at {how}, kept as its start time"
            ));
        }
        if let Some(there) = self.ours.and_then(|ours| ours.get(&lease.key))
            && there.checkpoint != lease.checkpoint
        {
            odd.push(format!("table of ours has it at {}: that one stays", there.checkpoint));
        }
        odd
    }
}
