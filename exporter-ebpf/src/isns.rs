//! Initial sequence numbers of late, and whose they are: what a dropped segment, an ICMP error or a late
//! answer is known by where the table of pending SYNs does not serve, since that is by interface.
//!
//! An array of two words a slot as in `pending`, directly mapped by a keyed hash of the number. Nothing is
//! taken out: an entry is overwritten, or too old.
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
    // SAFETY: the verifier has checked the pointer, which is to two words; other CPUs may write them,
    // each whole.
    let (own, inbound) = unsafe { (read_volatile(slot), read_volatile(slot.add(1))) };
    if holds(own, hash, time_ns) {
        Mark::Own
    } else if !holds(inbound, hash, time_ns) {
        Mark::Unknown
    } else if inbound & STATE_MASK == TOLD {
        Mark::Told
    } else {
        Mark::Summed
    }
}

/// Notes whose an initial sequence number is.
#[inline(always)]
pub fn note(isn: u32, mark: Mark, time_ns: u64) {
    let hash = hash(isn);
    let Some(slot) = slot(hash) else { return };
    let value = hash << TAG_SHIFT | ((time_ns >> 30) & TIME_MASK) << TIME_SHIFT;
    // SAFETY: as in `mark`. Of two CPUs that write at once one wins.
    unsafe {
        match mark {
            Mark::Unknown => (),
            Mark::Own => write_volatile(slot, value | TOLD),
            Mark::Told => write_volatile(slot.add(1), value | TOLD),
            Mark::Summed => write_volatile(slot.add(1), value | SUMMED),
        }
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
    ISNS.get_ptr_mut((hash >> (64 - ISN_BITS)) as u32).map(<*mut [u64; 2]>::cast)
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
