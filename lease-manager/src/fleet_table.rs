//! The fleet table's I/O: joining, heartbeats, reading the fleet, declaring the dead, leaving mail. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use tokio::time::timeout;

use crate::classify::CallError;
use crate::ids::{LeaseKey, WorkerId};
use crate::item::{Item, number};
use crate::lease::Holder;
use crate::worker::{
    ASKS, Ask, BEAT, EXPIRES_AT, Figures, INCARNATION, STATE, WorkerRecord, WorkerState,
    primary_key,
};

/// Pages of one listing of the fleet.
const MAX_PAGES: usize = 100;
/// Mail that one worker can have at once; more is found by reading the leases.
const MAX_ASKS: usize = 1_000;
/// Mail that is left in one write at most.
pub(crate) const MAX_ASKED: usize = 50;
/// Mail that one heartbeat clears at most.
pub(crate) const MAX_CLEARED: usize = 100;

/// How a write to a worker's own item ended.
#[derive(Debug)]
pub(crate) enum Beat {
    /// The item as it is now, with the mail that others left.
    Alive(Box<WorkerRecord>),
    /// The condition did not hold: the item as it is, if there is one.
    Refused(Option<Box<WorkerRecord>>),
}

/// What a heartbeat says beside the figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    pub(crate) figures: Figures,
    /// The state that the worker enters; only ever a later one than before.
    pub(crate) enters: Option<WorkerState>,
    /// Mail that was dealt with.
    pub(crate) done: Vec<LeaseKey>,
    /// When the item may be deleted (seconds since 1970); for a worker that stops.
    pub(crate) expires_at_s: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct FleetTable {
    client: Client,
    table: String,
    timeout: Duration,
}

impl FleetTable {
    pub(crate) fn new(client: Client, table: String, timeout: Duration) -> Self {
        Self { client, table, timeout }
    }

    /// One worker's item.
    pub(crate) async fn get(&self, worker: &WorkerId) -> Result<Option<WorkerRecord>, CallError> {
        const OPERATION: &str = "read worker";
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = timeout(self.timeout, get.set_key(Some(primary_key(worker))).send()).await;
        let answer = answer.map_err(|_| CallError::timeout(OPERATION))?;
        let answer = answer.map_err(|e| CallError::of(OPERATION, &e))?;
        Ok(answer.item.as_ref().and_then(WorkerRecord::from_item))
    }

