//! The AWS SDK clients: made here, from the configuration, and nowhere else.
//!
//! Credentials come from the standard chain (environment, profile, web identity, ECS, EC2); towards a
//! loopback endpoint, where nobody checks them, fixed ones are used so that a laptop needs none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use hyper_rustls::ConfigBuilderExt;
use processor::{AwsConfigs, KinesisClients, ReadHttp};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::destinations::{self, Endpoints};

/// An idle connection is closed after this long.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Idle connections that are kept to one host: those of all destinations together.
const POOL_CONNECTIONS: usize = 256;

/// How the SDK clients reach AWS.
#[derive(Debug, Clone)]
pub(crate) struct AwsOptions {
    /// The region; from the standard chain when absent.
    pub(crate) region: Option<String>,
    /// Another endpoint than AWS's own, for all services.
    pub(crate) endpoint_url: Option<String>,
    /// Another endpoint for Kinesis alone.
    pub(crate) kinesis_endpoint_url: Option<String>,
    /// Another endpoint for DynamoDB alone.
    pub(crate) dynamodb_endpoint_url: Option<String>,
    /// Other endpoints for the services that deliveries go to, and for STS.
    pub(crate) destinations: Endpoints,
    /// PEM file of the authorities that endpoints are verified with, instead of the system's.
    pub(crate) ca_bundle: Option<PathBuf>,
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
    /// For reading shards, over connections of their own.
    pub(crate) kinesis_reading: KinesisClients,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) time: SharedTimeSource,
    /// What all clients have in common, for those of destinations.
    base: SdkConfig,
    destinations: Endpoints,
}

impl Clients {
    /// Makes the clients; reads the environment, profile files and the CA bundle, opens no connection.
    ///
    /// # Errors
    /// When the CA bundle cannot be read or holds no certificate.
    pub(crate) async fn make(options: &AwsOptions) -> anyhow::Result<Clients> {
        let time = SharedTimeSource::new(SystemTimeSource::new());
        let config = sdk_config(options, time.clone()).await?;
        let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config);
        if let Some(endpoint) =
            options.kinesis_endpoint_url.as_ref().or(options.endpoint_url.as_ref())
        {
            kinesis.set_endpoint_url(Some(endpoint.clone()));
            if is_loopback(endpoint) {
                kinesis = kinesis.credentials_provider(loopback_credentials());
            }
        }
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        if let Some(endpoint) =
            options.dynamodb_endpoint_url.as_ref().or(options.endpoint_url.as_ref())
        {
            dynamodb.set_endpoint_url(Some(endpoint.clone()));
            if is_loopback(endpoint) {
                dynamodb = dynamodb.credentials_provider(loopback_credentials());
            }
        }
        let kinesis = kinesis.build();
        Ok(Clients {
            kinesis_reading: reading(&kinesis, options)?,
            kinesis: aws_sdk_kinesis::Client::from_conf(kinesis),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            time,
            base: config,
            destinations: options.destinations.or(options.endpoint_url.as_ref()),
        })
    }

    /// How the clients of destinations within AWS are configured; `worker` names the sessions of roles.
    pub(crate) fn destinations(&self, worker: &str) -> AwsConfigs {
        destinations::configs(&self.base, self.destinations.clone(), worker)
    }
}

/// Clients like that of `config`, but each with a connection of its own.
fn reading(
    config: &aws_sdk_kinesis::Config,
    options: &AwsOptions,
) -> anyhow::Result<KinesisClients> {
    let tls = rustls::ClientConfig::builder();
    let tls = match &options.ca_bundle {
        Some(path) => tls.with_root_certificates(roots("aws.ca_bundle", path)?.1),
        None => tls.with_native_roots()?,
    };
    let (tls, config) = (tls.with_no_client_auth(), config.clone());
    let connect_timeout = options.connect_timeout;
    Ok(KinesisClients::new(move || {
        let http = ReadHttp::new(tls.clone(), connect_timeout);
        aws_sdk_kinesis::Client::from_conf(config.to_builder().http_client(http).build())
    }))
}

/// What all clients have in common: everything but their endpoints.
async fn sdk_config(options: &AwsOptions, time: SharedTimeSource) -> anyhow::Result<SdkConfig> {
    let http = HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls_context(options.ca_bundle.as_deref())?)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_CONNECTIONS)
        .build_https();
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
    Ok(loader.load().await)
}

/// Whom the clients trust: the authorities in a PEM file, or the system's.
fn tls_context(ca_bundle: Option<&Path>) -> anyhow::Result<TlsContext> {
    let trust = match ca_bundle {
        None => TrustStore::default(),
        // Looked at here because the connector would panic over what it cannot read.
        Some(path) => TrustStore::empty().with_pem_certificate(roots("aws.ca_bundle", path)?.0),
    };
    Ok(TlsContext::builder().with_trust_store(trust).build()?)
}

/// The authorities in a PEM file, as they stand there and as they are used; `named` says who names the file.
pub(crate) fn roots(named: &str, path: &Path) -> anyhow::Result<(Vec<u8>, RootCertStore)> {
    let what = || format!("{named}: {}", path.display());
    let pem = std::fs::read(path).with_context(what)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.with_context(what)?).with_context(what)?;
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "{}: no certificate in it; wanted are PEM blocks that begin with -----BEGIN CERTIFICATE-----",
        what()
    );
    Ok((pem, roots))
}

/// True for an endpoint on this machine, where credentials mean nothing.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Credentials that are no secret: a loopback endpoint checks none.
pub(crate) fn loopback_credentials() -> Credentials {
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

    #[test]
    fn a_ca_bundle_without_certificates_is_refused_and_named() {
        let directory = std::env::temp_dir().join(format!("ca-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("ca.pem");
        let refused = |text: &str| {
            std::fs::write(&file, text).unwrap();
            format!("{:#}", tls_context(Some(&file)).unwrap_err())
        };
        assert!(refused("").contains("no certificate in it"));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(garbage).contains("aws.ca_bundle"), "{}", refused(garbage));
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, own.cert.pem()).unwrap();
        assert!(tls_context(Some(&file)).is_ok());
        std::fs::remove_dir_all(&directory).unwrap();
        let missing = format!("{:#}", tls_context(Some(&file)).unwrap_err());
        assert!(missing.contains("aws.ca_bundle") && missing.contains("ca.pem"), "{missing}");
    }
}
