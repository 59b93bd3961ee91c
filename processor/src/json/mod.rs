//! JSON text, read in the place where it stands.
//!
//! [`Scanner`] goes over a text value by value, exactly as strict as RFC 8259, and builds nothing:
//! its callers take from it the values that they know and have it pass over the others. Strings
//! come out as they are written ([`Text`]); whether they are UTF-8 is asked where they are used.
//! Nothing here recurses, so no nesting can exhaust the stack, and nothing allocates but for
//! nesting deeper than 64 levels and for strings with escapes that are undone.

mod text;

#[cfg(test)]
mod tests;

pub(crate) use text::Text;

/// Where a text is not JSON, and what would have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Bytes before it.
    pub(crate) at: usize,
    /// What could have stood there.
    pub(crate) wanted: &'static str,
}

impl Broken {
    /// The same, in words for people who have the text in front of them.
    pub(crate) fn describe(self, text: &[u8]) -> String {
        let before = &text[..self.at.min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        let found = match text.get(self.at) {
            Some(byte) => format!("`{}`", byte.escape_ascii()),
            None => "the end".to_owned(),
        };
        format!("{found} at line {line} column {column}, where {} is wanted", self.wanted)
    }
}

/// Goes over a text.
///
/// Its methods are inlined where they are called, so that the place in the text stays in a register
/// there: a store and a load for every token would cost as much as reading it.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner before the first value of `text`.
    pub(crate) fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// Bytes that it has gone over.
    #[inline(always)]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text that is gone over.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The error that something else stands here.
    #[inline(always)]
    pub(crate) fn wanted<T>(&self, wanted: &'static str) -> Result<T, Broken> {
        Err(Broken { at: self.at, wanted })
    }

    #[inline(always)]
    fn byte(&self) -> u8 {
        // No text has a 0 where it could be taken for something else.
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Passes over white space; what stands behind it, 0 at the end of the text.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> u8 {
        // Compact JSON is the rule.
        if self.byte() <= b' ' {
            self.at = text::behind_space(self.text, self.at);
        }
        self.byte()
    }

    /// Passes over `byte`, or says what is wanted instead of what is there.
    #[inline(always)]
    pub(crate) fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), Broken> {
        if self.peek() != byte {
            return self.wanted(wanted);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        self.peek();
        if self.at < self.text.len() { self.wanted("the end") } else { Ok(()) }
    }

    /// The name of an object's next member, and passes over its colon.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Text<'a>, Broken> {
        if self.peek() != b'"' {
            return self.wanted("a member's name");
        }
        let key = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    /// A string whose opening quote [`Scanner::peek`] showed.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Broken> {
        let start = self.at + 1;
        self.at = text::find_special(self.text, start);
        let plain = self.byte() == b'"';
        if !plain {
            self.at = text::end_with_escapes(self.text, self.at)?;
        }
        self.at += 1;
        Ok(Text::new(&self.text[start..self.at - 1], !plain))
    }

    /// What is written between the quotes of a string of decimal digits alone, for whom it is likely: one look at each
    /// byte finds its end and checks it. `None`, and nothing is passed over, when it is anything else.
    #[inline]
    pub(crate) fn digits_string(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        let end = text::behind_digits(self.text, start);
        let whole = self.byte() == b'"' && end > start && self.text.get(end) == Some(&b'"');
        whole.then(|| {
            self.at = end + 1;
            &self.text[start..end]
        })
    }

