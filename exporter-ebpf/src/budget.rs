//! How many records of a kind a CPU may write in a second or so, so that what may come in any number
//! keeps room for the rest.

use core::ptr::{read_volatile, write_volatile};

use crate::maps::BUDGETS;

/// Dropped segments of the node's own attempts.
pub const OWN_DROPS: u32 = 0;
/// Dropped segments of attempts from outside.
pub const INBOUND_DROPS: u32 = 1;
/// SYNs from outside, and SYN-ACKs that belong to nothing.
pub const INBOUND_SYNS: u32 = 2;
/// How many budgets there are.
pub const COUNT: u32 = 3;

/// Drops come one for each SYN that is dropped, or for none: a thousand a second is a fault that is told.
pub const MOST_DROPS: u64 = 1_000;

/// A connection that is accepted gives back what its SYN took, so this bounds those that come to nothing,
/// and a server is not bounded however busy it is. The rest is work for the agent that a flood may make:
/// few enough that it keeps up, and far more than a fault needs to be told. Where no socket on the node
/// accepts (one that only forwards) it is 4,096 connections a second and CPU.
pub const MOST_INBOUND_SYNS: u64 = 8_192;

/// Records of a SYN that comes from outside to a pod: at the node's interface and at the pod's.
pub const SYNS_OF_A_CONNECTION: u64 = 2;

const COUNT_MASK: u64 = 0xffff_ffff;

/// Takes one of a budget; false if none is left.
#[inline(always)]
pub fn take(budget: u32, most: u64, time_ns: u64) -> bool {
    let Some(slot) = BUDGETS.get_ptr_mut(budget) else { return false };
    let window = time_ns >> 30 << 32;
    // SAFETY: the verifier has checked the pointer, and the slot belongs to this CPU. Programs that
    // interrupt each other may miscount by one.
    unsafe {
        let value = read_volatile(slot);
        let spent = if value & !COUNT_MASK == window { value & COUNT_MASK } else { 0 };
        if spent >= most {
            return false;
        }
        write_volatile(slot, window | (spent + 1));
    }
    true
}

/// Gives back to a budget what proved to be in order.
#[inline(always)]
pub fn refund(budget: u32, records: u64) {
    let Some(slot) = BUDGETS.get_ptr_mut(budget) else { return };
    // SAFETY: as in `take`.
    unsafe {
        let value = read_volatile(slot);
        let spent = value & COUNT_MASK;
        write_volatile(slot, value - if spent < records { spent } else { records });
    }
}
