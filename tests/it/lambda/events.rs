//! One request as each sender puts it into an event, and as a socket brings it; and one answer, whichever way it came.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::harness::runtime_api::Invoked;

/// Who sends events to a function; the load balancer's target group with several values of each header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    HttpApi,
    FunctionUrl,
    RestApi,
    LoadBalancer,
}

pub const SENDERS: [Sender; 4] =
    [Sender::HttpApi, Sender::FunctionUrl, Sender::RestApi, Sender::LoadBalancer];

/// A request of a client.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    /// Path and query, encoded.
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Where the client is.
    pub address: &'static str,
}

impl Ask {
    pub fn of(method: &'static str, target: impl Into<String>) -> Ask {
        let target = target.into();
        Ask { method, target, headers: Vec::new(), body: Vec::new(), address: "203.0.113.7" }
    }

    pub fn get(target: impl Into<String>) -> Ask {
        Ask::of("GET", target)
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Ask {
        self.body = body.into();
        self
    }

    /// The event of it. What the client says of forwarding stands before what its sender adds.
    pub fn event(&self, sender: Sender) -> Value {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut headers: BTreeMap<String, String> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let before = headers.remove("x-forwarded-for");
        let forwarded = before.into_iter().chain([self.address.to_owned()]).collect::<Vec<_>>();
        headers.insert("x-forwarded-for".to_owned(), forwarded.join(", "));
        headers.insert("host".to_owned(), "api.example.com".to_owned());
        headers.insert("x-forwarded-proto".to_owned(), "https".to_owned());
        let body = match self.body.is_empty() {
            true => Value::Null,
            false => data_encoding::BASE64.encode(&self.body).into(),
        };
        let is_base64 = !self.body.is_empty();
        let lists: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect();
        match sender {
            Sender::HttpApi => self.format_2(
                &decoded(path),
                query,
                headers,
                "x.execute-api.eu-west-1.amazonaws.com",
                body,
            ),
            Sender::FunctionUrl => {
                self.format_2(path, query, headers, "x.lambda-url.eu-west-1.on.aws", body)
            }
            Sender::RestApi => {
                json!({
                    "resource": "/{proxy+}", "path": path, "httpMethod": self.method,
                    "headers": headers, "multiValueHeaders": lists,
                    "queryStringParameters": last_of_each(query, decoded),
                    "multiValueQueryStringParameters": all_of_each(query, decoded),
                    "pathParameters": { "proxy": path }, "stageVariables": null,
                    "requestContext": {
                        "resourcePath": "/{proxy+}", "httpMethod": self.method, "path": format!("/prod{path}"), "stage": "prod",
                        "identity": { "sourceIp": self.address }, "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
                    },
                    "body": body, "isBase64Encoded": is_base64
                })
            }
            Sender::LoadBalancer => json!({
                "requestContext": { "elb": { "targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/api/1" } },
                "httpMethod": self.method, "path": path,
                "multiValueQueryStringParameters": all_of_each(query, str::to_owned).unwrap_or_default(),
                "multiValueHeaders": lists, "body": body.as_str().unwrap_or_default(), "isBase64Encoded": is_base64
            }),
        }
    }

    fn format_2(
        &self,
        path: &str,
        query: &str,
        headers: BTreeMap<String, String>,
        host: &str,
        body: Value,
    ) -> Value {
        let is_base64 = !body.is_null();
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": headers,
            "requestContext": {
                "domainName": host, "stage": "$default", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "$default",
                "http": { "method": self.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": self.address, "userAgent": "curl" }
            },
            "body": body, "isBase64Encoded": is_base64
        })
    }

    /// Asks a service at this address.
    pub async fn over_a_socket(&self, address: &str) -> Answer {
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("http://{address}{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body.clone()))).expect("a request");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request).await.expect("an answer").into_parts();
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
            body: body.collect().await.expect("a body").to_bytes().to_vec(),
        }
    }
}

/// An answer, read whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// What a sender would make of a reply.
    pub fn of(invoked: Invoked, sender: Sender) -> Answer {
        let Invoked::Answered(reply) = invoked else { panic!("no answer: {invoked:?}") };
        let of_each = matches!(sender, Sender::RestApi | Sender::LoadBalancer);
        let headers = if of_each { &reply["multiValueHeaders"] } else { &reply["headers"] };
        let text = |value: &Value| match value {
            Value::Array(all) => {
                all.iter().map(|one| one.as_str().expect("text")).collect::<Vec<_>>().join(", ")
            }
            one => one.as_str().expect("text").to_owned(),
        };
        let headers = headers.as_object().expect("headers").iter();
        let body = reply["body"].as_str().unwrap_or_default();
        let body = match reply["isBase64Encoded"].as_bool().expect("said") {
            true => data_encoding::BASE64.decode(body.as_bytes()).expect("base64"),
            false => body.as_bytes().to_vec(),
        };
        let status = reply["statusCode"].as_u64().expect("a status");
        Answer {
            status: u16::try_from(status).expect("a status"),
            headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
            body,
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Those that say the same of every answer to the same question; others count connections, time and requests.
    pub fn headers_that_matter(&self) -> Vec<(&str, &str)> {
        let differs =
            ["connection", "content-length", "date", "keep-alive", "x-request-id", "ratelimit"];
        let matter = self.headers.iter().filter(|(name, _)| !differs.contains(&name.as_str()));
        matter.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("digits");
                (u8::from_str_radix(digits, 16).expect("digits"), behind)
            }
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
}

fn last_of_each(query: &str, read: fn(&str) -> String) -> Option<BTreeMap<String, String>> {
    let all: BTreeMap<_, _> = pairs(query).map(|(name, value)| (read(name), read(value))).collect();
    (!all.is_empty()).then_some(all)
}

fn all_of_each(query: &str, read: fn(&str) -> String) -> Option<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    pairs(query).for_each(|(name, value)| all.entry(read(name)).or_default().push(read(value)));
    (!all.is_empty()).then_some(all)
}