    /// What is written between the quotes of a string whose opening quote [`Scanner::peek`] showed,
    /// for a caller who checks all of it: no byte of it is looked at here.
    #[inline]
    pub(crate) fn string_unchecked(&mut self) -> Result<&'a [u8], Broken> {
        let start = self.at + 1;
        let mut from = start;
        while let Some(found) = memchr::memchr(b'"', &self.text[from..]) {
            let end = from + found;
            // A quote is escaped when an odd number of backslashes stands right before it.
            let slashes = self.text[start..end].iter().rev().take_while(|b| **b == b'\\').count();
            if slashes.is_multiple_of(2) {
                self.at = end + 1;
                return Ok(&self.text[start..end]);
            }
            from = end + 1;
        }
        self.wanted("a string that ends")
    }

    /// A number whose first byte [`Scanner::peek`] showed, as it is written: ASCII alone.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<&'a [u8], Broken> {
        let start = self.at;
        self.skip_number()?;
        Ok(&self.text[start..self.at])
    }

    /// Passes over exactly these bytes if they are what comes next, for a caller who knows what is likely: one
    /// comparison instead of a look at each byte.
    #[inline(always)]
    pub(crate) fn likely(&mut self, bytes: &[u8]) -> bool {
        let is_next = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(bytes));
        self.at += if is_next { bytes.len() } else { 0 };
        is_next
    }

    #[inline(always)]
    fn skip_number(&mut self) -> Result<(), Broken> {
        self.at += usize::from(self.byte() == b'-');
        match self.byte() {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    /// One digit and those behind it.
    #[inline(always)]
    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        self.at = text::behind_digits(self.text, start);
        if self.at == start { self.wanted("a digit") } else { Ok(()) }
    }

    /// `true`, `false` or `null`.
    #[inline(always)]
    fn word(&mut self, word: &'static str) -> Result<(), Broken> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.wanted("a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a `null` if there is one.
    pub(crate) fn is_null(&mut self) -> Result<bool, Broken> {
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.word("null").map(|()| true)
    }

    /// Whether another member or element follows: behind an opening bracket (`first`) or behind a
    /// value. Passes over the comma, or over `close`.
    #[inline(always)]
    pub(crate) fn more(&mut self, first: bool, close: u8) -> Result<bool, Broken> {
        match self.peek() {
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.at += 1;
                Ok(true)
            }
            _ => self.wanted("`,` or the closing bracket"),
        }
    }

    /// Passes over one value, with all that it holds.
    pub(crate) fn skip(&mut self) -> Result<(), Broken> {
        let mut here = self.clone();
        let result = here.skip_here();
        self.at = here.at;
        result
    }

    #[inline(always)]
    fn skip_here(&mut self) -> Result<(), Broken> {
        let mut open = Nesting::default();
        'value: loop {
            match self.peek() {
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => self.skip_number()?,
                b'{' => {
                    self.at += 1;
                    if self.peek() == b'}' {
                        self.at += 1;
                    } else {
                        open.open(true);
                        self.key()?;
                        continue 'value;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if self.peek() == b']' {
                        self.at += 1;
                    } else {
                        open.open(false);
                        continue 'value;
                    }
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return self.wanted("a value"),
            }
            // Behind a value: closing brackets, then a comma, or the end of it all.
            loop {
                let Some(is_object) = open.innermost() else { return Ok(()) };
                match (self.peek(), is_object) {
                    (b',', _) => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        open.close();
                    }
                    (_, true) => return self.wanted("`,` or `}`"),
                    (_, false) => return self.wanted("`,` or `]`"),
                }
            }
        }
    }
}

/// Which brackets are open, one bit for each: set for an object's.
#[derive(Debug, Default)]
struct Nesting {
    innermost: u64,
    depth: usize,
    /// The bits of those further out, 64 at a time.
    outer: Vec<u64>,
}

impl Nesting {
    #[inline(always)]
    fn open(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.spill();
        }
        self.innermost = self.innermost << 1 | u64::from(is_object);
        self.depth += 1;
    }

    #[inline(always)]
    fn close(&mut self) {
        self.depth -= 1;
        self.innermost >>= 1;
        if self.depth.is_multiple_of(64) {
            self.innermost = self.restore();
        }
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        self.outer.push(self.innermost);
    }

    #[inline(never)]
    fn restore(&mut self) -> u64 {
        self.outer.pop().unwrap_or_default()
    }

    /// Whether the innermost open bracket is an object's; `None` when none is open.
    #[inline(always)]
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.innermost & 1 == 1)
    }
}
