//! CloudEvents: made, recognised, and told apart from what only looks like one.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::async_delivery::testing::outgoing;

fn message(payload: &str) -> Message {
    let mut message = outgoing("{}").message;
    message.payload = Bytes::copy_from_slice(payload.as_bytes());
    message
}

fn document(message: &Message) -> Value {
    serde_json::from_slice(&structured(message).unwrap()).unwrap()
}

fn headers(binary: &Binary) -> BTreeMap<String, String> {
    let texts = binary.headers.iter();
    texts.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

#[test]
fn a_message_becomes_an_event_with_all_that_is_known_of_it() {
    let message = message(r#"{"mag":4.30}"#);
    let event = document(&message);
    let integration = message.integration.as_str();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], message.id.as_str());
    assert_eq!(event["source"], format!("/v1/integrations/{integration}"));
    assert_eq!(event["type"], format!("sluicegate.{integration}"));
    assert_eq!(event["subject"], message.entity.as_str());
    assert_eq!(event["partitionkey"], &*message.partition_key);
    assert_eq!(event["datacontenttype"], "application/json");
    let text = String::from_utf8(structured(&message).unwrap()).unwrap();
    assert!(text.contains(r#""data":{"mag":4.30}"#), "the data's own bytes: {text}");

    let binary = binary(&message).unwrap();
    let headers = headers(&binary);
    for name in ["specversion", "id", "source", "type", "subject", "time", "partitionkey"] {
        assert_eq!(headers[&format!("ce-{name}")], event[name].as_str().unwrap(), "{name}");
    }
    assert_eq!(headers.len(), 7, "{headers:?}");
    assert_eq!(binary.body, message.payload);
    assert_eq!(binary.content_type.unwrap(), "application/json");
}

#[test]
fn entities_of_any_letters_are_encoded_in_headers_and_not_in_json() {
    let mut message = message("{}");
    message.entity = store::Entity::parse("Île 100% \"x\"").unwrap();
    assert_eq!(document(&message)["subject"], "Île 100% \"x\"");
    let binary = binary(&message).unwrap();
    assert_eq!(headers(&binary)["ce-subject"], "%C3%8Ele%20100%25%20%22x%22");
}

#[test]
fn a_payload_that_is_no_json_is_kept_in_base64() {
    let event = document(&message("{\"a\":"));
    assert_eq!(event["data_base64"], STANDARD.encode_to_string("{\"a\":"));
    assert!(event.get("data").is_none());
}

#[test]
fn an_event_is_passed_through_as_its_producer_wrote_it() {
    let payload = r#"{ "specversion":"1.0","id":"o-1","source":"//shop","type":"order.paid","dataschema":null,"attempt":3,"test":true,"data":{"total":1.50} }"#;
    let message = message(payload);
    assert_eq!(structured(&message).unwrap(), payload.as_bytes());
    let binary = binary(&message).unwrap();
    let expected = json!({
        "ce-specversion": "1.0", "ce-id": "o-1", "ce-source": "//shop", "ce-type": "order.paid",
        "ce-attempt": "3", "ce-test": "true",
    });
    assert_eq!(serde_json::to_value(headers(&binary)).unwrap(), expected);
    assert_eq!(binary.content_type.unwrap(), "application/json");
    assert_eq!(binary.body, br#"{"total":1.50}"#);
}

#[test]
fn data_that_is_no_json_becomes_the_bytes_that_it_stands_for() {
    let event = |rest: &str| {
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{rest}}}"#);
        binary(&message(&event)).unwrap()
    };
    let text = event(r#""datacontenttype":"text/plain; charset=utf-8","data":"h\u00e9""#);
    assert_eq!(text.body, "hé".as_bytes());
    assert_eq!(text.content_type.unwrap(), "text/plain; charset=utf-8");
    let bytes = event(r#""datacontenttype":"image/png","data_base64":"iVBOR/8=""#);
    assert_eq!(bytes.body, b"\x89PNG\xff");
    assert_eq!(event(r#""datacontenttype":"application/x+json","data":"s""#).body, br#""s""#);
    let nothing = event(r#""subject":"none""#);
    assert_eq!((nothing.body.len(), nothing.content_type), (0, None));
}

#[test]
fn what_only_looks_like_an_event_is_data_like_any_other() {
    let long = format!(r#""subject":"{}""#, "x".repeat(9_000));
    for rest in [
        r#""Upper":"x""#,
        r#""with_line":"x""#,
        r#""extension":{"a":1}"#,
        r#""extension":[1]"#,
        r#""extension":1.5"#,
        r#""subject":"""#,
        r#""data":1,"data_base64":"AA==""#,
        r#""data_base64":"not base64""#,
        r#""data_base64":7"#,
        long.as_str(),
    ] {
        let payload = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{rest}}}"#);
        let message = message(&payload);
        assert_eq!(document(&message)["id"], message.id.as_str(), "{rest}");
        assert_eq!(binary(&message).unwrap().body, payload.as_bytes(), "{rest}");
    }
    for payload in [
        r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
        r#"{"specversion":"1.0","source":"s","type":"t"}"#,
        r#"{"specversion":"1.0","id":1.5,"source":"s","type":"t"}"#,
        r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"}]"#,
    ] {
        let message = message(payload);
        assert_eq!(document(&message)["id"], message.id.as_str(), "{payload}");
    }
}

#[test]
fn a_content_type_that_could_end_the_header_is_not_passed_through() {
    let payload = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"a/b\r\nx: y","data":1}"#;
    let binary = binary(&message(payload)).unwrap();
    assert_eq!(binary.content_type.unwrap(), "application/json");
    assert_eq!(binary.body, payload.as_bytes());
}
