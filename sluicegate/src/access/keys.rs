//! API keys by the command line: made, replaced with an overlap, revoked.

use serde_json::json;
use store::{
    ApiKey, ClientId, KeyId, KeyRecord, KeyTerms, NewKey, Replaced, StoreError, plan_rotation,
};

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
        let ended = match plan_rotation(&keys, &args.keys, self.now_ms, until_ms) {
            Ok(ended) => ended,
            Err(why) => return refuse(why.to_string()),
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
