//! Events as AWS documents them, with paths of this API; and what would become of them in `lambda_http`'s own hands.

use lambda_http::RequestExt;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "sg_live_example";

/// An HTTP API's event in payload format 2.0.
fn http_api(path: &str, query: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": {
            "accept": "application/json", "content-length": "0", "host": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com",
            "x-amzn-trace-id": "Root=1-5f84c7a9-0000", "x-api-key": KEY, "x-forwarded-for": "6.6.6.6, 203.0.113.7",
            "x-forwarded-port": "443", "x-forwarded-proto": "https"
        },
        "requestContext": {
            "accountId": "123456789012", "apiId": "a1b2c3d4e5", "domainName": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5",
            "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "curl/8.5" },
            "requestId": "JKJaXmPLvHcESHA=", "routeKey": "$default", "stage": "$default",
            "time": "26/Nov/2026:12:00:00 +0000", "timeEpoch": 1795694400000_i64
        },
        "isBase64Encoded": false
    })
}

fn function_url(path: &str, query: &str) -> Value {
    let mut event = http_api(path, query);
    event["requestContext"]["domainName"] = json!("abcdefg.lambda-url.eu-west-1.on.aws");
    event
}

/// A REST API's event. Both forms of headers and parameters are there, the plain one with the last of each.
fn rest_api(path: &str) -> Value {
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": "GET",
        "headers": { "Host": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", "x-api-key": "second", "X-Forwarded-For": "6.6.6.6, 203.0.113.7" },
        "multiValueHeaders": {
            "Host": ["a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com"], "x-api-key": [KEY, "second"],
            "X-Forwarded-For": ["6.6.6.6, 203.0.113.7"]
        },
        "queryStringParameters": null, "multiValueQueryStringParameters": null,
        "pathParameters": { "proxy": path.trim_start_matches('/') }, "stageVariables": null,
        "requestContext": {
            "resourceId": "2gxmpl", "resourcePath": "/{proxy+}", "httpMethod": "GET", "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "26/Nov/2026:12:00:00 +0000", "path": format!("/prod{path}"), "accountId": "123456789012",
            "protocol": "HTTP/1.1", "stage": "prod", "domainPrefix": "a1b2c3d4e5", "requestTimeEpoch": 1795694400000_i64,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": { "accessKey": null, "sourceIp": "203.0.113.7", "userAgent": "curl/8.5", "user": null },
            "domainName": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", "apiId": "a1b2c3d4e5"
        },
        "body": null, "isBase64Encoded": false
    })
}

fn load_balancer(path: &str) -> Value {
    json!({
        "requestContext": { "elb": { "targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/api/49e9d65c45c6791a" } },
        "httpMethod": "GET", "path": path, "queryStringParameters": {},
        "headers": { "accept": "application/json", "host": "api.example.com", "x-api-key": KEY,
            "x-forwarded-for": "6.6.6.6, 203.0.113.7", "x-forwarded-port": "443", "x-forwarded-proto": "https" },
        "body": "", "isBase64Encoded": false
    })
}

fn asked(event: &Value) -> Asked {
    read(&event.to_string()).unwrap_or_else(|error| panic!("{error}: {event}"))
}

fn target_of(event: &Value) -> String {
    asked(event).request.uri().to_string()
}

const ENCODED: &str = "/v1/integrations/quakes/entities/a%2Fb%25%2B%20%C3%84/latest";
const DECODED: &str = "/v1/integrations/quakes/entities/a/b%+ Ä/latest";

