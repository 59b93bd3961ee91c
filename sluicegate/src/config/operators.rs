//! `[operators]`: where the operators' port listens, and who may do more there than look at figures.

use std::net::SocketAddr;

use api::operators::{May, Operator, OperatorName};
use store::TokenDigest;

use super::section::Section;
use super::sections::ADDRESS;

/// Most operators.
const MAX_OPERATORS: usize = 100;

/// The port for operators and health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operators {
    /// Where the processor's listens.
    pub(crate) listen: SocketAddr,
    /// Whose tokens are taken, on the port of either service.
    pub(crate) operators: Vec<Operator>,
}

pub(super) fn read(section: &mut Section<'_>) -> Operators {
    let default = SocketAddr::from(([127, 0, 0, 1], 9090));
    let listen = section.parsed("listen", default, ADDRESS, |text| text.parse().ok());
    let operators = section.named_sections("tokens", token);
    if operators.len() > MAX_OPERATORS {
        let allowed = format!("up to {MAX_OPERATORS}");
        section.refuse("tokens", format!("{} of them", operators.len()), allowed);
    }
    for (at, operator) in operators.iter().enumerate() {
        let is_same = |other: &&Operator| other.digest == operator.digest;
        if let Some(other) = operators[..at].iter().find(is_same) {
            let (one, two) = (other.name.as_str(), operator.name.as_str());
            let found = format!("one token for {one} and {two}");
            section.refuse("tokens", found, "a token of its own for each");
        }
    }
    Operators { listen, operators }
}

/// `[operators.tokens.NAME]`
fn token(name: &str, section: &mut Section<'_>) -> Option<Operator> {
    let allowed = "the SHA-256 of a token as 64 hexadecimal digits: `sluicegate operators token NAME` prints it";
    let digest = section.optional("sha256", allowed, TokenDigest::parse);
    let may = section.choice("may", May::Look, &[("look", May::Look), ("change", May::Change)]);
    if digest.is_none() {
        section.missing("sha256", allowed);
    }
    let Some(name) = OperatorName::parse(name) else {
        section.refuse_name(name, "1 to 64 letters, digits, _ and -");
        return None;
    };
    Some(Operator { name, digest: digest?, may })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, refused};
    use super::*;

    const DIGEST: &str = "2d19e73146b4c01cee2035ed73b6d9fa0a7be6f19d980109cff63acc5de421ec";

    #[test]
    fn an_operator_has_a_name_a_digest_and_what_they_may() {
        let other = DIGEST.replace('2', "3");
        let text = format!(
            "[operators.tokens.anna]\nsha256 = \"{DIGEST}\"\nmay = \"change\"\n[operators.tokens.ben]\nsha256 = \"{other}\"\n"
        );
        let config = load(&text).unwrap();
        let found: Vec<_> =
            config.operators.operators.iter().map(|one| (one.name.as_str(), one.may)).collect();
        assert_eq!(found, [("anna", May::Change), ("ben", May::Look)]);
        assert_eq!(load(&config.print()).unwrap().operators, config.operators);
    }

    #[test]
    fn what_is_no_operator_is_refused_with_what_is_allowed() {
        let token = "[operators.tokens.anna]\nsha256 = \"sgo_secret\"\nmay = \"all\"\n";
        refused(
            load(token),
            &[
                "line 2",
                "operators.tokens.anna.sha256",
                "64 hexadecimal digits",
                "\"look\" or \"change\"",
            ],
        );
        let missing = "[operators.tokens.anna]\n";
        refused(load(missing), &["operators.tokens.anna.sha256", "sluicegate operators token"]);
        let odd = format!("[operators.tokens.\"a b\"]\nsha256 = \"{DIGEST}\"\n");
        refused(load(&odd), &["a b", "1 to 64 letters, digits, _ and -"]);
        let twice = format!(
            "[operators.tokens.a]\nsha256 = \"{DIGEST}\"\n[operators.tokens.b]\nsha256 = \"{DIGEST}\"\n"
        );
        refused(load(&twice), &["operators.tokens", "one token for a and b"]);
        refused(load("[operators]\ntokens = 3\n"), &["a table of tables: [operators.tokens.NAME]"]);
    }
}
