//! Which keys of a client end when it gets a new one. Pure.

use super::{KeyId, KeyRecord};

/// Why keys cannot be replaced as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplaced {
    /// A key that was named is not the client's.
    #[error("the client has no key {0}")]
    NotItsOwn(KeyId),
    /// A key that was named has ended already.
    #[error("key {0} does not work any more: issue makes a new one")]
    Ended(KeyId),
}

/// Which of a client's keys a rotation ends at `until_ms`, the newest last: those that were named, else all that would
/// work for longer.
pub fn plan_rotation<'k>(
    keys: &'k [KeyRecord],
    named: &[KeyId],
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<&'k KeyRecord>, NotReplaced> {
    for id in named {
        match keys.iter().find(|key| key.id == *id) {
            None => return Err(NotReplaced::NotItsOwn(id.clone())),
            Some(key) if !key.is_live(now_ms) => return Err(NotReplaced::Ended(id.clone())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{ApiKey, ClientId, Pepper};

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
            let planned = plan_rotation(&keys, named, 100, 500).map_err(|why| why.to_string())?;
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
