//! A conditional change of one replay, put together step by step. Pure.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{AttributeValue, Update};

use super::dynamodb::{head_key, names};
use super::item::{CLAIM, DETAIL, ENDED_AT, MATCHED, PARKED, READ, STATE, UPDATED_AT, expiry};
use super::{ReplayClaim, ReplayCounts, ReplayId, ReplayState};
use crate::deliveries::{BUCKET, VISIBLE_AT, kept_text};
use crate::item::{EXPIRES_AT, n, s};

/// An end of a replay: how, and what is to be known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) state: ReplayState,
    pub(super) detail: &'a str,
}

/// A change of one replay: what is set and removed, on condition that it is not over and, if there is a claim, that
/// it is ours.
pub(super) struct Change {
    pub(super) id: ReplayId,
    sets: Vec<String>,
    removes: &'static str,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    condition: &'static str,
}

impl Change {
    pub(super) fn of(id: &ReplayId, claim: Option<&ReplayClaim>) -> Change {
        let mut change = Change {
            id: id.clone(),
            sets: Vec::new(),
            removes: "",
            names: names(&[("#bucket", BUCKET)]),
            values: HashMap::new(),
            condition: "attribute_exists(#bucket)",
        };
        if let Some(claim) = claim {
            change.condition = "attribute_exists(#bucket) AND #claim = :claim";
            change.names.insert("#claim".to_owned(), CLAIM.to_owned());
            change.values.insert(":claim".to_owned(), s(claim.token.as_str()));
        }
        change
    }

    pub(super) fn set(mut self, placeholder: &str, name: &str, value: AttributeValue) -> Change {
        let given = placeholder.replace('#', ":");
        self.sets.push(format!("{placeholder} = {given}"));
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self.values.insert(given, value);
        self
    }

    pub(super) fn counts(self, counts: ReplayCounts) -> Change {
        self.set("#read", READ, n(counts.read)).set("#matched", MATCHED, n(counts.matched)).set(
            "#parked",
            PARKED,
            n(counts.parked),
        )
    }

    /// Takes it out of the index of what is to be done.
    pub(super) fn end(self, end: End<'_>, now_ms: i64) -> Change {
        let mut change = self
            .set("#state", STATE, s(end.state.code()))
            .set("#detail", DETAIL, s(kept_text(end.detail)))
            .set("#updated", UPDATED_AT, n(now_ms))
            .set("#ended", ENDED_AT, n(now_ms))
            .set("#expires", EXPIRES_AT, n(expiry(now_ms)));
        change.removes = " REMOVE #bucket, #visible, #claim";
        change.names.extend(names(&[("#visible", VISIBLE_AT), ("#claim", CLAIM)]));
        change
    }

    pub(super) fn build(self, table: &str) -> Result<Update, BuildError> {
        Update::builder()
            .table_name(table)
            .set_key(Some(head_key(&self.id)))
            .update_expression(format!("SET {}{}", self.sets.join(", "), self.removes))
            .condition_expression(self.condition)
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values))
            .build()
    }
}
