//! The table itself, room by room.

use super::{Kind, Label, Measure, Metric, Values};

/// From a fast answer of a store nearby to the longest that any call may take.
const CALL_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
/// Receivers answer more slowly, and their time limit is a subscription's own.
const ATTEMPT_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];
/// Up to the 25 items that one call of BatchWriteItem takes, and configured batches beyond.
const BATCH_ITEMS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 50.0, 100.0];

const REASONS: Values = Values::Of(
    "not-json empty too-large invalid-utf8 missing-field invalid-field broken-aggregate \
     store-rejected delivery-exhausted destination-gone not-granted delivery-rejected lost-to-retention range-given-up",
);
const PIPELINES: Values = Values::Of("sync-store async-delivery");
const YES_NO: Values = Values::Of("true false");
const KINDS: Values = Values::Of("message part arrivals dead-letter attempt mark");

const fn counter(name: &'static str, labels: &'static [Label], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, measure: Measure::Things, labels, meaning }
}

const fn gauge(name: &'static str, labels: &'static [Label], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, measure: Measure::Things, labels, meaning }
}

const fn histogram(
    name: &'static str,
    bounds: &'static [f64],
    labels: &'static [Label],
    meaning: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram(bounds), measure: Measure::Things, labels, meaning }
}

const fn in_bytes(metric: Metric) -> Metric {
    Metric { measure: Measure::Bytes, ..metric }
}

const fn in_seconds(metric: Metric) -> Metric {
    Metric { measure: Measure::Seconds, ..metric }
}

/// How far each pipeline is behind, a series for each shard read now.
pub(in crate::telemetry) const BEHIND: &str = "sluicegate.processor.behind_seconds";
/// How long the stream still keeps what each pipeline has not settled, likewise.
pub(in crate::telemetry) const TIME_TO_LOSS: &str = "sluicegate.processor.time_to_loss_seconds";
/// How many lanes are fed by what.
pub(in crate::telemetry) const LANES: &str = "sluicegate.processor.lanes";
/// How far the reader is behind, likewise.
pub(in crate::telemetry) const READER_BEHIND: &str = "sluicegate.processor.reader_behind_seconds";

const STREAM: Label = Label::new("stream", Values::Each("the streams read"));
const SHARD: Label = Label::new("shard", Values::Each("the shards that this process reads now"));

/// All metrics, room by room.
pub(super) const METRICS: &[&[Metric]] = &[PROCESSOR, DELIVERY, STORE, LEASE_MANAGER, API];

