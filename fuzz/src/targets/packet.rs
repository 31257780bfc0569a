//! Packets as captures hold them: link layer, tunnels, IP, TCP and ICMP.

use synspan::capture::observation::Direction;
use synspan::capture::replay::{link, packet, tcp};

/// LINKTYPE_* that are read: loopback, Ethernet, raw, OpenBSD's loopback, IPv4, IPv6, cooked v1 and v2.
const LINKS: [i32; 8] = [0, 1, 101, 108, 228, 229, 113, 276];

/// Reads the bytes behind the first as a frame of the link type that it says.
pub fn run(data: &[u8]) {
    let Some((&which, frame)) = data.split_first() else { return };
    let kind = LINKS[usize::from(which) % LINKS.len()];
    let Some(inside) = link::packet(kind, frame) else { return };
    assert!(inside.bytes.len() + inside.before <= frame.len(), "more was read than there is");
    // As the file says how long the packet was before it was cut.
    for length in [inside.bytes.len() as u32, u32::MAX, 0] {
        let Some(found) = packet::find(inside.kind, inside.bytes, length) else { continue };
        let packet::What::Segment(raw) = found.what else { continue };
        assert!(raw.bytes.len() <= inside.bytes.len());
        assert_eq!(raw.tuple.src.addr.is_v4(), raw.tuple.dst.addr.is_v4(), "one family a packet");
        let Some(head) = tcp::head(&raw) else { continue };
        let segment = tcp::segment(&raw, head, 7, Direction::Egress);
        assert_eq!((segment.seq, segment.ack, segment.tuple), (head.seq, head.ack, raw.tuple));
        assert_eq!(segment, tcp::segment(&raw, head, 7, Direction::Egress), "the same bytes, another answer");
    }
}
