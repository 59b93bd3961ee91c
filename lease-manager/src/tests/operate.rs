//! What an operator sees and does from outside, beside running and stopped workers.

use local_aws::{Effect, Fault, Service};

use super::*;
use crate::operate::{NotAsked, Operator, Pulse, Refusal, SetError, State, StepKind};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

impl World {
    pub(super) fn operator(&self) -> Operator {
        self.operator_of(APP)
    }

    pub(super) fn operator_of(&self, app: &str) -> Operator {
        let options = Options { app: app.to_owned(), ..self.options("operator") };
        let named = self.streams.iter().map(|stream| (stream.name.clone(), stream.initial));
        let time = SharedTimeSource::new(TokioTime(self.clock.clone()));
        Operator::new(self.dynamodb("operator"), options, named.collect(), time)
    }

    async fn state(&self, shard: &str) -> State {
        let survey = self.operator().look(|_| {}).await.unwrap();
        survey.why(&survey.find(shard).unwrap()).unwrap().state
    }
}

fn key(n: u32) -> LeaseKey {
    LeaseKey::parse(format!("shardId-{n:012}")).unwrap()
}

/// A worker with one lease that the test consumes itself.
async fn one_lease(world: &World) -> (LeaseHandle, AbortOnDropHandle<Exit>) {
    let (manager, fleet) = world.manager(world.options("a"));
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    (fleet.next_lease().await.unwrap(), run)
}

