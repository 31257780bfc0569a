//! TCP sockets of the calling thread's network namespace, by sock_diag.

use std::collections::HashSet;
use std::fs;
use std::io;

use crate::capture::netlink::sock_diag::{self, BY_FAMILY, CONNECTED, LISTENING, TcpSocket, netstat};
use crate::capture::netlink::{Protocol, Socket};
use crate::capture::observation::ListenerState;
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// The listener that takes connections to an endpoint; `listens` is false if there is none.
///
/// Of several with one address and port (`SO_REUSEPORT`) it is the fullest.
///
/// # Errors
///
/// The kernel's.
pub fn listener(endpoint: Endpoint, netns: u64) -> io::Result<ListenerState> {
    let mut socket = Socket::open(Protocol::SockDiag, 0)?;
    let mut listeners: Vec<TcpSocket> = Vec::new();
    for v6 in [false, true] {
        let body = sock_diag::all(v6, LISTENING, endpoint.port);
        listeners.extend(list(&mut socket, &body)?);
    }
    let rank = |listener: &TcpSocket| {
        (listener.listens_at(endpoint), u64::from(listener.receive_queue) << 32 | u64::from(!listener.send_queue))
    };
    let found = listeners.into_iter().filter(|l| l.listens_at(endpoint) > 0).max_by_key(rank);
    let counters = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let counter = |name| netstat(&counters, "TcpExt", name).unwrap_or(0);
    Ok(ListenerState {
        endpoint,
        netns,
        listens: found.is_some(),
        queue: found.map_or(0, |l| l.receive_queue),
        limit: found.map_or(0, |l| l.send_queue),
        overflows: counter("ListenOverflows"),
        drops: counter("ListenDrops"),
    })
}

/// The connection with this tuple, from its own end to its peer.
///
/// # Errors
///
/// The kernel's.
pub fn connection(tuple: Tuple) -> io::Result<Option<TcpSocket>> {
    let mut socket = Socket::open(Protocol::SockDiag, 0)?;
    let mut found = None;
    match socket.ask(BY_FAMILY, &sock_diag::one(tuple), &mut |_, payload| found = sock_diag::socket(payload)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        // Else it is the listener of that address.
        result => result.map(|()| found.filter(|socket| socket.tuple == tuple)),
    }
}

/// The connections of the namespace, as many at most, without those of loopback; and where it listens.
///
/// # Errors
///
/// The kernel's.
pub fn connections(most: usize) -> io::Result<(Vec<TcpSocket>, Listeners)> {
    let mut socket = Socket::open(Protocol::SockDiag, 0)?;
    let (mut connections, mut listeners) = (Vec::new(), Listeners::default());
    for v6 in [false, true] {
        let room = most - connections.len();
        let body = sock_diag::all(v6, CONNECTED, 0);
        connections.extend(socket.dump(BY_FAMILY, &body, |found: &mut Vec<TcpSocket>, payload| {
            let socket = sock_diag::socket(payload);
            let loopback = |s: &TcpSocket| s.tuple.src.addr.is_loopback() || s.tuple.dst.addr.is_loopback();
            if found.len() < room {
                found.extend(socket.filter(|socket| !loopback(socket)));
            }
        })?);
        for listener in list(&mut socket, &sock_diag::all(v6, LISTENING, 0))? {
            listeners.0.insert(listener.tuple.src);
        }
    }
    Ok((connections, listeners))
}

/// The addresses and ports that are listened at.
#[derive(Debug, Default)]
pub struct Listeners(HashSet<Endpoint>);

impl Listeners {
    /// Whether a connection at this end was accepted, as far as can be told now.
    pub fn accept(&self, own: Endpoint) -> bool {
        let any4 = Addr::from(std::net::Ipv4Addr::UNSPECIFIED);
        [own.addr, any4, Addr::default()].iter().any(|addr| self.0.contains(&Endpoint { addr: *addr, port: own.port }))
    }
}

fn list(socket: &mut Socket, body: &[u8]) -> io::Result<Vec<TcpSocket>> {
    match socket.dump(BY_FAMILY, body, |found: &mut Vec<TcpSocket>, payload| found.extend(sock_diag::socket(payload))) {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;
    use crate::capture::flow::FlowNumbers;
    use crate::capture::observation::TcpState;

    fn numbers(own: &TcpStream) -> Option<FlowNumbers> {
        let (local, peer) = (own.local_addr().unwrap().into(), own.peer_addr().unwrap().into());
        // None where this may not be asked.
        connection(Tuple::new(local, peer)).ok()?.unwrap().numbers
    }

    /// What the tracker takes off is what the running kernel adds.
    #[test]
    fn the_kernel_counts_the_clients_syn_and_each_fin_as_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[1; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        server.write_all(&[2; 40]).unwrap();
        client.read_exact(&mut [0; 40]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
        // The acknowledgement of the FIN may be delayed, by as much as 40 ms.
        let mut ends = None;
        for _ in 0..100 {
            let (Some(of_client), Some(of_server)) = (numbers(&client), numbers(&server)) else { return };
            ends = Some((of_client, of_server));
            if of_client.state == TcpState::FinWait2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let (of_client, of_server) = ends.unwrap();
        let bytes = |n: FlowNumbers| (n.state, n.bytes_acked, n.bytes_received);
        assert_eq!(bytes(of_client), (TcpState::FinWait2, 102, 40));
        assert_eq!(bytes(of_server), (TcpState::CloseWait, 40, 101));
        assert!(of_client.srtt_us > 0 && of_client.segs_out >= 4 && of_server.segs_in >= 4);
        let cookies = connection(Tuple::new(client.local_addr().unwrap().into(), client.peer_addr().unwrap().into()));
        assert_ne!(cookies.unwrap().unwrap().cookie, 0);
    }
}
