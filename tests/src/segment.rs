//! TCP segments as they stand on the wire, from the IP header on: read, and made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The flags' byte.
    pub flags: u8,
    /// Payload bytes.
    pub payload: usize,
    /// Timestamp value and echo, if the option is there.
    pub timestamps: Option<(u32, u32)>,
}

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

const TCP: u8 = 6;

impl Segment {
    /// Reads an IP packet; none if it is not TCP, or cut short.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (src, dst, tcp): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
                if *packet.get(9)? != TCP {
                    return None;
                }
                let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
                (address(12)?.into(), address(16)?.into(), packet.get(header..total.clamp(header, packet.len()))?)
            }
            6 => {
                let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
                if *packet.get(6)? != TCP {
                    return None;
                }
                let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
                (address(8)?.into(), address(24)?.into(), packet.get(40..(40 + length).min(packet.len()))?)
            }
            _ => return None,
        };
        let short = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let header = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self {
            src: SocketAddr::new(src, short(0)?),
            dst: SocketAddr::new(dst, short(2)?),
            seq: long(4)?,
            ack: long(8)?,
            flags: *tcp.get(13)?,
            payload: tcp.len().checked_sub(header)?,
            timestamps: timestamps(tcp.get(20..header)?),
        })
    }

    /// Makes an IP packet with a bare header, and the timestamp option where it is given. No payload.
    pub fn build(&self) -> Vec<u8> {
        self.build_with(64)
    }

    /// The same with a TTL.
    pub fn build_with(&self, ttl: u8) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(32);
        tcp.extend(self.src.port().to_be_bytes());
        tcp.extend(self.dst.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let options: u8 = if self.timestamps.is_some() { 12 } else { 0 };
        tcp.extend([((20 + options) / 4) << 4, self.flags]);
        tcp.extend(4096u16.to_be_bytes());
        tcp.extend([0; 4]);
        if let Some((value, echo)) = self.timestamps {
            tcp.extend([1, 1, 8, 10]);
            tcp.extend(value.to_be_bytes());
            tcp.extend(echo.to_be_bytes());
        }
        let length = 20 + u16::from(options);
        let mut pseudo = Vec::new();
        let mut packet = Vec::new();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                packet.extend([0x45, 0]);
                packet.extend((20 + length).to_be_bytes());
                packet.extend([0, 0, 0x40, 0, ttl, TCP, 0, 0]);
                packet.extend(src.octets());
                packet.extend(dst.octets());
                let sum = checksum(&packet);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                pseudo.extend_from_slice(&packet[12..20]);
            }
            (src, dst) => {
                let six = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                packet.extend([0x60, 0, 0, 0]);
                packet.extend(length.to_be_bytes());
                packet.extend([TCP, ttl]);
                packet.extend(six(src));
                packet.extend(six(dst));
                pseudo.extend_from_slice(&packet[8..40]);
            }
        }
        pseudo.extend([0, TCP]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend_from_slice(&tcp);
        let sum = checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        packet.extend(tcp);
        packet
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number after it: SYN and FIN take one each.
    pub fn end(&self) -> u32 {
        let phantom = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(u32::try_from(self.payload).unwrap_or(0)).wrapping_add(phantom)
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} > {}", self.src, self.dst)?;
        for (flag, name) in [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")] {
            if self.has(flag) {
                write!(f, " {name}")?;
            }
        }
        write!(f, " seq {} ack {}", self.seq, self.ack)?;
        if self.payload > 0 {
            write!(f, " {} bytes", self.payload)?;
        }
        Ok(())
    }
}

/// The timestamp option among a header's options (RFC 7323, 3.2).
fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    loop {
        match *options.first()? {
            0 => return None,
            1 => options = &options[1..],
            kind => {
                let length = usize::from(*options.get(1)?);
                if kind == 8 && length == 10 {
                    let value = u32::from_be_bytes(options.get(2..6)?.try_into().ok()?);
                    return Some((value, u32::from_be_bytes(options.get(6..10)?.try_into().ok()?)));
                }
                options = options.get(length.max(2)..)?;
            }
        }
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(src: &str, dst: &str) -> Segment {
        Segment {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            seq: 0xffff_fff0,
            ack: 7,
            flags: ACK | RST,
            payload: 0,
            timestamps: Some((5, 6)),
        }
    }

    #[test]
    fn what_is_built_is_read_back() {
        for segment in [segment("10.0.0.1:80", "10.0.0.2:40000"), segment("[fd00::1]:80", "[fd00::2]:40000")] {
            assert_eq!(Segment::parse(&segment.build()), Some(segment));
        }
    }

    #[test]
    fn checksums_come_out_right() {
        let packet = segment("10.0.0.1:80", "10.0.0.2:40000").build();
        assert_eq!(checksum(&packet[..20]), 0);
        // Example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn what_is_cut_short_is_no_segment() {
        let packet = segment("10.0.0.1:80", "10.0.0.2:40000").build();
        for length in 0..packet.len() - 12 {
            assert_eq!(Segment::parse(&packet[..length]).map(|segment| segment.payload), None, "{length}");
        }
    }

    #[test]
    fn the_end_counts_syn_and_fin() {
        let mut syn = segment("10.0.0.1:80", "10.0.0.2:1");
        syn.flags = SYN;
        syn.seq = u32::MAX;
        assert_eq!(syn.end(), 0);
    }
}
