//! Acts on one reading of the leases: the leader carries its plan out, the others help where the leader does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::change::{Change, after, write};
use crate::classify::CallError;
use crate::fleet_table::MAX_ASKED;
use crate::ids::{LeaseKey, WorkerId};
use crate::lease::{Holder, LeaseRecord};
use crate::lease_table::Outcome;
use crate::manager::own::{self, CONCURRENCY};
use crate::metrics;
use crate::plan::{Action, Rules, plan};
use crate::shared::Shared;
use crate::standing::Judgement;
use crate::view::{FleetView, OrphanReason, Standing};
use crate::worker::Ask;

/// What each worker is to be told.
type Mail = BTreeMap<WorkerId, Vec<(LeaseKey, Ask)>>;

/// One reading of the leases, to be acted on.
pub(super) struct Round<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) me: &'a Holder,
    pub(super) leases: &'a [LeaseRecord],
    pub(super) judgements: &'a BTreeMap<LeaseKey, Judgement>,
}

impl Round<'_> {
    /// Carries the leader's plan out. What was planned, and the last write that failed.
    pub(super) async fn lead(
        &self,
        view: &FleetView,
        rules: &Rules,
    ) -> (Vec<Action>, Result<(), CallError>) {
        let actions = plan(view, rules);
        let (mut assign, mut mail) = (Vec::new(), BTreeMap::new());
        for action in &actions {
            match action {
                Action::Assign { key, to, why } => assign.push((key, to, *why)),
                Action::Move { key, from, to } => {
                    tracing::info!(lease = %key, owner = %from, %to, "lease is to move");
                    self.move_ask(view, key, from, to, &mut mail);
                }
            }
        }
        metrics::planned(assign.len(), actions.len() - assign.len());
        let (given, failed) = self.assign(view, assign).await;
        for (to, key, ask) in given {
            mail.entry(to).or_default().push((key, ask));
        }
        self.send(view, mail).await;
        // A leader that cannot write has made no plan: others are to notice.
        (actions, failed.map_or(Ok(()), Err))
    }

    fn move_ask(
        &self,
        view: &FleetView,
        key: &LeaseKey,
        from: &WorkerId,
        to: &WorkerId,
        mail: &mut Mail,
    ) {
        let Some(lease) = view.leases.get(key) else { return };
        let ask = Ask::Move { counter: lease.counter, to: Some(to.clone()) };
        mail.entry(from.clone()).or_default().push((key.clone(), ask));
    }

    /// Gives orphans to workers; returns what the new owners are to be told, and the last write that failed.
    async fn assign(
        &self,
        view: &FleetView,
        assign: Vec<(&LeaseKey, &WorkerId, OrphanReason)>,
    ) -> (Vec<(WorkerId, LeaseKey, Ask)>, Option<CallError>) {
        let by_key: BTreeMap<&LeaseKey, &LeaseRecord> =
            self.leases.iter().map(|lease| (&lease.key, lease)).collect();
        let mut writes = Vec::new();
        for (key, to, why) in assign {
            if let (Some(lease), Some(worker)) = (by_key.get(key), view.workers.get(to)) {
                let to = Holder { worker: to.clone(), incarnation: worker.incarnation };
                writes.push(self.give(lease, to, why));
            }
        }
        let written: Vec<_> = stream::iter(writes).buffer_unordered(CONCURRENCY).collect().await;
        // One write that failed is no reason not to announce the others.
        let (mut given, mut failed) = (Vec::new(), None);
        for written in written {
            match written {
                Ok(announce) => given.extend(announce),
                Err(error) => failed = Some(error),
            }
        }
        (given, failed)
    }

    async fn give(
        &self,
        seen: &LeaseRecord,
        to: Holder,
        why: OrphanReason,
    ) -> Result<Option<(WorkerId, LeaseKey, Ask)>, CallError> {
        let shared = self.shared;
        if to == *self.me {
            let open = self.judgements[&seen.key].open_lanes.clone();
            own::take(shared, self.me, seen, open, why.code()).await?;
            return Ok(None);
        }
        let change = Change::Take { to: to.clone(), reason: why.code().to_owned() };
        let Ok(next) = after(seen, &change, &shared.options.lanes) else { return Ok(None) };
        let write = write(seen, next);
        let ask = Ask::Assigned { counter: write.after.counter };
        let announce = Some((to.worker, seen.key.clone(), ask));
        Ok(match shared.leases.apply(&write).await? {
            Outcome::Done => announce,
            Outcome::Refused(Some(is)) if *is == write.after => announce,
            Outcome::Refused(_) => None,
        })
    }

    /// Leaves mail, many asks in one write. What does not arrive is found by the index, or planned again.
    async fn send(&self, view: &FleetView, mail: Mail) {
        let mut letters = Vec::new();
        for (worker, asks) in &mail {
            let Some(is) = view.workers.get(worker) else { continue };
            let to = Holder { worker: worker.clone(), incarnation: is.incarnation };
            letters.extend(asks.chunks(MAX_ASKED).map(|asks| self.send_one(to.clone(), asks)));
        }
        stream::iter(letters).buffer_unordered(CONCURRENCY).collect::<()>().await;
    }

    async fn send_one(&self, to: Holder, asks: &[(LeaseKey, Ask)]) {
        match self.shared.fleet.ask_all(&to, asks).await {
            Ok(true) => {}
            // It stopped since it was looked at: what it was given is soon to be given to others.
            Ok(false) => self.shared.look_now.notify_one(),
            Err(error) => {
                tracing::debug!(%error, to = %to.worker, "mail was not left");
                metrics::failed(error.operation);
            }
        }
    }

    /// What a worker does that does not lead: it takes its own leases back after a restart, and orphans that the leader has
    /// left for too long.
    pub(super) async fn help(&self, view: &FleetView, leader_fails: bool) -> Result<(), CallError> {
        let three_periods = self.shared.options.failure_detection.as_millis() * 3;
        let room = self.shared.options.max_leases.saturating_sub(self.shared.roster.len());
        let planned = match leader_fails {
            true => plan(view, &Rules::new(self.shared.freshest_ms())),
            false => Vec::new(),
        };
        let mine: BTreeSet<&LeaseKey> = planned.iter().filter_map(|a| self.for_me(a)).collect();
        let wanted = self.leases.iter().filter_map(|lease| {
            let Standing::Orphan { why, for_ms } = &self.judgements[&lease.key].standing else {
                return None;
            };
            let back = *why == OrphanReason::OwnerRestarted
                && lease.owner.as_ref() == Some(&self.me.worker);
            let old = leader_fails && u128::from(*for_ms) >= three_periods;
            let anybody = u128::from(*for_ms) >= three_periods * 2;
            (back || (old && (anybody || mine.contains(&lease.key)))).then_some((lease, *why))
        });
        let mut takes = Vec::new();
        for (lease, why) in wanted.take(room) {
            let open = self.judgements[&lease.key].open_lanes.clone();
            takes.push(own::take(self.shared, self.me, lease, open, why.code()));
        }
        stream::iter(takes).buffer_unordered(CONCURRENCY).try_collect::<()>().await
    }

    fn for_me<'a>(&self, action: &'a Action) -> Option<&'a LeaseKey> {
        match action {
            Action::Assign { key, to, .. } if *to == self.me.worker => Some(key),
            _ => None,
        }
    }
}
