//! Records of the ring buffer as observations. Pure: bytes in, an observation or a reason out.

use std::mem::size_of;
use std::sync::Arc;

use synspan_ebpf::record::{
    CallRecord, DroppedRecord, EGRESS, ErrorRecord, Header, INGRESS, IcmpRecord, KIND_CALL, KIND_DROP, KIND_ERROR,
    KIND_ICMP, KIND_PROCESS, KIND_SEGMENT, KIND_SOCKET, NO_REASON, OPTION_TIMESTAMP, OPTION_WSCALE, ProcessRecord,
    STEP_ACTIVE_ESTABLISHED, STEP_CONNECT, STEP_PASSIVE_ESTABLISHED, STEP_RTO, STEP_STATE, SegmentRecord, SocketRecord,
};

use crate::capture::observation::{
    CallFailed, Direction, Dropped, Flags, IcmpError, Mono, Observation, Process, ProcessStep, Segment, SocketError,
    SocketNumbers, SocketStep, Step, TcpState, Timestamps, What,
};
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// Largest error number that the kernel gives (`MAX_ERRNO`, include/linux/err.h).
const MAX_ERRNO: u32 = 4095;

/// Why a record is none. It takes a bug or a program of another version to get one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than any record, or not of its kind's size.
    #[error("a record of kind {kind} has {found} bytes where {expected} are due")]
    Size {
        /// Its kind, 0 if it is too short to have one.
        kind: u16,
        /// Its bytes.
        found: usize,
        /// The bytes it should have.
        expected: usize,
    },
    /// A kind that is not known.
    #[error("a record of unknown kind {0}")]
    Kind(u16),
    /// A field with a value outside its closed list.
    #[error("a record's {field} is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// Gives names to what the kernel tells by number.
pub trait Names {
    /// Why a packet was dropped: the name in `enum skb_drop_reason` without its prefix.
    fn reason(&mut self, number: u32) -> Option<Arc<str>>;
    /// Where: the function that an address in the kernel is in.
    fn place(&mut self, address: u64) -> Option<Arc<str>>;
}

/// Knows no names.
struct Nameless;

impl Names for Nameless {
    fn reason(&mut self, _: u32) -> Option<Arc<str>> {
        None
    }

    fn place(&mut self, _: u64) -> Option<Arc<str>> {
        None
    }
}

/// Record types: nothing but integers and arrays of them, so any bytes of the right number are one.
///
/// # Safety
///
/// The type must be `repr(C)`, without padding, and valid for any bytes.
unsafe trait Record: Copy {
    /// Its kind.
    const KIND: u16;
}

// SAFETY: integers and arrays of them; the sizes asserted beside it leave no room for padding.
unsafe impl Record for ProcessRecord {
    const KIND: u16 = KIND_PROCESS;
}
// SAFETY: as above.
unsafe impl Record for SocketRecord {
    const KIND: u16 = KIND_SOCKET;
}
// SAFETY: as above.
unsafe impl Record for SegmentRecord {
    const KIND: u16 = KIND_SEGMENT;
}
// SAFETY: as above.
unsafe impl Record for ErrorRecord {
    const KIND: u16 = KIND_ERROR;
}

// SAFETY: as above.
unsafe impl Record for DroppedRecord {
    const KIND: u16 = KIND_DROP;
}
// SAFETY: as above.
unsafe impl Record for CallRecord {
    const KIND: u16 = KIND_CALL;
}
// SAFETY: as above.
unsafe impl Record for IcmpRecord {
    const KIND: u16 = KIND_ICMP;
}

/// Reads one record, with no names for what the kernel tells by number.
///
/// # Errors
///
/// [`DecodeError`] for anything that the programs do not write.
pub fn decode(bytes: &[u8]) -> Result<Observation, DecodeError> {
    decode_named(bytes, &mut Nameless)
}

/// Reads one record.
///
/// # Errors
///
/// [`DecodeError`] for anything that the programs do not write.
pub fn decode_named(bytes: &[u8], names: &mut impl Names) -> Result<Observation, DecodeError> {
    let kind = match (bytes.get(8..10), bytes.len() >= size_of::<Header>()) {
        (Some(&[a, b]), true) => u16::from_ne_bytes([a, b]),
        _ => return Err(DecodeError::Size { kind: 0, found: bytes.len(), expected: size_of::<Header>() }),
    };
    let (header, what) = match kind {
        KIND_PROCESS => {
            let record: ProcessRecord = read(bytes)?;
            (record.header, What::Process(process(&record)))
        }
        KIND_SOCKET => {
            let record: SocketRecord = read(bytes)?;
            (record.header, What::Socket(socket(&record)?))
        }
        KIND_SEGMENT => {
            let record: SegmentRecord = read(bytes)?;
            (record.header, What::Segment(segment(&record)?))
        }
        KIND_ERROR => {
            let record: ErrorRecord = read(bytes)?;
            (record.header, What::Error(error(&record)?))
        }
        KIND_DROP => {
            let record: DroppedRecord = read(bytes)?;
            (record.header, What::Dropped(dropped(&record, names)))
        }
        KIND_CALL => {
            let record: CallRecord = read(bytes)?;
            let errno = errno(record.errno)?;
            (record.header, What::CallFailed(CallFailed { pid: record.pid, tid: record.tid, errno }))
        }
        KIND_ICMP => {
            let record: IcmpRecord = read(bytes)?;
            (record.header, What::Icmp(icmp(&record)?))
        }
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Observation { time: Mono(header.time_ns), what })
}

