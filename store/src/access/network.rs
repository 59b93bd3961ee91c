//! Networks that a key may be used from: an address and how many of its bits count (CIDR).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network of IPv4 or IPv6, such as `10.1.0.0/16`, `2001:db8::/32` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not of the form.
    #[error(
        "{found:?} is no network: an address such as 192.0.2.7, or one with a number of bits such as 10.1.0.0/16 or 2001:db8::/32, is allowed"
    )]
    Form {
        /// As found, cut at 80 characters.
        found: String,
    },
    /// Bits behind the network are set, so that it is not clear what is meant.
    #[error("{found} is an address within a network: {network} is allowed")]
    Host {
        /// As found.
        found: String,
        /// The network that it is in.
        network: Network,
    },
}

impl Network {
    /// True if the address is in it. An IPv4 address is the same written as IPv6 (`::ffff:192.0.2.7`).
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && first_of(address, self.bits) == self.first
    }
}

/// The address with all but its first `bits` cleared.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let form = || NetworkError::Form { found: text.chars().take(80).collect() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        if address.to_canonical() != address {
            return Err(form());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => {
                let number = Some(bits).filter(is_number).and_then(|bits| bits.parse().ok());
                number.filter(|bits| *bits <= most).ok_or_else(form)?
            }
        };
        let network = Network { first: first_of(address, bits), bits };
        if network.first == address {
            Ok(network)
        } else {
            Err(NetworkError::Host { found: text.to_owned(), network })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_a_network_by_its_first_bits() {
        let has = |text: &str, address: &str| network(text).contains(address.parse().unwrap());
        assert!(has("10.1.0.0/16", "10.1.255.255") && !has("10.1.0.0/16", "10.2.0.0"));
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.6"));
        assert!(has("0.0.0.0/0", "255.255.255.255") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "2001:db8::1") && !has("::/0", "10.0.0.1"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("10.0.0.0/8", "::ffff:10.0.0.1"), "IPv4 written as IPv6");
        assert!(has("203.0.113.128/25", "203.0.113.200"));
        assert!(!has("203.0.113.128/25", "203.0.113.100"));
    }

    #[test]
    fn a_network_is_written_as_it_was_read_or_refused_with_what_is_allowed() {
        for text in ["10.1.0.0/16", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7/32");
        assert_eq!(network("::1").to_string(), "::1/128");
        let refused = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "a", "::/129"] {
            assert!(refused(bad).contains("10.1.0.0/16"), "{bad}");
        }
        assert!(refused("::ffff:10.0.0.0/104").contains("is no network"));
        assert!(refused("10.1.2.3/16").contains("10.1.0.0/16 is allowed"));
    }
}
