//! SYNs from outside that are only counted, by listener: a per-CPU array, directly mapped.
//!
//! User space reads the counts and never writes. A slot goes to another listener only when it has not
//! been added to for some seconds, in which user space has read it; until then the other is counted
//! without its name.

use synspan_ebpf::record::{InboundSum, counter};

use crate::maps::{HASH_SEED, SUM_SLOTS, SUMS, bytes, count};
use crate::pending::mix;

/// After so long, in units of 2^30 ns, a slot is free.
const IDLE: u32 = 5;

/// Counts a SYN to a listener; the address is v4-mapped or IPv6, in network order.
#[inline(always)]
pub fn add(address: &[u32; 4], port: u16, time_ns: u64) {
    count(counter::SUMMED);
    let high = u64::from(address[0]) << 32 | u64::from(address[1]);
    let low = u64::from(address[2]) << 32 | u64::from(address[3]);
    let hash = mix(mix(mix(HASH_SEED.load(), high), low), u64::from(port));
    let slot = (hash >> 32) as u32 & (SUM_SLOTS - 1);
    let Some(sum) = SUMS.get_ptr_mut(slot) else { return };
    let time = (time_ns >> 30) as u32;
    // SAFETY: the verifier has checked the pointer, and the slot belongs to this CPU.
    unsafe {
        let address = bytes(*address);
        if (*sum).port != u32::from(port) || !same(&raw const (*sum).address, &address) {
            if (*sum).port != 0 && time.wrapping_sub((*sum).last) < IDLE {
                count(counter::SUMMED_UNPLACED);
                return;
            }
            *sum = InboundSum { address, port: u32::from(port), last: time, syns: 0 };
        }
        (*sum).syns += 1;
        (*sum).last = time;
    }
}

/// Whether two addresses are the same, by halves: a comparison of arrays would be a call.
///
/// # Safety
///
/// `stored` can be read, and is aligned to eight.
#[inline(always)]
unsafe fn same(stored: *const [u8; 16], address: &[u8; 16]) -> bool {
    // SAFETY: as the caller promises; the other may lie anywhere.
    unsafe {
        let stored = stored.cast::<u64>();
        let address = core::ptr::from_ref(address).cast::<u64>();
        *stored == address.read_unaligned() && *stored.add(1) == address.add(1).read_unaligned()
    }
}
