//! The guard against hostile URLs and addresses.

use store::{SubscriptionError, WebhookUrl};

use super::*;

/// Resolves literals in every form that `getaddrinfo` takes, and a few names.
fn resolve(host: &str) -> Vec<IpAddr> {
    let literal = host.parse::<IpAddr>().ok().or_else(|| inet_aton(host).map(IpAddr::V4));
    match (literal, host) {
        (Some(ip), _) => vec![ip],
        (None, "public.example") => vec!["93.184.216.34".parse().unwrap()],
        (None, "rebind.example") => {
            vec!["93.184.216.34".parse().unwrap(), "10.0.0.8".parse().unwrap()]
        }
        (None, "localhost" | "localhost." | "app.localhost" | "ip6-localhost") => {
            vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]
        }
        (None, "inside.example") => vec!["10.1.2.3".parse().unwrap()],
        (None, "metadata.example") => vec!["169.254.169.254".parse().unwrap()],
        (None, "credentials.example") => vec!["fd00:ec2::23".parse().unwrap()],
        (None, "mapped.example") => vec!["::ffff:169.254.169.254".parse().unwrap()],
        (None, "mixed.example") => {
            vec!["2606:4700::1111".parse().unwrap(), "fd00::1".parse().unwrap()]
        }
        _ => Vec::new(),
    }
}

/// The old forms of an IPv4 address: `2130706433`, `0x7f.1`, `0177.0.0.1`, and with a dot at the end.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let number = |part: &str| match part {
        p if p.starts_with("0x") => u32::from_str_radix(&p[2..], 16).ok(),
        p if p.len() > 1 && p.starts_with('0') => u32::from_str_radix(p, 8).ok(),
        p => p.parse().ok(),
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, firsts) = parts.split_last()?;
    let high = firsts.iter().enumerate().try_fold(0u32, |all, (i, byte)| {
        (*byte < 256 && i < 3).then(|| all | (byte << (24 - 8 * i)))
    })?;
    Some(Ipv4Addr::from(high | last))
}

/// Who refuses a URL on its way to a connection: whoever takes it, or whoever dials.
enum Refused {
    Url(SubscriptionError),
    Guard(Refusal),
}

impl Refused {
    fn words(&self) -> String {
        match self {
            Refused::Url(error) => error.to_string(),
            Refused::Guard(refusal) => refusal.to_string(),
        }
    }

    /// The name of the rule.
    fn rule(&self) -> String {
        match self {
            Refused::Url(_) => "Url".to_owned(),
            Refused::Guard(Refusal::Address { class, .. }) => format!("{class:?}"),
            Refused::Guard(refusal) => {
                let name = format!("{refusal:?}");
                name.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
            }
        }
    }
}

fn way(guard: &Guard, url: &str) -> Result<Vec<SocketAddr>, Refused> {
    let url = WebhookUrl::parse(url).map_err(Refused::Url)?;
    verdict(guard, url.as_str()).map_err(Refused::Guard)
}

fn verdict(guard: &Guard, url: &str) -> Result<Vec<SocketAddr>, Refusal> {
    let uri: Uri = url.parse().map_err(|_| Refusal::Incomplete)?;
    let target = guard.plan_dial(&uri)?;
    guard.admit(&target, &resolve(&target.host))
}

