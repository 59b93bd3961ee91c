//! `loadtest peer`: consumers to compare with, each alone in a process.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Region;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use clap::ValueEnum;
use loadtest::peer::{drop, find, sdk, socket};
use loadtest::wire::Endpoint;

/// Read a synthetic stream whole, as a consumer to compare with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  loadtest source --records 1000000 &
  loadtest peer sdk --endpoint-url http://127.0.0.1:4567

Prints one JSON object: the records and bytes that were read.")]
pub(crate) struct PeerArguments {
    /// Which consumer.
    #[arg(value_enum)]
    peer: Peer,
    /// Where `loadtest source` listens.
    #[arg(long, value_name = "URL")]
    endpoint_url: String,
    /// What to trust, as `loadtest source --tls` wrote it.
    #[arg(long, value_name = "CA.PEM")]
    ca: Option<PathBuf>,
    /// The stream's name.
    #[arg(long, default_value = "load")]
    stream: String,
    /// Stay until standard input is closed, so that the process can be looked at.
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// The AWS SDK's event stream; records are counted.
    Sdk,
    /// A bare socket; bytes are counted.
    Socket,
    /// HTTP whose body is dropped; bytes are counted.
    Drop,
}

/// Reads to the end and says how much it was.
pub(crate) async fn run(arguments: PeerArguments) -> anyhow::Result<ExitCode> {
    let ca_pem = match &arguments.ca {
        Some(path) => Some(
            std::fs::read_to_string(path).with_context(|| format!("--ca {}", path.display()))?,
        ),
        None => None,
    };
    let client = client(&arguments.endpoint_url, ca_pem.as_deref())?;
    let endpoint = Endpoint { url: arguments.endpoint_url, ca_pem };
    let found = find(&client, &arguments.stream, "peer").await?;
    let read = match arguments.peer {
        Peer::Sdk => sdk::read(client, found).await?,
        Peer::Socket => socket::read(endpoint, found).await?,
        Peer::Drop => drop::read(endpoint, found).await?,
    };
    println!("{}", serde_json::to_string(&read)?);
    if arguments.stay {
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    }
    Ok(ExitCode::SUCCESS)
}

/// A client as anybody would make it, towards a stand-in.
fn client(endpoint_url: &str, ca_pem: Option<&str>) -> anyhow::Result<Client> {
    let trust = match ca_pem {
        Some(pem) => TrustStore::empty().with_pem_certificate(pem),
        None => TrustStore::default(),
    };
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(trust).build()?)
        .build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint_url)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::from_keys("local", "local", None))
        .http_client(http)
        .build();
    Ok(Client::from_conf(config))
}
