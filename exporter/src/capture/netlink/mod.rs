//! Netlink: one socket for all protocols, and what the kernel's tables look like in its messages.
//!
//! Everything that reads takes any bytes: what makes no sense ends the reading or is left out.

pub mod attributes;
pub mod conntrack;
pub mod filters;
pub mod message;
pub mod nftables;
pub mod sock_diag;
pub mod socket;

pub use attributes::{attributes, put, put_nested, text, u16_at, u32_at};
pub use socket::{Protocol, Socket};

/// `struct nfgenmsg`: what comes before the attributes in every message of netfilter.
pub(crate) fn nfgenmsg(family: u8) -> Vec<u8> {
    vec![family, 0, 0, 0]
}

/// Bytes of `struct nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;
/// `AF_INET`, and `NFPROTO_IPV4`.
pub(crate) const INET: u8 = 2;
/// `AF_INET6`, and `NFPROTO_IPV6`.
pub(crate) const INET6: u8 = 10;
/// `IPPROTO_TCP`.
pub(crate) const TCP: u8 = 6;
