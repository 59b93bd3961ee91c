//! Where a webhook may go: the rules against server-side request forgery.
//!
//! A subscriber chooses the URL, so it is hostile until proven public. Two decisions, both pure:
//! [`Guard::plan_dial`] looks at the URL, [`Guard::admit`] at the addresses it resolved to. The
//! connector dials exactly the addresses admitted here, so a second look-up cannot change them.
//! Nothing here resolves a name or opens a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::Uri;

/// The operator's rules for destinations.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Ports that a public destination may use.
    pub allowed_ports: Vec<u16>,
    /// Private places that the operator vouches for; they may also use plain `http` and any port.
    pub allowed_private: Vec<Allowance>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { allowed_ports: vec![443, 8443], allowed_private: Vec::new() }
    }
}

/// A private place that webhooks may reach: `10.1.0.0/16`, `127.0.0.1`, `fd00::/8` or `receiver.internal:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// Every address of a network.
    Network {
        /// First address of the network.
        base: IpAddr,
        /// Length of the prefix in bits.
        prefix: u8,
    },
    /// One host name or address literal with one port, wherever it resolves to.
    HostPort {
        /// Lower-case host as it stands in the URL, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text is not an [`Allowance`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is neither a network (`10.1.0.0/16`, `127.0.0.1`, `fd00::/8`) nor a host with a port (`receiver.internal:8080`)"
)]
pub struct BadAllowance(String);

/// Why a webhook may not go where its URL points. Retrying does not help until someone changes something.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The URL has no scheme or no host.
    #[error("the URL names no scheme or no host")]
    Incomplete,
    /// Neither `https` nor `http`.
    #[error("scheme `{0}` is refused: https is allowed")]
    Scheme(String),
    /// Plain `http` to a place that the operator does not vouch for.
    #[error("plain http is refused: https is required unless the operator allows the host")]
    PlainHttp,
    /// `user:password@` in the URL.
    #[error("a user name or password in the URL is refused")]
    UserInfo,
    /// A port outside the operator's list.
    #[error("port {port} is refused: allowed are {allowed:?}")]
    Port {
        /// The URL's port.
        port: u16,
        /// What the operator allows.
        allowed: Vec<u16>,
    },
    /// The name resolved to nothing.
    #[error("`{0}` resolves to no address")]
    NoAddress(String),
    /// The name resolved to an address that is not public.
    #[error("address {address} is refused: {class}")]
    Address {
        /// The offending address.
        address: IpAddr,
        /// What kind of address it is.
        class: AddressClass,
    },
}

/// Kinds of addresses that a public webhook never has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of `Display` say what each one is")]
pub enum AddressClass {
    Unspecified,
    Loopback,
    Private,
    CarrierGradeNat,
    LinkLocal,
    InstanceMetadata,
    ContainerCredentials,
    Multicast,
    Documentation,
    Benchmarking,
    Reserved,
    MappedIpv4,
    Nat64,
    SixToFour,
    Teredo,
    UniqueLocal,
    NotGlobalUnicast,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressClass::Unspecified => "this host (unspecified)",
            AddressClass::Loopback => "loopback",
            AddressClass::Private => "a private network",
            AddressClass::CarrierGradeNat => "shared address space (carrier-grade NAT)",
            AddressClass::LinkLocal => "link-local",
            AddressClass::InstanceMetadata => "the instance metadata service",
            AddressClass::ContainerCredentials => "the container credentials service",
            AddressClass::Multicast => "multicast",
            AddressClass::Documentation => "reserved for documentation",
            AddressClass::Benchmarking => "reserved for benchmarks",
            AddressClass::Reserved => "reserved",
            AddressClass::MappedIpv4 => "an IPv4 address inside an IPv6 one",
            AddressClass::Nat64 => "NAT64, which reaches any IPv4 address",
            AddressClass::SixToFour => "6to4, which reaches any IPv4 address",
            AddressClass::Teredo => "Teredo, which reaches any IPv4 address",
            AddressClass::UniqueLocal => "a unique local (private) network",
            AddressClass::NotGlobalUnicast => "not global unicast",
        })
    }
}

/// A URL that may be resolved: what to look up, and what was left to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Objection that stands unless every address lies in an allowed private network.
    pub(super) unless_private: Option<Refusal>,
    /// The operator vouches for exactly this host and port.
    vouched: bool,
}

impl Guard {
    /// The same without the private places that the operator vouches for.
    #[must_use]
    pub fn public_only(&self) -> Guard {
        Guard { allowed_private: Vec::new(), allowed_ports: self.allowed_ports.clone() }
    }

