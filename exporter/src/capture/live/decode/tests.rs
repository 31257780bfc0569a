//! Records as the programs write them, and as they do not.

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
    let told = ErrorRecord { errno: 0, ..record };
    assert_eq!(decode(&bytes_of(&told)).unwrap().what, What::Error(SocketError { cookie: 1, errno: 0 }));
}

fn dropped_record() -> DroppedRecord {
    DroppedRecord {
        header: header::<DroppedRecord>(),
        netns_cookie: 4026,
        location: 0xffff_ffff_8100_0001,
        source_address: v4(12),
        destination_address: v4(20),
        ifindex: 3,
        seq: 1,
        ack: 2,
        reason: 6,
        source_port: 34732,
        destination_port: 8443,
        flags: Flags::SYN,
        reserved: [0; 3],
    }
}

fn icmp_record() -> IcmpRecord {
    IcmpRecord {
        header: header::<IcmpRecord>(),
        from_address: v4(1),
        source_address: v4(12),
        destination_address: v4(20),
        ifindex: 3,
        seq: 7,
        source_port: 34732,
        destination_port: 8443,
        icmp_type: 3,
        code: 13,
        direction: EGRESS,
        reserved: 0,
    }
}

struct Numbered;

impl Names for Numbered {
    fn reason(&mut self, number: u32) -> Option<Arc<str>> {
        Some(format!("reason {number}").into())
    }

    fn place(&mut self, address: u64) -> Option<Arc<str>> {
        Some(format!("{address:x}").into())
    }
}

#[test]
fn a_drop_with_and_without_names() {
    let What::Dropped(found) = decode_named(&bytes_of(&dropped_record()), &mut Numbered).unwrap().what else {
        panic!()
    };
    assert_eq!(found.tuple.to_string(), "10.244.1.12:34732 > 10.244.1.20:8443");
    assert_eq!((found.netns, found.ifindex, found.seq, found.ack), (4026, 3, 1, 2));
    assert!(found.flags.syn() && !found.flags.ack());
    assert_eq!((found.reason.as_deref(), found.place.as_deref()), (Some("reason 6"), Some("ffffffff81000001")));
    let old = DroppedRecord { reason: NO_REASON, ..dropped_record() };
    let What::Dropped(found) = decode_named(&bytes_of(&old), &mut Numbered).unwrap().what else { panic!() };
    assert_eq!(found.reason, None);
    let What::Dropped(found) = decode(&bytes_of(&dropped_record())).unwrap().what else { panic!() };
    assert_eq!((found.reason, found.place), (None, None));
}

#[test]
fn an_icmp_error_and_a_failed_call() {
    let What::Icmp(found) = decode(&bytes_of(&icmp_record())).unwrap().what else { panic!() };
    assert_eq!((found.from.to_string().as_str(), found.kind, found.code), ("10.244.1.1", 3, 13));
    assert_eq!((found.tuple.src.port, found.seq, found.direction), (34732, 7, Direction::Egress));
    let record = IcmpRecord { direction: 9, ..icmp_record() };
    assert_eq!(decode(&bytes_of(&record)), Err(DecodeError::Value { field: "direction", value: 9 }));
    let record = CallRecord { header: header::<CallRecord>(), pid: 4, tid: 5, errno: 99, reserved: 0 };
    let expected = What::CallFailed(CallFailed { pid: 4, tid: 5, errno: 99 });
    assert_eq!(decode(&bytes_of(&record)).unwrap().what, expected);
    assert!(decode(&bytes_of(&CallRecord { errno: 0, ..record })).is_err());
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
    for errno in [4096, u32::MAX] {
        let record = ErrorRecord { header: header::<ErrorRecord>(), cookie: 1, errno, reserved: 0 };
        assert!(decode(&bytes_of(&record)).is_err());
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_named(&bytes, &mut Numbered);
    }

    #[test]
    fn random_records_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 128), which in 0_usize..7) {
        let (kind, size) = [
            (KIND_PROCESS, 88_u16),
            (KIND_SOCKET, 128),
            (KIND_SEGMENT, 96),
            (KIND_ERROR, 32),
            (KIND_DROP, 88),
            (KIND_CALL, 32),
            (KIND_ICMP, 80),
        ][which];
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