const PROCESSOR: &[Metric] = &[
    in_seconds(gauge(
        BEHIND,
        &[Label::new("pipeline", PIPELINES), STREAM, SHARD],
        "age of the oldest record that the pipeline has not settled; 0 at the tip",
    )),
    in_seconds(gauge(
        TIME_TO_LOSS,
        &[Label::new("pipeline", PIPELINES), STREAM, SHARD],
        "how long the stream still keeps what the pipeline has not settled; at 0 records are lost",
    )),
    gauge(
        LANES,
        &[
            Label::new("pipeline", PIPELINES),
            Label::new("feed", Values::Of("closed live detached catching-up done")),
        ],
        "lanes (a pipeline in a shard read now) by what feeds them",
    ),
    in_seconds(gauge(
        READER_BEHIND,
        &[STREAM, SHARD],
        "how far reading is behind the shard's tip, as Kinesis says it",
    )),
    gauge("sluicegate.processor.shards", &[], "shards that this process reads now"),
    in_bytes(gauge(
        "sluicegate.processor.in_flight_bytes",
        &[Label::new("pipeline", PIPELINES)],
        "what the pipeline holds and has not settled, of its budget",
    )),
    counter("sluicegate.processor.records_read", &[], "user records read, aggregates taken apart"),
    counter("sluicegate.processor.events", &[], "events of the fan-out subscriptions"),
    counter(
        "sluicegate.processor.event_records",
        &[],
        "Kinesis records in those events, aggregates undivided",
    ),
    in_bytes(counter("sluicegate.processor.event_bytes", &[], "bytes of those events on the wire")),
    counter(
        "sluicegate.processor.subscriptions",
        &[],
        "subscriptions to a shard that Kinesis accepted",
    ),
    counter(
        "sluicegate.processor.subscriptions_ended",
        &[Label::new(
            "why",
            Values::Of(
                "expired shard-end cancelled no-room cut broken silent in-use not-found denied throttled busy",
            ),
        )],
        "subscriptions that ended or were refused",
    ),
    in_bytes(gauge(
        "sluicegate.processor.reading_bytes",
        &[],
        "frames and answers that are being read and are not decoded yet, of their budget",
    )),
    gauge(
        "sluicegate.processor.connections",
        &[],
        "connections to Kinesis on which something is being read",
    ),
    counter("sluicegate.processor.polls", &[], "answers to GetRecords, empty ones included"),
    counter(
        "sluicegate.processor.poll_records",
        &[],
        "Kinesis records in those answers, aggregates undivided",
    ),
    in_bytes(counter("sluicegate.processor.poll_bytes", &[], "bytes of those answers on the wire")),
    counter(
        "sluicegate.processor.polls_failed",
        &[Label::new(
            "why",
            Values::Of(
                "cut broken no-room expired-iterator in-use not-found denied throttled busy",
            ),
        )],
        "calls of GetShardIterator and GetRecords that brought nothing",
    ),
    counter(
        "sluicegate.processor.malformed",
        &[Label::new("reason", REASONS)],
        "user records that are no usable message",
    ),
    counter(
        "sluicegate.processor.out_of_range",
        &[Label::new("policy", Values::Of("kept dropped"))],
        "user records in aggregates that belong to another shard",
    ),
    histogram(
        "sluicegate.processor.store_call_records",
        BATCH_ITEMS,
        &[],
        "records in one write of the sync-store pipeline",
    ),
    counter(
        "sluicegate.processor.store_refused",
        &[],
        "records of those writes that the store refused for now",
    ),
    counter(
        "sluicegate.processor.dead_letters",
        &[Label::new("reason", REASONS)],
        "records that the sync-store pipeline gave up as dead letters",
    ),
    counter(
        "sluicegate.processor.checkpoints",
        &[Label::new("outcome", Values::Of("ok lost unknown"))],
        "writes of a shard's progress",
    ),
    counter(
        "sluicegate.processor.lanes_detached",
        &[Label::new("pipeline", PIPELINES), Label::new("why", Values::Of("no-room stuck"))],
        "lanes that had no room, or did not get on, and are fed no more",
    ),
    counter(
        "sluicegate.processor.lanes_attached",
        &[Label::new("pipeline", PIPELINES), Label::new("how", Values::Of("tip seam"))],
        "lanes that the live reader feeds again",
    ),
    counter(
        "sluicegate.processor.catch_up_records",
        &[Label::new("pipeline", PIPELINES)],
        "records read for lanes that catch up",
    ),
    counter(
        "sluicegate.processor.seams_given_up",
        &[Label::new("pipeline", PIPELINES)],
        "lanes that were about to meet the live reader and had no room for it",
    ),
    counter(
        "sluicegate.processor.losses",
        &[Label::new("pipeline", PIPELINES)],
        "holes in what a lane read: records passed the stream's retention before it read them",
    ),
    counter(
        "sluicegate.processor.marks",
        &[Label::new("ok", YES_NO)],
        "notes of how far a shard's deliveries have got, one a minute while it moves",
    ),
    counter(
        "sluicegate.processor.shards_left",
        &[Label::new("why", Values::Of("shard-end lease-lost released failed"))],
        "shard consumers that ended",
    ),
];

const DELIVERY: &[Metric] = &[
    counter(
        "sluicegate.delivery.attempts",
        &[Label::new(
            "result",
            Values::Of(
                "accepted abandoned gone overloaded refused unsendable unhealthy timed-out unreachable",
            ),
        )],
        "attempts to deliver, by how they ended",
    ),
    in_seconds(histogram(
        "sluicegate.delivery.attempt_seconds",
        ATTEMPT_SECONDS,
        &[],
        "how long an attempt took",
    )),
    counter(
        "sluicegate.delivery.parked",
        &[],
        "deliveries parked for a later attempt, each counted once",
    ),
    counter(
        "sluicegate.delivery.replayed",
        &[],
        "deliveries that replays parked as due at once, each counted once",
    ),
    counter(
        "sluicegate.delivery.dead_letters",
        &[Label::new("reason", REASONS)],
        "deliveries given up as dead letters",
    ),
    counter(
        "sluicegate.delivery.attempts_kept",
        &[Label::new("ok", YES_NO)],
        "notes of how an attempt of a failing delivery went",
    ),
    counter(
        "sluicegate.delivery.events_told",
        &[Label::new("ok", YES_NO)],
        "operational events parked for the subscriptions that asked for them",
    ),
    counter("sluicegate.delivery.unmatched", &[], "messages that no subscription asks for"),
    counter(
        "sluicegate.delivery.unreadable",
        &[],
        "messages that went to all who filter, because their content could not be read",
    ),
    counter(
        "sluicegate.delivery.withheld",
        &[],
        "deliveries not attempted because their client is not granted them any more",
    ),
    counter(
        "sluicegate.delivery.breaker_changes",
        &[Label::new("change", Values::Of("opened closed"))],
        "destinations taken out of service, and put back",
    ),
    counter(
        "sluicegate.delivery.disabled",
        &[Label::new("why", Values::Of("gone failing"))],
        "subscriptions switched off because of their destinations",
    ),
    in_seconds(gauge(
        "sluicegate.delivery.view_age_seconds",
        &[],
        "age of the newest confirmed reading of the subscriptions",
    )),
    counter(
        "sluicegate.delivery.ledger_retries",
        &[Label::new(
            "operation",
            Values::Of("park settle reschedule dead-letter disable failing recovered load chain"),
        )],
        "writes to the deliveries table that failed and are tried again",
    ),
    gauge(
        "sluicegate.delivery.ledger_in_hand",
        &[],
        "writes to the deliveries table that run or wait",
    ),
    counter(
        "sluicegate.delivery.range_changes",
        &[Label::new("change", Values::Of("opened closed spilled given-up gate-given-up"))],
        "ranges of shards that wait in the stream for a destination, by what became of them",
    ),
    counter(
        "sluicegate.delivery.range_messages",
        &[],
        "messages read again from the stream for a destination that was down or behind",
    ),
    gauge(
        "sluicegate.delivery.ranges_open",
        &[],
        "shards that wait in the stream for a destination, counted once for each destination",
    ),
    in_seconds(gauge(
        "sluicegate.delivery.range_time_to_loss_seconds",
        &[],
        "how long the stream still keeps what the oldest open range begins with",
    )),
];