#[tokio::test(start_paused = true)]
async fn a_look_tells_who_lives_and_what_became_of_the_leases_of_the_dead() {
    let world = World::new(4, InitialPosition::TrimHorizon).await;
    let (a, b) = (world.start("a"), world.start("b"));
    let half = BTreeMap::from([("a", 2), ("b", 2)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == half).await;
    sleep(SECONDS(5)).await;

    let mut ticks = 0;
    let started = Instant::now();
    let survey = world.operator().look(|_| ticks += 1).await.unwrap();
    assert!((SECONDS(2)..SECONDS(4)).contains(&started.elapsed()) && ticks >= 3, "{ticks}");
    assert!(survey.workers().iter().all(|worker| worker.pulse == Pulse::Moves));
    assert_eq!(survey.workers().iter().map(|worker| worker.leases).collect::<Vec<_>>(), [2, 2]);
    assert!(survey.leases().iter().all(|lease| lease.state == State::Owned));

    let lost = world.leases().await;
    let lost = lost.values().find(|lease| lease.owner == Some(id("b"))).unwrap().shard_id.clone();
    b.kill().await;
    assert_eq!(world.state(lost.as_str()).await, State::Silent);
    let all = BTreeMap::from([("a", 4)]);
    world.until(SECONDS(10), "a owns all", |leases| shares(leases) == all).await;
    sleep(SECONDS(1)).await;
    assert_eq!(world.state(lost.as_str()).await, State::Owned);

    a.shut_down().await;
    let survey = world.operator().look(|_| {}).await.unwrap();
    assert!(survey.leases().iter().all(|lease| lease.state == State::Orphan));
    assert!(survey.workers().iter().all(|worker| worker.pulse == Pulse::Ended));
    let why = survey.why(&key(0)).unwrap();
    assert!(why.next[0].contains("until a worker starts"), "{why:?}");
}

#[tokio::test(start_paused = true)]
async fn without_tables_a_look_names_the_table_that_is_missing() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let error = world.operator_of("elsewhere").look(|_| {}).await.unwrap_err();
    assert!(error.is_missing && error.table == "elsewhere", "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_hands_over_what_an_operator_asks_for() {
    let world = World::new(3, InitialPosition::TrimHorizon).await;
    let (a, _b) = (world.start("a"), world.start("b"));
    let uneven = BTreeMap::from([("a", 2), ("b", 1)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == uneven).await;
    sleep(SECONDS(8)).await;
    let operator = world.operator();
    let survey = operator.look(|_| {}).await.unwrap();
    let mine = |lease: &&crate::operate::LeaseRow| lease.owner == Some(id("a"));
    let lease = survey.leases().iter().find(mine).unwrap().key.clone();
    let unknown = operator.ask_release(&survey, &lease, Some(&id("nobody"))).await;
    assert!(matches!(unknown, Err(NotAsked::Target { .. })), "{unknown:?}");

    let asked = operator.ask_release(&survey, &lease, Some(&id("b"))).await.unwrap();
    let (moved, is) = operator.until_moved(&asked, SECONDS(10), |_| {}).await.unwrap();
    let is = is.unwrap();
    assert!(moved);
    assert_eq!((is.owner, is.counter), (Some(id("b")), asked.counter.next()));
    assert_eq!(a.lost(), 0, "it drained and handed over, nobody took it");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_owner_is_not_asked_and_a_wait_has_an_end() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let (a, _b) = (world.start("a"), world.start("b"));
    let half = BTreeMap::from([("a", 1), ("b", 1)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == half).await;
    sleep(SECONDS(2)).await;
    let operator = world.operator();
    let survey = operator.look(|_| {}).await.unwrap();
    let mine = |lease: &&crate::operate::LeaseRow| lease.owner == Some(id("a"));
    let lease = survey.leases().iter().find(mine).unwrap().key.clone();
    // From here on the owner hears nothing: the mail is left, and nobody acts on it.
    a.kill().await;
    let asked = operator.ask_release(&survey, &lease, None).await.unwrap();
    let (moved, is) = operator.until_moved(&asked, SECONDS(1), |_| {}).await.unwrap();
    assert!(!moved && is.unwrap().owner == Some(id("a")));
    let survey = operator.look(|_| {}).await.unwrap();
    let refused = operator.ask_release(&survey, &lease, None).await.unwrap_err();
    assert!(matches!(refused, NotAsked::Nobody { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_checkpoint_fences_the_owner_and_reading_goes_on_where_it_says() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, run) = one_lease(&world).await;
    handle.checkpoint(progress("50")).await.unwrap();
    let before = world.leases().await[key(0).as_str()].clone();
    let operator = world.operator();
    let survey = operator.look(|_| {}).await.unwrap();
    let position = "20".parse().unwrap();
    let refused = operator.plan_set(&survey, &key(0), &position, None, false).unwrap_err();
    assert!(matches!(refused, Refusal::Owned { .. }), "{refused}");
    assert_eq!(world.leases().await[key(0).as_str()], before);

    let plan = operator.plan_set(&survey, &key(0), &position, None, true).unwrap();
    assert!(plan.steps.iter().all(|step| step.kind == StepKind::ReadAgain), "{plan:?}");
    // The owner goes on while the operator makes up their mind: that is no reason to fail.
    handle.checkpoint(progress("60")).await.unwrap();
    let owned = world.leases().await[key(0).as_str()].clone();
    let done = operator.set(&plan).await.unwrap();
    assert_eq!(done.steps[0].from, at("60"));

    let set = world.leases().await[key(0).as_str()].clone();
    assert_eq!((set.checkpoint.clone(), set.owner.clone()), (at("20"), None));
    assert_eq!(set.counter, owned.counter.next());
    let history = [before, owned, set.clone()];
    invariants::l1_one_writer(&history[1..]).unwrap();
    invariants::l2_counter_rises(&history).unwrap();
    invariants::l3_checkpoint_rises(&history).unwrap();
    assert_eq!(handle.checkpoint(progress("70")).await, Err(CheckpointError::Lost));
    assert_eq!(world.leases().await[key(0).as_str()], set, "nothing of the old owner arrived");
    drop((handle, run));

    let (handle, _run) = one_lease_of(&world, "b").await;
    let after = SequenceNumber::parse("20").unwrap();
    assert_eq!(handle.lease().start(), StartPosition::After { sequence: after, sub_sequence: 0 });
}

async fn one_lease_of(world: &World, worker: &str) -> (LeaseHandle, AbortOnDropHandle<Exit>) {
    let (manager, fleet) = world.manager(world.options(worker));
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    (fleet.next_lease().await.unwrap(), run)
}

#[tokio::test(start_paused = true)]
async fn a_set_checkpoint_whose_reply_is_lost_was_still_set_once() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, run) = one_lease(&world).await;
    handle.checkpoint(progress("50")).await.unwrap();
    drop((handle, run));
    let operator = world.operator();
    sleep(SECONDS(1)).await;
    let survey = operator.look(|_| {}).await.unwrap();
    let position = "at-timestamp:1700000000000".parse().unwrap();
    let plan = operator.plan_set(&survey, &key(0), &position, None, true).unwrap();
    let fault = Fault::new(Service::Dynamodb, Effect::LostReply)
        .caller("operator")
        .operation("UpdateItem")
        .times(1);
    world.aws.faults().inject(fault);
    operator.set(&plan).await.unwrap();
    let set = world.leases().await[key(0).as_str()].clone();
    assert_eq!(
        (set.checkpoint.clone(), set.start_at_ms),
        (Checkpoint::AtTimestamp, Some(1_700_000_000_000))
    );
    assert_eq!(set.counter, plan.counter.next());
    // The same again finds it done, and once somebody else has the lease it does nothing.
    operator.set(&plan).await.unwrap();
    assert_eq!(world.leases().await[key(0).as_str()], set);
    let (_handle, _run) = one_lease_of(&world, "b").await;
    let taken = world.leases().await;
    let late = operator.set(&plan).await.unwrap_err();
    assert!(matches!(late, SetError::Changed { .. }), "{late}");
    assert_eq!(world.leases().await, taken);
}
