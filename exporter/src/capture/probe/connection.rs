//! A connection made only to be seen: a child in a cgroup of its own connects to a listener on
//! loopback, and what capture handed over is searched for it.
//!
//! An attach that succeeds proves nothing: in a container's own cgroup namespace it sees none of the
//! machine's other processes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::cgroup::Cgroup;
use super::leftovers::DOCTOR_CGROUP_PREFIX;
use crate::capture::observation::{Observation, Step, What};
use crate::capture::tuple::{Endpoint, Tuple};

/// How long the child may take, and how long its observations.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running capture, as far as this proof needs it.
pub trait Watch {
    /// What arrived since the last call, waiting at most `patience` for the first.
    ///
    /// # Errors
    /// Why capture stopped, in words for people.
    fn collect(&mut self, patience: Duration) -> Result<Vec<Observation>, String>;
}

/// A connection that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// From the child's socket to the listener.
    pub tuple: Tuple,
    /// The id of the cgroup it was made from; none if it was the caller's own.
    pub cgroup: Option<u64>,
    /// Why it was made from the caller's own cgroup, if so.
    pub own_cgroup: Option<String>,
}

/// What was seen of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The call of connect(), from the right cgroup.
    pub process: bool,
    /// The socket's first SYN.
    pub connect: bool,
    /// The socket's establishment.
    pub established: bool,
}

impl Seen {
    /// Whether all of it was.
    pub fn whole(self) -> bool {
        self.process && self.connect && self.established
    }

    /// Adds what these observations show of that connection.
    pub fn add(&mut self, observations: &[Observation], made: &Made) {
        for observation in observations {
            match &observation.what {
                What::Process(step) if step.asked == made.tuple.dst => {
                    self.process |= made.cgroup.is_none_or(|cgroup| cgroup == step.process.cgroup);
                }
                What::Socket(step) if step.tuple == made.tuple => match step.step {
                    Step::Connect => self.connect = true,
                    Step::ActiveEstablished => self.established = true,
                    _ => {}
                },
                // The kernel may not have chosen the source port when the step was recorded.
                What::Socket(step) if step.tuple.dst == made.tuple.dst && step.step == Step::Connect => {
                    self.connect = true;
                }
                _ => {}
            }
        }
    }

    fn missing(self) -> String {
        [
            (self.process, "the call of connect()"),
            (self.connect, "the first SYN"),
            (self.established, "the establishment"),
        ]
        .iter()
        .filter_map(|&(seen, what)| (!seen).then_some(what))
        .collect::<Vec<_>>()
        .join(", ")
    }
}

/// Proves capture: starts it, connects, and waits until the connection was seen.
///
/// # Errors
/// In words for people: what failed, or what was not seen.
pub fn prove(cgroup: &Cgroup, start: impl FnOnce() -> Result<Box<dyn Watch>, String>) -> Result<String, String> {
    let Some(root) = &cgroup.root else { return Err("no cgroup2 is mounted here".into()) };
    if let Some(error) = &cgroup.error {
        return Err(error.clone());
    }
    if !cgroup.given && !cgroup.is_host_root {
        return Err(format!(
            "programs would attach to {}, which is not the machine's cgroup root but that of this cgroup namespace: \
             they would see this container's own processes and nobody else's",
            root.display()
        ));
    }
    let mut watch = start()?;
    let made = make(root)?;
    let mut seen = Seen::default();
    let end = Instant::now() + PATIENCE;
    while !seen.whole() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!(
                "programs attached, but of a connection made for this test ({}) they did not see: {}",
                made.tuple,
                seen.missing()
            ));
        }
        seen.add(&watch.collect(left)?, &made);
    }
    let from = match &made.own_cgroup {
        None => "from a cgroup of its own".to_owned(),
        Some(why) => format!("from doctor's own cgroup ({why})"),
    };
    Ok(format!("a connection made {from} was seen: {}", made.tuple))
}

