//! The table of SYNs that wait for an answer: an array of two words a slot, directly mapped: one word
//! for the node's own attempts, one for those from outside, so that neither overwrites the other.
//!
//! A slot's number and its tag are parts of one keyed hash of interface and tuple. The word is written
//! in one store, so a slot is never half written; two tuples with one tag (2^-44 for a given pair) cost
//! a needless record, no wrong one, since the tracker compares the tuples.
//!
//! bits 63..20: tag; 19..4: when the SYN was seen, in units of 2^30 ns; 3..0: answers reported so far.

use core::ptr::{read_volatile, write_volatile};
use synspan_ebpf::record::counter;

use crate::maps::{HASH_SEED, PENDING, PENDING_BITS, Side, count};

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
    side(key).is_some()
}

/// Whose pending SYN a segment with this key answers, none if it answers none.
#[inline(always)]
pub fn side(key: u64) -> Option<Side> {
    let slot = slot(key)?;
    // SAFETY: the verifier has checked the pointer, which is to two words; other CPUs may write them,
    // each whole.
    unsafe {
        if holds(read_volatile(slot), key) {
            Some(Side::Own)
        } else if holds(read_volatile(slot.add(1)), key) {
            Some(Side::Inbound)
        } else {
            None
        }
    }
}

/// Notes that a segment with this key answers a pending SYN, and says whose; none if it answers none. A
/// `last` answer empties the slot.
#[inline(always)]
pub fn answer(key: u64, last: bool) -> Option<Side> {
    let slot = slot(key)?;
    // SAFETY: as in `side`. Of two CPUs that write at once one wins, and a count may be short by one.
    unsafe {
        if answered(slot, key, last) {
            Some(Side::Own)
        } else if answered(slot.add(1), key, last) {
            Some(Side::Inbound)
        } else {
            None
        }
    }
}

/// Notes an answer in one word; false if it is not of this key.
///
/// # Safety
///
/// `word` is a word of a slot.
#[inline(always)]
unsafe fn answered(word: *mut u64, key: u64, last: bool) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let value = read_volatile(word);
        if !holds(value, key) {
            return false;
        }
        write_volatile(word, if last || value & ANSWERS_MASK >= MOST_ANSWERS { 0 } else { value + 1 });
    }
    true
}

/// Notes that an answer with this key is awaited, from now on.
#[inline(always)]
pub fn expect(side: Side, key: u64, time_ns: u64) {
    note(side, key, time_ns, 0);
}

/// Notes that one segment with this key is awaited, from now on.
#[inline(always)]
pub fn expect_once(side: Side, key: u64, time_ns: u64) {
    note(side, key, time_ns, MOST_ANSWERS);
}

#[inline(always)]
fn note(side: Side, key: u64, time_ns: u64, answers: u64) {
    let Some(slot) = slot(key) else { return };
    let time = (time_ns >> 30) & TIME_MASK;
    // SAFETY: as in `answer`.
    unsafe {
        let word = if side == Side::Own { slot } else { slot.add(1) };
        let before = read_volatile(word);
        let age = time.wrapping_sub(before >> TIME_SHIFT) & TIME_MASK;
        if side == Side::Own && before != 0 && !holds(before, key) && age <= PATIENCE {
            count(counter::PENDING_OVERWRITTEN);
        }
        write_volatile(word, tag(key) | time << TIME_SHIFT | answers);
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
    PENDING.get_ptr_mut((hash >> (64 - PENDING_BITS)) as u32).map(<*mut [u64; 2]>::cast)
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

/// The key of a segment at an interface; IPv4 addresses are v4-mapped.
#[inline(always)]
pub fn key(source: &[u32; 4], destination: &[u32; 4], ports: u32, ifindex: u32) -> u64 {
    if source[0] == 0 && source[1] == 0 && source[2] == 0xffff_u32.to_be() {
        v4(source[3], destination[3], ports, ifindex)
    } else {
        v6(source, destination, ports, ifindex)
    }
}

/// One round: an odd multiplier spreads upwards, the fold brings it down again.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
