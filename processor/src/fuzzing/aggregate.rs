//! KPL aggregates.

use bytes::Bytes;
use md5::{Digest, Md5};

use super::event_of;
use crate::batch::{Entry, Malformed};
use crate::decode::{DecodeOptions, OutOfRange, decode};
use crate::integration::Integrations;

pub(super) const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const MAX_USER_RECORDS: usize = 64;
const LAST_HASH_KEY: u128 = u128::MAX / 2;

/// The first byte says what the rest is: a whole record, the protobuf message of an aggregate with its digest made right, or material for
/// user records to be aggregated.
///
/// An aggregate comes apart into user records in order, which aggregated again come apart into the same; or it is one malformed entry with
/// all its bytes. What was aggregated here comes out as it went in.
pub fn aggregate(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    match how % 3 {
        0 => sound(rest.to_vec().into()),
        1 => sound(sealed(rest)),
        _ => {
            let users = user_records(rest);
            if users.is_empty() {
                return;
            }
            let data = sealed(&message(&users));
            assert_eq!(apart(&data, OutOfRange::Keep).unwrap(), users);
            sound(data);
        }
    }
}

/// Partition key and data.
type User = (String, Bytes);

fn sound(data: Bytes) {
    let Some(users) = apart(&data, OutOfRange::Keep) else { return };
    assert!(users.len() <= MAX_USER_RECORDS);
    // An aggregate of nothing at all is broken.
    if users.is_empty() {
        return;
    }
    assert_eq!(apart(&sealed(&message(&users)), OutOfRange::Keep).unwrap(), users);
    let inside = apart(&data, OutOfRange::Drop).unwrap();
    let mut all = users.iter();
    assert!(inside.iter().all(|user| all.any(|other| other == user)), "in the same order");
}

/// User records of a record; `None` when it is no aggregate, or a broken one.
fn apart(data: &Bytes, out_of_range: OutOfRange) -> Option<Vec<User>> {
    let none = Integrations::compile(Vec::new()).unwrap();
    let options = DecodeOptions { out_of_range, max_user_records: MAX_USER_RECORDS };
    let batch = decode(event_of(data, LAST_HASH_KEY), &none, &options);
    let entries = &batch.entries;
    assert!(entries.is_sorted_by(|a, b| batch.place(a) < batch.place(b)), "{entries:?}");
    let broken = |bad: &Malformed| bad.reason == store::DeadReason::BrokenAggregate;
    if !data.starts_with(&MAGIC) || batch.malformed.iter().any(broken) {
        assert_eq!(entries.len(), 1, "as one");
        assert_eq!(batch.payload(&entries[0]), data, "with all its bytes");
        return None;
    }
    let user = |entry: &Entry| (batch.partition_key(entry).to_owned(), batch.payload(entry));
    Some(entries.iter().map(user).collect())
}

/// Cuts bytes into user records: a byte for the key's length, one for the data's, and those.
fn user_records(mut bytes: &[u8]) -> Vec<User> {
    let mut users = Vec::new();
    while users.len() < MAX_USER_RECORDS
        && let [key, data, rest @ ..] = bytes
    {
        let (key, rest) = rest.split_at(usize::from(*key).min(rest.len()));
        let (data, rest) = rest.split_at(usize::from(*data).min(rest.len()));
        users.push((String::from_utf8_lossy(key).into_owned(), Bytes::copy_from_slice(data)));
        bytes = rest;
    }
    users
}

/// The protobuf message of these user records, each with a key of its own in the table.
fn message(users: &[User]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, _) in users {
        field(&mut message, 1, key.as_bytes());
    }
    for (index, (_, data)) in users.iter().enumerate() {
        let mut record = vec![0x08];
        varint(&mut record, index);
        field(&mut record, 3, data);
        field(&mut message, 3, &record);
    }
    message
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An aggregate of this protobuf message with the right digest.
fn sealed(message: &[u8]) -> Bytes {
    [&MAGIC, message, &Md5::digest(message)[..]].concat().into()
}
