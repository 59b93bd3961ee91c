//! Makes the SDK client that the command line asks for.

use std::time::Duration;

use anyhow::{Context, anyhow};
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Region;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::Usage;

/// Which Kinesis to talk to.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Another endpoint than the region's own, such as http://127.0.0.1:4566.
    ///
    /// A loopback endpoint is taken for a local stand-in: it gets made-up credentials.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// AWS region; without it, what the environment and the profile say.
    #[arg(long)]
    region: Option<String>,
    /// How long one request may take.
    #[arg(long, value_parser = super::units::duration, default_value = "10s", value_name = "DURATION")]
    pub(crate) timeout: Duration,
}

/// A client with timeouts and without retries: the producer retries record by record.
pub(crate) async fn connect(target: &Target) -> anyhow::Result<Client> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_timeout(target.timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    if let Some(region) = &target.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &target.endpoint_url {
        loader = loader.endpoint_url(url);
        if is_loopback(url)? {
            loader = loader.credentials_provider(Credentials::from_keys("local", "local", None));
            if target.region.is_none() {
                loader = loader.region(Region::from_static("us-east-1"));
            }
        }
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(anyhow!(Usage(
            "no AWS region: give --region, or set AWS_REGION or a profile with one".to_owned()
        )));
    }
    Ok(Client::new(&config))
}

/// True if the host of `url` is this machine itself.
fn is_loopback(url: &str) -> anyhow::Result<bool> {
    let usage = || Usage(format!("--endpoint-url {url}: not a URL such as http://127.0.0.1:4566"));
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.with_context(usage)?.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() {
        return Err(anyhow!(usage()));
    }
    let is_loopback_address = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Ok(host.eq_ignore_ascii_case("localhost") || is_loopback_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_gets_made_up_credentials() {
        let local = ["http://127.0.0.1:4566", "http://localhost:1/", "https://[::1]:8443/x"];
        assert!(local.iter().all(|url| is_loopback(url).unwrap()));
        let far = ["https://kinesis.eu-west-1.amazonaws.com", "http://127.0.0.1.example.com:1"];
        assert!(far.iter().all(|url| !is_loopback(url).unwrap()));
        assert!(["127.0.0.1:1", "ftp://x", "http://"].iter().all(|url| is_loopback(url).is_err()));
    }
}
