//! The AWS SDK clients: made here, from the configuration, and nowhere else.
//!
//! Credentials come from the standard chain (environment, profile, web identity, ECS, EC2); towards a
//! loopback endpoint, where nobody checks them, fixed ones are used so that a laptop needs none.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// How the SDK clients reach AWS.
#[derive(Debug, Clone)]
pub(crate) struct AwsOptions {
    /// The region; from the standard chain when absent.
    pub(crate) region: Option<String>,
    /// Another endpoint than AWS's own, for all services.
    pub(crate) endpoint_url: Option<String>,
    /// How long a connection may take to be made.
    pub(crate) connect_timeout: Duration,
    /// How long one try of an operation may take.
    pub(crate) attempt_timeout: Duration,
    /// How long an operation may take with all its tries.
    pub(crate) operation_timeout: Duration,
    /// Tries of one operation.
    pub(crate) max_attempts: u32,
}

/// The clients that the services share.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) time: SharedTimeSource,
}

impl Clients {
    /// Makes the clients; reads the environment and profile files, opens no connection.
    pub(crate) async fn make(options: &AwsOptions) -> Clients {
        let time = SharedTimeSource::new(SystemTimeSource::new());
        let config = sdk_config(options, time.clone()).await;
        Clients {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            time,
        }
    }
}

async fn sdk_config(options: &AwsOptions, time: SharedTimeSource) -> SdkConfig {
    let http =
        HttpBuilder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.operation_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .time_source(time)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(options.max_attempts));
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint_url {
        loader = loader.endpoint_url(endpoint);
        if is_loopback(endpoint) {
            loader = loader.credentials_provider(loopback_credentials());
        }
    }
    loader.load().await
}

/// True for an endpoint on this machine, where credentials mean nothing.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Credentials that are no secret: a loopback endpoint checks none.
fn loopback_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for yes in ["http://127.0.0.1:4566", "http://localhost:1", "http://[::1]:80/"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "https://kinesis.eu-west-1.amazonaws.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "not a uri",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
