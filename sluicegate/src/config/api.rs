//! `[api]`: where the API listens, how, and every limit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::{ClientCertificates, Limits, OAuthOptions};
use store::Network;

use super::client_limits::{audit, client_limits, plans, sharing};
use super::oauth;
use super::publish::{self, PublishMode};
use super::section::Section;
use super::sections::{ADDRESS, seconds, url};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// What the API is told; the app adds stores, integrations and secrets.
#[derive(Debug, Clone)]
pub(crate) struct ApiConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where its operators' port listens.
    pub(crate) operators_listen: SocketAddr,
    /// How connections are protected; `None` = not said, which only `api` minds.
    pub(crate) transport: Option<ApiTransport>,
    /// Scheme and authority in front of links; relative links without it.
    pub(crate) public_url: Option<String>,
    /// Whether browsers are told to use HTTPS from now on.
    pub(crate) hsts: bool,
    /// Whether clients may have webhooks at the private places that operators vouch for.
    pub(crate) private_webhooks: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Whose access tokens are taken.
    pub(crate) oauth: OAuthOptions,
    /// What can be published to.
    pub(crate) publish: PublishMode,
    /// Ceilings.
    pub(crate) limits: Limits,
}

/// How connections are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiTransport {
    /// TLS ends here.
    Tls {
        /// Certificate chain, PEM.
        cert: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
        /// Whether clients are asked for theirs.
        clients: ClientCertificates,
    },
    /// TLS ends in a load balancer before it.
    PlainBehindLoadBalancer,
}

pub(super) fn read(section: &mut Section<'_>) -> ApiConfig {
    let listen = SocketAddr::from(([0, 0, 0, 0], 8443));
    let listen = section.parsed("listen", listen, ADDRESS, |text| text.parse().ok());
    let operators = SocketAddr::from(([127, 0, 0, 1], 9091));
    let operators_listen =
        section.parsed("operators_listen", operators, ADDRESS, |text| text.parse().ok());
    let transports = [("tls", false), ("plain-behind-load-balancer", true)];
    let is_plain = section.choice("transport", false, &transports);
    let tls = section.section("tls", tls);
    let transport = match (is_plain, tls) {
        (true, Some(_)) => {
            let allowed = "\"tls\", or no api.tls.cert and api.tls.key";
            section.refuse(
                "transport",
                "\"plain-behind-load-balancer\" with a certificate",
                allowed,
            );
            None
        }
        (true, None) => Some(ApiTransport::PlainBehindLoadBalancer),
        (false, tls) => tls,
    };
    let allowed = "an http or https URL without a path, such as \"https://api.example.com\"";
    let public_url =
        section.optional("public_url", allowed, |text| url(text).filter(|_| !text.ends_with('/')));
    let hsts = section.boolean("hsts", true);
    let private_webhooks = section.boolean("private_webhooks", false);
    let network = "a network such as \"10.0.0.0/8\"";
    let trusted_proxies = section.list(
        "trusted_proxies",
        Vec::new(),
        network,
        |text| text.parse::<Network>().ok(),
        |network| format!("\"{network}\""),
    );
    let oauth = section.section("oauth", oauth::read);
    let client = section.section("client_limits", client_limits);
    let plans = plans(section, client);
    let sharing = section.section("shared_limits", sharing);
    let audit = section.section("audit", audit);
    let (publish, publish_limits) = section.section("publish", publish::read);
    let default =
        Limits { client, plans, sharing, audit, publish: publish_limits, ..Limits::default() };
    let limits = section.section("limits", |section| limits(section, default));
    ApiConfig {
        listen,
        operators_listen,
        transport,
        public_url,
        hsts,
        private_webhooks,
        trusted_proxies,
        oauth,
        publish,
        limits,
    }
}

