//! connect() by io_uring: the same work of the kernel, without the system call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

const CONNECT: u64 = 1;

/// Connects and waits for the outcome; `Err(None)` is the application's own timeout.
pub fn connect(fd: &OwnedFd, to: SocketAddr, patience: Option<Duration>) -> io::Result<Result<(), Option<Errno>>> {
    let mut ring = IoUring::new(4)?;
    let address = SockaddrStorage::from(to);
    let entry = opcode::Connect::new(Fd(fd.as_raw_fd()), address.as_ptr(), address.len()).build().user_data(CONNECT);
    // SAFETY: the address lives until the ring has given the request's outcome, or is gone: both are below.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    if let Some(result) = outcome(&mut ring, patience)? {
        return Ok(result.map_err(Some));
    }
    let cancel = opcode::AsyncCancel::new(CONNECT).build();
    // SAFETY: a cancellation has no memory of its own.
    unsafe { ring.submission().push(&cancel) }.map_err(io::Error::other)?;
    // It may have come up at the last moment.
    Ok(match outcome(&mut ring, None)? {
        Some(Ok(())) => Ok(()),
        _ => Err(None),
    })
}

/// What came of the connect; none if nothing did in time.
fn outcome(ring: &mut IoUring, patience: Option<Duration>) -> io::Result<Option<Result<(), Errno>>> {
    loop {
        let waited = match patience {
            None => ring.submit_and_wait(1),
            Some(patience) => {
                let time = Timespec::from(patience);
                ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {}
        }
        for done in ring.completion() {
            if done.user_data() == CONNECT {
                let errno = Errno::from_raw(-done.result());
                return Ok(Some(if done.result() == 0 { Ok(()) } else { Err(errno) }));
            }
        }
    }
}
