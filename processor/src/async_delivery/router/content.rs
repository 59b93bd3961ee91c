//! A message's content while it is routed: read when somebody asks for it, and then once.

use store::pattern::{Document, Reader};

use crate::integration::Pointer;

/// The content of one message.
pub(super) struct Content<'a> {
    payload: &'a [u8],
    event_type: Option<&'a Pointer>,
    /// Here until the message is read.
    reader: Option<&'a mut Reader>,
    document: Option<Document<'a>>,
}

impl<'a> Content<'a> {
    /// Of a message whose event type is at this pointer; without one, where a CloudEvent has it.
    pub(super) fn new(
        reader: &'a mut Reader,
        payload: &'a [u8],
        event_type: Option<&'a Pointer>,
    ) -> Content<'a> {
        Content { payload, event_type, reader: Some(reader), document: None }
    }

    /// `None` if it cannot be read.
    pub(super) fn read(&mut self) -> Option<&Document<'a>> {
        if let Some(reader) = self.reader.take() {
            self.document = reader.read(self.payload).ok();
        }
        self.document.as_ref()
    }

    /// The event type; `None` if it has none, or was not read.
    pub(super) fn event_type(&self) -> Option<&str> {
        let document = self.document.as_ref()?;
        match self.event_type {
            Some(pointer) => document.text_at(pointer.tokens()),
            None => document
                .text_at(["specversion"])
                .and_then(|_is_a_cloud_event| document.text_at(["type"])),
        }
    }

    /// Somebody asked for it, and it could not be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.reader.is_none() && self.document.is_none()
    }
}