#[test]
fn each_sender_is_recognised_and_its_request_is_the_one_that_the_client_made() {
    let mut in_format_1 = rest_api(DECODED);
    in_format_1["version"] = json!("1.0");
    in_format_1["requestContext"]["stage"] = json!("$default");
    for (event, from) in [
        (http_api(DECODED, ""), Sender::HttpApi),
        (in_format_1, Sender::HttpApiInFormat1),
        (function_url(ENCODED, ""), Sender::FunctionUrl),
        (rest_api(ENCODED), Sender::RestApi),
        (load_balancer(ENCODED), Sender::LoadBalancer),
    ] {
        let asked = asked(&event);
        assert_eq!(asked.from, from);
        assert_eq!(asked.request.uri(), ENCODED, "{from:?}");
        assert_eq!(asked.request.method(), "GET");
        assert_eq!(asked.request.headers()["x-api-key"], KEY);
        assert_eq!(asked.address, Some(IpAddr::from([203, 0, 113, 7])), "{from:?}");
        assert!(asked.request.body().is_empty());
    }
}

#[test]
fn the_name_of_a_stage_is_no_part_of_a_path() {
    let mut event = http_api("/prod/v1/me", "");
    event["requestContext"]["stage"] = json!("prod");
    assert_eq!(target_of(&event), "/v1/me");
    assert_eq!(target_of(&rest_api("/v1/me")), "/v1/me", "where it does not stand");
}

#[test]
fn queries_keep_what_their_clients_meant() {
    let query = "from=2026-01-01T00%3A00%3A00%2B01%3A00&cursor=a%2Bb%2Fc%3D&x=1&x=2";
    assert_eq!(target_of(&http_api("/v1/me", query)), format!("/v1/me?{query}"));
    assert_eq!(target_of(&function_url("/v1/me", query)), format!("/v1/me?{query}"));
    let sorted = "cursor=a%2Bb%2Fc%3D&from=2026-01-01T00%3A00%3A00%2B01%3A00&x=1&x=2";
    let mut rest = rest_api("/v1/me");
    rest["queryStringParameters"] =
        json!({ "from": "2026-01-01T00:00:00+01:00", "cursor": "a+b/c=", "x": "2" });
    rest["multiValueQueryStringParameters"] =
        json!({ "from": ["2026-01-01T00:00:00+01:00"], "cursor": ["a+b/c="], "x": ["1", "2"] });
    assert_eq!(target_of(&rest), format!("/v1/me?{sorted}"));
    let mut balanced = load_balancer("/v1/me");
    let multi = json!({ "from": ["2026-01-01T00%3A00%3A00%2B01%3A00"], "cursor": ["a%2Bb%2Fc%3D"], "x": ["1", "2"] });
    balanced["multiValueQueryStringParameters"] = multi;
    balanced["multiValueHeaders"] = json!({ "x-api-key": [KEY] });
    assert_eq!(target_of(&balanced), format!("/v1/me?{sorted}"));
    let single = json!({ "cursor": "a%2Bb%2Fc%3D" });
    balanced["multiValueQueryStringParameters"] = json!({});
    balanced["queryStringParameters"] = single;
    assert_eq!(target_of(&balanced), "/v1/me?cursor=a%2Bb%2Fc%3D");
}

#[test]
fn every_value_of_a_header_is_there() {
    let asked = asked(&rest_api("/v1/me"));
    let keys: Vec<_> = asked.request.headers().get_all("x-api-key").iter().collect();
    assert_eq!(keys, [KEY, "second"], "two keys are refused, as by the service");
}

#[test]
fn bodies_come_as_they_were_sent() {
    let mut event = http_api("/v1/subscriptions", "");
    event["requestContext"]["http"]["method"] = json!("POST");
    event["body"] = json!("{\"a\":\"ä\"}");
    assert_eq!(asked(&event).request.body(), "{\"a\":\"ä\"}".as_bytes());
    event["body"] = json!("/wB7fQ==");
    event["isBase64Encoded"] = json!(true);
    let asked = asked(&event);
    assert_eq!(
        (asked.request.method(), &asked.request.body()[..]),
        (&Method::POST, &b"\xff\0{}"[..])
    );
    event["body"] = json!("no base64!");
    assert!(read(&event.to_string()).unwrap_err().to_string().contains("body"));
}