fn read<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    let expected = size_of::<T>();
    let said = match bytes.get(10..12) {
        Some(&[a, b]) => usize::from(u16::from_ne_bytes([a, b])),
        _ => 0,
    };
    if bytes.len() != expected || said != expected {
        let found = if bytes.len() == expected { said } else { bytes.len() };
        return Err(DecodeError::Size { kind: T::KIND, found, expected });
    }
    // SAFETY: there are as many bytes as the type has, and any bytes are valid for it; its alignment
    // is not needed.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn process(record: &ProcessRecord) -> ProcessStep {
    // Older kernels (seen on 6.1) leave what was in memory behind the name's end.
    let mut comm = record.comm;
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    comm[end..].fill(0);
    ProcessStep {
        cookie: record.cookie,
        netns: record.netns_cookie,
        process: Process { cgroup: record.cgroup_id, pid: record.pid, tid: record.tid, comm },
        asked: Endpoint { addr: Addr(record.address), port: record.port },
        bound_port: record.bound_port,
    }
}

fn socket(record: &SocketRecord) -> Result<SocketStep, DecodeError> {
    let step = match record.step {
        STEP_CONNECT => Step::Connect,
        STEP_ACTIVE_ESTABLISHED => Step::ActiveEstablished,
        STEP_PASSIVE_ESTABLISHED => Step::PassiveEstablished,
        STEP_RTO => Step::Rto { gave_up: record.args[2] != 0 },
        STEP_STATE => {
            Step::State { from: state("old state", record.state_old)?, to: state("new state", record.state_new)? }
        }
        other => return Err(DecodeError::Value { field: "step", value: other.into() }),
    };
    Ok(SocketStep {
        cookie: record.cookie,
        netns: record.netns_cookie,
        tuple: Tuple {
            src: Endpoint { addr: Addr(record.local_address), port: record.local_port },
            dst: Endpoint { addr: Addr(record.remote_address), port: record.remote_port },
        },
        step,
        numbers: SocketNumbers {
            snd_nxt: record.snd_nxt,
            snd_una: record.snd_una,
            rcv_nxt: record.rcv_nxt,
            srtt_us: record.srtt_us,
            total_retrans: record.total_retrans,
            segs_in: record.segs_in,
            segs_out: record.segs_out,
            bytes_acked: record.bytes_acked,
            bytes_received: record.bytes_received,
        },
    })
}

fn state(field: &'static str, value: u8) -> Result<TcpState, DecodeError> {
    TcpState::of_number(value).ok_or(DecodeError::Value { field, value: value.into() })
}

fn segment(record: &SegmentRecord) -> Result<Segment, DecodeError> {
    Ok(Segment {
        ifindex: record.ifindex,
        direction: direction(record.direction)?,
        tuple: Tuple {
            src: Endpoint { addr: Addr(record.source_address), port: record.source_port },
            dst: Endpoint { addr: Addr(record.destination_address), port: record.destination_port },
        },
        flags: Flags(record.flags),
        seq: record.seq,
        ack: record.ack,
        timestamps: (record.options & OPTION_TIMESTAMP != 0)
            .then_some(Timestamps { val: record.tsval, ecr: record.tsecr }),
        payload: record.payload,
        window: record.window,
        mss: record.mss,
        wscale: (record.options & OPTION_WSCALE != 0).then_some(record.wscale),
        ttl: record.ttl,
        cookie: (record.cookie != 0).then_some(record.cookie),
    })
}

fn direction(value: u8) -> Result<Direction, DecodeError> {
    match value {
        INGRESS => Ok(Direction::Ingress),
        EGRESS => Ok(Direction::Egress),
        other => Err(DecodeError::Value { field: "direction", value: other.into() }),
    }
}

fn error(record: &ErrorRecord) -> Result<SocketError, DecodeError> {
    let errno = if record.errno == 0 { 0 } else { errno(record.errno)? };
    Ok(SocketError { cookie: record.cookie, errno })
}

fn errno(value: u32) -> Result<i32, DecodeError> {
    match i32::try_from(value) {
        Ok(errno) if value != 0 && value <= MAX_ERRNO => Ok(errno),
        _ => Err(DecodeError::Value { field: "errno", value }),
    }
}

fn dropped(record: &DroppedRecord, names: &mut impl Names) -> Dropped {
    Dropped {
        netns: record.netns_cookie,
        ifindex: record.ifindex,
        tuple: Tuple {
            src: Endpoint { addr: Addr(record.source_address), port: record.source_port },
            dst: Endpoint { addr: Addr(record.destination_address), port: record.destination_port },
        },
        flags: Flags(record.flags),
        seq: record.seq,
        ack: record.ack,
        reason: if record.reason == NO_REASON { None } else { names.reason(record.reason) },
        place: names.place(record.location),
    }
}

fn icmp(record: &IcmpRecord) -> Result<IcmpError, DecodeError> {
    Ok(IcmpError {
        ifindex: record.ifindex,
        direction: direction(record.direction)?,
        from: Addr(record.from_address),
        tuple: Tuple {
            src: Endpoint { addr: Addr(record.source_address), port: record.source_port },
            dst: Endpoint { addr: Addr(record.destination_address), port: record.destination_port },
        },
        seq: record.seq,
        kind: record.icmp_type,
        code: record.code,
    })
}

#[cfg(test)]
mod tests;
