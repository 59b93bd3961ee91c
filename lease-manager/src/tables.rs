//! Makes the lease table and the fleet table. Only the application's `init` calls it: a worker that finds no tables says so
//! and ends.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification,
};
use tokio::time::{Instant, sleep};

use crate::classify::CallError;
use crate::item::{LEASE_KEY, OWNER};
use crate::options::fleet_table;
use crate::worker::{EXPIRES_AT, PK, SK};

/// The Kinesis Client Library's index from an owner to its leases.
pub(crate) const OWNER_INDEX: &str = "LeaseOwnerToLeaseKeyIndex";
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(1);

/// Tables that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTablesError {
    /// The service refused a call.
    #[error("table `{table}`: {detail}")]
    Refused {
        /// The table.
        table: String,
        /// What the service answered.
        detail: String,
    },
    /// A table did not become active.
    #[error("table `{table}` is not active after {seconds} s")]
    NotActive {
        /// The table.
        table: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

type Failure = Box<dyn FnOnce(&str) -> CreateTablesError>;

fn refused(error: CallError) -> Failure {
    Box::new(move |table: &str| CreateTablesError::Refused {
        table: table.to_owned(),
        detail: error.to_string(),
    })
}

/// Makes the tables that are missing, and the index if an older Kinesis Client Library left the table without it. Waits
/// until both can be used.
pub async fn create_tables(
    dynamodb: &Client,
    app: &str,
) -> Result<Vec<TableReport>, CreateTablesError> {
    let leases = app.to_owned();
    let created = create_leases(dynamodb, &leases).await.map_err(|failure| failure(&leases))?;
    let leases = TableReport { name: leases, created };
    let fleet = fleet_table(app);
    let created = create_fleet(dynamodb, &fleet).await.map_err(|failure| failure(&fleet))?;
    Ok(vec![leases, TableReport { name: fleet, created }])
}

/// A table that exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Whether it was made just now.
    pub created: bool,
}

async fn create_leases(client: &Client, table: &str) -> Result<bool, Failure> {
    let found = describe(client, table).await?;
    let created = found.is_none();
    let is = match found {
        Some(is) => is,
        None => {
            let create = client
                .create_table()
                .attribute_definitions(text(LEASE_KEY)?)
                .attribute_definitions(text(OWNER)?)
                .key_schema(key(LEASE_KEY, KeyType::Hash)?)
                .global_secondary_indexes(owner_index()?);
            create_table(create, table).await?;
            wait_active(client, table).await?
        }
    };
    let has_index =
        is.global_secondary_indexes().iter().any(|i| i.index_name() == Some(OWNER_INDEX));
    if !has_index {
        add_index(client, table).await?;
    }
    wait_active(client, table).await?;
    Ok(created)
}

async fn create_fleet(client: &Client, table: &str) -> Result<bool, Failure> {
    let created = describe(client, table).await?.is_none();
    if created {
        let create = client
            .create_table()
            .attribute_definitions(text(PK)?)
            .attribute_definitions(text(SK)?)
            .key_schema(key(PK, KeyType::Hash)?)
            .key_schema(key(SK, KeyType::Range)?);
        create_table(create, table).await?;
    }
    wait_active(client, table).await?;
    let now = client.describe_time_to_live().table_name(table).send().await;
    let now = now.map_err(|e| refused(CallError::of("describe time to live", &e)))?;
    let attribute = now.time_to_live_description().and_then(|ttl| ttl.attribute_name());
    if attribute == Some(EXPIRES_AT) {
        return Ok(created);
    }
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES_AT).build();
    let ttl = ttl.map_err(built)?;
    let call = client.update_time_to_live().table_name(table).time_to_live_specification(ttl);
    let answer = call.send().await;
    answer.map_err(|e| refused(CallError::of("update time to live", &e)))?;
    Ok(created)
}

async fn describe(client: &Client, table: &str) -> Result<Option<TableDescription>, Failure> {
    match client.describe_table().table_name(table).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) =>
        {
            Ok(None)
        }
        Err(error) => Err(refused(CallError::of("describe table", &error))),
    }
}

async fn create_table(create: CreateTableFluentBuilder, table: &str) -> Result<(), Failure> {
    match create.table_name(table).billing_mode(BillingMode::PayPerRequest).send().await {
        Ok(_) => Ok(()),
        // Somebody else makes it at the same moment.
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) =>
        {
            Ok(())
        }
        Err(error) => Err(refused(CallError::of("create table", &error))),
    }
}

async fn add_index(client: &Client, table: &str) -> Result<(), Failure> {
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name(OWNER_INDEX)
        .key_schema(key(OWNER, KeyType::Hash)?)
        .key_schema(key(LEASE_KEY, KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .map_err(built)?;
    let update = GlobalSecondaryIndexUpdate::builder().create(index).build();
    let call = client
        .update_table()
        .table_name(table)
        .attribute_definitions(text(LEASE_KEY)?)
        .attribute_definitions(text(OWNER)?)
        .global_secondary_index_updates(update);
    match call.send().await {
        Ok(_) => Ok(()),
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) =>
        {
            Ok(())
        }
        Err(error) => Err(refused(CallError::of("add the owner index", &error))),
    }
}

async fn wait_active(client: &Client, table: &str) -> Result<TableDescription, Failure> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(is) = describe(client, table).await?
            && is.table_status == Some(TableStatus::Active)
        {
            return Ok(is);
        }
        sleep(PAUSE).await;
    }
    let seconds = PATIENCE.as_secs();
    Err(Box::new(move |table: &str| CreateTablesError::NotActive {
        table: table.to_owned(),
        seconds,
    }))
}

fn text(name: &str) -> Result<AttributeDefinition, Failure> {
    let kind = ScalarAttributeType::S;
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(built)
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, Failure> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(built)
}

fn owner_index() -> Result<GlobalSecondaryIndex, Failure> {
    GlobalSecondaryIndex::builder()
        .index_name(OWNER_INDEX)
        .key_schema(key(OWNER, KeyType::Hash)?)
        .key_schema(key(LEASE_KEY, KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .map_err(built)
}

fn built(error: aws_sdk_dynamodb::error::BuildError) -> Failure {
    Box::new(move |table: &str| CreateTablesError::Refused {
        table: table.to_owned(),
        detail: error.to_string(),
    })
}
