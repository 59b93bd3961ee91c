//! KPL aggregates: many user records in one record of the stream.
//!
//! `F3 89 9A C2`, a protobuf message, and its MD5. A record that begins like one and cannot be
//! taken apart is broken as a whole: it comes out as an error, never as some of its records. What
//! begins otherwise is no aggregate. No JSON begins with these bytes: they are not UTF-8.

use std::ops::Range;

use bytes::Buf;
use md5::{Digest, Md5};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// How every aggregate begins.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// How every aggregate ends: an MD5 of the message between.
const DIGEST_BYTES: usize = 16;

/// One user record of an aggregate; what it holds are ranges of the aggregate's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserRecord {
    /// UTF-8.
    pub(super) partition_key: Range<usize>,
    /// The explicit hash key, else the MD5 of the partition key.
    pub(super) hash_key: u128,
    pub(super) data: Range<usize>,
}

/// Why an aggregate cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokenAggregate {
    #[error(
        "a KPL aggregate of {bytes} bytes has no room for its message and the 16 bytes of its digest"
    )]
    TooShort { bytes: usize },
    #[error("the digest of a KPL aggregate does not fit its {bytes} bytes of message")]
    Digest { bytes: usize },
    #[error("the message of a KPL aggregate is not an AggregatedRecord: {detail}")]
    Protobuf { detail: String },
    #[error("a KPL aggregate of more than {max} user records is refused")]
    TooMany { max: usize },
    #[error("user record {index} of a KPL aggregate has no {field}")]
    Missing { index: usize, field: &'static str },
    #[error("user record {index} of a KPL aggregate names {table} {found}; there are {len}")]
    NoSuchKey { index: usize, table: &'static str, found: u64, len: usize },
    #[error("explicit hash key {at} of a KPL aggregate is `{found}`, not a decimal of 128 bits")]
    HashKey { at: usize, found: String },
}

/// Whether a record begins as an aggregate does.
#[inline]
pub(super) fn is_aggregate(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// Takes aggregates apart, one after the other; its tables are as good for one as for another.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    partition_keys: Vec<PartitionKey>,
    explicit_hash_keys: Vec<u128>,
    drafts: Vec<Draft>,
    records: Vec<UserRecord>,
}

/// A partition key of the aggregate's table, and its hash once somebody asked for it.
#[derive(Debug)]
struct PartitionKey {
    range: Range<usize>,
    hash: Option<u128>,
}

/// A user record as it was written: the tables may stand behind it.
#[derive(Debug, Default)]
struct Draft {
    partition_key: Option<u64>,
    explicit_hash_key: Option<u64>,
    data: Option<Range<usize>>,
}

impl Splitter {
    /// Takes an aggregate apart; `data` begins with the magic. The records come in its order.
    pub(super) fn split(
        &mut self,
        data: &[u8],
        max_user_records: usize,
    ) -> Result<&[UserRecord], BrokenAggregate> {
        self.partition_keys.clear();
        self.explicit_hash_keys.clear();
        self.drafts.clear();
        self.records.clear();
        if data.len() <= MAGIC.len() + DIGEST_BYTES {
            return Err(BrokenAggregate::TooShort { bytes: data.len() });
        }
        let end = data.len() - DIGEST_BYTES;
        if Md5::digest(&data[MAGIC.len()..end])[..] != data[end..] {
            return Err(BrokenAggregate::Digest { bytes: end - MAGIC.len() });
        }
        self.read(&data[..end], max_user_records)?;
        for index in 0..self.drafts.len() {
            let record = self.user_record(data, index)?;
            self.records.push(record);
        }
        Ok(&self.records)
    }

    /// Reads the message behind the magic. Of its fields there are at most three for a user record:
    /// itself and an entry in each table.
    fn read(&mut self, data: &[u8], max: usize) -> Result<(), BrokenAggregate> {
        let mut fields = Fields { data, rest: &data[MAGIC.len()..] };
        let mut count = 0;
        while let Some((tag, wire_type)) = fields.next()? {
            count += 1;
            if self.drafts.len() + usize::from(tag == 3) > max || count > max.saturating_mul(3) {
                return Err(BrokenAggregate::TooMany { max });
            }
            match tag {
                1 => {
                    let range = fields.text(wire_type)?;
                    self.partition_keys.push(PartitionKey { range, hash: None });
                }
                2 => {
                    let range = fields.text(wire_type)?;
                    let at = self.explicit_hash_keys.len();
                    self.explicit_hash_keys.push(explicit_hash_key(at, &data[range])?);
                }
                3 => {
                    let range = fields.bytes(wire_type)?;
                    self.drafts.push(draft(data, range)?);
                }
                _ => fields.skip(tag, wire_type)?,
            }
        }
        Ok(())
    }

    fn user_record(&mut self, data: &[u8], index: usize) -> Result<UserRecord, BrokenAggregate> {
        let draft = &self.drafts[index];
        let missing = |field| BrokenAggregate::Missing { index, field };
        let no_such = |table, found, len| BrokenAggregate::NoSuchKey { index, table, found, len };
        let key_at = draft.partition_key.ok_or_else(|| missing("partition_key_index"))?;
        let keys = self.partition_keys.len();
        let key = entry(&mut self.partition_keys, key_at)
            .ok_or_else(|| no_such("partition key", key_at, keys))?;
        let hash_keys = self.explicit_hash_keys.len();
        let hash_key = match draft.explicit_hash_key {
            None => *key.hash.get_or_insert_with(|| {
                u128::from_be_bytes(Md5::digest(&data[key.range.clone()]).into())
            }),
            Some(at) => *entry(&mut self.explicit_hash_keys, at)
                .ok_or_else(|| no_such("explicit hash key", at, hash_keys))?,
        };
        Ok(UserRecord {
            partition_key: key.range.clone(),
            hash_key,
            data: draft.data.clone().ok_or_else(|| missing("data"))?,
        })
    }
}

/// A user record's fields. Its tags are passed over.
fn draft(data: &[u8], range: Range<usize>) -> Result<Draft, BrokenAggregate> {
    let mut draft = Draft::default();
    let mut fields = Fields { data: &data[..range.end], rest: &data[range] };
    while let Some((tag, wire_type)) = fields.next()? {
        match tag {
            1 => draft.partition_key = Some(fields.number(wire_type)?),
            2 => draft.explicit_hash_key = Some(fields.number(wire_type)?),
            3 => draft.data = Some(fields.bytes(wire_type)?),
            _ => fields.skip(tag, wire_type)?,
        }
    }
    Ok(draft)
}

/// The fields of a protobuf message that reaches to the end of `data`.
struct Fields<'a> {
    data: &'a [u8],
    rest: &'a [u8],
}

