//! The table of SYNs that wait for an answer: an array of one word a slot, directly mapped.
//!
//! A slot's number and its tag are parts of one keyed hash of interface and tuple. The word is written
//! in one store, so a slot is never half written; two tuples with one tag (2^-44 for a given pair) cost
//! a needless record, no wrong one, since the tracker compares the tuples.
//!
//! bits 63..20: tag; 19..4: when the SYN was seen, in units of 2^30 ns; 3..0: answers reported so far.

use core::ptr::{read_volatile, write_volatile};
use synspan_ebpf::record::counter;

use crate::maps::{HASH_SEED, PENDING, PENDING_BITS, count};

const TAG_SHIFT: u32 = 20;
const TIME_SHIFT: u32 = 4;
const TIME_MASK: u64 = 0xffff;
const ANSWERS_MASK: u64 = 0xf;

/// A slot is given up after so many answers that are not the SYN-ACK. A SYN repeated late, seen after
/// its SYN-ACK, would else have every segment of the connection reported.
const MOST_ANSWERS: u64 = 8;

/// For how long a SYN is worth waiting for, in units of 2^30 ns: beyond the kernel's own patience.
const PATIENCE: u64 = 130;

/// Whether a segment with this key answers a pending SYN.
#[inline(always)]
pub fn is_awaited(key: u64) -> bool {
    match slot(key) {
        // SAFETY: the verifier has checked the pointer; other CPUs may write the word, whole.
        Some(slot) => holds(unsafe { read_volatile(slot) }, key),
        None => false,
    }
}

/// Notes that a segment with this key answers a pending SYN; false if it answers none. A `last` answer
/// empties the slot.
#[inline(always)]
pub fn answer(key: u64, last: bool) -> bool {
    let Some(slot) = slot(key) else { return false };
    // SAFETY: as in `is_awaited`. Of two CPUs that write at once one wins, and a count may be short by one.
    unsafe {
        let value = read_volatile(slot);
        if !holds(value, key) {
            return false;
        }
        write_volatile(slot, if last || value & ANSWERS_MASK >= MOST_ANSWERS { 0 } else { value + 1 });
    }
    true
}

/// Notes that an answer with this key is awaited, from now on.
#[inline(always)]
pub fn expect(key: u64, time_ns: u64) {
    let Some(slot) = slot(key) else { return };
    let time = (time_ns >> 30) & TIME_MASK;
    // SAFETY: as in `answer`.
    unsafe {
        let before = read_volatile(slot);
        let age = time.wrapping_sub(before >> TIME_SHIFT) & TIME_MASK;
        if before != 0 && !holds(before, key) && age <= PATIENCE {
            count(counter::PENDING_OVERWRITTEN);
        }
        write_volatile(slot, tag(key) | time << TIME_SHIFT);
    }
}

/// Whether a slot's value is of this key.
#[inline(always)]
fn holds(value: u64, key: u64) -> bool {
    value != 0 && (value ^ tag(key)) >> TAG_SHIFT == 0
}

/// The slot of a hash: its highest bits.
#[inline(always)]
fn slot(hash: u64) -> Option<*mut u64> {
    PENDING.get_ptr_mut((hash >> (64 - PENDING_BITS)) as u32)
}

/// The tag of a hash: its lowest bits, none of which are in the slot's number.
#[inline(always)]
fn tag(hash: u64) -> u64 {
    hash << TAG_SHIFT
}

/// Two words as one.
#[inline(always)]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The key of an IPv4 segment at an interface; addresses and ports in network order.
#[inline(always)]
pub fn v4(source: u32, destination: u32, ports: u32, ifindex: u32) -> u64 {
    mix(mix(HASH_SEED.load(), pair(source, destination)), pair(ports, ifindex))
}

/// The key of an IPv6 segment at an interface; addresses and ports in network order.
#[inline(always)]
pub fn v6(source: &[u32; 4], destination: &[u32; 4], ports: u32, ifindex: u32) -> u64 {
    let hash = mix(mix(HASH_SEED.load(), pair(source[0], source[1])), pair(source[2], source[3]));
    let hash = mix(mix(hash, pair(destination[0], destination[1])), pair(destination[2], destination[3]));
    mix(hash, pair(ports, ifindex))
}

/// One round: an odd multiplier spreads upwards, the fold brings it down again.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
