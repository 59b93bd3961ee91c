//! The four tables: their keys, indexes and TTL, and making them.
//!
//! Only [`create_tables`] ever makes or changes a table; it may be called again and again. It never
//! deletes one. A table that exists must have the keys and indexes that this room needs, and what
//! differs is said.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};

use crate::deliveries::{BUCKET, BY_DUE, BY_SUBSCRIPTION, SUBSCRIPTION, SUMMARY, VISIBLE_AT};
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, PK, SK};

/// Pause between two looks at a table that is being made.
const POLL: Duration = Duration::from_millis(500);
/// Looks at a table that is being made: 5 minutes.
const MAX_POLLS: usize = 600;

/// The table of messages.
pub(crate) fn messages_table(app: &str) -> String {
    format!("{app}-messages")
}

/// The table of parked deliveries and dead letters.
pub(crate) fn deliveries_table(app: &str) -> String {
    format!("{app}-deliveries")
}

/// The table of subscriptions, clients, keys, epochs and what clients used.
pub(crate) fn access_table(app: &str) -> String {
    format!("{app}-access")
}

/// The table of requests that clients may send again.
pub(crate) fn requests_table(app: &str) -> String {
    format!("{app}-requests")
}

/// One table after [`create_tables`]: it is there and can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// True if this call made it.
    pub created: bool,
}

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A call failed.
    #[error("table {table}: {error}")]
    Call {
        /// Which table.
        table: String,
        /// What the call met.
        error: StoreError,
    },
    /// A table of this name exists, but it is another one.
    #[error(
        "table {table} exists with other keys: {differs}; delete it or choose another application name"
    )]
    Differs {
        /// Which table.
        table: String,
        /// What was found and what is needed.
        differs: String,
    },
    /// A table did not become usable in time.
    #[error("table {table} is still not ACTIVE after {waited_s} s; call again later")]
    NotActive {
        /// Which table.
        table: String,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
}

/// An index: hash key (text), range key (number), and the attributes beside the keys.
struct IndexSpec {
    name: &'static str,
    hash: &'static str,
    range: &'static str,
    include: &'static [&'static str],
}

struct TableSpec {
    name: String,
    indexes: &'static [IndexSpec],
}

const DELIVERY_INDEXES: &[IndexSpec] = &[
    IndexSpec { name: BY_DUE, hash: BUCKET, range: VISIBLE_AT, include: &[] },
    IndexSpec { name: BY_SUBSCRIPTION, hash: SUBSCRIPTION, range: VISIBLE_AT, include: SUMMARY },
];

/// Makes what is missing of the tables `<app>-messages`, `<app>-deliveries`, `<app>-access` and `<app>-requests`,
/// billed on demand, with TTL, and waits until all are usable.
pub async fn create_tables(dynamodb: &Client, app: &str) -> Result<Vec<TableReport>, SchemaError> {
    let specs = [
        TableSpec { name: messages_table(app), indexes: &[] },
        TableSpec { name: deliveries_table(app), indexes: DELIVERY_INDEXES },
        TableSpec { name: access_table(app), indexes: &[] },
        TableSpec { name: requests_table(app), indexes: &[] },
    ];
    let mut reports = Vec::with_capacity(specs.len());
    // All are asked for first, so that DynamoDB makes them at the same time.
    for spec in &specs {
        reports
            .push(TableReport { name: spec.name.clone(), created: create(dynamodb, spec).await? });
    }
    for spec in &specs {
        let found = wait_active(dynamodb, spec).await?;
        let needed = needed_keys(spec);
        let existing = existing_keys(&found);
        if !needed.is_subset(&existing) || base_keys(&existing) != base_keys(&needed) {
            let list =
                |keys: &BTreeSet<String>| keys.iter().cloned().collect::<Vec<_>>().join(", ");
            let differs = format!("found {}; needed {}", list(&existing), list(&needed));
            return Err(SchemaError::Differs { table: spec.name.clone(), differs });
        }
        enable_ttl(dynamodb, &spec.name).await?;
    }
    Ok(reports)
}

/// Asks for a table; false if there is one already.
async fn create(dynamodb: &Client, spec: &TableSpec) -> Result<bool, SchemaError> {
    let invalid = |e: BuildError| SchemaError::Call {
        table: spec.name.clone(),
        error: StoreError::Invalid { operation: "create table", detail: e.to_string() },
    };
    let mut call = dynamodb
        .create_table()
        .table_name(&spec.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key_schema(PK, SK).map_err(invalid)?));
    let mut texts = BTreeSet::from([PK, SK]);
    let mut numbers = BTreeSet::new();
    for index in spec.indexes {
        texts.insert(index.hash);
        numbers.insert(index.range);
        call = call.global_secondary_indexes(index_of(index).map_err(invalid)?);
    }
    for name in texts {
        call =
            call.attribute_definitions(attribute(name, ScalarAttributeType::S).map_err(invalid)?);
    }
    for name in numbers {
        call =
            call.attribute_definitions(attribute(name, ScalarAttributeType::N).map_err(invalid)?);
    }
    match Box::pin(call.send()).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
        Err(error) => Err(SchemaError::Call {
            table: spec.name.clone(),
            error: StoreError::from_sdk("create table", &error),
        }),
    }
}

