//! Messages of netfilter's connection tracking and rules, and of sock_diag.

use synspan::capture::netlink::message::messages;
use synspan::capture::netlink::{conntrack, nftables, sock_diag};

/// Reads the bytes as a datagram and each payload, and the bytes themselves, as an entry, counters, a rule and a socket.
pub fn run(data: &[u8]) {
    for message in messages(data) {
        read(message.payload);
    }
    read(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = sock_diag::netstat(text, "TcpExt", "ListenOverflows");
        let _ = nftables::has_old_nat(text);
    }
}

fn read(payload: &[u8]) {
    if let Some(entry) = conntrack::entry(payload) {
        assert_eq!(entry.nat.original.src.addr.is_v4(), entry.nat.original.dst.addr.is_v4(), "one family an entry");
        assert_eq!(entry.nat.translated().reversed(), entry.nat.reply);
        assert_eq!(Some(entry), conntrack::entry(payload), "the same bytes, another answer");
    }
    let _ = conntrack::cpu_stats(payload);
    let _ = conntrack::table(payload);
    let _ = nftables::generation(payload);
    if let Some(rule) = nftables::source_nat(payload) {
        let (v4, v6) = (rule.v4, rule.v6);
        assert!(rule.addresses.is_none_or(|(first, last)| first.is_v4() == last.is_v4() || v4 || v6));
        for egress in [[10, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].map(|ip: std::net::IpAddr| ip.into())
        {
            if let Some((first, last)) = nftables::range_in_force(&[rule], egress) {
                assert!(first <= last && rule.may_give(egress), "a range of a rule that gives it");
            }
        }
    }
    if let Some(socket) = sock_diag::socket(payload) {
        assert!(payload.len() >= 72, "a socket is told in 72 bytes at least");
        assert_eq!(Some(socket), sock_diag::socket(payload), "the same bytes, another answer");
    }
}
