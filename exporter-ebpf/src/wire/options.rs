//! The TCP options of a segment that is reported (RFC 9293 3.2, RFC 7323).

use aya_ebpf::bindings::__sk_buff;
use core::ptr::{read_volatile, write_volatile};
use synspan_ebpf::record::{OPTION_CUT, OPTION_TIMESTAMP, OPTION_WSCALE, counter};

use super::headers::Place;
use super::load;
use crate::context::below64;
use crate::maps::{OPTIONS, count};

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WSCALE: u8 = 3;
const TIMESTAMP: u8 = 8;

/// Most options looked at; a segment with more is marked as cut.
const MOST: u32 = 16;

/// What the options say.
#[derive(Clone, Copy)]
pub struct Read {
    /// Bits of `OPTION_*`.
    pub bits: u8,
    pub wscale: u8,
    pub mss: u16,
    pub tsval: u32,
    pub tsecr: u32,
}

/// Reads the options of the segment whose TCP header is at `transport` and is `header_bytes` long.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
pub unsafe fn read(skb: *mut __sk_buff, place: Place, transport: u32, header_bytes: u32) -> Read {
    let mut read = Read { bits: OPTION_CUT, wscale: 0, mss: 0, tsval: 0, tsecr: 0 };
    if header_bytes <= 20 {
        if header_bytes == 20 {
            read.bits = 0;
        }
        return read;
    }
    // The verifier wants to see the length and every index below 64; the compiler knows, and would drop the masks.
    let len = (below64(header_bytes - 21) + 1) as u32;
    let Some(room) = OPTIONS.get_ptr_mut(0) else { return read };
    // SAFETY: the room is this CPU's own, this program is not interrupted by another of its kind, and
    // no index reaches 64.
    unsafe {
        let room = room.cast::<u8>();
        if load(skb, place, transport + 20, room, len) != 0 {
            count(counter::UNREADABLE);
            return read;
        }
        let words = room.cast::<u32>();
        let aligned = |index: usize| u32::from_be(words.add(index).read());
        // What Linux sends: timestamps alone, and in a SYN after the sizes and before the scale.
        if len == 12 && aligned(0) == 0x0101_080a {
            (read.bits, read.tsval, read.tsecr) = (OPTION_TIMESTAMP, aligned(1), aligned(2));
            return read;
        }
        if len == 20 && aligned(0) >> 16 == 0x0204 && aligned(1) == 0x0402_080a && aligned(4) >> 8 == 0x01_0303 {
            (read.bits, read.tsval, read.tsecr) = (OPTION_TIMESTAMP | OPTION_WSCALE, aligned(2), aligned(3));
            (read.mss, read.wscale) = (aligned(0) as u16, aligned(4) as u8);
            return read;
        }
        let byte = |at: u32| *room.add(below64(at) as usize);
        let word = |at: u32| u32::from_be_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
        // Kept in the map between two options, so that the verifier knows nothing of it and takes all
        // ways through the loop for the same one; it would else follow each of them to the end.
        let cursor = room.add(64).cast::<u64>();
        write_volatile(cursor, 0);
        for _ in 0..MOST {
            let at = read_volatile(cursor) as u32;
            if at >= len {
                read.bits &= !OPTION_CUT;
                break;
            }
            let kind = byte(at);
            if kind == END {
                read.bits &= !OPTION_CUT;
                break;
            }
            if kind == NOP {
                write_volatile(cursor, u64::from(at + 1));
                continue;
            }
            let size = u32::from(byte(at + 1));
            if size < 2 || at + size > len {
                break;
            }
            if kind == TIMESTAMP && size == 10 {
                read.tsval = word(at + 2);
                read.tsecr = word(at + 6);
                read.bits |= OPTION_TIMESTAMP;
            } else if kind == MSS && size == 4 {
                read.mss = u16::from_be_bytes([byte(at + 2), byte(at + 3)]);
            } else if kind == WSCALE && size == 3 {
                read.wscale = byte(at + 2);
                read.bits |= OPTION_WSCALE;
            }
            write_volatile(cursor, u64::from(at + size));
        }
        read
    }
}
