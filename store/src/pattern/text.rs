//! What is asked of a string. Every test costs at most the string's length and the pattern's, added.

use super::MAX_WILDCARDS;

/// A test of a string; those that ignore case hold their text in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TextTest {
    Prefix(Box<str>),
    PrefixIgnoringCase(Box<str>),
    Suffix(Box<str>),
    SuffixIgnoringCase(Box<str>),
    EqualIgnoringCase(Box<str>),
    Wildcard(Wildcard),
}

impl TextTest {
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            TextTest::Prefix(prefix) => text.starts_with(&**prefix),
            TextTest::Suffix(suffix) => text.ends_with(&**suffix),
            TextTest::PrefixIgnoringCase(prefix) => begins_with(lower(text), prefix.chars()),
            TextTest::SuffixIgnoringCase(suffix) => {
                begins_with(lower(text).rev(), suffix.chars().rev())
            }
            TextTest::EqualIgnoringCase(wanted) => lower(text).eq(wanted.chars()),
            TextTest::Wildcard(wildcard) => wildcard.holds(text),
        }
    }
}

/// The text's characters in lower case, by Unicode's own table and no language's.
pub(super) fn lower(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn begins_with(mut text: impl Iterator<Item = char>, wanted: impl Iterator<Item = char>) -> bool {
    wanted.into_iter().all(|wanted| text.next() == Some(wanted))
}

/// A text in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wildcard {
    /// What stands before, between and behind the `*`; one piece when there is none.
    pieces: Vec<Box<str>>,
}

impl Wildcard {
    /// Reads it: `\*` and `\\` stand for themselves. The error says what is allowed.
    pub(super) fn parse(text: &str) -> Result<Wildcard, &'static str> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match (c, rest.peek()) {
                ('*', Some('*')) => {
                    return Err("one `*` beside another says nothing more: write one");
                }
                ('*', _) => pieces.push(std::mem::take(&mut piece).into_boxed_str()),
                ('\\', Some('*' | '\\')) => piece.extend(rest.next()),
                ('\\', _) => return Err("a `\\` must be followed by `*` or `\\`"),
                (c, _) => piece.push(c),
            }
        }
        if pieces.len() > MAX_WILDCARDS {
            return Err("up to 8 `*` are allowed in one wildcard");
        }
        pieces.push(piece.into_boxed_str());
        Ok(Wildcard { pieces })
    }

    /// Each piece is taken where it comes first: what is left is then the most there can be.
    fn holds(&self, text: &str) -> bool {
        let (first, rest) = match self.pieces.split_first() {
            Some((only, [])) => return text == &**only,
            Some(split) => split,
            None => return false,
        };
        let Some((last, between)) = rest.split_last() else { return false };
        let Some(mut text) = text.strip_prefix(&**first) else { return false };
        for piece in between {
            let Some(at) = text.find(&**piece) else { return false };
            text = &text[at + piece.len()..];
        }
        text.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_any_characters() {
        let holds = |pattern: &str, text| Wildcard::parse(pattern).unwrap().holds(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "a-b-b-c"),
            ("*lib*", "/usr/lib/x"),
            ("", ""),
            ("exact", "exact"),
            (r"2\*3", "2*3"),
            (r"a\\*", r"a\b"),
            ("é*", "été"),
            ("*ab*b", "abab"),
        ] {
            assert!(holds(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*a", "a"),
            ("a*b*c", "ac"),
            ("exact", "exactly"),
            (r"2\*3", "2x3"),
            ("*ab*ab", "ab"),
        ] {
            assert!(!holds(pattern, text), "{pattern} {text}");
        }
        for wrong in ["a**b", r"a\b", "\\", "*a*b*c*d*e*f*g*h*"] {
            assert!(Wildcard::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn case_is_ignored_at_both_ends() {
        let lowered = |text| lower(text).collect::<String>().into_boxed_str();
        assert!(TextTest::PrefixIgnoringCase(lowered("ÉT")).holds("été"));
        assert!(TextTest::SuffixIgnoringCase(lowered(".PNG")).holds("a.pNg"));
        assert!(!TextTest::SuffixIgnoringCase(lowered(".PNG")).holds("png"));
        assert!(TextTest::EqualIgnoringCase(lowered("EventBridge")).holds("eventbridge"));
        assert!(!TextTest::EqualIgnoringCase(lowered("a")).holds("ab"));
        assert!(!TextTest::PrefixIgnoringCase(lowered("ab")).holds("a"));
        assert!(TextTest::SuffixIgnoringCase(lowered("İx")).holds("aİX"));
    }
}
