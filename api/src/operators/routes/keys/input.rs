//! What an operator writes about keys: taken apart, and checked or refused by its place.

use std::time::Duration;

use serde::Deserialize;
use store::{KeyId, KeyRecord, KeyTerms, Network};
use utoipa::ToSchema;

use crate::routes::problem::Problem;

/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 200;
/// How long a key may work: 10 years.
const MAX_LIFETIME_S: u64 = 3_650 * 24 * 3_600;
/// Most networks of one key.
const MAX_NETWORKS: usize = 50;
/// Most keys that one rotation names.
pub(super) const MAX_NAMED: usize = 45;
/// How long the old keys of a rotation still work unless it is said: a day; and at most: 30 days.
const OVERLAP_S: u64 = 24 * 3_600;
const MAX_OVERLAP_S: u64 = 30 * OVERLAP_S;

/// A key that is to be made; what is absent is as for any key.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewKey)]
pub(super) struct KeyInput {
    /// What people call it: up to 200 bytes.
    label: Option<String>,
    /// How long it works; 90 days unless it is said.
    #[schema(minimum = 1, maximum = 315360000)]
    lifetime_seconds: Option<u64>,
    /// It works from these networks only, such as `203.0.113.0/24`; without any, from everywhere.
    #[schema(max_items = 50)]
    networks: Option<Vec<String>>,
}

/// Body of `POST /v1/admin/clients/{client}/keys/rotate`. The new key has the label and the networks of the newest one
/// that it replaces, unless they are given.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeysRotation)]
pub(super) struct RotationInput {
    /// How long the old keys still work: a day unless it is said, 0 ends them at once.
    #[schema(maximum = 2592000)]
    overlap_seconds: Option<u64>,
    /// Only these keys are replaced; all that work, if there are none.
    #[serde(default)]
    #[schema(max_items = 45)]
    keys: Vec<String>,
    label: Option<String>,
    #[schema(minimum = 1, maximum = 315360000)]
    lifetime_seconds: Option<u64>,
    #[schema(max_items = 50)]
    networks: Option<Vec<String>>,
}

impl KeyInput {
    /// What a key is to be: as given, else as the one that it replaces.
    pub(super) fn read(self, replaced: Option<&KeyRecord>) -> Result<KeyTerms, Problem> {
        let label = self.label.or_else(|| replaced.map(|old| old.label.clone()));
        let label = label.unwrap_or_default();
        if label.len() > MAX_LABEL_BYTES {
            let found = label.len();
            let detail = format!("found {found} bytes, allowed are up to {MAX_LABEL_BYTES}");
            return Err(Problem::invalid_field("/label", &detail));
        }
        let lifetime = self.lifetime_seconds;
        if let Some(found) = lifetime.filter(|s| !(1..=MAX_LIFETIME_S).contains(s)) {
            let detail = format!("found {found}, allowed is 1 to {MAX_LIFETIME_S}");
            return Err(Problem::invalid_field("/lifetimeSeconds", &detail));
        }
        let networks = match self.networks {
            Some(networks) => read_networks(&networks)?,
            None => replaced.map(|old| old.networks.clone()).unwrap_or_default(),
        };
        Ok(KeyTerms { label, lifetime: lifetime.map(Duration::from_secs), networks })
    }
}

fn read_networks(texts: &[String]) -> Result<Vec<Network>, Problem> {
    if texts.len() > MAX_NETWORKS {
        let found = texts.len();
        let detail = format!("found {found}, allowed are up to {MAX_NETWORKS}");
        return Err(Problem::invalid_field("/networks", &detail));
    }
    let read = |(at, text): (usize, &String)| {
        let network = text.parse::<Network>();
        network.map_err(|e| Problem::invalid_field(&format!("/networks/{at}"), &e.to_string()))
    };
    texts.iter().enumerate().map(read).collect()
}

impl RotationInput {
    pub(super) fn named(&self) -> Result<Vec<KeyId>, Problem> {
        if self.keys.len() > MAX_NAMED {
            let detail = format!("found {}, allowed are up to {MAX_NAMED}", self.keys.len());
            return Err(Problem::invalid_field("/keys", &detail));
        }
        let read = |(at, text): (usize, &String)| {
            // It may be a whole key: it is not repeated.
            KeyId::parse(text).map_err(|_| {
                let detail = "found something else, allowed is a key's id: 12 letters and digits";
                Problem::invalid_field(&format!("/keys/{at}"), detail)
            })
        };
        self.keys.iter().enumerate().map(read).collect()
    }

    pub(super) fn overlap_ms(&self) -> Result<i64, Problem> {
        let seconds = self.overlap_seconds.unwrap_or(OVERLAP_S);
        let ms = i64::try_from(seconds).ok().filter(|_| seconds <= MAX_OVERLAP_S);
        ms.map(|seconds| seconds * 1_000).ok_or_else(|| {
            let detail = format!("found {seconds}, allowed is up to {MAX_OVERLAP_S}");
            Problem::invalid_field("/overlapSeconds", &detail)
        })
    }

    pub(super) fn key(self) -> KeyInput {
        KeyInput {
            label: self.label,
            lifetime_seconds: self.lifetime_seconds,
            networks: self.networks,
        }
    }
}
