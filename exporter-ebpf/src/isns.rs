//! Initial sequence numbers of late, and whose they are: what a dropped segment, an ICMP error or a late
//! answer is known by where the table of pending SYNs does not serve, since that is by interface.
//!
//! An array by a keyed hash of the number: of each side as in `pending`, but with two words a slot, the latest entry and
//! the one before. So of attempts that share a slot by chance two may be on their way through the node at a time, and
//! three within some microseconds are too rare to be seen. Nothing is taken out: an entry is pushed out, or too old.
//!
//! bits 63..20: tag; 19..4: when it was noted, in units of 2^30 ns; 3..0: [`TOLD`] or [`SUMMED`].

use core::ptr::{read_volatile, write_volatile};

use crate::maps::{HASH_SEED, ISN_BITS, ISNS, Side};
use crate::pending::mix;

const TAG_SHIFT: u32 = 20;
const TIME_SHIFT: u32 = 4;
const TIME_MASK: u64 = 0xffff;
const STATE_MASK: u64 = 0xf;

const TOLD: u64 = 1;
const SUMMED: u64 = 2;

/// The place of the first word of attempts from outside.
const INBOUND: usize = 2;

/// For how long an entry serves, in units of 2^30 ns: beyond the kernel's own patience.
const PATIENCE: u64 = 130;

/// What is known of an initial sequence number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Unknown,
    /// Of an attempt of this node's own.
    Own,
    /// Of an attempt from outside that is reported.
    Told,
    /// Of an attempt from outside that was only counted.
    Summed,
}

/// What is known of an initial sequence number.
#[inline(always)]
pub fn mark(isn: u32, time_ns: u64) -> Mark {
    let hash = hash(isn);
    let Some(slot) = slot(hash) else { return Mark::Unknown };
    // SAFETY: the verifier has checked the pointer, which is to four words; other CPUs may write them,
    // each whole.
    let word = |at| unsafe { read_volatile(slot.add(at)) };
    if holds(word(0), hash, time_ns) || holds(word(1), hash, time_ns) {
        return Mark::Own;
    }
    let mut inbound = word(INBOUND);
    if !holds(inbound, hash, time_ns) {
        inbound = word(INBOUND + 1);
        if !holds(inbound, hash, time_ns) {
            return Mark::Unknown;
        }
    }
    if inbound & STATE_MASK == TOLD { Mark::Told } else { Mark::Summed }
}

/// Notes whose an initial sequence number is.
#[inline(always)]
pub fn note(isn: u32, mark: Mark, time_ns: u64) {
    let hash = hash(isn);
    let Some(slot) = slot(hash) else { return };
    let value = hash << TAG_SHIFT | ((time_ns >> 30) & TIME_MASK) << TIME_SHIFT;
    let (at, state) = match mark {
        Mark::Unknown => return,
        Mark::Own => (0, TOLD),
        Mark::Told => (INBOUND, TOLD),
        Mark::Summed => (INBOUND, SUMMED),
    };
    // SAFETY: as in `mark`. Of two CPUs that write at once one wins.
    unsafe {
        let word = slot.add(at);
        let latest = read_volatile(word);
        if (latest ^ value) >> TAG_SHIFT != 0 {
            write_volatile(word.add(1), latest);
        }
        write_volatile(word, value | state);
    }
}

/// Whether a word is of this hash, and not too old.
#[inline(always)]
fn holds(word: u64, hash: u64, time_ns: u64) -> bool {
    let age = (time_ns >> 30).wrapping_sub(word >> TIME_SHIFT) & TIME_MASK;
    word & STATE_MASK != 0 && (word ^ hash << TAG_SHIFT) >> TAG_SHIFT == 0 && age <= PATIENCE
}

#[inline(always)]
fn hash(isn: u32) -> u64 {
    mix(HASH_SEED.load(), u64::from(isn))
}

/// The slot of a hash: its highest bits.
#[inline(always)]
fn slot(hash: u64) -> Option<*mut u64> {
    ISNS.get_ptr_mut((hash >> (64 - ISN_BITS)) as u32).map(<*mut [u64; 4]>::cast)
}

impl Mark {
    /// Whose attempt it is; none if it is not known, or only counted.
    #[inline(always)]
    pub fn side(self) -> Option<Side> {
        match self {
            Self::Own => Some(Side::Own),
            Self::Told => Some(Side::Inbound),
            Self::Unknown | Self::Summed => None,
        }
    }
}
