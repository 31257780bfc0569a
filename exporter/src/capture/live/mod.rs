//! Live capture: the eBPF programs loaded and attached, interfaces followed, records decoded.
//!
//! One thread follows the interfaces ([`follow`](self)), one asks the kernel what no program sees
//! ([`ask`](self)), one sleeps until somebody wants to know what connect() returns, and one empties the
//! ring buffers and calls the [`Sink`] with what all of them found. All that is attached ends with the process, except filters at clsact (kernels below
//! 6.6), which the next start or [`clean::remove_leftovers`] takes away.

mod ask;
mod btf;
mod calls;
mod cgroup;
mod classify;
pub mod clean;
mod clsact;
mod decode;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod inbound;
mod layout;
mod names;
mod object;
mod options;
mod order;
mod reader;
mod tables;
mod watched;

use std::fmt;
use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use aya::programs::ProgramError;
use aya::{Ebpf, EbpfError};
use synspan_ebpf::record::counter;

use crate::capture::netlink::{Protocol, Socket, filters};
use crate::capture::probe::process::{Capability, Process};

pub use ask::Can;
pub use cgroup::find_mount as cgroup2_mount;
pub use decode::{DecodeError, Names, decode, decode_named};
pub use options::{AttachMode, InterfaceRules, Options};
pub use reader::{Sink, now as monotonic};

use ask::Asker;
use cgroup::Root;
use follow::Follower;
use inbound::Sums;
use object::{chain, whole_chain};
use reader::{Reader, Shared};

/// All our programs' names start so, by which leftovers are known.
pub const PROGRAM_PREFIX: &str = "synspan_";

/// Why capture cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No cgroup v2.
    #[error(
        "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or name a directory with capture.cgroup"
    )]
    NoCgroup2 {
        /// Set if the mounts could not be read.
        source: Option<io::Error>,
    },
    /// The cgroup cannot be opened.
    #[error("cannot open the cgroup {}: {source}", path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent watches the same cgroup.
    #[error("the cgroup {} is watched already, by {}: two agents there would count everything twice. Stop that one, or watch another cgroup with capture.cgroup",
        path.display(), holder.as_deref().unwrap_or("a process that cannot be seen from here"))]
    Held {
        /// Its directory.
        path: PathBuf,
        /// Name and pid of the other.
        holder: Option<String>,
    },
    /// The kernel does not take the programs.
    #[error("cannot load the eBPF programs ({needs}): {}", chain(source))]
    Load {
        /// The capabilities that are not held, or else what the kernel must be.
        needs: String,
        /// What the kernel said.
        source: Box<EbpfError>,
    },
    /// The kernel does not attach a program.
    #[error("cannot attach {program}: {source}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The object was built without something; a bug.
    #[error("the eBPF object has no {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// tcx was asked for and is not there.
    #[error("the kernel has no tcx (6.6 or later): leave capture.attach at auto, or say clsact")]
    NoTcx,
    /// A thread, a socket or a pipe could not be made.
    #[error("cannot start capture: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    fn load(source: EbpfError) -> Self {
        let lacking: Vec<_> =
            Process::gather().lacking(&Capability::NEEDED).into_iter().map(Capability::name).collect();
        let needs = match lacking.join(", ") {
            names if names.is_empty() => "kernel 5.10 or later, with BTF and cgroup BPF".to_owned(),
            names => format!("not held: {names}"),
        };
        tracing::debug!(error = whole_chain(&source), "the kernel refused");
        Self::Load { needs, source: Box::new(source) }
    }
}

/// Whether something optional is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feature {
    /// It is.
    Present,
    /// It is not, and why.
    Absent(String),
}

impl Feature {
    /// Whether it is there.
    pub fn is_present(&self) -> bool {
        *self == Self::Present
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("yes"),
            Self::Absent(why) => write!(f, "no: {why}"),
        }
    }
}

/// What capture found and made of it.
#[derive(Clone, Debug)]
pub struct Features {
    /// The cgroup whose sockets are watched.
    pub cgroup: PathBuf,
    /// How programs on interfaces are attached: never [`AttachMode::Auto`].
    pub attach: AttachMode,
    /// The errno that applications get.
    pub error_tracepoint: Feature,
    /// The network namespace of a socket's steps.
    pub netns_cookie: Feature,
    /// Segments of attempts that the kernel drops.
    pub drops: Feature,
    /// Why it drops them.
    pub drop_reasons: Feature,
    /// What connect() returns, while that is asked for.
    pub call_results: Feature,
    /// Filters of an earlier agent that were taken away, or why that failed.
    pub leftovers: Result<Vec<String>, String>,
    /// What can be asked of the kernel.
    pub can: Can,
}

