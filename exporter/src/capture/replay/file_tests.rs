//! Files of every shape, whole and broken.

use proptest::prelude::*;

use super::*;
use crate::capture::replay::craft::{LITTLE, Pcap, PcapNg};

const SECOND: u64 = 1_000_000_000;

type Read1 = (u64, Vec<u8>, Option<Direction>);

fn read(bytes: &[u8]) -> (Vec<Read1>, Option<FileError>) {
    let mut frames = Vec::new();
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (frames, Some(error)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push((frame.time, reader.data(&frame).to_vec(), frame.direction)),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn three() -> Vec<(u64, Vec<u8>)> {
    vec![(5 * SECOND + 1_000, vec![1; 60]), (6 * SECOND + 999_999_000, vec![2; 61]), (7 * SECOND, vec![3; 1_500])]
}

#[test]
fn pcap_in_both_orders_and_both_precisions() {
    for big_endian in [false, true] {
        for nanos in [false, true] {
            let (frames, failure) = read(&Pcap { big_endian, nanos, link: 1 }.file(&three()));
            assert!(failure.is_none(), "{failure:?}");
            let seen: Vec<_> = frames.into_iter().map(|(time, data, _)| (time, data)).collect();
            assert_eq!(seen, three(), "{big_endian} {nanos}");
        }
    }
}

#[test]
fn pcapng_with_interfaces_resolutions_offsets_directions_and_sections_in_both_orders() {
    for big_endian in [false, true] {
        let mut file = PcapNg::new(big_endian);
        file.interface(1, Some("eth0"), None, None);
        file.interface(101, Some("tun0"), Some(9), Some(100));
        file.interface(1, None, Some(0x80 | 10), None);
        file.packet(0, 5_000_001, Some(1), &[1; 61]);
        file.packet(1, 5 * SECOND + 7, Some(2), &[2; 62]);
        file.packet(2, 5 << 10 | 512, None, &[3; 63]);
        file.block(0x0bad_cafe, &[0; 8]);
        file.section();
        file.interface(1, Some("eth1"), Some(3), None);
        file.packet(0, 6_001, None, &[4; 64]);
        let (frames, failure) = read(&file.bytes);
        assert!(failure.is_none(), "{failure:?}");
        let expected = [
            (5 * SECOND + 1_000, vec![1; 61], Some(Direction::Ingress)),
            (105 * SECOND + 7, vec![2; 62], Some(Direction::Egress)),
            (5 * SECOND + SECOND / 2, vec![3; 63], None),
            (6 * SECOND + 1_000_000, vec![4; 64], None),
        ];
        assert_eq!(frames, expected, "{big_endian}");
    }
}

#[test]
fn a_section_in_the_other_order_is_read_by_its_own() {
    let mut little = PcapNg::new(false);
    little.interface(1, None, None, None);
    little.packet(0, 1, None, &[1; 60]);
    let mut big = PcapNg::new(true);
    big.interface(1, None, None, None);
    big.packet(0, 2, None, &[2; 60]);
    let (frames, failure) = read(&[little.bytes, big.bytes].concat());
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1_000, 2_000]);
}

