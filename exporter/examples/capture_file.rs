//! Writes a large capture to measure replay by: `capture_file OUT [BYTES]`.
//!
//! Ethernet, microseconds. Connections with data from many clients to a few servers; of a hundred one is refused,
//! one is met by silence, and one uses a port again that the server still holds (a stale ACK).

use std::fs::File;
use std::io::{self, BufWriter, Write};

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const PUSH: u8 = 24;
const FIN: u8 = 17;
const RST: u8 = 4;
const RST_ACK: u8 = 20;
/// Connections that are under way at the same time.
const LANES: usize = 200;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), size) = (args.next(), args.next()) else {
        eprintln!("usage: capture_file OUT [BYTES]");
        std::process::exit(2);
    };
    let size = size.and_then(|size| size.parse().ok()).unwrap_or(1_u64 << 30);
    let mut out = Writer { out: BufWriter::with_capacity(1 << 20, File::create(path)?), written: 0, micros: 0 };
    out.header()?;
    let mut lanes: Vec<Connection> = (0..LANES as u32).map(Connection::new).collect();
    let mut next = LANES as u32;
    while out.written < size {
        for lane in &mut lanes {
            if lane.step(&mut out)? {
                *lane = Connection::new(next);
                next += 1;
            }
        }
    }
    out.out.flush()
}

struct Writer {
    out: BufWriter<File>,
    written: u64,
    micros: u64,
}

/// One connection's numbers and how far it is.
struct Connection {
    number: u32,
    step: u32,
    client: [u8; 4],
    server: [u8; 4],
    port: u16,
    isn: u32,
}

impl Connection {
    fn new(number: u32) -> Self {
        let mixed = number.wrapping_mul(0x9e37_79b9);
        let port = 1024 + (number % 60_000) as u16;
        Self {
            number,
            step: 0,
            client: [10, 244, (number / 60_000) as u8, 11],
            server: [192, 168, 50, (number % 20) as u8],
            port,
            isn: mixed,
        }
    }

    /// Writes its next packet; true when it is over.
    fn step(&mut self, out: &mut Writer) -> io::Result<bool> {
        let step = self.step;
        self.step += 1;
        let data = 10 + self.number % 40;
        let (up, down) = (self.isn.wrapping_add(1), self.isn ^ 0x5555);
        match (self.number % 100, step) {
            (_, 0) => out.packet(self, true, SYN, self.isn, 0, 0)?,
            (97, 1) => {
                out.packet(self, false, RST_ACK, 0, up, 0)?;
                return Ok(true);
            }
            (98, _) => {
                out.packet(self, true, SYN, self.isn, 0, 0)?;
                return Ok(step == 3);
            }
            (99, 1) => out.packet(self, false, ACK, 77, 99_999, 0)?,
            (99, 2) => {
                out.packet(self, true, RST, 99_999, 0, 0)?;
                return Ok(true);
            }
            (_, 1) => out.packet(self, false, SYN_ACK, down, up, 0)?,
            (_, 2) => out.packet(self, true, ACK, up, down.wrapping_add(1), 0)?,
            (_, n) if n < data => {
                let ours = n % 4 == 0;
                let at = n * 1_400;
                let payload = if ours { 120 } else { 1_400 };
                let (seq, ack) = if ours { (up, down) } else { (down, up) };
                out.packet(self, ours, PUSH, seq.wrapping_add(at), ack.wrapping_add(at), payload)?;
            }
            (_, n) if n == data => out.packet(self, true, FIN, up.wrapping_add(n * 1_400), down, 0)?,
            (_, n) => {
                out.packet(self, false, FIN, down.wrapping_add(n * 1_400), up.wrapping_add(n * 1_400), 0)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Writer {
    fn header(&mut self) -> io::Result<()> {
        self.out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        self.out.write_all(&[2, 0, 4, 0])?;
        for word in [0_u32, 0, 262_144, 1] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.written += 24;
        Ok(())
    }

    fn packet(&mut self, of: &Connection, ours: bool, flags: u8, seq: u32, ack: u32, payload: usize) -> io::Result<()> {
        self.micros += 7;
        let (from, to) = if ours { (of.client, of.server) } else { (of.server, of.client) };
        let (from_port, to_port) = if ours { (of.port, 8443) } else { (8443, of.port) };
        let total = 20 + 32 + payload;
        let mut frame = Vec::with_capacity(66);
        frame.extend([2, 0, 0, 0, 0, u8::from(ours), 2, 0, 0, 0, 0, u8::from(!ours), 8, 0, 0x45, 0]);
        frame.extend((total as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 63, 6, 0, 0]);
        frame.extend(from);
        frame.extend(to);
        frame.extend(from_port.to_be_bytes());
        frame.extend(to_port.to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend([0x80, flags, 0xfa, 0xf0, 0, 0, 0, 0, 1, 1, 8, 10]);
        frame.extend(((self.micros / 1_000) as u32).to_be_bytes());
        frame.extend([0; 4]);
        let length = (frame.len() + payload) as u32;
        let time = 1_795_465_867 + self.micros / 1_000_000;
        for word in [time as u32, (self.micros % 1_000_000) as u32, length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&frame)?;
        self.out.write_all(&[0x55; 1_400][..payload])?;
        self.written += 16 + u64::from(length);
        Ok(())
    }
}