/// A snapshot of what capture counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Records that found the ring buffer full.
    pub lost: u64,
    /// Records of attempts from outside that found their ring buffer full, or no room in their budget.
    pub lost_inbound: u64,
    /// Dropped segments beyond the budget for telling of them.
    pub drops_untold: u64,
    /// SYNs from outside that were summed and not told one by one.
    pub summed: u64,
    /// Those of them whose listener is not known, since too many had such.
    pub summed_unplaced: u64,
    /// Pending SYNs whose slot was taken by another before they were answered: a stale ACK to them is not seen.
    pub pending_overwritten: u64,
    /// Segments whose headers could not be read.
    pub unreadable: u64,
    /// Records that made no sense.
    pub undecodable: u64,
    /// Questions to the kernel that could not be put, since too many waited.
    pub unasked: u64,
    /// Sockets whose callback flags another program had overwritten.
    pub flags_reasserted: u64,
    /// Hooks attached now: a side of an interface each.
    pub attached_points: u64,
    /// Hooks that should be attached and could not be.
    pub blind_points: u64,
    /// Pods whose interface has such a hook.
    pub blind_pods: u64,
}

/// Reads [`Counters`], also after the [`Capture`] has been stopped.
#[derive(Clone)]
pub struct CounterReader(Arc<Shared>);

impl CounterReader {
    /// [`Counters::blind_points`] alone, without asking the kernel.
    pub fn blind_points(&self) -> u64 {
        self.0.blind.load(Ordering::Relaxed)
    }

    /// The counters now.
    pub fn read(&self) -> Counters {
        let shared = &self.0;
        Counters {
            lost: shared.counter(counter::LOST_RING),
            lost_inbound: shared.counter(counter::LOST_INBOUND),
            drops_untold: shared.counter(counter::DROPS_UNTOLD),
            summed: shared.counter(counter::SUMMED),
            summed_unplaced: shared.counter(counter::SUMMED_UNPLACED),
            pending_overwritten: shared.counter(counter::PENDING_OVERWRITTEN),
            unreadable: shared.counter(counter::UNREADABLE),
            undecodable: shared.undecodable.load(Ordering::Relaxed),
            unasked: shared.unasked.load(Ordering::Relaxed),
            flags_reasserted: shared.counter(counter::FLAGS_REASSERTED),
            attached_points: shared.attached.load(Ordering::Relaxed),
            blind_points: shared.blind.load(Ordering::Relaxed),
            blind_pods: shared.blind_pods.load(Ordering::Relaxed),
        }
    }
}

/// Capture that runs, until it is stopped or dropped.
pub struct Capture {
    ebpf: Option<Ebpf>,
    interfaces: Option<Running>,
    asker: Option<Running>,
    reader: Option<Running>,
    shared: Arc<Shared>,
    /// Held to the end, so that no other agent starts meanwhile.
    _root: Root,
}

/// A thread, and the pipe whose end it takes as the sign to stop.
struct Running {
    thread: JoinHandle<()>,
    stop: PipeWriter,
}

impl Running {
    /// Starts a thread; `run` gets the pipe to watch.
    fn start(name: &str, run: impl FnOnce(&io::PipeReader) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (watch, stop) = io::pipe()?;
        let thread_name = name.to_owned();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = run(&watch) {
                tracing::error!(%error, thread = thread_name, "capture's thread ended early; nothing more is seen");
            }
        })?;
        Ok(Self { thread, stop })
    }

    /// Lets the thread end, and waits for it.
    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("a thread of capture panicked");
        }
    }
}

impl Capture {
    /// Locks the cgroup, loads and attaches the programs, and starts to hand observations to `sink`, in
    /// a thread of its own. Interfaces are attached one after the other from then on, at the pace of
    /// [`Options::attach_per_second`]. Runs in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no cgroup2, another agent there, a kernel too old, missing capabilities.
    pub fn start(options: Options, sink: impl Sink + 'static) -> Result<(Self, Features), StartError> {
        Self::start_with(options, |_| sink)
    }

