//! Which steps are possible, and what each does. One step is one call of one worker, or the arrival of a late one.

use crate::model::Leases;
use crate::model::memory::{Plan, Settled, Wish};
use crate::model::promises::Broken;
use crate::model::state::{
    Action, END, Fate, Holding, LANES, Member, Mode, OwnerWrite, Planned, Process, Rec, SHARDS,
    Shard, State, WORKERS, Worker,
};

/// The steps that are possible now.
pub(super) fn possible(model: &Leases, state: &State, actions: &mut Vec<Action>) {
    for worker in 0..WORKERS {
        let process = &state.workers[worker];
        if process.up {
            of_process(model, state, worker, actions);
            for shard in (0..SHARDS).filter(|shard| process.held[*shard].is_some()) {
                of_owner(model, state, worker, shard, actions);
            }
        } else if state.fleet[worker].mode != Mode::Stopped {
            actions.push(Action::Start { worker });
        }
        of_time(model, state, worker, actions);
    }
    let under_way = (0..state.flight.len()).filter(|flight| state.flight[*flight].0 > 0);
    actions.extend(under_way.map(|flight| Action::Arrives { flight }));
}

fn of_time(model: &Leases, state: &State, worker: Worker, actions: &mut Vec<Action>) {
    let process = &state.workers[worker];
    let may_pause = process.phase > 0 || state.left.pauses > 0 || !process.up;
    if process.phase < 2 && may_pause {
        actions.push(Action::TimePasses { worker });
    }
    if !process.up {
        return;
    }
    actions.push(Action::Beat { worker });
    if model.is_silent(process) && state.left.lost_replies > 0 {
        actions.push(Action::BeatReplyLost { worker });
    }
}

fn of_process(model: &Leases, state: &State, worker: Worker, actions: &mut Vec<Action>) {
    let process = &state.workers[worker];
    actions.extend([Action::Look { worker }, Action::Read { worker }]);
    if state.left.crashes > 0 {
        actions.push(Action::Crash { worker });
    }
    if state.left.stops > 0 {
        actions.push(Action::Stop { worker });
    }
    if !model.trusts(process) {
        return;
    }
    for other in (0..WORKERS).filter(|other| *other != worker) {
        let silent = model.is_silent(&state.workers[other]);
        if silent && state.fleet[other].mode == Mode::Active {
            actions.push(Action::Declare { by: worker, dead: other });
        }
    }
    for shard in (0..SHARDS).filter(|shard| state.leases[*shard] != Rec::default()) {
        if orphan(model, state, worker, shard).is_some() {
            actions.extend(fates(state).map(|fate| Action::Take { worker, shard, fate }));
        }
    }
}

/// Why the lease may be taken, as the worker sees the fleet.
fn orphan(model: &Leases, state: &State, worker: Worker, shard: Shard) -> Option<&'static str> {
    let silent = std::array::from_fn(|w| model.is_silent(&state.workers[w]));
    model.memory.orphan(shard, state.leases, state.workers[worker].view, silent)
}

/// The ends that a write may still have.
fn fates(state: &State) -> impl Iterator<Item = Fate> {
    let lost = (state.left.lost_replies > 0).then_some(Fate::ReplyLost);
    let room = state.flight.contains(&Planned::default());
    let late = (state.left.late_writes > 0 && room).then_some(Fate::Late);
    [Some(Fate::Answered), lost, late].into_iter().flatten()
}

fn of_owner(
    model: &Leases,
    state: &State,
    worker: Worker,
    shard: Shard,
    actions: &mut Vec<Action>,
) {
    let process = &state.workers[worker];
    let Some(holding) = process.held[shard] else { return };
    if holding.doubt != Rec::default() {
        actions.push(Action::Settle { worker, shard });
        return;
    }
    let seen = model.memory.facts(holding.seen);
    let ends = model.children(shard).next().is_some();
    let last = if ends { model.scenario.last_of_parents } else { model.scenario.last };
    let mut writes = Vec::new();
    // A reading of the parents that is older opens less, never more.
    let open = model.memory.open_lanes(shard, state.leases);
    for (lane, last) in last.into_iter().enumerate().filter(|(lane, _)| open[*lane]) {
        let at = seen.lanes[lane];
        let others_ended = (0..LANES).all(|other| other == lane || seen.lanes[other] == END);
        if at > 0 {
            // A consumer that lost its place; production refuses it.
            writes.push(OwnerWrite::Advance { lane, to: 0 });
        }
        if at < last {
            writes.push(OwnerWrite::Advance { lane, to: at + 1 });
        } else if ends && at != END && !others_ended {
            writes.push(OwnerWrite::Advance { lane, to: END });
        }
    }
    if ends {
        let missing = |child: &Shard| state.leases[*child] == Rec::default();
        match model.children(shard).find(missing) {
            Some(child) => actions.push(Action::Create { worker, parent: shard, child }),
            None if !seen.reader_ended => writes.push(OwnerWrite::ReaderEnded),
            None => {}
        }
        // Without the reader's end, production refuses it.
        let done = |lane: usize| open[lane] && seen.lanes[lane] >= last[lane];
        writes.extend((0..LANES).all(done).then_some(OwnerWrite::Finish));
    }
    if state.left.moves > 0 {
        writes.push(OwnerWrite::Release);
        let active = |to: &Worker| *to != worker && process.view[*to].mode == Mode::Active;
        let hand_over = |to| OwnerWrite::HandOver { to, life: process.view[to].life };
        writes.extend((0..WORKERS).filter(active).map(hand_over));
    }
    for write in writes {
        actions.extend(fates(state).map(|fate| Action::Write { worker, shard, write, fate }));
    }
}

