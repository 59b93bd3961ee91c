//! The guard against hostile URLs and addresses.

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
        (None, "localhost") => vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        (None, "inside.example") => vec!["10.1.2.3".parse().unwrap()],
        _ => Vec::new(),
    }
}

/// The old forms of an IPv4 address: `2130706433`, `0x7f.1`, `0177.0.0.1`.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
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

fn verdict(guard: &Guard, url: &str) -> Result<Vec<SocketAddr>, Refusal> {
    let uri: Uri = url.parse().map_err(|_| Refusal::Incomplete)?;
    let target = guard.plan_dial(&uri)?;
    guard.admit(&target, &resolve(&target.host))
}

/// Every hostile form with the words that its refusal must contain.
const HOSTILE: &[(&str, &str)] = &[
    ("http://public.example/", "plain http"),
    ("http://93.184.216.34/", "plain http"),
    ("ftp://public.example/", "scheme"),
    ("gopher://public.example/", "scheme"),
    ("/only/a/path", "no scheme"),
    ("https://user@public.example/", "user name"),
    ("https://user:pw@public.example/", "user name"),
    ("https://public.example@10.0.0.1/", "user name"),
    ("https://public.example:22/", "port 22"),
    ("https://public.example:25/", "port 25"),
    ("https://public.example:80/", "port 80"),
    ("https://public.example:6379/", "port 6379"),
    ("https://nowhere.example/", "no address"),
    ("https://rebind.example/", "private"),
    ("https://localhost/", "loopback"),
    ("https://LOCALHOST/", "loopback"),
    ("https://127.0.0.1/", "loopback"),
    ("https://127.1/", "loopback"),
    ("https://127.255.255.254/", "loopback"),
    ("https://2130706433/", "loopback"),
    ("https://0x7f000001/", "loopback"),
    ("https://0x7f.1/", "loopback"),
    ("https://0177.0.0.1/", "loopback"),
    ("https://017700000001/", "loopback"),
    ("https://0.0.0.0/", "unspecified"),
    ("https://0/", "unspecified"),
    ("https://0.1.2.3/", "unspecified"),
    ("https://10.0.0.1/", "private"),
    ("https://10.255.255.255:8443/", "private"),
    ("https://172.16.0.1/", "private"),
    ("https://172.31.255.255/", "private"),
    ("https://192.168.1.1/", "private"),
    ("https://0xC0A80101/", "private"),
    ("https://100.64.0.1/", "carrier-grade"),
    ("https://100.127.255.255/", "carrier-grade"),
    ("https://169.254.169.254/latest/meta-data/", "metadata"),
    ("https://2852039166/", "metadata"),
    ("https://0xa9fea9fe/", "metadata"),
    ("https://0251.0376.0251.0376/", "metadata"),
    ("https://169.254.170.2/v2/credentials", "container credentials"),
    ("https://169.254.170.23/v1/credentials", "container credentials"),
    ("https://169.254.1.1/", "link-local"),
    ("https://192.0.0.170/", "reserved"),
    ("https://192.0.2.1/", "documentation"),
    ("https://198.51.100.7/", "documentation"),
    ("https://203.0.113.7/", "documentation"),
    ("https://192.88.99.1/", "6to4"),
    ("https://198.18.0.1/", "benchmarks"),
    ("https://198.19.255.255/", "benchmarks"),
    ("https://224.0.0.1/", "multicast"),
    ("https://239.255.255.250/", "multicast"),
    ("https://240.0.0.1/", "reserved"),
    ("https://255.255.255.255/", "reserved"),
    ("https://[::]/", "unspecified"),
    ("https://[::1]/", "loopback"),
    ("https://[0:0:0:0:0:0:0:1]/", "loopback"),
    ("https://[::ffff:127.0.0.1]/", "inside an IPv6"),
    ("https://[::ffff:7f00:1]/", "inside an IPv6"),
    ("https://[::ffff:93.184.216.34]/", "inside an IPv6"),
    ("https://[::127.0.0.1]/", "inside an IPv6"),
    ("https://[::ffff:0:10.0.0.1]/", "inside an IPv6"),
    ("https://[64:ff9b::a9fe:a9fe]/", "NAT64"),
    ("https://[64:ff9b:1::1]/", "NAT64"),
    ("https://[2002:7f00:1::]/", "6to4"),
    ("https://[2001:0:1::1]/", "Teredo"),
    ("https://[2001:db8::1]/", "documentation"),
    ("https://[3fff::1]/", "documentation"),
    ("https://[2001:2::1]/", "benchmarks"),
    ("https://[2001:10::1]/", "reserved"),
    ("https://[fc00::1]/", "unique local"),
    ("https://[fd12:3456::1]/", "unique local"),
    ("https://[fd00:ec2::254]/", "metadata"),
    ("https://[fd00:ec2::23]/", "container credentials"),
    ("https://[fe80::1]/", "link-local"),
    ("https://[fec0::1]/", "private"),
    ("https://[ff02::1]/", "multicast"),
    ("https://[100::1]/", "not global"),
    ("https://[5f00::1]/", "not global"),
    ("https://[4000::1]/", "not global"),
];

#[test]
fn hostile_forms_are_refused_and_say_why() {
    let guard = Guard::default();
    for (url, words) in HOSTILE {
        match verdict(&guard, url) {
            Ok(addresses) => panic!("{url} was admitted to {addresses:?}"),
            Err(refusal) => {
                assert!(refusal.to_string().contains(words), "{url}: `{refusal}` lacks `{words}`")
            }
        }
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
