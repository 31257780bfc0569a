//! What can be wrong with a capture file.

use std::io;

/// Why a file gives no more packets. Offsets count bytes from its beginning.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It has no bytes.
    #[error("is empty: no capture was written to it")]
    Empty,
    /// It is something else.
    #[error("is no capture file: expected pcap or pcapng, {0}")]
    Foreign(&'static str),
    /// It ends in the middle of something.
    #[error(
        "ends in the middle of a {what} that starts at byte {offset} (the file has {length} bytes); what comes before was read"
    )]
    Cut {
        /// Of what.
        what: &'static str,
        /// Where that starts.
        offset: u64,
        /// Where the file ends.
        length: u64,
    },
    /// It holds something that can be no part of a capture.
    #[error("holds garbage at byte {offset}: {why}; what comes before was read")]
    Garbage {
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The link type is one that no TCP segment can be read from.
    #[error(
        "was captured with link type {0}, in which synspan finds no TCP: it reads Ethernet, raw IP, Linux cooked and loopback captures"
    )]
    LinkType(i32),
}

impl FileError {
    /// Whether the file itself is at fault, and not what was asked.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Garbage { .. } | Self::Foreign(_) | Self::Empty)
    }
}
