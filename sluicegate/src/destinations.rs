//! How deliveries reach AWS: endpoints, regions, and the roles that are assumed for destinations.
//!
//! The worker's own credentials come from the standard chain. A role is assumed with its external id, under the worker's name, and its
//! sessions are shared by all destinations of that role; nothing here ever takes keys from a subscription.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::identity::IdentityCache;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use processor::{AwsConfigs, AwsIdentity, AwsService, RoleToAssume};
use tokio::sync::OnceCell;

use crate::clients::{is_loopback, loopback_credentials};

/// Roles whose sessions are kept; one more, and all are assumed anew when they are next used.
const MOST_ROLES: usize = 1_024;
/// What the name of a session begins with, and its greatest length.
const SESSION: (&str, usize) = ("sluicegate-", 64);

/// Other endpoints than AWS's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoints {
    pub(crate) sqs: Option<String>,
    pub(crate) sns: Option<String>,
    pub(crate) eventbridge: Option<String>,
    pub(crate) sts: Option<String>,
}

impl Endpoints {
    /// Where none is given of its own, this one for all services.
    pub(crate) fn or(&self, all: Option<&String>) -> Endpoints {
        let or = |own: &Option<String>| own.as_ref().or(all).cloned();
        Endpoints {
            sqs: or(&self.sqs),
            sns: or(&self.sns),
            eventbridge: or(&self.eventbridge),
            sts: or(&self.sts),
        }
    }

    fn of(&self, service: AwsService) -> Option<&String> {
        match service {
            AwsService::Sqs => self.sqs.as_ref(),
            AwsService::Sns => self.sns.as_ref(),
            AwsService::EventBridge => self.eventbridge.as_ref(),
        }
    }
}

/// Makes the configuration of clients for destinations, on top of what all clients have in common.
pub(crate) fn configs(base: &SdkConfig, endpoints: Endpoints, worker: &str) -> AwsConfigs {
    let access = Access::new(base, endpoints, worker);
    AwsConfigs::new(move |identity, service| access.config(identity, service))
}

struct Access {
    base: SdkConfig,
    endpoints: Endpoints,
    roles: Roles,
}

impl Access {
    fn new(base: &SdkConfig, endpoints: Endpoints, worker: &str) -> Access {
        // One cache for all clients, so that a role has one session whatever it is used for.
        let cache = IdentityCache::lazy().build();
        let base = base.clone().into_builder().identity_cache(cache).build();
        let roles = Roles {
            sts: at(&base, endpoints.sts.as_ref()),
            session: session_name(worker),
            known: Mutex::new(HashMap::new()),
        };
        Access { base, endpoints, roles }
    }

    fn config(&self, identity: &AwsIdentity, service: AwsService) -> SdkConfig {
        let mut config = at(&self.base, self.endpoints.of(service)).into_builder();
        if let Some(region) = &identity.region {
            config = config.region(Region::new(region.to_string()));
        }
        if let Some(role) = &identity.role {
            config = config.credentials_provider(self.roles.credentials(role));
        }
        config.build()
    }
}

/// The same at another endpoint; on this machine, where nobody checks them, with credentials that are no secret.
fn at(base: &SdkConfig, endpoint: Option<&String>) -> SdkConfig {
    let Some(endpoint) = endpoint else { return base.clone() };
    let config = base.clone().into_builder().endpoint_url(endpoint);
    if is_loopback(endpoint) {
        let credentials = SharedCredentialsProvider::new(loopback_credentials());
        return config.credentials_provider(credentials).build();
    }
    config.build()
}

/// A session's name says which worker delivers: in the trail of whoever gave the role.
fn session_name(worker: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let worker = worker.chars().map(|c| if is_allowed(c) { c } else { '-' });
    SESSION.0.chars().chain(worker).take(SESSION.1).collect()
}

/// The roles that were assumed so far.
struct Roles {
    sts: SdkConfig,
    session: String,
    // Short looks when a lane is made; never held while anything is awaited.
    known: Mutex<HashMap<RoleToAssume, SharedCredentialsProvider>>,
}