/// Every hostile form with the name of the rule that refuses it; `Url` is the form of the URL itself.
const HOSTILE: &[(&str, &str)] = &[
    ("http://public.example/", "PlainHttp"),
    ("http://93.184.216.34/", "PlainHttp"),
    ("ftp://public.example/", "Url"),
    ("gopher://public.example/", "Url"),
    ("/only/a/path", "Url"),
    ("https://user@public.example/", "Url"),
    ("https://user:pw@public.example/", "Url"),
    ("https://public.example@10.0.0.1/", "Url"),
    ("https://public.example:22/", "Port"),
    ("https://public.example:25/", "Port"),
    ("https://public.example:80/", "Port"),
    ("https://public.example:6379/", "Port"),
    ("https://nowhere.example/", "NoAddress"),
    ("https://rebind.example/", "Private"),
    ("https://localhost/", "Loopback"),
    ("https://LOCALHOST/", "Loopback"),
    ("https://127.0.0.1/", "Loopback"),
    ("https://127.1/", "Loopback"),
    ("https://127.255.255.254/", "Loopback"),
    ("https://2130706433/", "Loopback"),
    ("https://0x7f000001/", "Loopback"),
    ("https://0x7f.1/", "Loopback"),
    ("https://0177.0.0.1/", "Loopback"),
    ("https://017700000001/", "Loopback"),
    ("https://0.0.0.0/", "Unspecified"),
    ("https://0/", "Unspecified"),
    ("https://0.1.2.3/", "Unspecified"),
    ("https://10.0.0.1/", "Private"),
    ("https://10.255.255.255:8443/", "Private"),
    ("https://172.16.0.1/", "Private"),
    ("https://172.31.255.255/", "Private"),
    ("https://192.168.1.1/", "Private"),
    ("https://0xC0A80101/", "Private"),
    ("https://100.64.0.1/", "CarrierGradeNat"),
    ("https://100.127.255.255/", "CarrierGradeNat"),
    ("https://169.254.169.254/latest/meta-data/", "InstanceMetadata"),
    ("https://2852039166/", "InstanceMetadata"),
    ("https://0xa9fea9fe/", "InstanceMetadata"),
    ("https://0251.0376.0251.0376/", "InstanceMetadata"),
    ("https://169.254.170.2/v2/credentials", "ContainerCredentials"),
    ("https://169.254.170.23/v1/credentials", "ContainerCredentials"),
    ("https://169.254.1.1/", "LinkLocal"),
    ("https://192.0.0.170/", "Reserved"),
    ("https://192.0.2.1/", "Documentation"),
    ("https://198.51.100.7/", "Documentation"),
    ("https://203.0.113.7/", "Documentation"),
    ("https://192.88.99.1/", "SixToFour"),
    ("https://198.18.0.1/", "Benchmarking"),
    ("https://198.19.255.255/", "Benchmarking"),
    ("https://224.0.0.1/", "Multicast"),
    ("https://239.255.255.250/", "Multicast"),
    ("https://240.0.0.1/", "Reserved"),
    ("https://255.255.255.255/", "Reserved"),
    ("https://[::]/", "Unspecified"),
    ("https://[::1]/", "Loopback"),
    ("https://[0:0:0:0:0:0:0:1]/", "Loopback"),
    ("https://[::ffff:127.0.0.1]/", "MappedIpv4"),
    ("https://[::ffff:7f00:1]/", "MappedIpv4"),
    ("https://[::ffff:93.184.216.34]/", "MappedIpv4"),
    ("https://[::127.0.0.1]/", "MappedIpv4"),
    ("https://[::ffff:0:10.0.0.1]/", "MappedIpv4"),
    ("https://[64:ff9b::a9fe:a9fe]/", "Nat64"),
    ("https://[64:ff9b:1::1]/", "Nat64"),
    ("https://[2002:7f00:1::]/", "SixToFour"),
    ("https://[2001:0:1::1]/", "Teredo"),
    ("https://[2001:db8::1]/", "Documentation"),
    ("https://[3fff::1]/", "Documentation"),
    ("https://[2001:2::1]/", "Benchmarking"),
    ("https://[2001:10::1]/", "Reserved"),
    ("https://[fc00::1]/", "UniqueLocal"),
    ("https://[fd12:3456::1]/", "UniqueLocal"),
    ("https://[fd00:ec2::254]/", "InstanceMetadata"),
    ("https://[fd00:ec2::23]/", "ContainerCredentials"),
    ("https://[fe80::1]/", "LinkLocal"),
    ("https://[fec0::1]/", "Private"),
    ("https://[ff02::1]/", "Multicast"),
    ("https://[100::1]/", "NotGlobalUnicast"),
    ("https://[5f00::1]/", "NotGlobalUnicast"),
    ("https://[4000::1]/", "NotGlobalUnicast"),
    // Users that look like hosts, and hosts that look like users.
    ("https://public.example:443@10.0.0.1/", "Url"),
    ("https://public.example%40@10.0.0.1/", "Url"),
    ("https://10.0.0.1\\@public.example/", "Url"),
    ("https://public.example#@10.0.0.1/", "Url"),
    ("https://10.0.0.1?@public.example/", "Private"),
    ("https://10.0.0.1/@public.example/", "Private"),
    ("https:10.0.0.1/", "Url"),
    ("https:///10.0.0.1/", "Url"),
    ("//10.0.0.1/", "Url"),
    // Letters and digits that something on the way might fold into others.
    ("https://\u{ff11}27.0.0.1/", "Url"),
    ("https://127\u{3002}0\u{3002}0\u{3002}1/", "Url"),
    ("https://\u{2460}\u{2461}\u{2466}.0.0.1/", "Url"),
    ("https://127%2e0%2e0%2e1/", "Url"),
    ("https://%31%32%37.0.0.1/", "Url"),
    ("https://127.0.0.1\t/", "Url"),
    ("https://127.0.0.1\r\nhost: x/", "Url"),
    (" https://127.0.0.1/", "Url"),
    ("https://127.0.0.1\0.public.example/", "Url"),
    // Trailing dots, zones, and what only looks like an address.
    ("https://localhost./", "Loopback"),
    ("https://LocalHost.:8443/", "Loopback"),
    ("https://app.localhost/", "Loopback"),
    ("https://127.0.0.1./", "Loopback"),
    ("https://ip6-localhost/", "Loopback"),
    ("https://[fe80::1%25eth0]/", "Url"),
    ("https://[fe80::1%eth0]/", "Url"),
    ("https://[::1%25lo]/", "Url"),
    ("https://[v1.fe80::1]/", "Url"),
    ("https://[127.0.0.1]/", "Url"),
    ("https://[::1/", "Url"),
    ("https://::1/", "Url"),
    // Names that lead inside.
    ("https://inside.example/", "Private"),
    ("https://metadata.example/", "InstanceMetadata"),
    ("https://credentials.example/", "ContainerCredentials"),
    ("https://mapped.example/", "MappedIpv4"),
    ("https://mixed.example/", "UniqueLocal"),
];