    /// As [`Capture::start`], for a sink that rests on what there is to see.
    ///
    /// # Errors
    ///
    /// Those of [`Capture::start`].
    pub fn start_with<S: Sink + 'static>(
        options: Options,
        sink: impl FnOnce(&Features) -> S,
    ) -> Result<(Self, Features), StartError> {
        let cgroup = match options.cgroup {
            Some(path) => path,
            None => cgroup::find_mount()?,
        };
        let root = Root::lock(&cgroup)?;
        let object = object::load(options.ring_bytes, &root)?;
        let attach = match (options.attach, hook::has_tcx(&object.ingress)) {
            (AttachMode::Clsact, _) | (AttachMode::Auto, false) => AttachMode::Clsact,
            (AttachMode::Tcx, false) => return Err(StartError::NoTcx),
            (AttachMode::Tcx | AttachMode::Auto, true) => AttachMode::Tcx,
        };
        let (asker, ends, can) = Asker::new(options.interfaces.clone(), object.numbers);
        let leftovers = clean::remove_leftovers(&cgroup).map_err(|e| e.to_string());
        let features = Features {
            cgroup,
            attach,
            error_tracepoint: object.error_tracepoint,
            netns_cookie: object.netns_cookie,
            drops: object.drops,
            drop_reasons: object.drop_reasons,
            call_results: object.call_results,
            leftovers,
            can,
        };
        let shared = Arc::new(Shared {
            map: object.counters,
            undecodable: AtomicU64::new(0),
            unasked: AtomicU64::new(0),
            attached: AtomicU64::new(0),
            blind: AtomicU64::new(0),
            blind_pods: AtomicU64::new(0),
            unhooked: AtomicU64::new(0),
            settled: AtomicBool::new(false),
        });
        // A link stays ours for good; a filter may be taken away by whoever may administer the network.
        let groups = match attach {
            AttachMode::Clsact => tables::GROUPS | filters::GROUP,
            AttachMode::Auto | AttachMode::Tcx => tables::GROUPS,
        };
        let (sender, changes) = mpsc::channel();
        let reader = Reader {
            own: object.ring,
            inbound: object.inbound,
            names: object.names,
            sums: Sums::new(object.sums),
            calls: object.calls,
            shared: shared.clone(),
            changes,
            ask: ends,
            exclude: options.exclude,
            sink: sink(&features),
            told: Default::default(),
            going: Default::default(),
            early: Default::default(),
        };
        let mut capture = Self {
            ebpf: Some(object.ebpf),
            interfaces: None,
            asker: None,
            reader: None,
            shared: shared.clone(),
            _root: root,
        };
        capture.reader = Some(Running::start("synspan-ring", move |stop| reader.run(stop).map(drop))?);
        capture.asker = Some(Running::start("synspan-ask", move |stop| asker.run(stop))?);
        let follower = Follower {
            mode: attach,
            rules: options.interfaces,
            pace: Duration::from_secs(1) / options.attach_per_second.max(1),
            ingress: object.ingress,
            egress: object.egress,
            kinds: object.kinds,
            shared,
            changes: sender,
            requests: Socket::open(Protocol::Route, 0)?,
            // Opened before the first listing, so that no change falls between the two.
            events: Socket::open(Protocol::Route, groups)?,
        };
        capture.interfaces = Some(Running::start("synspan-links", move |stop| follower.run(stop))?);
        Ok((capture, features))
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        self.counter_reader().read()
    }

    /// Whether every interface that is known has been attached, or found impossible to attach.
    pub fn is_settled(&self) -> bool {
        self.shared.settled.load(Ordering::Relaxed)
    }

    /// A handle that reads the counters from elsewhere.
    pub fn counter_reader(&self) -> CounterReader {
        CounterReader(self.shared.clone())
    }

    /// Detaches the interfaces, then the cgroup, hands over what is still in the ring, and waits for the
    /// threads to end. Takes up to five seconds on a node with many pods.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(interfaces) = self.interfaces.take() {
            interfaces.stop();
        }
        if let Some(asker) = self.asker.take() {
            asker.stop();
        }
        // Drops the links of the cgroup and the raw tracepoints.
        drop(self.ebpf.take());
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("counters", &self.counters()).finish_non_exhaustive()
    }
}
