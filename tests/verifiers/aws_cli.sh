#!/usr/bin/env bash
# The unmodified AWS CLI against local-aws over loopback.
#
#     tests/verifiers/aws_cli.sh http://127.0.0.1:PORT
#
# Creates a stream, puts and gets records, lists, splits and merges shards, deletes the stream; and the same
# for a DynamoDB table. Uses the `aws` of the path, or the one that AWS names.
# Exit codes: 0 = all steps passed, 1 = a step failed, 77 = the AWS CLI is not installed.
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
ENDPOINT=$1
AWS=${AWS:-aws}
"$AWS" --version >/dev/null 2>&1 || { echo "skipped: no $AWS command (pip install awscli)"; exit 77; }

# Nothing of the machine's own: no profile, no metadata service, no pager.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export AWS_ACCESS_KEY_ID=cli AWS_SECRET_ACCESS_KEY=cli AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=""
export AWS_MAX_ATTEMPTS=1

STREAM=cli-judged
TABLE=cli-judged

cli() { "$AWS" --endpoint-url "$ENDPOINT" --cli-connect-timeout 5 --cli-read-timeout 20 --output text "$@"; }
kinesis() { local call=$1; shift; cli kinesis "$call" --stream-name "$STREAM" "$@"; }
ok() { echo "ok    $*"; }
fail() { echo "FAIL  $*"; exit 1; }
# Ends unless the two are the same: what, found, expected.
same() { [ "$2" = "$3" ] || fail "$1: '$2', expected '$3'"; ok "$1: $2"; }
trap 'code=$?; [ $code -eq 0 ] || echo "FAIL  ended with $code"' EXIT

active() {
    local status=""
    for _ in $(seq 50); do
        status=$(kinesis describe-stream-summary --query StreamDescriptionSummary.StreamStatus)
        [ "$status" = ACTIVE ] && return
        sleep 0.1
    done
    fail "the stream is $status"
}

# All of a shard's records, their data base64, one a line.
records() {
    local iterator
    iterator=$(kinesis get-shard-iterator --shard-id "$1" --shard-iterator-type TRIM_HORIZON --query ShardIterator)
    cli kinesis get-records --shard-iterator "$iterator" --query 'Records[].[Data]' | grep -v '^None$' || true
}

open_shards() {
    kinesis list-shards --shard-filter Type=AT_LATEST --query "sort_by(Shards, &HashKeyRange.StartingHashKey)[].ShardId" | tr '\t' ' '
}

echo "$("$AWS" --version 2>&1) against $ENDPOINT"
kinesis create-stream --shard-count 1
cli kinesis wait stream-exists --stream-name "$STREAM"
active
same "create-stream, wait stream-exists" "$(cli kinesis list-streams --query "StreamNames[?@=='$STREAM']")" "$STREAM"

FIRST=$(open_shards)
# Version 2 takes base64 and version 1 does not, which has no such option.
sequence=$(kinesis put-record --partition-key k --data "$(printf 'first' | base64)" --cli-binary-format base64 --query SequenceNumber 2>/dev/null ||
    kinesis put-record --partition-key k --data first --query SequenceNumber)
[ ${#sequence} -eq 56 ] || fail "put-record: sequence number $sequence"
ok "put-record: $sequence"
batch='[{"Data":"c2Vjb25k","PartitionKey":"a"},{"Data":"dGhpcmQ=","PartitionKey":"b"}]'
same "put-records: failed" "$(kinesis put-records --records "$batch" --query FailedRecordCount)" 0
same "get-records: the first one's data" "$(records "$FIRST" | head -n 1 | base64 -d)" first
same "get-shard-iterator, get-records: records" "$(records "$FIRST" | wc -l | tr -d ' ')" 3

kinesis split-shard --shard-to-split "$FIRST" --new-starting-hash-key 170141183460469231731687303715884105728
active
read -r LEFT RIGHT <<<"$(open_shards)"
same "split-shard: both children name their parent" \
    "$(kinesis list-shards --query "Shards[?ParentShardId=='$FIRST'] | length(@)")" 2
same "split-shard: the parent keeps its records" "$(records "$FIRST" | wc -l | tr -d ' ')" 3

kinesis merge-shards --shard-to-merge "$LEFT" --adjacent-shard-to-merge "$RIGHT"
active
same "merge-shards: one open shard, of both parents" \
    "$(kinesis list-shards --query "Shards[?AdjacentParentShardId].[ParentShardId,AdjacentParentShardId]" | tr '\t' '\n' | sort | tr '\n' ' ')" \
    "$(printf '%s\n%s\n' "$LEFT" "$RIGHT" | sort | tr '\n' ' ')"
same "list-shards: shards in all" "$(kinesis list-shards --query 'length(Shards)')" 4

refused=$(kinesis create-stream --shard-count 1 2>&1 || true)
grep -q ResourceInUseException <<<"$refused" || fail "create-stream twice: $refused"
ok "create-stream twice: ResourceInUseException"
kinesis delete-stream
cli kinesis wait stream-not-exists --stream-name "$STREAM"
ok "delete-stream, wait stream-not-exists"

cli dynamodb create-table --table-name "$TABLE" --billing-mode PAY_PER_REQUEST \
    --key-schema AttributeName=pk,KeyType=HASH --attribute-definitions AttributeName=pk,AttributeType=S >/dev/null
cli dynamodb wait table-exists --table-name "$TABLE"
cli dynamodb put-item --table-name "$TABLE" --item '{"pk":{"S":"a"},"n":{"N":"1"}}'
same "dynamodb: put-item, get-item" \
    "$(cli dynamodb get-item --table-name "$TABLE" --key '{"pk":{"S":"a"}}' --query Item.n.N)" 1
refused=$(cli dynamodb put-item --table-name "$TABLE" --item '{"pk":{"S":"a"}}' \
    --condition-expression 'attribute_not_exists(pk)' 2>&1 || true)
grep -q ConditionalCheckFailedException <<<"$refused" || fail "a condition: $refused"
ok "dynamodb: put-item with a condition: ConditionalCheckFailedException"
cli dynamodb delete-table --table-name "$TABLE" >/dev/null
ok "dynamodb: delete-table"
echo "all steps passed"
