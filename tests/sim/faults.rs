//! What fails for whom, and for how long: drawn from the seed.

use std::time::Duration;

use local_aws::{Effect, Fault, FaultId, Service};

use crate::receivers::Mood;
use crate::world::{APP, World};

/// The faults that end by themselves at some time.
#[derive(Default)]
pub struct Weather {
    ends: Vec<(Duration, FaultId)>,
    /// When each receiver is well again.
    moods: Vec<(Duration, usize)>,
}

impl Weather {
    /// Something starts to fail for the caller `name`.
    pub fn turn(&mut self, world: &World, rng: &mut fastrand::Rng, name: &str) {
        let service = if rng.u32(0..3) > 0 { Service::Dynamodb } else { Service::Kinesis };
        let effect = effect(rng, service);
        let mut fault = Fault::new(service, effect).caller(name);
        if fault.effect == Effect::Partition {
            let end = world.now() + Duration::from_millis(rng.u64(500..20_000));
            let kinesis = rng.u32(0..3) == 0;
            self.hold(world, fault.clone(), end);
            if kinesis {
                self.hold(world, Fault { service: Service::Kinesis, ..fault }, end);
            }
            return;
        }
        if fault.effect == Effect::StaleRead {
            let end = world.now() + Duration::from_millis(rng.u64(5_000..30_000));
            return self.hold(world, fault, end);
        }
        if service == Service::Dynamodb && rng.bool() {
            let table = ["", "-fleet", "-messages", "-deliveries", "-access"][rng.usize(..5)];
            fault = fault.resource(&format!("{APP}{table}"));
        }
        fault.chance = [1.0, 1.0, 0.4][rng.usize(..3)];
        let times = match fault.effect {
            Effect::CutStream | Effect::SilenceStream => rng.u64(1..4),
            _ => rng.u64(1..40),
        };
        let end = world.now() + Duration::from_millis(rng.u64(1_000..25_000));
        self.hold(world, fault.times(times), end);
    }

    /// One pipeline cannot get on for long: its table is out of reach for everybody, and what would be written to it comes up. The other
    /// one can.
    pub fn outage(&mut self, world: &World, rng: &mut fastrand::Rng) {
        let end = world.now() + Duration::from_millis(rng.u64(5_000..45_000));
        let effects = [Effect::Throttle, Effect::Unanswered, Effect::InternalError];
        let effect = effects[rng.usize(..effects.len())].clone();
        let receivers = world.receivers.count();
        let table = match rng.u32(0..4) {
            0 | 1 => "messages",
            2 => "access",
            _ => {
                (0..receivers).for_each(|receiver| self.ail(world, receiver, Mood::Down, end));
                "deliveries"
            }
        };
        let fault = Fault::new(Service::Dynamodb, effect).resource(&format!("{APP}-{table}"));
        self.hold(world, fault, end);
    }

    /// Shards are badly polled for a while, by everybody: others use up what the service allows, or every iterator comes too late.
    pub fn of_polls(&mut self, world: &World, rng: &mut fastrand::Rng) {
        let end = world.now() + Duration::from_millis(rng.u64(1_000..15_000));
        let effect = if rng.bool() { Effect::Throttle } else { expired() };
        let fault = Fault::new(Service::Kinesis, effect).operation("GetRecords");
        self.hold(world, fault.chance([1.0, 0.6, 0.3][rng.usize(..3)]), end);
    }

    /// A receiver is not well for a while.
    pub fn of_receivers(&mut self, world: &World, rng: &mut fastrand::Rng) {
        let receiver = rng.usize(..world.receivers.count());
        let mood = mood(rng);
        let end = world.now() + Duration::from_millis(rng.u64(500..20_000));
        self.ail(world, receiver, mood, end);
    }

    /// Nobody is there for this receiver until `end`.
    pub fn down(&mut self, world: &World, receiver: usize, end: Duration) {
        self.ail(world, receiver, Mood::Down, end);
    }

    fn ail(&mut self, world: &World, receiver: usize, mood: Mood, end: Duration) {
        world.tell(format!("until {end:?}: receiver {receiver}: {mood:?}"));
        world.receivers.set(receiver, mood);
        self.moods.retain(|(_, other)| *other != receiver);
        self.moods.push((end, receiver));
    }

    /// Every receiver is well.
    pub fn clear(&mut self, world: &World) {
        self.ends.clear();
        self.moods.drain(..).for_each(|(_, receiver)| world.receivers.set(receiver, Mood::Well));
    }

    fn hold(&mut self, world: &World, fault: Fault, end: Duration) {
        world.tell(format!("until {end:?}: {fault:?}"));
        self.ends.push((end, world.aws.faults().inject(fault)));
    }

    /// Ends what has lasted long enough.
    pub fn pass(&mut self, world: &World) {
        let now = world.now();
        self.ends.retain(|(end, id)| {
            let lasts = *end > now;
            if !lasts {
                world.aws.faults().clear(*id);
            }
            lasts
        });
        self.moods.retain(|(end, receiver)| {
            let lasts = *end > now;
            if !lasts {
                world.receivers.set(*receiver, Mood::Well);
            }
            lasts
        });
    }
}

fn effect(rng: &mut fastrand::Rng, service: Service) -> Effect {
    let millis = |rng: &mut fastrand::Rng, most: u64| Duration::from_millis(rng.u64(10..most));
    let of_streams = service == Service::Kinesis;
    match rng.u32(0..14) {
        0 => Effect::Throttle,
        1 => Effect::InternalError,
        2 => Effect::ErrorAfterApply,
        3 => Effect::LostReply,
        4 => Effect::Unanswered,
        5 | 6 => Effect::LateApply(millis(rng, 12_000)),
        7 => Effect::Latency(millis(rng, 3_000)),
        8 => Effect::Cut,
        9 => Effect::Partial(0.5),
        10 | 11 if of_streams => Effect::CutStream,
        12 if of_streams => Effect::SilenceStream,
        12 => Effect::StaleRead,
        10 => Effect::LostReply,
        11 => Effect::Latency(millis(rng, 900)),
        _ => Effect::Partition,
    }
}

fn expired() -> Effect {
    Effect::Refuse {
        status: 400,
        code: "ExpiredIteratorException".to_owned(),
        message: "Iterator expired.".to_owned(),
    }
}

fn mood(rng: &mut fastrand::Rng) -> Mood {
    match rng.u32(0..8) {
        0 => Mood::Slow(Duration::from_millis(rng.u64(50..3_000))),
        1 => Mood::Answers([500, 503, 429, 404, 302, 502, 408, 413][rng.usize(..8)]),
        2 => Mood::Answers(503),
        3 => Mood::Hangs,
        4 => Mood::Forgets,
        _ => Mood::Down,
    }
}
