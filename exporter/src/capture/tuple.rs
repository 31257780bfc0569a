//! Addresses, ports and 4-tuples, in one compact form for both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address_text::AddressText;

/// An IP address as 16 bytes in network order, IPv4 in its v4-mapped form (RFC 4291, 2.5.5.2).
///
/// v4-mapped sockets (Java's default) and IPv4 sockets therefore compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// The address in its canonical form: v4-mapped addresses are IPv4.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }

    /// Whether this is an IPv4 address, v4-mapped or not.
    pub fn is_v4(self) -> bool {
        Ipv6Addr::from(self.0).to_ipv4_mapped().is_some()
    }

    /// The unspecified address of the same family: 0.0.0.0 or ::.
    #[must_use]
    pub fn unspecified(self) -> Self {
        if self.is_v4() { Ipv4Addr::UNSPECIFIED.into() } else { Self::default() }
    }

    /// Whether this is a loopback address (127.0.0.0/8 or ::1).
    pub fn is_loopback(self) -> bool {
        self.ip().is_loopback()
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        IpAddr::V4(ip).into()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&AddressText::of_addr(*self))
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a TCP port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port, in the machine's byte order.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint of an address and a port.
    pub fn new(addr: impl Into<Addr>, port: u16) -> Self {
        Self { addr: addr.into(), port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self::new(socket.ip(), socket.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&AddressText::of_endpoint(*self))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP 4-tuple with a direction: from `src` to `dst`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tuple {
    /// Where the segment comes from; for an attempt, the client.
    pub src: Endpoint,
    /// Where it goes to; for an attempt, the server.
    pub dst: Endpoint,
}

impl Tuple {
    /// A tuple from one endpoint to another.
    pub fn new(src: Endpoint, dst: Endpoint) -> Self {
        Self { src, dst }
    }

    /// The same connection seen from the other end.
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.src, self.dst)
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
