//! The committed document is the one that this code makes, and says what the router does.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use super::Port;
use crate::operators::openapi;

const COMMITTED: &str = include_str!("../../../operators.openapi.json");

#[test]
fn the_committed_document_is_this_one() {
    assert!(
        openapi() == COMMITTED,
        "api/operators.openapi.json is not what the code says: `sluicegate openapi --operators > api/operators.openapi.json` makes it anew"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 15, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn what_the_document_says_needs_a_token_is_refused_without_one_and_nothing_else_is() {
    let port = Port::new().await;
    let served = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let document = port.send(served).await.json();
    assert_eq!(document, serde_json::from_str::<Value>(COMMITTED).unwrap());
    let tags: Vec<&str> =
        document["tags"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{method} {path}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            let is_guarded = !operation["security"].as_array().unwrap().is_empty();
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = Request::builder().method(&method).uri(path.replace(['{', '}'], ""));
            let status = port.send(request.body(Body::empty()).unwrap()).await.status;
            assert_eq!(status == StatusCode::UNAUTHORIZED, is_guarded, "{method} {path}");
            assert!(!(status == 404 || status == 405), "{method} {path}");
        }
    }
    assert!(names.len() >= 16, "{names:?}");
}