/// At which bytes a file may end well, and what starts there.
fn check_truncations(whole: &[u8], ends: &[(usize, usize)]) {
    for length in 0..=whole.len() {
        let (frames, failure) = read(&whole[..length]);
        let &(at, good) = ends.iter().rfind(|(at, _)| *at <= length).unwrap_or(&(0, 0));
        assert_eq!(frames.len(), good, "cut at {length}");
        match failure {
            None => assert_eq!(at, length, "cut at {length} and not noticed"),
            Some(FileError::Cut { offset, length: said, .. }) => {
                assert_eq!((offset, said), (at as u64, length as u64));
                assert_ne!(at, length, "no cut at {length}");
            }
            Some(FileError::Empty) => assert_eq!(length, 0),
            Some(FileError::Foreign(_)) => assert!(length < 4),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn a_pcap_cut_at_any_byte_gives_what_is_whole_and_names_the_byte() {
    let whole = LITTLE.file(&three());
    check_truncations(&whole, &[(24, 0), (24 + 76, 1), (24 + 76 + 77, 2), (whole.len(), 3)]);
}

#[test]
fn a_pcapng_cut_at_any_byte_gives_what_is_whole_and_names_the_byte() {
    let mut file = PcapNg::new(false);
    let mut ends = vec![(0, 0), (file.bytes.len(), 0)];
    file.interface(1, Some("eth0"), None, None);
    ends.push((file.bytes.len(), 0));
    for number in 1..4 {
        file.packet(0, 1, Some(1), &[1; 63]);
        ends.push((file.bytes.len(), number));
    }
    check_truncations(&file.bytes, &ends);
}

#[test]
fn garbage_is_named_with_its_byte_and_what_comes_before_is_read() {
    let good = LITTLE.file(&three());
    for tail in [[0xff; 40], [0; 40]] {
        let (frames, failure) = read(&[&good[..], &tail].concat());
        assert_eq!(frames.len(), 3);
        assert!(
            matches!(failure, Some(FileError::Garbage { offset, .. }) if offset == good.len() as u64),
            "{failure:?}"
        );
    }
    let mut file = PcapNg::new(true);
    file.interface(1, None, None, None);
    file.packet(0, 1, None, &[1; 60]);
    let at = file.bytes.len();
    for (tail, why) in [
        (vec![0; 40], "a block of 0 bytes"),
        (vec![0xff; 40], "a block of 4294967295 bytes"),
        ([[0, 0, 0, 6], [0, 0, 0, 16], [0; 4], [0, 0, 0, 20]].concat(), "ends with another length"),
        ([[0, 0, 0, 6], [0, 0, 0, 16], [0; 4], [0, 0, 0, 16]].concat(), "do not fit"),
        ([[0x0a, 0x0d, 0x0d, 0x0a], [0, 0, 0, 28], [1; 4]].concat(), "byte-order magic"),
    ] {
        let (frames, failure) = read(&[&file.bytes[..], &tail].concat());
        assert_eq!(frames.len(), 1);
        let text = failure.unwrap().to_string();
        assert!(text.starts_with(&format!("holds garbage at byte {at}: ")) && text.contains(why), "{text}");
    }
    let mut nowhere = PcapNg::new(false);
    nowhere.packet(3, 1, None, &[1; 60]);
    assert!(read(&nowhere.bytes).1.unwrap().to_string().contains("not described"));
}

#[test]
fn what_is_no_capture_is_called_what_it_is() {
    let failure = |bytes: &[u8]| read(bytes).1.unwrap().to_string();
    assert!(failure(b"").contains("is empty"));
    assert!(failure(&[0x1f, 0x8b, 8, 0, 0]).contains("gunzip"));
    assert!(failure(b"hello, world, this is text").contains("no capture file"));
    assert!(failure(b"ab").contains("no capture file"));
}

#[test]
fn packets_without_a_time_are_counted() {
    let mut file = PcapNg::new(false);
    file.interface(1, None, None, None);
    file.block(3, &[&60_u32.to_le_bytes()[..], &[1; 60]].concat());
    file.packet(0, 1, None, &[1; 60]);
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    assert!(reader.next_frame().unwrap().is_some() && reader.next_frame().unwrap().is_none());
    assert_eq!(reader.timeless(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_good_beginning_are_survived(
        tail in prop::collection::vec(any::<u8>(), 0..2_000),
        big_endian: bool,
        nanos: bool,
    ) {
        let pcap = Pcap { big_endian, nanos, link: 1 }.file(&three());
        let (frames, _) = read(&[pcap, tail.clone()].concat());
        prop_assert!(frames.len() >= 3);
        let mut file = PcapNg::new(big_endian);
        file.interface(1, None, None, None);
        file.packet(0, 1, None, &[1; 60]);
        let (frames, _) = read(&[file.bytes, tail].concat());
        prop_assert!(!frames.is_empty());
    }

    #[test]
    fn a_flipped_byte_is_survived(at in 0_usize..1_900, with: u8) {
        let mut file = PcapNg::new(false);
        file.interface(1, Some("eth0"), Some(9), Some(1));
        for _ in 0..3 {
            file.packet(0, 1, Some(2), &[1; 500]);
        }
        for mut bytes in [file.bytes, LITTLE.file(&three())] {
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = read(&bytes);
        }
    }
}
