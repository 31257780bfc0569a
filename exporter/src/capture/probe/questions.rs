//! What the kernel answers when it is asked: connection tracking, sockets, other network namespaces,
//! sequence numbers, the names of its functions. Found by harmless asking.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use super::bpf::{self, returns};
use super::kernel::in_initial_pid_namespace;
use super::programs::{Refusal, Tried};
use crate::capture::netlink::{Protocol, Socket, conntrack, sock_diag};
use crate::capture::tuple::Tuple;

/// Where tools and container runtimes keep network namespaces by name.
pub const NAMED_NAMESPACES: [&str; 2] = ["/run/netns", "/var/run/docker/netns"];

/// As many symbols are looked at.
const SYMBOLS: usize = 20_000;

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Questions {
    /// Connection tracking over netlink.
    pub conntrack: Tried,
    /// Sockets over netlink.
    pub sock_diag: Tried,
    /// Other network namespaces than this process's.
    pub namespaces: Tried,
    /// The sequence numbers of open connections: a program run by hand.
    pub numbers: Tried,
    /// The kernel's symbols with their addresses.
    pub symbols: Tried,
}

impl Questions {
    /// Asks.
    pub fn gather() -> Self {
        let tried = |result: io::Result<()>| result.map_err(Refusal::from);
        Self {
            conntrack: tried(ask_conntrack()),
            sock_diag: tried(ask_sock_diag()),
            namespaces: tried(other_namespaces()),
            numbers: tried(run_by_hand()),
            symbols: tried(symbols()),
        }
    }
}

/// Whether connections are tracked here. Where they are not, asking would make the kernel load a module for it.
///
/// # Errors
///
/// In words, if they are not.
pub fn tracks_connections() -> io::Result<()> {
    match Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        true => Ok(()),
        false => Err(io::Error::other("connections are not tracked here")),
    }
}

fn ask_conntrack() -> io::Result<()> {
    tracks_connections()?;
    let mut socket = Socket::open(Protocol::Netfilter, 0)?;
    socket.dump(conntrack::GET_STATS_CPU, &conntrack::plain(), |(): &mut (), _| ())
}

fn ask_sock_diag() -> io::Result<()> {
    let mut socket = Socket::open(Protocol::SockDiag, 0)?;
    match socket.ask(sock_diag::BY_FAMILY, &sock_diag::one(Tuple::default()), &mut |_, _| ()) {
        // There is no such connection, of course.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Whether the calling thread may enter other network namespaces, tried with its own, and whether those of
/// other processes are in sight.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`, or in words what hides them.
pub fn other_namespaces() -> io::Result<()> {
    // The kernel's error number stays, by which a missing privilege is told from a missing feature.
    setns(File::open("/proc/thread-self/ns/net")?, CloneFlags::CLONE_NEWNET)?;
    if in_initial_pid_namespace() || NAMED_NAMESPACES.iter().any(|dir| Path::new(dir).is_dir()) {
        return Ok(());
    }
    Err(io::Error::other("they are not in sight from this pid namespace"))
}

fn run_by_hand() -> io::Result<()> {
    let program = bpf::load_returning(bpf::PROG_SCHED_CLS, 0, "synspan_try", returns::NEXT)?;
    bpf::run_by_hand(program.as_fd(), &[0; 64], &mut [0; 64])
}

/// Whether the kernel's symbols show their addresses.
///
/// # Errors
/// `EPERM` where they are hidden (`CAP_SYSLOG`, `kernel.kptr_restrict`).
pub fn symbols() -> io::Result<()> {
    // For whoever may not see them all addresses are 0; those of per-CPU symbols, which come first, may be so
    // for everybody.
    let shown = |line: String| line.split(' ').next().is_some_and(|address| address.bytes().any(|b| b != b'0'));
    let lines = BufReader::new(File::open("/proc/kallsyms")?).lines().map_while(Result::ok);
    if lines.take(SYMBOLS).any(shown) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}