    /// Every worker, read consistently.
    pub(crate) async fn list(&self) -> Result<BTreeMap<WorkerId, WorkerRecord>, CallError> {
        const OPERATION: &str = "read the fleet";
        let mut workers = BTreeMap::new();
        let mut start: Option<Item> = None;
        for _ in 0..MAX_PAGES {
            let scan = self.client.scan().table_name(&self.table).consistent_read(true);
            let page =
                timeout(self.timeout, scan.set_exclusive_start_key(start.take()).send()).await;
            let page = page.map_err(|_| CallError::timeout(OPERATION))?;
            let page = page.map_err(|e| CallError::of(OPERATION, &e))?;
            let read = page.items().iter().filter_map(WorkerRecord::from_item);
            workers.extend(read.map(|worker| (worker.id.clone(), worker)));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(workers);
            }
        }
        let detail = format!("more than {MAX_PAGES} pages");
        Err(CallError { operation: OPERATION, kind: crate::classify::Kind::Fatal, detail })
    }

    /// Some workers' items; those that do not exist are left out. Read without consistency, at half the cost: every worker reads
    /// the same three items, and whatever follows from a reading that is a moment old is a conditional write.
    pub(crate) async fn get_some(
        &self,
        workers: &[WorkerId],
    ) -> Result<BTreeMap<WorkerId, WorkerRecord>, CallError> {
        const OPERATION: &str = "read the heads of the fleet";
        let keys = workers.iter().map(primary_key).collect();
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(false);
        let wanted = wanted.build().map_err(|error| CallError {
            operation: OPERATION,
            kind: crate::classify::Kind::Fatal,
            detail: error.to_string(),
        })?;
        let call = self.client.batch_get_item().request_items(&self.table, wanted);
        let answer = timeout(self.timeout, call.send()).await;
        let answer = answer.map_err(|_| CallError::timeout(OPERATION))?;
        let answer = answer.map_err(|e| CallError::of(OPERATION, &e))?;
        if answer.unprocessed_keys.is_some_and(|keys| !keys.is_empty()) {
            let detail = "only some items were answered".to_owned();
            return Err(CallError {
                operation: OPERATION,
                kind: crate::classify::Kind::Retry,
                detail,
            });
        }
        let items = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
        let read = items.iter().filter_map(WorkerRecord::from_item);
        Ok(read.map(|worker| (worker.id.clone(), worker)).collect())
    }

    /// Puts a worker's new life in the place of `previous` (or of nothing).
    pub(crate) async fn join(
        &self,
        worker: &WorkerRecord,
        previous: Option<&WorkerRecord>,
    ) -> Result<Beat, CallError> {
        const OPERATION: &str = "join the fleet";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(worker.to_item()));
        let put = put
            .expression_attribute_names("#incarnation", INCARNATION)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match previous {
            None => put.condition_expression("attribute_not_exists(#incarnation)"),
            Some(old) => put
                .condition_expression("#incarnation = :previous")
                .expression_attribute_values(":previous", number(old.incarnation)),
        };
        match timeout(self.timeout, put.send()).await {
            Err(_) => Err(CallError::timeout(OPERATION)),
            Ok(Ok(_)) => Ok(Beat::Alive(Box::new(worker.clone()))),
            Ok(Err(error)) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Beat::refused(refused.item()))
                }
                _ => Err(CallError::of(OPERATION, &error)),
            },
        }
    }

    /// The worker's own heartbeat: refused once others declared it dead, or a later life took its place.
    pub(crate) async fn beat(&self, me: &Holder, news: &News) -> Result<Beat, CallError> {
        let live = [WorkerState::Joining, WorkerState::Active, WorkerState::Draining];
        // A heartbeat that lands late must not lead back to an earlier state.
        let allowed =
            live.iter().filter(|state| news.enters.is_none_or(|enters| **state <= enters));
        let mut sets = vec!["#beat = #beat + :one".to_owned()];
        let mut call = self.own_item(me, allowed).expression_attribute_names("#beat", BEAT);
        call = call.expression_attribute_values(":one", number(1));
        for (n, (name, value)) in news.figures.attributes().into_iter().enumerate() {
            sets.push(format!("#f{n} = :f{n}"));
            call = call
                .expression_attribute_names(format!("#f{n}"), name)
                .expression_attribute_values(format!(":f{n}"), value);
        }
        if let Some(state) = news.enters {
            sets.push("#state = :enters".to_owned());
            let value = AttributeValue::S(state.word().to_owned());
            call = call.expression_attribute_values(":enters", value);
        }
        if let Some(at) = news.expires_at_s {
            sets.push("#expires = :expires".to_owned());
            call = call
                .expression_attribute_names("#expires", EXPIRES_AT)
                .expression_attribute_values(":expires", number(at));
        }
        let mut update = format!("SET {}", sets.join(", "));
        let done = news.done.iter().take(MAX_CLEARED).enumerate();
        for (n, key) in done {
            let joint = if n == 0 { " REMOVE" } else { "," };
            update.push_str(&format!("{joint} #asks.#d{n}"));
            call = call
                .expression_attribute_names("#asks", ASKS)
                .expression_attribute_names(format!("#d{n}"), key.as_str());
        }
        self.send("heartbeat", call.update_expression(update)).await
    }

    /// Declares a silent worker dead: only if its heartbeat still stands where it was seen.
    pub(crate) async fn declare_dead(
        &self,
        silent: &WorkerRecord,
        expires_at_s: i64,
    ) -> Result<bool, CallError> {
        let live = [WorkerState::Joining, WorkerState::Active, WorkerState::Draining];
        let him = Holder { worker: silent.id.clone(), incarnation: silent.incarnation };
        let call = self.own_item_if(&him, live.iter(), " AND #beat = :beat");
        let call = call
            .update_expression("SET #state = :dead, #expires = :expires")
            .expression_attribute_names("#beat", BEAT)
            .expression_attribute_names("#expires", EXPIRES_AT)
            .expression_attribute_values(":beat", number(silent.beat))
            .expression_attribute_values(":expires", number(expires_at_s))
            .expression_attribute_values(":dead", state_value(WorkerState::Dead));
        match self.send("declare a worker dead", call).await? {
            Beat::Alive(_) => Ok(true),
            // Declared by somebody else at the same moment, or alive after all.
            Beat::Refused(is) => Ok(is.is_some_and(|is| {
                is.state == WorkerState::Dead && is.incarnation == silent.incarnation
            })),
        }
    }

    /// Leaves mail for a worker that works. `false`: it does not, or its box is full; it finds out by reading the leases.
    pub(crate) async fn ask(
        &self,
        to: &Holder,
        key: &LeaseKey,
        ask: &Ask,
    ) -> Result<bool, CallError> {
        self.ask_all(to, &[(key.clone(), ask.clone())]).await
    }

    /// As [`FleetTable::ask`], for at most [`MAX_ASKED`] leases in one write.
    pub(crate) async fn ask_all(
        &self,
        to: &Holder,
        asks: &[(LeaseKey, Ask)],
    ) -> Result<bool, CallError> {
        let working = [WorkerState::Joining, WorkerState::Active];
        let mut call = self
            .own_item_if(to, working.iter(), " AND size(#asks) < :most")
            .expression_attribute_names("#asks", ASKS)
            .expression_attribute_values(":most", number(MAX_ASKS));
        let mut sets = Vec::new();
        for (n, (key, ask)) in asks.iter().take(MAX_ASKED).enumerate() {
            sets.push(format!("#asks.#k{n} = :a{n}"));
            call = call
                .expression_attribute_names(format!("#k{n}"), key.as_str())
                .expression_attribute_values(format!(":a{n}"), ask.value());
        }
        let call = call.update_expression(format!("SET {}", sets.join(", ")));
        Ok(matches!(self.send("leave mail", call).await?, Beat::Alive(_)))
    }

    fn own_item<'a>(
        &self,
        who: &Holder,
        states: impl Iterator<Item = &'a WorkerState>,
    ) -> UpdateItemFluentBuilder {
        self.own_item_if(who, states, "")
    }

    /// An update of one life of a worker, while it is in one of `states`, and `more` holds.
    fn own_item_if<'a>(
        &self,
        who: &Holder,
        states: impl Iterator<Item = &'a WorkerState>,
        more: &str,
    ) -> UpdateItemFluentBuilder {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(primary_key(&who.worker)))
            .expression_attribute_names("#incarnation", INCARNATION)
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":mine", number(who.incarnation))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut places = Vec::new();
        for (n, state) in states.enumerate() {
            places.push(format!(":s{n}"));
            call = call.expression_attribute_values(format!(":s{n}"), state_value(*state));
        }
        let states = places.join(", ");
        call.condition_expression(format!("#incarnation = :mine AND #state IN ({states}){more}"))
    }

    async fn send(
        &self,
        operation: &'static str,
        call: UpdateItemFluentBuilder,
    ) -> Result<Beat, CallError> {
        match timeout(self.timeout, call.send()).await {
            Err(_) => Err(CallError::timeout(operation)),
            Ok(Ok(answer)) => {
                let item = answer.attributes.unwrap_or_default();
                let worker = WorkerRecord::from_item(&item).ok_or_else(|| CallError {
                    operation,
                    kind: crate::classify::Kind::Fatal,
                    detail: "the worker's item cannot be read back".to_owned(),
                })?;
                Ok(Beat::Alive(Box::new(worker)))
            }
            Ok(Err(error)) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Beat::refused(refused.item()))
                }
                _ => Err(CallError::of(operation, &error)),
            },
        }
    }
}

impl Beat {
    fn refused(item: Option<&Item>) -> Self {
        Self::Refused(item.and_then(WorkerRecord::from_item).map(Box::new))
    }
}

fn state_value(state: WorkerState) -> AttributeValue {
    AttributeValue::S(state.word().to_owned())
}
