//! Placeholder.
use aws_sdk_dynamodb::Client;

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// True if this call made it.
    pub created: bool,
}
/// Why.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {}
/// Makes.
#[allow(clippy::todo)]
pub async fn create_tables(_dynamodb: &Client, _app: &str) -> Result<Vec<TableReport>, SchemaError> {
    todo!()
}
