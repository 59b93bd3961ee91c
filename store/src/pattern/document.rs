//! A message as patterns read it: simd-json's tape, made into buffers that are used again.
//!
//! Of a key that comes twice in an object the last one counts, as it does where messages are routed. An
//! integer beyond 64 bits is the double nearest to it.

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::number::Number;

/// A message that no document can be made of: no JSON; or JSON that this reader does not hold (a number
/// beyond a double, half a surrogate pair, nesting beyond 1,024).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read for its content: {detail}")]
pub struct Unreadable {
    /// What was found, and at which byte.
    pub detail: String,
}

/// Buffers that grew for a larger message than this are let go of after it.
const KEPT_BYTES: usize = 256 * 1024;

/// Makes documents of messages. One for each task that asks; its buffers are kept from one message to
/// the next, as long as messages are of ordinary size.
#[derive(Default)]
pub struct Reader {
    /// The message, which the tape's maker writes into.
    copy: Vec<u8>,
    /// From the first message on: most readers are made for a look that is not needed.
    buffers: Option<Buffers>,
    tape: Option<Tape<'static>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("copy_bytes", &self.copy.capacity()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads a message. The document holds the reader until it is dropped.
    ///
    /// # Errors
    /// When it cannot be read; see [`Unreadable`].
    pub fn read(&mut self, message: &[u8]) -> Result<Document<'_>, Unreadable> {
        if self.copy.capacity() > KEPT_BYTES {
            *self = Reader::default();
        }
        self.copy.clear();
        self.copy.extend_from_slice(message);
        let buffers = self.buffers.get_or_insert_default();
        let tape = self.tape.take().unwrap_or(Tape(Vec::new()));
        let mut document = Document { tape: tape.reset(), home: &mut self.tape };
        match simd_json::fill_tape(&mut self.copy, buffers, &mut document.tape) {
            Ok(()) => Ok(document),
            Err(error) => Err(Unreadable { detail: error.to_string() }),
        }
    }
}

/// A message that was read.
pub struct Document<'a> {
    tape: Tape<'a>,
    /// Where the tape is kept for the next message.
    home: &'a mut Option<Tape<'static>>,
}

impl Drop for Document<'_> {
    fn drop(&mut self) {
        let tape = std::mem::replace(&mut self.tape, Tape(Vec::new()));
        *self.home = Some(tape.reset());
    }
}

impl std::fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("nodes", &self.tape.0.len()).finish()
    }
}

impl Document<'_> {
    /// The string at a JSON Pointer, given as its unescaped reference tokens.
    pub fn text_at<'p>(&self, tokens: impl IntoIterator<Item = &'p str>) -> Option<&str> {
        let at = tokens.into_iter().try_fold(self.root(), Value::child)?;
        match at.scalar() {
            Some(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn root(&self) -> Value<'_> {
        Value(&self.tape.0)
    }
}

/// A value of a document: its nodes, the first of which says what it is.
#[derive(Clone, Copy)]
pub(super) struct Value<'a>(&'a [Node<'a>]);

/// A value that holds no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Plain(Plain),
}

/// A scalar that is no string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(Number),
}

impl<'a> Value<'a> {
    pub(super) fn scalar(self) -> Option<Scalar<'a>> {
        Some(match *self.0.first()? {
            Node::String(text) => Scalar::Text(text),
            Node::Static(StaticNode::Null) => Scalar::Plain(Plain::Null),
            Node::Static(StaticNode::Bool(bool)) => Scalar::Plain(Plain::Bool(bool)),
            Node::Static(StaticNode::I64(n)) => number(Number::Integer(n.into())),
            Node::Static(StaticNode::U64(n)) => number(Number::Integer(n.into())),
            Node::Static(StaticNode::F64(n)) => number(Number::of(n)),
            Node::Object { .. } | Node::Array { .. } => return None,
        })
    }

    /// Where in `root`, which it is a part of, its nodes stand.
    pub(super) fn place_in(self, root: Value<'_>) -> std::ops::Range<u32> {
        let bytes = self.0.as_ptr().addr() - root.0.as_ptr().addr();
        let start = bytes / size_of::<Node<'_>>();
        start as u32..(start + self.0.len()) as u32
    }

    /// The part of it that stands there.
    pub(super) fn within(self, place: std::ops::Range<usize>) -> Option<Value<'a>> {
        self.0.get(place).map(Value)
    }

    pub(super) fn is_object(self) -> bool {
        matches!(self.0.first(), Some(Node::Object { .. }))
    }

    pub(super) fn is_array(self) -> bool {
        matches!(self.0.first(), Some(Node::Array { .. }))
    }

    /// An object's members in order; of anything else none.
    pub(super) fn members(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let mut rest = match self.0 {
            [Node::Object { .. }, rest @ ..] => rest,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let [Node::String(key), behind @ ..] = rest else { return None };
            let (value, behind) = split(behind)?;
            rest = behind;
            Some((*key, value))
        })
    }

    /// An object's member; the last one if the key comes more than once.
    pub(super) fn member(self, key: &str) -> Option<Value<'a>> {
        self.members().filter(|(found, _)| *found == key).last().map(|(_, value)| value)
    }

    /// An array's elements; of anything else none.
    pub(super) fn elements(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = match self.0 {
            [Node::Array { .. }, rest @ ..] => rest,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (value, behind) = split(rest)?;
            rest = behind;
            Some(value)
        })
    }

    /// The value itself, or if it is an array, what is in it and in the arrays in it: never an array.
    pub(super) fn spread(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            // An array's elements stand right behind its head.
            while let [Node::Array { .. }, behind @ ..] = rest {
                rest = behind;
            }
            let (value, behind) = split(rest)?;
            rest = behind;
            Some(value)
        })
    }

    fn child(self, token: &str) -> Option<Value<'a>> {
        if !self.is_array() {
            return self.member(token);
        }
        let is_plain = token == "0" || !token.starts_with(['0', '+']);
        self.elements().nth(token.parse().ok().filter(|_| is_plain)?)
    }
}

fn number(number: Number) -> Scalar<'static> {
    Scalar::Plain(Plain::Number(number))
}

/// The first value of some nodes, and what stands behind it.
fn split<'a>(nodes: &'a [Node<'a>]) -> Option<(Value<'a>, &'a [Node<'a>])> {
    let length = match nodes.first()? {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        _ => 1,
    };
    let (value, behind) = nodes.split_at_checked(length)?;
    Some((Value(value), behind))
}
