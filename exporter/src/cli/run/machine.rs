//! The facts of this machine that the tracker rests on, read once at the start.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use crate::capture::live::{Features, monotonic};
use crate::capture::observation::Mono;
use crate::track::Options;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h), from kernel 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// The inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// This machine.
pub struct Machine {
    /// The monotonic time.
    pub now: Mono,
    boot_id: u128,
    host_netns: u64,
    pid: Option<u32>,
}

impl Machine {
    /// Reads the facts; what cannot be read is left out, and what needs it does without.
    pub fn here() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // The kernel counts processes by the initial pid namespace: elsewhere our number is another's.
        let initial = fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL_PID_NAMESPACE);
        Self {
            now: monotonic(),
            boot_id: u128::from_str_radix(&boot_id.trim().replace('-', ""), 16).unwrap_or(0),
            host_netns: netns_cookie().unwrap_or(0),
            pid: initial.then(std::process::id),
        }
    }

    /// Adds the facts to the tracker's options; `features` is what capture says of itself.
    pub fn complete(&self, options: Options, features: &Features) -> Options {
        Options {
            boot_id: self.boot_id,
            host_netns: self.host_netns,
            quiet_pid: self.pid,
            errors_seen: features.error_tracepoint.is_present(),
            calls_watched: features.call_results.is_present(),
            hash_seed: rand::random(),
            ..options
        }
    }
}

/// The cookie of this network namespace; none below kernel 5.14.
fn netns_cookie() -> Option<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0")).ok()?;
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `cookie`, which has room for them.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut size)
    };
    (result == 0).then_some(cookie)
}
