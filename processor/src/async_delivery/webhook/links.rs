//! Links to messages at the API: what a thin webhook carries instead of the message.

use store::{Locator, Message, Signer};

/// Makes links that the API takes; it opens them only to a client that may read the message.
#[derive(Debug, Clone)]
pub struct MessageLinks {
    base_url: String,
    signer: Signer,
}

impl MessageLinks {
    /// `base_url` is the API's scheme and authority, without a slash at its end; `signer` has the key that the
    /// API's links are signed with.
    #[must_use]
    pub fn new(base_url: String, signer: Signer) -> MessageLinks {
        MessageLinks { base_url, signer }
    }

    /// The message's `self` link.
    pub(super) fn link(&self, message: &Message) -> String {
        let locator = Locator::of(message).encode(&self.signer);
        format!("{}/v1/integrations/{}/messages/{locator}", self.base_url, message.integration)
    }
}
