//! Records of the ring buffer as observations. Pure: bytes in, an observation or a reason out.

use std::mem::size_of;

use synspan_ebpf::record::{
    EGRESS, ErrorRecord, Header, INGRESS, KIND_ERROR, KIND_PROCESS, KIND_SEGMENT, KIND_SOCKET, OPTION_TIMESTAMP,
    OPTION_WSCALE, ProcessRecord, STEP_ACTIVE_ESTABLISHED, STEP_CONNECT, STEP_PASSIVE_ESTABLISHED, STEP_RTO,
    STEP_STATE, SegmentRecord, SocketRecord,
};

use crate::capture::observation::{
    Direction, Flags, Mono, Observation, Process, ProcessStep, Segment, SocketError, SocketNumbers, SocketStep, Step,
    TcpState, Timestamps, What,
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

/// Reads one record.
///
/// # Errors
///
/// [`DecodeError`] for anything that the programs do not write.
pub fn decode(bytes: &[u8]) -> Result<Observation, DecodeError> {
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
    Ok(match value {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        other => return Err(DecodeError::Value { field, value: other.into() }),
    })
}

fn segment(record: &SegmentRecord) -> Result<Segment, DecodeError> {
    let direction = match record.direction {
        INGRESS => Direction::Ingress,
        EGRESS => Direction::Egress,
        other => return Err(DecodeError::Value { field: "direction", value: other.into() }),
    };
    Ok(Segment {
        ifindex: record.ifindex,
        direction,
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

fn error(record: &ErrorRecord) -> Result<SocketError, DecodeError> {
    match i32::try_from(record.errno) {
        Ok(errno) if record.errno != 0 && record.errno <= MAX_ERRNO => Ok(SocketError { cookie: record.cookie, errno }),
        _ => Err(DecodeError::Value { field: "errno", value: record.errno }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of<T: Record>(record: &T) -> Vec<u8> {
        // SAFETY: a record has no padding, so all of its bytes are initialized.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
    }

    fn header<T: Record>() -> Header {
        Header { time_ns: 77, kind: T::KIND, size: u16::try_from(size_of::<T>()).unwrap(), reserved: 0 }
    }

    fn v4(last: u8) -> [u8; 16] {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 244, 1, last]
    }

    fn segment_record() -> SegmentRecord {
        SegmentRecord {
            header: header::<SegmentRecord>(),
            cookie: 9,
            source_address: v4(12),
            destination_address: v4(20),
            ifindex: 3,
            seq: 225_467_756,
            ack: 0,
            tsval: 5,
            tsecr: 6,
            payload: 0,
            source_port: 34732,
            destination_port: 8443,
            window: 64240,
            mss: 1460,
            flags: Flags::SYN,
            direction: INGRESS,
            ttl: 64,
            options: OPTION_TIMESTAMP | OPTION_WSCALE,
            wscale: 7,
            reserved: [0; 3],
        }
    }

    fn socket_record(step: u8) -> SocketRecord {
        SocketRecord {
            header: header::<SocketRecord>(),
            cookie: 1,
            netns_cookie: 2,
            bytes_acked: 3,
            bytes_received: 4,
            local_address: v4(12),
            remote_address: v4(20),
            local_port: 34732,
            remote_port: 8443,
            step,
            state_old: 1,
            state_new: 4,
            reserved: 0,
            snd_nxt: 5,
            snd_una: 6,
            rcv_nxt: 7,
            srtt_us: 8,
            total_retrans: 9,
            segs_in: 10,
            segs_out: 11,
            args: [1, 4, 0],
        }
    }

    #[test]
    fn a_syn() {
        let found = decode(&bytes_of(&segment_record())).unwrap();
        assert_eq!(found.time, Mono(77));
        let What::Segment(segment) = found.what else { panic!("{found:?}") };
        assert_eq!(segment.tuple.to_string(), "10.244.1.12:34732 > 10.244.1.20:8443");
        assert_eq!(segment.timestamps, Some(Timestamps { val: 5, ecr: 6 }));
        assert_eq!((segment.wscale, segment.mss, segment.cookie), (Some(7), 1460, Some(9)));
        assert!(segment.flags.syn() && !segment.flags.ack());
    }

    #[test]
    fn options_and_a_cookie_that_are_absent() {
        let record = SegmentRecord { options: 0, cookie: 0, direction: EGRESS, ..segment_record() };
        let What::Segment(segment) = decode(&bytes_of(&record)).unwrap().what else { panic!() };
        assert_eq!((segment.timestamps, segment.wscale, segment.cookie), (None, None, None));
        assert_eq!(segment.direction, Direction::Egress);
    }

    #[test]
    fn the_steps_of_a_socket() {
        for (step, expected) in [
            (STEP_CONNECT, Step::Connect),
            (STEP_ACTIVE_ESTABLISHED, Step::ActiveEstablished),
            (STEP_PASSIVE_ESTABLISHED, Step::PassiveEstablished),
            (STEP_RTO, Step::Rto { gave_up: false }),
            (STEP_STATE, Step::State { from: TcpState::Established, to: TcpState::FinWait1 }),
        ] {
            let What::Socket(found) = decode(&bytes_of(&socket_record(step))).unwrap().what else { panic!() };
            assert_eq!(found.step, expected);
            assert_eq!(found.numbers.bytes_received, 4);
            assert_eq!(found.numbers.segs_out, 11);
        }
        let last = SocketRecord { args: [6, 200, 1], ..socket_record(STEP_RTO) };
        let What::Socket(found) = decode(&bytes_of(&last)).unwrap().what else { panic!() };
        assert_eq!(found.step, Step::Rto { gave_up: true });
    }

    #[test]
    fn the_process_and_the_error() {
        let record = ProcessRecord {
            header: header::<ProcessRecord>(),
            cookie: 1,
            netns_cookie: 2,
            cgroup_id: 3,
            pid: 4,
            tid: 5,
            address: v4(1),
            comm: *b"java\0\0\0\0\xd4zO\xba\xff\xff\xff\xff",
            port: 443,
            bound_port: 0,
            family: 10,
            reserved: 0,
        };
        let What::Process(found) = decode(&bytes_of(&record)).unwrap().what else { panic!() };
        assert_eq!(found.asked.to_string(), "10.244.1.1:443");
        assert_eq!(&found.process.comm, b"java\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!((found.process.pid, found.process.tid, found.process.cgroup), (4, 5, 3));
        let record = ErrorRecord { header: header::<ErrorRecord>(), cookie: 1, errno: 110, reserved: 0 };
        assert_eq!(decode(&bytes_of(&record)).unwrap().what, What::Error(SocketError { cookie: 1, errno: 110 }));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let whole = bytes_of(&segment_record());
        assert_eq!(decode(&[]), Err(DecodeError::Size { kind: 0, found: 0, expected: 16 }));
        assert_eq!(
            decode(&whole[..whole.len() - 1]),
            Err(DecodeError::Size { kind: KIND_SEGMENT, found: 95, expected: 96 })
        );
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(decode(&longer), Err(DecodeError::Size { .. })));
        let mut said = whole.clone();
        said[10] = 95;
        assert!(matches!(decode(&said), Err(DecodeError::Size { .. })));
        let mut kind = whole;
        kind[8..10].copy_from_slice(&9_u16.to_ne_bytes());
        assert_eq!(decode(&kind), Err(DecodeError::Kind(9)));
        let record = SegmentRecord { direction: 2, ..segment_record() };
        assert_eq!(decode(&bytes_of(&record)), Err(DecodeError::Value { field: "direction", value: 2 }));
        assert!(decode(&bytes_of(&socket_record(6))).is_err());
        let record = SocketRecord { state_new: 99, ..socket_record(STEP_STATE) };
        assert_eq!(decode(&bytes_of(&record)), Err(DecodeError::Value { field: "new state", value: 99 }));
        for errno in [0, 4096, u32::MAX] {
            let record = ErrorRecord { header: header::<ErrorRecord>(), cookie: 1, errno, reserved: 0 };
            assert!(decode(&bytes_of(&record)).is_err());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn random_records_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 128), which in 0_usize..4) {
            let (kind, size) = [(KIND_PROCESS, 88_u16), (KIND_SOCKET, 128), (KIND_SEGMENT, 96), (KIND_ERROR, 32)][which];
            bytes.truncate(usize::from(size));
            bytes[8..10].copy_from_slice(&kind.to_ne_bytes());
            bytes[10..12].copy_from_slice(&size.to_ne_bytes());
            if let Err(e) = decode(&bytes) {
                prop_assert!(matches!(e, DecodeError::Value { .. }), "{e}");
            }
        }

        #[test]
        fn a_segment_keeps_its_numbers(seq: u32, ack: u32, payload: u32, port: u16, window: u16, flags: u8) {
            let record = SegmentRecord { seq, ack, payload, source_port: port, window, flags, ..segment_record() };
            let What::Segment(found) = decode(&bytes_of(&record)).unwrap().what else { panic!() };
            prop_assert_eq!(
                (found.seq, found.ack, found.payload, found.tuple.src.port, found.window, found.flags),
                (seq, ack, payload, port, window, Flags(flags))
            );
        }
    }
}
