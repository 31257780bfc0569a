//! Capture files, pcap and pcapng: from bytes to frames with their time and interface.
//!
//! The crate `pcap-parser` knows the formats. What is added here is what makes a reader of files from
//! anywhere: memory that does not grow with the file, lengths that are checked before anything is
//! awaited, and the byte at which a file is cut or wrong.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use pcap_parser::parse_pcap_header;
use pcap_parser::pcap::{PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified};
use pcap_parser::pcapng::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, parse_block_be, parse_block_le,
    parse_sectionheaderblock,
};
use pcap_parser::traits::PcapNGPacketBlock as _;

use super::error::FileError;
use super::window::{LONGEST, Window};
use crate::capture::observation::Direction;

/// The longest frame of a pcap file (`MAXIMUM_SNAPLEN` of libpcap); a file may say more of itself.
const LONGEST_FRAME: u32 = 262_144;
/// Most interfaces of a section.
const MOST_INTERFACES: usize = 4_096;
/// `pcapng` block type of a section header: the same in both byte orders.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Bytes of the shortest block: type, length, length.
const SHORTEST_BLOCK: usize = 12;
/// Bytes of a pcap file's header.
const PCAP_HEADER: usize = 24;
const NANOS: u128 = 1_000_000_000;

/// An interface as the file describes it.
#[derive(Debug)]
pub struct FileInterface {
    /// Its number, unique in the file.
    pub serial: u32,
    /// Its name (pcapng `if_name`).
    pub name: Option<String>,
    /// The link type of its frames (tcpdump.org/linktypes.html).
    pub link: i32,
    /// Time units per second, at least 1.
    units: u64,
    /// Seconds to add to all times.
    offset: i64,
}

#[cfg(test)]
impl FileInterface {
    /// An Ethernet interface.
    pub fn for_tests(name: Option<&str>) -> Self {
        Self { serial: 0, name: name.map(str::to_owned), link: 1, units: 1_000_000, offset: 0 }
    }
}

/// A frame. Its bytes are had by [`Reader::data`] until the next one is asked for.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Nanoseconds since 1970 by the clock of whoever captured it.
    pub time: u64,
    /// Where it was captured.
    pub interface: Arc<FileInterface>,
    /// By the file's own word, if it has one.
    pub direction: Option<Direction>,
    /// Bytes on the wire; more than are here where the capture was told to cut.
    pub length: u32,
    /// How far behind the window its bytes start, and how many there are.
    behind: (usize, usize),
}

enum Format {
    Pcap { header: PcapHeader, interface: Arc<FileInterface> },
    PcapNg(Sections),
}

/// Where a pcapng file stands.
#[derive(Default)]
struct Sections {
    big_endian: bool,
    /// Of this section.
    interfaces: Vec<Arc<FileInterface>>,
    /// Of all sections.
    described: u32,
    /// Packets that have no time.
    timeless: u64,
}

/// Reads frames from a file.
pub struct Reader<R> {
    window: Window<R>,
    format: Format,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// It cannot be read, or is no capture file.
    pub fn new(file: R) -> Result<Self, FileError> {
        let mut window = Window::new(file);
        if !window.fill(4)? {
            return Err(if window.bytes().is_empty() { FileError::Empty } else { FileError::Foreign("found less") });
        }
        let magic = [window.bytes()[0], window.bytes()[1], window.bytes()[2], window.bytes()[3]];
        let format = if magic == SECTION {
            Format::PcapNg(Sections::default())
        } else {
            if let Some(found) = foreign(magic) {
                return Err(FileError::Foreign(found));
            }
            if !window.fill(PCAP_HEADER)? {
                return Err(cut(&window, "file header"));
            }
            let Ok((_, header)) = parse_pcap_header(window.bytes()) else {
                return Err(FileError::Foreign("found something else"));
            };
            window.advance(PCAP_HEADER);
            let units = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            // The upper half says whether frames end with a checksum.
            let link = header.network.0 & 0xffff;
            let interface = Arc::new(FileInterface { serial: 0, name: None, link, units, offset: 0 });
            Format::Pcap { header, interface }
        };
        Ok(Self { window, format })
    }

