//! Packets and capture files made by hand, for tests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// SYN, SYN and ACK, ACK, RST, FIN and ACK.
pub const SYN: u8 = 2;
pub const SYN_ACK: u8 = 18;
pub const ACK: u8 = 16;
pub const RST: u8 = 4;
pub const FIN: u8 = 17;

/// The TCP options of a SYN: maximum segment size, timestamp, window scale.
pub fn options(tsval: u32, tsecr: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 0x05, 0xb4, 1, 1, 8, 10];
    options.extend(tsval.to_be_bytes());
    options.extend(tsecr.to_be_bytes());
    options.extend([1, 3, 3, 7]);
    options
}

/// A segment to be made.
#[derive(Clone, Copy)]
pub struct Seg<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub stamps: Option<(u32, u32)>,
    pub payload: usize,
}

pub fn seg<'a>(from: &'a str, to: &'a str, flags: u8, seq: u32, ack: u32) -> Seg<'a> {
    Seg { from, to, flags, seq, ack, stamps: Some((seq ^ 7, 0)), payload: 0 }
}

impl Seg<'_> {
    pub fn tcp(&self) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (self.from.parse().unwrap(), self.to.parse().unwrap());
        let options = self.stamps.map(|(val, ecr)| options(val, ecr)).unwrap_or_default();
        let mut bytes = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(vec![0x55; self.payload]);
        bytes
    }

    /// With an IP header of its family and a time to live of 64.
    pub fn ip(&self) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (self.from.parse().unwrap(), self.to.parse().unwrap());
        match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => ipv4(*from.ip(), *to.ip(), 6, &self.tcp()),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => ipv6(*from.ip(), *to.ip(), 6, &self.tcp()),
            _ => panic!("two families"),
        }
    }
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(((20 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

pub fn ethernet(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (kind, vlan) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ether_kind(packet).to_be_bytes());
    bytes.extend(packet);
    bytes
}

fn ether_kind(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}

/// Linux cooked, version 1; `kind` is the packet type.
pub fn cooked(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend([0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
    bytes.extend(ether_kind(packet).to_be_bytes());
    bytes.extend(packet);
    bytes
}

/// Linux cooked, version 2.
pub fn cooked2(ifindex: u32, kind: u8, packet: &[u8]) -> Vec<u8> {
    let mut bytes = ether_kind(packet).to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(ifindex.to_be_bytes());
    bytes.extend([0, 1, kind, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
    bytes.extend(packet);
    bytes
}

pub fn null(family: [u8; 4], packet: &[u8]) -> Vec<u8> {
    [&family, packet].concat()
}

pub fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 50_000_u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// How a pcap file is written.
#[derive(Clone, Copy, Debug)]
pub struct Pcap {
    pub big_endian: bool,
    pub nanos: bool,
    pub link: u32,
}

pub const LITTLE: Pcap = Pcap { big_endian: false, nanos: false, link: 1 };

impl Pcap {
    fn word(self, word: u32) -> [u8; 4] {
        if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    /// A file of frames with their times in nanoseconds.
    pub fn file(self, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = self.word(if self.nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
        let version = if self.big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        bytes.extend(version);
        for word in [0, 0, 262_144, self.link] {
            bytes.extend(self.word(word));
        }
        for (time, frame) in frames {
            let unit = if self.nanos { 1 } else { 1_000 };
            for word in [
                (time / 1_000_000_000) as u32,
                (time % 1_000_000_000 / unit) as u32,
                frame.len() as u32,
                frame.len() as u32,
            ] {
                bytes.extend(self.word(word));
            }
            bytes.extend(frame);
        }
        bytes
    }
}

/// A pcapng file under construction.
pub struct PcapNg {
    big_endian: bool,
    pub bytes: Vec<u8>,
}

impl PcapNg {
    pub fn new(big_endian: bool) -> Self {
        let mut file = Self { big_endian, bytes: Vec::new() };
        file.section();
        file
    }

    fn word(&self, word: u32) -> [u8; 4] {
        if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    fn half(&self, half: u16) -> [u8; 2] {
        if self.big_endian { half.to_be_bytes() } else { half.to_le_bytes() }
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.word(body.len() as u32 + 12);
        let whole = [&self.word(kind), &length, body, &length].concat();
        self.bytes.extend(whole);
    }

    pub fn section(&mut self) {
        let body = [&self.word(0x1a2b_3c4d)[..], &self.half(1), &self.half(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body);
    }

    pub fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.half(code), self.half(value.len() as u16)].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// An interface; `resolution` is `if_tsresol`.
    pub fn interface(&mut self, link: u16, name: Option<&str>, resolution: Option<u8>, offset: Option<i64>) {
        let mut body = [&self.half(link)[..], &[0, 0], &self.word(0)].concat();
        body.extend(name.map(|name| self.option(2, name.as_bytes())).unwrap_or_default());
        body.extend(resolution.map(|resolution| self.option(9, &[resolution])).unwrap_or_default());
        let offset = offset.map(|offset| if self.big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() });
        body.extend(offset.map(|offset| self.option(14, &offset)).unwrap_or_default());
        body.extend(self.option(0, &[]));
        self.block(1, &body);
    }

    /// A packet at a time in the interface's units; `flags` is `epb_flags`.
    pub fn packet(&mut self, interface: u32, units: u64, flags: Option<u32>, frame: &[u8]) {
        let mut body = Vec::new();
        for word in [interface, (units >> 32) as u32, units as u32, frame.len() as u32, frame.len() as u32] {
            body.extend(self.word(word));
        }
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(flags.map(|flags| self.option(2, &self.word(flags))).unwrap_or_default());
        self.block(6, &body);
    }
}
