//! The query protocol of SNS and STS, translated at the door: form fields become JSON like that of the other services, and their
//! JSON answers become XML. Pure.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Service;

/// Members of one list; what is above is not taken.
const MOST_MEMBERS: usize = 1_000;
/// How deep fields may go into one another.
const DEEPEST: usize = 16;

/// Content type of the requests.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// Service, operation and JSON of a form; `None` if it is none of a service here.
pub(super) fn decode(form: &[u8]) -> Option<(Service, String, Bytes)> {
    let mut fields = Value::Object(Map::new());
    for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = split_once(pair, b'=')?;
        let (name, value) = (plain(name)?, plain(value)?);
        let path: Vec<&str> = name.split('.').collect();
        insert(&mut fields, &path, value)?;
    }
    let service = match fields.get("Version")?.as_str()? {
        "2010-03-31" => Service::Sns,
        "2011-06-15" => Service::Sts,
        _ => return None,
    };
    let operation = fields.get("Action")?.as_str()?.to_owned();
    Some((service, operation, fields.to_string().into()))
}

/// An answer's JSON as XML: members of objects are elements, lists have a `member` for each.
pub(crate) fn encode(
    service: Service,
    operation: &str,
    status: u16,
    body: &[u8],
    request_id: &str,
) -> Bytes {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let namespace = match service {
        Service::Sns => "http://sns.amazonaws.com/doc/2010-03-31/",
        _ => "https://sts.amazonaws.com/doc/2011-06-15/",
    };
    let request_id = Value::from(request_id);
    let (root, parts) = if status == 200 {
        // The result first: the SDK reads it before it looks at anything else.
        let metadata = json!({ "RequestId": request_id });
        let parts =
            vec![(format!("{operation}Result"), body), ("ResponseMetadata".to_owned(), metadata)];
        (format!("{operation}Response"), parts)
    } else {
        let kind = if status < 500 { "Sender" } else { "Receiver" };
        let error = json!({ "Type": kind, "Code": body["__type"], "Message": body["message"] });
        let parts = vec![("Error".to_owned(), error), ("RequestId".to_owned(), request_id)];
        ("ErrorResponse".to_owned(), parts)
    };
    let mut xml = format!("<{root} xmlns=\"{namespace}\">");
    for (name, value) in &parts {
        write_element(&mut xml, name, value);
    }
    let _ = write!(xml, "</{root}>");
    xml.into()
}

fn write_content(xml: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| write_element(xml, name, value));
        }
        Value::Array(members) => {
            members.iter().for_each(|value| write_element(xml, "member", value));
        }
        Value::String(text) => text.chars().for_each(|c| match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            c => xml.push(c),
        }),
        other => xml.push_str(&other.to_string()),
    }
}

fn write_element(xml: &mut String, name: &str, value: &Value) {
    let _ = write!(xml, "<{name}>");
    write_content(xml, value);
    let _ = write!(xml, "</{name}>");
}

/// Puts a value where its name says: `A.member.2.B` is field `B` of the second in the list `A`.
fn insert(at: &mut Value, path: &[&str], value: String) -> Option<()> {
    let Some((name, rest)) = path.split_first().filter(|_| path.len() <= DEEPEST) else {
        *at = value.into();
        return Some(());
    };
    if matches!(*name, "member" | "entry") && at.as_object().is_none_or(Map::is_empty) {
        let (number, rest) = rest.split_first()?;
        let number = number.parse().ok().filter(|n| (1..=MOST_MEMBERS).contains(n))?;
        if !at.is_array() {
            *at = Value::Array(Vec::new());
        }
        let list = at.as_array_mut()?;
        list.resize(list.len().max(number), Value::Null);
        return insert(&mut list[number - 1], rest, value);
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    insert(at.as_object_mut()?.entry(*name).or_insert(Value::Null), rest, value)
}

fn split_once(pair: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = pair.iter().position(|byte| *byte == at)?;
    Some((&pair[..place], &pair[place + 1..]))
}

/// Percent signs and plus signs resolved.
fn plain(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_nested_json() {
        let form = "Action=PublishBatch&Version=2010-03-31&TopicArn=arn%3Aaws\
            &PublishBatchRequestEntries.member.1.Id=0\
            &PublishBatchRequestEntries.member.1.Message=a+b%26%C3%A9\
            &PublishBatchRequestEntries.member.2.MessageAttributes.entry.1.Name=n\
            &PublishBatchRequestEntries.member.2.MessageAttributes.entry.1.Value.StringValue=v";
        let (service, operation, json) = decode(form.as_bytes()).unwrap();
        assert_eq!((service, operation.as_str()), (Service::Sns, "PublishBatch"));
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["TopicArn"], "arn:aws");
        let entries = &json["PublishBatchRequestEntries"];
        assert_eq!(entries[0], json!({ "Id": "0", "Message": "a b&é" }));
        assert_eq!(entries[1]["MessageAttributes"][0]["Value"]["StringValue"], "v");
    }

    #[test]
    fn what_is_no_form_of_a_service_is_not_taken() {
        for bad in [
            "",
            "Action=X&Version=1999-01-01",
            "Action=X",
            "Version=2010-03-31",
            "Action=%zz&Version=2010-03-31",
            "Action=X&Version=2010-03-31&A.member.0.B=1",
            "Action=X&Version=2010-03-31&A.member.1000000000.B=1",
            "Action=%ff&Version=2010-03-31",
        ] {
            assert!(decode(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_answer_becomes_xml() {
        let answer = br#"{"Successful":[{"Id":"0"}],"Failed":[],"Text":"<&>"}"#;
        let xml = encode(Service::Sns, "Publish", 200, answer, "r-1");
        let expected = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\
            <PublishResult><Failed></Failed><Successful><member><Id>0</Id></member></Successful>\
            <Text>&lt;&amp;&gt;</Text></PublishResult>\
            <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></PublishResponse>";
        assert_eq!(std::str::from_utf8(&xml).unwrap(), expected);
        let refused =
            encode(Service::Sts, "AssumeRole", 403, br#"{"__type":"X","message":"no"}"#, "r");
        let text = std::str::from_utf8(&refused).unwrap();
        assert!(text.contains("<Code>X</Code>") && text.contains("<Type>Sender</Type>"), "{text}");
    }
}
