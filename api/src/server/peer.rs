//! Where a request comes from: the other end of its connection, or, if that is a proxy of ours, whom the
//! proxy names. Pure.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use store::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The last address that is not one of our proxies, going back from the connection along
/// `X-Forwarded-For`: what stands before it was written by whoever that is. `None` if a proxy of ours
/// passed on something that is no address.
pub(crate) fn client_address(
    connection: IpAddr,
    headers: &HeaderMap,
    proxies: &[Network],
) -> Option<IpAddr> {
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut address = connection.to_canonical();
    if !is_proxy(address) {
        return Some(address);
    }
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for text in value.to_str().ok()?.rsplit(',') {
            address = read(text.trim())?.to_canonical();
            if !is_proxy(address) {
                return Some(address);
            }
        }
    }
    Some(address)
}

/// An address, perhaps with a port, as some proxies write it.
fn read(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(connection: &str, forwarded: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let address = client_address(connection.parse().unwrap(), &headers, &proxies);
        address.map(|address| address.to_string())
    }

    fn is(address: &str) -> Option<String> {
        Some(address.to_owned())
    }

    #[test]
    fn only_our_proxies_are_believed_about_whom_they_stand_for() {
        assert_eq!(found("192.0.2.1", &["203.0.113.5"]), is("192.0.2.1"), "no proxy of ours");
        assert_eq!(found("10.0.0.1", &["203.0.113.5"]), is("203.0.113.5"));
        assert_eq!(found("::ffff:10.0.0.1", &["203.0.113.5"]), is("203.0.113.5"));
        assert_eq!(found("fd00::1", &["2001:db8::5"]), is("2001:db8::5"));
        assert_eq!(found("10.0.0.1", &["6.6.6.6, 203.0.113.5"]), is("203.0.113.5"), "made up");
        assert_eq!(found("10.0.0.1", &["6.6.6.6", "203.0.113.5, 10.9.9.9"]), is("203.0.113.5"));
        assert_eq!(found("10.0.0.1", &["203.0.113.5:4711"]), is("203.0.113.5"));
        assert_eq!(found("10.0.0.1", &["[2001:db8::5]:4711"]), is("2001:db8::5"));
        assert_eq!(found("10.0.0.1", &[]), is("10.0.0.1"), "a health check of the proxy");
        assert_eq!(found("10.0.0.1", &["10.0.0.2"]), is("10.0.0.2"));
        for odd in ["unknown", "", "203.0.113.5,", "203.0.113.5, _hidden", "1.2.3.4.5"] {
            assert_eq!(found("10.0.0.1", &[odd]), None, "{odd:?}");
        }
        assert_eq!(found("10.0.0.1", &["unknown, 203.0.113.5"]), is("203.0.113.5"));
    }
}