    /// Decides on the URL alone: scheme, user information, host, port.
    pub(super) fn plan_dial(&self, uri: &Uri) -> Result<Target, Refusal> {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Refusal::Incomplete);
        };
        let secure = match scheme {
            "https" => true,
            "http" => false,
            other => return Err(Refusal::Scheme(other.to_owned())),
        };
        if authority.as_str().contains('@') {
            return Err(Refusal::UserInfo);
        }
        let host =
            authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(Refusal::Incomplete);
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let vouched = self.allowed_private.iter().any(|a| a.is_host(&host, port));
        let unless_private = match (vouched, secure) {
            (true, _) => None,
            (false, false) => Some(Refusal::PlainHttp),
            (false, true) if self.allowed_ports.contains(&port) => None,
            (false, true) => Some(Refusal::Port { port, allowed: self.allowed_ports.clone() }),
        };
        Ok(Target { host, port, unless_private, vouched })
    }

    /// Refuses a URL that no look-up could make acceptable: what can be said where it is entered.
    pub fn check_url(&self, uri: &Uri) -> Result<(), Refusal> {
        let target = self.plan_dial(uri)?;
        if let (true, Some(objection)) = (self.is_hopeless(&target), &target.unless_private) {
            return Err(objection.clone());
        }
        match target.host.parse() {
            Ok(literal) => self.admit(&target, &[literal]).map(drop),
            Err(_) => Ok(()),
        }
    }

    /// True if no address could ever make this target acceptable, so that it need not be looked up.
    pub(super) fn is_hopeless(&self, target: &Target) -> bool {
        target.unless_private.is_some()
            && !self.allowed_private.iter().any(|a| matches!(a, Allowance::Network { .. }))
    }

    /// Decides on the addresses: all must be admissible, one bad one refuses the name.
    pub(super) fn admit(
        &self,
        target: &Target,
        resolved: &[IpAddr],
    ) -> Result<Vec<SocketAddr>, Refusal> {
        if resolved.is_empty() {
            return Err(Refusal::NoAddress(target.host.clone()));
        }
        for &address in resolved {
            if target.vouched || self.allowed_private.iter().any(|a| a.covers(address)) {
                continue;
            }
            if let Some(class) = classify(address) {
                return Err(Refusal::Address { address, class });
            }
            if let Some(objection) = &target.unless_private {
                return Err(objection.clone());
            }
        }
        Ok(resolved.iter().map(|&ip| SocketAddr::new(ip, target.port)).collect())
    }
}

impl Allowance {
    fn is_host(&self, wanted: &str, wanted_port: u16) -> bool {
        matches!(self, Allowance::HostPort { host, port } if host == wanted && *port == wanted_port)
    }

    fn covers(&self, address: IpAddr) -> bool {
        let Allowance::Network { base, prefix } = self else {
            return false;
        };
        match (base, address) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => in_v4(ip, *base, *prefix),
            (IpAddr::V6(base), IpAddr::V6(ip)) => in_v6(ip, *base, *prefix),
            _ => false,
        }
    }
}

impl FromStr for Allowance {
    type Err = BadAllowance;

    fn from_str(text: &str) -> Result<Allowance, BadAllowance> {
        let bad = || BadAllowance(text.to_owned());
        if let Some((base, prefix)) = text.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| bad())?;
            let prefix: u8 = prefix.parse().map_err(|_| bad())?;
            let longest = if base.is_ipv4() { 32 } else { 128 };
            return if prefix <= longest {
                Ok(Allowance::Network { base, prefix })
            } else {
                Err(bad())
            };
        }
        if let Ok(base) = text.parse::<IpAddr>() {
            let prefix = if base.is_ipv4() { 32 } else { 128 };
            return Ok(Allowance::Network { base, prefix });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let plausible = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
        if plausible && port > 0 { Ok(Allowance::HostPort { host, port }) } else { Err(bad()) }
    }
}

/// What is wrong with an address as a public destination; `None` if nothing is.
pub(super) fn classify(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(ip) => first_match(V4_RULES, |(base, prefix)| in_v4(ip, *base, *prefix)),
        IpAddr::V6(ip) => first_match(V6_RULES, |(base, prefix)| in_v6(ip, *base, *prefix))
            .or_else(|| {
                // Only 2000::/3 is handed out to the public internet; what is not there is not public.
                (!in_v6(ip, v6(0x2000, 0, 0, 0, 0, 0), 3)).then_some(AddressClass::NotGlobalUnicast)
            }),
    }
}