#[test]
fn hostile_forms_are_refused_by_the_rule_that_is_meant() {
    let guard = Guard::default();
    for (url, rule) in HOSTILE {
        match way(&guard, url) {
            Ok(addresses) => panic!("{url} was admitted to {addresses:?}"),
            Err(refused) => assert_eq!(refused.rule(), *rule, "{url}: {}", refused.words()),
        }
    }
}

#[test]
fn the_guard_alone_refuses_what_the_url_already_did() {
    let guard = Guard::default();
    for url in ["ftp://public.example/", "/only/a/path", "https://user:pw@public.example/"] {
        assert!(verdict(&guard, url).is_err(), "{url}");
    }
}

#[test]
fn public_destinations_are_admitted_with_the_checked_address_pinned() {
    let guard = Guard::default();
    for (url, pinned) in [
        ("https://public.example/hook", "93.184.216.34:443"),
        ("https://public.example:8443/hook", "93.184.216.34:8443"),
        ("https://8.8.8.8/", "8.8.8.8:443"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]:443"),
        ("https://172.32.0.1/", "172.32.0.1:443"),
        ("https://100.128.0.1/", "100.128.0.1:443"),
        ("https://11.0.0.1/", "11.0.0.1:443"),
    ] {
        assert_eq!(verdict(&guard, url), Ok(vec![pinned.parse().unwrap()]), "{url}");
    }
}

