//! Which segments go on.

use super::*;
use crate::capture::observation::Flags;

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;

fn tuple(port: u16) -> Tuple {
    let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
    Tuple::new(Endpoint { port, ..end("10.244.1.12:0") }, end("192.168.50.20:8443"))
}

struct Table(Flows, u64);

impl Table {
    fn new(limit: usize) -> Self {
        Self(Flows::new(limit, 7), 0)
    }

    fn take(&mut self, tuple: Tuple, flags: u8, seq: u32, ack: u32, payload: u32) -> Worth {
        self.1 += 10_000_000;
        let head = Head { flags: Flags(flags), seq, ack, payload };
        self.0.take(Mono(self.1), 3, tuple, head, || Some(self.1 as u32), || Direction::Egress)
    }

    fn told(&mut self, tuple: Tuple, flags: u8, seq: u32, ack: u32) -> bool {
        self.take(tuple, flags, seq, ack, 0) != Worth::Nothing
    }
}

#[test]
fn a_connection_is_told_by_its_ends_and_not_by_its_data() {
    let (mut table, up) = (Table::new(100), tuple(1));
    assert_eq!(table.take(up, SYN, 100, 0, 0), Worth::Told(Some(Direction::Egress), None));
    let answer = table.take(up.reversed(), SYN | ACK, 500, 101, 0);
    assert_eq!(answer, Worth::Told(Some(Direction::Ingress), None));
    assert!(table.told(up, ACK, 101, 501), "the end of the handshake");
    assert!(!table.told(up, ACK, 101, 501));
    assert!(!table.told(up.reversed(), ACK, 501, 101));
    assert!(table.told(up, Flags::FIN | ACK, 101, 501));
    assert!(table.told(up.reversed(), Flags::RST, 501, 0));
}

#[test]
fn where_syns_cross_both_ends_complete_it() {
    let (mut table, up) = (Table::new(100), tuple(1));
    table.take(up, SYN, 100, 0, 0);
    table.take(up.reversed(), SYN, 500, 0, 0);
    table.take(up, SYN | ACK, 100, 501, 0);
    table.take(up.reversed(), SYN | ACK, 500, 101, 0);
    assert!(table.told(up, ACK, 101, 501));
    assert!(table.told(up.reversed(), ACK, 501, 101));
    assert!(!table.told(up, ACK, 101, 501));
}

#[test]
fn what_answers_a_pending_syn_is_told_a_few_times() {
    let (mut table, up) = (Table::new(100), tuple(1));
    table.take(up, SYN, 100, 0, 0);
    assert!(!table.told(up, ACK, 9, 9), "the client answers nothing");
    let told = (0..20).filter(|_| table.told(up.reversed(), ACK, 77, 88)).count();
    assert_eq!(told, usize::from(MOST_ANSWERS));
    table.take(up, SYN, 100, 0, 0);
    assert!(table.told(up.reversed(), ACK, 77, 88), "a SYN sent again waits again");
    table.1 += 200_000_000_000;
    assert!(!table.told(up.reversed(), ACK, 77, 88), "too late");
}

#[test]
fn the_same_packet_captured_twice_is_one() {
    let (mut table, up) = (Table::new(100), tuple(1));
    let head = Head { flags: Flags(SYN), seq: 100, ack: 0, payload: 0 };
    let mut take = |time, point, stamp| {
        table.0.take(Mono(time), point, up, head, || Some(stamp), || Direction::Ingress) != Worth::Nothing
    };
    assert!(take(1_000_000_000, 1, 5));
    assert!(!take(1_000_900_000, 1, 5));
    assert!(take(1_001_000_000, 2, 5), "another point");
    assert!(take(1_001_100_000, 1, 6), "another timestamp");
    assert!(take(2_001_100_000, 1, 6), "a second later");
}

#[test]
fn numbers_of_the_connection_before_are_kept_while_a_syn_waits() {
    let (mut table, up) = (Table::new(100), tuple(1));
    table.take(up, SYN, 100, 0, 0);
    table.take(up.reversed(), SYN | ACK, 500, 101, 0);
    table.take(up, ACK, 101, 501, 40);
    table.take(up.reversed(), ACK, 501, 141, 7);
    let open = table.0.numbers(up).unwrap();
    assert_eq!(
        (open.client_acked, open.server_next, open.begun_before, open.over),
        (Some(141), Some(508), false, false)
    );
    table.take(up, SYN, 9_000, 0, 0);
    table.take(up.reversed(), ACK, 508, 141, 0);
    assert_eq!(table.0.numbers(up), Some(open));
    table.take(up.reversed(), SYN | ACK, 700, 9_001, 0);
    assert_eq!(table.0.numbers(up).unwrap().client_acked, Some(9_001));
}

#[test]
fn a_connection_from_before_the_capture_is_told_with_the_syn_that_takes_its_tuple() {
    let (mut table, up) = (Table::new(100), tuple(1));
    assert!(!table.told(up, ACK, 101, 501));
    assert!(!table.told(up.reversed(), ACK, 501, 141));
    let Worth::Told(_, Some(before)) = table.take(up, SYN, 9_000, 0, 0) else { panic!() };
    assert_eq!((before.client_acked, before.begun_before), (Some(141), true));
}

#[test]
fn the_table_is_bounded_and_counts_whom_it_forgot_waiting() {
    let mut table = Table::new(100);
    for port in 0..1_000 {
        table.take(tuple(port), SYN, 100, 0, 0);
    }
    assert!(table.0.map.len() <= 100 && table.0.order.len() <= 100);
    assert_eq!(table.0.forgotten(), 900);
    for port in 1_000..2_000 {
        table.take(tuple(port), ACK, 100, 1, 0);
    }
    assert!(table.0.map.len() <= 100 && table.0.order.len() <= 100);
    assert_eq!(table.0.forgotten(), 1_000);
}
