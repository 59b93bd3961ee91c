//! What the app decides about the API: where it listens, how, for which integrations, and every
//! limit.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use store::{IntegrationName, Network};

use crate::access::oauth::OAuthOptions;
use crate::publish::PublishLimits;
use crate::server::TlsReloader;

/// How connections are protected. Plain HTTP exists only when the app asks for it by name.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TLS 1.2 or newer ends in this process (HTTP/2 and HTTP/1.1 by ALPN).
    Tls(TlsReloader),
    /// HTTP/1.1 without TLS: only behind a load balancer that ends TLS, in a private network.
    PlainBehindLoadBalancer,
}

/// An integration as the API describes it to the clients who may see it.
#[derive(Clone, Debug)]
pub struct IntegrationInfo {
    /// Its name in paths and grants.
    pub name: IntegrationName,
    /// One sentence for people, if there is one.
    pub description: Option<String>,
    /// How long a message can be read after it arrived.
    pub retention: Duration,
    /// JSON Pointer (RFC 6901) to the entity inside a message; `None` when it is the partition key.
    pub entity_pointer: Option<String>,
    /// JSON Pointer to the time inside a message; `None` when the arrival time is used.
    pub time_pointer: Option<String>,
    /// Whether clients may follow all of it as it is stored.
    pub tail: bool,
}

/// What one client may ask for. A record's own limits, a plan and the defaults are all of this form in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Sustained requests per second. At least 1.
    pub rate_per_second: u32,
    /// Requests that may come at once after a pause. At least 1.
    pub burst: u32,
    /// Requests answered at the same time, by one task. At least 1.
    pub concurrent: u32,
    /// Requests in one UTC day; `None` is any number.
    pub requests_per_day: Option<NonZeroU64>,
    /// Bytes of answers and of requests' bodies in one UTC day; `None` is any number.
    pub bytes_per_day: Option<NonZeroU64>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            rate_per_second: 50,
            burst: 100,
            concurrent: 20,
            requests_per_day: None,
            bytes_per_day: None,
        }
    }
}

/// How the tasks of the API share the limits of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How long the table may take to say what the other tasks let in. A request waits for it only where its client has
    /// spent all that one task may let in without it; beyond this the task goes by itself.
    pub patience: Duration,
    /// Among so many tasks limits are divided while the table does not answer. At least 1: then each task
    /// goes by the whole limit.
    pub expected_tasks: u32,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { patience: Duration::from_millis(250), expected_tasks: 1 }
    }
}

/// How much of the decisions about access is written into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// False: nothing.
    pub is_on: bool,
    /// One in so many of what was allowed; all else always. At least 1: every one.
    pub allowed_one_in: u32,
    /// Lines a second of what was allowed, and as many of all else. At least 1.
    pub max_lines_per_second: u32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { is_on: true, allowed_one_in: 1, max_lines_per_second: 2_000 }
    }
}

/// The ceilings of the server. Every one holds for one process.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; for a further one the one that has had nothing in work for longest is closed, or else it waits.
    pub max_connections: usize,
    /// Requests in work over all clients; more are answered 503.
    pub max_requests_in_flight: usize,
    /// HTTP/2 streams of one connection.
    pub max_streams_per_connection: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From "ready for a request" to its complete head. It is HTTP/1.1's idle timeout as well, so
    /// behind a load balancer it must be longer than the balancer's own idle timeout.
    pub header_read_timeout: Duration,
    /// A connection without a request in work for so long is closed (HTTP/2).
    pub idle_timeout: Duration,
    /// A connection so old is closed once its requests are answered, so that clients spread over
    /// new tasks.
    pub max_connection_age: Duration,
    /// A client that takes no byte of its answer for so long is cut; over HTTP/2 that one stream is reset.
    pub write_stall_timeout: Duration,
    /// From the complete head to the complete answer, body upload included.
    pub request_timeout: Duration,
    /// Longest that a request may wait for something new (`Prefer: wait`), in place of an answer that nothing is.
    pub max_wait: Duration,
    /// Entities that are looked at for clients that wait.
    pub max_watched: usize,
    /// Tails at once, at most a quarter of `max_requests_in_flight`; more are answered 503.
    pub max_tails: usize,
    /// A tail so old is ended; its client resumes it, at another task perhaps.
    pub max_tail_age: Duration,
    /// What is held for tails of what was read lately, of all integrations together.
    pub max_tail_bytes: usize,
    /// From the stop to the end of the last request; what is left then is cut.
    pub shutdown_deadline: Duration,
    /// Path and query together, in bytes.
    pub max_uri_bytes: usize,
    /// All header names and values together, in bytes.
    pub max_header_bytes: usize,
    /// A request's body, in bytes; one that publishes has a limit of its own.
    pub max_body_bytes: u64,
    /// Payload bytes in one page of messages; a page is cut short before it gets larger (but holds
    /// at least one).
    pub max_page_bytes: usize,
    /// Subscriptions of one client. Counted before each is made: requests at the same moment may exceed it by as many.
    pub max_subscriptions: usize,
    /// API keys kept in memory, and, counted apart, key ids known not to exist; and so many access
    /// tokens, and OAuth clients, again.
    pub max_cached_keys: usize,
    /// Look-ups per second of keys, and of OAuth clients, that this process has not seen before.
    pub unknown_key_lookups_per_second: u32,
    /// Failed authentications per second that are answered 401; more are answered 503.
    pub failed_authentications_per_second: u32,
    /// For a client whose record sets none.
    pub client: ClientLimits,
    /// For what clients publish.
    pub publish: PublishLimits,
    /// Sets of limits that clients' records can name.
    pub plans: BTreeMap<String, ClientLimits>,
    /// How limits are shared with other tasks; `None`: each task goes by itself.
    pub sharing: Option<Sharing>,
    /// How much of the decisions is written down.
    pub audit: AuditOptions,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            max_requests_in_flight: 1_024,
            max_streams_per_connection: 100,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            max_connection_age: Duration::from_secs(900),
            write_stall_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(15),
            max_wait: Duration::from_secs(20),
            max_watched: 1_024,
            max_tails: 256,
            max_tail_age: Duration::from_secs(600),
            max_tail_bytes: 64 * 1024 * 1024,
            shutdown_deadline: Duration::from_secs(10),
            max_uri_bytes: 8 * 1024,
            max_header_bytes: 16 * 1024,
            max_body_bytes: 1024 * 1024,
            max_page_bytes: 4 * 1024 * 1024,
            max_subscriptions: 50,
            max_cached_keys: 10_000,
            unknown_key_lookups_per_second: 50,
            failed_authentications_per_second: 200,
            client: ClientLimits::default(),
            publish: PublishLimits::default(),
            plans: BTreeMap::new(),
            sharing: Some(Sharing::default()),
            audit: AuditOptions::default(),
        }
    }
}

