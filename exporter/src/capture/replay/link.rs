//! Link layers: from a frame's bytes to the network packet in it.

use crate::capture::observation::Direction;

/// Most VLAN tags that are looked behind.
const MOST_TAGS: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A network packet in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Its Ethernet type (IANA, IEEE 802 numbers).
    pub kind: u16,
    /// Its bytes, with whatever pads the frame.
    pub bytes: &'a [u8],
    /// How many bytes of the frame come before it.
    pub before: usize,
    /// The VLAN tags before it, 12 bits each and one to mark it, the outermost lowest; 0 if none.
    pub vlans: u64,
    /// The interface, where the link layer numbers it (Linux cooked, version 2).
    pub ifindex: Option<u32>,
    /// Its direction, where the link layer tells it (Linux cooked).
    pub direction: Option<Direction>,
}

/// Whether TCP can be found in frames of a link type (tcpdump.org/linktypes.html).
pub fn is_known(link: i32) -> bool {
    matches!(link, 0 | 1 | 12 | 14 | 101 | 108 | 113 | 228 | 229 | 276)
}

/// The packet in a frame; none if it is cut before it, or carries nothing of IP.
pub fn packet(link: i32, frame: &[u8]) -> Option<Packet<'_>> {
    match link {
        // Loopback of BSD: the address family in the order of the machine that captured, or in network order.
        0 | 108 => {
            let family = u32::from_be_bytes(array(frame, 0)?);
            let kind = family_kind(family).or_else(|| family_kind(family.swap_bytes()))?;
            plain(kind, frame, 4)
        }
        1 => ethernet(frame),
        12 | 14 | 101 => match frame.first()? >> 4 {
            4 => plain(IPV4, frame, 0),
            6 => plain(IPV6, frame, 0),
            _ => None,
        },
        113 => {
            let direction = cooked_direction(u16::from_be_bytes(array(frame, 0)?));
            let kind = u16::from_be_bytes(array(frame, 14)?);
            Some(Packet { direction, ..tagged(kind, frame, 16)? })
        }
        228 => plain(IPV4, frame, 0),
        229 => plain(IPV6, frame, 0),
        276 => {
            let kind = u16::from_be_bytes(array(frame, 0)?);
            let ifindex = u32::from_be_bytes(array(frame, 4)?);
            let direction = cooked_direction(u16::from(*frame.get(10)?));
            Some(Packet { direction, ifindex: Some(ifindex), ..tagged(kind, frame, 20)? })
        }
        _ => None,
    }
}

/// The packet in an Ethernet frame.
pub fn ethernet(frame: &[u8]) -> Option<Packet<'_>> {
    tagged(u16::from_be_bytes(array(frame, 12)?), frame, 14)
}

fn plain(kind: u16, frame: &[u8], before: usize) -> Option<Packet<'_>> {
    Some(Packet { kind, bytes: frame.get(before..)?, before, vlans: 0, ifindex: None, direction: None })
}

/// The packet behind the VLAN tags that come at `before`, if any (IEEE 802.1Q, and 802.1ad with the
/// numbers that were used before it).
fn tagged(mut kind: u16, frame: &[u8], mut before: usize) -> Option<Packet<'_>> {
    let mut vlans = 0;
    for tag in 0..MOST_TAGS {
        if !matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
            break;
        }
        let vlan = u16::from_be_bytes(array(frame, before)?) & 0x0fff;
        vlans |= u64::from(vlan | 0x1000) << (13 * tag);
        kind = u16::from_be_bytes(array(frame, before + 2)?);
        before += 4;
    }
    Some(Packet { vlans, ..plain(kind, frame, before)? })
}

/// `PACKET_OUTGOING` is 4 (packet(7)); what is for another host passed by, in no direction of ours.
fn cooked_direction(kind: u16) -> Option<Direction> {
    match kind {
        0..=2 => Some(Direction::Ingress),
        4 => Some(Direction::Egress),
        _ => None,
    }
}

/// Address families: IPv4 is 2 everywhere; IPv6 is 10 on Linux, 24, 28 and 30 on the BSDs and macOS.
fn family_kind(family: u32) -> Option<u16> {
    match family {
        2 => Some(IPV4),
        10 | 24 | 28 | 30 => Some(IPV6),
        _ => None,
    }
}

/// `N` bytes from `at` on.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