/// Makes the connection below this cgroup. The child and the cgroup are gone when this returns.
///
/// # Errors
/// In words for people.
pub fn make(root: &Path) -> Result<Made, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| format!("cannot listen on 127.0.0.1: {error}; is the interface lo up here?"))?;
    let server = listener.local_addr().map_err(|error| format!("cannot tell the listener's port: {error}"))?;
    let cgroup = match OwnCgroup::create(root) {
        Ok(cgroup) => Ok(cgroup),
        // A read-only mount takes programs all the same; the test is then a little weaker.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM)) => {
            Err(format!("no other could be made below {}: {error}", root.display()))
        }
        Err(error) => return Err(format!("cannot make a cgroup below {}: {error}", root.display())),
    };
    let join = match &cgroup {
        Ok(cgroup) => {
            Some(cgroup.processes().map_err(|error| format!("cannot join {}: {error}", cgroup.path.display()))?)
        }
        Err(_) => None,
    };
    let (report, reporting) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| format!("cannot make a pipe: {error}"))?;
    let plan = Plan {
        join: join.as_ref().map(AsRawFd::as_raw_fd),
        server: libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: server.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
            sin_zero: [0; 8],
        },
        report: reporting.as_raw_fd(),
    };
    // SAFETY: the child calls nothing but async-signal-safe functions, allocates nothing, and ends by
    // _exit; see Plan::carry_out.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Child) => plan.carry_out(),
        Ok(ForkResult::Parent { child }) => Child(child),
        Err(error) => return Err(format!("cannot fork: {error}")),
    };
    drop(reporting);
    let port = read_report(&report)?;
    drop(child);
    let id = cgroup.as_ref().ok().map(|cgroup| cgroup.id);
    Ok(Made {
        tuple: Tuple::new(Endpoint::new(Ipv4Addr::LOCALHOST, port), Endpoint::from(server)),
        cgroup: id,
        own_cgroup: cgroup.err(),
    })
}

/// The child's steps; its report is the failed step and errno, or 0 and the port.
const STEPS: [&str; 5] = ["", "joining the cgroup", "making a socket", "connecting to 127.0.0.1", "asking the port"];

fn read_report(report: &OwnedFd) -> Result<u16, String> {
    let mut wait = [PollFd::new(std::os::fd::AsFd::as_fd(report), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut wait, limit) {
        Ok(0) => return Err("the test connection did not come up within five seconds; is lo filtered here?".into()),
        Ok(_) => {}
        Err(error) => return Err(format!("cannot wait for the test connection: {error}")),
    }
    let mut bytes = [0u8; 8];
    let length =
        nix::unistd::read(report, &mut bytes).map_err(|error| format!("cannot read the child's report: {error}"))?;
    if length != bytes.len() {
        return Err("the child that should connect was killed".into());
    }
    let [a, b, c, d, e, f, g, h] = bytes;
    let (step, value) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
    match usize::try_from(step).ok().filter(|&step| step > 0) {
        None => u16::try_from(value).map_err(|_| "the child reported no port".into()),
        Some(step) => {
            let step = STEPS.get(step).copied().unwrap_or("connecting");
            Err(format!("the test connection failed at {step}: {}", io::Error::from_raw_os_error(value)))
        }
    }
}

/// What the child does; made before the fork, so that the child need not allocate.
struct Plan {
    join: Option<RawFd>,
    server: libc::sockaddr_in,
    report: RawFd,
}

impl Plan {
    /// Runs in the child, between fork and _exit: async-signal-safe calls alone (signal-safety(7)).
    fn carry_out(&self) -> ! {
        // SAFETY: every pointer is to a live local of the length given; the descriptors are the
        // parent's, inherited. Nothing here allocates, locks or unwinds.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::alarm(10);
            let (step, value) = self.connect();
            let report = [step, value];
            libc::write(self.report, report.as_ptr().cast(), size_of_val(&report));
            // Closing the socket is the kernel's, at the end of the process.
            libc::_exit(0)
        }
    }

    /// # Safety
    /// To be called between fork and _exit.
    unsafe fn connect(&self) -> (i32, i32) {
        // SAFETY: as in carry_out.
        unsafe {
            let errno = || *libc::__errno_location();
            // A zero stands for the process that writes it (cgroups(7)).
            if let Some(join) = self.join
                && libc::write(join, c"0".as_ptr().cast(), 1) < 0
            {
                return (1, errno());
            }
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            if socket < 0 {
                return (2, errno());
            }
            let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            if libc::connect(socket, (&raw const self.server).cast(), length) < 0 {
                return (3, errno());
            }
            let mut own = self.server;
            let mut own_length = length;
            if libc::getsockname(socket, (&raw mut own).cast(), &raw mut own_length) < 0 {
                return (4, errno());
            }
            (0, i32::from(u16::from_be(own.sin_port)))
        }
    }
}

