//! Answers that no Kinesis gives on demand.

use std::collections::VecDeque;
use std::sync::Mutex;

use aws_sdk_kinesis::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;

use super::super::frame::frame_tests;
use super::*;

const CONSUMER: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1";

/// What one call is answered with.
enum Answer {
    /// A stream of these bytes, which then ends.
    Stream(Vec<u8>),
    /// A stream on which nothing ever comes.
    Silence,
    /// An error of the service.
    Error(u16, &'static str),
    /// No answer; the connection fails.
    Cut,
}

#[derive(Debug)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    /// When calls were made, and from where they started.
    calls: Mutex<Vec<(Instant, String)>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

#[derive(Debug, Clone)]
struct Connector(Arc<Script>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body: serde_json::Value =
            serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let start = &body["StartingPosition"];
        if start.is_null() {
            // The consumer is asked for by its name: there is none.
            return error(400, "ResourceNotFoundException");
        }
        let from = start["SequenceNumber"].as_str().or(start["Type"].as_str()).unwrap();
        self.0.calls.lock().unwrap().push((Instant::now(), from.to_owned()));
        let answer = self.0.answers.lock().unwrap().pop_front().expect("more calls than answers");
        let (status, body) = match answer {
            Answer::Stream(bytes) => (200, SdkBody::from(bytes)),
            Answer::Silence => (200, silence()),
            Answer::Error(status, code) => return error(status, code),
            Answer::Cut => {
                let error = ConnectorError::io("connection reset".into());
                return HttpConnectorFuture::ready(Err(error));
            }
        };
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), body)))
    }
}

fn error(status: u16, code: &str) -> HttpConnectorFuture {
    let body = SdkBody::from(format!(r#"{{"__type":"{code}","message":"no"}}"#));
    HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), body)))
}

fn silence() -> SdkBody {
    let frames = stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    SdkBody::from_body_1_x(StreamBody::new(frames))
}

fn scripted(answers: Vec<Answer>) -> (Arc<Script>, FanOut) {
    let script = Arc::new(Script { answers: Mutex::new(answers.into()), calls: Mutex::default() });
    let connector = SharedHttpConnector::new(Connector(Arc::clone(&script)));
    let client = client(http_client_fn(move |_, _| connector.clone()));
    let parts = FanOutParts {
        options: FanOutOptions::default(),
        connections: Connections::new(client.into()),
        turns: Turns::new(1000),
        budget: Budget::new(64 << 20),
        consumer: Consumer::new("arn:aws:kinesis:us-east-1:000000000000:stream/s", CONSUMER),
    };
    let shard = context("arn:aws:kinesis:us-east-1:000000000000:stream/s", "shardId-000000000000");
    let start = StartingAt::TrimHorizon;
    (script, FanOut::new(parts, shard, start, 7))
}

/// An event with one record, and a continuation of the same number.
fn event(n: u32) -> Vec<u8> {
    let data = base64_simd::STANDARD.encode_to_string(n.to_string());
    frame_tests::event(&format!(
        r#"{{"Records":[{{"SequenceNumber":"{n}","ApproximateArrivalTimestamp":1.5,"Data":"{data}","PartitionKey":"k"}}],"ContinuationSequenceNumber":"{n}","MillisBehindLatest":0}}"#
    ))
}

fn exception(code: &str) -> Vec<u8> {
    let headers = [(":message-type", "exception"), (":exception-type", code)];
    frame_tests::encode(&headers, br#"{"message":"in the stream"}"#)
}

fn initial() -> Vec<u8> {
    let headers = [(":message-type", "event"), (":event-type", "initial-response")];
    frame_tests::encode(&headers, b"{}")
}

fn froms(script: &Script) -> Vec<String> {
    script.calls.lock().unwrap().iter().map(|(_, from)| from.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn after_every_kind_of_end_reading_resumes_behind_the_last_event() {
    let mut corrupt = event(6);
    let at = corrupt.len() - 20;
    corrupt[at] ^= 1;
    let half = event(6)[..50].to_vec();
    let no_continuation = frame_tests::event(r#"{"Records":[],"MillisBehindLatest":0}"#);
    let too_large = {
        let lengths = [(33u32 << 20).to_be_bytes(), 0u32.to_be_bytes()].concat();
        [&lengths[..], &crc32fast::hash(&lengths).to_be_bytes()].concat()
    };
    let (script, mut fan_out) = scripted(vec![
        Answer::Stream([initial(), event(1)].concat()),
        Answer::Cut,
        Answer::Stream([initial(), event(2), exception("InternalFailureException")].concat()),
        Answer::Error(400, "LimitExceededException"),
        Answer::Stream([event(3), corrupt].concat()),
        Answer::Stream([event(4), half].concat()),
        Answer::Stream([event(5), no_continuation].concat()),
        Answer::Stream(too_large),
        Answer::Error(500, "InternalFailure"),
        Answer::Error(400, "ResourceInUseException"),
        Answer::Silence,
        Answer::Stream([event(6), exception("KMSThrottlingException")].concat()),
        Answer::Stream(event(7)),
    ]);
    assert_eq!(read(&mut fan_out, 7).await, [1, 2, 3, 4, 5, 6, 7]);
    let expected = ["TRIM_HORIZON", "1", "1", "2", "2", "3", "4", "5", "5", "5", "5", "5", "6"];
    assert_eq!(froms(&script), expected);
    let calls = script.calls.lock().unwrap();
    for pair in calls.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_secs(1), "{pair:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_silent_subscriptions_in_a_row_end_the_reading() {
    let silences = || [Answer::Silence, Answer::Silence];
    let mut answers: Vec<Answer> = silences().into();
    answers.push(Answer::Stream(event(1)));
    answers.extend(silences());
    answers.push(Answer::Silence);
    let (script, mut fan_out) = scripted(answers);
    assert_eq!(read(&mut fan_out, 1).await, [1]);
    let before = Instant::now();
    let error = fan_out.next().await.unwrap_err();
    assert_eq!(error, ReadError::Inactive { subscriptions: 3 });
    assert!((105..120).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(froms(&script).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_no_waiting_cures_is_said_after_a_few_slow_attempts() {
    let (script, mut fan_out) =
        scripted((0..4).map(|_| Answer::Error(400, "AccessDeniedException")).collect());
    let before = Instant::now();
    let error = fan_out.next().await.unwrap_err();
    let refused = ReadError::Refused {
        operation: "SubscribeToShard",
        code: "AccessDeniedException".to_owned(),
        detail: "no".to_owned(),
        times: 4,
    };
    assert_eq!(error, refused);
    assert_eq!(before.elapsed().as_secs(), 30);
    assert_eq!(froms(&script).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_said_at_once() {
    let (_, mut fan_out) = scripted(vec![Answer::Error(400, "ResourceNotFoundException")]);
    let error = fan_out.next().await.unwrap_err();
    assert_eq!(
        error,
        ReadError::NotFound { operation: "SubscribeToShard", detail: "no".to_owned() }
    );
    let (_, mut fan_out) =
        scripted(vec![Answer::Stream([event(1), exception("ResourceNotFoundException")].concat())]);
    assert_eq!(read(&mut fan_out, 1).await, [1]);
    let error = fan_out.next().await.unwrap_err();
    assert_eq!(
        error,
        ReadError::NotFound { operation: "SubscribeToShard", detail: "in the stream".to_owned() }
    );
}
