//! API keys by the command line: made, replaced with an overlap, revoked.

use serde_json::json;
use store::{ApiKey, ClientId, KeyId, KeyRecord, KeyTerms, NewKey, Replaced, StoreError};

use super::args::{IssueArgs, KeyArgs, RevokeArgs, RotateArgs};
use super::{Desk, Outcome, Shown, no_client, refuse, view};
use crate::random;

/// What a key is to be: as given, else as the one that it replaces.
pub(super) fn terms(args: KeyArgs, replaced: Option<&KeyRecord>) -> KeyTerms {
    let networks = match replaced {
        Some(old) if args.allow_ip.is_empty() => old.networks.clone(),
        _ => args.allow_ip,
    };
    let label = args.label.or_else(|| replaced.map(|old| old.label.clone()));
    KeyTerms { label: label.unwrap_or_default(), lifetime: Some(args.lifetime), networks }
}

/// Which of a client's keys a rotation ends at `until_ms`: those that were named, else all that would
/// work for longer. An error is why it cannot be done.
fn plan<'k>(
    keys: &'k [KeyRecord],
    named: &[KeyId],
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<&'k KeyRecord>, String> {
    for id in named {
        match keys.iter().find(|key| key.id == *id) {
            None => return Err(format!("the client has no key {id}")),
            Some(key) if !key.is_live(now_ms) => {
                return Err(format!("key {id} does not work any more: issue makes a new one"));
            }
            Some(_) => {}
        }
    }
    let is_meant = |key: &&KeyRecord| {
        (named.is_empty() || named.contains(&key.id))
            && key.is_live(now_ms)
            && key.expires_at_ms > until_ms
    };
    let mut ended: Vec<&KeyRecord> = keys.iter().filter(is_meant).collect();
    ended.sort_by_key(|key| key.created_at_ms);
    Ok(ended)
}

impl Desk {
    pub(super) async fn make_key(
        &self,
        client: &ClientId,
        terms: KeyTerms,
    ) -> Result<NewKey, StoreError> {
        let key = ApiKey::generate(&mut random::fill);
        self.access.issue_key(key, client, &terms, &self.change()).await
    }

    pub(super) async fn issue(&self, args: IssueArgs) -> Outcome {
        if self.access.get_client(&args.id).await?.is_none() {
            return no_client(&args.id);
        }
        let key = self.make_key(&args.id, terms(args.key, None)).await?;
        Ok(Ok(Shown::object(view::made(&key))))
    }

    pub(super) async fn rotate(&self, args: RotateArgs) -> Outcome {
        if self.access.get_client(&args.id).await?.is_none() {
            return no_client(&args.id);
        }
        let keys = self.access.list_keys(&args.id).await?;
        let overlap_ms = i64::try_from(args.overlap.as_millis()).unwrap_or(i64::MAX);
        let until_ms = self.now_ms.saturating_add(overlap_ms);
        let ended = match plan(&keys, &args.keys, self.now_ms, until_ms) {
            Ok(ended) => ended,
            Err(why) => return refuse(why),
        };
        let ids: Vec<KeyId> = ended.iter().map(|key| key.id.clone()).collect();
        let terms = terms(args.key, ended.last().copied());
        let key = ApiKey::generate(&mut random::fill);
        let replaced = Replaced { keys: &ids, until_ms };
        let change = self.change();
        let new = self.access.replace_keys(key, &args.id, &terms, replaced, &change).await?;
        let mut object = view::made(&new);
        object["replaced_keys"] = json!(ids);
        if !ids.is_empty() {
            object["replaced_keys_end_at"] = view::time(until_ms).into();
        }
        Ok(Ok(Shown::object(object)))
    }

    pub(super) async fn revoke(&self, args: RevokeArgs) -> Outcome {
        let ids = match &args.all_of {
            None => args.keys,
            Some(client) if self.access.get_client(client).await?.is_none() => {
                return no_client(client);
            }
            Some(client) => {
                let keys = self.access.list_keys(client).await?;
                let live = keys.into_iter().filter(|key| key.is_live(self.now_ms));
                live.map(|key| key.id).collect()
            }
        };
        for id in &ids {
            if self.access.get_key(id).await?.is_none() {
                return refuse(format!("there is no key {id}; nothing was revoked"));
            }
        }
        let mut revoked = Vec::new();
        for id in &ids {
            // False: it was revoked before, which is what is wanted.
            self.access.revoke_key(id, &self.change()).await?;
            revoked.push(id.clone());
        }
        Ok(Ok(Shown::object(json!({ "revoked": revoked }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Pepper;

    fn record(n: u8, created_at_ms: i64, expires_at_ms: i64) -> KeyRecord {
        let key = ApiKey::generate(&mut |bytes| bytes.fill(n));
        KeyRecord {
            id: key.id().clone(),
            client: ClientId::parse("cl_1").unwrap(),
            hash: Pepper::new(&[1; 32]).unwrap().hash(&key),
            label: format!("key {n}"),
            created_at_ms,
            expires_at_ms,
            revoked_at_ms: None,
            networks: vec![],
        }
    }

    #[test]
    fn a_rotation_ends_what_would_work_for_longer_than_the_overlap() {
        let mut keys =
            vec![record(1, 30, 900), record(2, 10, 900), record(3, 20, 400), record(4, 0, 90)];
        keys.push(KeyRecord { revoked_at_ms: Some(5), ..record(5, 40, 900) });
        let labels = |named: &[KeyId]| {
            let planned = plan(&keys, named, 100, 500)?;
            Ok::<_, String>(planned.iter().map(|key| key.label.clone()).collect::<Vec<_>>())
        };
        assert_eq!(labels(&[]).unwrap(), ["key 2", "key 1"], "the newest last");
        assert_eq!(labels(&[keys[1].id.clone()]).unwrap(), ["key 2"]);
        assert!(labels(&[keys[2].id.clone()]).unwrap().is_empty(), "ends before the overlap does");
        assert!(labels(&[keys[3].id.clone()]).unwrap_err().contains("does not work any more"));
        assert!(labels(&[keys[4].id.clone()]).unwrap_err().contains("does not work any more"));
        let stranger = KeyId::parse("nobodyskey00").unwrap();
        assert!(labels(&[stranger]).unwrap_err().contains("has no key nobodyskey00"));
    }
}