/// What a client writes into `X-Forwarded-For` stands before what the load balancer does.
#[test]
fn an_address_is_the_senders_and_never_the_clients_word() {
    let of = |forwarded: Value| {
        let mut event = load_balancer("/v1/me");
        event["headers"]["x-forwarded-for"] = forwarded;
        asked(&event).address.map(|address| address.to_string())
    };
    assert_eq!(of(json!("203.0.113.7")).as_deref(), Some("203.0.113.7"));
    assert_eq!(of(json!("10.0.0.1,6.6.6.6, 2001:db8::7")).as_deref(), Some("2001:db8::7"));
    assert_eq!(of(json!("6.6.6.6, 203.0.113.7:4711")).as_deref(), Some("203.0.113.7"));
    assert_eq!(of(json!("6.6.6.6, [2001:db8::7]:1")).as_deref(), Some("2001:db8::7"));
    assert_eq!(of(json!("203.0.113.7, unknown")), None);
    let mut without = load_balancer("/v1/me");
    without["headers"].as_object_mut().unwrap().remove("x-forwarded-for");
    assert_eq!(asked(&without).address, None);
    let mut several = load_balancer("/v1/me");
    several["multiValueHeaders"] = json!({ "x-forwarded-for": ["6.6.6.6", "203.0.113.7"] });
    assert_eq!(asked(&several).address.unwrap().to_string(), "203.0.113.7");
}

#[test]
fn what_is_no_request_is_said_to_be_none_without_a_word_of_what_is_in_it() {
    for event in [
        json!({ "Records": [{ "eventSource": "aws:sqs", "body": "sg_live_secret" }] }),
        json!({ "httpMethod": "GET", "path": "/v1/me", "headers": { "x-api-key": "sg_live_secret" } }),
        json!({ "requestContext": { "http": { "method": "sg_live_secret /" } } }),
        json!({ "requestContext": {} }),
        json!("sg_live_secret"),
        json!(null),
    ] {
        let error = read(&event.to_string()).unwrap_err().to_string();
        assert!(error.contains("takes events of API Gateway"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Why requests are made here (decision 0025). When one of these fails, a later `lambda_http` does better, and some of this room
/// may go.
#[test]
fn what_lambda_http_would_make_of_the_same_events() {
    let theirs = |event: &Value| lambda_http::request::from_str(&event.to_string()).unwrap();
    // The stage of a REST API is put in front of a path that does not have it.
    assert_eq!(theirs(&rest_api("/v1/me")).uri().path(), "/prod/v1/me");
    // Of several values of a header, one is left.
    assert_eq!(theirs(&rest_api("/v1/me")).headers().get_all("x-api-key").iter().count(), 1);
    // A slash that an HTTP API decoded is a slash; and so is the rest of a path behind a decoded `#`.
    let hash = http_api("/v1/integrations/q/entities/a#b/latest", "");
    assert_eq!(theirs(&http_api(DECODED, "")).uri().path().matches('/').count(), 7);
    assert_eq!(theirs(&hash).uri().path(), "/v1/integrations/q/entities/a");
    // Segments that are dots are resolved, even encoded ones.
    let dots = function_url("/v1/integrations/q/entities/%2e%2e/latest", "");
    assert_eq!(theirs(&dots).uri().path(), "/v1/integrations/q/latest");
    // The path that the sender gave is there beside it, whatever it is.
    assert_eq!(theirs(&hash).raw_http_path(), "/v1/integrations/q/entities/a#b/latest");
    // And a header that any client can send ends the request in a panic.
    let mut bad = load_balancer("/v1/me");
    bad["headers"]["host"] = json!("a b");
    let bad = bad.to_string();
    assert!(std::panic::catch_unwind(|| lambda_http::request::from_str(&bad)).is_err());
    assert!(read(&bad).is_ok());
}
