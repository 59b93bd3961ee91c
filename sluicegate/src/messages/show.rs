//! Messages as they are shown: for people, and one a line for scripts. Pure.

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::Output;

/// As much of a message as people are shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    id: String,
    entity: String,
    time: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

/// A page of an answer.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) messages: Vec<&'a RawValue>,
    pub(super) next: Option<String>,
}

/// A message of the API, with its line end.
pub(super) fn message(json: &str, output: Output) -> anyhow::Result<String> {
    match output {
        Output::Json => Ok(format!("{}\n", one_line(json))),
        Output::Text => text(json),
    }
}

/// Line ends stand only between tokens of a JSON text, so they may be spaces; everything else stays as it is.
fn one_line(json: &str) -> String {
    json.trim().replace(['\n', '\r'], " ")
}

fn text(json: &str) -> anyhow::Result<String> {
    let message: Message<'_> =
        serde_json::from_str(json).context("an answer that is no message of the API")?;
    let Message { id, entity, time, data, data_base64 } = message;
    let data = match (data, data_base64) {
        (Some(data), _) => one_line(data.get()),
        (None, Some(base64)) => format!("base64 {base64}"),
        (None, None) => String::new(),
    };
    let words = [time, entity, id, data].map(|word| harmless(&word));
    Ok(format!("{}\n", words.join("  ")))
}

/// A terminal obeys control characters, and producers write what they like.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "{\"id\":\"msg_a\",\"integration\":\"q\",\"entity\":\"c\\u001b[2Ji\",\"time\":\"T\",\"arrivedAt\":\"A\",\"self\":\"/x\",\"data\":{\n  \"n\": 12345678901234567890.10\r\n}}";

    #[test]
    fn a_message_is_one_line_with_its_data_as_it_was_written() {
        let json = message(MESSAGE, Output::Json).unwrap();
        assert!(json.contains("\"data\":{   \"n\": 12345678901234567890.10  }}"), "{json}");
        let text = message(MESSAGE, Output::Text).unwrap();
        assert_eq!(text, "T  c [2Ji  msg_a  {   \"n\": 12345678901234567890.10  }\n");
        assert_eq!((json.lines().count(), text.lines().count()), (1, 1));
        let bytes = r#"{"id":"m","entity":"e","time":"T","dataBase64":"AAE="}"#;
        assert_eq!(message(bytes, Output::Text).unwrap(), "T  e  m  base64 AAE=\n");
        assert!(message("{}", Output::Text).is_err());
    }

    #[test]
    fn a_page_is_read_without_touching_its_messages() {
        let text = format!("{{\"messages\":[{MESSAGE}],\"next\":\"n\"}}");
        let page: Page<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!((page.messages[0].get(), page.next.as_deref()), (MESSAGE, Some("n")));
    }
}