#[test]
fn the_operator_can_vouch_for_networks_and_hosts() {
    let allow = |texts: &[&str]| Guard {
        allowed_private: texts.iter().map(|t| t.parse().unwrap()).collect(),
        ..Guard::default()
    };
    let network = allow(&["127.0.0.1", "10.1.0.0/16"]);
    assert!(
        verdict(&network, "http://127.0.0.1:41234/hook").is_ok(),
        "plain http and any port inside it"
    );
    assert!(
        verdict(&network, "https://inside.example:9000/").is_ok(),
        "a name that resolves into it"
    );
    assert!(verdict(&network, "http://127.0.0.2:41234/").is_err(), "but not its neighbour");
    assert!(verdict(&network, "http://public.example/").is_err(), "nor plain http to the public");
    assert!(verdict(&network, "https://user@127.0.0.1/").is_err(), "nor a password");
    assert!(verdict(&network, "http://[::ffff:127.0.0.1]:80/").is_err(), "nor another spelling");

    let host = allow(&["inside.example:8080", "[::1]:9000"]);
    assert!(verdict(&host, "http://inside.example:8080/").is_ok());
    assert!(verdict(&host, "http://[::1]:9000/").is_ok());
    assert!(verdict(&host, "http://inside.example:8081/").is_err());
    assert!(verdict(&host, "https://10.1.2.3:8080/").is_err());
}

#[test]
fn what_can_never_be_admitted_is_not_looked_up() {
    let guard = Guard::default();
    let plain = guard.plan_dial(&"http://public.example/".parse().unwrap()).unwrap();
    assert!(guard.is_hopeless(&plain));
    let https = guard.plan_dial(&"https://public.example/".parse().unwrap()).unwrap();
    assert!(!guard.is_hopeless(&https));
}

#[test]
fn allowances_are_parsed_or_explained() {
    assert_eq!(
        "::1".parse(),
        Ok(Allowance::Network { base: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 })
    );
    assert_eq!(
        "Host.Local:80".parse(),
        Ok(Allowance::HostPort { host: "host.local".into(), port: 80 })
    );
    for bad in [
        "",
        "host",
        "10.0.0.0/33",
        "::/129",
        "host:0",
        "host:70000",
        "a b:80",
        "/8",
        "http://x:80/",
    ] {
        let error = bad.parse::<Allowance>().unwrap_err().to_string();
        assert!(error.contains("10.1.0.0/16"), "{bad}: {error}");
    }
}

#[test]
fn a_url_is_refused_where_it_is_entered_if_no_look_up_could_save_it() {
    let check = |guard: &Guard, url: &str| guard.check_url(&url.parse().unwrap());
    let public = Guard::default();
    assert_eq!(check(&public, "http://receiver.example/"), Err(Refusal::PlainHttp));
    assert!(matches!(check(&public, "https://receiver.example:22/"), Err(Refusal::Port { .. })));
    assert!(matches!(check(&public, "https://127.0.0.1/"), Err(Refusal::Address { .. })));
    assert!(matches!(check(&public, "https://[::1]/"), Err(Refusal::Address { .. })));
    assert_eq!(check(&public, "https://receiver.example/"), Ok(()));
    let vouched = "127.0.0.1:9000".parse().unwrap();
    let guard = Guard { allowed_private: vec![vouched], ..Guard::default() };
    assert_eq!(check(&guard, "http://127.0.0.1:9000/hooks"), Ok(()));
    assert_eq!(check(&guard, "http://127.0.0.1:9001/hooks"), Err(Refusal::PlainHttp));
    let network = "10.0.0.0/8".parse().unwrap();
    let guard = Guard { allowed_private: vec![network], ..Guard::default() };
    assert_eq!(check(&guard, "http://inside.example/"), Ok(()), "only a look-up can tell");
    assert!(check(&guard, "http://192.168.0.1/").is_err());
}
