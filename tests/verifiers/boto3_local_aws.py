#!/usr/bin/env python3
"""boto3, a client that this project did not write, against local-aws over loopback.

    sluicegate local --listen 127.0.0.1:0             # prints http://127.0.0.1:PORT
    python3 tests/verifiers/boto3_local_aws.py http://127.0.0.1:PORT

Every step prints one line; the exit code is 1 when a step failed and 77 when boto3 is not installed.
"""

import itertools
import json
import sys
import threading
import time
import urllib.request

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError
except ImportError as missing:
    print(f"skipped: {missing} (pip install boto3)")
    sys.exit(77)

STREAM = "judged"
HASH_SPACE = 2**128
failures = []


def client(service, endpoint):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="boto3",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
    )


def step(name):
    """Runs a step, prints how it ended, and goes on to the next one."""

    def run(check):
        started = time.monotonic()
        try:
            result = check()
            print(f"ok    {name}: {result} ({time.monotonic() - started:.2f} s)", flush=True)
        except Exception as error:  # whatever it is, it is the step's result
            failures.append(name)
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        return check

    return run


def expect(condition, found):
    if not condition:
        raise AssertionError(found)


def refused(code, call, **arguments):
    """The error of a call that must fail with this code."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        expect(error.response["Error"]["Code"] == code, error)
        return error.response
    raise AssertionError(f"{code} expected, answered {answer}")


def all_shards(kinesis, **arguments):
    shards, page = [], kinesis.list_shards(StreamName=STREAM, **arguments)
    while True:
        shards += page["Shards"]
        if not page.get("NextToken"):
            return shards
        page = kinesis.list_shards(NextToken=page["NextToken"])


def open_shards(kinesis):
    return all_shards(kinesis, ShardFilter={"Type": "AT_LATEST"})


def hash_range(shard):
    keys = shard["HashKeyRange"]
    return int(keys["StartingHashKey"]), int(keys["EndingHashKey"])


def wait_active(kinesis):
    for _ in range(200):
        summary = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "ACTIVE":
            return summary
        time.sleep(0.1)
    raise AssertionError("the stream did not become ACTIVE")


def read_all(kinesis, shard_id):
    """Every record of a shard, and the last answer."""
    iterator = kinesis.get_shard_iterator(
        StreamName=STREAM, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = []
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if iterator is None or answer["MillisBehindLatest"] == 0 and not answer["Records"]:
            return records, answer
        time.sleep(0.25)  # five reads a second and shard


def judge_dynamodb(dynamodb):
    table = "judged"

    @step("dynamodb: a table with time to live")
    def _():
        dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        dynamodb.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})
        dynamodb.update_time_to_live(
            TableName=table,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "expiresAt"},
        )
        described = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        expect(described["AttributeName"] == "expiresAt", described)
        return described["TimeToLiveStatus"]

    @step("dynamodb: a conditional put gives the old item back")
    def _():
        item = {"pk": {"S": "a"}, "sk": {"S": "1"}, "owner": {"S": "w-1"}}
        put = {
            "TableName": table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        dynamodb.put_item(**put)
        error = refused("ConditionalCheckFailedException", dynamodb.put_item, **put)
        expect(error["Item"] == item, error)
        return error["Item"]["owner"]

    @step("dynamodb: batches, and their limit of 25")
    def _():
        def write(count):
            return [
                {"PutRequest": {"Item": {"pk": {"S": "b"}, "sk": {"S": f"{n:03}"}}}}
                for n in range(count)
            ]

        answer = dynamodb.batch_write_item(RequestItems={table: write(25)})
        expect(not answer["UnprocessedItems"], answer)
        refused(
            "ValidationException", dynamodb.batch_write_item, RequestItems={table: write(26)}
        )
        return "25 written, 26 refused"

    @step("dynamodb: a query in pages, backwards")
    def _():
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues={":p": {"S": "b"}},
            ScanIndexForward=False,
            PaginationConfig={"PageSize": 10},
        )
        pages = [[item["sk"]["S"] for item in page["Items"]] for page in pages]
        keys = list(itertools.chain.from_iterable(pages))
        expect(keys == sorted(keys, reverse=True) and len(keys) == 25, keys)
        return f"{len(keys)} items in {len(pages)} pages"

    @step("dynamodb: an update with an expression")
    def _():
        answer = dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "a"}, "sk": {"S": "1"}},
            UpdateExpression="SET #o = :o ADD n :one",
            ConditionExpression="#o = :w",
            ExpressionAttributeNames={"#o": "owner"},
            ExpressionAttributeValues={
                ":o": {"S": "w-2"},
                ":w": {"S": "w-1"},
                ":one": {"N": "1"},
            },
            ReturnValues="ALL_NEW",
        )
        expect(answer["Attributes"]["n"] == {"N": "1"}, answer)
        return answer["Attributes"]

    @step("dynamodb: a transaction that fails leaves nothing")
    def _():
        def put(sk):
            return {"Put": {"TableName": table, "Item": {"pk": {"S": "t"}, "sk": {"S": sk}}}}

        impossible = put("2")
        impossible["Put"]["ConditionExpression"] = "attribute_exists(pk)"
        error = refused(
            "TransactionCanceledException",
            dynamodb.transact_write_items,
            TransactItems=[put("1"), impossible],
        )
        reasons = [reason["Code"] for reason in error["CancellationReasons"]]
        expect(reasons == ["None", "ConditionalCheckFailed"], reasons)
        key = {"pk": {"S": "t"}, "sk": {"S": "1"}}
        expect("Item" not in dynamodb.get_item(TableName=table, Key=key), "half applied")
        return reasons


def judge_kinesis(kinesis):
    @step("kinesis: create a stream of 2 shards")
    def _():
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        summary = wait_active(kinesis)
        kinesis.get_waiter("stream_exists").wait(
            StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
        )
        expect(summary["OpenShardCount"] == 2, summary)
        return summary["StreamARN"]

    @step("kinesis: the same name again is refused")
    def _():
        error = refused(
            "ResourceInUseException", kinesis.create_stream, StreamName=STREAM, ShardCount=1
        )
        return error["Error"]["Message"]

    @step("kinesis: put_record and put_records")
    def _():
        one = kinesis.put_record(StreamName=STREAM, Data=b"first", PartitionKey="k-0")
        many = kinesis.put_records(
            StreamName=STREAM,
            Records=[
                {"Data": json.dumps({"n": n}).encode(), "PartitionKey": f"k-{n}"}
                for n in range(100)
            ],
        )
        expect(many["FailedRecordCount"] == 0, many)
        numbers = [one["SequenceNumber"]] + [r["SequenceNumber"] for r in many["Records"]]
        expect(all(len(n) == 56 and n.isdigit() for n in numbers), numbers[:3])
        return f"{len(numbers)} records, {one['ShardId']} {one['SequenceNumber']}"

    @step("kinesis: read them back by iterators, in order")
    def _():
        counts, found = {}, []
        for shard in all_shards(kinesis):
            records, _ = read_all(kinesis, shard["ShardId"])
            numbers = [int(record["SequenceNumber"]) for record in records]
            expect(numbers == sorted(set(numbers)), numbers)
            counts[shard["ShardId"]] = len(records)
            found += [record["Data"] for record in records]
        expect(b"first" in found and len(found) == 101, counts)
        return counts

    @step("kinesis: list_shards in pages")
    def _():
        page = kinesis.list_shards(StreamName=STREAM, MaxResults=1)
        expect(len(page["Shards"]) == 1 and page.get("NextToken"), page)
        shards = all_shards(kinesis, MaxResults=1)
        ranges = sorted(hash_range(shard) for shard in shards)
        expect(ranges[0][0] == 0 and ranges[-1][1] == HASH_SPACE - 1, ranges)
        return [shard["ShardId"] for shard in shards]

    @step("kinesis: split a shard; the parent ends and names its children")
    def _():
        parent = open_shards(kinesis)[0]
        low, high = hash_range(parent)
        kinesis.split_shard(
            StreamName=STREAM,
            ShardToSplit=parent["ShardId"],
            NewStartingHashKey=str((low + high) // 2),
        )
        wait_active(kinesis)
        shards = {shard["ShardId"]: shard for shard in all_shards(kinesis)}
        closed = shards[parent["ShardId"]]["SequenceNumberRange"]
        expect(closed.get("EndingSequenceNumber"), closed)
        records, last = read_all(kinesis, parent["ShardId"])
        expect(records, "the parent's records are gone")
        expect(last.get("NextShardIterator") is None, last)
        children = [child["ShardId"] for child in last["ChildShards"]]
        expect(len(children) == 2, last)
        return f"{parent['ShardId']} -> {children}"

    @step("kinesis: merge two neighbours")
    def _():
        shards = sorted(open_shards(kinesis), key=hash_range)
        kinesis.merge_shards(
            StreamName=STREAM,
            ShardToMerge=shards[0]["ShardId"],
            AdjacentShardToMerge=shards[1]["ShardId"],
        )
        wait_active(kinesis)
        merged = [s for s in open_shards(kinesis) if s.get("AdjacentParentShardId")]
        expect(len(merged) == 1, merged)
        parents = {merged[0]["ParentShardId"], merged[0]["AdjacentParentShardId"]}
        expect(parents == {shards[0]["ShardId"], shards[1]["ShardId"]}, parents)
        return f"{sorted(parents)} -> {merged[0]['ShardId']}"

    @step("kinesis: update_shard_count to 4; the open shards tile the hash space")
    def _():
        kinesis.update_shard_count(
            StreamName=STREAM, TargetShardCount=4, ScalingType="UNIFORM_SCALING"
        )
        wait_active(kinesis)
        ranges = sorted(hash_range(shard) for shard in open_shards(kinesis))
        expect(len(ranges) == 4 and ranges[0][0] == 0, ranges)
        for (_, end), (start, _) in itertools.pairwise(ranges):
            expect(start == end + 1, ranges)
        return f"{len(all_shards(kinesis))} shards, 4 open"

    @step("kinesis: subscribe_to_shard pushes within milliseconds")
    def _():
        return subscribe(kinesis)

    @step("kinesis: what does not exist is not found")
    def _():
        error = refused(
            "ResourceNotFoundException", kinesis.describe_stream_summary, StreamName="nope"
        )
        return error["Error"]["Message"]

    @step("kinesis: delete the stream")
    def _():
        kinesis.delete_stream(StreamName=STREAM, EnforceConsumerDeletion=True)
        kinesis.get_waiter("stream_not_exists").wait(
            StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
        )
        return kinesis.list_streams()["StreamNames"]


def subscribe(kinesis):
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
    arn = arn["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="judge")["Consumer"]
    for _ in range(100):
        described = kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])
        if described["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE":
            break
        time.sleep(0.1)
    shard = sorted(open_shards(kinesis), key=hash_range)[0]
    subscription = {
        "ConsumerARN": consumer["ConsumerARN"],
        "ShardId": shard["ShardId"],
        "StartingPosition": {"Type": "LATEST"},
    }
    events = kinesis.subscribe_to_shard(**subscription)["EventStream"]
    refused("ResourceInUseException", kinesis.subscribe_to_shard, **subscription)

    def put():
        key = str(hash_range(shard)[0])
        kinesis.put_record(
            StreamName=STREAM,
            Data=repr(time.time()).encode(),
            PartitionKey="p",
            ExplicitHashKey=key,
        )

    timer = threading.Timer(0.5, put)
    timer.start()
    empty = 0
    for event in events:
        event = event["SubscribeToShardEvent"]
        expect(event["ContinuationSequenceNumber"], event)
        if event["Records"]:
            lag_ms = (time.time() - float(event["Records"][0]["Data"])) * 1000
            break
        empty += 1
    events.close()
    timer.join()
    kinesis.deregister_stream_consumer(ConsumerARN=consumer["ConsumerARN"])
    expect(lag_ms < 1000, lag_ms)
    return f"{empty} empty event(s), then the record {lag_ms:.1f} ms after it was put"


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    endpoint = sys.argv[1]
    print(f"boto3 {boto3.__version__} against {endpoint}")
    judge_dynamodb(client("dynamodb", endpoint))
    judge_kinesis(client("kinesis", endpoint))
    with urllib.request.urlopen(f"{endpoint}/_local/calls", timeout=5) as answer:
        calls = json.load(answer)["calls"]
    print(f"{sum(count['calls'] for count in calls)} calls of {len(calls)} kinds")
    print("FAILED: " + ", ".join(failures) if failures else "all steps passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
