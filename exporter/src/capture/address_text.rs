//! Addresses and endpoints as text without the formatting machinery, which was a quarter of the time of whoever tells of
//! attempts: an IPv4 address alone is five nested calls of it.

use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Deref;

use super::tuple::{Addr, Endpoint};

/// The longest: `[` a v6 address of 45 characters at most, `]:` and a port of five.
const ROOM: usize = 53;

/// The text of an address or an endpoint; it derefs to `str`.
#[derive(Clone, Copy)]
pub struct AddressText {
    bytes: [u8; ROOM],
    length: usize,
}

impl AddressText {
    /// An address in its canonical form: `10.0.0.1`, `2001:db8::1`.
    pub fn of_addr(addr: Addr) -> Self {
        let mut text = Self { bytes: [0; ROOM], length: 0 };
        text.addr(addr.ip());
        text
    }

    /// An endpoint: `10.0.0.1:443`, `[2001:db8::1]:443`.
    pub fn of_endpoint(endpoint: Endpoint) -> Self {
        let mut text = Self { bytes: [0; ROOM], length: 0 };
        let ip = endpoint.addr.ip();
        if ip.is_ipv6() {
            text.push(b'[');
        }
        text.addr(ip);
        if ip.is_ipv6() {
            text.push(b']');
        }
        text.push(b':');
        text.number(endpoint.port);
        text
    }

    fn addr(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.push(b'.');
                    }
                    self.number(octet.into());
                }
            }
            // Its zeros are shortened by rules (RFC 5952) that the standard library knows.
            IpAddr::V6(v6) => {
                let mut rest = &mut self.bytes[self.length..];
                let before = rest.len();
                // The longest fits.
                let _ = write!(rest, "{v6}");
                self.length += before - rest.len();
            }
        }
    }

    fn number(&mut self, number: u16) {
        let mut divisor = 10_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            // A digit is below ten.
            self.push(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }
}

impl Deref for AddressText {
    type Target = str;

    fn deref(&self) -> &str {
        // It is ASCII, always.
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;

    fn is_as_the_standard_library_has_it(ip: IpAddr, port: u16) {
        let endpoint = Endpoint::new(ip, port);
        assert_eq!(&*AddressText::of_addr(endpoint.addr), ip.to_canonical().to_string());
        assert_eq!(&*AddressText::of_endpoint(endpoint), SocketAddr::new(ip.to_canonical(), port).to_string());
    }

    #[test]
    fn the_ends_of_ranges() {
        for port in [0, 9, 10, 99, 100, 999, 1_000, 9_999, 10_000, u16::MAX] {
            is_as_the_standard_library_has_it(Ipv4Addr::UNSPECIFIED.into(), port);
            is_as_the_standard_library_has_it(Ipv4Addr::BROADCAST.into(), port);
            is_as_the_standard_library_has_it(Ipv6Addr::UNSPECIFIED.into(), port);
            is_as_the_standard_library_has_it([0xffff; 8].into(), port);
        }
        // The longest that the standard library writes.
        is_as_the_standard_library_has_it("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".parse().unwrap(), u16::MAX);
    }

    proptest! {
        #[test]
        fn all_addresses(v4: u32, v6: u128, groups: [bool; 8], port: u16) {
            is_as_the_standard_library_has_it(Ipv4Addr::from_bits(v4).into(), port);
            is_as_the_standard_library_has_it(Ipv6Addr::from_bits(v6).into(), port);
            let mut some = Ipv6Addr::from_bits(v6).segments();
            for (segment, keep) in some.iter_mut().zip(groups) {
                *segment *= u16::from(keep);
            }
            is_as_the_standard_library_has_it(IpAddr::from(some), port);
        }
    }
}
