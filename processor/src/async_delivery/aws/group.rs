//! The group of a message in a FIFO queue or topic: its partition key, where AWS allows it. Pure.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Longest group of SQS and SNS, in characters.
const MAX_GROUP: usize = 128;
/// Groups that are hashes begin with this.
const HASHED: &str = "sha256:";

/// The group of a partition key. AWS allows up to 128 letters, digits and marks of ASCII; any other key (empty,
/// longer, with spaces or letters beyond ASCII) stands as the hash of its UTF-8, and so does one that looks like
/// such a hash, so that two keys never share a group.
pub(super) fn of(partition_key: &str) -> String {
    let is_plain = (1..=MAX_GROUP).contains(&partition_key.len())
        && partition_key.bytes().all(|b| b.is_ascii_graphic())
        && !partition_key.starts_with(HASHED);
    if is_plain {
        partition_key.to_owned()
    } else {
        format!("{HASHED}{}", HEXLOWER.encode(&Sha256::digest(partition_key.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_key_is_its_own_group() {
        for key in ["a", "order-1", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", &"k".repeat(128)] {
            assert_eq!(of(key), key);
        }
    }

    #[test]
    fn any_other_key_is_hashed_and_no_two_share_a_group() {
        let long = "k".repeat(129);
        let hash_of_empty =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(""), hash_of_empty);
        let groups: Vec<String> =
            ["", "a b", "Zürich", "tab\t", &long, hash_of_empty].into_iter().map(of).collect();
        for (index, group) in groups.iter().enumerate() {
            assert!(group.starts_with(HASHED) && group.len() == 71, "{group}");
            assert!(!groups[..index].contains(group), "{group}");
        }
    }
}