    /// The next frame; none at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read further, ends in the middle, or holds garbage. No more frames come then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FileError> {
        match &mut self.format {
            Format::Pcap { header, interface } => pcap_frame(&mut self.window, header, interface),
            Format::PcapNg(sections) => loop {
                match block(&mut self.window, sections)? {
                    Step::Frame(frame) => return Ok(Some(frame)),
                    Step::Other => {}
                    Step::End => return Ok(None),
                }
            },
        }
    }

    /// The bytes of the frame that was read last.
    pub fn data(&self, frame: &Frame) -> &[u8] {
        self.window.behind(frame.behind.0, frame.behind.1)
    }

    /// Packets that the file gives no time (pcapng simple packet blocks): nothing can be said of them.
    pub fn timeless(&self) -> u64 {
        match &self.format {
            Format::Pcap { .. } => 0,
            Format::PcapNg(sections) => sections.timeless,
        }
    }
}

/// What a file is whose first bytes are well known.
fn foreign(magic: [u8; 4]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Some("found gzip: decompress it first (gunzip)"),
        [0x28, 0xb5, 0x2f, 0xfd] => Some("found zstd: decompress it first (unzstd)"),
        [0xfd, b'7', b'z', b'X'] => Some("found xz: decompress it first (unxz)"),
        [b'P', b'K', 3, 4] => Some("found a zip archive: unpack it first"),
        [b's', b'n', b'o', b'o'] => Some("found snoop: convert it first (editcap IN OUT)"),
        _ => None,
    }
}

fn cut<R: Read>(window: &Window<R>, what: &'static str) -> FileError {
    FileError::Cut { what, offset: window.offset(), length: window.read_to() }
}

fn garbage<R: Read>(window: &Window<R>, why: String) -> FileError {
    FileError::Garbage { offset: window.offset(), why }
}

fn pcap_frame<R: Read>(
    window: &mut Window<R>,
    header: &PcapHeader,
    interface: &Arc<FileInterface>,
) -> Result<Option<Frame>, FileError> {
    let head = if header.is_modified_format() { 24 } else { 16 };
    if !window.fill(head)? {
        return if window.bytes().is_empty() { Ok(None) } else { Err(cut(window, "packet's header")) };
    }
    // Looked at before it is believed, since the file is read as far as it says.
    let length = number(window.bytes(), 8, header.is_bigendian());
    let longest = header.snaplen.clamp(LONGEST_FRAME, LONGEST as u32 - 64);
    if length > longest {
        return Err(garbage(window, format!("a packet of {length} bytes, where {longest} are the most")));
    }
    let whole = head + length as usize;
    if !window.fill(whole)? {
        return Err(cut(window, "packet"));
    }
    let parse = match (header.is_modified_format(), header.is_bigendian()) {
        (true, _) => parse_pcap_frame_modified,
        (false, true) => parse_pcap_frame_be,
        (false, false) => parse_pcap_frame,
    };
    let Ok((_, record)) = parse(&window.bytes()[..whole]) else {
        return Err(garbage(window, "no packet's header".to_owned()));
    };
    let (seconds, fraction, wire) = (record.ts_sec, record.ts_usec, record.origlen);
    if u64::from(fraction) >= interface.units {
        return Err(garbage(window, format!("a time with {fraction} of {} parts of a second", interface.units)));
    }
    if length == 0 && wire == 0 {
        return Err(garbage(window, "a packet of no bytes".to_owned()));
    }
    let time = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * (1_000_000_000 / interface.units);
    window.advance(whole);
    let behind = (length as usize, length as usize);
    Ok(Some(Frame { time, interface: interface.clone(), direction: None, length: wire.max(length), behind }))
}

enum Step {
    Frame(Frame),
    Other,
    End,
}