/// The state after a step; `None` where production refuses it.
pub(super) fn take(model: &Leases, state: &State, action: Action) -> Option<State> {
    let mut next = *state;
    match action {
        Action::Beat { worker } => beat(model, &mut next, worker),
        Action::BeatReplyLost { worker } => {
            next.left.lost_replies -= 1;
            if is_alive(&next, worker) {
                next.workers[worker].phase -= 1;
            }
        }
        Action::TimePasses { worker } => {
            let begins = state.workers[worker].up && state.workers[worker].phase == 0;
            next.left.pauses -= u8::from(begins);
            next.workers[worker].phase += 1;
        }
        Action::Declare { by, dead } => {
            next.fleet[dead].mode = Mode::Dead;
            next.workers[by].view[dead] = next.fleet[dead];
        }
        Action::Look { worker } => next.workers[worker].view = state.fleet,
        Action::Read { worker } => read(model, &mut next, worker),
        Action::Take { worker, shard, fate } => {
            let why = orphan(model, state, worker, shard)?;
            send(model, &mut next, worker, shard, Wish::Take { why }, fate)?;
        }
        Action::Write { worker, shard, write, fate } => {
            let gives_up = matches!(write, OwnerWrite::HandOver { .. } | OwnerWrite::Release);
            next.left.moves -= u8::from(gives_up);
            send(model, &mut next, worker, shard, Wish::Own(write), fate)?;
        }
        Action::Settle { worker, shard } => settle(model, &mut next, worker, shard),
        Action::Create { parent, child, .. } => {
            next.leases[child] = model.memory.child(state.leases[parent], child);
        }
        Action::Arrives { flight } => {
            let planned = std::mem::take(&mut next.flight[flight]);
            next.flight.sort_unstable();
            arrive(model, &mut next, planned);
        }
        Action::Crash { worker } => {
            next.left.crashes -= 1;
            end_process(model, &mut next, worker);
        }
        Action::Start { worker } => {
            join(&mut next, worker);
            next.workers[worker].view = next.fleet;
        }
        Action::Stop { worker } => {
            next.left.stops -= 1;
            if is_alive(&next, worker) {
                next.fleet[worker].mode = Mode::Stopped;
            }
            end_process(model, &mut next, worker);
        }
    }
    next.broken |= model.memory.broken_at(next.leases);
    Some(next)
}

/// The fleet table's condition of a heartbeat.
fn is_alive(state: &State, worker: Worker) -> bool {
    let member = state.fleet[worker];
    member.life == state.workers[worker].life && member.mode == Mode::Active
}

fn beat(model: &Leases, state: &mut State, worker: Worker) {
    if !is_alive(state, worker) {
        return join(state, worker);
    }
    let process = &mut state.workers[worker];
    process.unverified |= process.phase >= model.lapses_at;
    process.phase = 0;
}

/// The end of one life, if there was one, and the beginning of the next.
fn join(state: &mut State, worker: Worker) {
    let life = state.fleet[worker].life + 1;
    state.fleet[worker] = Member { life, mode: Mode::Active };
    let mut view = state.workers[worker].view;
    view[worker] = state.fleet[worker];
    let held = [None; SHARDS];
    state.workers[worker] = Process { up: true, life, phase: 0, unverified: false, view, held };
}

/// The process is gone. Of its time only the others' patience is left.
fn end_process(model: &Leases, state: &mut State, worker: Worker) {
    state.workers[worker] = Process {
        up: false,
        life: 0,
        phase: state.workers[worker].phase.max(model.silent_at - 1),
        unverified: false,
        view: [Member { life: 0, mode: Mode::Stopped }; WORKERS],
        held: [None; SHARDS],
    };
}

