//! The member `ChildShards`: it comes once in a shard's life, at its end.

use lease_manager::{ChildShard, ShardId};
use serde::Deserialize;

use super::Stop;
use crate::json::Scanner;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRange,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

/// Reads the children that the scanner stands before; `null` is none.
pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Vec<ChildShard>, Stop> {
    let begin = scanner.at();
    scanner.skip()?;
    let text = &scanner.text()[begin..scanner.at()];
    let children: Option<Vec<Child>> =
        serde_json::from_slice(text).map_err(|e| Stop::Child(format!("child shards: {e}")))?;
    children.into_iter().flatten().map(child).collect()
}

fn child(wire: Child) -> Result<ChildShard, Stop> {
    let shard_id =
        |text: String| ShardId::parse(text).map_err(|e| Stop::Child(format!("as child: {e}")));
    Ok(ChildShard {
        shard_id: shard_id(wire.shard_id)?,
        parents: wire.parent_shards.into_iter().map(shard_id).collect::<Result<_, _>>()?,
        starting_hash_key: wire.hash_key_range.starting_hash_key,
        ending_hash_key: wire.hash_key_range.ending_hash_key,
    })
}
