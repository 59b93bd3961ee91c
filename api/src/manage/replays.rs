//! A client's own replays: asked for, looked at and cancelled. Processors do the work, and hold it to the grants.

use store::{
    Client, Replay, ReplayId, ReplayOf, ReplayPart, StoreError, Subscription, SubscriptionId,
};

use super::{Actor, Fault, KeptState, ManageError, Manager};
use crate::audit;

/// Replays of one client that wait or run.
const MAX_ACTIVE: usize = 5;
/// Replays of one client that are kept.
const MAX_KEPT: usize = 100;

/// A replay that is to be made.
#[derive(Debug)]
pub(crate) struct ReplayWanted {
    pub(crate) subscription: String,
    pub(crate) what: ReplayWhat,
    pub(crate) rate_per_second: u32,
}

/// What is to be replayed.
#[derive(Debug)]
pub(crate) enum ReplayWhat {
    /// What arrived, as long as the streams keep it.
    Range { from_ms: i64, to: ReplayUntil, only: Vec<store::MessageId> },
    /// What is kept of deliveries that failed.
    Kept(KeptState, Vec<store::MessageId>),
}

/// The end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayUntil {
    Now,
    Moment(i64),
    /// When the subscription began to get messages as they come.
    Subscribed,
}

/// A replay, with how far it is.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) replay: Replay,
    pub(crate) parts: Vec<ReplayPart>,
}

impl Manager {
    /// Asks for a replay for one of the client's subscriptions.
    pub(crate) async fn replay(
        &self,
        actor: Actor<'_>,
        wanted: ReplayWanted,
    ) -> Result<Replay, ManageError> {
        let now_ms = self.now_ms();
        let subscription = self.subscription(actor.client, &wanted.subscription).await?;
        let what = planned(wanted.what, &subscription, now_ms)?;
        let kept = self.with.replays.of_client(&actor.client.id, now_ms).await?;
        if let Some(why) = too_many(&kept) {
            return Err(ManageError::Conflict(why));
        }
        let id = ReplayId::generate(&mut |bytes| (self.with.random)(bytes));
        let replay = Replay::new(id, subscription.id, what, wanted.rate_per_second, now_ms);
        let by = actor.words();
        let change = store::Change { by: &by, at_ms: now_ms };
        // Before it, for it is kept in another table: an entry without a replay does no harm.
        self.with.subscriptions.note_as("replay.create", replay.id.as_str(), &change).await?;
        match self.with.replays.create_for(&replay, &actor.client.id).await {
            Ok(()) => {
                audit::changed(actor.client, "replay.create", replay.id.as_str());
                Ok(replay)
            }
            // Everything else was looked at before: too many of all clients wait.
            Err(StoreError::Invalid { detail, .. }) => Err(ManageError::Conflict(detail)),
            Err(error) => Err(error.into()),
        }
    }

    /// The client's replays, the newest first.
    pub(crate) async fn replays(&self, client: &Client) -> Result<Vec<Replay>, ManageError> {
        let mut replays = self.with.replays.of_client(&client.id, self.now_ms()).await?;
        replays.truncate(MAX_KEPT);
        Ok(replays)
    }

    /// One of the client's replays, with its parts.
    pub(crate) async fn shown_replay(
        &self,
        client: &Client,
        id: &str,
    ) -> Result<Shown, ManageError> {
        let replay = self.own_replay(client, id).await?;
        let parts = self.with.replays.parts(&replay.id).await?;
        Ok(Shown { replay, parts })
    }

    /// Ends one of the client's replays; what it has made due until then is delivered.
    pub(crate) async fn cancel_replay(
        &self,
        actor: Actor<'_>,
        id: &str,
    ) -> Result<Shown, ManageError> {
        let replay = self.own_replay(actor.client, id).await?;
        let over = || ManageError::Conflict(format!("the replay is {} already", replay.state));
        if replay.state.is_over() {
            return Err(over());
        }
        let (by, at_ms) = (actor.words(), self.now_ms());
        let change = store::Change { by: &by, at_ms };
        self.with.subscriptions.note_as("replay.cancel", replay.id.as_str(), &change).await?;
        match self.with.replays.cancel(&replay.id, at_ms).await? {
            true => {
                audit::changed(actor.client, "replay.cancel", replay.id.as_str());
                self.shown_replay(actor.client, id).await
            }
            false => Err(ManageError::Changed),
        }
    }

    /// A replay is whose subscription's it is.
    async fn own_replay(&self, client: &Client, id: &str) -> Result<Replay, ManageError> {
        let id = ReplayId::parse(id).map_err(|_| ManageError::NotFound)?;
        let found = self.with.replays.get(&id, self.now_ms()).await?;
        let replay = found.ok_or(ManageError::NotFound)?;
        let subscription: &SubscriptionId = &replay.subscription;
        self.subscription(client, subscription.as_str()).await?;
        Ok(replay)
    }
}

/// What is asked for, of this subscription, now.
fn planned(what: ReplayWhat, subscription: &Subscription, now_ms: i64) -> Result<ReplayOf, Fault> {
    let (from_ms, to, only) = match what {
        ReplayWhat::Kept(KeptState::Waits, _) => return Ok(ReplayOf::Parked),
        ReplayWhat::Kept(KeptState::GivenUp, only) => return Ok(ReplayOf::DeadLettered { only }),
        ReplayWhat::Range { from_ms, to, only } => (from_ms.max(0), to, only),
    };
    let to_ms = match to {
        ReplayUntil::Now => now_ms,
        ReplayUntil::Moment(ms) => ms,
        ReplayUntil::Subscribed => subscription.created_at_ms.min(now_ms),
    };
    if to_ms > now_ms {
        let detail =
            "found a time to come, allowed is one up to now: what comes is delivered as it comes";
        return Err(Fault::new("/to", detail));
    }
    if from_ms >= to_ms {
        return Err(Fault::new("/to", "found a time before /from, allowed is one after it"));
    }
    Ok(ReplayOf::Range { from_ms, to_ms, only })
}

/// Why a client that has these replays may ask for no other.
fn too_many(kept: &[Replay]) -> Option<String> {
    let active = kept.iter().filter(|replay| !replay.state.is_over()).count();
    if active >= MAX_ACTIVE {
        return Some(format!(
            "{active} of your replays wait or run, and up to {MAX_ACTIVE} may: let one end, or cancel one"
        ));
    }
    (kept.len() >= MAX_KEPT).then(|| {
        format!("{} of your replays are kept, and up to {MAX_KEPT} are: each is for a fortnight after its end", kept.len())
    })
}
