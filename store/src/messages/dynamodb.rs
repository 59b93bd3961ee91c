//! Placeholder.
use super::*;
/// Messages in a DynamoDB table.
#[derive(Clone, Debug)]
pub struct DynamoMessages {
    client: aws_sdk_dynamodb::Client,
}
impl DynamoMessages {
    /// Over the table `<app>-messages`.
    pub fn new(client: aws_sdk_dynamodb::Client, _app: &str) -> DynamoMessages {
        DynamoMessages { client }
    }
}
#[allow(clippy::todo)]
impl MessageStore for DynamoMessages {
    fn put<'a>(&'a self, _batch: &'a [StoreItem]) -> BoxFuture<'a, PutReport> { let _ = &self.client; todo!() }
    fn query<'a>(&'a self, _query: &'a MessageQuery) -> BoxFuture<'a, Result<MessagePage, StoreError>> { todo!() }
    fn latest<'a>(&'a self, _i: &'a IntegrationName, _e: &'a Entity, _now_ms: i64, _c: bool) -> BoxFuture<'a, Result<Option<Message>, StoreError>> { todo!() }
    fn get<'a>(&'a self, _l: &'a Locator, _now_ms: i64, _c: bool) -> BoxFuture<'a, Result<Option<Message>, StoreError>> { todo!() }
}
