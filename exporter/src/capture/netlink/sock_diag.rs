//! Sockets over netlink (`include/uapi/linux/inet_diag.h`): TCP sockets of one network namespace.

use std::net::Ipv4Addr;

use super::attributes::{attributes, be16_at, bytes_at, u32_at, u64_at};
use super::{INET, INET6, TCP};
use crate::capture::flow::FlowNumbers;
use crate::capture::observation::TcpState;
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// `SOCK_DIAG_BY_FAMILY`: the type of requests and answers.
pub const BY_FAMILY: u16 = 20;

/// The states of `connections`: ESTABLISHED, FIN_WAIT1 and 2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING.
pub const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;
/// The state LISTEN.
pub const LISTENING: u32 = 1 << LISTEN;
const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;

/// Bytes of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;
/// `INET_DIAG_INFO`: `struct tcp_info`. A request's bit for it is the one below.
const INFO: u16 = 2;
const WITH_INFO: u8 = 1 << (INFO - 1);
/// `INET_DIAG_NOCOOKIE`.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// A TCP socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSocket {
    /// From its own end to its peer.
    pub tuple: Tuple,
    /// Its state (`TCP_*`).
    pub state: u8,
    /// Its cookie.
    pub cookie: u64,
    /// Bytes to be read; of a listener: connections in its accept queue.
    pub receive_queue: u32,
    /// Bytes not acknowledged; of a listener: the most its accept queue takes.
    pub send_queue: u32,
    /// Whether a listener takes connections of the address family of its address alone.
    pub one_family: bool,
    /// What it has counted; none of a listener, in TIME_WAIT, or where it was not asked for.
    pub numbers: Option<FlowNumbers>,
}

impl TcpSocket {
    /// Whether a connection to an endpoint would be this listener's, were there no better one: 2 if it
    /// listens at that address, 1 if at any, 0 if not.
    pub fn listens_at(&self, endpoint: Endpoint) -> u8 {
        let own = self.tuple.src;
        if self.state != LISTEN || own.port != endpoint.port {
            return 0;
        }
        let v6 = !own.addr.is_v4();
        match own.addr {
            addr if addr == endpoint.addr => 2,
            addr if !addr.ip().is_unspecified() => 0,
            _ if v6 != endpoint.addr.is_v4() || (v6 && !self.one_family) => 1,
            _ => 0,
        }
    }

    /// Whether only the kernel remembers the connection.
    pub fn is_time_wait(&self) -> bool {
        self.state == TIME_WAIT
    }
}

/// Reads a socket; none if the message is cut, or of another family.
pub fn socket(payload: &[u8]) -> Option<TcpSocket> {
    let [family, state, ..] = *payload.get(..MESSAGE)? else { return None };
    let addr = |at| match family {
        INET => bytes_at::<4>(payload, at).map(|b| Addr::from(Ipv4Addr::from(b))),
        INET6 => bytes_at(payload, at).map(Addr),
        _ => None,
    };
    let end = |port, at| Some(Endpoint { addr: addr(at)?, port: be16_at(payload, port)? });
    let (mut v6_only, mut info) = (None, None);
    for (kind, value) in attributes(&payload[MESSAGE..]) {
        match kind {
            V6_ONLY => v6_only = Some(value),
            INFO => info = Some(value),
            _ => (),
        }
    }
    Some(TcpSocket {
        tuple: Tuple::new(end(4, 8)?, end(6, 24)?),
        state,
        // Two 32-bit halves in the machine's order, the low one first.
        cookie: u64::from(u32_at(payload, 44)?) | u64::from(u32_at(payload, 48)?) << 32,
        receive_queue: u32_at(payload, 56)?,
        send_queue: u32_at(payload, 60)?,
        one_family: family == INET || v6_only.is_none_or(|value| value.first() != Some(&0)),
        numbers: info.filter(|_| state != LISTEN).and_then(tcp_info),
    })
}

