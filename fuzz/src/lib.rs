//! Fuzz targets: each takes any bytes and panics if something does not hold that must.
//!
//! The list is [`TARGETS`]. A target is a plain function, so that any engine can call it: libFuzzer in
//! `make fuzz`, and the tests, which run every file of `corpus/NAME/` through the target of that name.

mod bytes;
mod history;
mod targets;

use targets::{btf, capture, config, netlink, packet, records, request, tracker, tracking};

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Reads it. Panics if something does not hold.
    pub run: fn(&[u8]),
}

/// All targets. A new one is a line here, a function in `targets/`, and a folder of seeds.
pub const TARGETS: &[Target] = &[
    Target { name: "records", about: "the ring buffer's records", run: records::run },
    Target { name: "btf", about: "the kernel's types (BTF)", run: btf::run },
    Target { name: "netlink", about: "rtnetlink: links, addresses, routes, tc's filters", run: netlink::run },
    Target { name: "tracking", about: "netfilter's connection tracking and rules, and sock_diag", run: tracking::run },
    Target { name: "packet", about: "packets: link layers, tunnels, IP, TCP, ICMP", run: packet::run },
    Target { name: "capture", about: "capture files (pcap, pcapng), through the tracker", run: capture::run },
    Target { name: "request", about: "requests at the agent's local socket", run: request::run },
    Target { name: "config", about: "the configuration file", run: config::run },
    Target { name: "tracker", about: "the tracker and the encoder, by any history of observations", run: tracker::run },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
