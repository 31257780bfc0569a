//! The sequence numbers of one connection of the calling thread's network namespace.
//!
//! Sock_diag does not tell them. A program that is attached nowhere is run once by hand
//! (`BPF_PROG_TEST_RUN`), looks the socket up as a segment would, and reads them.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, OwnedFd};

use synspan_ebpf::lookup::{Answer, Lookup};

use crate::capture::netlink::attributes::u32_at;
use crate::capture::probe::bpf::run_by_hand;
use crate::capture::tuple::Tuple;

/// `ETH_P_802_EX1`: no protocol's, so the kernel looks no further into the packet.
const NO_PROTOCOL: [u8; 2] = [0x88, 0xb5];

/// The numbers of the socket with this tuple, from its own end to its peer; none if there is none.
///
/// # Errors
///
/// The kernel's.
pub fn of(program: &OwnedFd, tuple: Tuple) -> io::Result<Option<Answer>> {
    let packet = question(tuple);
    let mut answer = [0_u8; size_of::<Lookup>()];
    run_by_hand(program.as_fd(), &packet, &mut answer)?;
    Ok(read(&answer))
}

/// The packet of a question ([`Lookup`]).
fn question(tuple: Tuple) -> [u8; size_of::<Lookup>()] {
    let mut packet = [0; size_of::<Lookup>()];
    let mut put = |at: usize, bytes: &[u8]| packet[at..at + bytes.len()].copy_from_slice(bytes);
    put(12, &NO_PROTOCOL);
    let (own, peer) = (tuple.src, tuple.dst);
    let (family, from, width) = if own.addr.is_v4() { (4, 12, 4) } else { (6, 0, 16) };
    put(offset_of!(Lookup, family), &[family]);
    // As in a segment that comes: from the peer to the socket's own end.
    let at = offset_of!(Lookup, tuple);
    put(at, &peer.addr.0[from..]);
    put(at + width, &own.addr.0[from..]);
    put(at + 2 * width, &peer.port.to_be_bytes());
    put(at + 2 * width + 2, &own.port.to_be_bytes());
    packet
}

fn read(packet: &[u8]) -> Option<Answer> {
    let at = offset_of!(Lookup, answer);
    let word = |field| u32_at(packet, at + field);
    let answer = Answer {
        state: word(offset_of!(Answer, state))?,
        snd_una: word(offset_of!(Answer, snd_una))?,
        snd_nxt: word(offset_of!(Answer, snd_nxt))?,
        rcv_nxt: word(offset_of!(Answer, rcv_nxt))?,
    };
    (answer.state != 0).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::tuple::Endpoint;

    #[test]
    fn the_tuple_is_the_kernels() {
        let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
        let four = question(Tuple::new(end("10.0.0.1:258"), end("10.0.0.2:772")));
        let at = offset_of!(Lookup, tuple);
        assert_eq!(four[14], 4);
        assert_eq!(four[at..at + 12], [10, 0, 0, 2, 10, 0, 0, 1, 3, 4, 1, 2]);
        let six = question(Tuple::new(end("[fd00::1]:258"), end("[fd00::2]:772")));
        assert_eq!((six[14], six[at + 15], six[at + 31]), (6, 2, 1));
        assert_eq!(six[at + 32..], [3, 4, 1, 2]);
        assert_eq!(read(&six), None);
        assert_eq!(read(&six[..20]), None);
    }
}
