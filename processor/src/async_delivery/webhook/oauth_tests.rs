//! Tokens: fetched once, renewed in time, dropped when refused, and never shown.

use std::collections::VecDeque;

use futures::future::join_all;
use tokio::time::advance;

use super::*;

/// A token endpoint that answers as it is told, after a second.
#[derive(Default)]
struct Endpoint {
    answers: Mutex<VecDeque<Result<(u16, String), TransportError>>>,
    asked: Mutex<Vec<Request<Bytes>>>,
}

impl Endpoint {
    fn answering(answers: &[(u16, &str)]) -> Arc<Endpoint> {
        let endpoint = Endpoint::default();
        let answers = answers.iter().map(|(status, body)| Ok((*status, (*body).to_owned())));
        endpoint.answers.lock().unwrap().extend(answers);
        Arc::new(endpoint)
    }

    fn fetches(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Transport for Endpoint {
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        self.asked.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front().expect("no more answers");
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (status, excerpt) = answer?;
            let status = StatusCode::from_u16(status).unwrap();
            Ok(Answer { status, retry_after: None, excerpt })
        })
    }
}

fn client() -> OAuthClient {
    OAuthClient::new("https://login.example/token", "sluice gate", "s3cret&").unwrap()
}

fn source(endpoint: &Arc<Endpoint>) -> TokenSource {
    TokenSource::new(&client(), Arc::clone(endpoint) as Arc<dyn Transport>)
}

fn token(name: &str, expires_in: u64) -> String {
    format!(r#"{{"access_token":"{name}","token_type":"Bearer","expires_in":{expires_in}}}"#)
}

#[tokio::test(start_paused = true)]
async fn one_fetch_serves_all_who_wait_and_the_token_is_kept_until_shortly_before_its_end() {
    let answers = [token("t1", 600), token("t2", 50), token("t3", 600)];
    let endpoint = Endpoint::answering(&answers.each_ref().map(|body| (200, body.as_str())));
    let source = source(&endpoint);
    let all = join_all((0..20).map(|_| source.token())).await;
    assert!(all.iter().all(|token| token.as_ref().unwrap() == "Bearer t1"));
    assert_eq!(endpoint.fetches(), 1);
    advance(Duration::from_secs(539)).await;
    assert_eq!(source.token().await.unwrap(), "Bearer t1");
    advance(Duration::from_secs(1)).await;
    assert_eq!(source.token().await.unwrap(), "Bearer t2", "a minute before the end");
    advance(Duration::from_secs(39)).await;
    assert_eq!(source.token().await.unwrap(), "Bearer t2");
    advance(Duration::from_secs(1)).await;
    assert_eq!(source.token().await.unwrap(), "Bearer t3", "at four fifths of a short life");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_dropped_but_not_a_newer_one() {
    let answers = [token("t1", 600), token("t2", 600)];
    let endpoint = Endpoint::answering(&answers.each_ref().map(|body| (200, body.as_str())));
    let source = source(&endpoint);
    let first = source.token().await.unwrap();
    source.forget(&first);
    let second = source.token().await.unwrap();
    assert_eq!(second, "Bearer t2");
    source.forget(&first);
    assert_eq!(source.token().await.unwrap(), second);
    assert_eq!(endpoint.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_told_to_all_who_waited_and_the_next_one_asks_again() {
    let endpoint =
        Endpoint::answering(&[(401, r#"{"error":"invalid_client"}"#), (200, &token("t", 9))]);
    let source = source(&endpoint);
    for failed in join_all([source.token(), source.token()]).await {
        let error = failed.unwrap_err().to_string();
        assert_eq!(error, "token endpoint: answered 401 Unauthorized (invalid_client)");
    }
    assert_eq!(source.token().await.unwrap(), "Bearer t");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_takes_no_fetch_from_the_others() {
    let endpoint = Endpoint::answering(&[(200, &token("t", 600))]);
    let source = source(&endpoint);
    assert!(timeout(Duration::from_millis(10), source.token()).await.is_err());
    assert_eq!(source.token().await.unwrap(), "Bearer t");
    assert_eq!(endpoint.fetches(), 1);
}

#[test]
fn id_and_secret_stand_in_the_header_or_in_the_body() {
    let header = request(&client()).unwrap();
    // base64 of "sluice%20gate:s3cret%26"
    let basic = STANDARD.encode_to_string("sluice%20gate:s3cret%26");
    assert_eq!(header.headers()[AUTHORIZATION], format!("Basic {basic}"));
    assert_eq!(header.body(), "grant_type=client_credentials");
    let body = client().asking(Some("a b"), Some("https://x"), ClientPlace::Body).unwrap();
    let body = request(&body).unwrap();
    assert!(!body.headers().contains_key(AUTHORIZATION));
    assert_eq!(
        body.body(),
        "grant_type=client_credentials&scope=a%20b&audience=https%3A%2F%2Fx&client_id=sluice%20gate&client_secret=s3cret%26"
    );
}

#[test]
fn answers_that_are_no_tokens_are_refused_without_repeating_them() {
    let read = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after: None, excerpt: body.to_owned() };
        read(&answer, Instant::now()).map(|token| token.header)
    };
    let long = token(&"x".repeat(MAX_TOKEN + 1), 60);
    for (status, body) in [
        (200, ""),
        (200, "s3cret"),
        (200, r#"{"access_token":"s3cret"}"#),
        (200, r#"{"access_token":"s3cret","token_type":"mac"}"#),
        (200, r#"{"access_token":"s3cret\r\nx: y","token_type":"bearer"}"#),
        (200, r#"{"access_token":"","token_type":"bearer"}"#),
        (200, long.as_str()),
        (302, r#"{"access_token":"s3cret","token_type":"bearer"}"#),
        (400, r#"{"error":"the secret s3cret is wrong"}"#),
        (500, "s3cret"),
    ] {
        let error = read(status, body).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{body}: {error}");
    }
    let kept = read(200, r#"{"access_token":"t","token_type":"bEaReR"}"#).unwrap();
    assert_eq!(kept, "Bearer t");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_shows_a_secret() {
    let endpoint = Endpoint::answering(&[(200, &token("t0ken", 600))]);
    let source = source(&endpoint);
    let header = source.token().await.unwrap();
    let asked = endpoint.asked.lock().unwrap();
    let (head, _) = asked[0].clone().into_parts();
    let shown = format!("{source:?} {header:?} {head:?}");
    for secret in ["s3cret", "t0ken", "Basic "] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("https://login.example:443"), "{shown}");
}
