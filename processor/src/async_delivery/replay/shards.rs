//! The shards that a range can be in: all that the streams still have, closed ones too.

use std::sync::Arc;

use aws_smithy_types::error::display::DisplayErrorContext;
use store::ReplaySource;
use tokio::time::timeout;

use super::CALL_TIMEOUT;
use super::plan::{Shard, Shards};
use crate::batch::ShardContext;
use crate::reader::Readers;

/// Pages of one listing; a page has up to 1,000 shards.
const MAX_PAGES: usize = 50;

/// The shards of every stream that is read. An error in words: it passes, or an operator has to look.
pub(super) async fn list(readers: &Readers) -> Result<Shards, String> {
    let mut shards = Shards::new();
    for arn in readers.streams() {
        let arn: Arc<str> = Arc::from(arn);
        let mut token: Option<String> = None;
        for page in 0.. {
            if page == MAX_PAGES {
                return Err(format!("{arn} has more than {MAX_PAGES} pages of shards"));
            }
            let connection = readers.connection();
            let call = connection.client().list_shards();
            let call = match token.take() {
                Some(token) => call.next_token(token),
                None => call.stream_arn(&*arn),
            };
            let answer = timeout(CALL_TIMEOUT, call.send()).await;
            let answer = answer.map_err(|_| format!("ListShards of {arn}: no answer in time"))?;
            let answer =
                answer.map_err(|e| format!("ListShards of {arn}: {}", DisplayErrorContext(e)))?;
            for shard in answer.shards() {
                let (source, shard) = listed(&arn, shard)
                    .ok_or_else(|| format!("ListShards of {arn}: {shard:?} makes no sense"))?;
                shards.insert(source, shard);
            }
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
    }
    Ok(shards)
}

fn listed(arn: &Arc<str>, shard: &aws_sdk_kinesis::types::Shard) -> Option<(ReplaySource, Shard)> {
    let range = shard.hash_key_range()?;
    let shard_id: Arc<str> = Arc::from(shard.shard_id());
    let context = ShardContext {
        stream_arn: Arc::clone(arn),
        shard_id: Arc::clone(&shard_id),
        // Nobody's lease: what is parked here was settled under one, or is for somebody who was not there then.
        fence: 0,
        starting_hash_key: range.starting_hash_key().parse().ok()?,
        ending_hash_key: range.ending_hash_key().parse().ok()?,
    };
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let parents = parents.into_iter().flatten().map(Arc::from).collect();
    let source = ReplaySource::Shard { stream_arn: Arc::clone(arn), shard_id };
    Some((source, Shard { context: Arc::new(context), parents }))
}
