//! Names that are known to be well formed once they are built.

use super::options::InvalidOptions;

/// A stream, by name or by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRef {
    /// The stream's name, in the client's account and region.
    Name(String),
    /// The stream's ARN.
    Arn(String),
}

impl StreamRef {
    /// Reads a name or an ARN.
    ///
    /// # Errors
    /// When it is neither; the error says what was found and what is allowed.
    pub fn parse(text: &str) -> Result<StreamRef, InvalidOptions> {
        let name_is_valid = |name: &str| {
            (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match text.strip_prefix("arn:") {
            Some(rest) => match rest.split_once(":stream/") {
                Some((_, name)) if name_is_valid(name) => Ok(StreamRef::Arn(text.to_owned())),
                _ => Err(bad_stream(text)),
            },
            None if name_is_valid(text) => Ok(StreamRef::Name(text.to_owned())),
            None => Err(bad_stream(text)),
        }
    }
}

impl std::str::FromStr for StreamRef {
    type Err = InvalidOptions;

    fn from_str(text: &str) -> Result<StreamRef, InvalidOptions> {
        StreamRef::parse(text)
    }
}

fn bad_stream(found: &str) -> InvalidOptions {
    InvalidOptions {
        option: "stream",
        found: format!("{found:?}"),
        allowed:
            "a name of 1 to 128 of a-z A-Z 0-9 _ . - or arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
                .to_owned(),
    }
}

/// A JSON pointer (RFC 6901) that is known to be well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(String);

impl JsonPointer {
    /// Reads a pointer; the empty one points at the whole document.
    ///
    /// # Errors
    /// When it is none; the error says what was found and what is allowed.
    pub fn parse(text: &str) -> Result<JsonPointer, InvalidOptions> {
        let escapes_are_valid = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if (text.is_empty() || text.starts_with('/')) && escapes_are_valid && text.len() <= 1024 {
            return Ok(JsonPointer(text.to_owned()));
        }
        Err(InvalidOptions {
            option: "pointer",
            found: format!("{text:?}"),
            allowed: "a JSON pointer such as /properties/time, with ~0 for ~ and ~1 for /"
                .to_owned(),
        })
    }

    /// The value in `document` that the pointer leads to.
    pub(crate) fn find<'d>(
        &self,
        document: &'d serde_json::Value,
    ) -> Option<&'d serde_json::Value> {
        document.pointer(&self.0)
    }
}

impl std::str::FromStr for JsonPointer {
    type Err = InvalidOptions;

    fn from_str(text: &str) -> Result<JsonPointer, InvalidOptions> {
        JsonPointer::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_name_or_an_arn() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/events";
        assert_eq!("events".parse(), Ok(StreamRef::Name("events".to_owned())));
        assert_eq!(arn.parse(), Ok(StreamRef::Arn(arn.to_owned())));
        for bad in ["", "a/b", "a b", "arn:aws:kinesis:x", "arn:aws:kinesis:r:1:stream/"] {
            assert!(bad.parse::<StreamRef>().is_err(), "{bad}");
        }
        assert!("a".repeat(129).parse::<StreamRef>().is_err());
    }

    #[test]
    fn a_pointer_starts_with_a_slash_and_escapes_properly() {
        let document = serde_json::json!({"a": {"b/c": [1, 2]}});
        let found = |text: &str| text.parse::<JsonPointer>().unwrap().find(&document).cloned();
        assert_eq!(found("/a/b~1c/1"), Some(2.into()));
        assert_eq!(found(""), Some(document.clone()));
        assert_eq!(found("/a/x"), None);
        for bad in ["a", "/a~", "/a~2"] {
            assert!(bad.parse::<JsonPointer>().is_err(), "{bad}");
        }
    }
}