fn read(model: &Leases, state: &mut State, worker: Worker) {
    let leases = state.leases;
    let process = &mut state.workers[worker];
    let me = (worker, process.life);
    for (held, lease) in process.held.iter_mut().zip(leases) {
        *held = held.filter(|held| !model.memory.proves_loss(me, *held, lease));
    }
    process.unverified = false;
    for (shard, lease) in leases.into_iter().enumerate() {
        adopt(model, process, worker, shard, lease);
    }
}

/// Takes in a lease that the table says is this worker's, if it is newer than what the worker knows of it.
fn adopt(model: &Leases, process: &mut Process, worker: Worker, shard: Shard, rec: Rec) {
    let counter = |rec| model.memory.facts(rec).counter;
    let newer = |held: Holding| counter(held.seen) < counter(rec);
    if model.memory.is_given_to((worker, process.life), rec)
        && process.held[shard].is_none_or(newer)
    {
        process.held[shard] = Some(Holding::of(rec));
    }
}

fn send(
    model: &Leases,
    state: &mut State,
    worker: Worker,
    shard: Shard,
    wish: Wish,
    fate: Fate,
) -> Option<()> {
    let life = state.workers[worker].life;
    let holding = state.workers[worker].held[shard];
    let own = matches!(wish, Wish::Own(_));
    let seen = if own { holding?.seen } else { state.leases[shard] };
    let planned = model.memory.planned((worker, life), shard, seen, wish)?;
    let Plan { after, gives_up, .. } = model.memory.plan(planned);
    if own {
        let leaving = gives_up || holding?.leaving;
        state.workers[worker].held[shard] = Some(Holding { seen, doubt: after, leaving });
    }
    match fate {
        Fate::Late => {
            state.left.late_writes -= 1;
            state.flight[0] = planned;
            state.flight.sort_unstable();
        }
        Fate::ReplyLost => {
            state.left.lost_replies -= 1;
            // Without effect it is as good as one that never arrives.
            arrive(model, state, planned).then_some(())?;
        }
        Fate::Answered if own => {
            arrive(model, state, planned);
            settle(model, state, worker, shard);
        }
        Fate::Answered => {
            arrive(model, state, planned);
            if state.leases[shard] == after {
                adopt(model, &mut state.workers[worker], worker, shard, after);
            }
        }
    }
    Some(())
}

/// A write reaches the table. Returns true if it had an effect.
fn arrive(model: &Leases, state: &mut State, planned: Planned) -> bool {
    let plan = model.memory.plan(planned);
    let was = state.leases[plan.shard];
    if !model.memory.holds(planned, was) {
        return false;
    }
    let is = model.memory.updated(planned, was);
    state.leases[plan.shard] = is;
    state.broken |= model.memory.broken(was, is);
    let (seen, found) = (model.memory.facts(plan.seen), model.memory.facts(was));
    if plan.by_owner && (found.owner, found.counter) != (seen.owner, seen.counter) {
        state.broken |= Broken::UNFENCED;
    }
    if is != plan.after {
        state.broken |= Broken::NOT_AS_PLANNED;
    }
    true
}

/// The owner learns how its write ended, from the reply or from the item.
fn settle(model: &Leases, state: &mut State, worker: Worker, shard: Shard) {
    let actual = state.leases[shard];
    let life = state.workers[worker].life;
    let Some(holding) = state.workers[worker].held[shard] else { return };
    let is_mine = |rec: Rec| {
        let (is, mine) = (model.memory.facts(rec), model.memory.facts(holding.seen));
        (is.owner, is.counter) == (mine.owner, mine.counter)
    };
    let known = |rec: Rec| {
        let leaving = holding.leaving && rec == holding.seen;
        Some(Holding { leaving, ..Holding::of(rec) })
    };
    let held = match model.memory.settled((worker, life), holding, actual) {
        Settled::Happened => {
            let written = model.memory.facts(holding.doubt).written;
            for (known, written) in state.acknowledged[shard].iter_mut().zip(written) {
                *known = written.max(*known);
            }
            known(holding.doubt).filter(|_| is_mine(holding.doubt))
        }
        Settled::StillMine => known(actual),
        Settled::Lost => {
            if is_mine(actual) || actual == holding.doubt {
                state.broken |= Broken::LOSS_NOT_PROVEN;
            }
            None
        }
    };
    state.workers[worker].held[shard] = held;
}