impl Fields<'_> {
    /// The next field's tag and how it is written.
    fn next(&mut self) -> Result<Option<(u32, WireType)>, BrokenAggregate> {
        match self.rest.has_remaining() {
            true => decode_key(&mut self.rest).map(Some).map_err(protobuf),
            false => Ok(None),
        }
    }

    fn number(&mut self, wire_type: WireType) -> Result<u64, BrokenAggregate> {
        match wire_type {
            WireType::Varint => decode_varint(&mut self.rest).map_err(protobuf),
            other => Err(unexpected(other)),
        }
    }

    /// Where in `data` the field's bytes are.
    fn bytes(&mut self, wire_type: WireType) -> Result<Range<usize>, BrokenAggregate> {
        if wire_type != WireType::LengthDelimited {
            return Err(unexpected(wire_type));
        }
        let len = decode_varint(&mut self.rest).map_err(protobuf)?;
        let start = self.data.len() - self.rest.len();
        match usize::try_from(len) {
            Ok(len) if len <= self.rest.len() => {
                self.rest = &self.rest[len..];
                Ok(start..start + len)
            }
            _ => {
                let left = self.rest.len();
                let detail = format!("a field of {len} bytes where {left} are left");
                Err(BrokenAggregate::Protobuf { detail })
            }
        }
    }

    /// The same, of bytes that must be UTF-8.
    fn text(&mut self, wire_type: WireType) -> Result<Range<usize>, BrokenAggregate> {
        let range = self.bytes(wire_type)?;
        match str::from_utf8(&self.data[range.clone()]) {
            Ok(_) => Ok(range),
            Err(error) => {
                let detail = format!("a key that is not UTF-8: {error}");
                Err(BrokenAggregate::Protobuf { detail })
            }
        }
    }

    fn skip(&mut self, tag: u32, wire_type: WireType) -> Result<(), BrokenAggregate> {
        skip_field(wire_type, tag, &mut self.rest, DecodeContext::default()).map_err(protobuf)
    }
}

fn protobuf(error: prost::DecodeError) -> BrokenAggregate {
    BrokenAggregate::Protobuf { detail: error.to_string() }
}

fn unexpected(wire_type: WireType) -> BrokenAggregate {
    BrokenAggregate::Protobuf { detail: format!("a field is written as {wire_type:?}") }
}

fn explicit_hash_key(at: usize, text: &[u8]) -> Result<u128, BrokenAggregate> {
    // `parse` would take a sign.
    let digits = text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).unwrap_or_default();
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| BrokenAggregate::HashKey { at, found: text.chars().take(40).collect() })
}

fn entry<T>(table: &mut [T], at: u64) -> Option<&mut T> {
    table.get_mut(usize::try_from(at).ok()?)
}
