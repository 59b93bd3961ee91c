//! The replays of one client: a row for each, written with it, so that a client's own are found without looking through
//! everybody's.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Replay, ReplayId, ReplayStore};
use crate::access::{ClientId, list_partition_of};
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, ItemReader, SK, expires_at_s, key, n};

/// How long a replay is listed from its creation: twice as long as one is kept after its end.
const LISTED_MS: u128 = 2 * super::REPLAY_RETENTION.as_millis();
/// Replays read at once.
const MAX_PARALLEL: usize = 16;

fn partition(client: &ClientId) -> String {
    list_partition_of("client-replays", client)
}

fn row(client: &ClientId, replay: &Replay) -> Item {
    let mut row = key(partition(client), replay.id.as_str());
    row.insert(EXPIRES_AT.to_owned(), n(expires_at_s(replay.created_at_ms, LISTED_MS)));
    row
}

impl ReplayStore {
    /// [Asks](Self::create) for a replay of one of `client`'s subscriptions, and lists it among the client's.
    pub async fn create_for(&self, replay: &Replay, client: &ClientId) -> Result<(), StoreError> {
        self.create_with(replay, Some(row(client, replay))).await
    }

    /// The replays that were asked for of a client's subscriptions within four weeks and are kept still at `now_ms`, the
    /// newest first.
    pub async fn of_client(
        &self,
        client: &ClientId,
        now_ms: i64,
    ) -> Result<Vec<Replay>, StoreError> {
        let operation = "list a client's replays";
        let rows = self.partition(operation, partition(client)).await?;
        let ids =
            rows.into_iter().map(|row| ItemReader::new(operation, row).parsed(SK, ReplayId::parse));
        let ids: Vec<ReplayId> = ids.collect::<Result<_, _>>()?;
        let reads: Vec<_> = ids.iter().map(|id| self.get(id, now_ms).boxed()).collect();
        let found: Vec<Option<Replay>> =
            stream::iter(reads).buffered(MAX_PARALLEL).try_collect().await?;
        let mut replays: Vec<Replay> = found.into_iter().flatten().collect();
        replays.sort_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
        Ok(replays)
    }
}