/// The child; ended and reaped when dropped.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        // It has ended already, or hangs in connect().
        let _ = kill(self.0, Signal::SIGKILL);
        while waitpid(self.0, None) == Err(nix::errno::Errno::EINTR) {}
    }
}

/// A cgroup for one child; removed when dropped.
struct OwnCgroup {
    path: PathBuf,
    id: u64,
}

impl OwnCgroup {
    fn create(root: &Path) -> io::Result<Self> {
        let path = root.join(format!("{DOCTOR_CGROUP_PREFIX}{}", std::process::id()));
        // An earlier doctor with our process id may have been killed.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path)?;
        let mut cgroup = Self { path, id: 0 };
        cgroup.id = fs::metadata(&cgroup.path)?.ino();
        Ok(cgroup)
    }

    fn processes(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::observation::{Mono, Process, ProcessStep, SocketNumbers, SocketStep};

    fn made() -> Made {
        let at = |port| Endpoint::new(Ipv4Addr::LOCALHOST, port);
        Made { tuple: Tuple::new(at(40_000), at(50_000)), cgroup: Some(77), own_cgroup: None }
    }

    fn process(cgroup: u64, made: &Made) -> Observation {
        let process = Process { cgroup, pid: 1, tid: 1, comm: [0; 16] };
        Observation {
            time: Mono(1),
            what: What::Process(ProcessStep { cookie: 5, netns: 1, process, asked: made.tuple.dst, bound_port: 0 }),
        }
    }

    fn socket(step: Step, tuple: Tuple) -> Observation {
        let numbers = SocketNumbers::default();
        Observation { time: Mono(2), what: What::Socket(SocketStep { cookie: 5, netns: 1, tuple, step, numbers }) }
    }

    #[test]
    fn a_connection_is_seen_whole_only_by_all_three_steps() {
        let made = made();
        let mut seen = Seen::default();
        seen.add(&[process(77, &made), socket(Step::Connect, made.tuple)], &made);
        assert!(!seen.whole());
        assert_eq!(seen.missing(), "the establishment");
        seen.add(&[socket(Step::ActiveEstablished, made.tuple)], &made);
        assert!(seen.whole());
    }

    #[test]
    fn other_cgroups_and_other_tuples_do_not_count() {
        let made = made();
        let mut seen = Seen::default();
        let other = Tuple::new(made.tuple.src, Endpoint::new(Ipv4Addr::LOCALHOST, 50_001));
        seen.add(&[process(78, &made), socket(Step::ActiveEstablished, other), socket(Step::Connect, other)], &made);
        assert_eq!(seen, Seen::default());
    }

    #[test]
    fn a_private_cgroup_namespace_fails_before_anything_is_attached() {
        let root = std::env::temp_dir();
        let cgroup = Cgroup { root: Some(root), private_namespace: true, ..Cgroup::default() };
        let error = prove(&cgroup, || Err("started".into())).expect_err("no proof");
        assert!(error.contains("this container's own processes and nobody else's"), "{error}");
    }
}
