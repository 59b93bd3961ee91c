//! Server-sent events read from bytes as they come (WHATWG HTML, 9.2.6). Pure.

/// The largest event; the largest message, escaped, is well below it.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A block of a stream that says something.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty for a message.
    pub(super) name: String,
    /// Empty for a block that only moves the last id.
    pub(super) data: String,
    /// The last id that the stream said.
    pub(super) id: String,
}

/// More than an event may have came without an end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {MAX_BYTES} bytes")]
pub(super) struct TooLarge;

/// What has come of a stream and is not an event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// The last line ended in a carriage return: a line feed right behind it belongs to it.
    after_return: bool,
    event: Event,
    has_data: bool,
    bytes: usize,
}

impl Events {
    /// Takes bytes and gives the events that they end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.line_ended()),
                byte => {
                    self.line.push(*byte);
                    self.bytes += 1;
                }
            }
        }
        if self.bytes > MAX_BYTES { Err(TooLarge) } else { Ok(events) }
    }

    fn line_ended(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            return self.block_ended();
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" if !value.contains('\0') => self.event.id = value.to_owned(),
            "event" => self.event.name = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // Comments, and what only says when to come back.
            _ => {}
        }
        None
    }

    fn block_ended(&mut self) -> Option<Event> {
        self.bytes = 0;
        self.has_data = false;
        let id = self.event.id.clone();
        let event = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\nid: a\n\nid: b\ndata: {\r\ndata:  \"n\": 1\rdata:}\n\n: still here\n\nevent: end\ndata: {}\n\ndata: cut";

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let expected = [
            event("", "", "a"),
            event("", "{\n \"n\": 1\n}", "b"),
            event("", "", "b"),
            event("end", "{}", "b"),
        ];
        assert_eq!(Events::default().take(STREAM.as_bytes()).unwrap(), expected);
        for size in 1..9 {
            let mut events = Events::default();
            let read = STREAM.as_bytes().chunks(size).flat_map(|part| events.take(part).unwrap());
            assert_eq!(read.collect::<Vec<_>>(), expected, "{size} bytes at once");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut events = Events::default();
        let part = vec![b'x'; MAX_BYTES / 2];
        assert_eq!(events.take(&part), Ok(Vec::new()));
        assert_eq!(events.take(&part), Ok(Vec::new()));
        assert_eq!(events.take(b"x"), Err(TooLarge));
    }
}