fn key_schema(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, BuildError> {
    let element =
        |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    Ok(vec![element(hash, KeyType::Hash)?, element(range, KeyType::Range)?])
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

fn index_of(index: &IndexSpec) -> Result<GlobalSecondaryIndex, BuildError> {
    let projection = if index.include.is_empty() {
        Projection::builder().projection_type(ProjectionType::KeysOnly).build()
    } else {
        let names = index.include.iter().map(|name| (*name).to_owned()).collect();
        Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(names))
            .build()
    };
    GlobalSecondaryIndex::builder()
        .index_name(index.name)
        .set_key_schema(Some(key_schema(index.hash, index.range)?))
        .projection(projection)
        .build()
}

/// Every key that a table needs, as `index.attribute:TYPE ROLE` (without index for the table's own).
fn needed_keys(spec: &TableSpec) -> BTreeSet<String> {
    let own = [format!("{PK}:S HASH"), format!("{SK}:S RANGE")];
    let indexes = spec.indexes.iter().flat_map(|index| {
        [
            format!("{}.{}:S HASH", index.name, index.hash),
            format!("{}.{}:N RANGE", index.name, index.range),
        ]
    });
    own.into_iter().chain(indexes).collect()
}

/// The same of a table that exists.
fn existing_keys(table: &TableDescription) -> BTreeSet<String> {
    let kind = |name: &str| {
        let found = table.attribute_definitions().iter().find(|d| d.attribute_name() == name);
        found.map_or("?", |d| d.attribute_type().as_str()).to_owned()
    };
    let line = |prefix: &str, element: &KeySchemaElement| {
        let name = element.attribute_name();
        format!("{prefix}{name}:{} {}", kind(name), element.key_type().as_str())
    };
    let own = table.key_schema().iter().map(|element| line("", element));
    let indexes = table.global_secondary_indexes().iter().flat_map(|index| {
        let prefix = format!("{}.", index.index_name().unwrap_or("?"));
        index.key_schema().iter().map(move |element| line(&prefix, element)).collect::<Vec<_>>()
    });
    own.chain(indexes).collect()
}

/// The keys of the table itself, without those of indexes (more indexes than needed do no harm).
fn base_keys(keys: &BTreeSet<String>) -> Vec<&String> {
    keys.iter().filter(|k| !k.contains('.')).collect()
}

async fn describe(dynamodb: &Client, table: &str) -> Result<Option<TableDescription>, SchemaError> {
    match Box::pin(dynamodb.describe_table().table_name(table).send()).await {
        Ok(answer) => Ok(answer.table),
        // Right after CreateTable the table may not be known everywhere yet.
        Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
        Err(error) => Err(SchemaError::Call {
            table: table.to_owned(),
            error: StoreError::from_sdk("describe table", &error),
        }),
    }
}

async fn wait_active(dynamodb: &Client, spec: &TableSpec) -> Result<TableDescription, SchemaError> {
    for _ in 0..MAX_POLLS {
        if let Some(table) = describe(dynamodb, &spec.name).await?
            && is_active(&table)
        {
            return Ok(table);
        }
        tokio::time::sleep(POLL).await;
    }
    let waited_s = (POLL * u32::try_from(MAX_POLLS).unwrap_or(u32::MAX)).as_secs();
    Err(SchemaError::NotActive { table: spec.name.clone(), waited_s })
}

/// True once the table and all its indexes can be used. An index without a status is a made one.
fn is_active(table: &TableDescription) -> bool {
    let index_ready =
        |status: Option<&IndexStatus>| status.is_none_or(|s| *s == IndexStatus::Active);
    table.table_status() == Some(&TableStatus::Active)
        && table.global_secondary_indexes().iter().all(|i| index_ready(i.index_status()))
}

async fn enable_ttl(dynamodb: &Client, table: &str) -> Result<(), SchemaError> {
    let failed = |error| SchemaError::Call { table: table.to_owned(), error };
    let found = Box::pin(dynamodb.describe_time_to_live().table_name(table).send())
        .await
        .map_err(|e| failed(StoreError::from_sdk("describe time to live", &e)))?;
    let status = found.time_to_live_description.and_then(|d| d.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let wanted = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(EXPIRES_AT)
        .build()
        .map_err(|e| {
            failed(StoreError::Invalid { operation: "enable time to live", detail: e.to_string() })
        })?;
    let call = dynamodb.update_time_to_live().table_name(table).time_to_live_specification(wanted);
    match Box::pin(call.send()).await {
        Ok(_) => Ok(()),
        // Somebody else enabled it in between.
        Err(error) if error.message().is_some_and(|m| m.contains("already enabled")) => Ok(()),
        Err(error) => Err(failed(StoreError::from_sdk("enable time to live", &error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{APP, calls, empty_dynamodb};

    #[tokio::test(start_paused = true)]
    async fn tables_are_made_once_with_their_keys_and_ttl() {
        let (aws, client) = empty_dynamodb();
        let made = create_tables(&client, APP).await.unwrap();
        let names: Vec<&str> = made.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["test-messages", "test-deliveries", "test-access", "test-requests"]);
        assert!(made.iter().all(|r| r.created));
        let again = create_tables(&client, APP).await.unwrap();
        assert!(again.iter().all(|r| !r.created));
        assert_eq!(calls(&aws, "UpdateTimeToLive"), 4, "TTL is switched on once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_with_other_keys_is_named_with_what_differs() {
        let (_aws, client) = empty_dynamodb();
        let spec = TableSpec { name: deliveries_table(APP), indexes: &DELIVERY_INDEXES[..1] };
        create(&client, &spec).await.unwrap();
        let error = create_tables(&client, APP).await.unwrap_err().to_string();
        assert!(error.starts_with("table test-deliveries exists with other keys"), "{error}");
        assert!(error.contains("bySubscription.subscription:S HASH"), "{error}");
    }
}
