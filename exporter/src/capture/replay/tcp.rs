//! TCP headers: flags, numbers and options of a segment (RFC 9293, 3.1; RFC 7323).

use super::link::array;
use super::packet::{Raw, TCP_HEADER};
use crate::capture::observation::{Direction, Flags, Segment, Timestamps};

/// The fields that every segment is looked at for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Flags.
    pub flags: Flags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Payload bytes on the wire.
    pub payload: u32,
}

/// Reads the fixed part.
pub fn head(raw: &Raw<'_>) -> Option<Head> {
    let bytes: [u8; TCP_HEADER] = array(raw.bytes, 0)?;
    let header = u32::from(bytes[12] >> 4) * 4;
    Some(Head {
        flags: Flags(bytes[13]),
        seq: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        ack: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        payload: raw.length.saturating_sub(header),
    })
}

/// The whole segment, as it was seen at a point.
pub fn segment(raw: &Raw<'_>, head: Head, ifindex: u32, direction: Direction) -> Segment {
    let header = usize::from(raw.bytes.get(12).copied().unwrap_or_default() >> 4) * 4;
    let mut segment = Segment {
        ifindex,
        direction,
        tuple: raw.tuple,
        flags: head.flags,
        seq: head.seq,
        ack: head.ack,
        timestamps: None,
        payload: head.payload,
        window: array(raw.bytes, 14).map_or(0, u16::from_be_bytes),
        mss: 0,
        wscale: None,
        ttl: raw.ttl,
        cookie: None,
    };
    options(&mut segment, raw.bytes.get(TCP_HEADER..header).unwrap_or_default());
    segment
}

fn options(segment: &mut Segment, mut bytes: &[u8]) {
    loop {
        let (kind, rest) = match bytes {
            [] | [0, ..] => return,
            [1, rest @ ..] => {
                bytes = rest;
                continue;
            }
            [kind, length, ..] => match bytes.get(2..usize::from(*length)) {
                Some(value) => {
                    bytes = &bytes[usize::from(*length)..];
                    (*kind, value)
                }
                None => return,
            },
            _ => return,
        };
        match (kind, rest) {
            (2, &[a, b]) => segment.mss = u16::from_be_bytes([a, b]),
            (3, &[scale]) => segment.wscale = Some(scale),
            (8, value) => {
                if let (8, Some(val), Some(ecr)) = (value.len(), array(value, 0), array(value, 4)) {
                    segment.timestamps =
                        Some(Timestamps { val: u32::from_be_bytes(val), ecr: u32::from_be_bytes(ecr) });
                }
            }
            _ => {}
        }
    }
}
