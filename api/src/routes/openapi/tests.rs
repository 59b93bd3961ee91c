//! The committed document is the one that this code makes, and says what the router does.

use std::collections::BTreeSet;

use http::{Method, Request, StatusCode};
use serde_json::Value;

use super::document;
use crate::routes::tests::World;

const COMMITTED: &str = include_str!("../../../openapi.json");

fn parsed() -> Value {
    serde_json::from_str(&document()).unwrap()
}

/// Every operation: path, method, and itself.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_this_one() {
    assert!(
        document() == COMMITTED,
        "api/openapi.json is not what the code says: `sluicegate openapi > api/openapi.json` makes it anew"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = parsed();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{method} {path}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn what_the_document_says_needs_a_key_is_refused_without_one_and_nothing_else_is() {
    let world = World::new().await;
    let document = parsed();
    for (path, method, operation) in operations(&document) {
        let guarded = !operation["security"].as_array().unwrap().is_empty();
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = Request::builder().method(&method).uri(path.replace(['{', '}'], ""));
        let status = world.send(request).await.status;
        assert_eq!(status == StatusCode::UNAUTHORIZED, guarded, "{method} {path}: {status}");
        assert_ne!(status, StatusCode::NOT_FOUND, "{method} {path}");
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let world = World::new().await;
    for (path, media_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let answer = world.send(Request::get(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), media_type);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        if path != "/openapi.json" {
            let text = answer.text();
            assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
        }
    }
}
