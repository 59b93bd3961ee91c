use super::*;

fn request(target: &str, body: &str) -> http::Request<Bytes> {
    http::Request::post("/")
        .header("x-amz-target", target)
        .header("content-type", "application/x-amz-json-1.0")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=worker-1/20260101/r/s/aws4_request, SignedHeaders=host, Signature=00")
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

fn refusal(request: http::Request<Bytes>) -> String {
    match Call::parse(request) {
        Err(Answer::Json { body, .. }) => String::from_utf8(body.to_vec()).unwrap(),
        Err(Answer::Stream(_)) => panic!("a stream"),
        Ok(call) => panic!("{call:?}"),
    }
}

#[test]
fn a_call_knows_its_service_caller_and_resource() {
    let call = Call::parse(request("DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#));
    let call = call.unwrap_or_else(|_| panic!("refused"));
    assert_eq!(call.service, Service::Dynamodb);
    assert_eq!(call.operation, "GetItem");
    assert_eq!(call.caller, "worker-1");
    assert_eq!(call.resources, ["t"]);
}

#[test]
fn resources_are_found_wherever_a_request_names_them() {
    let cases: [(&str, &[&str]); 9] = [
        (r#"{"StreamName":"s"}"#, &["s"]),
        (r#"{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s"}"#, &["s"]),
        (
            r#"{"ConsumerARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:17"}"#,
            &["s"],
        ),
        (r#"{"RequestItems":{"b":[],"a":[{"x":1}]}}"#, &["a", "b"]),
        (r#"{"TransactItems":[{"Put":{"TableName":"a"}},{"Update":{"TableName":"a"}}]}"#, &["a"]),
        (
            r#"{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/000000000000/q","Entries":[{"Id":"0"}]}"#,
            &["q"],
        ),
        (r#"{"TopicArn":"arn:aws:sns:us-east-1:000000000000:t"}"#, &["t"]),
        (
            r#"{"Entries":[{"EventBusName":"b"},{"EventBusName":"arn:aws:events:us-east-1:000000000000:event-bus/c"}]}"#,
            &["b", "c"],
        ),
        ("[]", &[]),
    ];
    for (body, names) in cases {
        assert_eq!(resources::of(body.as_bytes()), names, "{body}");
    }
}

#[test]
fn what_aws_refuses_before_an_operation_runs_is_refused_here() {
    let mut unsigned = request("Kinesis_20131202.ListStreams", "{}");
    unsigned.headers_mut().remove("authorization");
    assert!(refusal(unsigned).contains("MissingAuthenticationTokenException"));

    let mut no_key = request("Kinesis_20131202.ListStreams", "{}");
    no_key.headers_mut().insert("authorization", "Bearer x".parse().unwrap());
    assert!(refusal(no_key).contains("IncompleteSignatureException"));

    assert!(refusal(request("Sqs_1.SendMessage", "{}")).contains("UnknownOperationException"));
    assert!(refusal(request("DynamoDB_20120810.", "{}")).contains("UnknownOperationException"));

    let mut cbor = request("Kinesis_20131202.ListStreams", "{}");
    cbor.headers_mut().insert("content-type", "application/x-amz-cbor-1.1".parse().unwrap());
    assert!(refusal(cbor).contains("switch CBOR off"));

    let big = "x".repeat(MAX_BODY_BYTES + 1);
    assert!(refusal(request("Kinesis_20131202.PutRecord", &big)).contains("TooLarge"));
}