/// Everything the app decides about the API.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose ([`crate::Handle::address`]).
    pub listen: SocketAddr,
    /// TLS, or plain behind a load balancer.
    pub transport: Transport,
    /// The integrations that exist. A client sees those that it was granted.
    pub integrations: Vec<IntegrationInfo>,
    /// Scheme and authority in front of `self` links (`https://api.example.com`); `None` makes them
    /// relative.
    pub base_url: Option<String>,
    /// Whether browsers are told to use HTTPS only from now on: not for a certificate that nobody
    /// trusts.
    pub hsts: bool,
    /// Load balancers and other proxies of ours: what they say in `X-Forwarded-For` is believed, so
    /// that keys can be held to their networks.
    pub trusted_proxies: Vec<Network>,
    /// Whose access tokens are accepted beside API keys.
    pub oauth: OAuthOptions,
    /// Ceilings.
    pub limits: Limits,
    /// Seed of the request ids, so that two tasks do not number alike.
    pub seed: u64,
}

impl Options {
    /// Loopback on any port, default limits, relative links, HSTS on, no proxies,
    /// no access tokens.
    pub fn new(transport: Transport, integrations: Vec<IntegrationInfo>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            transport,
            integrations,
            base_url: None,
            hsts: true,
            trusted_proxies: Vec::new(),
            oauth: OAuthOptions::default(),
            limits: Limits::default(),
            seed: 0,
        }
    }

    /// What is wrong with these options, in words, naming the key, what was found and what is
    /// allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let limits = &self.limits;
        let at_least_one = [
            ("max_connections", limits.max_connections as u64),
            ("max_requests_in_flight", limits.max_requests_in_flight as u64),
            ("max_streams_per_connection", limits.max_streams_per_connection.into()),
            ("max_uri_bytes", limits.max_uri_bytes as u64),
            ("max_header_bytes", limits.max_header_bytes as u64),
            ("max_watched", limits.max_watched as u64),
            ("max_tails", limits.max_tails as u64),
            ("max_tail_bytes", limits.max_tail_bytes as u64),
            ("max_page_bytes", limits.max_page_bytes as u64),
            ("max_subscriptions", limits.max_subscriptions as u64),
            ("max_cached_keys", limits.max_cached_keys as u64),
            ("unknown_key_lookups_per_second", limits.unknown_key_lookups_per_second.into()),
            ("failed_authentications_per_second", limits.failed_authentications_per_second.into()),
            ("client.rate_per_second", limits.client.rate_per_second.into()),
            ("client.burst", limits.client.burst.into()),
            ("client.concurrent", limits.client.concurrent.into()),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("limits.{key}: found 0, allowed is 1 or more"));
        }
        let mut names = std::collections::BTreeSet::new();
        for integration in &self.integrations {
            if !names.insert(integration.name.as_str()) {
                return Err(format!(
                    "integrations: found {} twice, allowed is once",
                    integration.name.as_str()
                ));
            }
        }
        limits.publish.check()?;
        self.oauth.check()?;
        check_base_url(self.base_url.as_deref())
    }
}

fn check_base_url(base_url: Option<&str>) -> Result<(), String> {
    let Some(text) = base_url else { return Ok(()) };
    let allowed = "an http or https URL without path, such as https://api.example.com";
    let uri: http::Uri =
        text.parse().map_err(|_| format!("base_url: found {text:?}, allowed is {allowed}"))?;
    let scheme_fits = matches!(uri.scheme_str(), Some("http" | "https"));
    if !scheme_fits
        || uri.authority().is_none()
        || uri.path() != "/"
        || uri.query().is_some()
        || text.ends_with('/')
    {
        return Err(format!("base_url: found {text:?}, allowed is {allowed}"));
    }
    Ok(())
}