/// Reads `struct tcp_info` (`include/uapi/linux/tcp.h`); none if it is cut before the last number that is read, which
/// kernels have had since 4.2.
pub fn tcp_info(info: &[u8]) -> Option<FlowNumbers> {
    Some(FlowNumbers {
        state: TcpState::of_number(*info.first()?)?,
        srtt_us: u32_at(info, 68)?,
        total_retrans: u32_at(info, 100)?,
        bytes_acked: u64_at(info, 120)?,
        bytes_received: u64_at(info, 128)?,
        segs_out: u32_at(info, 136)?,
        segs_in: u32_at(info, 140)?,
    })
}

/// `struct inet_diag_req_v2`.
fn request(v6: bool, states: u32, own: Endpoint, peer: Endpoint) -> Vec<u8> {
    let extensions = if states == LISTENING { 0 } else { WITH_INFO };
    let mut body = vec![if v6 { INET6 } else { INET }, TCP, extensions, 0];
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(&own.port.to_be_bytes());
    body.extend_from_slice(&peer.port.to_be_bytes());
    for addr in [own.addr, peer.addr] {
        let at = body.len();
        body.extend_from_slice(if v6 { &addr.0 } else { &addr.0[12..] });
        body.resize(at + 16, 0);
    }
    body.extend_from_slice(&0_u32.to_ne_bytes());
    body.extend_from_slice(&NO_COOKIE);
    body
}

/// Asks for all sockets of a family in some states (a dump); with a local port other than 0, of that alone.
pub fn all(v6: bool, states: u32, port: u16) -> Vec<u8> {
    request(v6, states, Endpoint { port, ..Endpoint::default() }, Endpoint::default())
}

/// Asks for the one socket with this tuple, from its own end to its peer. Where there is no connection the
/// answer is the listener, if there is one.
pub fn one(tuple: Tuple) -> Vec<u8> {
    request(!tuple.src.addr.is_v4(), u32::MAX, tuple.src, tuple.dst)
}

