//! What each worker would carry once everything that is decided has happened: the plan's bookkeeping. Pure.

use std::collections::BTreeMap;

use crate::ids::{LeaseKey, WorkerId};
use crate::plan::Rules;
use crate::view::{FleetView, LeaseView, Standing, WorkerView};

/// A worker that says how busy it is counts as at most so much larger or smaller than the others.
const MOST_WEIGHT: f64 = 2.0;
/// Below this share of its CPU (in percent) a worker's figures say nothing about its size.
const TELLING_CPU_PERCENT: f64 = 10.0;

/// One worker that can be given leases.
#[derive(Debug)]
struct Room {
    leases: u64,
    most: u64,
    kbps: f64,
    /// How much it can carry, compared with the fleet's mean.
    weight: f64,
}

impl Room {
    fn pressure(&self) -> f64 {
        self.kbps / self.weight
    }
}

/// The workers that can be given leases, and what each carries.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    rooms: BTreeMap<&'a WorkerId, Room>,
    /// A difference in pressure that is worth a move.
    worthwhile: f64,
}

impl<'a> Fleet<'a> {
    /// The healthiest of the workers that work, with the leases that they own and those that are on their way to them.
    pub(super) fn new(view: &'a FleetView, rules: &Rules) -> Self {
        let fit = || view.workers.iter().filter(|(_, worker)| worker.is_fit(rules.freshest_ms));
        let healthiest = fit().map(|(_, worker)| worker.health.len()).min();
        let weights = weights(view);
        let room = |(id, worker): (&'a WorkerId, &WorkerView)| {
            let weight = weights.get(id).copied().unwrap_or(1.0);
            (id, Room { leases: 0, most: worker.max_leases, kbps: 0.0, weight })
        };
        let healthy = fit().filter(|(_, worker)| Some(worker.health.len()) == healthiest);
        let mut fleet = Self { rooms: healthy.map(room).collect(), worthwhile: 0.0 };
        for (key, lease) in view.leases.iter().filter(|(_, l)| l.standing == Standing::Owned) {
            let owner = lease.owner.as_ref();
            let moving = owner.and_then(|o| view.workers.get(o)?.moving.get(key));
            // A lease that is on its way is counted where it goes to.
            let holder = moving.and_then(Option::as_ref).or(owner);
            if let Some(holder) = holder {
                fleet.add(holder, lease);
            }
        }
        let mean = fleet.rooms.values().map(Room::pressure).sum::<f64>() / fleet.len().max(1.0);
        fleet.worthwhile = rules.least_gap_kbps.max(mean * rules.least_gap_share);
        fleet
    }

    fn len(&self) -> f64 {
        self.rooms.len() as f64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    pub(super) fn has_room(&self, worker: &WorkerId) -> bool {
        self.rooms.get(worker).is_some_and(|room| room.leases < room.most)
    }

    pub(super) fn add(&mut self, worker: &WorkerId, lease: &LeaseView) {
        if let Some(room) = self.rooms.get_mut(worker) {
            room.leases += 1;
            room.kbps += lease.throughput_kbps.max(0.0);
        }
    }

    pub(super) fn shift(&mut self, from: &WorkerId, to: &WorkerId, lease: &LeaseView) {
        if let Some(room) = self.rooms.get_mut(from) {
            room.leases = room.leases.saturating_sub(1);
            room.kbps = (room.kbps - lease.throughput_kbps.max(0.0)).max(0.0);
        }
        self.add(to, lease);
    }

    /// The worker with the least throughput, in steps that are worth telling apart, then the fewest leases; among equals a
    /// different one for each lease. The one that `declined` is the last resort.
    pub(super) fn least_loaded(
        &self,
        key: &LeaseKey,
        declined: Option<&WorkerId>,
    ) -> Option<&'a WorkerId> {
        let rank = |id: &WorkerId, room: &Room| {
            let step = (room.pressure() / self.worthwhile) as u64;
            (Some(id) == declined, step, room.leases, mix(key.as_str(), id.as_str()))
        };
        let open = self.rooms.iter().filter(|(_, room)| room.leases < room.most);
        open.min_by_key(|(id, room)| rank(id, room)).map(|(id, _)| *id)
    }

