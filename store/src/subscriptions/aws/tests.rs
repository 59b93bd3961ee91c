//! What is a queue, a topic, a bus and a role, and what is not.

use super::*;

#[test]
fn a_queue_is_taken_by_url_or_arn_and_says_its_region() {
    let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders";
    let queue = QueueUrl::parse(url).unwrap();
    assert_eq!(
        (queue.as_str(), queue.region(), queue.name()),
        (url, "eu-west-1", "123456789012/orders")
    );
    assert!(!queue.is_fifo());
    assert_eq!(QueueUrl::parse("arn:aws:sqs:eu-west-1:123456789012:orders").unwrap(), queue);
    let fifo = QueueUrl::parse("arn:aws:sqs:us-east-1:123456789012:orders.fifo").unwrap();
    assert!(fifo.is_fifo());
    let china = QueueUrl::parse("arn:aws-cn:sqs:cn-north-1:123456789012:orders").unwrap();
    assert_eq!(china.as_str(), "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders");
    let fips = "https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/orders";
    assert_eq!(QueueUrl::parse(fips).unwrap().region(), "us-gov-west-1");
}

#[test]
fn what_is_no_queue_is_refused_with_what_is_allowed() {
    let name = "q".repeat(81);
    for bad in [
        "",
        "orders",
        "http://sqs.eu-west-1.amazonaws.com/123456789012/orders",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders/more",
        "https://sqs.eu-west-1.amazonaws.com/12345678901/orders",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/.fifo",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/a.b",
        "https://sqs.eu-west-1.amazonaws.com.example.com/123456789012/orders",
        "https://example.com/sqs.eu-west-1.amazonaws.com/123456789012/orders",
        "https://sqs.a/b.amazonaws.com/123456789012/orders",
        "https://sqs.x@y.amazonaws.com/123456789012/orders",
        "arn:aws:sns:eu-west-1:123456789012:orders",
        "arn:other:sqs:eu-west-1:123456789012:orders",
        &format!("https://sqs.eu-west-1.amazonaws.com/123456789012/{name}"),
    ] {
        let error = QueueUrl::parse(bad).unwrap_err().to_string();
        assert!(error.contains("queue") && error.contains("https://sqs."), "{bad}: {error}");
    }
}

#[test]
fn a_topic_is_an_arn() {
    let topic = TopicArn::parse("arn:aws:sns:eu-west-1:123456789012:orders").unwrap();
    assert_eq!((topic.region(), topic.is_fifo()), ("eu-west-1", false));
    assert!(TopicArn::parse("arn:aws:sns:eu-west-1:123456789012:orders.fifo").unwrap().is_fifo());
    for bad in [
        "orders",
        "arn:aws:sns:eu-west-1:123456789012",
        "arn:aws:sns:eu-west-1:123456789012:orders:subscription",
        "arn:aws:sns::123456789012:orders",
        "arn:aws:sqs:eu-west-1:123456789012:orders",
    ] {
        assert!(TopicArn::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_bus_is_an_arn_or_a_name() {
    let bus = EventBus::parse("arn:aws:events:eu-west-1:123456789012:event-bus/orders").unwrap();
    assert_eq!(bus.region(), Some("eu-west-1"));
    assert_eq!(EventBus::parse("default").unwrap().region(), None);
    for bad in [
        "",
        "a bus",
        "arn:aws:events:eu-west-1:123456789012:rule/orders",
        "arn:aws:events:eu-west-1:123456789012:event-bus/",
    ] {
        assert!(EventBus::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_role_is_an_arn_and_its_external_id_is_not_shown() {
    let arn = "arn:aws:iam::123456789012:role/partners/deliver";
    let role = AssumedRole::parse(arn, Some("client-7:a")).unwrap();
    assert_eq!((role.arn(), role.external_id()), (arn, Some("client-7:a")));
    assert!(!format!("{role:?}").contains("client-7"));
    assert_eq!(AssumedRole::parse(arn, None).unwrap().external_id(), None);
    for bad in [
        "deliver",
        "arn:aws:iam::123456789012:user/deliver",
        "arn:aws:iam::1:role/deliver",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:sts::123456789012:role/deliver",
    ] {
        assert!(AssumedRole::parse(bad, None).is_err(), "{bad}");
    }
    for bad in ["x", "with space", "quote\""] {
        assert!(AssumedRole::parse(arn, Some(bad)).is_err(), "{bad}");
    }
}
