//! The worker's sockets: plain calls of the kernel, so that nothing stands between it and the test.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, getsockopt, listen,
    setsockopt, socket, sockopt,
};

use super::protocol::{ConnectHow, Connected};

fn tcp(at: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    Ok(fd)
}

/// A listening socket.
pub fn listening(at: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let fd = tcp(at)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd.into())
}

/// Connects; gives the socket where it came up, and how it went.
pub fn connecting(to: SocketAddr, how: &ConnectHow) -> io::Result<(Option<TcpStream>, Connected)> {
    let fd = tcp(to)?;
    if let Some(port) = how.from_port {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any))?;
    }
    let start = Instant::now();
    let (result, local) = if how.blocking {
        let result = connect(fd.as_raw_fd(), &SockaddrStorage::from(to));
        (result.map_err(Some), local_end(&fd))
    } else {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let first = connect(fd.as_raw_fd(), &SockaddrStorage::from(to));
        // The socket forgets its port when a connect fails, so it is asked while it pends.
        let local = local_end(&fd);
        let result = match first {
            Err(Errno::EINPROGRESS) => until_over(&fd, start, how.timeout_ms.map(Duration::from_millis)),
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
    Ok((result.is_ok().then(|| TcpStream::from(fd)), connected))
}

fn local_end(fd: &OwnedFd) -> Option<SocketAddr> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    name.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())))
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
        let server = listening("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let at = server.local_addr().unwrap();
        let (stream, connected) = connecting(at, &ConnectHow::default()).unwrap();
        assert_eq!(connected.result, "ok");
        assert_eq!(connected.local, Some(stream.unwrap().local_addr().unwrap()));
        drop(server);
        let (stream, connected) = connecting(at, &ConnectHow { blocking: true, ..ConnectHow::default() }).unwrap();
        assert!(stream.is_none());
        assert_eq!(connected.result, "ECONNREFUSED");
    }
}
