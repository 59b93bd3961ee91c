//! Percent-encoding: of header values as CloudEvents says, of forms as OAuth does. Pure.

use std::fmt::Write;

/// An attribute of a CloudEvent as a header's value (HTTP binding 3.1.3.2): spaces, quotes, percent signs and
/// all that is not visible ASCII are encoded.
pub(super) fn header_value(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%'))
}

/// A name or value of `application/x-www-form-urlencoded`.
pub(super) fn form_value(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
}

fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_encoded_as_the_specification_shows() {
        // The example of the HTTP protocol binding: "Euro € 😀".
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("100%\"a\"\t\r\n"), "100%25%22a%22%09%0D%0A");
        assert_eq!(header_value("plain/it+is:so"), "plain/it+is:so");
    }

    #[test]
    fn forms_keep_nothing_that_divides_them() {
        assert_eq!(form_value("a b&c=d+e/f:ü"), "a%20b%26c%3Dd%2Be%2Ff%3A%C3%BC");
    }
}