/// A counter of `/proc/net/netstat`: the value under `name` in the lines of `group`.
pub fn netstat(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(g, _)| *g == group);
    let (names, values) = (lines.next()?.1, lines.next()?.1);
    let at = names.split_ascii_whitespace().position(|n| n == name)?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::netlink::put;

    fn answer(v6: bool, tuple: Tuple, state: u8, tail: &[u8]) -> Vec<u8> {
        // The socket's id stands at the same distance from its end in request and answer.
        let mut body = vec![if v6 { INET6 } else { INET }, state, 0, 0];
        body.extend_from_slice(&request(v6, 0, tuple.src, tuple.dst)[8..]);
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&129_u32.to_ne_bytes());
        body.extend_from_slice(&128_u32.to_ne_bytes());
        body.resize(MESSAGE, 0);
        body.extend_from_slice(tail);
        body
    }

    fn end(text: &str) -> Endpoint {
        Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap())
    }

    #[test]
    fn listeners_are_told_apart() {
        let read = |text: &str, tail: &[u8]| {
            let own = end(text);
            socket(&answer(!own.addr.is_v4(), Tuple::new(own, Endpoint::default()), LISTEN, tail)).unwrap()
        };
        let any4 = read("0.0.0.0:80", &[]);
        assert_eq!((any4.receive_queue, any4.send_queue, any4.cookie), (129, 128, u64::MAX));
        assert_eq!(any4.listens_at(end("10.0.0.1:80")), 1);
        assert_eq!(any4.listens_at(end("10.0.0.1:81")), 0);
        assert_eq!(any4.listens_at(end("[fd00::1]:80")), 0);
        let dual = read("[::]:80", &[5, 0, 11, 0, 0, 0, 0, 0]);
        assert_eq!((dual.listens_at(end("10.0.0.1:80")), dual.listens_at(end("[fd00::1]:80"))), (1, 1));
        let only6 = read("[::]:80", &[5, 0, 11, 0, 1, 0, 0, 0]);
        assert_eq!((only6.listens_at(end("10.0.0.1:80")), only6.listens_at(end("[fd00::1]:80"))), (0, 1));
        let exact = read("10.0.0.1:80", &[]);
        assert_eq!((exact.listens_at(end("10.0.0.1:80")), exact.listens_at(end("10.0.0.2:80"))), (2, 0));
    }

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 7 9\nIpExt: InNoRoutes\nIpExt: 3\n";
        assert_eq!(netstat(text, "TcpExt", "ListenOverflows"), Some(7));
        assert_eq!(netstat(text, "TcpExt", "ListenDrops"), Some(9));
        assert_eq!(netstat(text, "TcpExt", "Other"), None);
        assert_eq!(netstat("TcpExt: A\n", "TcpExt", "A"), None);
    }

    /// `struct tcp_info` of Linux 6.18, 232 bytes: a client that sent 100 bytes and got 40, over loopback.
    fn info(state: u8, len: usize) -> Vec<u8> {
        let mut info = vec![0; 232];
        info[0] = state;
        let mut put = |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
        put(68, &52_u32.to_ne_bytes());
        put(100, &3_u32.to_ne_bytes());
        put(120, &101_u64.to_ne_bytes());
        put(128, &40_u64.to_ne_bytes());
        put(136, &4_u32.to_ne_bytes());
        put(140, &2_u32.to_ne_bytes());
        info.truncate(len);
        info
    }

    #[test]
    fn counters_are_read() {
        let tuple = Tuple::new(end("10.0.0.1:1000"), end("10.0.0.2:80"));
        let read = |state, info: &[u8]| {
            let mut tail = Vec::new();
            put(&mut tail, 8, &[0]);
            put(&mut tail, INFO, info);
            socket(&answer(false, tuple, state, &tail)).unwrap().numbers
        };
        let numbers = FlowNumbers {
            state: TcpState::Established,
            bytes_acked: 101,
            bytes_received: 40,
            segs_out: 4,
            segs_in: 2,
            total_retrans: 3,
            srtt_us: 52,
        };
        assert_eq!(read(1, &info(1, 232)), Some(numbers));
        assert_eq!(read(1, &info(1, 144)), Some(numbers), "older kernels tell less");
        assert_eq!(read(1, &info(1, 143)), None);
        assert_eq!(read(1, &info(99, 232)), None, "no such state");
        assert_eq!(read(LISTEN, &info(LISTEN, 232)), None);
        assert_eq!(one(tuple)[2], WITH_INFO, "it is asked for");
        assert_eq!(all(false, LISTENING, 80)[2], 0);
    }

    proptest! {
        #[test]
        fn any_counters_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), v6: bool) {
            let tuple = Tuple::new(end("10.0.0.1:1000"), end("10.0.0.2:80"));
            let mut tail = Vec::new();
            put(&mut tail, INFO, &bytes);
            let read = socket(&answer(v6, tuple, 1, &tail)).unwrap().numbers;
            prop_assert_eq!(read, tcp_info(&bytes));
            prop_assert_eq!(read.is_some(), bytes.len() >= 144 && (1..=12).contains(&bytes[0]));
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,100}") {
            let _ = (socket(&bytes), netstat(&text, "TcpExt", "ListenDrops"));
        }

        #[test]
        fn a_tuple_survives_a_round(v6: bool, a: [u8; 16], b: [u8; 16], from: u16, to: u16, cut in 0_usize..MESSAGE) {
            let addr = |bytes: [u8; 16]| if v6 { Addr(bytes) } else {
                Addr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
            };
            let tuple = Tuple::new(Endpoint { addr: addr(a), port: from }, Endpoint { addr: addr(b), port: to });
            let bytes = answer(v6, tuple, 1, &[]);
            prop_assert_eq!(socket(&bytes).unwrap().tuple, tuple);
            prop_assert!(socket(&bytes[..cut]).is_none());
        }
    }
}