/// A path that may be one.
pub(super) fn path(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn tls(section: &mut Section<'_>) -> Option<ApiTransport> {
    let cert = section.optional("cert", "a path of a PEM file", path);
    let key = section.optional("key", "a path of a PEM file", path);
    let words =
        [("ignore", ClientCertificates::Ignored), ("request", ClientCertificates::Requested)];
    let clients = section.choice("client_certificates", ClientCertificates::Ignored, &words);
    match (cert, key) {
        (Some(cert), Some(key)) => {
            Some(ApiTransport::Tls { cert: cert.into(), key: key.into(), clients })
        }
        (None, None) => None,
        (cert, _) => {
            let absent = if cert.is_none() { "cert" } else { "key" };
            section.missing(absent, "a path of a PEM file: cert and key go together");
            None
        }
    }
}

fn limits(section: &mut Section<'_>, default: Limits) -> Limits {
    let limits = count_limits(section, default);
    let limits = time_limits(section, limits);
    size_limits(section, limits)
}

fn count_limits(section: &mut Section<'_>, default: Limits) -> Limits {
    let many = 1_000_000;
    Limits {
        max_connections: section.integer("max_connections", default.max_connections, 1..=many),
        max_requests_in_flight: section.integer(
            "max_requests_in_flight",
            default.max_requests_in_flight,
            1..=many,
        ),
        max_streams_per_connection: section.integer(
            "max_streams_per_connection",
            default.max_streams_per_connection,
            1..=10_000,
        ),
        max_watched: section.integer("max_watched", default.max_watched, 1..=many),
        max_subscriptions: section.integer(
            "max_subscriptions",
            default.max_subscriptions,
            1..=10_000,
        ),
        max_tails: section.integer("max_tails", default.max_tails, 1..=many),
        max_cached_keys: section.integer("max_cached_keys", default.max_cached_keys, 1..=10 * many),
        unknown_key_lookups_per_second: section.integer(
            "unknown_key_lookups_per_second",
            default.unknown_key_lookups_per_second,
            1..=100_000,
        ),
        failed_authentications_per_second: section.integer(
            "failed_authentications_per_second",
            default.failed_authentications_per_second,
            1..=1_000_000,
        ),
        ..default
    }
}

fn time_limits(section: &mut Section<'_>, default: Limits) -> Limits {
    let short = Duration::from_millis(100)..=seconds(300);
    let long = seconds(1)..=seconds(86_400);
    let mut time = |key, default, range| section.duration(key, default, range);
    Limits {
        handshake_timeout: time("handshake_timeout", default.handshake_timeout, short.clone()),
        header_read_timeout: time(
            "header_read_timeout",
            default.header_read_timeout,
            short.clone(),
        ),
        idle_timeout: time("idle_timeout", default.idle_timeout, long.clone()),
        max_connection_age: time("max_connection_age", default.max_connection_age, long.clone()),
        write_stall_timeout: time("write_stall_timeout", default.write_stall_timeout, long),
        request_timeout: time("request_timeout", default.request_timeout, short.clone()),
        max_wait: time("max_wait", default.max_wait, seconds(1)..=seconds(300)),
        max_tail_age: time("max_tail_age", default.max_tail_age, seconds(10)..=seconds(86_400)),
        shutdown_deadline: time("shutdown_deadline", default.shutdown_deadline, short),
        ..default
    }
}

fn size_limits(section: &mut Section<'_>, default: Limits) -> Limits {
    Limits {
        max_uri_bytes: section.bytes("max_uri_bytes", default.max_uri_bytes, 256..=64 * KIB),
        max_header_bytes: section.bytes(
            "max_header_bytes",
            default.max_header_bytes,
            KIB..=256 * KIB,
        ),
        max_body_bytes: section.bytes(
            "max_body_bytes",
            default.max_body_bytes,
            1..=64 * MIB as u64,
        ),
        max_page_bytes: section.bytes("max_page_bytes", default.max_page_bytes, KIB..=64 * MIB),
        max_tail_bytes: section.bytes("max_tail_bytes", default.max_tail_bytes, MIB..=4096 * MIB),
        ..default
    }
}