fn first_match<N>(rules: &[(N, AddressClass)], hit: impl Fn(&N) -> bool) -> Option<AddressClass> {
    rules.iter().find(|(network, _)| hit(network)).map(|(_, class)| *class)
}

fn in_v4(ip: Ipv4Addr, base: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    u32::from(ip) & mask == u32::from(base) & mask
}

fn in_v6(ip: Ipv6Addr, base: Ipv6Addr, prefix: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    u128::from(ip) & mask == u128::from(base) & mask
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

/// The first five groups and the last one.
const fn v6(a: u16, b: u16, c: u16, d: u16, e: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, e, 0, 0, last)
}

/// IANA's special-purpose IPv4 blocks, the most telling name first.
const V4_RULES: &[((Ipv4Addr, u8), AddressClass)] = &[
    ((v4(169, 254, 169, 254), 32), AddressClass::InstanceMetadata),
    ((v4(169, 254, 170, 0), 24), AddressClass::ContainerCredentials),
    ((v4(169, 254, 0, 0), 16), AddressClass::LinkLocal),
    ((v4(0, 0, 0, 0), 8), AddressClass::Unspecified),
    ((v4(10, 0, 0, 0), 8), AddressClass::Private),
    ((v4(172, 16, 0, 0), 12), AddressClass::Private),
    ((v4(192, 168, 0, 0), 16), AddressClass::Private),
    ((v4(100, 64, 0, 0), 10), AddressClass::CarrierGradeNat),
    ((v4(127, 0, 0, 0), 8), AddressClass::Loopback),
    ((v4(192, 0, 0, 0), 24), AddressClass::Reserved),
    ((v4(192, 0, 2, 0), 24), AddressClass::Documentation),
    ((v4(198, 51, 100, 0), 24), AddressClass::Documentation),
    ((v4(203, 0, 113, 0), 24), AddressClass::Documentation),
    ((v4(192, 88, 99, 0), 24), AddressClass::SixToFour),
    ((v4(198, 18, 0, 0), 15), AddressClass::Benchmarking),
    ((v4(224, 0, 0, 0), 4), AddressClass::Multicast),
    ((v4(240, 0, 0, 0), 4), AddressClass::Reserved),
];

/// IPv6 blocks with a name of their own; what lies outside 2000::/3 is refused anyway.
const V6_RULES: &[((Ipv6Addr, u8), AddressClass)] = &[
    ((v6(0xfd00, 0xec2, 0, 0, 0, 0x254), 128), AddressClass::InstanceMetadata),
    ((v6(0xfd00, 0xec2, 0, 0, 0, 0x23), 128), AddressClass::ContainerCredentials),
    ((v6(0, 0, 0, 0, 0, 0), 128), AddressClass::Unspecified),
    ((v6(0, 0, 0, 0, 0, 1), 128), AddressClass::Loopback),
    ((Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), AddressClass::MappedIpv4),
    ((v6(0, 0, 0, 0, 0, 0), 96), AddressClass::MappedIpv4),
    ((Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96), AddressClass::MappedIpv4),
    ((v6(0x64, 0xff9b, 0, 0, 0, 0), 96), AddressClass::Nat64),
    ((v6(0x64, 0xff9b, 1, 0, 0, 0), 48), AddressClass::Nat64),
    ((v6(0x2002, 0, 0, 0, 0, 0), 16), AddressClass::SixToFour),
    ((v6(0x2001, 0, 0, 0, 0, 0), 32), AddressClass::Teredo),
    ((v6(0x2001, 0xdb8, 0, 0, 0, 0), 32), AddressClass::Documentation),
    ((v6(0x3fff, 0, 0, 0, 0, 0), 20), AddressClass::Documentation),
    ((v6(0x2001, 2, 0, 0, 0, 0), 48), AddressClass::Benchmarking),
    ((v6(0x2001, 0, 0, 0, 0, 0), 23), AddressClass::Reserved),
    ((v6(0xfc00, 0, 0, 0, 0, 0), 7), AddressClass::UniqueLocal),
    ((v6(0xfe80, 0, 0, 0, 0, 0), 10), AddressClass::LinkLocal),
    ((v6(0xfec0, 0, 0, 0, 0, 0), 10), AddressClass::Private),
    ((v6(0xff00, 0, 0, 0, 0, 0), 8), AddressClass::Multicast),
];

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
