//! How the keys of a webhook follow each other: a new one signs at once, the old ones for a while beside it, so
//! that a receiver can change over without missing a message. Pure: time is an argument.

use std::time::Duration;

use super::{SigningSecret, SubscriptionError};

/// How long old keys sign beside a new one, unless it is said otherwise.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// Most old keys that sign beside the newest.
pub const MAX_OLD_KEYS: usize = 10;
/// Longest overlap: a key that was replaced because it leaked must end.
const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A key that signs for a destination, and how long.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningKey {
    /// The key.
    pub secret: SigningSecret,
    /// From then on it signs no more, in ms since 1970; `None`: it is not replaced yet.
    pub expires_at_ms: Option<i64>,
}

impl SigningKey {
    /// A key that is in use until it is replaced.
    pub fn current(secret: SigningSecret) -> SigningKey {
        SigningKey { secret, expires_at_ms: None }
    }

    /// It signs at that moment, in ms since 1970.
    pub fn signs_at(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|until_ms| now_ms < until_ms)
    }
}

/// The keys after `secret` replaced the newest of `keys`: newest first, the ended ones gone.
///
/// What signs now signs `overlap` longer, or for as long as was said before, whichever ends sooner.
pub(super) fn rotated(
    keys: &[SigningKey],
    secret: SigningSecret,
    now_ms: i64,
    overlap: Duration,
) -> Result<Vec<SigningKey>, SubscriptionError> {
    if overlap > MAX_OVERLAP {
        return Err(SubscriptionError::Policy {
            field: "the overlap in seconds",
            found: overlap.as_secs(),
            allowed: "up to 604800 (7 days)",
        });
    }
    if keys.iter().any(|key| key.secret == secret) {
        return Err(SubscriptionError::Secret { detail: "it signs here already" });
    }
    let overlap_ms = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
    let end_ms = now_ms.saturating_add(overlap_ms);
    let old = keys.iter().map(|key| SigningKey {
        expires_at_ms: Some(key.expires_at_ms.map_or(end_ms, |until_ms| until_ms.min(end_ms))),
        ..key.clone()
    });
    let old: Vec<SigningKey> = old.filter(|key| key.signs_at(now_ms)).collect();
    if old.len() > MAX_OLD_KEYS {
        return Err(SubscriptionError::Policy {
            field: "the number of old keys that still sign",
            found: old.len() as u64,
            allowed: "up to 10 (end them with a shorter overlap)",
        });
    }
    Ok(std::iter::once(SigningKey::current(secret)).chain(old).collect())
}

/// What is wrong with keys as they are stored, in words.
pub(super) fn check(keys: &[SigningKey]) -> Result<(), String> {
    if !(1..=1 + MAX_OLD_KEYS).contains(&keys.len()) {
        return Err(format!(
            "{} signing keys: 1, and up to {MAX_OLD_KEYS} old ones, are allowed",
            keys.len()
        ));
    }
    if keys[0].expires_at_ms.is_some() {
        return Err("the newest signing key must not expire".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    const DAY: Duration = ROTATION_OVERLAP;
    const DAY_MS: i64 = 86_400_000;

    fn secret(seed: u64) -> SigningSecret {
        SigningSecret::generate(&mut random(seed))
    }

    fn ends(keys: &[SigningKey]) -> Vec<Option<i64>> {
        keys.iter().map(|key| key.expires_at_ms).collect()
    }

    #[test]
    fn the_new_key_comes_first_and_the_old_one_ends_with_the_overlap() {
        let first = rotated(&[SigningKey::current(secret(1))], secret(2), 1_000, DAY).unwrap();
        assert_eq!(ends(&first), [None, Some(1_000 + DAY_MS)]);
        assert_eq!(first[0].secret, secret(2));
        assert!(first[1].signs_at(999 + DAY_MS) && !first[1].signs_at(1_000 + DAY_MS));
        let second = rotated(&first, secret(3), 2_000, DAY).unwrap();
        assert_eq!(ends(&second), [None, Some(2_000 + DAY_MS), Some(1_000 + DAY_MS)]);
        let later = rotated(&second, secret(4), 1_500 + DAY_MS, DAY).unwrap();
        let kept = [None, Some(1_500 + 2 * DAY_MS), Some(2_000 + DAY_MS)];
        assert_eq!(ends(&later), kept, "the oldest has ended");
        check(&later).unwrap();
    }

    #[test]
    fn without_an_overlap_only_the_new_key_signs() {
        let keys =
            rotated(&[SigningKey::current(secret(1))], secret(2), 5, Duration::ZERO).unwrap();
        assert_eq!((keys.len(), &keys[0].secret), (1, &secret(2)));
    }

    #[test]
    fn a_shorter_overlap_ends_older_keys_sooner_and_a_longer_one_keeps_none_alive() {
        let keys = rotated(&[SigningKey::current(secret(1))], secret(2), 0, DAY).unwrap();
        let hurried = rotated(&keys, secret(3), 0, Duration::from_millis(10)).unwrap();
        assert_eq!(ends(&hurried), [None, Some(10), Some(10)]);
        let again = rotated(&hurried, secret(4), 5, DAY).unwrap();
        assert_eq!(ends(&again), [None, Some(5 + DAY_MS), Some(10), Some(10)]);
    }

    #[test]
    fn there_is_a_most_of_old_keys_and_of_the_overlap() {
        let mut keys = vec![SigningKey::current(secret(0))];
        for n in 1..=10 {
            keys = rotated(&keys, secret(n), 0, DAY).unwrap();
        }
        assert_eq!(keys.len(), 1 + MAX_OLD_KEYS);
        check(&keys).unwrap();
        assert!(rotated(&keys, secret(11), 0, DAY).unwrap_err().to_string().contains("11"));
        assert_eq!(rotated(&keys, secret(11), DAY_MS, DAY).unwrap().len(), 2, "once they ended");
        let long = Duration::from_secs(8 * 86_400);
        assert!(
            rotated(&keys[..1], secret(11), 0, long).unwrap_err().to_string().contains("7 days")
        );
        assert!(rotated(&keys[..1], secret(10), 0, DAY).is_err(), "the same key again");
    }

    #[test]
    fn no_key_and_a_newest_key_that_ends_are_refused() {
        assert!(check(&[]).is_err());
        let ending = SigningKey { secret: secret(1), expires_at_ms: Some(9) };
        assert!(check(std::slice::from_ref(&ending)).is_err());
        assert!(check(&vec![SigningKey::current(secret(1)); 12]).is_err());
    }
}
