//! [`FieldMask`]: which fields of a message a grant shows.
//!
//! An allow-list of JSON Pointers. What is kept is copied from the message byte for byte, so numbers and texts stay
//! as their producer wrote them. Arrays are passed through: `/items/price` is the `price` of every element of `items`,
//! and `0` is the name of a member, never an index. A message that is no JSON has no fields, so nothing of it is
//! shown. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::pointer::{Pointer, PointerError};

/// The most fields of one mask.
pub const MAX_MASK_FIELDS: usize = 64;
/// Arrays directly inside each other that are passed through; what lies deeper is not shown.
const MAX_NESTED_ARRAYS: usize = 8;

/// Why something is no mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldMaskError {
    /// It has no field, or too many.
    #[error(
        "{found} fields: 1 to {MAX_MASK_FIELDS} are allowed; without a mask every field is shown"
    )]
    Count {
        /// How many.
        found: usize,
    },
    /// A field is no JSON Pointer to a member.
    #[error(transparent)]
    Pointer(#[from] PointerError),
}

/// The fields that may be seen. See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldMask {
    pointers: Vec<Pointer>,
    root: Node,
}

/// What is shown of an object.
#[derive(Clone, Default, PartialEq, Eq)]
struct Node {
    members: BTreeMap<Box<str>, Shown>,
}

#[derive(Clone, PartialEq, Eq)]
enum Shown {
    Whole,
    Part(Node),
}

impl FieldMask {
    /// A mask of these JSON Pointers (RFC 6901).
    ///
    /// # Errors
    /// When there is none or more than [`MAX_MASK_FIELDS`], or one is no pointer to a member.
    pub fn new<T: AsRef<str>>(pointers: &[T]) -> Result<FieldMask, FieldMaskError> {
        if pointers.is_empty() || pointers.len() > MAX_MASK_FIELDS {
            return Err(FieldMaskError::Count { found: pointers.len() });
        }
        let parsed = pointers.iter().map(|pointer| Pointer::parse(pointer.as_ref()));
        let pointers: Vec<Pointer> = parsed.collect::<Result<_, _>>()?;
        let mut root = Node::default();
        for pointer in &pointers {
            root.show(&pointer.tokens().collect::<Vec<_>>());
        }
        Ok(FieldMask { pointers, root })
    }

    /// The pointers, as they were given.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.pointers.iter().map(Pointer::as_str)
    }

    /// A short name of this choice of fields, whatever their order.
    pub fn fingerprint(&self) -> u32 {
        let mut sorted: Vec<&str> = self.pointers().collect();
        sorted.sort_unstable();
        sorted.dedup();
        crc32fast::hash(sorted.join("\n").as_bytes())
    }

    /// What is left of a message; `None` if it is no JSON object or array, so that nothing is.
    pub fn apply(&self, message: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(message).ok()?;
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        let mut out = Vec::with_capacity(message.len().min(4_096));
        self.root.write(raw, 0, &mut out).then_some(out)
    }

    /// Shows also what `other` shows.
    pub(super) fn widen(&mut self, other: &FieldMask) {
        self.root.merge(&other.root);
        self.pointers.extend(other.pointers.iter().cloned());
        self.pointers.sort_unstable();
        self.pointers.dedup();
    }
}

impl Node {
    fn show(&mut self, tokens: &[&str]) {
        let [first, rest @ ..] = tokens else { return };
        if rest.is_empty() {
            self.members.insert((*first).into(), Shown::Whole);
            return;
        }
        let member = self.members.entry((*first).into());
        if let Shown::Part(node) = member.or_insert_with(|| Shown::Part(Node::default())) {
            node.show(rest);
        }
    }

    fn merge(&mut self, other: &Node) {
        for (name, shown) in &other.members {
            match (self.members.get_mut(name), shown) {
                (Some(Shown::Whole), _) => {}
                (Some(Shown::Part(mine)), Shown::Part(theirs)) => mine.merge(theirs),
                _ => {
                    self.members.insert(name.clone(), shown.clone());
                }
            }
        }
    }

    /// Writes what is shown of `raw`; false, and nothing written, if that is nothing at all.
    fn write(&self, raw: &RawValue, nested_arrays: usize, out: &mut Vec<u8>) -> bool {
        match raw.get().as_bytes().first() {
            Some(b'{') => self.write_object(raw, out),
            Some(b'[') if nested_arrays < MAX_NESTED_ARRAYS => {
                self.write_array(raw, nested_arrays + 1, out)
            }
            _ => false,
        }
    }

    fn write_object(&self, raw: &RawValue, out: &mut Vec<u8>) -> bool {
        let Ok(Members(members)) = serde_json::from_str(raw.get()) else { return false };
        out.push(b'{');
        let mut first = true;
        for (written, value) in members {
            let Ok(name) = serde_json::from_str::<String>(written.get()) else { continue };
            let Some(shown) = self.members.get(name.as_str()) else { continue };
            let before = out.len();
            if !first {
                out.push(b',');
            }
            out.extend_from_slice(written.get().as_bytes());
            out.push(b':');
            let something = match shown {
                Shown::Whole => {
                    out.extend_from_slice(value.get().as_bytes());
                    true
                }
                Shown::Part(node) => node.write(value, 0, out),
            };
            if something {
                first = false;
            } else {
                out.truncate(before);
            }
        }
        out.push(b'}');
        true
    }

    fn write_array(&self, raw: &RawValue, nested_arrays: usize, out: &mut Vec<u8>) -> bool {
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else { return false };
        out.push(b'[');
        let mut first = true;
        for element in elements {
            let before = out.len();
            if !first {
                out.push(b',');
            }
            if self.write(element, nested_arrays, out) {
                first = false;
            } else {
                out.truncate(before);
            }
        }
        out.push(b']');
        true
    }
}

/// The members of an object as they are written, in order, also those that come twice.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Members)
    }
}

impl Serialize for FieldMask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pointers())
    }
}

impl<'de> Deserialize<'de> for FieldMask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldMask, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = FieldMask;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {MAX_MASK_FIELDS} JSON Pointers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FieldMask, A::Error> {
                let mut pointers: Vec<String> = Vec::new();
                while let Some(pointer) = seq.next_element()? {
                    pointers.push(pointer);
                    if pointers.len() > MAX_MASK_FIELDS {
                        break;
                    }
                }
                FieldMask::new(&pointers).map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

impl fmt::Debug for FieldMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pointers()).finish()
    }
}
