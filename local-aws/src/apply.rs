//! Where a call that was planned is applied: the services, and what each [`Effect`] leaves of the call and of its answer.
//!
//! It decides nothing (that is `faults/`) and knows no HTTP. Start at [`Services::apply_under`].

use crate::ConnectionCut;
use crate::clock::Clock;
use crate::dispatch::{Call, Service};
use crate::dynamodb::DynamoDb;
use crate::faults::{Effect, Faults, Partial, Shown};
use crate::kinesis::Kinesis;
use crate::messaging::Messaging;
use crate::tap::{Seen, Tap};
use crate::wire::Answer;

/// The services and what may go wrong with them.
pub(crate) struct Services {
    pub(crate) dynamodb: DynamoDb,
    pub(crate) kinesis: Kinesis,
    pub(crate) messaging: Messaging,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) tap: Option<Tap>,
    pub(crate) shown: Shown,
}

impl Services {
    /// The service's own answer.
    pub(crate) async fn apply(&self, call: &Call) -> Answer {
        let body = call.body.clone();
        let answer = match call.service {
            Service::Dynamodb => self.dynamodb.handle(&call.operation, body).await,
            Service::Kinesis => self.kinesis.handle(&call.operation, body).await,
            service => self.messaging.handle(service, &call.operation, &body).await,
        };
        if let (Some(tap), Answer::Json { status: 200, body }) = (&self.tap, &answer) {
            let body = body.clone();
            tap.show_writes(&self.dynamodb, call, &body).await;
        }
        answer
    }

    /// Shows the tap what happens to a call.
    pub(crate) fn show(&self, call: &Call, seen: Seen<'_>) {
        if let Some(tap) = &self.tap {
            tap.show(call, seen);
        }
    }

    /// Applies a call, or does not, as the effect of a fault says.
    pub(crate) async fn apply_under(
        &self,
        effect: Effect,
        call: &Call,
    ) -> Result<Answer, ConnectionCut> {
        match effect {
            Effect::Throttle => Ok(call.service.throttled()),
            Effect::Refuse { status, code, message } => Ok(Answer::error(status, &code, &message)),
            Effect::InternalError => Ok(call.service.internal_error()),
            Effect::ErrorAfterApply => {
                self.apply(call).await;
                Ok(call.service.internal_error())
            }
            Effect::LostReply => {
                self.apply(call).await;
                Err(ConnectionCut)
            }
            Effect::Unanswered => {
                self.apply(call).await;
                std::future::pending().await
            }
            Effect::Cut => Err(ConnectionCut),
            Effect::LateApply(after) => {
                let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let due_ms = self.clock.now_ms().saturating_add(after);
                self.faults.postpone(due_ms, call.clone());
                std::future::pending().await
            }
            Effect::Partition => std::future::pending().await,
            Effect::StaleRead => Ok(self.read_stale(call).await),
            Effect::Partial(share) => Ok(self.apply_partially(share, call).await),
            // Spent by now: a latency before this; and what hits streams does so while they are open.
            Effect::Latency(_) | Effect::CutStream | Effect::SilenceStream => {
                Ok(self.apply(call).await)
            }
        }
    }

    async fn read_stale(&self, call: &Call) -> Answer {
        let now_ms = self.clock.now_ms();
        if let Some(shown) = self.shown.again(call, now_ms) {
            return Answer::ok(shown);
        }
        let answer = self.apply(call).await;
        if let Answer::Json { status: 200, body } = &answer {
            self.shown.remember(call, now_ms, body.clone());
        }
        answer
    }

    async fn apply_partially(&self, share: f64, call: &Call) -> Answer {
        let mut rng = self.faults.fork_rng();
        let Some(partial) = Partial::divide(&call.operation, &call.body, share, &mut rng) else {
            return self.apply(call).await;
        };
        let answered = match partial.applied.clone() {
            Some(body) => {
                let call = Call { body, ..call.clone() };
                self.apply(&call).await
            }
            None => match partial.answer_to_nothing() {
                Some(body) => Answer::ok(body),
                None => return call.service.throttled(),
            },
        };
        match answered {
            Answer::Json { status: 200, body } => {
                partial.complete(&body).map_or_else(|| call.service.throttled(), Answer::ok)
            }
            refused => refused,
        }
    }

    /// Applies the calls of [`Effect::LateApply`] whose moment has passed; nobody waits for their answers.
    pub(crate) async fn land_late_calls(&self) {
        for call in self.faults.take_due(self.clock.now_ms()) {
            self.apply(&call).await;
        }
    }
}
