//! What a client is told became of its messages: the bodies of answers, and their status.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::publish::{Outcome, Refusal, Taken};

/// The answer to a request of which something was taken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Published)]
pub(crate) struct PublishJson {
    /// How many messages were taken.
    pub(crate) taken: usize,
    /// How many were not, or may not have been.
    pub(crate) failed: usize,
    /// One for each message, in the order of the request.
    pub(crate) messages: Vec<PublishedJson>,
}

/// What became of one message.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = PublishedMessage)]
pub(crate) enum PublishedJson {
    /// It is on its way.
    Taken(TakenJson),
    /// It is not, or that is not known.
    Failed {
        /// Why.
        error: PublishErrorJson,
    },
}

/// Where a message stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TakenMessage)]
pub(crate) struct TakenJson {
    /// The id under which it is read and delivered.
    pub(crate) id: String,
    pub(crate) shard_id: String,
    pub(crate) sequence_number: String,
    /// An earlier try had no answer, so that it may be there twice. Left out otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) may_be_duplicate: bool,
}

/// Why a message was not taken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PublishError)]
pub(crate) struct PublishErrorJson {
    /// `throttled`, `unavailable`, `unknown`, `not-sent` or `rejected`.
    pub(crate) code: String,
    /// The same in words.
    pub(crate) detail: String,
    /// Publishing it again may help.
    pub(crate) retryable: bool,
    /// It may be on its way all the same: published again, it may come twice.
    pub(crate) may_have_been_taken: bool,
}

impl PublishJson {
    pub(super) fn of(outcomes: &[Outcome]) -> PublishJson {
        let taken = outcomes.iter().filter(|o| matches!(o, Outcome::Taken(_))).count();
        PublishJson {
            taken,
            failed: outcomes.len() - taken,
            messages: outcomes.iter().map(PublishedJson::of).collect(),
        }
    }

    /// 200 as soon as one message was taken; what failed stands beside it.
    pub(super) fn status(&self) -> StatusCode {
        if self.taken > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

impl PublishedJson {
    fn of(outcome: &Outcome) -> PublishedJson {
        match outcome {
            Outcome::Taken(taken) => PublishedJson::Taken(TakenJson::of(taken)),
            Outcome::Refused(refusal) => {
                PublishedJson::Failed { error: PublishErrorJson::of(*refusal) }
            }
        }
    }
}

impl TakenJson {
    fn of(taken: &Taken) -> TakenJson {
        TakenJson {
            id: taken.id.as_str().to_owned(),
            shard_id: taken.shard_id.clone(),
            sequence_number: taken.sequence_number.clone(),
            may_be_duplicate: taken.may_be_duplicate,
        }
    }
}

impl PublishErrorJson {
    fn of(refusal: Refusal) -> PublishErrorJson {
        PublishErrorJson {
            code: refusal.code().to_owned(),
            detail: refusal.detail().to_owned(),
            retryable: refusal.is_retryable(),
            may_have_been_taken: refusal.may_have_been_taken(),
        }
    }
}

/// Why none was taken, in a sentence.
pub(super) fn none_taken(outcomes: &[Outcome]) -> String {
    let refusals: Vec<Refusal> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Refused(refusal) => Some(*refusal),
            Outcome::Taken(_) => None,
        })
        .collect();
    // Of several reasons the one that asks most of the client: that a message may come twice.
    let telling = refusals
        .iter()
        .find(|refusal| refusal.may_have_been_taken())
        .or(refusals.first())
        .map_or("nothing was sent", |refusal| refusal.detail());
    match refusals.len() {
        1 => telling.to_owned(),
        many => format!("of {many} messages none is known to be taken; {telling}"),
    }
}
