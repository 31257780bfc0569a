//! The worker's sockets: plain calls of the kernel, so that nothing stands between it and the test.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, getsockopt,
    listen, sendto, setsockopt, socket, sockopt,
};

use super::protocol::{ConnectHow, Connected};
use super::way::{ListenWay, Way};
use super::{options, uring};

fn tcp(at: SocketAddr, mptcp: bool) -> io::Result<OwnedFd> {
    let fd = if mptcp {
        options::mptcp_socket(at.is_ipv4())?
    } else {
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?
    };
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!is_mapped(at))?;
    }
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    Ok(fd)
}

fn is_mapped(at: SocketAddr) -> bool {
    matches!(at.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// A listening socket.
pub fn listening(at: SocketAddr, backlog: i32, way: &ListenWay) -> io::Result<TcpListener> {
    let fd = tcp(at, way.mptcp)?;
    options::of_listener(&fd, way)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd.into())
}

/// Connects; gives the socket where it came up, and how it went.
pub fn connecting(to: SocketAddr, how: &ConnectHow) -> io::Result<(Option<TcpStream>, Connected)> {
    let to = match to.ip() {
        IpAddr::V4(ip) if how.way.mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    };
    let fd = tcp(to, how.way.mptcp)?;
    options::of_client(&fd, &how.way)?;
    if let Some(port) = how.from_port {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any))?;
    }
    let start = Instant::now();
    let patience = how.timeout_ms.map(Duration::from_millis);
    let (result, local) = if how.way.io_uring {
        let result = uring::connect(&fd, to, patience)?;
        (result, local_end(&fd))
    } else if how.blocking || how.way.fast_open.is_some() {
        let result = call(&fd, to, &how.way);
        (result.map_err(Some), local_end(&fd))
    } else {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let first = call(&fd, to, &how.way);
        // The socket forgets its port when a connect fails, so it is asked while it pends.
        let local = local_end(&fd);
        let result = match first {
            Err(Errno::EINPROGRESS) => until_over(&fd, start, patience),
            other => other.map_err(Some),
        };
        fcntl(&fd, FcntlArg::F_SETFL(flags))?;
        (result, local)
    };
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let word = match result {
        Ok(()) => "ok".to_owned(),
        Err(None) => "timeout".to_owned(),
        Err(Some(errno)) => format!("{errno:?}"),
    };
    let connected = Connected { result: word, local, took_us };
    // Not up: the drop closes it, and that is the application's own end of the attempt.
    let stream = result.is_ok().then(|| TcpStream::from(fd));
    if let Some(stream) = stream.as_ref().filter(|_| how.way.reset_after) {
        reset_on_close(stream)?;
    }
    Ok((stream.filter(|_| !how.way.reset_after), connected))
}

/// The call that makes the kernel connect.
fn call(fd: &OwnedFd, to: SocketAddr, way: &Way) -> Result<(), Errno> {
    let address = SockaddrStorage::from(to);
    if let Some(bytes) = way.fast_open {
        let data = vec![b'f'; bytes];
        return sendto(fd.as_raw_fd(), &data, &address, MsgFlags::from_bits_retain(libc::MSG_FASTOPEN)).map(drop);
    }
    if way.thread_ends {
        let raw = fd.as_raw_fd();
        let thread = std::thread::spawn(move || connect(raw, &address));
        return thread.join().unwrap_or(Err(Errno::UnknownErrno));
    }
    connect(fd.as_raw_fd(), &address)
}

fn local_end(fd: &OwnedFd) -> Option<SocketAddr> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    name.as_sockaddr_in6().map(|v6| SocketAddr::new(IpAddr::from(v6.ip()).to_canonical(), v6.port()))
}

/// Waits for a pending connect; `Err(None)` is the application's own timeout.
fn until_over(fd: &OwnedFd, start: Instant, patience: Option<Duration>) -> Result<(), Option<Errno>> {
    loop {
        let wait = match patience {
            None => PollTimeout::NONE,
            Some(patience) => {
                let left = patience.saturating_sub(start.elapsed());
                PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], wait) {
            Ok(0) | Err(Errno::EINTR) if patience.is_some_and(|patience| start.elapsed() >= patience) => {
                return Err(None);
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Some(errno)),
            Ok(_) => {
                return match getsockopt(fd, sockopt::SocketError) {
                    Ok(0) => Ok(()),
                    Ok(errno) => Err(Some(Errno::from_raw(errno))),
                    Err(errno) => Err(Some(errno)),
                };
            }
        }
    }
}

/// Makes close() send a RST.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_tells_how_it_went() {
        let server = listening("127.0.0.1:0".parse().unwrap(), 8, &ListenWay::default()).unwrap();
        let at = server.local_addr().unwrap();
        let (stream, connected) = connecting(at, &ConnectHow::default()).unwrap();
        assert_eq!(connected.result, "ok");
        assert_eq!(connected.local, Some(stream.unwrap().local_addr().unwrap()));
        drop(server);
        let (stream, connected) = connecting(at, &ConnectHow { blocking: true, ..ConnectHow::default() }).unwrap();
        assert!(stream.is_none());
        assert_eq!(connected.result, "ECONNREFUSED");
    }

    #[test]
    fn every_way_of_patience_comes_up_against_a_listener() {
        let server = listening("127.0.0.1:0".parse().unwrap(), 8, &ListenWay::default()).unwrap();
        let at = server.local_addr().unwrap();
        let ways = [
            Way { io_uring: true, ..Way::default() },
            Way { thread_ends: true, ..Way::default() },
            Way { mapped: true, ..Way::default() },
            Way { user_timeout: Some(500), send_timeout: Some(500), receive_timeout: Some(500), ..Way::default() },
        ];
        for way in ways {
            let how = ConnectHow { way: way.clone(), ..ConnectHow::default() };
            let (stream, connected) = connecting(at, &how).unwrap();
            assert_eq!(connected.result, "ok", "{way:?}");
            let local = connected.local.unwrap();
            assert!(stream.is_some() && local.is_ipv4() && local.port() != 0, "{way:?}: {local}");
        }
    }
}
