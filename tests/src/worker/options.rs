//! Socket options that the system interface in use has no names for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::way::{ListenWay, Way};

/// A socket of Multipath TCP (RFC 8684).
pub fn mptcp_socket(v4: bool) -> io::Result<OwnedFd> {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call with no memory of ours.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a connect's way asks of its socket.
pub fn of_client(fd: &OwnedFd, way: &Way) -> io::Result<()> {
    let time = |ms: u32| TimeVal::milliseconds(ms.into());
    if let Some(ms) = way.send_timeout {
        setsockopt(fd, sockopt::SendTimeout, &time(ms))?;
    }
    if let Some(ms) = way.receive_timeout {
        setsockopt(fd, sockopt::ReceiveTimeout, &time(ms))?;
    }
    if let Some(ms) = way.user_timeout {
        setsockopt(fd, sockopt::TcpUserTimeout, &ms)?;
    }
    Ok(())
}

/// What a listener's way asks of its socket.
pub fn of_listener(fd: &OwnedFd, way: &ListenWay) -> io::Result<()> {
    if let Some(seconds) = way.defer {
        tcp_option(fd, libc::TCP_DEFER_ACCEPT, seconds)?;
    }
    if let Some(queue) = way.fast_open {
        tcp_option(fd, libc::TCP_FASTOPEN, queue)?;
    }
    Ok(())
}

fn tcp_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a live local.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, option, std::ptr::from_ref(&value).cast(), length)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
