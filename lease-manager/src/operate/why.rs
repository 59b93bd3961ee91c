//! Why a lease is where it is, why it is or is not moving, and what happens next: in words, from one [`Survey`]. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::say;
use super::survey::{Pulse, State, Survey};
use crate::checkpoint::Checkpoint;
use crate::ids::{LaneName, LeaseCounter, LeaseKey, ShardId, WorkerId};
use crate::lease::{LanePosition, LeaseRecord};
use crate::plan::{Action, Rules, plan};
use crate::view::{LeaseView, OrphanReason, Standing, WorkerView};
use crate::worker::WorkerState;

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// The lease's key.
    pub key: LeaseKey,
    /// The shard.
    pub shard: ShardId,
    /// How it stands.
    pub state: State,
    /// The owner.
    pub owner: Option<WorkerId>,
    /// The fencing token.
    pub counter: LeaseCounter,
    /// Each lane's position.
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// The answer in one sentence.
    pub answer: String,
    /// What is known: owner, history, lanes, reader, heartbeat.
    pub facts: Vec<String>,
    /// What happens next, by itself or by the operator.
    pub next: Vec<String>,
}

impl Survey {
    /// Why the lease is where it is. `None`: the survey shows no such lease.
    pub fn why(&self, key: &LeaseKey) -> Option<Why> {
        let (lease, record) = (self.view.leases.get(key)?, self.records.get(key)?);
        let about = About { survey: self, key, lease, record, state: self.state(key, lease) };
        Some(Why {
            key: key.clone(),
            shard: lease.shard_id.clone(),
            state: about.state,
            owner: lease.owner.clone(),
            counter: lease.counter,
            lanes: lease.lanes.clone(),
            answer: about.answer(),
            facts: about.facts(),
            next: about.next(),
        })
    }

    /// Who gets an orphan next, as the leader plans it.
    fn planned(&self, orphan: &LeaseKey) -> Option<WorkerId> {
        let freshest = self.options.lease_validity.as_millis();
        let rules = Rules::new(u64::try_from(freshest).unwrap_or(u64::MAX)).without_moves();
        let assigned = |action| match action {
            Action::Assign { key, to, .. } if key == *orphan => Some(to),
            Action::Assign { .. } | Action::Move { .. } => None,
        };
        plan(&self.view, &rules).into_iter().find_map(assigned)
    }

    /// Who would most likely get a lease: the least loaded worker that works and has room.
    pub(super) fn next_taker(&self, other_than: Option<&WorkerId>) -> Option<&WorkerId> {
        let fit = |(id, worker): &(&WorkerId, &WorkerView)| {
            worker.state == WorkerState::Active
                && self.pulse(id) == Pulse::Moves
                && worker.leases < worker.max_leases
                && Some(*id) != other_than
        };
        let workers = self.view.workers.iter().filter(fit);
        let best = workers.min_by_key(|(id, worker)| (worker.health.len(), worker.leases, *id));
        best.map(|(id, _)| id)
    }
}

struct About<'a> {
    survey: &'a Survey,
    key: &'a LeaseKey,
    lease: &'a LeaseView,
    record: &'a LeaseRecord,
    state: State,
}