fn block<R: Read>(window: &mut Window<R>, sections: &mut Sections) -> Result<Step, FileError> {
    if !window.fill(SHORTEST_BLOCK)? {
        return if window.bytes().is_empty() { Ok(Step::End) } else { Err(cut(window, "block")) };
    }
    let section = window.bytes().starts_with(&SECTION);
    if section {
        // A section has an order of its own, which its third word tells.
        sections.big_endian = match window.bytes()[8..12] {
            [0x1a, 0x2b, 0x3c, 0x4d] => true,
            [0x4d, 0x3c, 0x2b, 0x1a] => false,
            _ => return Err(garbage(window, "a section header without its byte-order magic".to_owned())),
        };
    }
    let big_endian = sections.big_endian;
    let length = number(window.bytes(), 4, big_endian) as usize;
    if length < SHORTEST_BLOCK || !length.is_multiple_of(4) || length > LONGEST {
        let most = LONGEST;
        return Err(garbage(window, format!("a block of {length} bytes, where 12 to {most} in fours are allowed")));
    }
    if !window.fill(length)? {
        return Err(cut(window, "block"));
    }
    let bytes = &window.bytes()[..length];
    if number(bytes, length - 4, big_endian) as usize != length {
        return Err(garbage(window, format!("a block of {length} bytes that ends with another length")));
    }
    let step = if section {
        parse_sectionheaderblock(bytes).map(|_| {
            sections.interfaces.clear();
            Step::Other
        })
    } else {
        let parse = if big_endian { parse_block_be } else { parse_block_le };
        parse(bytes).map(|(_, block)| match block {
            Block::InterfaceDescription(block) if sections.interfaces.len() < MOST_INTERFACES => {
                sections.interfaces.push(Arc::new(described(&block, sections.described, big_endian)));
                sections.described = sections.described.saturating_add(1);
                Step::Other
            }
            Block::EnhancedPacket(packet) => match sections.interfaces.get(packet.if_id as usize) {
                Some(interface) => Step::Frame(enhanced(&packet, bytes, interface, big_endian)),
                None => Step::End,
            },
            Block::SimplePacket(_) => {
                sections.timeless += 1;
                Step::Other
            }
            _ => Step::Other,
        })
    };
    match step {
        Ok(Step::End) => Err(garbage(window, "a packet of an interface that was not described".to_owned())),
        Ok(step) => {
            window.advance(length);
            Ok(step)
        }
        Err(_) => Err(garbage(window, "a block whose fields do not fit its length".to_owned())),
    }
}

fn described(block: &InterfaceDescriptionBlock<'_>, serial: u32, big_endian: bool) -> FileInterface {
    let offset = block.options.iter().find(|option| option.code == OptionCode::IfTsoffset);
    let offset = offset.and_then(|option| option.as_bytes().ok()).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    FileInterface {
        serial,
        name: block.if_name().and_then(Result::ok).map(|name| name.trim_end_matches('\0').to_owned()),
        link: block.linktype.0,
        units: units(block.if_tsresol),
        offset: offset
            .map_or(0, |bytes| if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }),
    }
}

/// Time units per second by `if_tsresol`: a power of ten, or with its highest bit set of two. What no clock
/// has is taken for the usual microseconds. (The crate has no answer for powers of two.)
fn units(resolution: u8) -> u64 {
    let power = u32::from(resolution & 0x7f);
    let units = if resolution & 0x80 == 0 { 10_u64.checked_pow(power) } else { 1_u64.checked_shl(power) };
    units.unwrap_or(1_000_000)
}

/// An enhanced packet, whose block ends where the window will stand.
fn enhanced(packet: &EnhancedPacketBlock<'_>, block: &[u8], interface: &Arc<FileInterface>, big_endian: bool) -> Frame {
    let data = packet.packet_data();
    let start = data.as_ptr().addr() - block.as_ptr().addr();
    let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
    let nanos = u128::from(units) * NANOS / u128::from(interface.units);
    let nanos = i128::try_from(nanos).unwrap_or(i128::MAX) + i128::from(interface.offset) * NANOS as i128;
    let flags = packet.options.iter().find(|option| option.code == OptionCode(2));
    let flags = flags.and_then(|option| option.as_bytes().ok()).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let flags = flags.map_or(0, |bytes| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) });
    Frame {
        time: u64::try_from(nanos.max(0)).unwrap_or(u64::MAX),
        interface: interface.clone(),
        // draft-ietf-opsawg-pcapng, 4.3.1: the two lowest bits of epb_flags.
        direction: match flags & 3 {
            1 => Some(Direction::Ingress),
            2 => Some(Direction::Egress),
            _ => None,
        },
        length: packet.origlen.max(data.len() as u32),
        behind: (block.len() - start, data.len()),
    }
}

/// Four bytes as a number, 0 where there are fewer.
fn number(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let range: Range<usize> = at..at + 4;
    let Some(bytes) = bytes.get(range).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else { return 0 };
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
