//! Operators' tokens: their form, their checksum, and the digest that a configuration holds instead of them.
//!
//! `sgo_<43 secret><6 checksum>`, all base62: 256 random bits, so that a plain SHA-256 says nothing of a token and no
//! pepper is needed to keep it. The checksum lets a mistyped one fail early and scanners recognise a leaked one; it
//! protects nothing.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::key::{CHECKSUM, base62, checksum};

/// What every token starts with.
const PREFIX: &str = "sgo_";
/// Characters of its secret: 43 of base62 are 256 bits.
const SECRET: usize = 43;
/// Length of a whole token.
const LENGTH: usize = PREFIX.len() + SECRET + CHECKSUM;

/// A token in clear. It lives as long as a request, or as long as it takes to show it once.
#[derive(Clone)]
pub struct OperatorToken(String);

impl OperatorToken {
    /// Checks form and checksum; `None` for whatever may be wrong.
    pub fn parse(text: &str) -> Option<OperatorToken> {
        let secret = text.strip_prefix(PREFIX)?;
        if text.len() != LENGTH || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (body, found) = text.split_at(LENGTH - CHECKSUM);
        (checksum(body).as_bytes() == found.as_bytes()).then(|| OperatorToken(text.to_owned()))
    }

    /// A new token.
    pub fn generate(random: crate::RandomBytes<'_>) -> OperatorToken {
        let body = format!("{PREFIX}{}", base62(SECRET, random));
        let checksum = checksum(&body);
        OperatorToken(body + &checksum)
    }

    /// What is kept of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The token in clear, for the one time it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken(redacted)")
    }
}

/// SHA-256 of an operator's token. Compared in constant time only; no secret.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<TokenDigest> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(TokenDigest)
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &TokenDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_no_other_text_is_one() {
        let token = OperatorToken::generate(&mut |bytes| bytes.fill(5));
        let text = token.expose();
        assert_eq!(text.len(), 53);
        assert_eq!(OperatorToken::parse(text).unwrap().digest(), token.digest());
        assert!(!format!("{token:?}").contains(&text[4..20]));
        let mut typo = text.to_owned();
        typo.replace_range(10..11, "6");
        let other = text.replace("sgo_", "sga_");
        for bad in
            ["", "sgo_", &text[..52], &format!("{text}5"), &typo, &other, &text.to_uppercase()]
        {
            assert!(OperatorToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_what_every_other_tool_makes_of_the_token() {
        // printf %s sgo_55555555555555555555555555555555555555555550cmNAs | sha256sum
        let known = "2d19e73146b4c01cee2035ed73b6d9fa0a7be6f19d980109cff63acc5de421ec";
        let digest = OperatorToken::generate(&mut |bytes| bytes.fill(5)).digest();
        assert_eq!(digest.to_string(), known);
        assert_eq!(TokenDigest::parse(&known.to_uppercase()).unwrap(), digest);
        for bad in ["", &known[1..], &format!("{known}00"), &known.replace('2', "g")] {
            assert!(TokenDigest::parse(bad).is_none(), "{bad}");
        }
    }
}