    /// The workers with the most and the least throughput, if the difference is worth a move.
    pub(super) fn widest_in_bytes(&self) -> Option<(&'a WorkerId, &'a WorkerId)> {
        let by_pressure = |a: &(&&WorkerId, &Room), b: &(&&WorkerId, &Room)| {
            a.1.pressure().total_cmp(&b.1.pressure()).then_with(|| b.0.cmp(a.0))
        };
        let (from, _) = self.rooms.iter().max_by(by_pressure)?;
        let open = self.rooms.iter().filter(|(_, room)| room.leases < room.most);
        let (to, _) = open.min_by(by_pressure)?;
        (self.gap(from, to) >= self.worthwhile).then_some((*from, *to))
    }

    /// The workers with the most and the fewest leases, if a move would make them more even.
    pub(super) fn widest_in_count(&self) -> Option<(&'a WorkerId, &'a WorkerId)> {
        let (from, most) =
            self.rooms.iter().max_by_key(|(id, r)| (r.leases, std::cmp::Reverse(**id)))?;
        let open = self.rooms.iter().filter(|(_, room)| room.leases < room.most);
        let (to, least) = open.min_by_key(|(id, room)| (room.leases, **id))?;
        (most.leases >= least.leases + 2).then_some((*from, *to))
    }

    /// How much more `from` carries than `to`.
    pub(super) fn gap(&self, from: &WorkerId, to: &WorkerId) -> f64 {
        let pressure = |id| self.rooms.get(id).map_or(0.0, Room::pressure);
        pressure(from) - pressure(to)
    }

    fn gap_after(&self, from: &WorkerId, to: &WorkerId, kbps: f64) -> f64 {
        let weight = |id| self.rooms.get(id).map_or(1.0, |room| room.weight);
        self.gap(from, to) - kbps / weight(from) - kbps / weight(to)
    }

    /// True if moving so much makes the gap narrower by something that is worth a move, and does not just turn it round.
    pub(super) fn narrows(&self, from: &WorkerId, to: &WorkerId, kbps: f64) -> bool {
        let (gap, after) = (self.gap(from, to), self.gap_after(from, to, kbps));
        after >= -gap / 2.0 && gap - after >= self.worthwhile / 10.0
    }

    /// True if moving so much leaves no gap in throughput that would be a reason to move something back.
    pub(super) fn stays_even(&self, from: &WorkerId, to: &WorkerId, kbps: f64) -> bool {
        self.gap_after(from, to, kbps) > -self.worthwhile / 2.0
    }
}

/// How much each worker can carry, compared with the mean: its throughput over its CPU's share says how large it is.
fn weights(view: &FleetView) -> BTreeMap<&WorkerId, f64> {
    let size = |worker: &WorkerView| {
        let telling =
            worker.load.cpu_percent >= TELLING_CPU_PERCENT && worker.throughput_kbps > 0.0;
        telling.then(|| worker.throughput_kbps / worker.load.cpu_percent)
    };
    let sizes: BTreeMap<&WorkerId, f64> =
        view.workers.iter().filter_map(|(id, worker)| Some((id, size(worker)?))).collect();
    let mean = sizes.values().sum::<f64>() / (sizes.len() as f64).max(1.0);
    let weight = |size: f64| (size / mean).clamp(1.0 / MOST_WEIGHT, MOST_WEIGHT);
    // Quarters: a measurement's noise is no reason to see the fleet differently.
    let quarters = |weight: f64| (weight * 4.0).round() / 4.0;
    sizes.into_iter().map(|(id, size)| (id, quarters(weight(size)))).collect()
}

fn mix(a: &str, b: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    a.bytes().chain([0]).chain(b.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}