const STORE: &[Metric] = &[
    counter(
        "sluicegate.store.items",
        &[
            Label::new("kind", KINDS),
            Label::new("outcome", Values::Of("stored throttled unprocessed unavailable rejected")),
        ],
        "items written to DynamoDB, by outcome; an item that is tried again counts again",
    ),
    histogram(
        "sluicegate.store.batch_items",
        BATCH_ITEMS,
        &[Label::new("kind", KINDS)],
        "items in one call of BatchWriteItem",
    ),
    counter(
        "sluicegate.store.parts",
        &[Label::new("kind", Values::Of("message dead-letter parked"))],
        "parts of payloads that are too large for one item",
    ),
    counter(
        "sluicegate.store.claims",
        &[Label::new("outcome", Values::Of("won lost"))],
        "tries to claim a parked delivery",
    ),
];

const LEASE_MANAGER: &[Metric] = &[
    gauge("sluicegate.lease_manager.held", &[], "leases that this worker owns"),
    gauge("sluicegate.lease_manager.leases", &[], "leases in the table, as last read"),
    gauge(
        "sluicegate.lease_manager.bad_items",
        &[],
        "items of the lease table that cannot be read as leases",
    ),
    gauge("sluicegate.lease_manager.workers", &[], "workers that live, as this one sees them"),
    gauge(
        "sluicegate.lease_manager.uncovered_shards",
        &[],
        "shards that no lease answers for, after the last audit; only the leader audits",
    ),
    counter(
        "sluicegate.lease_manager.acquired",
        &[Label::new(
            "how",
            Values::Of(
                "given child unowned owner-stopped owner-dead owner-restarted owner-unknown \
                 foreign-owner-silent",
            ),
        )],
        "leases that came to this worker",
    ),
    counter(
        "sluicegate.lease_manager.given_up",
        &[Label::new("how", Values::Of("finished handed-over released at-last-checkpoint"))],
        "leases given up in good order",
    ),
    counter(
        "sluicegate.lease_manager.lost",
        &[Label::new("why", Values::AtMost(8, "the reason that the log line gives"))],
        "leases proven lost",
    ),
    counter(
        "sluicegate.lease_manager.writes",
        &[Label::new("outcome", Values::Of("done lost unknown refused"))],
        "conditional writes of a lease",
    ),
    counter(
        "sluicegate.lease_manager.heartbeats",
        &[Label::new("outcome", Values::Of("done refused failed"))],
        "heartbeats of this worker",
    ),
    in_seconds(histogram(
        "sluicegate.lease_manager.heartbeat_seconds",
        CALL_SECONDS,
        &[],
        "how long a heartbeat's call took",
    )),
    counter(
        "sluicegate.lease_manager.plans",
        &[],
        "plans that this worker made and carried out as leader",
    ),
    counter(
        "sluicegate.lease_manager.plan_actions",
        &[Label::new("what", Values::Of("assigned asked-to-move"))],
        "leases that these plans were about",
    ),
    counter("sluicegate.lease_manager.declared_dead", &[], "workers that this one declared dead"),
    counter(
        "sluicegate.lease_manager.audit_actions",
        &[Label::new("what", Values::Of("created trimmed deleted"))],
        "leases that an audit repaired",
    ),
    counter(
        "sluicegate.lease_manager.failures",
        &[Label::new("operation", Values::AtMost(16, "the call, as the log line names it"))],
        "calls of the lease manager that failed",
    ),
];

