//! Records of the ring buffer.

use std::mem::size_of;

use synspan::capture::live::{DecodeError, decode};
use synspan::capture::observation::{Mono, What};
use synspan_ebpf::record::{
    CallRecord, DroppedRecord, ErrorRecord, Header, IcmpRecord, ProcessRecord, SegmentRecord, SocketRecord,
};

/// Decodes the bytes as one record; and, so that little is wasted on sizes that are wrong, once more cut to the
/// size of the kind that they name.
pub fn run(data: &[u8]) {
    let _ = check(data);
    let Some(kind) = data.get(8..10) else { return };
    // In the order of their kinds, from 1 on.
    let sizes = [
        size_of::<ProcessRecord>(),
        size_of::<SocketRecord>(),
        size_of::<SegmentRecord>(),
        size_of::<ErrorRecord>(),
        size_of::<DroppedRecord>(),
        size_of::<CallRecord>(),
        size_of::<IcmpRecord>(),
    ];
    let which = usize::from(kind[0]) % sizes.len();
    let mut whole = data.to_vec();
    whole.resize(sizes[which], 0);
    whole[8..10].copy_from_slice(&(which as u16 + 1).to_ne_bytes());
    whole[10..12].copy_from_slice(&(sizes[which] as u16).to_ne_bytes());
    match check(&whole) {
        Ok(()) | Err(DecodeError::Value { .. }) => (),
        Err(e) => panic!("a record of the right size: {e}"),
    }
}

fn check(data: &[u8]) -> Result<(), DecodeError> {
    let found = decode(data);
    assert_eq!(found, decode(data), "the same bytes, another answer");
    let observation = match found {
        Ok(observation) => observation,
        Err(e) => {
            assert!(e.to_string().len() < 200);
            return Err(e);
        }
    };
    let time = data.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
    assert!(data.len() > size_of::<Header>());
    assert_eq!(Some(observation.time), time.map(Mono), "a record's time is its first field");
    match observation.what {
        What::Process(step) => {
            let end = step.process.comm.iter().position(|b| *b == 0).unwrap_or(16);
            assert!(step.process.comm[end..].iter().all(|b| *b == 0), "nothing stands behind a name's end");
        }
        What::Error(error) => assert!((0..=4095).contains(&error.errno)),
        What::CallFailed(failed) => assert!((1..=4095).contains(&failed.errno)),
        What::Dropped(_) | What::Icmp(_) => (),
        What::Segment(segment) => assert_ne!(segment.cookie, Some(0), "no cookie is none"),
        What::Socket(_) => (),
        other => panic!("no record tells {other:?}"),
    }
    Ok(())
}
