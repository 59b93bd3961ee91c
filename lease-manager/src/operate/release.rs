//! Asking an owner to drain a lease and hand it over: by mail, and only where it can have an effect.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::survey::{Pulse, State, Survey};
use super::{Operator, TableError};
use crate::ids::{LeaseCounter, LeaseKey, WorkerId};
use crate::lease::{Holder, LeaseRecord};
use crate::options::fleet_table;
use crate::worker::{Ask, WorkerState};

/// The lease is looked at this often while its move is waited for.
const GLANCE: Duration = Duration::from_millis(250);

/// Who was asked for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The lease.
    pub key: LeaseKey,
    /// The owner.
    pub owner: WorkerId,
    /// The holding that the request is about: it means nothing to any other.
    pub counter: LeaseCounter,
    /// The worker to hand it to; `None`: whoever is best when it happens.
    pub to: Option<WorkerId>,
}

/// Why nobody was asked, and what happens instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// There is no such lease.
    #[error("there is no lease {0} any more")]
    Gone(LeaseKey),
    /// Nobody is there who could be asked; what happens by itself instead.
    #[error("{answer} Nobody can be asked. {instead}")]
    Nobody {
        /// How it stands.
        answer: String,
        /// What happens by itself.
        instead: String,
    },
    /// The worker that should get it cannot.
    #[error("{to} cannot take it: {why}; workers that can: {can}")]
    Target {
        /// The worker.
        to: WorkerId,
        /// Why not.
        why: String,
        /// Who could.
        can: String,
    },
    /// There is no other worker.
    #[error(
        "no other worker works: the owner would take it right back. Start another worker first"
    )]
    Alone,
    /// The owner did not take the mail: it stopped at this moment, or has a thousand requests already.
    #[error("{0} took no mail: it has just stopped, or has too many requests already; look again")]
    Refused(WorkerId),
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Whom to ask, decided from the survey alone.
pub(super) fn plan(
    survey: &Survey,
    key: &LeaseKey,
    to: Option<&WorkerId>,
) -> Result<(Holder, Asked), NotAsked> {
    let why = survey.why(key).ok_or_else(|| NotAsked::Gone(key.clone()))?;
    let record = survey.records.get(key).ok_or_else(|| NotAsked::Gone(key.clone()))?;
    let nobody = || NotAsked::Nobody { answer: why.answer.clone(), instead: why.next.join(" ") };
    if !matches!(why.state, State::Owned | State::Moving) {
        return Err(nobody());
    }
    let (Some(worker), Some(incarnation)) = (record.owner.clone(), record.granted_to()) else {
        return Err(nobody());
    };
    match to {
        Some(to) => check_target(survey, &worker, to)?,
        None if survey.next_taker(Some(&worker)).is_none() => return Err(NotAsked::Alone),
        None => {}
    }
    let counter = record.counter;
    let asked = Asked { key: key.clone(), owner: worker.clone(), counter, to: to.cloned() };
    Ok((Holder { worker, incarnation }, asked))
}

fn check_target(survey: &Survey, owner: &WorkerId, to: &WorkerId) -> Result<(), NotAsked> {
    let why = match survey.view.workers.get(to) {
        _ if to == owner => "it owns it already".to_owned(),
        None => "it is in no fleet table".to_owned(),
        Some(worker) if worker.state != WorkerState::Active => {
            format!("it is {}", worker.state.word())
        }
        Some(_) if survey.pulse(to) != Pulse::Moves => "its heartbeat stands still".to_owned(),
        Some(worker) if worker.leases >= worker.max_leases => {
            format!("it owns {} leases, as many as it may", worker.leases)
        }
        Some(_) => return Ok(()),
    };
    let fit = |id: &&WorkerId| *id != owner && check_fit(survey, id);
    let can: Vec<&str> = survey.view.workers.keys().filter(fit).map(WorkerId::as_str).collect();
    let can = if can.is_empty() { "none".to_owned() } else { can.join(", ") };
    Err(NotAsked::Target { to: to.clone(), why, can })
}

fn check_fit(survey: &Survey, id: &WorkerId) -> bool {
    survey.pulse(id) == Pulse::Moves
        && survey
            .view
            .workers
            .get(id)
            .is_some_and(|w| w.state == WorkerState::Active && w.leases < w.max_leases)
}

impl Operator {
    /// Asks the owner by mail to drain the lease and hand it over.
    pub async fn ask_release(
        &self,
        survey: &Survey,
        key: &LeaseKey,
        to: Option<&WorkerId>,
    ) -> Result<Asked, NotAsked> {
        let (owner, asked) = plan(survey, key, to)?;
        let ask = Ask::Move { counter: asked.counter, to: asked.to.clone() };
        let sent = self.fleet.ask(&owner, key, &ask).await;
        let table = fleet_table(&self.options.app);
        match sent.map_err(|error| TableError::of(&table, &error))? {
            true => Ok(asked),
            false => Err(NotAsked::Refused(owner.worker)),
        }
    }

    /// Waits until the lease changed hands, at most for `patience`. The lease as it was read last; `true`: it did.
    pub async fn until_moved(
        &self,
        asked: &Asked,
        patience: Duration,
        mut tick: impl FnMut(Duration),
    ) -> Result<(bool, Option<LeaseRecord>), TableError> {
        let began = Instant::now();
        loop {
            let lease = self.lease(&asked.key).await?;
            if lease.as_ref().is_none_or(|lease| lease.counter != asked.counter) {
                return Ok((true, lease));
            }
            if began.elapsed() >= patience {
                return Ok((false, lease));
            }
            tick(began.elapsed());
            sleep(GLANCE).await;
        }
    }
}
