//! A window on a file: bounded memory, and always the byte at which it stands.

use std::io::{self, ErrorKind, Read};

/// What one read asks for: large enough to cost nothing, small enough to stay in the processor's cache.
const BUFFER: usize = 256 << 10;
/// The longest record or block that is taken for one; Wireshark's limit for a block is the same.
pub const LONGEST: usize = 16 << 20;

/// The part of a file that is in memory.
pub struct Window<R> {
    file: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where `start` is in the file.
    offset: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    /// A window at the beginning of a file.
    pub fn new(file: R) -> Self {
        Self { file, buffer: vec![0; BUFFER], start: 0, end: 0, offset: 0, ended: false }
    }

    /// What is in memory, from where the window stands.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The byte of the file at which the window stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the file that were read so far.
    pub fn read_to(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// Reads until `count` bytes are in memory; false if the file has fewer. `count` is at most [`LONGEST`].
    ///
    /// # Errors
    /// What reading gave.
    pub fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count {
            if self.ended {
                return Ok(false);
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.buffer.len() < count {
                self.buffer.resize(count.min(LONGEST), 0);
            }
            match self.file.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves on by `count` bytes, at most to the end of what is in memory.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Some of the bytes behind the window, that were moved over last. `back` counts from where it stands.
    pub fn behind(&self, back: usize, count: usize) -> &[u8] {
        let from = self.start.saturating_sub(back);
        self.buffer.get(from..from + count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_where_it_stands_and_grows_only_for_what_is_long() {
        let file: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut window = Window::new(&file[..]);
        assert!(window.fill(10).unwrap());
        window.advance(7);
        assert_eq!((window.offset(), window.bytes()[0]), (7, 7));
        assert!(window.fill(500_000).unwrap());
        assert!(window.buffer.len() <= 500_000 && window.bytes()[0] == 7);
        window.advance(500_000);
        assert_eq!(window.behind(3, 3), &file[500_004..500_007]);
        assert!(!window.fill(600_000).unwrap());
        assert_eq!(window.read_to(), 1_000_000);
    }
}
