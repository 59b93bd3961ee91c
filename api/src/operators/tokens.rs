//! Who asks: the token that a request carries, and whose it is. Pure.

use std::sync::Arc;

use http::{HeaderMap, Method, header};
use store::{OperatorToken, TokenDigest};

use crate::routes::problem::Problem;

/// A scheme that is compared without regard to case (RFC 9110, 11.1).
const BEARER: &str = "bearer ";

/// Longest name of an operator, in characters.
const MAX_NAME: usize = 64;

/// Name of an operator: 1 to 64 letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorName(Arc<str>);

impl OperatorName {
    /// Checks and takes a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        (is_plain && (1..=MAX_NAME).contains(&text.len())).then(|| Self(Arc::from(text)))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an operator's token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// For what changes nothing.
    Look,
    /// For everything.
    Change,
}

/// Somebody who may ask on the operators' port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// As the audit names them.
    pub name: OperatorName,
    /// What is kept of their token.
    pub digest: TokenDigest,
    /// What it is good for.
    pub may: May,
}

/// Why a request is not let in. For the log; who asks hears less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody has a token.
    NoTokens,
    /// None was given.
    Missing,
    /// Two were given: which one counts would be a guess.
    Several,
    /// What was given is no operator's token by its form.
    Malformed,
    /// It is nobody's.
    Unknown,
    /// It is good for looking only, and this would change something.
    MayOnlyLook,
}

impl Refusal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoTokens => "no-tokens",
            Self::Missing => "missing",
            Self::Several => "several",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown-token",
            Self::MayOnlyLook => "may-only-look",
        }
    }

    /// What is answered: the same whatever is wrong with a token.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::NoTokens => Problem::forbidden(
                "no operator has a token: `sluicegate operators token NAME` makes one and prints the [operators.tokens.NAME] that the configuration needs",
            ),
            Self::MayOnlyLook => Problem::forbidden(
                "this token is good for looking only: a change needs one with may = \"change\" in [operators.tokens.NAME]",
            ),
            Self::Missing | Self::Several | Self::Malformed | Self::Unknown => {
                Problem::not_an_operator()
            }
        }
    }
}

/// All operators.
#[derive(Debug)]
pub(super) struct Operators(Vec<Operator>);

impl Operators {
    pub(super) fn new(operators: Vec<Operator>) -> Self {
        Self(operators)
    }

    /// Whose token a request carries, and whether it is good for a request of this method. The name is told of a
    /// refusal, too, where it is known.
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<&Operator, (Refusal, Option<&OperatorName>)> {
        if self.0.is_empty() {
            return Err((Refusal::NoTokens, None));
        }
        let token = presented(headers).map_err(|refusal| (refusal, None))?;
        let operator = self.whose(&token).ok_or((Refusal::Unknown, None))?;
        // What is safe by its definition (RFC 9110, 9.2.1) changes nothing here.
        if operator.may == May::Look && !method.is_safe() {
            return Err((Refusal::MayOnlyLook, Some(&operator.name)));
        }
        Ok(operator)
    }

    /// Compared with all of them, each in constant time, so that the time says nothing of which one it is.
    fn whose(&self, token: &OperatorToken) -> Option<&Operator> {
        let digest = token.digest();
        self.0.iter().fold(None, |found, operator| {
            let is_it = operator.digest == digest;
            if is_it { Some(operator) } else { found }
        })
    }
}

/// The one token of a request.
fn presented(headers: &HeaderMap) -> Result<OperatorToken, Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().ok_or(Refusal::Missing)?;
    if given.next().is_some() {
        return Err(Refusal::Several);
    }
    let text = value.to_str().ok().and_then(after_bearer).ok_or(Refusal::Malformed)?;
    OperatorToken::parse(text).ok_or(Refusal::Malformed)
}

fn after_bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(name: &str, n: u8, may: May) -> (Operator, String) {
        let token = OperatorToken::generate(&mut |bytes| bytes.fill(n));
        let name = OperatorName::parse(name).unwrap();
        (Operator { name, digest: token.digest(), may }, format!("Bearer {}", token.expose()))
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_its_owners_and_good_for_what_it_may() {
        let (anna, annas) = operator("anna", 1, May::Change);
        let (ben, bens) = operator("ben", 2, May::Look);
        let operators = Operators::new(vec![anna, ben]);
        let admitted = |values: &[&str], method: Method| {
            let admitted = operators.admit(&headers(values), &method);
            admitted.map(|operator| operator.name.as_str().to_owned()).map_err(|(why, _)| why)
        };
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE] {
            assert_eq!(admitted(&[&annas], method), Ok("anna".to_owned()));
        }
        assert_eq!(admitted(&[&bens.replace("Bearer", "bEARER ")], Method::GET), Ok("ben".into()));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(admitted(&[&bens], method), Err(Refusal::MayOnlyLook));
        }
        let (_, strangers) = operator("x", 3, May::Change);
        assert_eq!(admitted(&[&strangers], Method::GET), Err(Refusal::Unknown));
        assert_eq!(admitted(&[], Method::GET), Err(Refusal::Missing));
        assert_eq!(admitted(&[&annas, &annas], Method::GET), Err(Refusal::Several));
        for bad in ["Bearer", "Bearer x", &annas[7..], "Basic YTpi", &annas[..annas.len() - 1]] {
            assert_eq!(admitted(&[bad], Method::GET), Err(Refusal::Malformed), "{bad}");
        }
    }

    #[test]
    fn without_tokens_nobody_is_let_in() {
        let (_, token) = operator("anna", 1, May::Change);
        let operators = Operators::new(Vec::new());
        let refused = operators.admit(&headers(&[&token]), &Method::GET).unwrap_err();
        assert_eq!(refused.0, Refusal::NoTokens);
    }

    #[test]
    fn a_name_is_plain() {
        assert!(OperatorName::parse("anna-2_B").is_some());
        for bad in ["", "anna b", "änna", "a.b", &"a".repeat(65)] {
            assert!(OperatorName::parse(bad).is_none(), "{bad}");
        }
    }
}
