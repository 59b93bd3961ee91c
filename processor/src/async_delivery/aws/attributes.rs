//! What a message of SQS or SNS carries beside its body, so that consumers can route and recognise it. Pure.

use store::Message;

/// The type of each attribute.
pub(super) const STRING: &str = "String";

/// Name and value of each attribute, all of type [`STRING`].
pub(super) fn of(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    let entity = Some(message.entity.as_str()).filter(|entity| is_carried(entity));
    [
        Some(("sluicegate-integration", message.integration.as_str())),
        Some(("sluicegate-message-id", message.id.as_str())),
        // One that cannot be carried is left out: the body has it.
        entity.map(|entity| ("sluicegate-entity", entity)),
    ]
    .into_iter()
    .flatten()
}

/// Body and attributes in bytes, as SQS and SNS count: name, type and value of each attribute.
pub(super) fn size_with_body(message: &Message) -> usize {
    let attributes = of(message).map(|(name, value)| name.len() + STRING.len() + value.len());
    message.payload.len() + attributes.sum::<usize>()
}

/// Consists of characters that SQS takes: those of XML 1.0.
pub(super) fn is_carried(text: &str) -> bool {
    !text.chars().any(|c| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_delivery::testing::outgoing;

    #[test]
    fn integration_id_and_entity_are_carried_and_counted() {
        let mut message = outgoing("{}").message;
        let found: Vec<_> = of(&message).collect();
        assert_eq!(found[0], ("sluicegate-integration", "orders"));
        assert_eq!(found[1].1, message.id.as_str());
        assert_eq!(found[2], ("sluicegate-entity", "order-1"));
        assert_eq!(size_with_body(&message), 2 + (22 + 6 + 6) + (21 + 6 + 30) + (17 + 6 + 7));
        message.entity = store::Entity::parse("bell\u{7}").unwrap();
        assert_eq!(of(&message).count(), 2);
    }

    #[test]
    fn the_characters_are_those_of_xml() {
        assert!(is_carried("{\t\r\n \u{7f} é \u{fffd} \u{10ffff}"));
        for bad in ["\u{0}", "\u{8}", "\u{fffe}", "\u{ffff}"] {
            assert!(!is_carried(bad), "{bad:?}");
        }
    }
}
