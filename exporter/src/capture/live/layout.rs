//! What the programs need to know of the running kernel's structures, from its own BTF.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use super::btf::Btf;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// What was found.
#[derive(Debug, Default)]
pub struct Layout {
    /// For the errors of sockets.
    pub socket: Option<SocketLayout>,
    /// For dropped segments.
    pub packet: Option<PacketLayout>,
    /// The names of `enum skb_drop_reason` without their prefix, by number; empty below kernel 5.17.
    pub reasons: HashMap<u32, Arc<str>>,
}

/// Offsets in `struct sock`.
#[derive(Clone, Copy, Default, Debug)]
pub struct SocketLayout {
    pub protocol: u32,
    pub cookie: u32,
    pub error: u32,
    /// `__sk_common.skc_state` (8 bits).
    pub state: u32,
}

/// Offsets in `struct sk_buff` and what it points to, and what the tracepoint `kfree_skb` tells.
#[derive(Clone, Copy, Default, Debug)]
pub struct PacketLayout {
    pub protocol: u32,
    /// How many 16-bit fields behind `protocol`: they have always been neighbours.
    pub network_header: u32,
    pub head: u32,
    pub device: u32,
    pub socket: u32,
    pub device_ifindex: u32,
    /// 0 where the kernel has none, as the two below.
    pub device_net: u32,
    pub socket_net: u32,
    pub net_cookie: u32,
    /// Whether the tracepoint's third argument is the reason.
    pub has_reasons: bool,
    /// The reason that means none, if there is one.
    pub not_yet: Option<u32>,
    /// The reason of what was used up and not dropped, if there is one.
    pub consumed: Option<u32>,
}

impl Layout {
    /// Reads it. What is missing or not understood is left out.
    pub fn read() -> Self {
        let Ok(data) = fs::read(VMLINUX) else { return Self::default() };
        Btf::parse(&data).map(|btf| Self::of(&btf)).unwrap_or_default()
    }

    fn of(btf: &Btf<'_>) -> Self {
        let mut reasons = HashMap::new();
        let (mut not_yet, mut consumed) = (None, None);
        for (name, value) in btf.enumerators("skb_drop_reason").unwrap_or_default() {
            match name {
                "SKB_NOT_DROPPED_YET" => not_yet = Some(value),
                "SKB_CONSUMED" => consumed = Some(value),
                _ => (),
            }
            let name = name.strip_prefix(REASON_PREFIX).unwrap_or(name);
            reasons.insert(value, name.into());
        }
        // Its own first parameter, which every tracepoint's has, goes before the tracepoint's: the packet,
        // the place and from 5.17 the reason.
        let parameters = btf.parameters("btf_trace_kfree_skb").unwrap_or(0);
        let has_reasons = parameters >= 4 && !reasons.is_empty();
        let packet = || {
            let protocol = btf.offset_of("sk_buff", &["protocol"])?;
            let network_header = btf.offset_of("sk_buff", &["network_header"])?.checked_sub(protocol)? / 2;
            if !(1..=3).contains(&network_header) {
                return None;
            }
            Some(PacketLayout {
                protocol,
                network_header,
                head: btf.offset_of("sk_buff", &["head"])?,
                device: btf.offset_of("sk_buff", &["dev"])?,
                socket: btf.offset_of("sk_buff", &["sk"])?,
                device_ifindex: btf.offset_of("net_device", &["ifindex"])?,
                device_net: btf.offset_of("net_device", &["nd_net", "net"]).unwrap_or(0),
                socket_net: btf.offset_of("sock", &["__sk_common", "skc_net", "net"]).unwrap_or(0),
                net_cookie: btf.offset_of("net", &["net_cookie"]).unwrap_or(0),
                has_reasons,
                not_yet,
                consumed,
            })
        };
        let socket = || {
            Some(SocketLayout {
                protocol: btf.offset_of("sock", &["sk_protocol"])?,
                cookie: btf.offset_of("sock", &["__sk_common", "skc_cookie"])?,
                error: btf.offset_of("sock", &["sk_err"])?,
                state: btf.offset_of("sock", &["__sk_common", "skc_state"])?,
            })
        };
        Self { socket: socket(), packet: packet(), reasons }
    }
}
