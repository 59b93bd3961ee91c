//! Strings as they are written, what they mean, and how far the stretches of a text go.
//!
//! Short stretches are gone over eight bytes at a time, in an integer; long ones by memchr.

use std::borrow::Cow;

use super::Broken;

/// What stands between the quotes of a string. Its escapes are valid; its bytes may not be UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    has_escapes: bool,
}

impl<'a> Text<'a> {
    #[inline(always)]
    pub(super) fn new(raw: &'a [u8], has_escapes: bool) -> Text<'a> {
        Text { raw, has_escapes }
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

    /// The bytes of what it means, under the same condition: short texts are nearly always ASCII, and that is seen at a
    /// glance.
    #[inline]
    pub(crate) fn meaning_bytes(self) -> Option<Cow<'a, [u8]>> {
        if !self.has_escapes && self.raw.is_ascii() {
            return Some(Cow::Borrowed(self.raw));
        }
        Some(match self.meaning()? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
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

/// The end of a string with escapes, seen from its first special byte: where its quote is.
#[inline(never)]
pub(super) fn end_with_escapes(text: &[u8], mut at: usize) -> Result<usize, Broken> {
    loop {
        at = match text.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => find_special(text, behind_escape(text, at)?),
            _ => return Err(Broken { at, wanted: "the rest of a string" }),
        };
    }
}

fn behind_escape(text: &[u8], at: usize) -> Result<usize, Broken> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match text.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err(Broken { at, wanted: "`\\u` and four hexadecimal digits" }),
        },
        _ => Err(Broken { at, wanted: "an escape sequence" }),
    }
}

/// The first byte at or behind `at` that is no white space.
#[inline(never)]
pub(super) fn behind_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The first quote, backslash or control character at or behind `at`; the length if there is none.
#[inline(always)]
pub(super) fn find_special(text: &[u8], at: usize) -> usize {
    // Most strings are short.
    for at in [at, at + 8, at + 16, at + 24] {
        let Some(bytes) = eight(text, at) else { break };
        let special = swar::special(bytes);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
    }
    find_special_far(text, at)
}

/// The same, of a string that may be long.
#[inline(never)]
fn find_special_far(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let plain = &rest[..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())];
    // All of it is looked at, many bytes at a time: a control character is an error, and rare.
    if plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ' {
        return at + plain.iter().take_while(|byte| **byte >= b' ').count();
    }
    at + plain.len()
}

/// The first byte at or behind `at` that is no digit.
#[inline(always)]
pub(super) fn behind_digits(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = eight(text, at) {
        let others = swar::no_digits(bytes);
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Eight bytes from `at` on, the first one lowest.
#[inline(always)]
fn eight(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Eight bytes at a time, in an integer. Of what these find only the lowest is sure: the
/// subtractions borrow.
mod swar {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = ONES * 0x80;

    /// The high bit of each byte that ends a plain stretch of a string.
    #[inline(always)]
    pub(super) fn special(bytes: u64) -> u64 {
        let control = bytes.wrapping_sub(ONES * 0x20);
        let quote = (bytes ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (bytes ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        (control | quote | backslash) & !bytes & HIGH_BITS
    }

    /// The high bit of each byte that is no digit.
    #[inline(always)]
    pub(super) fn no_digits(bytes: u64) -> u64 {
        let above_nine = bytes.wrapping_add(ONES * (0x7f - b'9' as u64));
        let below_zero = bytes.wrapping_sub(ONES * b'0' as u64);
        (above_nine | below_zero | bytes) & HIGH_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..20_000 {
            let mut bytes = vec![0; rng.usize(..80)];
            bytes.fill_with(|| if rng.u32(..40) == 0 { rng.u8(..) } else { rng.u8(b'#'..b'\\') });
            let is_special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
            let wanted = bytes.iter().position(is_special).unwrap_or(bytes.len());
            assert_eq!(find_special(&bytes, 0), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn digits_end_where_they_do() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..20_000 {
            let digits = rng.usize(..20);
            let mut text = vec![0; digits];
            text.fill_with(|| rng.u8(b'0'..=b'9'));
            text.extend((0..rng.usize(..12)).map(|_| rng.u8(..)));
            let wanted = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
            assert_eq!(behind_digits(&text, 0), wanted, "{text:?}");
        }
    }
}
