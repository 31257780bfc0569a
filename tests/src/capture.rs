//! What the tap sees as a capture file, for replay: pcapng with the interfaces' names and each packet's direction
//! (draft-ietf-opsawg-pcapng), in this machine's byte order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The directory that labs write captures to, a file for each node; none without this variable.
pub const DIRECTORY: &str = "SYNSPAN_LAB_CAPTURES";

const RAW_IP: u16 = 101;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// A file that is written.
#[derive(Debug)]
pub struct Capture {
    file: File,
    interfaces: BTreeMap<usize, u32>,
}

/// Where a node's capture goes, if captures are asked for.
pub fn path(node: &str) -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os(DIRECTORY)?).join(format!("{node}.pcapng")))
}

impl Capture {
    /// Begins a file, and the directory if it is missing.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut file = File::create(path)?;
        let mut body = 0x1a2b_3c4d_u32.to_ne_bytes().to_vec();
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend((-1_i64).to_ne_bytes());
        block(&mut file, 0x0a0d_0d0a, &body)?;
        Ok(Self { file, interfaces: BTreeMap::new() })
    }

    /// Adds an IP packet; `name` is asked once for each interface.
    pub fn packet(
        &mut self,
        ifindex: usize,
        name: impl FnOnce() -> Option<String>,
        out: bool,
        packet: &[u8],
    ) -> io::Result<()> {
        let number = match self.interfaces.get(&ifindex) {
            Some(&number) => number,
            None => {
                let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
                let mut body = u32::from(RAW_IP).to_ne_bytes().to_vec();
                body.extend(0_u32.to_ne_bytes());
                option(&mut body, IF_NAME, name().unwrap_or_else(|| format!("if{ifindex}")).as_bytes());
                // Nanoseconds.
                option(&mut body, IF_TSRESOL, &[9]);
                option(&mut body, 0, &[]);
                block(&mut self.file, 1, &body)?;
                self.interfaces.insert(ifindex, number);
                number
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()) as u64;
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let mut body = Vec::with_capacity(packet.len() + 48);
        for word in [number, (now >> 32) as u32, now as u32, length, length] {
            body.extend(word.to_ne_bytes());
        }
        padded(&mut body, packet);
        option(&mut body, EPB_FLAGS, &(if out { 2_u32 } else { 1 }).to_ne_bytes());
        option(&mut body, 0, &[]);
        block(&mut self.file, 6, &body)
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, value: &[u8]) {
    body.extend(value);
    body.extend(std::iter::repeat_n(0, value.len().next_multiple_of(4) - value.len()));
}

fn block(file: &mut File, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_ne_bytes();
    let whole: Vec<u8> = [&kind.to_ne_bytes(), &length, body, &length].concat();
    file.write_all(&whole)
}