const API: &[Metric] = &[
    in_seconds(histogram(
        "sluicegate.api.request_seconds",
        CALL_SECONDS,
        &[
            Label::new("route", Values::AtMost(24, "path templates, or `unmatched`")),
            Label::new("status", Values::AtMost(24, "HTTP status codes")),
        ],
        "how long an answer took, until its body began",
    )),
    in_seconds(histogram(
        "sluicegate.api.operator_request_seconds",
        CALL_SECONDS,
        &[
            Label::new("route", Values::AtMost(24, "path templates, or `unmatched`")),
            Label::new("status", Values::AtMost(16, "HTTP status codes")),
        ],
        "how long an answer on the operators' port took, until its body began",
    )),
    gauge("sluicegate.api.connections", &[], "open connections of clients"),
    counter(
        "sluicegate.api.connections_ended",
        &[Label::new("end", Values::Of("closed handshake broken cut made-room"))],
        "connections of clients that ended",
    ),
    counter(
        "sluicegate.api.streams_reset",
        &[],
        "HTTP/2 streams whose clients took nothing of their answers",
    ),
    counter(
        "sluicegate.api.authentications_failed",
        &[Label::new(
            "reason",
            Values::Of(
                "missing several malformed unknown-key wrong-secret expired revoked wrong-network client-gone \
                 client-disabled overloaded token-malformed token-header token-algorithm token-type \
                 token-id-token token-issuer token-claims token-audience token-expired token-not-yet \
                 token-unknown-key token-signature token-binding token-unknown-client",
            ),
        )],
        "requests whose client could not be recognised",
    ),
    counter(
        "sluicegate.api.key_lookups",
        &[],
        "API keys and OAuth clients read from the table, not from memory",
    ),
    counter("sluicegate.api.token_verifications", &[], "access tokens verified, not remembered"),
    counter(
        "sluicegate.api.issuer_key_fetches",
        &[Label::new("ok", YES_NO)],
        "fetches of the keys of issuers of access tokens",
    ),
    counter(
        "sluicegate.api.requests_limited",
        &[Label::new("policy", Values::Of("requests concurrent daily-requests daily-bytes"))],
        "requests refused with 429",
    ),
    counter(
        "sluicegate.api.audit_lines",
        &[
            Label::new(
                "decision",
                Values::Of("allowed denied unauthenticated limited changed operator"),
            ),
            Label::new("written", YES_NO),
        ],
        "decisions about access, written into the audit or left out for their number",
    ),
    counter(
        "sluicegate.api.limit_charges",
        &[Label::new("ok", YES_NO)],
        "what clients used, told to the other tasks",
    ),
    counter(
        "sluicegate.api.requests_limited_alone",
        &[],
        "requests held to their client's limits by this task alone, for want of an answer of the table",
    ),
    counter(
        "sluicegate.api.epoch_looks",
        &[Label::new("ok", YES_NO)],
        "looks for changes of clients and keys",
    ),
    counter(
        "sluicegate.api.certificate_loads",
        &[Label::new("ok", YES_NO)],
        "certificates taken into use, or refused",
    ),
    counter(
        "sluicegate.api.messages_published",
        &[Label::new(
            "outcome",
            Values::Of("taken throttled unavailable unknown not-sent rejected"),
        )],
        "messages that clients published, by what they were told became of them",
    ),
    counter(
        "sluicegate.api.messages_sent_again",
        &[Label::new("why", Values::Of("throttled unavailable unknown"))],
        "published messages that the stream did not take at once",
    ),
    counter(
        "sluicegate.api.publish_calls",
        &[Label::new("answer", Values::Of("whole partial throttled unavailable unknown rejected"))],
        "calls of PutRecords with published messages, by how they were answered",
    ),
    counter(
        "sluicegate.api.requests_repeated",
        &[Label::new("found", Values::Of("answered in-work other"))],
        "requests that came again under their idempotency key",
    ),
    gauge(
        "sluicegate.api.watched_entities",
        &[],
        "entities that clients wait for, each looked at once a second",
    ),
    gauge("sluicegate.api.tails", &[], "clients that follow an integration"),
    counter(
        "sluicegate.api.tails_ended",
        &[Label::new(
            "reason",
            Values::Of("gone access-ended quota-exceeded draining max-age lagging unavailable"),
        )],
        "clients that follow no more",
    ),
    gauge(
        "sluicegate.api.tailed_integrations",
        &[],
        "integrations that clients follow, each read once a second",
    ),
    counter("sluicegate.api.tail_messages", &[], "messages sent to clients that follow"),
    counter(
        "sluicegate.api.store_failures",
        &[Label::new("class", Values::Of("retry skip fatal"))],
        "reads that the tables did not answer",
    ),
];
