//! Strings as they are written, and what they mean.

use std::borrow::Cow;

/// What stands between the quotes of a string. Its escapes are valid; its bytes may not be UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    has_escapes: bool,
}

impl<'a> Text<'a> {
    pub(super) fn plain(raw: &'a [u8]) -> Text<'a> {
        Text { raw, has_escapes: false }
    }

    pub(super) fn escaped(raw: &'a [u8]) -> Text<'a> {
        Text { raw, has_escapes: true }
    }

    /// The bytes as they are written; what they mean when there are no escapes.
    #[inline]
    pub(crate) fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Whether it is written with escapes.
    #[inline]
    pub(crate) fn has_escapes(self) -> bool {
        self.has_escapes
    }

    /// What it means; `None` when that is no Unicode text: bytes that are not UTF-8, or half a
    /// surrogate pair.
    pub(crate) fn meaning(self) -> Option<Cow<'a, str>> {
        let written = str::from_utf8(self.raw).ok()?;
        if !self.has_escapes {
            return Some(Cow::Borrowed(written));
        }
        unescape(written).map(Cow::Owned)
    }
}

/// Undoes escapes that are known to be valid; `None` at half a surrogate pair.
fn unescape(written: &str) -> Option<String> {
    let mut meaning = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = rest.find('\\') {
        meaning.push_str(&rest[..at]);
        let (c, len) = escaped_char(&rest[at..])?;
        meaning.push(c);
        rest = &rest[at + len..];
    }
    meaning.push_str(rest);
    Some(meaning)
}

/// The character that an escape sequence stands for, and how long that is.
fn escaped_char(text: &str) -> Option<(char, usize)> {
    let c = match text.as_bytes().get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        other => char::from(*other),
    };
    Some((c, 2))
}

/// `\uXXXX`, or two of them that are a surrogate pair.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Some((c, 6));
    }
    let pair = [first, unit(6)?];
    let c = char::decode_utf16(pair).next()?.ok()?;
    Some((c, 12))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES * 0x80;

/// The first quote, backslash or control character at or behind `at`; the length if there is none.
#[inline]
pub(super) fn find_special(text: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = text.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of each byte that ends a plain stretch of a string. Bits above the lowest one that
/// is set may be wrong: the subtractions borrow.
#[inline]
fn special_bytes(bytes: u64) -> u64 {
    let control = bytes.wrapping_sub(ONES * 0x20);
    let quote = (bytes ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (bytes ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !bytes & HIGH_BITS
}
