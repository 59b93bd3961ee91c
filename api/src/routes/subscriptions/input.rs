//! What a client writes about its subscriptions, as it stands in bodies; `reading` makes checked values of it. Its secrets
//! are in nothing that could be printed.

mod reading;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use store::ClientPlace;
use utoipa::ToSchema;

use crate::routes::body::given;

/// A subscription that is to be made: body of `POST /v1/subscriptions`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewSubscription {
    /// Where to.
    destination: NewDestination,
    /// Which integrations; all that the client may subscribe to, if there are none.
    #[serde(default)]
    integrations: Vec<String>,
    /// What happens to the client's own destinations, and no messages.
    #[serde(default)]
    operational_events: bool,
    /// Only entities that start with this.
    entity_prefix: Option<String>,
    /// Only messages of these event types.
    #[serde(default)]
    event_types: Vec<String>,
    /// Only messages with this content.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// How persistently.
    #[serde(default)]
    policy: PolicyInput,
    /// Off: nothing is attempted.
    enabled: Option<bool>,
}

/// What is to be different: body of `PATCH /v1/subscriptions/{id}`. What is absent stays, `null` is as if it was never
/// set.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubscriptionPatch {
    destination: Option<DestinationPatch>,
    integrations: Option<Vec<String>>,
    operational_events: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    entity_prefix: Option<Option<String>>,
    event_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    filter: Option<Option<Box<RawValue>>>,
    #[serde(default)]
    policy: PolicyInput,
    enabled: Option<bool>,
}

/// A key that is to be made: body of `POST /v1/subscriptions/{id}/secret/rotate`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeyRotation)]
pub(super) struct RotationInput {
    /// `hmac` (signs as v1) or `ed25519` (signs as v1a).
    #[serde(default)]
    pub(super) signing: SigningInput,
    /// How long the old keys sign beside it, in seconds; a day unless it is said, 0 ends them at once.
    pub(super) overlap_seconds: Option<u64>,
}

/// Kinds of keys.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Signing)]
pub(super) enum SigningInput {
    #[default]
    Hmac,
    Ed25519,
}

/// Exactly one of these.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum NewDestination {
    /// An HTTP POST per message.
    Webhook(Box<NewWebhook>),
    /// Messages of this queue (URL or ARN), under a role of the client's.
    Sqs(NewQueue),
    /// Publications to this topic (ARN).
    Sns(NewTopic),
    /// Events on this bus (ARN).
    EventBridge(NewBus),
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewWebhook {
    url: String,
    #[serde(default)]
    signing: SigningInput,
    form: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    auth: Option<AuthInput>,
    client_certificate: Option<CertificateInput>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DestinationPatch {
    Webhook(Box<WebhookPatch>),
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookPatch {
    url: Option<String>,
    form: Option<String>,
    /// All of them, in the place of those before.
    headers: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<AuthInput>)]
    auth: Option<Option<AuthInput>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<CertificateInput>)]
    client_certificate: Option<Option<CertificateInput>>,
}

/// How a webhook shows who it is beside its signature: exactly one of these.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[schema(as = WebhookAuth)]
enum AuthInput {
    Basic(BasicInput),
    Bearer(BearerInput),
    Oauth(OAuthInput),
}

/// RFC 7617.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BasicAuth)]
struct BasicInput {
    user: String,
    password: String,
}

/// A token that does not change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BearerAuth)]
struct BearerInput {
    token: String,
}

/// OAuth 2.0's client credentials grant.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = OAuthClient)]
struct OAuthInput {
    token_url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    audience: Option<String>,
    /// Where id and secret stand: `header` or `body`.
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(header|body)$")]
    place: ClientPlace,
}

/// A queue (URL or ARN), and a role of the client's own.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewQueue {
    queue: String,
    role_arn: String,
}

/// A topic (ARN), and a role of the client's own.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewTopic {
    topic: String,
    role_arn: String,
}

/// A bus (ARN), and a role of the client's own.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewBus {
    bus: String,
    role_arn: String,
}

/// Both PEM.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = ClientCertificate)]
struct CertificateInput {
    certificates: String,
    key: String,
}

/// What is absent stays as it is, or as the standard has it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPolicy)]
struct PolicyInput {
    timeout_ms: Option<u64>,
    concurrency: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    rate_per_second: Option<Option<u32>>,
    retry_schedule_ms: Option<Vec<u64>>,
    order: Option<String>,
    on_exhausted: Option<String>,
    disable_after_ms: Option<u64>,
}
