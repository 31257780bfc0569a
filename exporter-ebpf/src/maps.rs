//! The maps and constants that the programs share, and the ways into the ring buffers.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::ring_buf::{RingBuf, RingBufEntry};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use synspan_ebpf::record::{Header, InboundSum, counter};

/// Whose attempt something belongs to; also the place of its word in a slot of [`PENDING`], of its two in one of [`ISNS`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Side {
    /// This node's own: its sockets and its pods asked for the connection.
    Own = 0,
    /// From outside. What is told of these has a ring, words and budgets of its own, so that a flood of
    /// them takes nothing from the node's own.
    Inbound = 1,
}

/// All records, of all programs, but those of [`RECORDS_IN`]. User space sets the size.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Records of segments of attempts from outside. User space sets the size.
#[map]
static RECORDS_IN: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// What was counted, by [`counter`]'s indexes.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);

/// Slots of [`PENDING`]; a power of two.
pub const PENDING_SLOTS: u32 = 1 << PENDING_BITS;
/// Bits of a slot's number.
pub const PENDING_BITS: u32 = 14;

/// SYNs that wait for an answer, directly mapped by a hash of interface and tuple (see `pending`): one
/// word for each [`Side`].
#[map]
pub static PENDING: Array<[u64; 2]> = Array::with_max_entries(PENDING_SLOTS, 0);

/// Slots of [`ISNS`]; a power of two.
pub const ISN_SLOTS: u32 = 1 << ISN_BITS;
/// Bits of a slot's number. Each SYN notes its own again, so an entry need last no longer than until the
/// answer comes.
pub const ISN_BITS: u32 = 13;

/// Initial sequence numbers of late, by a hash (see `isns`): two words for each [`Side`].
#[map]
pub static ISNS: Array<[u64; 4]> = Array::with_max_entries(ISN_SLOTS, 0);

/// The kinds (`POINT_*`) of the interfaces that are watched, by index. User space writes it.
#[map]
pub static KINDS: HashMap<u32, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// What was spent of each budget (see `budget`).
#[map]
pub static BUDGETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(crate::budget::COUNT, 0);

/// Slots of [`SUMS`]; a power of two.
pub const SUM_SLOTS: u32 = 256;

/// SYNs from outside that are only counted, by listener (see `sums`).
#[map]
pub static SUMS: PerCpuArray<InboundSum> = PerCpuArray::with_max_entries(SUM_SLOTS, 0);

/// Slots of [`CALLS`]; a power of two.
pub const CALL_SLOTS: u32 = 4096;

/// Threads that are within connect(), directly mapped by thread id: the id, 0 if none. Written while
/// [`WATCHING`] says so.
#[map]
pub static CALLS: Array<u32> = Array::with_max_entries(CALL_SLOTS, 0);

/// One word, not 0 while the results of connect() are watched. User space writes it.
#[map]
pub static WATCHING: Array<u32> = Array::with_max_entries(1, 0);

/// Room for a segment's TCP options, and for how far they have been read: reading the stack at a variable offset needs kernel 5.12.
#[map]
pub static OPTIONS: PerCpuArray<[u64; 9]> = PerCpuArray::with_max_entries(1, 0);

/// Half the ring buffer's size in bytes; beyond it the reader is woken.
#[unsafe(no_mangle)]
static RING_HALF: Global<u64> = Global::new(4 << 20);

/// The same of the ring of what comes from outside.
#[unsafe(no_mangle)]
static RING_IN_HALF: Global<u64> = Global::new(1 << 20);

/// 1 where `sock_ops` may ask for the network namespace's cookie (kernel 5.15).
#[unsafe(no_mangle)]
pub static NETNS_COOKIE: Global<u32> = Global::new(0);

/// Secret of this run, so that nobody outside can aim at a slot of [`PENDING`].
#[unsafe(no_mangle)]
pub static HASH_SEED: Global<u64> = Global::new(0);

/// Past this fill, how many bytes of records still wake the reader. It polls by itself as well, so
/// waking it once per crossing is enough, and a wake-up costs a hundred times a record.
const WAKE_BAND: u64 = 4096;

/// Adds one to a counter.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(slot) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the verifier has checked the pointer, and the slot belongs to this CPU.
        unsafe { *slot = (*slot).wrapping_add(1) };
    }
}

/// The monotonic time in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// The head of a record of type `T` that happens at `time_ns`.
#[inline(always)]
pub fn header<T>(kind: u16, time_ns: u64) -> Header {
    Header { time_ns, kind, size: size_of::<T>() as u16, reserved: 0 }
}

/// Room for a record, or none and a count where the side's ring is full.
#[inline(always)]
pub fn reserve<T: 'static>(side: Side) -> Option<RingBufEntry<T>> {
    let (entry, lost) = match side {
        Side::Own => (RECORDS.reserve::<T>(0), counter::LOST_RING),
        Side::Inbound => (RECORDS_IN.reserve::<T>(0), counter::LOST_INBOUND),
    };
    if entry.is_none() {
        count(lost);
    }
    entry
}

/// Hands a record over, to the ring that it was reserved in. The reader polls; it is woken only when
/// that ring is half full.
#[inline(always)]
pub fn submit<T>(side: Side, entry: RingBufEntry<T>) {
    let (filled, half) = match side {
        Side::Own => (RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)), RING_HALF.load()),
        Side::Inbound => (RECORDS_IN.query(u64::from(BPF_RB_AVAIL_DATA)), RING_IN_HALF.load()),
    };
    let wake = filled.wrapping_sub(half) < WAKE_BAND;
    entry.submit(u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
}

/// Whether the ring of attempts from outside has room for one more of them. A quarter of it is for what follows those
/// that are told: while the reader is behind, a SYN that is only counted is known, and one whose record is lost is not.
#[inline(always)]
pub fn has_room_for_inbound() -> bool {
    let half = RING_IN_HALF.load();
    RECORDS_IN.query(u64::from(BPF_RB_AVAIL_DATA)) < half + half / 2
}

/// The v4-mapped form of an IPv4 address that is a word in network order.
#[inline(always)]
pub fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// The bytes of an address that is four words in network order.
#[inline(always)]
pub fn bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both are sixteen plain bytes.
    unsafe { core::mem::transmute(words) }
}