impl Roles {
    /// Credentials of a role, the same for each who asks: the SDK caches a session by its provider.
    fn credentials(&self, role: &RoleToAssume) -> SharedCredentialsProvider {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = known.get(role) {
            return provider.clone();
        }
        if known.len() >= MOST_ROLES {
            known.clear();
        }
        let provider = SharedCredentialsProvider::new(Assumed {
            role: role.clone(),
            sts: self.sts.clone(),
            session: self.session.clone(),
            provider: Arc::default(),
        });
        known.insert(role.clone(), provider.clone());
        provider
    }
}

/// A role that is assumed when it is first needed.
struct Assumed {
    role: RoleToAssume,
    sts: SdkConfig,
    session: String,
    provider: Arc<OnceCell<AssumeRoleProvider>>,
}

impl fmt::Debug for Assumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assumed").field("role", &self.role).finish_non_exhaustive()
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let make = || {
                AssumeRoleProvider::builder(&*self.role.arn)
                    .external_id(&*self.role.external_id)
                    .session_name(&self.session)
                    .configure(&self.sts)
                    .build()
            };
            self.provider.get_or_init(make).await.provide_credentials().await
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_config::BehaviorVersion;
    use aws_config::retry::RetryConfig;
    use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
    use aws_smithy_types::error::display::DisplayErrorContext;
    use local_aws::{Effect, Fault, LocalAws, Options, Service};

    use super::*;

    const ROLE: &str = "arn:aws:iam::000000000000:role/deliver";

    /// What all clients have in common, within an embedded AWS that has a queue.
    async fn stage() -> (LocalAws, Access) {
        let aws = LocalAws::new(Options::default()).unwrap();
        let base = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(loopback_credentials()))
            .http_client(aws.http_client())
            .time_source(SharedTimeSource::new(SystemTimeSource::new()))
            .retry_config(RetryConfig::disabled())
            .build();
        let access = Access::new(&base, Endpoints::default(), "worker-1");
        let queue = aws_sdk_sqs::Client::new(&base).create_queue().queue_name("q");
        queue.send().await.unwrap();
        (aws, access)
    }

    fn identity(external_id: &str) -> AwsIdentity {
        let role = RoleToAssume { arn: ROLE.into(), external_id: external_id.into() };
        AwsIdentity { region: Some("eu-west-1".into()), role: Some(role) }
    }

    async fn send(access: &Access, identity: &AwsIdentity) -> Result<(), String> {
        let client = aws_sdk_sqs::Client::new(&access.config(identity, AwsService::Sqs));
        let url = "https://sqs.eu-west-1.amazonaws.com/000000000000/q";
        let sent = client.send_message().queue_url(url).message_body("x").send().await;
        sent.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
    }

    fn assumed(aws: &LocalAws) -> u64 {
        aws.calls()
            .iter()
            .filter(|call| call.operation == "AssumeRole")
            .map(|call| call.calls)
            .sum()
    }

    #[tokio::test]
    async fn a_role_is_assumed_once_for_all_clients_and_calls_are_signed_by_it() {
        let (aws, access) = stage().await;
        aws.trust(ROLE, "client-1");
        for _ in 0..3 {
            send(&access, &identity("client-1")).await.unwrap();
        }
        assert_eq!(assumed(&aws), 1);
        // The embedded STS names the keys after the role.
        aws.faults().inject(Fault::new(Service::Sqs, Effect::Throttle).caller("ASIA-deliver"));
        let error = send(&access, &identity("client-1")).await.unwrap_err();
        assert!(error.contains("RequestThrottled"), "{error}");
        send(&access, &AwsIdentity { region: None, role: None }).await.unwrap();
    }

    #[tokio::test]
    async fn a_role_that_trusts_another_client_is_refused_by_its_external_id() {
        let (aws, access) = stage().await;
        aws.trust(ROLE, "client-1");
        let error = send(&access, &identity("client-2")).await.unwrap_err();
        assert!(error.contains("AccessDenied"), "{error}");
        send(&access, &identity("client-1")).await.unwrap();
        assert!(send(&access, &identity("client-2")).await.is_err(), "no session is shared");
    }

    #[test]
    fn a_session_is_named_after_the_worker_within_what_sts_allows() {
        assert_eq!(session_name("host-1/a b"), "sluicegate-host-1-a-b");
        assert_eq!(session_name(&"w".repeat(100)).len(), 64);
    }
}
