#!/usr/bin/env python3
"""SQS, SNS and EventBridge as the PyPI package `moto` has them, and what arrived in them.

    python3 aws_destinations.py serve
    python3 aws_destinations.py judge ENDPOINT FILE COUNT [SECONDS]

`serve` makes a queue, a FIFO queue, a topic with a queue behind it and a bus with a queue behind it, prints the
address and goes on until it is ended. `judge` waits, at most SECONDS (60), until the first COUNT messages of FILE are
in each queue, and compares them with the file: bodies, attributes, and of the FIFO queue the order of each group.

Exit codes: 0 = all is there and right, 1 = it is not, 77 = the package is not installed.
"""

import json
import sys
import threading
import time
from collections import defaultdict

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as missing:
    print(f"skipped: {missing} (pip install 'moto[server]')")
    sys.exit(77)

ACCOUNT = "us-east-1:123456789012"
QUEUES = ("plain", "ordered.fifo", "of-topic", "of-bus")


def client(service, endpoint):
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **keys)


def queue_arn(name):
    return f"arn:aws:sqs:{ACCOUNT}:{name}"


def serve():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    sqs = client("sqs", endpoint)
    for name in QUEUES:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        sqs.create_queue(QueueName=name, Attributes=fifo)
    sns = client("sns", endpoint)
    topic = sns.create_topic(Name="news")["TopicArn"]
    raw = {"RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn("of-topic"), Attributes=raw)
    events = client("events", endpoint)
    events.create_event_bus(Name="deliveries")
    pattern = json.dumps({"source": [{"prefix": "sluicegate/"}]})
    events.put_rule(Name="all", EventBusName="deliveries", EventPattern=pattern)
    target = {"Id": "queue", "Arn": queue_arn("of-bus")}
    events.put_targets(Rule="all", EventBusName="deliveries", Targets=[target])
    print(endpoint, flush=True)
    threading.Event().wait()


class Queue:
    """Everything that came into one queue, in the order in which it was received."""

    def __init__(self, sqs, name):
        self.sqs, self.name, self.got = sqs, name, []
        self.url = sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def take(self):
        """Receives and deletes what is there now."""
        while True:
            asked = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
            told = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, **asked)
            messages = told.get("Messages", [])
            if not messages:
                return
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            self.got += messages

    def by_id(self):
        """Body by message id, and what of the messages is not as it should be."""
        found, wrong = {}, []
        for message in self.got:
            if self.name == "of-bus":
                event = json.loads(message["Body"])
                found[event["resources"][1]] = json.dumps(event["detail"])
                source = f"sluicegate/{event['detail-type']}"
                if event["source"] != source or not event["resources"][0].startswith("arn:aws:kinesis:"):
                    wrong.append(f"{self.name}: {event}")
                continue
            attributes = message.get("MessageAttributes", {})
            value = {name: told.get("StringValue") for name, told in attributes.items()}
            found[value.get("sluicegate-message-id")] = message["Body"]
            if not value.get("sluicegate-integration") or not value.get("sluicegate-entity"):
                wrong.append(f"{self.name}: {value}")
        return found, wrong


def key_of(body):
    return json.loads(body)["properties"]["net"]


def groups(queue):
    """Bodies by group, in the order in which the queue gave them."""
    found = defaultdict(list)
    for message in queue.got:
        found[message["Attributes"]["MessageGroupId"]].append(message["Body"])
    return found


def judge(endpoint, file, count, seconds):
    with open(file, encoding="utf-8") as lines:
        sent = [line.rstrip("\n") for line in lines][:count]
    sqs = client("sqs", endpoint)
    queues = [Queue(sqs, name) for name in QUEUES]
    deadline = time.monotonic() + seconds
    while any(len(queue.by_id()[0]) < count for queue in queues) and time.monotonic() < deadline:
        for queue in queues:
            queue.take()
        time.sleep(0.2)
    canonical = sorted(json.dumps(json.loads(body), sort_keys=True) for body in sent)
    failed = []
    for queue in queues:
        found, wrong = queue.by_id()
        failed += wrong
        bodies = sorted(json.dumps(json.loads(body), sort_keys=True) for body in found.values())
        if bodies != canonical:
            failed.append(f"{queue.name}: {len(found)} messages, not the {count} that were sent")
        elif queue.name != "of-bus" and sorted(found.values()) != sorted(sent):
            failed.append(f"{queue.name}: a body is not byte for byte what was sent")
        else:
            print(f"ok   {queue.name}: {len(found)} messages in {len(queue.got)} deliveries")
    expected = defaultdict(list)
    for body in sent:
        expected[key_of(body)].append(body)
    if groups(queues[1]) == expected:
        print(f"ok   ordered.fifo: {len(expected)} groups, each in order and once")
    else:
        failed.append("ordered.fifo: a group is not in the order in which it was sent")
    for line in failed:
        print(f"FAIL {line}")
    return 1 if failed else 0


def main(arguments):
    match arguments:
        case ["serve"]:
            serve()
        case ["judge", endpoint, file, count, *seconds]:
            return judge(endpoint, file, int(count), float(seconds[0]) if seconds else 60.0)
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
