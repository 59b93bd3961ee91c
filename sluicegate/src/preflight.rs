//! What must exist before a service starts. Services create nothing: they say what is missing.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use futures::future::join_all;

/// Tables that a service needs and that are not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{} not there: {}; `sluicegate init` creates what is missing", if .missing.len() == 1 { "a table is" } else { "tables are" }, .missing.join(", "))]
pub(crate) struct MissingTables {
    missing: Vec<String>,
}

/// Asks for each table. Only a table that is not there is a reason not to start: a service that
/// cannot be reached now may be reached in a moment.
pub(crate) async fn require_tables(
    dynamodb: &Client,
    names: &[String],
) -> Result<(), MissingTables> {
    let asked = join_all(names.iter().map(|name| is_missing(dynamodb, name))).await;
    let missing: Vec<String> = names
        .iter()
        .zip(asked)
        .filter(|(_, missing)| *missing)
        .map(|(name, _)| name.clone())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingTables { missing }) }
}

async fn is_missing(dynamodb: &Client, name: &str) -> bool {
    match dynamodb.describe_table().table_name(name).send().await {
        Ok(_) => false,
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) =>
        {
            true
        }
        Err(error) => {
            tracing::warn!(
                table = name,
                error = chain(&error),
                "cannot tell whether the table is there"
            );
            false
        }
    }
}

/// An error and its causes, in words.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