impl About<'_> {
    fn owner(&self) -> &str {
        self.lease.owner.as_ref().map_or("nobody", WorkerId::as_str)
    }

    fn answer(&self) -> String {
        let (shard, owner) = (&self.lease.shard_id, self.owner());
        match self.state {
            State::Owned => format!("{shard} is owned by {owner}, which lives, and is being read."),
            State::Moving => match self.survey.asked_to_move(self.key, self.lease).flatten() {
                Some(to) => format!("{shard} is to move: {owner} was asked to hand it to {to}."),
                None => format!("{shard} is to move: {owner} was asked to hand it over."),
            },
            State::Draining => {
                format!("{shard} is about to move: its owner {owner} is stopping.")
            }
            State::Silent => format!(
                "{shard} is not moving: its owner {owner} is silent, and not declared dead yet."
            ),
            State::Foreign => format!(
                "{shard} is owned by {owner}, which is not of this fleet: a Kinesis Client Library, most likely."
            ),
            State::Orphan => {
                format!("{shard} is not being read: {}.", self.orphan_because())
            }
            State::Waiting => format!(
                "{shard} is not being read: it waits for {}.",
                say::list(&self.open_parents())
            ),
            State::Finished => {
                format!("{shard} is finished: every lane has settled it to its end.")
            }
            State::Trimmed => format!(
                "{shard} is lost to retention: the stream dropped its records before all of them were read."
            ),
            State::NotConfigured => format!(
                "{shard} is not being read: its stream is not among the configured ones ({}).",
                say::list(&self.survey.streams)
            ),
        }
    }

    fn orphan_because(&self) -> String {
        let Standing::Orphan { why, .. } = &self.lease.standing else {
            return "it has no owner".to_owned();
        };
        let owner = self.owner();
        match why {
            OrphanReason::Unowned => "it has no owner".to_owned(),
            OrphanReason::OwnerStopped => format!("its owner {owner} stopped in good order"),
            OrphanReason::OwnerDead => format!("its owner {owner} was declared dead"),
            OrphanReason::OwnerRestarted => {
                format!("its owner {owner} was started again, and its earlier life owned the lease")
            }
            OrphanReason::OwnerUnknown => format!("its owner {owner} is in no fleet table"),
            OrphanReason::ForeignOwnerSilent => {
                format!("its owner {owner} is not of this fleet and stands still")
            }
        }
    }

    fn facts(&self) -> Vec<String> {
        let mut facts = vec![self.history()];
        facts.extend(self.life());
        facts.extend(self.lease.lanes.iter().map(|(name, at)| self.lane(name, at)));
        facts.extend(self.reader());
        if let Some(checkpoint_owner) = &self.record.checkpoint_owner {
            facts.push(format!(
                "A Kinesis Client Library was handing it over: {checkpoint_owner} may still set a checkpoint there."
            ));
        }
        facts
    }

    fn history(&self) -> String {
        let (counter, lease) = (self.lease.counter, self.lease);
        match (&lease.reason, self.record.rev) {
            (_, None) => {
                format!(
                    "Counter {counter}. Only the Kinesis Client Library has written it so far; there the counter is also the owner's heartbeat."
                )
            }
            (Some(reason), _) => {
                let mut text =
                    format!("Counter {counter}. It last changed hands by {}", say::reason(reason));
                match self.record.granted_to() {
                    Some(life) => text.push_str(&format!(
                        "; not before {}, when the owner's life began.",
                        say::began(life)
                    )),
                    None => text.push('.'),
                }
                text
            }
            (None, _) => format!("Counter {counter}. No worker of this product has owned it yet."),
        }
    }

    /// The owner's life, and whether its heart beats.
    fn life(&self) -> Option<String> {
        let owner = self.lease.owner.as_ref()?;
        let Some(worker) = self.survey.view.workers.get(owner) else {
            let how = if self.survey.written.contains(self.key) { "moved" } else { "stood still" };
            let looked = say::span(self.survey.looked_ms);
            return Some(format!(
                "{owner} is in no fleet table; the lease's counter {how} while it was looked at for {looked}."
            ));
        };
        let life = self.record.granted_to();
        let which = match life {
            None => String::new(),
            Some(life) if life == worker.incarnation => format!(" in its life {life}"),
            Some(life) => {
                format!(" in its life {life}; its present life is {}", worker.incarnation)
            }
        };
        let looked = say::span(self.survey.looked_ms);
        let heart = match self.survey.pulse(owner) {
            Pulse::Moves => format!("its heartbeat moved while it was looked at for {looked}"),
            Pulse::Still { for_ms } => {
                format!("its heartbeat stood still for the whole look of {}", say::span(for_ms))
            }
            Pulse::Ended => "no heartbeat is expected of it".to_owned(),
        };
        let state = worker.state.word();
        let since = say::moment(worker.started_at_ms);
        let leases = match worker.leases {
            1 => "it holds 1 lease".to_owned(),
            n => format!("it holds {n} leases"),
        };
        let unwell = |(what, why): (&String, &String)| format!("{what} ({why})");
        let unwell: Vec<String> = worker.health.iter().map(unwell).collect();
        let unwell = match unwell.is_empty() {
            true => String::new(),
            false => format!(" It says that it cannot reach {}.", say::list(&unwell)),
        };
        Some(format!(
            "{owner} owns it{which}. It is {state}; this life of it began at {since} by its own clock; {heart}; {leases}.{unwell}"
        ))
    }

    fn lane(&self, name: &LaneName, at: &LanePosition) -> String {
        let start = self.record.start_at_ms;
        if at.checkpoint == Checkpoint::ShardEnd {
            return format!("Lane {name} has settled the whole shard.");
        }
        if !self.lease.open_lanes.contains(name) {
            let waits = say::list(&self.parents_of_lane(name));
            return format!("Lane {name} has not started: it waits for its end in {waits}.");
        }
        let position = say::position(&at.checkpoint, start);
        if !at.checkpoint.has_moved() {
            return format!("Lane {name} has acknowledged no record yet; it starts at {position}.");
        }
        let behind = match at.behind_ms {
            _ if !self.survey.lag_is_known(self.key) => "how far behind is not known".to_owned(),
            0 => "at the tip when that was written".to_owned(),
            ms => format!("{} behind the tip when that was written", say::span(ms)),
        };
        format!("Lane {name} has settled everything up to {position}; {behind}.")
    }

    fn reader(&self) -> Option<String> {
        match &self.lease.read_to {
            Some(Checkpoint::ShardEnd) => {
                let children: Vec<String> =
                    self.lease.children.iter().map(|child| self.relative(child)).collect();
                Some(format!(
                    "The reader saw the shard's end; its children: {}.",
                    say::list(&children)
                ))
            }
            Some(at) => Some(format!("The reader is at {}.", say::position(at, None))),
            None => None,
        }
    }

    fn lease_of(&self, shard: &ShardId) -> Option<&LeaseView> {
        let same = |l: &&LeaseView| l.shard_id == *shard && l.stream == self.lease.stream;
        self.survey.view.leases.values().find(same)
    }

    /// A parent or child, with what is known of it.
    fn relative(&self, shard: &ShardId) -> String {
        match self.lease_of(shard) {
            None => format!("{shard} (which has no lease)"),
            Some(lease) if lease.checkpoint == Checkpoint::ShardEnd => {
                format!("{shard} (finished)")
            }
            Some(lease) => {
                let owner = lease.owner.as_ref().map_or("nobody", WorkerId::as_str);
                format!("{shard} (at {}, owned by {owner})", lease.checkpoint)
            }
        }
    }

    /// The parents that are not finished; where none has a lease, an older ancestor is still open.
    fn open_parents(&self) -> Vec<String> {
        let open = |parent: &&ShardId| {
            self.lease_of(parent).is_none_or(|l| l.checkpoint != Checkpoint::ShardEnd)
        };
        self.lease.parents.iter().filter(open).map(|parent| self.relative(parent)).collect()
    }

    /// The parents in which a lane has not ended.
    fn parents_of_lane(&self, lane: &LaneName) -> Vec<String> {
        let at = |parent: &ShardId| match self.lease_of(parent) {
            None => Some(format!("{parent} (which has no lease, or none yet)")),
            Some(lease) => {
                let at = &lease.lanes.get(lane)?.checkpoint;
                (*at != Checkpoint::ShardEnd).then(|| format!("{parent} (there at {at})"))
            }
        };
        self.lease.parents.iter().filter_map(at).collect()
    }

    fn next(&self) -> Vec<String> {
        let options = &self.survey.options;
        let ms = |period: std::time::Duration| {
            say::span(u64::try_from(period.as_millis()).unwrap_or(u64::MAX))
        };
        let key = self.key;
        match self.state {
            State::Owned => vec![format!(
                "It stays there while {} lives and the fleet is even; `sluicegate leases release {key}` has it moved.",
                self.owner()
            )],
            State::Moving => vec![format!(
                "The owner finds the request with its next heartbeat, drains, and hands over within {}, at its last checkpoint if it cannot drain.",
                ms(options.handoff_deadline)
            )],
            State::Draining => vec![match self.survey.next_taker(self.lease.owner.as_ref()) {
                Some(to) => format!("It is handed to the least loaded worker, now {to}, within {}.", ms(options.shutdown_deadline)),
                None => "There is no other worker that lives: it will have no owner until one starts.".to_owned(),
            }],
            State::Silent => {
                let mut next = vec![format!(
                    "The other workers declare {} dead once its heartbeat stood still for {} by their own clocks; then {}",
                    self.owner(),
                    ms(options.failure_detection),
                    self.taken_by()
                )];
                next.push("If its heartbeat moves again before that, nothing happens.".to_owned());
                next
            }
            State::Foreign => vec![format!(
                "While its counter moves it is left alone. Once it stood still for {}, {}",
                ms(options.foreign_detection),
                self.taken_by()
            )],
            State::Orphan => vec![self.assigned(&ms(options.plan_interval))],
            State::Waiting => vec![
                "It is taken as soon as these have ended; `sluicegate leases why` on each says how far they are.".to_owned(),
            ],
            State::Finished => {
                vec!["It is deleted once the stream no longer lists the shard and its children have moved on.".to_owned()]
            }
            State::Trimmed => {
                vec!["Its children are read from their oldest records; nothing brings the lost records back.".to_owned()]
            }
            State::NotConfigured => vec![
                "Nothing, until a worker runs with this stream in its configuration. A table of one stream has shard ids for keys, a table of several carries the stream in front.".to_owned(),
            ],
        }
    }

    fn assigned(&self, within: &str) -> String {
        let planned = self.survey.planned(self.key);
        let planned = planned.filter(|to| self.survey.pulse(to) == Pulse::Moves);
        match (&self.survey.view.leader, planned) {
            (Some(leader), Some(to)) => {
                format!("The leader {leader} gives it to {to} at its next plan, within {within}.")
            }
            (_, Some(_)) => format!("At the next plan, within {within}, {}", self.taken_by()),
            (_, None) => "Nothing, until a worker starts: none works that has room.".to_owned(),
        }
    }

    fn taken_by(&self) -> String {
        match self.survey.next_taker(None) {
            Some(to) => format!("it goes to the least loaded worker that works, now {to}."),
            None => "any worker may take it; none works that has room, so start one.".to_owned(),
        }
    }
}
