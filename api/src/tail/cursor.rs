//! A [`Place`] as an opaque signed token: the `id:` of an event.
//!
//! It is made for every event, so it is bytes: the integration, the base, the runs behind it, the note that was begun.

use store::{IntegrationName, Signer, TokenError};

use super::window::{Begun, Place, Position, Run};

/// Separates these tokens from every other kind.
const DOMAIN: &str = "sluicegate api tail v1";

impl Place {
    /// As URL-safe text.
    pub(crate) fn encode(&self, signer: &Signer, integration: &IntegrationName) -> String {
        let Position { base_ms, last_ms, runs, begun } = self.position();
        let mut bytes = Vec::with_capacity(96 + runs.len() * 16);
        bytes.extend_from_slice(&base_ms.to_be_bytes());
        bytes.extend_from_slice(&last_ms.to_be_bytes());
        for count in [begun.len(), runs.len()] {
            bytes.push(u8::try_from(count).unwrap_or_default());
        }
        begun.iter().for_each(|begun| push(&mut bytes, begun.writer, begun.number, begun.taken));
        runs.iter().for_each(|run| push(&mut bytes, run.writer, run.first, run.last));
        bytes.extend_from_slice(integration.as_str().as_bytes());
        signer.seal(DOMAIN, &bytes)
    }
}

impl Position {
    /// From text that [`Place::encode`] made, of this integration.
    pub(crate) fn decode(
        signer: &Signer,
        integration: &IntegrationName,
        text: &str,
    ) -> Result<Position, TokenError> {
        let content = signer.open(DOMAIN, text)?;
        read(&content, integration).ok_or(TokenError::Content)
    }
}

fn push(bytes: &mut Vec<u8>, writer: u64, one: u32, two: u32) {
    bytes.extend_from_slice(&writer.to_be_bytes());
    bytes.extend_from_slice(&one.to_be_bytes());
    bytes.extend_from_slice(&two.to_be_bytes());
}

fn read(mut rest: &[u8], integration: &IntegrationName) -> Option<Position> {
    let base_ms = i64::from_be_bytes(take(&mut rest)?);
    let last_ms = i64::from_be_bytes(take(&mut rest)?);
    let [begun, runs] = take(&mut rest)?;
    let mut triples = (0..usize::from(begun) + usize::from(runs)).map(|_| triple(&mut rest));
    let begun = triples
        .by_ref()
        .take(begun.into())
        .map(|read| read.map(|(writer, number, taken)| Begun { writer, number, taken }));
    let begun: Vec<Begun> = begun.collect::<Option<_>>()?;
    let runs = triples.map(|read| read.map(|(writer, first, last)| Run { writer, first, last }));
    let runs: Vec<Run> = runs.collect::<Option<_>>()?;
    (rest == integration.as_str().as_bytes()).then_some(Position { base_ms, last_ms, runs, begun })
}

fn triple(rest: &mut &[u8]) -> Option<(u64, u32, u32)> {
    let writer = u64::from_be_bytes(take(rest)?);
    Some((writer, u32::from_be_bytes(take(rest)?), u32::from_be_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::ArrivalRow;

    use super::super::window::{MAX_BEGUN, MAX_RUNS};
    use super::*;

    fn name(text: &str) -> IntegrationName {
        IntegrationName::parse(text).unwrap()
    }

    #[test]
    fn a_place_comes_back_as_a_position_for_its_integration_alone() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let run = |writer| Run { writer, first: 1, last: u32::MAX };
        let position =
            Position { last_ms: 5, runs: vec![run(0), run(u64::MAX)], ..Position::at_ms(-3) };
        let before = Arc::new(position.clone());
        let row = ArrivalRow { at_ms: 4, writer: 9, number: 8 };
        let text = Place::within(&before, &row, 7).encode(&signer, &name("quakes"));
        assert!(text.len() < 150, "{text}");
        let begun = vec![Begun { writer: 9, number: 8, taken: 7 }];
        let read = Position::decode(&signer, &name("quakes"), &text);
        assert_eq!(read, Ok(Position { begun, ..position.clone() }));
        let whole = Place::at(before).encode(&signer, &name("quakes"));
        assert_eq!(Position::decode(&signer, &name("quakes"), &whole), Ok(position));
        for other in ["quake", "quakess", "flights"] {
            assert!(Position::decode(&signer, &name(other), &text).is_err(), "{other}");
        }
    }

    #[test]
    fn what_was_not_given_out_here_is_refused_and_the_largest_is_taken_back() {
        let signer = Signer::new(&[7; 32]).unwrap();
        for content in [&b""[..], b"12345678", &[1; 17], &[255; 60]] {
            let text = signer.seal(DOMAIN, content);
            assert!(Position::decode(&signer, &name("quakes"), &text).is_err());
        }
        let runs = vec![Run { writer: u64::MAX, first: 1, last: 2 }; MAX_RUNS];
        let begun = vec![Begun { writer: u64::MAX, number: 1, taken: 2 }; MAX_BEGUN];
        let large = Position { runs, begun, ..Position::at_ms(i64::MAX) };
        let text = Place::at(Arc::new(large.clone())).encode(&signer, &name(&"q".repeat(64)));
        assert!(text.len() < 1_800, "{} characters", text.len());
        assert_eq!(Position::decode(&signer, &name(&"q".repeat(64)), &text), Ok(large));
    }
}
