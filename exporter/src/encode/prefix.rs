//! The network that stands for an address where the address itself is not told: /24, or /64 for IPv6.

use std::net::IpAddr;

use ipnet::IpNet;

/// The prefix that an address lies in; one of IPv4 mapped into IPv6 is taken as IPv4.
pub fn of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 64 };
    // Both lengths are within their family's.
    IpNet::new(address, length).map_or(IpNet::from(address), |prefix| prefix.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_length() {
        let of = |text: &str| of(text.parse().expect("address")).to_string();
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(of("::ffff:10.1.2.3"), "10.1.2.0/24");
    }
}
