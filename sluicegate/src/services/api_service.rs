//! The service that answers clients: over sockets of its own, or for a host that brings the requests.

use std::sync::Arc;

use anyhow::Context;
use api::{Backing, IntegrationInfo, TlsReloader, Transport};
use store::{AccessStore, DynamoMessages, Pepper, RequestStore, Signer, UsageStore};
use tokio_util::sync::CancellationToken;

use super::public_tls;
use crate::clients::Clients;
use crate::config::{ApiTransport, Config};
use crate::documents::HttpsDocuments;
use crate::preflight::require_tables;
use crate::{publish, random, rules};

/// Payload bytes of a page for a host. A load balancer takes 1 MB of a function, of which a quarter goes to base64; the rest is
/// for what stands around 500 messages.
const HOSTED_PAGE_BYTES: usize = 384 * 1024;

/// The service that answers clients.
pub(crate) struct ApiService {
    service: api::Service,
    handle: api::Handle,
    reload: Option<CertificateFiles>,
}

/// Certificate files that are followed while the API runs.
struct CertificateFiles {
    tls: TlsReloader,
    cert: std::path::PathBuf,
    key: std::path::PathBuf,
}

/// How often certificate files are looked at.
const CERTIFICATE_POLL: std::time::Duration = std::time::Duration::from_secs(10);

impl ApiService {
    /// Reads the certificate and takes the address. It does not answer yet.
    pub(crate) async fn prepare(config: &Config, clients: &Clients) -> anyhow::Result<ApiService> {
        let transport = config.api.transport.as_ref().context("api.transport is not configured")?;
        let (transport, reload) = match transport {
            ApiTransport::PlainBehindLoadBalancer => (Transport::PlainBehindLoadBalancer, None),
            ApiTransport::Tls { cert, key, clients } => {
                let files = || format!("api.tls: {} and {}", cert.display(), key.display());
                let tls = TlsReloader::from_files(cert, key, *clients).await.with_context(files)?;
                let files =
                    CertificateFiles { tls: tls.clone(), cert: cert.clone(), key: key.clone() };
                (Transport::Tls(tls), Some(files))
            }
        };
        let backing = backing(config, clients).await?;
        let (service, handle) = api::Service::bind(api_options(config, transport), backing).await?;
        Ok(ApiService { service, handle, reload })
    }

    /// Where it listens, and its switches.
    pub(crate) fn handle(&self) -> api::Handle {
        self.handle.clone()
    }

    /// Runs until `stop`, then lets the requests in work end.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let ended = CancellationToken::new();
        let follow = async {
            if let Some(files) = &self.reload {
                files
                    .tls
                    .follow_files(&files.cert, &files.key, CERTIFICATE_POLL, ended.clone())
                    .await;
            }
        };
        self.handle.ready();
        let serve = async {
            let exit = self.service.run(stop.clone()).await;
            ended.cancel();
            exit
        };
        let (exit, ()) = tokio::join!(serve, follow);
        let api::Exit::Shutdown { cut_connections } = exit;
        if cut_connections > 0 {
            tracing::warn!(
                cut_connections,
                "connections did not end within the deadline and were cut"
            );
        }
        anyhow::ensure!(stop.is_cancelled(), "the API ended by itself");
        Ok(())
    }
}

/// The API for a host that brings requests one at a time. It needs no transport.
pub(crate) async fn hosted(config: &Config, clients: &Clients) -> anyhow::Result<api::Hosted> {
    let mut options = api_options(config, Transport::PlainBehindLoadBalancer);
    options.limits.max_page_bytes = options.limits.max_page_bytes.min(HOSTED_PAGE_BYTES);
    Ok(api::Hosted::new(options, backing(config, clients).await?)?)
}

/// What the API reads from and writes to, if its tables are there.
async fn backing(config: &Config, clients: &Clients) -> anyhow::Result<Backing> {
    require_tables(&clients.dynamodb, &publish::api_tables(config)).await?;
    let secrets = &config.secrets;
    let pepper = secrets.pepper.as_ref().context("secrets.pepper is not set")?;
    let link_key =
        secrets.link_signing_key.as_ref().context("secrets.link_signing_key is not set")?;
    Ok(Backing {
        messages: Arc::new(DynamoMessages::new(clients.dynamodb.clone(), &config.app.name)),
        access: AccessStore::new(
            clients.dynamodb.clone(),
            &config.app.name,
            Pepper::new(pepper.expose()).context("secrets.pepper is too short")?,
        ),
        usage: UsageStore::new(clients.dynamodb.clone(), &config.app.name),
        signer: Signer::new(link_key.expose()).context("secrets.link_signing_key is too short")?,
        documents: Arc::new(HttpsDocuments::new(public_tls()?)),
        managing: rules::managing(config, clients),
        time: clients.time.clone(),
        publisher: publish::publisher(config, clients),
        requests: RequestStore::new(clients.dynamodb.clone(), &config.app.name),
    })
}

fn api_options(config: &Config, transport: Transport) -> api::Options {
    let infos = config.integrations.iter().map(|integration| IntegrationInfo {
        name: integration.name().clone(),
        description: integration.description().map(str::to_owned),
        retention: integration.retention(),
        entity_pointer: integration.entity().map(ToString::to_string),
        time_pointer: integration.time().map(|time| time.pointer.to_string()),
        tail: integration.tail(),
    });
    let mut options = api::Options::new(transport, infos.collect());
    options.listen = config.api.listen;
    options.base_url = config.api.public_url.clone();
    options.hsts = config.api.hsts;
    options.trusted_proxies = config.api.trusted_proxies.clone();
    options.oauth = config.api.oauth.clone();
    options.limits = config.api.limits.clone();
    options.seed = random::seed();
    options
}
