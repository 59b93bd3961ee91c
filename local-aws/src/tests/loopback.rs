//! The same calls over real sockets: HTTP/1.1 by the SDK's own client, HTTP/2 by prior knowledge, and the control endpoint.

use std::net::SocketAddr;

use aws_sdk_dynamodb::error::SdkError;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client as HyperClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Effect, Fault, Service};

struct Server {
    aws: LocalAws,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let aws = LocalAws::new(Options::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (served, token) = (aws.clone(), stop.clone());
        let task = tokio::spawn(async move { served.serve(listener, token).await });
        Self { aws, address, stop, task }
    }

    fn client(&self) -> Client {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = config("tester").http_client(http);
        Client::from_conf(config.endpoint_url(self.url("")).build())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn control(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(self.url(path));
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let response = hyper_client(false).request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Ends within the drain, whatever is open.
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn hyper_client(http2: bool) -> HyperClient<HttpConnector, Full<Bytes>> {
    HyperClient::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

#[tokio::test]
async fn the_sdks_own_http_client_is_served() {
    let server = Server::start().await;
    let client = server.client();
    create_table(&client, "items").await;
    add_one(&client).await.unwrap();
    assert_eq!(counter(&client).await, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_lost_reply_cuts_the_connection_after_the_write() {
    let server = Server::start().await;
    let client = server.client();
    create_table(&client, "items").await;
    let lost = Fault::new(Service::Dynamodb, Effect::LostReply).times(1);
    server.aws.faults().inject(lost);
    let get = client.update_item().table_name("items");
    let get = get.key("pk", string("a")).key("sk", string("1"));
    let get = get.update_expression("SET n = :one");
    let one = AttributeValue::N("1".to_owned());
    let ended = get.expression_attribute_values(":one", one).send().await;
    let ended = ended.unwrap_err();
    assert!(matches!(ended, SdkError::DispatchFailure(_)), "{ended:?}");
    assert_eq!(counter(&client).await, 1);
    server.stop().await;
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_served_and_answers_carry_their_checksum() {
    let server = Server::start().await;
    let client = hyper_client(true);
    let call = |signed: bool| {
        let request = Request::post(server.url("/"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", "DynamoDB_20120810.ListTables");
        let request = if signed {
            request.header("authorization", "AWS4-HMAC-SHA256 Credential=k/d/r/s/aws4_request")
        } else {
            request
        };
        client.request(request.body(Full::from("{}")).unwrap())
    };
    let response = call(true).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    let checksum = response.headers()["x-amz-crc32"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(checksum, crc32fast::hash(&body).to_string());

    let refused = call(false).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("MissingAuthenticationTokenException"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn faults_and_counters_are_reached_from_another_process() {
    let server = Server::start().await;
    let client = server.client();
    create_table(&client, "items").await;
    let health = server.control(Method::GET, "/_local/health", "").await;
    assert_eq!(health, (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()));

    let fault = r#"{"service":"dynamodb","operation":"UpdateItem","effect":"throttle"}"#;
    let injected = server.control(Method::POST, "/_local/faults", fault).await;
    assert_eq!(injected, (StatusCode::OK, r#"{"id":1}"#.to_owned()));
    assert!(add_one(&client).await.is_err());
    let cleared = server.control(Method::DELETE, "/_local/faults/1", "").await;
    assert_eq!(cleared.0, StatusCode::OK);
    add_one(&client).await.unwrap();

    let (_, calls) = server.control(Method::GET, "/_local/calls", "").await;
    assert!(calls.contains(r#""operation":"UpdateItem""#), "{calls}");
    let typo = server.control(Method::POST, "/_local/faults", r#"{"effect":"throttle"}"#).await;
    assert_eq!(typo.0, StatusCode::BAD_REQUEST);
    assert!(typo.1.contains("service"), "{}", typo.1);
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_is_never_answered_does_not_hold_up_the_stop() {
    let server = Server::start().await;
    let client = server.client();
    create_table(&client, "items").await;
    let partition = Fault::new(Service::Dynamodb, Effect::Partition);
    server.aws.faults().inject(partition);
    let waiting = tokio::spawn(async move { add_one(&client).await });
    let called = || {
        let calls = server.aws.calls();
        calls.iter().any(|count| count.operation == "UpdateItem")
    };
    while !called() {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn an_open_event_stream_does_not_hold_up_the_stop() {
    let server = Server::start().await;
    let client = hyper_client(true);
    let call = |operation: &str, body: &str| {
        let request = Request::post(server.url("/"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=k/d/r/s/aws4_request")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .body(Full::from(body.to_owned()));
        client.request(request.unwrap())
    };
    let created = call("CreateStream", r#"{"StreamName":"orders","ShardCount":1}"#);
    assert_eq!(created.await.unwrap().status(), StatusCode::OK);
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";
    let register = format!(r#"{{"StreamARN":"{arn}","ConsumerName":"app"}}"#);
    let registered = call("RegisterStreamConsumer", &register).await.unwrap();
    let registered = registered.into_body().collect().await.unwrap().to_bytes();
    let registered: serde_json::Value = serde_json::from_slice(&registered).unwrap();
    let subscribe = serde_json::json!({
        "ConsumerARN": registered["Consumer"]["ConsumerARN"],
        "ShardId": "shardId-000000000000",
        "StartingPosition": { "Type": "TRIM_HORIZON" },
    });
    let response = call("SubscribeToShard", &subscribe.to_string()).await.unwrap();
    let content_type = &response.headers()["content-type"];
    assert_eq!(content_type, "application/vnd.amazon.eventstream");
    let mut frames = response.into_body();
    assert!(frames.frame().await.unwrap().is_ok());
    server.stop().await;
    while let Some(frame) = frames.frame().await {
        if frame.is_err() {
            break;
        }
    }
}
