//! The fleet for the operators' port: what `sluicegate leases` sees and asks, as often as anybody wants to know.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::operators::{
    AskedView, Fleet, FleetView, LeaseLaneView, LeaseView, Unanswered, WhyView, WorkerView,
};
use aws_smithy_async::time::SharedTimeSource;
use futures::future::{BoxFuture, FutureExt, Shared};
use lease_manager::operate::{LeaseRow, NotAsked, Operator, Pulse, Survey, TableError, WorkerRow};
use lease_manager::{LeaseKey, WorkerId};
use tokio::time::Instant;

use crate::init::wall_ms;

/// A look that ended no longer ago is not repeated.
const FRESH: Duration = Duration::from_secs(2);

type Look = Shared<BoxFuture<'static, Result<Arc<Looked>, Unanswered>>>;

/// What one look showed, and when it ended.
#[derive(Debug)]
struct Looked {
    survey: Survey,
    at_ms: i64,
    ended: Instant,
}

/// Looks at the fleet, and asks its workers, through the two tables alone.
pub(crate) struct FleetDesk {
    operator: Arc<Operator>,
    time: SharedTimeSource,
    /// The look under way, or the last one, which all requests share. A mutex because they come from many tasks; held to take it or to
    /// set it, never while it is awaited.
    look: Mutex<Option<Look>>,
}

impl FleetDesk {
    pub(crate) fn new(operator: Operator, time: SharedTimeSource) -> FleetDesk {
        FleetDesk { operator: Arc::new(operator), time, look: Mutex::new(None) }
    }

    async fn looked(&self) -> Result<Arc<Looked>, Unanswered> {
        let look = {
            let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
            match look.as_ref().filter(|look| is_fresh(look.peek())) {
                Some(look) => look.clone(),
                None => look.insert(self.begin()).clone(),
            }
        };
        look.await
    }

    /// A look that goes on by itself: whoever asked first may go away.
    fn begin(&self) -> Look {
        let (operator, time) = (Arc::clone(&self.operator), self.time.clone());
        let look = tokio::spawn(async move {
            let survey = operator.look(|_| ()).await.map_err(|error| unavailable(&error))?;
            Ok(Arc::new(Looked { survey, at_ms: wall_ms(&time), ended: Instant::now() }))
        });
        let ended = look.map(|ended| {
            ended.unwrap_or_else(|_| Err(Unanswered::Unavailable("the look was ended".to_owned())))
        });
        ended.boxed().shared()
    }

    async fn find(&self, lease: &str) -> Result<(Arc<Looked>, LeaseKey), Unanswered> {
        let looked = self.looked().await?;
        let key = looked.survey.find(lease);
        let key = key.map_err(|error| Unanswered::NotFound(error.to_string()))?;
        Ok((looked, key))
    }
}

/// One under way is; of one that ended, only what it showed can be old.
fn is_fresh(ended: Option<&Result<Arc<Looked>, Unanswered>>) -> bool {
    match ended {
        None => true,
        Some(Ok(looked)) => looked.ended.elapsed() < FRESH,
        Some(Err(_)) => false,
    }
}

impl Fleet for FleetDesk {
    fn look(&self) -> BoxFuture<'_, Result<FleetView, Unanswered>> {
        Box::pin(async {
            let looked = self.looked().await?;
            let survey = &looked.survey;
            Ok(FleetView {
                looked_at_ms: looked.at_ms,
                leader: survey.view.leader.as_ref().map(ToString::to_string),
                workers: survey.workers().iter().map(worker).collect(),
                leases: survey.leases().iter().map(lease).collect(),
                unreadable: survey.unreadable.clone(),
            })
        })
    }

    fn why<'a>(&'a self, lease: &'a str) -> BoxFuture<'a, Result<WhyView, Unanswered>> {
        Box::pin(async move {
            let (looked, key) = self.find(lease).await?;
            let gone = || Unanswered::NotFound(format!("there is no lease {key}"));
            let why = looked.survey.why(&key).ok_or_else(gone)?;
            Ok(WhyView {
                key: why.key.to_string(),
                shard: why.shard.to_string(),
                state: why.state.word(),
                owner: why.owner.as_ref().map(ToString::to_string),
                counter: why.counter.0,
                answer: why.answer,
                facts: why.facts,
                next: why.next,
            })
        })
    }

    fn release<'a>(
        &'a self,
        lease: &'a str,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AskedView, Unanswered>> {
        Box::pin(async move {
            let to = to.map(WorkerId::parse).transpose();
            let to = to.map_err(|error| Unanswered::Refused(format!("to: {error}")))?;
            let (looked, key) = self.find(lease).await?;
            let asked = self.operator.ask_release(&looked.survey, &key, to.as_ref()).await;
            let asked = asked.map_err(|not_asked| match not_asked {
                NotAsked::Table(error) => unavailable(&error),
                NotAsked::Gone(_) => Unanswered::NotFound(not_asked.to_string()),
                other => Unanswered::Refused(other.to_string()),
            })?;
            Ok(AskedView {
                key: asked.key.to_string(),
                owner: asked.owner.to_string(),
                counter: asked.counter.0,
                to: asked.to.as_ref().map(ToString::to_string),
            })
        })
    }
}

fn unavailable(error: &TableError) -> Unanswered {
    Unanswered::Unavailable(error.to_string())
}

fn worker(row: &WorkerRow) -> WorkerView {
    WorkerView {
        worker: row.worker.to_string(),
        state: row.state.word(),
        heartbeat: match row.pulse {
            Pulse::Moves => "moves",
            Pulse::Still { .. } => "still",
            Pulse::Ended => "ended",
        },
        leases: row.leases,
        throughput_kbps: row.throughput_kbps,
        version: row.version.clone(),
        leads: row.leads,
    }
}

fn lease(row: &LeaseRow) -> LeaseView {
    let lanes = row.lanes.iter().map(|(lane, position)| LeaseLaneView {
        lane: lane.as_str().to_owned(),
        checkpoint: position.checkpoint.to_string(),
        behind_ms: row.lag_is_known.then_some(position.behind_ms),
    });
    LeaseView {
        key: row.key.to_string(),
        shard: row.shard.to_string(),
        stream: row.stream.clone(),
        owner: row.owner.as_ref().map(ToString::to_string),
        state: row.state.word(),
        checkpoint: row.checkpoint.to_string(),
        lanes: lanes.collect(),
        throughput_kbps: row.throughput_kbps,
        counter: row.counter.0,
        reason: row.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use api::operators::LEASE_STATES;
    use lease_manager::operate::State;

    #[test]
    fn the_port_knows_how_leases_may_stand() {
        assert_eq!(State::ALL.map(State::word), LEASE_STATES);
    }
}
